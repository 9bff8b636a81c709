//! Watch messages. A stream has a number. The first creation with that number opens it, again after a close.

use super::Kv;

/// `WatchCreateRequest`, with flags for the two filters.
///
/// `capacity` is not on the wire: the largest number of queued responses with events of the watcher (0 means
/// [`WatchCreate::DEFAULT_CAPACITY`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreate {
    pub stream: u32,
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub start_revision: i64,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
    pub watch_id: i64,
    pub progress_notify: bool,
    pub fragment: bool,
    pub capacity: usize,
}

impl WatchCreate {
    pub const DEFAULT_CAPACITY: usize = 128;
}

/// `WatchResponse`. `revision` is the header's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchResponse {
    pub revision: i64,
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub cancel_reason: String,
    pub fragment: bool,
    pub events: Vec<WatchEvent>,
}

/// `mvccpb.Event`: a change, and the previous pair if the watcher requested it and it exists.
///
/// `prev_kv_compacted` is not on the wire: whether the state before the change is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    pub delete: bool,
    pub kv: Kv,
    pub prev_kv: Option<Kv>,
    pub prev_kv_compacted: bool,
}
