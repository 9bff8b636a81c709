//! etcd's hash of the key space (R-MNT-2): CRC-32C over the records as etcd encodes them on disk.

use super::key_space::KeySpace;
use crate::Result;
use crate::api::{KeyValue, Revision};

impl KeySpace {
    /// Returns the hash of the retained records up to `revision`, and the hashed revision. A `revision` of 0 or below
    /// means the current revision, which can be hashed even if it is compacted (R-MNT-1).
    pub(in crate::engine) fn hash_kv(&self, revision: Revision) -> Result<(u32, Revision)> {
        self.check_not_future(revision)?;
        if revision.get() > 0 && revision <= self.compacted_or_minus_one() {
            return Err(self.compacted_error(revision));
        }
        let revision = if revision.get() > 0 { revision } else { self.current() };
        let compacted = self.compacted_or_minus_one();
        let mut records = Vec::new();
        // etcd's oddity (R-MNT-2): superseded versions at or below the compacted revision are skipped only if some key
        // is live at `revision`. If no key is live at `revision`, superseded versions are hashed too.
        let mut keeps_any = false;
        for (_, slot) in self.index.iter() {
            let slot = self.slot(slot);
            let kept = slot.live_at(revision);
            keeps_any |= kept.is_some();
            let held = slot.retained(compacted).filter(|kv| kv.mod_revision() <= revision);
            records.extend(held.filter_map(|kv| {
                let old = kv.mod_revision() <= compacted;
                let is_kept = kept.is_some_and(|kept| kept.same_record(kv));
                // A tombstone at the compacted revision is never hashed (R-MNT-2). The flag in the pair marks a version
                // at or below the compacted revision that is not the live version of its key at `revision`.
                (!old || !kv.is_tombstone()).then_some((kv, old && !is_kept))
            }));
        }
        // The loop collects the records key by key, but etcd hashes them in the order of changes.
        records.sort_by_key(|(kv, _)| (kv.mod_revision(), kv.sub()));
        let mut crc = Crc32c::new();
        crc.write(b"key");
        let mut encoded = Vec::new();
        for (kv, superseded) in records {
            if !(superseded && keeps_any) {
                encoded.clear();
                encode_record(kv, &mut encoded);
                crc.write(&encoded);
            }
        }
        Ok((crc.finish(), revision))
    }
}

/// Appends a record as etcd stores it on disk: the revision as the record's key, and then the key-value pair in
/// protobuf.
fn encode_record(kv: &KeyValue, into: &mut Vec<u8>) {
    into.extend_from_slice(&kv.mod_revision().get().to_be_bytes());
    into.push(b'_');
    into.extend_from_slice(&i64::from(kv.sub()).to_be_bytes());
    if kv.is_tombstone() {
        into.push(b't');
        encode_bytes(1, kv.key(), into);
        return;
    }
    encode_bytes(1, kv.key(), into);
    encode_number(2, kv.create_revision().get(), into);
    encode_number(3, kv.mod_revision().get(), into);
    encode_number(4, kv.version(), into);
    encode_bytes(5, kv.value(), into);
    encode_number(6, kv.lease().get(), into);
}

/// Appends a protobuf field of bytes. Protobuf omits a field that is empty.
fn encode_bytes(field: u8, bytes: &[u8], into: &mut Vec<u8>) {
    if !bytes.is_empty() {
        into.push(field << 3 | 2);
        encode_varint(bytes.len() as u64, into);
        into.extend_from_slice(bytes);
    }
}

/// Appends a protobuf field with a number. Protobuf omits a field that is 0.
fn encode_number(field: u8, number: i64, into: &mut Vec<u8>) {
    if number != 0 {
        into.push(field << 3);
        encode_varint(number.cast_unsigned(), into);
    }
}

fn encode_varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// A CRC-32C (Castagnoli, reflected) of the bytes written so far. HashKV and saves use this checksum.
#[derive(Debug)]
pub(crate) struct Crc32c(u32);

/// The CRC-32C of each single byte, from the reflected polynomial `0x82f63b78`.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

impl Crc32c {
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 >> 8 ^ TABLE[usize::from(self.0 as u8 ^ byte)];
        }
    }

    pub(crate) const fn finish(&self) -> u32 {
        !self.0
    }
}
