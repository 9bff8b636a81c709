//! HashKV (R-MNT-1 to R-MNT-3).

use std::collections::BTreeSet;

use super::super::wire::{Kv, Response};
use super::{Model, Refusal, Row, Stage, State, proto};

impl Model {
    /// R-MNT-1. A negative revision counts as 0.
    pub(super) fn hash_kv(&self, revision: i64) -> Result<Response, Refusal> {
        if revision > self.state.current {
            return Err(Stage::Dynamic.refuses(Row::Future));
        }
        if revision > 0 && revision <= self.state.compacted {
            return Err(Stage::Dynamic.refuses(Row::Compacted));
        }
        let at = if revision <= 0 { self.state.current } else { revision };
        Ok(Response::HashKv {
            revision: self.state.current,
            hash: self.state.hash(at),
            compact_revision: self.state.compacted,
        })
    }
}

impl State {
    /// R-MNT-2.
    fn hash(&self, revision: i64) -> u32 {
        let keep = self.keep(revision);
        let mut bytes = b"key".to_vec();
        for record in self.retained().into_iter().filter(|record| record.main <= revision) {
            let is_old = record.main <= self.compacted;
            // With no live key the set is empty, and old records are not filtered by it (R-MNT-2).
            if is_old && !keep.is_empty() && !keep.contains(&(record.main, record.sub)) {
                continue;
            }
            if record.main == self.compacted && record.kv.is_none() {
                continue;
            }
            bytes.extend_from_slice(&record.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&record.sub.to_be_bytes());
            let tombstone = Kv { key: record.key.clone(), ..Kv::default() };
            if record.kv.is_none() {
                bytes.push(b't');
            }
            bytes.extend(proto::key_value(record.kv.as_ref().unwrap_or(&tombstone)).into_bytes());
        }
        crc32c(&bytes)
    }

    /// Returns (main, sub) of the newest record of each key that is alive at the revision.
    fn keep(&self, revision: i64) -> BTreeSet<(i64, i64)> {
        let alive = self.at(revision);
        let newest = |key: &[u8]| {
            let mut records = self.records.iter().rev();
            records.find(|record| record.main <= revision && record.key == key)
        };
        alive.keys().filter_map(|key| newest(key)).map(|record| (record.main, record.sub)).collect()
    }
}

/// Returns the CRC-32C (Castagnoli) of bytes, computed bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
