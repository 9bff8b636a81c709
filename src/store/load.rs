//! Reading what was saved: see `save.rs` for the format. No length that is read is believed before as many bytes are there.

use std::io::{self, Read};
use std::time::Duration;

use super::save::{BY_HAND, CHUNK_MAX, CORRUPT, MAGIC, NO_SPACE, STANDING, VERSION};
use crate::api::{Alarm, AlarmType, Fields, LeaseId, Revision, Timestamp};
use crate::engine::{Crc32c, Engine, EngineConfig, Heading, Inconsistent, Restore, SavedLease, SavedRenewal};

/// Why a save was not loaded. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The reader refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else: it does not begin as saves do.
    #[error("not a save of a store")]
    NotASave,
    /// It was saved by a newer version of this crate, in a format that this one does not know.
    #[error("saved in format {found}, which is newer than format {known}, the newest known")]
    NewerVersion {
        /// The format's version.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It ends too soon.
    #[error("the save is truncated")]
    Truncated,
    /// It was changed since, or made by something that does not know how: a checksum is wrong, or what it says cannot be
    /// the state of a store.
    #[error("the save is corrupt: {what}")]
    Corrupt {
        /// What was found to be wrong first.
        what: &'static str,
    },
}

type Result<T> = std::result::Result<T, LoadError>;

impl From<Inconsistent> for LoadError {
    fn from(Inconsistent(what): Inconsistent) -> Self {
        Self::Corrupt { what }
    }
}

impl Engine {
    /// An engine with the state that was saved, whose time begins at `now`, in the way of
    /// [`StoreBuilder::load`](crate::StoreBuilder::load).
    ///
    /// ```
    /// use leasehold::{Engine, EngineConfig, Put, Timestamp};
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("config/mode", "blue"))?;
    /// let mut saved = Vec::new();
    /// engine.save(&mut saved)?;
    ///
    /// let loaded = Engine::load(EngineConfig::default(), engine.now(), &saved[..])?;
    /// assert_eq!(loaded.state_hash(), engine.state_hash());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`LoadError`], if that is not a whole and sound save of a known format, or if the reader refuses.
    pub fn load(config: EngineConfig, now: Timestamp, mut from: impl Read) -> Result<Self> {
        Ok(read_snapshot(config, &mut from)?.start(now)?)
    }
}

/// Reads up to the end of the save, and no further.
pub(super) fn read_snapshot(config: EngineConfig, from: &mut dyn Read) -> Result<Restore> {
    let mut chunks = Chunks::begin(from)?;
    let heading = Heading {
        compacted: Some(Revision::new(chunks.signed()?)).filter(|&revision| revision != Revision::new(-1)),
        next_lease_id: chunks.signed()?,
        next_lease_sequence: chunks.long()?,
    };
    let (leases, alarms, versions) = (chunks.long()?, chunks.long()?, chunks.long()?);
    let mut restore = Restore::new(config, heading)?;
    for _ in 0..leases {
        restore.lease(read_lease(&mut chunks)?)?;
    }
    for _ in 0..alarms {
        restore.alarm(read_alarm(&mut chunks)?)?;
    }
    let mut text = Vec::new();
    for _ in 0..versions {
        read_version(&mut restore, &mut text, &mut chunks)?;
    }
    chunks.end()?;
    Ok(restore)
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

/// Reads a version; `text` is where its key and value come together.
fn read_version(restore: &mut Restore, text: &mut Vec<u8>, chunks: &mut Chunks<'_>) -> Result<()> {
    let fields = Fields {
        create_revision: Revision::new(chunks.signed()?),
        mod_revision: Revision::new(chunks.signed()?),
        version: chunks.signed()?,
        lease: LeaseId::new(chunks.signed()?),
        sub: chunks.short()?,
    };
    let (key_len, value_len) = (chunks.short()? as usize, chunks.short()? as usize);
    text.clear();
    text.shrink_to(CHUNK_MAX);
    chunks.take(key_len, text)?;
    chunks.take(value_len, text)?;
    let (key, value) = text.split_at(key_len);
    Ok(restore.version(key, value, fields)?)
}

/// Gives what the chunks hold, of each only after its checksum was compared.
struct Chunks<'a> {
    from: &'a mut dyn Read,
    crc: Crc32c,
    chunk: Vec<u8>,
    /// How much of the chunk was given.
    given: usize,
}

impl<'a> Chunks<'a> {
    fn begin(from: &'a mut dyn Read) -> Result<Self> {
        let mut magic = Vec::new();
        (&mut *from).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(LoadError::NotASave);
        }
        let mut chunks = Self { from, crc: Crc32c::new(), chunk: Vec::new(), given: 0 };
        chunks.crc.write(&magic);
        let version = u32::from_le_bytes(chunks.raw()?);
        chunks.crc.write(&version.to_le_bytes());
        chunks.check()?;
        match version {
            VERSION => Ok(chunks),
            0 => Err(LoadError::Corrupt { what: "the version of the format" }),
            found => Err(LoadError::NewerVersion { found, known: VERSION }),
        }
    }

    /// The next bytes as they come.
    fn raw<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(truncated)?;
        Ok(bytes)
    }

    /// Compares the checksum that comes next.
    fn check(&mut self) -> Result<()> {
        if u32::from_le_bytes(self.raw()?) == self.crc.finish() {
            Ok(())
        } else {
            Err(LoadError::Corrupt { what: "a checksum" })
        }
    }

    /// Reads the next chunk, once the one before was given whole.
    fn next_chunk(&mut self) -> Result<()> {
        let length = self.raw()?;
        self.crc.write(&length);
        let length = u32::from_le_bytes(length) as usize;
        if length > CHUNK_MAX {
            return Err(LoadError::Corrupt { what: "the length of a chunk" });
        }
        self.chunk.resize(length, 0);
        self.from.read_exact(&mut self.chunk).map_err(truncated)?;
        self.crc.write(&self.chunk);
        self.given = 0;
        self.check()
    }

    /// The next bytes, some but not more than `most`.
    fn next(&mut self, most: usize) -> Result<&[u8]> {
        if self.given == self.chunk.len() {
            self.next_chunk()?;
        }
        let left = &self.chunk[self.given..];
        if left.is_empty() {
            return Err(LoadError::Corrupt { what: "it ends before its last version" });
        }
        let next = &left[..most.min(left.len())];
        self.given += next.len();
        Ok(next)
    }

    /// Appends the next `length` bytes.
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

    /// Reads the empty chunk, once all others were given whole.
    fn end(mut self) -> Result<()> {
        if self.given == self.chunk.len() {
            self.next_chunk()?;
        }
        if self.chunk.is_empty() {
            Ok(())
        } else {
            Err(LoadError::Corrupt { what: "it goes on after its last version" })
        }
    }
}

fn truncated(error: io::Error) -> LoadError {
    if error.kind() == io::ErrorKind::UnexpectedEof { LoadError::Truncated } else { LoadError::Io(error) }
}
