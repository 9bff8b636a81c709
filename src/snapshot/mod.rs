//! Saves, which hold the state of a store as bytes, and the errors of writing and reading a save.
//!
//! [`Store::save`](crate::Store::save) writes a save and [`StoreBuilder::load`](crate::StoreBuilder::load) reads it.
//! [`save`] and [`load`] write and read the state of a bare [`Engine`].

// The format.
//
// A save begins with a preamble of 20 bytes, which every format has: [`MAGIC`], the format's number, and a checksum.
// Chunks follow, each with its length, its bytes and a checksum. The last chunk is empty. A checksum is the CRC-32C of
// all preceding bytes except other checksums. A reader therefore detects a chunk that is missing, moved, or from
// another save.
//
// The concatenated bytes of the chunks are the following records. Numbers are little endian.
//
// | record | fields |
// |---|---|
// | header | current revision (since format 2), compacted revision or -1, next lease id, number of leases granted |
// | counts | numbers of the leases, alarms and versions that follow |
// | lease | id, TTL, sequence, kind; for kind 0 the remaining time, for kind 1 the time since the last renewal |
// | alarm | member, kind: 1 for NOSPACE or 2 for CORRUPT |
// | version | create and mod revision, version, lease, position in its revision, lengths of key and value, key, value |
//
// Lengths and positions have 32 bits, kinds 8, times 64 of seconds and 32 of nanoseconds, and other numbers 64.
//
// In format 1, the current revision is the newest version's mod revision. After a bump, no version has the current
// revision, so format 2 stores the current revision.

mod decode;
mod encode;

use std::io::{self, Read, Write};

use crate::Error;
use crate::api::{Revision, Timestamp};
use crate::engine::{Engine, EngineConfig, RestoreError};

pub use crate::engine::snapshot::LoadOptions;

pub(crate) use decode::read_snapshot;
pub(crate) use encode::write_snapshot;

/// The first bytes of a save. As in PNG's signature, the first byte is not text, and CR LF reveals a conversion of line
/// ends.
const MAGIC: [u8; 12] = *b"\x89leasehold\r\n";

/// The format of new saves, and the newest format that can be read.
const FORMAT: u32 = 2;

/// The maximum length of a chunk that is written or accepted.
const CHUNK_MAX: usize = 64 * 1024;

/// The kind of a saved lease without a standing keep-alive.
const BY_HAND: u8 = 0;

/// The kind of a saved lease with a standing keep-alive.
const STANDING: u8 = 1;

/// The kind of a saved NOSPACE alarm.
const NO_SPACE: u8 = 1;

/// The kind of a saved CORRUPT alarm.
const CORRUPT: u8 = 2;

/// Writes the state of an engine, as [`Store::save`](crate::Store::save) does, and returns a summary.
///
/// A lease is saved with its remaining time at the engine's last [`advance`](Engine::advance). Engines that ran equal
/// commands at equal times write equal bytes.
///
/// ```
/// use leasehold::snapshot::{LoadOptions, load, save};
/// use leasehold::Put;
/// use leasehold::clock::Timestamp;
/// use leasehold::engine::{Engine, EngineConfig};
///
/// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
/// engine.put(&Put::new("config/mode", "blue"))?;
/// let mut saved = Vec::new();
/// save(&engine, &mut saved)?;
///
/// let loaded = load(EngineConfig::default(), LoadOptions::new(), engine.now(), &saved[..])?;
/// assert_eq!(loaded.state_hash(), engine.state_hash());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The error of the writer, if the writer fails.
pub fn save(engine: &Engine, mut into: impl Write) -> io::Result<Saved> {
    write_snapshot(engine.snapshot(), &mut into)
}

/// Creates an engine from a save, as [`StoreBuilder::load`](crate::StoreBuilder::load) creates a store. The engine's
/// time starts at `now`.
///
/// # Errors
///
/// - [`LoadError::Io`] if the reader fails.
/// - [`LoadError::BadMagic`], [`LoadError::Truncated`] or [`LoadError::Corrupt`] if the input is not a complete and
///   valid save.
/// - [`LoadError::NewerVersion`] if the save has a format that only a newer version of this crate can read.
/// - [`LoadError::BumpOutOfRange`] if the bump of [`LoadOptions`] is too large.
pub fn load(
    config: EngineConfig,
    options: LoadOptions,
    now: Timestamp,
    mut from: impl Read,
) -> Result<Engine, LoadError> {
    Ok(read_snapshot(config, &mut from)?.start(&options, now)?)
}

/// The summary of a save, like etcd's `snapshot status`.
///
/// The summary describes the saved state, which may be older than the store's state when
/// [`Store::save`](crate::Store::save) returns.
///
/// ```
/// use leasehold::Store;
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// store.put(("config/mode", "green"))?;
/// let mut bytes = Vec::new();
/// let saved = store.save(&mut bytes)?;
/// assert_eq!((saved.revision(), saved.keys(), saved.versions()), (store.revision()?, 1, 2));
/// assert_eq!(saved.bytes(), bytes.len() as u64);
/// assert_eq!(saved.checksum().to_le_bytes(), bytes[bytes.len() - 4..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Returns the current revision of the saved state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the compacted revision, or `None` if the store was never compacted.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// Returns the number of keys that exist.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Returns the number of versions written, including tombstones.
    pub fn versions(&self) -> u64 {
        self.versions
    }

    /// Returns the number of leases.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// Returns the number of bytes written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the checksum of the save, a CRC-32C. The last four bytes of the save are this checksum, in little
    /// endian. Equal states have equal checksums.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }
}

/// The error of [`Store::save`](crate::Store::save).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The writer failed, so the written save is incomplete.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store is closed. The error is [`Error::Stopped`], as for each request after
    /// [`Store::close`](crate::Store::close).
    #[error(transparent)]
    Closed(#[from] Error),
}

/// The error of [`StoreBuilder::load`](crate::StoreBuilder::load) and [`load`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The reader failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The input does not start with the signature of saves.
    #[error("not a save of a store")]
    BadMagic,
    /// The save has a format that only a newer version of this crate can read.
    #[error("saved in format {found}, which is newer than format {known}, the newest known")]
    NewerVersion {
        /// The format of the save.
        found: u32,
        /// The newest format that this version of the crate can read.
        known: u32,
    },
    /// The input ends before the save does.
    #[error("the save is truncated")]
    Truncated,
    /// A checksum does not match, or the contents are not a valid state of a store.
    #[error("the save is corrupt: {what}")]
    Corrupt {
        /// The first part that is invalid.
        what: &'static str,
    },
    /// The bump of [`LoadOptions`] would raise the current revision or the number of granted leases above 2^61.
    #[error("the bump leaves the range of revisions or lease ids")]
    BumpOutOfRange,
}

impl From<RestoreError> for LoadError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::InvalidState(what) => Self::Corrupt { what },
            RestoreError::BumpOutOfRange => Self::BumpOutOfRange,
        }
    }
}
