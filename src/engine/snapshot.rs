//! What has to be saved of an engine, for another to answer as it does.

use std::time::Duration;

use super::Engine;
use super::key_space::KeySpace;
use super::lessor::{Lease, Renewal};
use crate::api::{Alarm, KeyValue, LeaseId, Revision, Timestamp};

/// The state of an engine at the time told last, but for what it is configured with, and for what its automatic compactor
/// saw. Taking it copies no key and no value.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) heading: Heading,
    /// In the order in which they were granted.
    pub(crate) leases: Vec<SavedLease>,
    /// Ascending.
    pub(crate) alarms: Vec<Alarm>,
    /// The retained versions of all keys from before the compacted revision, in no order.
    pub(crate) old: Vec<KeyValue>,
    /// Those since, in the order in which they were made.
    pub(crate) changes: Vec<KeyValue>,
}

/// What stands alone. The current revision is that of the newest version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    pub(crate) compacted: Option<Revision>,
    pub(crate) next_lease_id: i64,
    pub(crate) next_lease_sequence: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedLease {
    pub(crate) id: LeaseId,
    pub(crate) ttl: Duration,
    pub(crate) sequence: u64,
    pub(crate) renewal: SavedRenewal,
}

/// How a lease is kept alive, told without the clock's time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SavedRenewal {
    /// By its client: it ends after so long, which is the TTL at the most.
    ByHand { remaining: Duration },
    /// By itself: the last renewal was so long ago, which is less than the interval between two.
    Standing { elapsed: Duration },
}

impl Engine {
    /// What has to be saved. It visits all that is held.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (next_lease_id, next_lease_sequence) = self.lessor.counters();
        let heading = Heading { compacted: self.keys.compacted(), next_lease_id, next_lease_sequence };
        let mut leases: Vec<_> = self.lessor.iter().map(|lease| lease.saved(self.now)).collect();
        leases.sort_unstable_by_key(|lease| lease.sequence);
        let (old, changes) = (self.keys.old_versions(), self.keys.changes_retained());
        Snapshot { heading, leases, alarms: self.alarms.iter().collect(), old, changes }
    }
}

impl Lease {
    fn saved(&self, now: Timestamp) -> SavedLease {
        let renewal = match self.renewal {
            // At the end of time, where instants stop, how long a lease lives is no longer known.
            Renewal::ByHand { deadline: Timestamp::MAX } => SavedRenewal::ByHand { remaining: self.ttl },
            Renewal::ByHand { deadline } => SavedRenewal::ByHand { remaining: deadline.since(now) },
            Renewal::Standing { since, elapsed } => {
                SavedRenewal::Standing { elapsed: self.since_renewal(since, elapsed, now) }
            }
        };
        SavedLease { id: self.id, ttl: self.ttl, sequence: self.sequence, renewal }
    }
}

impl KeySpace {
    /// The versions that a compaction retained and history does not have: of each key that existed then and was not
    /// changed at the compacted revision, one.
    fn old_versions(&self) -> Vec<KeyValue> {
        let Some(floor) = self.compacted() else {
            return Vec::new();
        };
        let survivors = self.index.iter().filter_map(|(_, slot)| self.slot(slot).live_at(floor));
        survivors.filter(|kv| kv.mod_revision() < floor).cloned().collect()
    }

    /// The changes in history that are still versions of their keys.
    fn changes_retained(&self) -> Vec<KeyValue> {
        let from = self.history.position_of(self.floor());
        self.history.iter_from(from).filter(|kv| self.survives(kv)).cloned().collect()
    }
}
