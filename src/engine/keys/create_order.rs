//! The keys of a range by their creation, for those ranges that are asked for their oldest and newest key: the queues of locks
//! and elections.
//!
//! Without it, each such read would go through all keys of the range, those that are gone and not yet compacted included: so a
//! queue of n waiters, and one that n were in before, would cost n at each hand-over. A range gets its order when a transaction
//! reads its oldest or newest keys up to a limit, or compares its create revisions, and it has many keys; it loses it when a
//! compaction has left it few, and none that exists.

use std::collections::BTreeSet;
use std::iter;
use std::ops::Bound;

use crate::api::{Get, KeyRange, Revision, SortOrder, SortTarget};
use crate::engine::tables::hash_index::KeyHasher;
use crate::engine::tables::interval_tree::IntervalTree;

/// A range with fewer keys, those that are gone included, is gone through as fast.
pub(in crate::engine) const KEYS_MIN: usize = 64;

/// No more ranges than this have an order: each costs every creation and deletion in it.
const RANGES_MAX: usize = 1024;

#[derive(Clone, Debug)]
pub(in crate::engine) struct CreateOrder {
    ranges: IntervalTree<Kept>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    range: Option<KeyRange>,
    keys: Keys,
}

/// Keys by the revision of their creation.
pub(in crate::engine) type Keys = BTreeSet<(Revision, Box<[u8]>)>;

/// What a read of the oldest or the newest key of a range finds.
pub(in crate::engine) struct Found<'a> {
    pub(in crate::engine) key: Option<&'a [u8]>,
    /// Whether the read lets through more than that one.
    pub(in crate::engine) more: bool,
    /// How many keys there are in the range.
    pub(in crate::engine) count: i64,
}

/// Returns whether a read asks for the oldest or newest keys, up to a limit, created up to a revision perhaps.
pub(in crate::engine) fn is_of_an_end(get: &Get) -> bool {
    let [min_mod, max_mod, min_create, _] = get.revision_bounds();
    get.sort_target == SortTarget::CreateRevision
        && get.sort_order != SortOrder::Unrecognized
        && get.sort_order != SortOrder::None
        && get.limit > 0
        && !get.count_only
        && (min_mod, max_mod, min_create) == (0, 0, 0)
        && !get.range.is_single()
}

/// The end of the keys that a read of the oldest or newest keys lets through.
fn end_of(get: &Get) -> Bound<(Revision, Box<[u8]>)> {
    let [.., max_create] = get.revision_bounds();
    match max_create {
        0 => Bound::Unbounded,
        bound => Bound::Excluded((Revision::new(bound).next(), Box::default())),
    }
}

impl CreateOrder {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self { ranges: IntervalTree::new(hasher) }
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.ranges.len() == 0
    }

    /// Whether a range may get its order.
    pub(in crate::engine) fn has_room_for(&self, range: &KeyRange) -> bool {
        self.ranges.len() < RANGES_MAX && self.ranges.find(range).is_none()
    }

    /// Gives a range its order.
    pub(in crate::engine) fn keep(&mut self, range: &KeyRange, keys: Keys) {
        // A copy, which holds on to nothing of the caller's.
        let range = KeyRange::from_wire(range.start(), range.range_end());
        let node = self.ranges.find_or_insert(&range);
        *self.ranges.at_mut(node) = Kept { range: Some(range), keys };
    }

    pub(in crate::engine) fn created(&mut self, key: &[u8], at: Revision) {
        for range in self.containing(key) {
            self.ranges.at_mut(range).keys.insert((at, key.into()));
        }
    }

    pub(in crate::engine) fn deleted(&mut self, key: &[u8], created: Revision) {
        for range in self.containing(key) {
            self.ranges.at_mut(range).keys.remove(&(created, key.into()));
        }
    }

    /// Lets go of the orders of those ranges with a key that have no other, and few that are gone, as `has_few` says.
    pub(in crate::engine) fn purged(&mut self, key: &[u8], has_few: impl Fn(&KeyRange) -> bool) {
        for id in self.containing(key) {
            let kept = self.ranges.at(id);
            if kept.keys.is_empty() && kept.range.as_ref().is_some_and(&has_few) {
                self.ranges.remove(id);
            }
        }
    }

    /// Whether the create revision of every key of a range compares so, if the range has its order. The zeros that stand for an
    /// absent key are what an empty range has (R-TXN-7).
    pub(in crate::engine) fn all_compare(
        &self,
        range: &KeyRange,
        holds: impl Fn(Revision) -> bool,
    ) -> Option<bool> {
        let keys = &self.ranges.at(self.ranges.find(range)?).keys;
        if keys.is_empty() {
            return Some(holds(Revision::new(0)));
        }
        Some(keys.iter().all(|&(created, _)| holds(created)))
    }

    fn containing(&self, key: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        self.ranges.containing(key, &mut |range| found.push(range));
        found
    }

    /// Answers a read of the oldest or newest key, if the range has its order. Of several keys created at one revision the first
    /// in key order counts (R-RNG-8).
    pub(in crate::engine) fn find(&self, get: &Get) -> Option<Found<'_>> {
        let keys = &self.ranges.at(self.ranges.find(&get.range)?).keys;
        let mut passing = keys.range((Bound::Unbounded, end_of(get)));
        let found = if get.sort_order == SortOrder::Descend {
            let newest = passing.next_back();
            newest.and_then(|(revision, _)| keys.range((*revision, Box::default())..).next())
        } else {
            passing.next()
        };
        let key = found.map(|(_, key)| &**key);
        Some(Found { key, more: passing.next().is_some(), count: keys.len() as i64 })
    }

    /// Returns the keys that a read of the oldest or newest keys lets through, in its order, and how many keys the range has, if
    /// the range has its order. Each key that is taken costs the logarithm of the range's length.
    pub(in crate::engine) fn find_several(&self, get: &Get) -> Option<(impl Iterator<Item = &[u8]>, i64)> {
        let keys = &self.ranges.at(self.ranges.find(&get.range)?).keys;
        let is_descending = get.sort_order == SortOrder::Descend;
        let oldest =
            (!is_descending).then(|| keys.range((Bound::Unbounded, end_of(get)))).into_iter().flatten();
        // Keys of one revision ascend in both directions (R-RNG-8).
        let before = |end| keys.range((Bound::Unbounded, end)).next_back().map(|(revision, _)| *revision);
        let last = if is_descending { before(end_of(get)) } else { None };
        let revisions = iter::successors(last, move |at| before(Bound::Excluded((*at, Box::default()))));
        let newest = revisions.flat_map(|at| keys.range((at, Box::default())..(at.next(), Box::default())));
        Some((oldest.chain(newest).map(|(_, key)| &**key), keys.len() as i64))
    }

    /// All ranges with their keys; for tests.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&KeyRange, &Keys)> {
        self.ranges.values().filter_map(|kept| Some((kept.range.as_ref()?, &kept.keys)))
    }
}
