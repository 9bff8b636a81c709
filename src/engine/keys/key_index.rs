//! The versions of each key, with a hash index for point lookups and an ordered index for ranges.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;

use crate::api::{KeyRange, KeyValue, Revision};
use crate::engine::tables::hash_index::{HashIndex, KeyHasher};
use crate::engine::tables::slab::Slab;

/// The identity of a key, valid from the key's creation until its last version is removed. `hash` and `id` together
/// find the key's entry in the hash index, and `id` alone finds the key's `KeyHistory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct SlotId {
    hash: u32,
    id: u32,
}

#[derive(Clone, Debug)]
pub(in crate::engine) struct KeyIndex {
    hasher: KeyHasher,
    /// The newest version of each key, by the hash of the key. A read of the latest state accesses only this table.
    by_hash: HashIndex<KeyValue>,
    order: BTreeMap<Box<[u8]>, SlotId>,
    /// The older versions of each key, and the key's position in its lease's list of keys.
    histories: Slab<KeyHistory>,
}

#[derive(Clone, Debug, Default)]
struct KeyHistory {
    /// All versions of the key except the newest, oldest first.
    older: VecDeque<OldVersion>,
    /// The position of this key in its lease's list of keys. Meaningless while the key has no lease.
    attachment: u32,
}

/// A version with a copy of its mod revision, so that a search by revision does not follow a pointer to each record.
#[derive(Clone, Debug)]
struct OldVersion {
    mod_revision: Revision,
    kv: KeyValue,
}

/// A view of one key's versions, including tombstones and versions that are compacted but not reclaimed yet.
#[derive(Clone, Copy)]
pub(in crate::engine) struct KeySlot<'a> {
    newest: &'a KeyValue,
    index: &'a KeyIndex,
    id: SlotId,
}

impl KeyIndex {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self { hasher, by_hash: HashIndex::new(), order: BTreeMap::new(), histories: Slab::new() }
    }

    pub(in crate::engine) fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.bytes(key)
    }

    pub(in crate::engine) fn find(&self, key: &[u8]) -> Option<SlotId> {
        self.find_hashed(self.hash(key), key)
    }

    /// Returns the slot of a key whose hash is `hash`, if the index has the key.
    pub(in crate::engine) fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<SlotId> {
        let (id, _) = self.by_hash.find(hash, |_, newest| newest.key() == key)?;
        Some(SlotId { hash, id })
    }

    pub(in crate::engine) fn slot(&self, id: SlotId) -> KeySlot<'_> {
        KeySlot { newest: self.newest(id), index: self, id }
    }

    /// Returns the newest version of a key, which may be a tombstone.
    pub(in crate::engine) fn newest(&self, id: SlotId) -> &KeyValue {
        self.by_hash.at(id.hash, id.id)
    }

    /// Adds a key that is not in the index, with its first version.
    pub(in crate::engine) fn insert(&mut self, hash: u32, kv: KeyValue) -> SlotId {
        let slot = SlotId { hash, id: self.histories.insert(KeyHistory::default()) };
        self.order.insert(kv.key().into(), slot);
        self.by_hash.insert(hash, slot.id, kv);
        slot
    }

    /// Removes a key and its only version, and returns this version.
    pub(in crate::engine) fn purge(&mut self, slot: SlotId) -> KeyValue {
        self.histories.remove(slot.id);
        let kv = self.by_hash.remove(slot.hash, slot.id);
        self.order.remove(kv.key());
        kv
    }

    /// Makes `kv` the newest version of a key.
    pub(in crate::engine) fn push(&mut self, slot: SlotId, kv: KeyValue) {
        let kv = std::mem::replace(self.by_hash.at_mut(slot.hash, slot.id), kv);
        let older = &mut self.histories.at_mut(slot.id).older;
        if older.len() == older.capacity() {
            // Grow by a quarter rather than double: history is most of a store's memory.
            older.reserve_exact((older.len() / 4).max(4));
        }
        older.push_back(OldVersion { mod_revision: kv.mod_revision(), kv });
    }

    /// Removes and returns the newest version of a key. Returns `None` and removes nothing if the key has no older
    /// version.
    pub(in crate::engine) fn pop(&mut self, slot: SlotId) -> Option<KeyValue> {
        let before = self.histories.at_mut(slot.id).older.pop_back()?;
        Some(std::mem::replace(self.by_hash.at_mut(slot.hash, slot.id), before.kv))
    }

    /// Removes and returns the oldest version of a key, if `should_drop` accepts this version and the key has a newer
    /// version.
    pub(in crate::engine) fn pop_oldest(
        &mut self,
        slot: SlotId,
        should_drop: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyValue> {
        let older = &mut self.histories.at_mut(slot.id).older;
        older.front().filter(|oldest| should_drop(&oldest.kv))?;
        let oldest = older.pop_front()?;
        // Shrink only once less than a quarter of the capacity is used, so that a key with a steady number of versions
        // does not reallocate.
        if older.len() * 4 < older.capacity() {
            older.shrink_to(older.len() * 2);
        }
        Some(oldest.kv)
    }

    /// Sets the position of a key in its lease's list of keys.
    pub(in crate::engine) fn set_attachment(&mut self, slot: SlotId, place: u32) {
        self.histories.at_mut(slot.id).attachment = place;
    }

    /// Returns the slots of the keys in a range in ascending key order, including deleted keys.
    pub(in crate::engine) fn range(&self, range: &KeyRange) -> Slots<'_> {
        let start = range.start();
        if range.is_single() {
            return Slots { single: self.find(start), interval: None };
        }
        let end = if range.is_from_key() { Bound::Unbounded } else { Bound::Excluded(range.range_end()) };
        // An inverted range is empty (R-RNG-1), but `BTreeMap::range` panics on an inverted range.
        let is_empty = !range.is_from_key() && start >= range.range_end();
        let interval = (!is_empty).then(|| self.order.range::<[u8], _>((Bound::Included(start), end)));
        Slots { single: None, interval }
    }

    /// Returns the number of keys, including deleted keys that are not reclaimed yet.
    pub(in crate::engine) fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns whether a range has fewer than `keys` keys, including deleted keys. Visits at most `keys` keys.
    pub(in crate::engine) fn has_fewer(&self, range: &KeyRange, keys: usize) -> bool {
        self.range(range).take(keys).count() < keys
    }

    /// Returns all keys with their slots, in ascending key order, including deleted keys.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&[u8], SlotId)> {
        self.order.iter().map(|(key, &slot)| (&**key, slot))
    }

    /// Returns the number of slots allocated for keys, in use or not.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.histories.slots()
    }

    /// Returns the number of hash table places that the longest search for a key visits.
    pub(in crate::engine) fn longest_probe(&self) -> usize {
        self.by_hash.longest_probe()
    }

    /// Returns whether all tables have the same keys, for tests.
    pub(in crate::engine) fn is_consistent(&self) -> bool {
        self.by_hash.len() == self.order.len()
            && self.histories.len() == self.order.len()
            && self
                .order
                .iter()
                .all(|(key, slot)| self.find(key) == Some(*slot) && self.histories.get(slot.id).is_some())
    }
}

/// An iterator over the slots of the keys in a range.
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
    /// Returns the newest version of the key, which may be a tombstone.
    pub(in crate::engine) fn newest(self) -> &'a KeyValue {
        self.newest
    }

    /// Returns the newest version of the key, or `None` if this version is a tombstone.
    pub(in crate::engine) fn live(self) -> Option<&'a KeyValue> {
        Some(self.newest).filter(|kv| !kv.is_tombstone())
    }

    /// Returns the version of the key that was the newest at `revision`, which may be a tombstone.
    pub(in crate::engine) fn version_at(self, revision: Revision) -> Option<&'a KeyValue> {
        if self.newest.mod_revision() <= revision {
            return Some(self.newest);
        }
        let older = &self.history().older;
        let last = count_until(older, self.newest, revision).checked_sub(1)?;
        Some(&older[last].kv)
    }

    /// Returns the version of the key that was the newest at `revision`, or `None` if the key did not exist then.
    pub(in crate::engine) fn live_at(self, revision: Revision) -> Option<&'a KeyValue> {
        self.version_at(revision).filter(|kv| !kv.is_tombstone())
    }

    /// Returns all versions of the key that are not reclaimed yet, oldest first.
    pub(in crate::engine) fn versions(self) -> impl Iterator<Item = &'a KeyValue> {
        self.history().older.iter().map(|older| &older.kv).chain([self.newest])
    }

    /// Returns the versions that a compaction to `compacted` retains (R-CMP-2), regardless of how many other versions
    /// are reclaimed already.
    pub(in crate::engine) fn retained(self, compacted: Revision) -> impl Iterator<Item = &'a KeyValue> {
        // R-CMP-2 retains the newest version at or below the compacted revision, unless it is a tombstone below that
        // revision.
        let survivor = self.version_at(compacted);
        self.versions().filter(move |kv| {
            let survives = survivor.is_some_and(|last| last.same_record(kv));
            kv.mod_revision() > compacted || survives && !(kv.is_tombstone() && kv.mod_revision() < compacted)
        })
    }

    /// Returns the position of the key in its lease's list of keys. Meaningless while the key has no lease.
    pub(in crate::engine) fn attachment(self) -> u32 {
        self.history().attachment
    }

    fn history(self) -> &'a KeyHistory {
        self.index.histories.at(self.id.id)
    }
}

/// Returns how many versions in `older` have a mod revision at or below `revision`. The mod revision of `newest` must
/// be above `revision`.
///
/// The search starts at a guessed version, doubles its steps from there, and then bisects. The guess assumes that
/// versions were written at the average interval of the newest generation. If the guess is good, a search reads one or
/// two versions. A bisection of the whole list would read O(log n) versions, each in another cache line.
fn count_until(older: &VecDeque<OldVersion>, newest: &KeyValue, revision: Revision) -> usize {
    let is_until = |place: usize| older[place].mod_revision <= revision;
    let distance = |earlier: Revision| newest.mod_revision().get().abs_diff(earlier.get());
    // `back` estimates how many versions are above `revision`: the distance in revisions, times the versions per
    // revision. `back` is 0 if `newest` is a tombstone, because the version of a tombstone is 0.
    let span = distance(newest.create_revision()).max(1);
    let back = distance(revision).saturating_mul(newest.version().unsigned_abs()) / span;
    let back = usize::try_from(back).unwrap_or(usize::MAX);
    let guess = older.len().saturating_sub(back.saturating_add(1));
    // From here on, the versions before `low` are at or below `revision`, and the versions from `high` on are above
    // `revision`.
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
