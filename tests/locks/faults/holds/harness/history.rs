//! What a store's history says about holds.

use std::collections::{BTreeMap, BTreeSet};

use leasehold::concurrency::LeaderEvent;
use leasehold::{Event, EventType, Get, KeyValue, Revision, SortOrder, SortTarget, Store};

use super::NAMES;

/// What keys that strangers put in a queue have for a value.
pub(crate) const FOREIGN: &str = "foreign";

/// History, read as it grows: who was ever the first of a queue, and that whoever wrote through a guard was it then.
#[derive(Default)]
pub(crate) struct History {
    read: i64,
    /// The keys that exist.
    existing: BTreeMap<Vec<u8>, KeyValue>,
    queues: [OfQueue; NAMES.len()],
    /// The keys that were deleted, and have not been asked for.
    deleted: Vec<KeyValue>,
    /// How many keys of strangers were deleted.
    foreign_removed: u64,
}

#[derive(Default)]
struct OfQueue {
    firsts: BTreeSet<Revision>,
    writes: u64,
    /// What whoever follows the election is to be told.
    events: Vec<LeaderEvent>,
}

impl History {
    /// Reads what is new.
    pub(crate) fn read(&mut self, store: &Store) {
        let newest = store.status().expect("the store is open").header().revision().get();
        if newest <= self.read {
            return;
        }
        let events = store.events(self.read + 1).expect("it is read before it is compacted");
        for of_one in events.chunk_by(|one, next| one.kv().mod_revision() == next.kv().mod_revision()) {
            self.read_revision(of_one);
        }
        self.read = newest;
    }

    fn read_revision(&mut self, events: &[Event]) {
        let before = NAMES.map(|name| self.first(name).cloned());
        for event in events {
            let kv = event.kv();
            let written = NAMES.iter().position(|name| kv.key() == written_by(name).as_bytes());
            match (event.event_type(), written) {
                (EventType::Put, Some(queue)) => self.check_write(queue, kv),
                (EventType::Put, None) => drop(self.existing.insert(kv.key().to_vec(), kv.clone())),
                (EventType::Delete, _) => {
                    let deleted = self.existing.remove(kv.key()).expect("it was put");
                    self.foreign_removed += u64::from(is_foreign(&deleted));
                    self.deleted.push(deleted);
                }
            }
        }
        let revision = events[0].kv().mod_revision();
        for (queue, before) in before.into_iter().enumerate() {
            let after = self.first(NAMES[queue]).cloned();
            self.queues[queue].firsts.extend(after.as_ref().map(KeyValue::create_revision));
            self.queues[queue].events.extend(told(revision, before, after));
        }
    }

    /// R-MTX-5: a txn of a guard's is run while its key is the first of the queue, and at no other time.
    fn check_write(&mut self, queue: usize, kv: &KeyValue) {
        let token = kv.value_str().expect("a token is text").parse().expect("a token is a number");
        let first = self.first(NAMES[queue]).map(KeyValue::create_revision);
        assert_eq!(first, Some(Revision::new(token)), "a guard wrote that was lost");
        self.queues[queue].writes += 1;
    }

    fn first(&self, name: &str) -> Option<&KeyValue> {
        let range = range(name);
        let of_queue = self.existing.range(range.as_bytes().to_vec()..).map(|(_, kv)| kv);
        of_queue.take_while(|kv| kv.key().starts_with(range.as_bytes())).min_by_key(|kv| kv.create_revision())
    }

    /// Whether that key was the first of its queue at some time.
    pub(crate) fn was_first(&self, queue: usize, token: Revision) -> bool {
        self.queues[queue].firsts.contains(&token)
    }

    /// How many keys of strangers were deleted.
    pub(crate) fn foreign_removed(&self) -> u64 {
        self.foreign_removed
    }

    /// The keys that were deleted since this was asked.
    pub(crate) fn take_deleted(&mut self) -> Vec<KeyValue> {
        std::mem::take(&mut self.deleted)
    }

    /// How many writes through guards there were.
    pub(crate) fn writes(&self, queue: usize) -> u64 {
        self.queues[queue].writes
    }

    /// What whoever follows that election from the beginning is told.
    pub(crate) fn events(&self, queue: usize) -> &[LeaderEvent] {
        &self.queues[queue].events
    }
}

/// What is told of a revision.
fn told(revision: Revision, before: Option<KeyValue>, after: Option<KeyValue>) -> Option<LeaderEvent> {
    let created = |kv: &Option<KeyValue>| kv.as_ref().map(KeyValue::create_revision);
    if created(&before) == created(&after) {
        return after.filter(|kv| kv.mod_revision() == revision).map(|kv| LeaderEvent::Updated { kv });
    }
    Some(match after {
        Some(kv) => LeaderEvent::Elected { revision, kv },
        None => LeaderEvent::NoLeader { revision },
    })
}

/// What the keys of a lock or an election begin with.
pub(crate) fn range(name: &str) -> String {
    format!("{name}/")
}

/// The key that guards of a lock or an election write.
pub(crate) fn written_by(name: &str) -> String {
    format!("written/{name}")
}

/// The keys in a queue, the first of it first.
pub(crate) fn queue(store: &Store, name: &str) -> Vec<KeyValue> {
    let all = Get::prefix(range(name)).sort(SortTarget::CreateRevision, SortOrder::Ascend);
    store.get(all).expect("the store is open").kvs().to_vec()
}

/// Whether a key was put by one of the lock or election itself: not by a stranger, and not for another whose name begins with
/// its (R-LCK-13).
pub(crate) fn is_own(name: &str, kv: &KeyValue) -> bool {
    let of = kv.key().rsplitn(2, |byte| *byte == b'/').nth(1);
    of == Some(name.as_bytes()) && !is_foreign(kv)
}

/// Whether that is the one key of a lease (R-LCK-1), and not a hold's alone.
pub(crate) fn is_of_lease(kv: &KeyValue) -> bool {
    !kv.key().contains(&b'-')
}

pub(crate) fn is_foreign(kv: &KeyValue) -> bool {
    kv.value() == FOREIGN.as_bytes()
}
