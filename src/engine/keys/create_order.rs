//! Indexes by create revision, for ranges that are read by their first or last created key: the queues of locks and
//! elections.
//!
//! Without an index, a read of the first or last created key visits the whole range, including deleted keys that are
//! not reclaimed yet. Each release of a lock with n waiters would cost O(n) without an index.
//!
//! A range with many keys is indexed when a transaction reads its first or last created keys with a limit, or compares
//! its create revisions. The index is dropped when reclaiming leaves few keys in the range and none of these keys
//! exists.

use std::collections::BTreeSet;
use std::iter;
use std::ops::Bound;

use crate::api::{Get, KeyRange, Revision, SortOrder, SortTarget};
use crate::engine::tables::hash_index::KeyHasher;
use crate::engine::tables::interval_tree::IntervalTree;

/// The minimum number of keys, including deleted keys, in a range to index. A scan of a smaller range is as fast as an
/// index.
pub(in crate::engine) const KEYS_MIN: usize = 64;

/// The maximum number of indexed ranges. Each creation and deletion of a key updates all indexed ranges that contain
/// it.
const RANGES_MAX: usize = 1024;

#[derive(Clone, Debug)]
pub(in crate::engine) struct CreateOrder {
    ranges: IntervalTree<OrderedRange>,
}

/// An indexed range and its keys. `range` is `None` only in the default value that `IntervalTree::find_or_insert`
/// inserts, which `index_range` replaces at once.
#[derive(Clone, Debug, Default)]
struct OrderedRange {
    range: Option<KeyRange>,
    keys: Keys,
}

/// The existing keys of a range. Each entry begins with the key's create revision, so that iteration is in order of
/// creation.
pub(in crate::engine) type Keys = BTreeSet<(Revision, Box<[u8]>)>;

/// The result of a read of the first or last created key.
pub(in crate::engine) struct Found<'a> {
    pub(in crate::engine) key: Option<&'a [u8]>,
    /// Set if another key passes the filters of the read.
    pub(in crate::engine) more: bool,
    /// The number of existing keys in the range, whether or not they pass the filters.
    pub(in crate::engine) count: i64,
}

/// Returns whether a read requests the first or last created keys up to a limit, with no filter except a maximum create
/// revision.
pub(in crate::engine) fn reads_first_or_last_created(get: &Get) -> bool {
    let [min_mod, max_mod, min_create, _] = get.revision_bounds();
    get.sort_target == SortTarget::CreateRevision
        && get.sort_order != SortOrder::Unrecognized
        && get.sort_order != SortOrder::None
        && get.limit > 0
        && !get.count_only
        && (min_mod, max_mod, min_create) == (0, 0, 0)
        && !get.range.is_single()
}

/// Returns the upper bound of the index entries that pass the maximum create revision of a read.
fn end_of(get: &Get) -> Bound<(Revision, Box<[u8]>)> {
    let [.., max_create] = get.revision_bounds();
    match max_create {
        0 => Bound::Unbounded,
        // The maximum is inclusive. No key is empty, so every entry of the next revision is above that revision's empty
        // key.
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

    /// Returns whether a range is not indexed yet and fewer than `RANGES_MAX` ranges are indexed.
    pub(in crate::engine) fn has_room_for(&self, range: &KeyRange) -> bool {
        self.ranges.len() < RANGES_MAX && self.ranges.find(range).is_none()
    }

    /// Indexes a range. `keys` are the existing keys of the range.
    pub(in crate::engine) fn index_range(&mut self, range: &KeyRange, keys: Keys) {
        // Copy the range, so that the index does not keep the caller's buffer alive.
        let range = KeyRange::from_wire(range.start(), range.range_end());
        let node = self.ranges.find_or_insert(&range);
        *self.ranges.at_mut(node) = OrderedRange { range: Some(range), keys };
    }

    /// Adds a created key to the indexes of all ranges that contain it.
    pub(in crate::engine) fn insert_key(&mut self, key: &[u8], at: Revision) {
        for range in self.containing(key) {
            self.ranges.at_mut(range).keys.insert((at, key.into()));
        }
    }

    /// Removes a deleted key from the indexes of all ranges that contain it.
    pub(in crate::engine) fn remove_key(&mut self, key: &[u8], created: Revision) {
        for range in self.containing(key) {
            self.ranges.at_mut(range).keys.remove(&(created, key.into()));
        }
    }

    /// Drops the index of each range that contains the removed key `key`, has no existing key, and has few keys
    /// according to `has_few`.
    pub(in crate::engine) fn remove_if_unused(&mut self, key: &[u8], has_few: impl Fn(&KeyRange) -> bool) {
        for id in self.containing(key) {
            let kept = self.ranges.at(id);
            if kept.keys.is_empty() && kept.range.as_ref().is_some_and(&has_few) {
                self.ranges.remove(id);
            }
        }
    }

    /// Returns whether `holds` is true of the create revision of every key in a range, or `None` if the range is not
    /// indexed. For a range without keys, `holds` is called once with 0 (R-TXN-8).
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

    /// Returns the nodes of all indexed ranges that contain a key.
    fn containing(&self, key: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        self.ranges.containing(key, &mut |range| found.push(range));
        found
    }

    /// Returns the result of a read of the first or last created key, or `None` if the range is not indexed. Among keys
    /// with equal create revisions, the lowest key comes first in both directions (R-RNG-8).
    pub(in crate::engine) fn find(&self, get: &Get) -> Option<Found<'_>> {
        let keys = &self.ranges.at(self.ranges.find(&get.range)?).keys;
        let mut passing = keys.range((Bound::Unbounded, end_of(get)));
        let found = if get.sort_order == SortOrder::Descend {
            let newest = passing.next_back();
            // The last entry has the highest key of the newest create revision, and the read must return the lowest key
            // of that revision.
            newest.and_then(|(revision, _)| keys.range((*revision, Box::default())..).next())
        } else {
            passing.next()
        };
        let key = found.map(|(_, key)| &**key);
        Some(Found { key, more: passing.next().is_some(), count: keys.len() as i64 })
    }

    /// Returns the keys that pass the read's maximum create revision, in the read's sort order, and the number of keys
    /// in the range. Returns `None` if the range is not indexed. A step of the iterator costs at most O(log n).
    pub(in crate::engine) fn find_several(&self, get: &Get) -> Option<(impl Iterator<Item = &[u8]>, i64)> {
        let keys = &self.ranges.at(self.ranges.find(&get.range)?).keys;
        let is_descending = get.sort_order == SortOrder::Descend;
        let oldest =
            (!is_descending).then(|| keys.range((Bound::Unbounded, end_of(get)))).into_iter().flatten();
        // In descending order, step down from revision to revision, because the keys of one revision ascend in both
        // directions (R-RNG-8).
        let before = |end| keys.range((Bound::Unbounded, end)).next_back().map(|(revision, _)| *revision);
        let last = if is_descending { before(end_of(get)) } else { None };
        let revisions = iter::successors(last, move |at| before(Bound::Excluded((*at, Box::default()))));
        let newest = revisions.flat_map(|at| keys.range((at, Box::default())..(at.next(), Box::default())));
        Some((oldest.chain(newest).map(|(_, key)| &**key), keys.len() as i64))
    }

    /// Returns all indexed ranges with their keys, for tests.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&KeyRange, &Keys)> {
        self.ranges.values().filter_map(|kept| Some((kept.range.as_ref()?, &kept.keys)))
    }
}
