//! The part of an engine's state that a save holds.

use std::time::Duration;

use super::Engine;
use super::key_space::KeySpace;
use super::lessor::{Lease, Renewal};
use crate::api::{Alarm, KeyValue, LeaseId, Revision, Timestamp};

/// An engine's state at its latest time, without its configuration and the samples of its automatic compactor. Keys and
/// values are shared with the engine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) current: Revision,
    pub(crate) heading: Heading,
    /// The number of keys that exist.
    pub(crate) keys: u64,
    /// Leases by ascending sequence.
    pub(crate) leases: Vec<SavedLease>,
    /// Alarms in ascending order.
    pub(crate) alarms: Vec<Alarm>,
    /// The retained versions from before the compacted revision, in no order.
    pub(crate) old: Vec<KeyValue>,
    /// The retained versions from the compacted revision on, in the order of history.
    pub(crate) changes: Vec<KeyValue>,
}

/// The compacted revision and the counters of leases.
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

/// How a lease is kept alive, without an instant of the saved clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SavedRenewal {
    /// The lease expires after `remaining`, which is at most the TTL.
    ByHand { remaining: Duration },
    /// The last standing renewal was `elapsed` ago, which is less than the renewal interval.
    Standing { elapsed: Duration },
}

impl Engine {
    /// Takes a snapshot. Visits every version.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (next_lease_id, next_lease_sequence) = self.lessor.counters();
        let heading = Heading { compacted: self.keys.compacted(), next_lease_id, next_lease_sequence };
        let mut leases: Vec<_> = self.lessor.iter().map(|lease| lease.saved(self.now)).collect();
        leases.sort_unstable_by_key(|lease| lease.sequence);
        Snapshot {
            current: self.keys.current(),
            heading,
            keys: self.keys.live_keys(),
            leases,
            alarms: self.alarms.iter().collect(),
            old: self.keys.old_versions(),
            changes: self.keys.changes_retained(),
        }
    }
}

impl Lease {
    fn saved(&self, now: Timestamp) -> SavedLease {
        let renewal = match self.renewal {
            // A deadline at the end of time was clamped, so the remaining time is unknown.
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
    /// Returns the retained versions that history does not have: one for each key that existed at the compacted
    /// revision and was last changed before it.
    fn old_versions(&self) -> Vec<KeyValue> {
        let Some(floor) = self.compacted() else {
            return Vec::new();
        };
        let survivors = self.index.iter().filter_map(|(_, slot)| self.slot(slot).live_at(floor));
        survivors.filter(|kv| kv.mod_revision() < floor).cloned().collect()
    }

    /// Returns the changes in history that are still versions of their keys.
    fn changes_retained(&self) -> Vec<KeyValue> {
        let from = self.history.position_of(self.floor());
        self.history.iter_from(from).filter(|kv| self.survives(kv)).cloned().collect()
    }
}
