//! Counts of what the tables hold, for tests and monitoring.

use super::Engine;

/// Counts of an engine's internal objects and of the table slots allocated for them.
///
/// A count that grows while the load stays the same is a leak. The names and the meaning of the counts follow the
/// implementation and may change in any release.
///
/// ```
/// use leasehold::{Store, Watch};
///
/// let store = Store::new();
/// let watcher = store.watch(Watch::prefix("jobs/"))?;
/// assert_eq!(store.diagnostics()?.watchers, 1);
/// drop(watcher);
/// assert_eq!(store.diagnostics()?.watchers, 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostics {
    /// Open watch streams.
    pub streams: usize,
    /// Watchers of all streams, including those that a compaction ended and that were not cancelled yet.
    pub watchers: usize,
    /// Ranges that synced watchers share.
    pub topics: usize,
    /// Streams with a pending timer.
    pub timers: usize,
    /// Streams with a pending progress tick.
    pub progress_ticks: usize,
    /// Deliveries in the queues of all streams.
    pub queued_deliveries: usize,
    /// Entries in the list of streams to wake, including entries of streams that were received from since.
    pub wake_ups: usize,
    /// Ranges whose keys are indexed by create revision.
    pub create_orders: usize,
    /// Keys in all indexes by create revision.
    pub create_order_keys: usize,
    /// Slots allocated for streams.
    pub stream_slots: usize,
    /// Slots allocated for watchers.
    pub watcher_slots: usize,
    /// Slots allocated for topics.
    pub topic_slots: usize,
    /// Slots allocated for keys.
    pub key_slots: usize,
    /// Slots allocated for leases.
    pub lease_slots: usize,
    /// Slots allocated for the inboxes of streams; 0 in an engine without a store.
    pub inbox_slots: usize,
    /// Places allocated in growing lists: queues of streams, members of topics, keys of leases, and lists of streams and
    /// watchers that are reused by each command.
    pub list_slots: usize,
    /// The longest probe sequence in the hash indexes of keys, leases and topics: 1 if no two entries collide.
    pub longest_probe: usize,
}

impl Engine {
    /// Returns counts of internal objects, for tests and monitoring. Visits all tables.
    pub fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        self.keys.diagnose(&mut diagnostics);
        self.lessor.diagnose(&mut diagnostics);
        self.hub.diagnose(&mut diagnostics);
        diagnostics
    }
}
