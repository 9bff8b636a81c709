//! Writing a store's state.
//!
//! A save begins with a preamble of 20 bytes, which every format has: [`MAGIC`], the format's number, and a checksum.
//! Chunks follow, each with its length, its bytes and a checksum; the last chunk is empty. A checksum is the CRC-32C of
//! all preceding bytes except other checksums, so a chunk cannot be omitted, moved or replaced by one from another save.
//!
//! The bytes of the chunks, concatenated, are these records. Numbers are little endian.
//!
//! | record | fields |
//! |---|---|
//! | heading | current revision (since format 2), compacted revision or -1, next lease id, number of leases granted; how many leases, alarms and versions follow |
//! | lease | id, TTL, sequence, 0 and the remaining time or 1 and the time since the last renewal |
//! | alarm | member, 1 for NOSPACE or 2 for CORRUPT |
//! | version | create revision, mod revision, version, lease, position in its revision, lengths of key and value; both |
//!
//! Lengths and positions have 32 bits, kinds 8, times 64 of seconds and 32 of nanoseconds, and other numbers 64.
//!
//! In format 1, the current revision is the newest version's mod revision. A bumped revision has no version, hence format 2.

use std::io::{self, Write};
use std::time::Duration;

use crate::Error;
use crate::api::{AlarmType, KeyValue, Revision};
use crate::engine::{Crc32c, Engine, SavedLease, SavedRenewal, Snapshot};

/// Like PNG's signature: the first byte is not text, and CR LF reveals a conversion of line ends.
pub(super) const MAGIC: [u8; 12] = *b"\x89leasehold\r\n";

/// The format that is written, and the newest that can be read.
pub(super) const FORMAT: u32 = 2;

pub(super) const CHUNK_MAX: usize = 64 * 1024;

/// The error of [`Store::save`](crate::Store::save).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The writer failed; its output is incomplete.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed: [`Error::Stopped`] after [`Store::close`](crate::Store::close).
    #[error(transparent)]
    Store(#[from] Error),
}

/// The summary of a save, like etcd's `snapshot status`.
///
/// It describes the saved state, which may be older than the store's state when [`Store::save`](crate::Store::save)
/// returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    revision: Revision,
    compact_revision: Option<Revision>,
    keys: u64,
    versions: u64,
    leases: u64,
    bytes: u64,
    checksum: u32,
}

impl Saved {
    /// The current revision of the saved state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The compacted revision; `None` if the store was never compacted.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// The number of keys that exist.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The number of versions written, tombstones included.
    pub fn versions(&self) -> u64 {
        self.versions
    }

    /// The number of leases.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// The number of bytes written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksum: CRC-32C, also the last four bytes of the save in little endian. Equal states have equal checksums.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }
}

impl Engine {
    /// Saves the state, as [`Store::save`](crate::Store::save) does, and returns a summary. Leases are saved with the
    /// time that remains at the time of the last [`advance`](Self::advance).
    ///
    /// # Errors
    ///
    /// Returns the writer's error.
    pub fn save(&self, mut into: impl Write) -> io::Result<Saved> {
        write_snapshot(self.snapshot(), &mut into)
    }
}

/// Writes a snapshot in pieces of at most [`CHUNK_MAX`] bytes plus length and checksum.
pub(super) fn write_snapshot(mut snapshot: Snapshot, into: &mut dyn Write) -> io::Result<Saved> {
    snapshot.old.sort_unstable_by_key(|kv| (kv.mod_revision(), kv.sub()));
    let mut chunks = Chunks::begin(into)?;
    chunks.write(&snapshot.current.get().to_le_bytes())?;
    let heading = &snapshot.heading;
    chunks.write(&heading.compacted.map_or(-1, |revision| revision.get()).to_le_bytes())?;
    chunks.write(&heading.next_lease_id.to_le_bytes())?;
    chunks.write(&heading.next_lease_sequence.to_le_bytes())?;
    let versions = snapshot.old.len() + snapshot.changes.len();
    for count in [snapshot.leases.len(), snapshot.alarms.len(), versions] {
        chunks.write(&(count as u64).to_le_bytes())?;
    }
    for lease in &snapshot.leases {
        write_lease(lease, &mut chunks)?;
    }
    for alarm in &snapshot.alarms {
        chunks.write(&alarm.member_id.to_le_bytes())?;
        chunks.write(&[if alarm.alarm == AlarmType::NoSpace { NO_SPACE } else { CORRUPT }])?;
    }
    for kv in snapshot.old.iter().chain(&snapshot.changes) {
        write_version(kv, &mut chunks)?;
    }
    let (bytes, checksum) = chunks.end()?;
    Ok(Saved {
        revision: snapshot.current,
        compact_revision: heading.compacted,
        keys: snapshot.keys,
        versions: versions as u64,
        leases: snapshot.leases.len() as u64,
        bytes,
        checksum,
    })
}

pub(super) const BY_HAND: u8 = 0;
pub(super) const STANDING: u8 = 1;
pub(super) const NO_SPACE: u8 = 1;
pub(super) const CORRUPT: u8 = 2;

fn write_lease(lease: &SavedLease, chunks: &mut Chunks<'_>) -> io::Result<()> {
    let (kind, time) = match lease.renewal {
        SavedRenewal::ByHand { remaining } => (BY_HAND, remaining),
        SavedRenewal::Standing { elapsed } => (STANDING, elapsed),
    };
    chunks.write(&lease.id.get().to_le_bytes())?;
    write_duration(lease.ttl, chunks)?;
    chunks.write(&lease.sequence.to_le_bytes())?;
    chunks.write(&[kind])?;
    write_duration(time, chunks)
}

fn write_duration(duration: Duration, chunks: &mut Chunks<'_>) -> io::Result<()> {
    chunks.write(&duration.as_secs().to_le_bytes())?;
    chunks.write(&duration.subsec_nanos().to_le_bytes())
}

fn write_version(kv: &KeyValue, chunks: &mut Chunks<'_>) -> io::Result<()> {
    let numbers = [kv.create_revision().get(), kv.mod_revision().get(), kv.version(), kv.lease().get()];
    for number in numbers {
        chunks.write(&number.to_le_bytes())?;
    }
    chunks.write(&kv.sub().to_le_bytes())?;
    for bytes in [kv.key(), kv.value()] {
        let length = u32::try_from(bytes.len()).expect("a key or value is shorter than 4 GiB");
        chunks.write(&length.to_le_bytes())?;
    }
    chunks.write(kv.key())?;
    chunks.write(kv.value())
}

/// Cuts the written bytes into chunks.
struct Chunks<'a> {
    into: &'a mut dyn Write,
    crc: Crc32c,
    /// Space for the length, and the bytes of the current chunk.
    chunk: Vec<u8>,
    /// The number of bytes written to `into`.
    written: u64,
}

const LENGTH: usize = 4;

impl<'a> Chunks<'a> {
    fn begin(into: &'a mut dyn Write) -> io::Result<Self> {
        let mut crc = Crc32c::new();
        let mut preamble = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
        crc.write(&preamble);
        preamble.extend_from_slice(&crc.finish().to_le_bytes());
        into.write_all(&preamble)?;
        Ok(Self { into, crc, chunk: vec![0; LENGTH], written: preamble.len() as u64 })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = LENGTH + CHUNK_MAX - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            if now.len() == room {
                self.write_chunk()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let length = (self.chunk.len() - LENGTH) as u32;
        self.chunk[..LENGTH].copy_from_slice(&length.to_le_bytes());
        self.crc.write(&self.chunk);
        self.chunk.extend_from_slice(&self.crc.finish().to_le_bytes());
        self.into.write_all(&self.chunk)?;
        self.written += self.chunk.len() as u64;
        self.chunk.truncate(LENGTH);
        Ok(())
    }

    /// Writes the rest and the empty chunk. Returns the number of bytes written and the last checksum.
    fn end(mut self) -> io::Result<(u64, u32)> {
        if self.chunk.len() > LENGTH {
            self.write_chunk()?;
        }
        self.write_chunk()?;
        self.into.flush()?;
        Ok((self.written, self.crc.finish()))
    }
}
