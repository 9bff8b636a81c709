//! What a store's history says about holds.

use std::collections::{BTreeMap, BTreeSet};

use leasehold::{Event, EventType, Get, KeyValue, Revision, SortOrder, SortTarget, Store};

/// What keys that strangers put in a queue have for a value.
pub(crate) const FOREIGN: &str = "foreign";

/// History, read as it grows: who was ever the first of a queue, and that whoever wrote through a guard was it then.
#[derive(Default)]
pub(crate) struct History {
    read: i64,
    /// The keys that exist.
    existing: BTreeMap<Vec<u8>, KeyValue>,
    firsts: BTreeMap<&'static str, BTreeSet<Revision>>,
    writes: BTreeMap<&'static str, u64>,
    /// How many keys of strangers were deleted.
    foreign_removed: u64,
}

impl History {
    /// Reads what is new.
    pub(crate) fn read(&mut self, store: &Store, locks: &[&'static str]) {
        let newest = store.status().expect("the store is open").header().revision().get();
        if newest <= self.read {
            return;
        }
        let events = store.events(self.read + 1).expect("it is read before it is compacted");
        for of_one in events.chunk_by(|one, next| one.kv().mod_revision() == next.kv().mod_revision()) {
            self.read_revision(of_one, locks);
        }
        self.read = newest;
    }

    fn read_revision(&mut self, events: &[Event], locks: &[&'static str]) {
        for event in events {
            let kv = event.kv();
            match (event.event_type(), locks.iter().find(|lock| kv.key() == written_by(lock).as_bytes())) {
                (EventType::Put, Some(lock)) => self.check_write(lock, kv),
                (EventType::Put, None) => drop(self.existing.insert(kv.key().to_vec(), kv.clone())),
                (EventType::Delete, _) => {
                    let deleted = self.existing.remove(kv.key()).expect("it was put");
                    self.foreign_removed += u64::from(is_foreign(&deleted));
                }
            }
        }
        for lock in locks {
            let first = self.first(lock);
            self.firsts.entry(lock).or_default().extend(first);
        }
    }

    /// R-MTX-5: a txn of a guard's is run while its key is the first of the queue, and at no other time.
    fn check_write(&mut self, lock: &'static str, kv: &KeyValue) {
        let token = kv.value_str().expect("a token is text").parse().expect("a token is a number");
        assert_eq!(self.first(lock), Some(Revision::new(token)), "a guard wrote that was lost");
        *self.writes.entry(lock).or_default() += 1;
    }

    fn first(&self, lock: &str) -> Option<Revision> {
        let range = range(lock);
        let of_lock = self.existing.values().filter(|kv| kv.key().starts_with(range.as_bytes()));
        of_lock.map(KeyValue::create_revision).min()
    }

    /// Whether that key was the first of its queue at some time.
    pub(crate) fn was_first(&self, lock: &str, token: Revision) -> bool {
        self.firsts.get(lock).is_some_and(|firsts| firsts.contains(&token))
    }

    /// How many keys of strangers were deleted.
    pub(crate) fn foreign_removed(&self) -> u64 {
        self.foreign_removed
    }

    /// How many writes through guards there were.
    pub(crate) fn writes(&self, lock: &str) -> u64 {
        self.writes.get(lock).copied().unwrap_or_default()
    }
}

/// What the keys of a lock begin with.
pub(crate) fn range(lock: &str) -> String {
    format!("{lock}/")
}

/// The key that guards of a lock write.
pub(crate) fn written_by(lock: &str) -> String {
    format!("written/{lock}")
}

/// The keys in a queue, the first of it first.
pub(crate) fn queue(store: &Store, lock: &str) -> Vec<KeyValue> {
    let all = Get::prefix(range(lock)).sort(SortTarget::CreateRevision, SortOrder::Ascend);
    store.get(all).expect("the store is open").kvs().to_vec()
}

/// Whether a key was put by one of the lock itself: not by a stranger, and not for another lock whose name begins with its
/// (R-LCK-13).
pub(crate) fn is_own(lock: &str, kv: &KeyValue) -> bool {
    let name = kv.key().rsplitn(2, |byte| *byte == b'/').nth(1);
    name == Some(lock.as_bytes()) && !is_foreign(kv)
}

pub(crate) fn is_foreign(kv: &KeyValue) -> bool {
    kv.value() == FOREIGN.as_bytes()
}
