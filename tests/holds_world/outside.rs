//! What comes from outside.

use leasehold::{KeyValue, ManualClock, Put, Store};

use super::LOCKS;
use super::history::{FOREIGN, is_foreign, queue};
use crate::shorthand::{Random, millis};

/// Time, leases that end, and strangers who do something to the keys in queues.
pub(super) struct Outside {
    store: Store,
    clock: ManualClock,
    random: Random,
    /// How many of their own keys strangers have deleted.
    pub(super) removed: u64,
}

impl Outside {
    pub(super) fn new(store: &Store, clock: &ManualClock, seed: u64) -> Self {
        Self { store: store.clone(), clock: clock.clone(), random: Random::new(seed), removed: 0 }
    }

    pub(super) fn act(&mut self) {
        let name = self.random.pick(&LOCKS);
        let keys = queue(&self.store, name);
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

    /// Does that now and then.
    pub(super) fn act_by_chance(&mut self) {
        if self.random.one_in(16) {
            self.act();
        }
    }

    fn expire(&mut self) {
        let leases = self.store.leases().expect("the store is open");
        if let Some(&lease) = leases.leases().get(self.random.below(8) as usize) {
            self.store.expire(lease).expect("it was there");
        }
    }

    fn remove(&mut self, kv: &KeyValue) {
        self.removed += u64::from(is_foreign(kv));
        self.store.delete(kv.key()).expect("the key is not empty");
    }

    /// A key made anew is a stranger's.
    fn remove_or_replace(&mut self, kv: &KeyValue) {
        self.remove(kv);
        if self.random.one_in(2) {
            self.store.put((kv.key(), FOREIGN)).expect("the put is good");
        }
    }

    /// That changes nobody's place (R-LCK-4).
    fn overwrite(&self, kv: &KeyValue) {
        let value = if is_foreign(kv) { FOREIGN } else { "overwritten" };
        self.store.put(Put::new(kv.key(), value).ignore_lease()).expect("the key is there");
    }
}
