//! Where each key's versions are: a hash index for points, an ordered one for ranges, and the histories themselves.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::key_hash::KeyHasher;
use super::point_index::PointIndex;
use super::slab::Slab;
use crate::api::{KeyRange, KeyValue, Revision};

/// The number under which a key's history is held, from the key's creation until nothing of it is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(u32);

#[derive(Clone, Debug)]
pub(super) struct KeyIndex {
    hasher: KeyHasher,
    points: PointIndex,
    order: BTreeMap<Box<[u8]>, SlotId>,
    slots: Slab<KeySlot>,
}

/// The retained versions of a key, tombstones included.
#[derive(Clone, Debug)]
pub(super) struct KeySlot {
    pub(super) newest: KeyValue,
    /// The others, oldest first. They carry their revision, so that a search need not touch the records.
    older: VecDeque<Older>,
    /// The place of this key among the keys of its lease; meaningless without one.
    pub(super) attachment: u32,
}

#[derive(Clone, Debug)]
struct Older {
    mod_revision: Revision,
    kv: KeyValue,
}

impl KeyIndex {
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self { hasher, points: PointIndex::new(), order: BTreeMap::new(), slots: Slab::new() }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.bytes(key)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<SlotId> {
        self.find_hashed(self.hash(key), key)
    }

    pub(super) fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<SlotId> {
        self.points.find(hash, |id| self.slots.at(id).newest.key() == key).map(SlotId)
    }

    pub(super) fn slot(&self, slot: SlotId) -> &KeySlot {
        self.slots.at(slot.0)
    }

    pub(super) fn slot_mut(&mut self, slot: SlotId) -> &mut KeySlot {
        self.slots.at_mut(slot.0)
    }

    /// Adds a key that is not there yet, with its first version.
    pub(super) fn insert(&mut self, hash: u32, kv: KeyValue) -> SlotId {
        let key = kv.key().into();
        let slot = SlotId(self.slots.insert(KeySlot { newest: kv, older: VecDeque::new(), attachment: 0 }));
        self.points.insert(hash, slot.0);
        self.order.insert(key, slot);
        slot
    }

    /// Forgets a key of which nothing is retained any more. Gives its last version.
    pub(super) fn purge(&mut self, slot: SlotId) -> KeyValue {
        let removed = self.slots.remove(slot.0);
        let key = removed.newest.key();
        self.points.remove(self.hash(key), slot.0);
        self.order.remove(key);
        removed.newest
    }

    /// The keys of a range in ascending order, whether they exist now or did once.
    pub(super) fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = SlotId> + 'a {
        let start = range.start();
        let single = range.is_single().then(|| self.find(start)).flatten();
        let inverted = !range.is_from_key() && start >= range.range_end();
        let interval = (!range.is_single() && !inverted).then(|| {
            let end = if range.is_from_key() { Bound::Unbounded } else { Bound::Excluded(range.range_end()) };
            self.order.range::<[u8], _>((Bound::Included(start), end))
        });
        single.into_iter().chain(interval.into_iter().flatten().map(|(_, &slot)| slot))
    }

    /// All keys in ascending order, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], SlotId)> {
        self.order.iter().map(|(key, &slot)| (&**key, slot))
    }

    /// Whether the three tables name the same keys; for tests.
    pub(super) fn is_consistent(&self) -> bool {
        self.points.len() == self.slots.len()
            && self.order.len() == self.slots.len()
            && self.slots.iter().all(|(id, slot)| {
                let key = slot.newest.key();
                self.find(key) == Some(SlotId(id)) && self.order.get(key) == Some(&SlotId(id))
            })
    }
}

impl KeySlot {
    /// Makes `kv` the newest version.
    pub(super) fn push(&mut self, kv: KeyValue) {
        let kv = std::mem::replace(&mut self.newest, kv);
        if self.older.len() == self.older.capacity() {
            // A quarter more rather than twice as much: history is most of a store's memory.
            self.older.reserve_exact((self.older.len() / 4).max(2));
        }
        self.older.push_back(Older { mod_revision: kv.mod_revision(), kv });
    }

    /// Takes back the newest version; `None`, and nothing is done, if it is the only one.
    pub(super) fn pop(&mut self) -> Option<KeyValue> {
        let before = self.older.pop_back()?;
        Some(std::mem::replace(&mut self.newest, before.kv))
    }

    /// Lets go of the oldest version but the newest, if there is one that is to go.
    pub(super) fn pop_oldest(&mut self, is_to_go: impl Fn(&KeyValue) -> bool) -> Option<KeyValue> {
        self.older.front().filter(|oldest| is_to_go(&oldest.kv))?;
        Some(self.older.pop_front()?.kv)
    }

    /// The newest version, unless it is a tombstone.
    pub(super) fn live(&self) -> Option<&KeyValue> {
        Some(&self.newest).filter(|kv| !kv.is_tombstone())
    }

    /// The newest version at `revision`, be it a tombstone.
    pub(super) fn version_at(&self, revision: Revision) -> Option<&KeyValue> {
        if self.newest.mod_revision() <= revision {
            return Some(&self.newest);
        }
        let later = self.older.partition_point(|older| older.mod_revision <= revision);
        Some(&self.older[later.checked_sub(1)?].kv)
    }

    /// The pair as it was at `revision`, if the key existed.
    pub(super) fn live_at(&self, revision: Revision) -> Option<&KeyValue> {
        self.version_at(revision).filter(|kv| !kv.is_tombstone())
    }

    /// The retained versions, oldest first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &KeyValue> {
        self.older.iter().map(|older| &older.kv).chain([&self.newest])
    }
}
