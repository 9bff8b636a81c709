//! Compaction, reclaiming and alarms of an engine, and the hash and the counts that describe its state.

use super::Engine;
use super::lease::LEASE_BYTES;
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, HashKvResponse, KeyValue, Revision, Status,
    Timestamp,
};
use crate::{Error, Result};

impl Engine {
    /// Returns etcd's hash of the retained records up to a revision (R-MNT-1, R-MNT-2). A revision of 0 or below means
    /// the current revision.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Put, Revision};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let mut other = engine.clone();
    /// engine.put(&Put::new("mode", "blue"))?;
    /// other.put(&Put::new("mode", "blue"))?;
    /// let current = Revision::new(0);
    /// assert_eq!(engine.hash_kv(current)?.hash(), other.hash_kv(current)?.hash());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`FutureRevision`](crate::Error::FutureRevision) if the revision is above the current one.
    /// - [`Compacted`](crate::Error::Compacted) if the revision is positive and at or below the compacted one.
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKvResponse> {
        let (hash, hash_revision) = self.keys.hash_kv(revision)?;
        let compact_revision = self.keys.compacted();
        Ok(HashKvResponse { header: self.header(), hash, compact_revision, hash_revision })
    }

    /// Returns the labels of watches, each with the start of the watched range, in no particular order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.hub.labels()
    }

    /// Returns the engine's revisions, and the numbers of its keys, versions, leases and bytes.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Put;
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("mode", "blue"))?;
    /// engine.put(&Put::new("mode", "green"))?;
    /// assert_eq!((engine.status().keys(), engine.status().versions()), (1, 2));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn status(&self) -> Status {
        Status {
            header: self.header(),
            compact_revision: self.keys.compacted(),
            keys: self.keys.live_keys(),
            versions: self.keys.versions(),
            leases: self.lessor.len() as u64,
            bytes_held: self.bytes_held(),
        }
    }

    fn bytes_held(&self) -> u64 {
        self.keys.bytes_held() + self.lessor.len() as u64 * LEASE_BYTES
    }

    /// Returns the number of bytes that count for the quota. Tombstones do not count.
    pub(super) fn bytes_held_for_quota(&self) -> u64 {
        self.keys.bytes_for_quota() + self.lessor.len() as u64 * LEASE_BYTES
    }

    /// Compacts the history before a revision (R-CMP-1 to R-CMP-6).
    ///
    /// After this command, reads below the revision fail. This command frees a bounded part of the compacted memory,
    /// and each later command that succeeds frees another part. One command frees less than a command that deletes
    /// thousands of keys leaves to reclaim. If an engine without a [`Store`](crate::Store) often runs commands that
    /// delete thousands of keys, call [`reclaim`](Self::reclaim) while [`is_reclaiming`](Self::is_reclaiming) returns
    /// true.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Compact, Error, Get, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let blue = engine.put(&Put::new("mode", "blue"))?.header().revision();
    /// let green = engine.put(&Put::new("mode", "green"))?.header().revision();
    /// engine.compact(&Compact::new(green))?;
    /// assert!(matches!(engine.get(&Get::key("mode").at(blue)), Err(Error::Compacted { .. })));
    /// assert_eq!(engine.get(&Get::key("mode").at(green))?.count(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`RequestTooLarge`](Error::RequestTooLarge) if the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits).
    /// - [`Corrupt`](Error::Corrupt) if the CORRUPT alarm is active.
    /// - [`Compacted`](Error::Compacted) if the revision is at or below the compacted one.
    /// - [`FutureRevision`](Error::FutureRevision) if the revision is above the current one.
    pub fn compact(&mut self, compact: &Compact) -> Result<CompactResponse> {
        self.check_size(compact.encoded_len())?;
        self.alarms.check(|| true, || false)?;
        self.keys.compact(compact.revision)?;
        self.reclaim_some();
        Ok(CompactResponse { header: self.header() })
    }

    /// Lists, activates or deactivates alarms (R-MNT-7, R-MNT-8).
    ///
    /// ```
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let raise = AlarmRequest { action: AlarmAction::Activate, member_id: 1, alarm: AlarmType::NoSpace };
    /// assert_eq!(engine.alarm(&raise).alarms().len(), 1);
    /// assert_eq!(engine.put(&("mode", "blue").into()), Err(leasehold::Error::NoSpace));
    /// ```
    pub fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let alarms = self.alarms.request(request);
        self.reclaim_some();
        AlarmResponse { header: self.header(), alarms }
    }

    /// Reclaims at most 256 compacted versions, and returns how many. The number may be 0 while more versions remain.
    ///
    /// Each command that succeeds also reclaims at most 256 versions. Call this method while
    /// [`is_reclaiming`](Self::is_reclaiming) returns true to free the memory sooner.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Compact, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// for _ in 0..1000 {
    ///     engine.put(&Put::new("mode", "blue"))?;
    /// }
    /// engine.compact(&Compact::new(engine.status().header().revision()))?;
    /// while engine.is_reclaiming() {
    ///     engine.reclaim();
    /// }
    /// assert_eq!(engine.status().versions(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn reclaim(&mut self) -> usize {
        self.garbage.clear();
        self.keys.reclaim(&mut self.garbage)
    }

    /// Returns whether a compaction may have left versions to reclaim.
    #[must_use]
    pub fn is_reclaiming(&self) -> bool {
        self.keys.reclaiming
    }

    /// Returns the records that the last call of [`reclaim`](Self::reclaim), by the caller or by a command, removed.
    /// The caller can drop these records outside of a lock. The next call of `reclaim` drops all records that were not
    /// taken.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Compact, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("mode", "blue"))?;
    /// let green = engine.put(&Put::new("mode", "green"))?.header().revision();
    /// engine.compact(&Compact::new(green))?;
    /// assert!(!engine.take_garbage().is_empty());
    /// assert!(engine.take_garbage().is_empty());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn take_garbage(&mut self) -> Vec<KeyValue> {
        std::mem::take(&mut self.garbage)
    }

    /// Reclaims up to 256 versions if a compaction may have left versions to reclaim. Commands that succeed call this
    /// function before they return.
    pub(super) fn reclaim_some(&mut self) {
        if self.keys.reclaiming {
            self.reclaim();
        }
    }

    /// Returns the time of the next automatic compaction, which later commands may change. Returns `None` if the engine
    /// does not compact automatically, while the CORRUPT alarm blocks compaction, and while no compaction is due unless
    /// the revision changes.
    pub(super) fn next_auto_compaction(&self) -> Option<Timestamp> {
        let compactor = self.auto_compactor.as_ref()?;
        compactor.next_compaction(self.keys.current()).filter(|_| !self.is_corrupt())
    }

    /// Runs a tick of the compactor: compacts if a compaction is due, then samples the revision.
    pub(super) fn auto_compact(&mut self) {
        let (now, current, is_corrupt) = (self.now, self.keys.current(), self.is_corrupt());
        let Some(compactor) = &mut self.auto_compactor else {
            return;
        };
        if let Some(revision) = compactor.due(current, now).filter(|_| !is_corrupt)
            // If a manual compaction has passed the revision, the `Compacted` error counts as success (R-CMP-7,
            // R-CMP-8).
            && !matches!(self.keys.compact(revision), Err(Error::FutureRevision { .. }))
        {
            compactor.compacted(revision, now);
        }
        // Sample last: a compaction at this tick uses the oldest sample from before the tick.
        compactor.sample_until(current, now);
    }

    /// Samples the revision at the compactor's ticks up to `until`. The caller ensures that no compaction is due at
    /// these ticks.
    pub(super) fn pass_idle_ticks(&mut self, until: Timestamp) {
        let current = self.keys.current();
        if let Some(compactor) = &mut self.auto_compactor {
            compactor.sample_until(current, until);
        }
    }

    /// Returns whether the CORRUPT alarm is active, which blocks compaction (R-MNT-8).
    fn is_corrupt(&self) -> bool {
        self.alarms.check(|| true, || false).is_err()
    }

    /// Returns counts of internal objects, for tests and monitoring. Visits all tables.
    pub fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        self.keys.diagnose(&mut diagnostics);
        self.lessor.diagnose(&mut diagnostics);
        self.hub.diagnose(&mut diagnostics);
        diagnostics
    }
}

/// Counts of an engine's internal objects and of the table slots allocated for them.
///
/// A count that keeps growing while the load stays the same indicates a leak. The names and the meaning of the counts
/// follow the implementation and may change in any release.
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
    /// The number of open watch streams.
    pub streams: usize,
    /// The number of watchers of all streams, including watchers that a compaction ended and that were not cancelled
    /// yet.
    pub watchers: usize,
    /// The number of distinct ranges that synced watchers watch.
    pub topics: usize,
    /// The number of streams with a pending timer.
    pub timers: usize,
    /// The number of streams with a pending progress tick.
    pub progress_ticks: usize,
    /// The number of deliveries in the queues of all streams.
    pub queued_deliveries: usize,
    /// The number of entries in the list of ready streams, including entries of streams that were received from or
    /// closed since they became ready.
    pub wake_ups: usize,
    /// The number of ranges whose keys are indexed by create revision.
    pub create_orders: usize,
    /// The number of keys in all indexes by create revision.
    pub create_order_keys: usize,
    /// The number of slots allocated for streams.
    pub stream_slots: usize,
    /// The number of slots allocated for watchers.
    pub watcher_slots: usize,
    /// The number of slots allocated for the ranges that synced watchers watch.
    pub topic_slots: usize,
    /// The number of slots allocated for keys.
    pub key_slots: usize,
    /// The number of slots allocated for leases.
    pub lease_slots: usize,
    /// The number of slots allocated for the inboxes of streams, which is 0 in an engine without a store.
    pub inbox_slots: usize,
    /// The number of places allocated in growing lists: the queues of streams, the watchers of each range, the keys of
    /// leases, and the lists of streams and watchers that each command reuses.
    pub list_slots: usize,
    /// The number of places that the longest lookup of an entry visits in the hash indexes of keys, leases and watched
    /// keys. The number is 0 without entries, and 1 if no two entries collide.
    pub longest_probe: usize,
}
