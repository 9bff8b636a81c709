//! Range reads: the algorithm of R-RNG-4 with its edge cases.

use std::cmp::Ordering;

use super::create_order::{Found, KEYS_MIN, reads_first_or_last_created};
use super::key_index::Slots;
use super::key_space::KeySpace;
use crate::api::{
    Get, GetResponse, KeyRange, KeyValue, KeyValues, ResponseHeader, Revision, SortOrder, SortTarget,
};

/// The number of keys whose newest versions a scan looks up before it reads the first of them.
const BATCH: usize = 32;

impl KeySpace {
    /// Returns the response of a read at the revision `at`, or of the latest state if `at` is `None`. The caller has
    /// checked that `at` is readable.
    pub(in crate::engine) fn read(
        &self,
        get: &Get,
        at: Option<Revision>,
        header: ResponseHeader,
    ) -> GetResponse {
        if get.range.is_single() {
            return self.read_single(get, at, header);
        }
        // The indexes by create revision cover only the latest state.
        if at.is_none() && reads_first_or_last_created(get) {
            if get.limit > 1 {
                if let Some((keys, count)) = self.create_order.find_several(get) {
                    return self.read_several(get, keys, count, header);
                }
            } else {
                return match self.create_order.find(get) {
                    Some(found) => self.read_first_or_last(get, &found, header),
                    None => self.scan_for_first_or_last(get, header),
                };
            }
        }
        let has_filter = has_filter(get);
        let limit = usize::try_from(get.limit).unwrap_or(0);
        // R-RNG-4, step 5. etcd's oddity (R-RNG-5): a read with a sort target but no sort order sorts only the first
        // `limit + 1` keys.
        let cap =
            if in_key_order(get) && !has_filter && limit > 0 { limit.saturating_add(1) } else { usize::MAX };
        // The count ignores limit and filters (R-RNG-6).
        let (mut kvs, count) = self.scan(get, at, cap);
        if get.count_only {
            return GetResponse { header, kvs: KeyValues::Many(Vec::new()), more: false, count };
        }
        if has_filter {
            kvs.retain(|kv| passes(get, kv));
        }
        sort(get, &mut kvs);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        // Clear the values last, because a sort by value needs them.
        if get.keys_only {
            kvs = kvs.iter().map(KeyValue::without_value).collect();
        }
        GetResponse { header, kvs: KeyValues::Many(kvs), more, count }
    }

    /// Returns the response of a read of one key.
    fn read_single(&self, get: &Get, at: Option<Revision>, header: ResponseHeader) -> GetResponse {
        let slot = self.index.find(get.range.start()).map(|slot| self.slot(slot));
        let found = slot.and_then(|slot| at.map_or_else(|| slot.live(), |revision| slot.live_at(revision)));
        let count = i64::from(found.is_some());
        let kv = found.filter(|kv| !get.count_only && (!has_filter(get) || passes(get, kv)));
        let kv = if get.keys_only { kv.map(KeyValue::without_value) } else { kv.cloned() };
        GetResponse { header, kvs: KeyValues::Single(kv), more: false, count }
    }

    /// Returns the response of a read of the first or last created key, found in an index by create revision.
    fn read_first_or_last(&self, get: &Get, found: &Found<'_>, header: ResponseHeader) -> GetResponse {
        let kv = found.key.and_then(|key| self.live(key));
        let kv = if get.keys_only { kv.map(KeyValue::without_value) } else { kv.cloned() };
        GetResponse { header, kvs: KeyValues::Single(kv), more: found.more, count: found.count }
    }

    /// Returns the response of a read of the first or last created keys. `keys` are the keys that pass the read's
    /// filters, in the read's sort order. `count` is the number of keys in the range.
    fn read_several<'a>(
        &self,
        get: &Get,
        mut keys: impl Iterator<Item = &'a [u8]>,
        count: i64,
        header: ResponseHeader,
    ) -> GetResponse {
        let limit = usize::try_from(get.limit).unwrap_or(usize::MAX);
        let found = keys.by_ref().take(limit).filter_map(|key| self.live(key));
        let kvs = if get.keys_only {
            found.map(KeyValue::without_value).collect()
        } else {
            found.cloned().collect()
        };
        GetResponse { header, kvs: KeyValues::Many(kvs), more: keys.next().is_some(), count }
    }

    /// Returns the response of a read of the first or last created key from one scan of the range. The scan keeps one
    /// key: the first or last created key so far.
    fn scan_for_first_or_last(&self, get: &Get, header: ResponseHeader) -> GetResponse {
        let descend = get.sort_order == SortOrder::Descend;
        let (mut found, mut passing, mut count): (Option<&KeyValue>, _, _) = (None, 0, 0);
        for kv in self.index.range(&get.range).filter_map(|slot| self.slot(slot).live()) {
            count += 1;
            if passes(get, kv) {
                passing += 1;
                // Compare strictly, so that the lowest key wins among keys with equal create revisions (R-RNG-8).
                let is_before = |other: &KeyValue| match kv.create_revision().cmp(&other.create_revision()) {
                    Ordering::Less => !descend,
                    Ordering::Equal => false,
                    Ordering::Greater => descend,
                };
                found = Some(found.filter(|other| !is_before(other)).unwrap_or(kv));
            }
        }
        let kv = if get.keys_only { found.map(KeyValue::without_value) } else { found.cloned() };
        GetResponse { header, kvs: KeyValues::Single(kv), more: passing > 1, count }
    }

    /// Indexes a range by create revision if the range has at least `KEYS_MIN` keys, including deleted keys. Does
    /// nothing if the range is already indexed or too many ranges are indexed.
    pub(in crate::engine) fn index_create_order(&mut self, range: &KeyRange) {
        // Check the number of all keys first, which is cheap to read and below `KEYS_MIN` in a store with few keys.
        let has_few = self.index.len() < KEYS_MIN || self.index.has_fewer(range, KEYS_MIN);
        if has_few || !self.create_order.has_room_for(range) {
            return;
        }
        let live = self.index.range(range).filter_map(|slot| self.slot(slot).live());
        let keys = live.map(|kv| (kv.create_revision(), kv.key().into())).collect();
        self.create_order.index_range(range, keys);
    }

    /// Returns the first `cap` pairs of a range in key order, and the number of keys in the range.
    fn scan(&self, get: &Get, at: Option<Revision>, cap: usize) -> (Vec<KeyValue>, i64) {
        let mut found = Scanned { kvs: Vec::new(), count: 0, cap: if get.count_only { 0 } else { cap } };
        let slots = self.index.range(&get.range);
        match at {
            Some(revision) => {
                slots.filter_map(|slot| self.slot(slot).live_at(revision)).for_each(|kv| found.add(kv))
            }
            None => self.scan_latest(get, slots, &mut found),
        }
        (found.kvs, found.count)
    }

    /// Scans the latest state in batches. The newest versions of a batch are all looked up before the first version is
    /// read, so that the processor's waits for memory overlap.
    fn scan_latest(&self, get: &Get, mut slots: Slots<'_>, found: &mut Scanned) {
        let is_counted = covers_everything(&get.range);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            // The range covers all keys, whose number is known, so the scan can stop at the cap.
            if is_counted && found.kvs.len() >= found.cap {
                found.count = self.live_keys().cast_signed();
                return;
            }
            batch.clear();
            batch.extend(slots.by_ref().take(BATCH).map(|slot| self.index.newest(slot)));
            if batch.is_empty() {
                return;
            }
            found.kvs.reserve(batch.len().min(found.cap - found.kvs.len()));
            batch.iter().filter(|kv| !kv.is_tombstone()).for_each(|kv| found.add(kv));
        }
    }

    /// Returns a page of a range at a revision: the first `limit` pairs in key order, and whether the range has more.
    pub(in crate::engine) fn page(
        &self,
        range: &KeyRange,
        at: Revision,
        limit: usize,
    ) -> (Vec<KeyValue>, bool) {
        let slots = self.index.range(range).filter_map(|slot| self.slot(slot).live_at(at));
        let mut kvs: Vec<KeyValue> = slots.take(limit.saturating_add(1)).cloned().collect();
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        (kvs, more)
    }
}

/// The result of a scan: the first `cap` pairs, and the number of all pairs in the range.
struct Scanned {
    kvs: Vec<KeyValue>,
    count: i64,
    cap: usize,
}

impl Scanned {
    fn add(&mut self, kv: &KeyValue) {
        self.count += 1;
        if self.kvs.len() < self.cap {
            self.kvs.push(kv.clone());
        }
    }
}

/// Returns whether the range starts at `"\0"` and has no upper end. Such a range contains every key, because no key is
/// empty.
fn covers_everything(range: &KeyRange) -> bool {
    range.is_from_key() && range.start() == b"\0"
}

fn in_key_order(get: &Get) -> bool {
    match get.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => get.sort_target == SortTarget::Key,
        SortOrder::Descend | SortOrder::Unrecognized => false,
    }
}

fn has_filter(get: &Get) -> bool {
    get.revision_bounds() != [0; 4]
}

/// Returns whether a pair passes the revision bounds. Bounds are inclusive, and 0 means no bound (R-RNG-4, step 6).
fn passes(get: &Get, kv: &KeyValue) -> bool {
    let (modified, created) = (kv.mod_revision().get(), kv.create_revision().get());
    let above = |bound: i64, number: i64| bound != 0 && number > bound;
    let below = |bound: i64, number: i64| bound != 0 && number < bound;
    !above(get.max_mod_revision, modified)
        && !below(get.min_mod_revision, modified)
        && !above(get.max_create_revision, created)
        && !below(get.min_create_revision, created)
}

/// Sorts pairs that are in key order. The sort is stable, so ties keep ascending key order in both directions
/// (R-RNG-8).
fn sort(get: &Get, kvs: &mut [KeyValue]) {
    let descend = get.sort_order == SortOrder::Descend;
    if get.sort_target == SortTarget::Key && !descend {
        return;
    }
    let compare = |a: &KeyValue, b: &KeyValue| match get.sort_target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.version().cmp(&b.version()),
        SortTarget::CreateRevision => a.create_revision().cmp(&b.create_revision()),
        SortTarget::ModRevision => a.mod_revision().cmp(&b.mod_revision()),
        SortTarget::Value => a.value().cmp(b.value()),
        // `check_get` rejects an unknown target.
        SortTarget::Unrecognized => Ordering::Equal,
    };
    if descend {
        kvs.sort_by(|a, b| compare(b, a));
    } else {
        kvs.sort_by(compare);
    }
}
