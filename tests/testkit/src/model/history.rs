//! The list of records and its queries.

use std::collections::{BTreeMap, BTreeSet};

use super::super::wire::Kv;
use super::{Record, State};

/// R-RNG-1: returns whether the interval from `key` to `range_end` contains `candidate`.
pub(super) fn holds(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    }
}

impl State {
    /// Returns the pairs that are alive at a revision, by key.
    pub(super) fn at(&self, revision: i64) -> BTreeMap<&[u8], &Kv> {
        let mut alive = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.main <= revision) {
            match &record.kv {
                Some(kv) => alive.insert(record.key.as_slice(), kv),
                None => alive.remove(record.key.as_slice()),
            };
        }
        alive
    }

    /// Returns the pairs that are alive now. Inside a transaction, its changes so far are included (R-TXN-12).
    pub(super) fn latest(&self) -> BTreeMap<&[u8], &Kv> {
        self.at(i64::MAX)
    }

    /// Returns the pairs of an interval that are alive at a revision, in key order.
    pub(super) fn within(&self, key: &[u8], range_end: &[u8], revision: i64) -> Vec<&Kv> {
        self.at(revision).into_values().filter(|kv| holds(key, range_end, &kv.key)).collect()
    }

    /// Returns the live pair of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Kv> {
        self.latest().get(key).copied()
    }

    /// Returns the header's revision inside a transaction: `current`, or one more after the first change (R-REV-7).
    pub(super) fn header(&self) -> i64 {
        match self.records.last() {
            Some(record) if record.main > self.current => record.main,
            _ => self.current,
        }
    }

    /// Appends a change to the transaction. All its changes have one main revision and are numbered from 0 (R-REV-2).
    pub(super) fn record(&mut self, key: &[u8], kv: Option<Kv>) {
        let main = self.current + 1;
        let sub = self.records.iter().filter(|record| record.main == main).count() as i64;
        self.records.push(Record { key: key.to_vec(), main, sub, kv });
    }

    /// Ends a transaction: a new revision if anything changed (R-REV-2, R-REV-3).
    pub(super) fn commit(&mut self) {
        self.current = self.header();
    }

    /// Returns the records that compaction keeps (R-CMP-2).
    pub(super) fn retained(&self) -> Vec<&Record> {
        let mut newest = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.main <= self.compacted) {
            newest.insert(record.key.as_slice(), (record.main, record.sub));
        }
        let survives = |record: &&Record| {
            let is_newest = newest.get(record.key.as_slice()) == Some(&(record.main, record.sub));
            // A tombstone below the compacted revision is dropped, even if it is the newest record.
            let is_worth_it = record.kv.is_some() || record.main == self.compacted;
            record.main > self.compacted || (is_newest && is_worth_it)
        };
        self.records.iter().filter(survives).collect()
    }

    /// Returns the bytes held as the quota counts them: without tombstones.
    pub(super) fn bytes_for_quota(&self) -> u64 {
        let tombstones = self.retained().into_iter().filter(|record| record.kv.is_none());
        self.bytes() - tombstones.map(|record| 96 + record.key.len() as u64).sum::<u64>()
    }

    /// Returns the bytes held: 96 plus key and value for each version, 112 plus the key for each key with a version, and 96 for
    /// each lease.
    pub(super) fn bytes(&self) -> u64 {
        let retained = self.retained();
        let keys: BTreeSet<&[u8]> = retained.iter().map(|record| record.key.as_slice()).collect();
        let value_len = |record: &Record| record.kv.as_ref().map_or(0, |kv| kv.value.len());
        let versions: usize = retained.iter().map(|record| 96 + record.key.len() + value_len(record)).sum();
        let names: usize = keys.iter().map(|key| 112 + key.len()).sum();
        (versions + names + 96 * self.leases.len()) as u64
    }
}
