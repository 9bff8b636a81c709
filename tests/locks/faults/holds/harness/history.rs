//! The history of a store, as far as holds are concerned.

use std::collections::{BTreeMap, BTreeSet};

use leasehold::concurrency::LeaderEvent;
use leasehold::{Event, EventType, Get, KeyValue, Revision, SortOrder, SortTarget, Store};

use super::NAMES;

/// The value of keys that another client puts into a queue.
pub(crate) const FOREIGN: &str = "foreign";

/// History, read as it grows: which keys were the first of their queues, and that each write through a guard came from the first.
#[derive(Default)]
pub(crate) struct History {
    read: i64,
    /// The keys that exist.
    existing: BTreeMap<Vec<u8>, KeyValue>,
    queues: [OfQueue; NAMES.len()],
    /// The keys that were deleted since the last `take_deleted`.
    deleted: Vec<KeyValue>,
    /// The number of deleted foreign keys.
    foreign_removed: u64,
}

#[derive(Default)]
struct OfQueue {
    firsts: BTreeSet<Revision>,
    writes: u64,
    /// The events that a follower of the election receives.
    events: Vec<LeaderEvent>,
}

impl History {
    /// Reads the new revisions.
    pub(crate) fn read(&mut self, store: &Store) {
        let newest = store.status().expect("the store is open").header().revision().get();
        if newest <= self.read {
            return;
        }
        let events = store.events(self.read + 1).expect("history is read before it is compacted");
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
                    let deleted = self.existing.remove(kv.key()).expect("a deleted key was put before");
                    self.foreign_removed += u64::from(is_foreign(&deleted));
                    self.deleted.push(deleted);
                }
            }
        }
        let revision = events[0].kv().mod_revision();
        for (queue, before) in before.into_iter().enumerate() {
            let after = self.first(NAMES[queue]).cloned();
            self.queues[queue].firsts.extend(after.as_ref().map(KeyValue::create_revision));
            self.queues[queue].events.extend(reported(revision, before, after));
        }
    }

    /// R-MTX-5: a guard's txn is run only while its key is the first of the queue.
    fn check_write(&mut self, queue: usize, kv: &KeyValue) {
        let token = kv.value_str().expect("a token is text").parse().expect("a token is a number");
        let first = self.first(NAMES[queue]).map(KeyValue::create_revision);
        assert_eq!(first, Some(Revision::new(token)), "a guard's write requires its key to be the first");
        self.queues[queue].writes += 1;
    }

    fn first(&self, name: &str) -> Option<&KeyValue> {
        let range = range(name);
        let of_queue = self.existing.range(range.as_bytes().to_vec()..).map(|(_, kv)| kv);
        of_queue.take_while(|kv| kv.key().starts_with(range.as_bytes())).min_by_key(|kv| kv.create_revision())
    }

    /// Returns whether the key with this create revision was the first of its queue at some time.
    pub(crate) fn was_first(&self, queue: usize, token: Revision) -> bool {
        self.queues[queue].firsts.contains(&token)
    }

    /// Returns how many foreign keys were deleted.
    pub(crate) fn foreign_removed(&self) -> u64 {
        self.foreign_removed
    }

    /// Returns the keys that were deleted since the last call.
    pub(crate) fn take_deleted(&mut self) -> Vec<KeyValue> {
        std::mem::take(&mut self.deleted)
    }

    /// Returns how many writes through guards there were.
    pub(crate) fn writes(&self, queue: usize) -> u64 {
        self.queues[queue].writes
    }

    /// Returns the events that a follower from the first revision on receives.
    pub(crate) fn events(&self, queue: usize) -> &[LeaderEvent] {
        &self.queues[queue].events
    }
}

/// Returns the event of a revision that changed the first key of an election.
fn reported(revision: Revision, before: Option<KeyValue>, after: Option<KeyValue>) -> Option<LeaderEvent> {
    let created = |kv: &Option<KeyValue>| kv.as_ref().map(KeyValue::create_revision);
    if created(&before) == created(&after) {
        return after.filter(|kv| kv.mod_revision() == revision).map(|kv| LeaderEvent::Updated { kv });
    }
    Some(match after {
        Some(kv) => LeaderEvent::Elected { revision, kv },
        None => LeaderEvent::NoLeader { revision },
    })
}

/// Returns the prefix of the keys of a lock or an election.
pub(crate) fn range(name: &str) -> String {
    format!("{name}/")
}

/// Returns the key that guards of a lock or an election write.
pub(crate) fn written_by(name: &str) -> String {
    format!("written/{name}")
}

/// Returns the keys in a queue, by create revision.
pub(crate) fn queue(store: &Store, name: &str) -> Vec<KeyValue> {
    let all = Get::prefix(range(name)).sort(SortTarget::CreateRevision, SortOrder::Ascend);
    store.get(all).expect("the store is open").kvs().to_vec()
}

/// Returns whether a key belongs to this lock or election: it is neither foreign nor a key of a longer name (R-LCK-13).
pub(crate) fn is_own(name: &str, kv: &KeyValue) -> bool {
    let of = kv.key().rsplitn(2, |byte| *byte == b'/').nth(1);
    of == Some(name.as_bytes()) && !is_foreign(kv)
}

/// Returns whether a key is the one key of its lease (R-LCK-1), and not the key of a single hold.
pub(crate) fn is_of_lease(kv: &KeyValue) -> bool {
    !kv.key().contains(&b'-')
}

pub(crate) fn is_foreign(kv: &KeyValue) -> bool {
    kv.value() == FOREIGN.as_bytes()
}
