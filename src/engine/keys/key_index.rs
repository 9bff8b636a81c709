//! Where each key's versions are: a hash index for points, an ordered one for ranges, and the histories themselves.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;

use crate::api::{KeyRange, KeyValue, Revision};
use crate::engine::tables::hash_index::{HashIndex, KeyHasher};
use crate::engine::tables::slab::Slab;

/// Names a key, from its creation until nothing of it is retained: `hash` finds its entry among the points, `id` its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct SlotId {
    hash: u32,
    id: u32,
}

#[derive(Clone, Debug)]
pub(in crate::engine) struct KeyIndex {
    hasher: KeyHasher,
    /// The newest version of each key: reading the latest looks nowhere else.
    points: HashIndex<KeyValue>,
    order: BTreeMap<Box<[u8]>, SlotId>,
    /// What else is known of each key.
    past: Slab<Past>,
}

#[derive(Clone, Debug, Default)]
struct Past {
    /// The versions before the newest, oldest first.
    older: VecDeque<Older>,
    /// The place of this key among the keys of its lease; meaningless without one.
    attachment: u32,
}

/// A version with its revision, so that a search need not touch the records.
#[derive(Clone, Debug)]
struct Older {
    mod_revision: Revision,
    kv: KeyValue,
}

/// The retained versions of a key, tombstones included.
#[derive(Clone, Copy)]
pub(in crate::engine) struct KeySlot<'a> {
    newest: &'a KeyValue,
    index: &'a KeyIndex,
    id: SlotId,
}

impl KeyIndex {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self { hasher, points: HashIndex::new(), order: BTreeMap::new(), past: Slab::new() }
    }

    pub(in crate::engine) fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.bytes(key)
    }

    pub(in crate::engine) fn find(&self, key: &[u8]) -> Option<SlotId> {
        self.find_hashed(self.hash(key), key)
    }

    pub(in crate::engine) fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<SlotId> {
        let (id, _) = self.points.find(hash, |_, newest| newest.key() == key)?;
        Some(SlotId { hash, id })
    }

    pub(in crate::engine) fn slot(&self, id: SlotId) -> KeySlot<'_> {
        KeySlot { newest: self.newest(id), index: self, id }
    }

    /// The newest version of a key, be it a tombstone.
    pub(in crate::engine) fn newest(&self, id: SlotId) -> &KeyValue {
        self.points.at(id.hash, id.id)
    }

    /// Adds a key that is not there yet, with its first version.
    pub(in crate::engine) fn insert(&mut self, hash: u32, kv: KeyValue) -> SlotId {
        let slot = SlotId { hash, id: self.past.insert(Past::default()) };
        self.order.insert(kv.key().into(), slot);
        self.points.insert(hash, slot.id, kv);
        slot
    }

    /// Forgets a key of which nothing is retained any more. Gives its last version.
    pub(in crate::engine) fn purge(&mut self, slot: SlotId) -> KeyValue {
        self.past.remove(slot.id);
        let kv = self.points.remove(slot.hash, slot.id);
        self.order.remove(kv.key());
        kv
    }

    /// Makes `kv` the newest version.
    pub(in crate::engine) fn push(&mut self, slot: SlotId, kv: KeyValue) {
        let kv = std::mem::replace(self.points.at_mut(slot.hash, slot.id), kv);
        let older = &mut self.past.at_mut(slot.id).older;
        if older.len() == older.capacity() {
            // A quarter more rather than twice as much: history is most of a store's memory.
            older.reserve_exact((older.len() / 4).max(4));
        }
        older.push_back(Older { mod_revision: kv.mod_revision(), kv });
    }

    /// Takes back the newest version; `None`, and nothing is done, if it is the only one.
    pub(in crate::engine) fn pop(&mut self, slot: SlotId) -> Option<KeyValue> {
        let before = self.past.at_mut(slot.id).older.pop_back()?;
        Some(std::mem::replace(self.points.at_mut(slot.hash, slot.id), before.kv))
    }

    /// Lets go of the oldest version but the newest, if there is one that is to go.
    pub(in crate::engine) fn pop_oldest(
        &mut self,
        slot: SlotId,
        is_to_go: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyValue> {
        let older = &mut self.past.at_mut(slot.id).older;
        older.front().filter(|oldest| is_to_go(&oldest.kv))?;
        let oldest = older.pop_front()?;
        if older.len() * 4 < older.capacity() {
            older.shrink_to(older.len() * 2);
        }
        Some(oldest.kv)
    }

    /// Notes the key's place among the keys of its lease.
    pub(in crate::engine) fn set_attachment(&mut self, slot: SlotId, place: u32) {
        self.past.at_mut(slot.id).attachment = place;
    }

    /// The keys of a range in ascending order, whether they exist now or did once.
    pub(in crate::engine) fn range(&self, range: &KeyRange) -> Slots<'_> {
        let start = range.start();
        if range.is_single() {
            return Slots { single: self.find(start), interval: None };
        }
        let end = if range.is_from_key() { Bound::Unbounded } else { Bound::Excluded(range.range_end()) };
        let is_empty = !range.is_from_key() && start >= range.range_end();
        let interval = (!is_empty).then(|| self.order.range::<[u8], _>((Bound::Included(start), end)));
        Slots { single: None, interval }
    }

    /// Returns how many keys there are, deleted ones that are still retained included.
    pub(in crate::engine) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether a range has fewer keys than so many, those that are gone included.
    pub(in crate::engine) fn has_fewer(&self, range: &KeyRange, keys: usize) -> bool {
        self.range(range).take(keys).count() < keys
    }

    /// All keys in ascending order, with their slots.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&[u8], SlotId)> {
        self.order.iter().map(|(key, &slot)| (&**key, slot))
    }

    /// Returns how many keys the allocated slots have room for.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.past.slots()
    }

    /// Returns how many places the longest search for a key visits.
    pub(in crate::engine) fn longest_probe(&self) -> usize {
        self.points.longest_probe()
    }

    /// Whether all tables name the same keys; for tests.
    pub(in crate::engine) fn is_consistent(&self) -> bool {
        self.points.len() == self.order.len()
            && self.past.len() == self.order.len()
            && self
                .order
                .iter()
                .all(|(key, slot)| self.find(key) == Some(*slot) && self.past.get(slot.id).is_some())
    }
}

/// The keys of a range, one after the other.
pub(in crate::engine) struct Slots<'a> {
    single: Option<SlotId>,
    interval: Option<btree_map::Range<'a, Box<[u8]>, SlotId>>,
}

impl Iterator for Slots<'_> {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        match &mut self.interval {
            Some(interval) => interval.next().map(|(_, &slot)| slot),
            None => self.single.take(),
        }
    }
}

impl<'a> KeySlot<'a> {
    /// The newest version, be it a tombstone.
    pub(in crate::engine) fn newest(self) -> &'a KeyValue {
        self.newest
    }

    /// The newest version, unless it is a tombstone.
    pub(in crate::engine) fn live(self) -> Option<&'a KeyValue> {
        Some(self.newest).filter(|kv| !kv.is_tombstone())
    }

    /// The newest version at `revision`, be it a tombstone.
    pub(in crate::engine) fn version_at(self, revision: Revision) -> Option<&'a KeyValue> {
        if self.newest.mod_revision() <= revision {
            return Some(self.newest);
        }
        let older = &self.past().older;
        let last = count_until(older, self.newest, revision).checked_sub(1)?;
        Some(&older[last].kv)
    }

    /// The pair as it was at `revision`, if the key existed.
    pub(in crate::engine) fn live_at(self, revision: Revision) -> Option<&'a KeyValue> {
        self.version_at(revision).filter(|kv| !kv.is_tombstone())
    }

    /// The retained versions, oldest first.
    pub(in crate::engine) fn versions(self) -> impl Iterator<Item = &'a KeyValue> {
        self.past().older.iter().map(|older| &older.kv).chain([self.newest])
    }

    /// Those of them that a compaction to `floor` retains (R-CMP-2), whether or not it has reclaimed the others yet.
    pub(in crate::engine) fn retained(self, floor: Revision) -> impl Iterator<Item = &'a KeyValue> {
        let survivor = self.version_at(floor);
        self.versions().filter(move |kv| {
            let survives = survivor.is_some_and(|last| last.same_record(kv));
            kv.mod_revision() > floor || survives && !(kv.is_tombstone() && kv.mod_revision() < floor)
        })
    }

    /// The place of the key among the keys of its lease; meaningless without one.
    pub(in crate::engine) fn attachment(self) -> u32 {
        self.past().attachment
    }

    fn past(self) -> &'a Past {
        self.index.past.at(self.id.id)
    }
}

/// How many of the versions older than `newest` are of `revision` or before, which is before the newest one's.
///
/// The place is guessed as if all versions had come at the intervals of the newest generation, and searched for from there
/// in steps that double. Mostly that looks at one or two places in memory, where halving looks at one for each step.
fn count_until(older: &VecDeque<Older>, newest: &KeyValue, revision: Revision) -> usize {
    let is_until = |place: usize| older[place].mod_revision <= revision;
    let distance = |earlier: Revision| newest.mod_revision().get().abs_diff(earlier.get());
    let span = distance(newest.create_revision()).max(1);
    let back = distance(revision).saturating_mul(newest.version().unsigned_abs()) / span;
    let back = usize::try_from(back).unwrap_or(usize::MAX);
    let guess = older.len().saturating_sub(back.saturating_add(1));
    // All before `low` are; none from `high` on is.
    let mut step = 1;
    let (mut low, mut high) = if guess < older.len() && is_until(guess) {
        let mut low = guess + 1;
        while low + step <= older.len() && is_until(low + step - 1) {
            low += step;
            step *= 2;
        }
        (low, older.len().min(low + step - 1))
    } else {
        let mut high = guess;
        while step <= high && !is_until(high - step) {
            high -= step;
            step *= 2;
        }
        ((high + 1).saturating_sub(step), high)
    };
    while low < high {
        let middle = low + (high - low) / 2;
        if is_until(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
