//! Compaction, alarms, and the numbers that describe an engine.

use super::Engine;
use super::lease::LEASE_BYTES;
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, HashKvResponse, KeyValue, Revision, Status,
    Timestamp,
};
use crate::{Error, Result};

impl Engine {
    /// etcd's hash of what is held up to a revision; 0 and below mean the current one (R-MNT-1, R-MNT-2).
    ///
    /// # Errors
    ///
    /// [`FutureRevision`](crate::Error::FutureRevision), and [`Compacted`](crate::Error::Compacted) for the compacted
    /// revision and those before it, if it is asked for by its number.
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKvResponse> {
        let (hash, hash_revision) = self.keys.hash_kv(revision)?;
        let compact_revision = self.keys.compacted();
        Ok(HashKvResponse { header: self.header(), hash, compact_revision, hash_revision })
    }

    /// Returns the labels of watches, each with the start of the watched range, in no particular order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.hub.labels()
    }

    /// What is held.
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

    /// What of it the quota counts.
    pub(super) fn bytes_held_for_quota(&self) -> u64 {
        self.keys.bytes_for_quota() + self.lessor.len() as u64 * LEASE_BYTES
    }

    /// Makes the history before `revision` unreadable (R-CMP-1 to R-CMP-6): at once, while its memory is given back
    /// a piece with each later command. A command that deletes thousands of keys makes more to reclaim than one gives back:
    /// where such are frequent and no [`Store`](crate::Store) with a timer does it, call [`reclaim`](Self::reclaim) while
    /// [`is_reclaiming`](Self::is_reclaiming).
    ///
    /// # Errors
    ///
    /// In this order: [`RequestTooLarge`](Error::RequestTooLarge), [`Corrupt`](Error::Corrupt),
    /// [`Compacted`](Error::Compacted), [`FutureRevision`](Error::FutureRevision).
    pub fn compact(&mut self, compact: &Compact) -> Result<CompactResponse> {
        self.check_size(compact.encoded_len())?;
        self.alarms.check(|| true, || false)?;
        self.keys.compact(compact.revision)?;
        self.reclaim_some();
        Ok(CompactResponse { header: self.header() })
    }

    /// Lists, raises or ends alarms (R-MNT-7, R-MNT-8).
    pub fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let alarms = self.alarms.request(request);
        self.reclaim_some();
        AlarmResponse { header: self.header(), alarms }
    }

    /// Does a bounded piece of reclaiming what a compaction made unreadable, and gives the number of versions reclaimed:
    /// 256 at the most, and 0 where the piece had none. Each command that succeeds does the same, so calling it while
    /// [`is_reclaiming`](Self::is_reclaiming) is for those who want the memory back sooner.
    pub fn reclaim(&mut self) -> usize {
        self.garbage.clear();
        self.keys.reclaim(&mut self.garbage)
    }

    /// Whether a compaction may have left something to reclaim.
    #[must_use]
    pub fn is_reclaiming(&self) -> bool {
        self.keys.reclaiming
    }

    /// The records that the last call reclaimed, to be dropped where that disturbs nobody: outside of a lock. What is
    /// not taken is dropped by the next call that reclaims.
    #[must_use]
    pub fn take_garbage(&mut self) -> Vec<KeyValue> {
        std::mem::take(&mut self.garbage)
    }

    /// Does the part of a compaction's reclaiming that falls to each command.
    pub(super) fn reclaim_some(&mut self) {
        if self.keys.reclaiming {
            self.reclaim();
        }
    }

    /// Returns the next deadline of the compactor. A command may change it.
    pub(super) fn next_auto_compaction(&self) -> Option<Timestamp> {
        let compactor = self.auto_compactor.as_ref()?;
        compactor.next_compaction(self.keys.current()).filter(|_| !self.is_corrupt())
    }

    /// Does what is due at a tick of the compactor.
    pub(super) fn auto_compact(&mut self) {
        let (now, current, is_corrupt) = (self.now, self.keys.current(), self.is_corrupt());
        let Some(compactor) = &mut self.auto_compactor else {
            return;
        };
        if let Some(revision) = compactor.due(current, now).filter(|_| !is_corrupt)
            && !matches!(self.keys.compact(revision), Err(Error::FutureRevision { .. }))
        {
            compactor.compacted(revision, now);
        }
        compactor.sample_until(current, now);
    }

    /// Takes the samples of the compactor's ticks up to `until`. None of these ticks compacts.
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
