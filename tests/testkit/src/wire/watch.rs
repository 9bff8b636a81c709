//! Watches. A stream is named by a number: it comes to be by the first create that names it, and anew after a close.

use super::Kv;

/// `WatchCreateRequest`. The two filters are flags, and `capacity` is beside the wire: how many responses with events wait
/// for the watcher at most (0: the default, [`WatchCreate::DEFAULT_CAPACITY`]).
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

/// `WatchResponse`. `revision` is that of the header.
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

/// `mvccpb.Event`: a change, and the pair before it if the watcher asked for it and it exists. `prev_kv_compacted` is beside
/// the wire: whether the state before is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    pub delete: bool,
    pub kv: Kv,
    pub prev_kv: Option<Kv>,
    pub prev_kv_compacted: bool,
}
