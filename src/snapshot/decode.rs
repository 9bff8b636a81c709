//! Reads saves. Memory is allocated only as bytes arrive, so that a corrupt length does not exhaust the memory.

use std::io::{self, Read};
use std::time::Duration;

use super::{BY_HAND, CHUNK_MAX, CORRUPT, FORMAT, LoadError, MAGIC, NO_SPACE, STANDING};
use crate::api::{Alarm, AlarmType, Fields, LeaseId, Revision};
use crate::engine::{Crc32c, EngineConfig, Restorer, SavedLease, SavedRenewal, SnapshotHeader};

type Result<T> = std::result::Result<T, LoadError>;

/// Reads a save up to its last byte, and no byte after it.
pub(crate) fn read_snapshot(config: EngineConfig, from: &mut dyn Read) -> Result<Restorer> {
    let (mut chunks, format) = Chunks::begin(from)?;
    // Format 1 does not store the current revision, which is the mod revision of the newest version.
    let current = if format == 1 { None } else { Some(Revision::new(chunks.signed()?)) };
    let header = SnapshotHeader {
        compacted: Some(Revision::new(chunks.signed()?)).filter(|&revision| revision != Revision::new(-1)),
        next_lease_id: chunks.signed()?,
        next_lease_sequence: chunks.long()?,
    };
    let (leases, alarms, versions) = (chunks.long()?, chunks.long()?, chunks.long()?);
    let mut restorer = Restorer::new(config, current, header)?;
    for _ in 0..leases {
        restorer.add_lease(read_lease(&mut chunks)?)?;
    }
    for _ in 0..alarms {
        restorer.add_alarm(read_alarm(&mut chunks)?)?;
    }
    let mut text = Vec::new();
    for _ in 0..versions {
        read_version(&mut restorer, &mut text, &mut chunks)?;
    }
    chunks.end()?;
    Ok(restorer)
}

fn read_lease(chunks: &mut Chunks<'_>) -> Result<SavedLease> {
    let id = LeaseId::new(chunks.signed()?);
    let ttl = read_duration(chunks)?;
    let sequence = chunks.long()?;
    let kind = chunks.byte()?;
    let time = read_duration(chunks)?;
    let renewal = match kind {
        BY_HAND => SavedRenewal::ByHand { remaining: time },
        STANDING => SavedRenewal::Standing { elapsed: time },
        _ => return Err(LoadError::Corrupt { what: "the kind of a lease" }),
    };
    Ok(SavedLease { id, ttl, sequence, renewal })
}

fn read_duration(chunks: &mut Chunks<'_>) -> Result<Duration> {
    let (seconds, nanos) = (chunks.long()?, chunks.short()?);
    if nanos >= 1_000_000_000 {
        return Err(LoadError::Corrupt { what: "a duration" });
    }
    Ok(Duration::new(seconds, nanos))
}

fn read_alarm(chunks: &mut Chunks<'_>) -> Result<Alarm> {
    let member_id = chunks.long()?;
    let alarm = match chunks.byte()? {
        NO_SPACE => AlarmType::NoSpace,
        CORRUPT => AlarmType::Corrupt,
        _ => return Err(LoadError::Corrupt { what: "the kind of an alarm" }),
    };
    Ok(Alarm { member_id, alarm })
}

/// Reads a version and adds it to `restorer`. `text` is a buffer for the key and value, which the caller passes again
/// for each version.
fn read_version(restorer: &mut Restorer, text: &mut Vec<u8>, chunks: &mut Chunks<'_>) -> Result<()> {
    let fields = Fields {
        create_revision: Revision::new(chunks.signed()?),
        mod_revision: Revision::new(chunks.signed()?),
        version: chunks.signed()?,
        lease: LeaseId::new(chunks.signed()?),
        sub: chunks.short()?,
    };
    let (key_len, value_len) = (chunks.short()? as usize, chunks.short()? as usize);
    text.clear();
    // Free the memory of a large value, which the remaining versions may not need.
    text.shrink_to(CHUNK_MAX);
    chunks.take(key_len, text)?;
    chunks.take(value_len, text)?;
    let (key, value) = text.split_at(key_len);
    Ok(restorer.add_version(key, value, fields)?)
}

/// Reads the bytes of chunks, and returns the bytes of a chunk only after its checksum matched.
struct Chunks<'a> {
    from: &'a mut dyn Read,
    crc: Crc32c,
    chunk: Vec<u8>,
    /// The number of bytes of `chunk` that `next` has returned.
    consumed: usize,
}

impl<'a> Chunks<'a> {
    /// Reads the preamble. Returns a reader of the chunks, and the number of the format, which is at most `FORMAT`.
    fn begin(from: &'a mut dyn Read) -> Result<(Self, u32)> {
        let mut magic = Vec::new();
        // Unlike `read_exact`, `read_to_end` returns the bytes of a short input, which decide whether the input is a
        // truncated save or no save.
        (&mut *from).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(LoadError::BadMagic);
        }
        let mut chunks = Self { from, crc: Crc32c::new(), chunk: Vec::new(), consumed: 0 };
        chunks.crc.write(&magic);
        let format = u32::from_le_bytes(chunks.raw()?);
        chunks.crc.write(&format.to_le_bytes());
        chunks.check()?;
        match format {
            0 => Err(LoadError::Corrupt { what: "the version of the format" }),
            1..=FORMAT => Ok((chunks, format)),
            found => Err(LoadError::NewerVersion { found, known: FORMAT }),
        }
    }

    /// Reads the next `N` bytes of the input, which are not the contents of a chunk.
    fn raw<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(truncated)?;
        Ok(bytes)
    }

    /// Reads a checksum from the input, and compares it with the checksum of all bytes before it except other
    /// checksums.
    fn check(&mut self) -> Result<()> {
        if u32::from_le_bytes(self.raw()?) == self.crc.finish() {
            Ok(())
        } else {
            Err(LoadError::Corrupt { what: "a checksum" })
        }
    }

    /// Reads the next chunk. Called when `next` has returned all bytes of the current chunk.
    fn next_chunk(&mut self) -> Result<()> {
        let length = self.raw()?;
        self.crc.write(&length);
        let length = u32::from_le_bytes(length) as usize;
        // Check before the allocation: the checksum that would reveal a corrupt length comes only after the chunk.
        if length > CHUNK_MAX {
            return Err(LoadError::Corrupt { what: "the length of a chunk" });
        }
        self.chunk.resize(length, 0);
        self.from.read_exact(&mut self.chunk).map_err(truncated)?;
        self.crc.write(&self.chunk);
        self.consumed = 0;
        self.check()
    }

    /// Returns the next bytes of the contents: at least one and at most `most` bytes.
    fn next(&mut self, most: usize) -> Result<&[u8]> {
        if self.consumed == self.chunk.len() {
            self.next_chunk()?;
        }
        let left = &self.chunk[self.consumed..];
        // The empty chunk ends a save, so a record is incomplete.
        if left.is_empty() {
            return Err(LoadError::Corrupt { what: "the input ends before the last version" });
        }
        let next = &left[..most.min(left.len())];
        self.consumed += next.len();
        Ok(next)
    }

    /// Appends the next `length` bytes of the contents to `into`.
    fn take(&mut self, mut length: usize, into: &mut Vec<u8>) -> Result<()> {
        while length > 0 {
            let next = self.next(length)?;
            into.extend_from_slice(next);
            length -= next.len();
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let next = self.next(N - filled)?;
            array[filled..filled + next.len()].copy_from_slice(next);
            filled += next.len();
        }
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn short(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn long(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn signed(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Reads the empty chunk that ends a save. Fails if any contents are left.
    fn end(mut self) -> Result<()> {
        if self.consumed == self.chunk.len() {
            self.next_chunk()?;
        }
        if self.chunk.is_empty() {
            Ok(())
        } else {
            Err(LoadError::Corrupt { what: "the input continues after the last version" })
        }
    }
}

fn truncated(error: io::Error) -> LoadError {
    if error.kind() == io::ErrorKind::UnexpectedEof { LoadError::Truncated } else { LoadError::Io(error) }
}
