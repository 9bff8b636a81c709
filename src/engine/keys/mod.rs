//! Keys with their versions, and the history of changes.

pub(super) mod compaction;
pub(super) mod create_order;
pub(super) mod hash_kv;
pub(super) mod history;
pub(super) mod key_index;
pub(super) mod key_space;
pub(super) mod range;
