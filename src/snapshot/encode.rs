//! Writes saves.

use std::io::{self, Write};
use std::time::Duration;

use super::{BY_HAND, CHUNK_MAX, CORRUPT, FORMAT, MAGIC, NO_SPACE, STANDING, Saved};
use crate::api::{AlarmType, KeyValue};
use crate::engine::{Crc32c, SavedLease, SavedRenewal, Snapshot};

/// Writes a snapshot as a save, in chunks of at most [`CHUNK_MAX`] bytes. Returns a summary of the save.
pub(crate) fn write_snapshot(mut snapshot: Snapshot, into: &mut dyn Write) -> io::Result<Saved> {
    // Versions ascend by revision in a save, but the old versions are in the order of their keys.
    snapshot.old.sort_unstable_by_key(|kv| (kv.mod_revision(), kv.sub()));
    let mut chunks = Chunks::begin(into)?;
    chunks.write(&snapshot.current.get().to_le_bytes())?;
    let header = &snapshot.header;
    chunks.write(&header.compacted.map_or(-1, |revision| revision.get()).to_le_bytes())?;
    chunks.write(&header.next_lease_id.to_le_bytes())?;
    chunks.write(&header.next_lease_sequence.to_le_bytes())?;
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
        compact_revision: header.compacted,
        keys: snapshot.keys,
        versions: versions as u64,
        leases: snapshot.leases.len() as u64,
        bytes,
        checksum,
    })
}

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

/// Writes bytes to `into` in chunks, each with its length and a checksum.
struct Chunks<'a> {
    into: &'a mut dyn Write,
    crc: Crc32c,
    /// Space for the length of the current chunk, followed by the bytes of the chunk.
    chunk: Vec<u8>,
    /// The number of bytes written to `into`.
    written: u64,
}

/// The number of bytes that the length of a chunk takes.
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
            // Write a full chunk at once, so that no chunk has more than `CHUNK_MAX` bytes of contents.
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
        // The running checksum covers everything that is written, except the checksums.
        self.crc.write(&self.chunk);
        self.chunk.extend_from_slice(&self.crc.finish().to_le_bytes());
        self.into.write_all(&self.chunk)?;
        self.written += self.chunk.len() as u64;
        self.chunk.truncate(LENGTH);
        Ok(())
    }

    /// Writes the buffered bytes and the empty chunk that ends a save, and flushes `into`. Returns the number of bytes
    /// written and the last checksum.
    fn end(mut self) -> io::Result<(u64, u32)> {
        if self.chunk.len() > LENGTH {
            self.write_chunk()?;
        }
        self.write_chunk()?;
        self.into.flush()?;
        Ok((self.written, self.crc.finish()))
    }
}
