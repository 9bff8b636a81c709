//! Events from outside the locks: time, expiries and other clients.

use leasehold::{KeyValue, LeaseId, ManualClock, Put, Revision, Store};

use leasehold_testkit::helpers::{Random, millis};

use super::NAMES;
use super::history::{FOREIGN, is_foreign, is_of_lease, queue};

/// The value that another client writes over a key.
pub(super) const OVERWRITTEN: &str = "overwritten";

/// Time, leases that expire, and clients that change the keys in queues.
pub(super) struct Environment {
    store: Store,
    clock: ManualClock,
    random: Random,
    /// Whether no events happen.
    pub(super) is_quiet: bool,
    /// The number of deleted foreign keys.
    pub(super) removed: u64,
    taken: Vec<Taken>,
}

/// A key that another client has deleted.
struct Taken {
    name: Vec<u8>,
    lease: LeaseId,
    created: Revision,
    at: Revision,
}

impl Environment {
    pub(super) fn new(store: &Store, clock: &ManualClock, seed: u64) -> Self {
        let (store, clock, random) = (store.clone(), clock.clone(), Random::new(seed));
        Self { store, clock, random, is_quiet: false, removed: 0, taken: Vec::new() }
    }

    pub(super) fn act(&mut self) {
        let name = self.random.pick(&NAMES);
        let keys = queue(&self.store, name);
        // Often out of range, in which case no key is touched.
        let of_queue = keys.get(self.random.below(8) as usize);
        match self.random.below(8) {
            0..=1 => self.clock.advance(millis(self.random.below(2_000))),
            2 => self.expire(),
            3 => drop(self.store.put((format!("{name}/x"), FOREIGN))),
            4..=5 => keys.iter().filter(|kv| is_foreign(kv)).for_each(|kv| self.remove(kv)),
            6 => of_queue.into_iter().for_each(|kv| self.remove_or_replace(kv)),
            _ => of_queue.into_iter().for_each(|kv| self.overwrite(kv)),
        }
    }

    /// Acts at times.
    pub(super) fn act_by_chance(&mut self) {
        if !self.is_quiet && self.random.one_in(16) {
            self.act();
        }
    }

    /// Returns whether another client deleted the key with this create revision.
    pub(super) fn has_taken(&self, created: Revision) -> bool {
        self.taken.iter().any(|taken| taken.created == created)
    }

    /// Returns whether another client deleted a key of this lease in this queue after a revision.
    pub(super) fn has_taken_one(&self, name: &str, lease: LeaseId, after: Revision) -> bool {
        let is_it = |taken: &Taken| taken.name == name.as_bytes() && taken.lease == lease && taken.at > after;
        self.taken.iter().any(is_it)
    }

    fn expire(&mut self) {
        let leases = self.store.leases().expect("the store is open");
        // Often out of range, in which case no lease expires.
        if let Some(&lease) = leases.leases().get(self.random.below(8) as usize) {
            self.store.expire(lease).expect("the lease exists");
        }
    }

    fn remove(&mut self, kv: &KeyValue) {
        self.removed += u64::from(is_foreign(kv));
        let deleted = self.store.delete(kv.key()).expect("the key is not empty");
        let name = kv.key().rsplitn(2, |byte| *byte == b'/').nth(1).expect("a key in a queue has a slash");
        self.taken.push(Taken {
            name: name.to_vec(),
            lease: kv.lease(),
            created: kv.create_revision(),
            at: deleted.header().revision(),
        });
    }

    /// Deletes a key, and perhaps puts a foreign one in its place. A lease's key would belong to its owner again (R-LCK-5).
    fn remove_or_replace(&mut self, kv: &KeyValue) {
        self.remove(kv);
        if !is_of_lease(kv) && self.random.one_in(2) {
            self.store.put((kv.key(), FOREIGN)).expect("the put is valid");
        }
    }

    /// Changes a key's value, which keeps its place in the queue (R-LCK-4).
    fn overwrite(&self, kv: &KeyValue) {
        let value = if is_foreign(kv) { FOREIGN } else { OVERWRITTEN };
        self.store.put(Put::new(kv.key(), value).ignore_lease()).expect("the key exists");
    }
}
