use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::{self, Utf8Error};
use std::sync::Arc;

use crate::api::{LeaseId, Revision};

/// A key-value pair with its revisions, version and lease: etcd's `mvccpb.KeyValue`.
///
/// A `KeyValue` is a handle to an immutable record, which the store's history and readers share. Cloning the handle
/// only increments a reference count.
///
/// ```
/// use leasehold::Store;
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// store.put(("config/mode", "green"))?;
/// let found = store.get("config/mode")?;
/// let kv = found.kv().expect("the key exists");
/// assert_eq!((kv.key_str(), kv.value_str()), (Ok("config/mode"), Ok("green")));
/// assert_eq!((kv.create_revision().get(), kv.mod_revision().get(), kv.version()), (2, 3, 2));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct KeyValue {
    /// One allocation that contains the fields of [`Fields`] in their order, then the length of the key, the key and
    /// the value. Numbers are little-endian.
    record: Arc<[u8]>,
}

/// The fields of a record, except the key and the value. Each of these fields has a fixed size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    /// 0 if and only if the record is a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    /// The position of the change in the transaction of revision `mod_revision`.
    pub(crate) sub: u32,
}

// Byte offsets of the parts of a record.
const CREATE: usize = 0;
const MOD: usize = 8;
const VERSION: usize = 16;
const LEASE: usize = 24;
const SUB: usize = 32;
const KEY_LEN: usize = 36;
const KEY: usize = 40;

impl KeyValue {
    /// The number of bytes that a record takes besides its key and value: the fixed fields, the length of the key, and
    /// the two reference counts of the `Arc`.
    pub(crate) const OVERHEAD: u64 = KEY as u64 + 16;

    /// Creates a record whose fixed fields are 0. [`with_fields`](Self::with_fields) sets the fixed fields later,
    /// without an allocation.
    pub(crate) fn draft(key: &[u8], value: &[u8]) -> Self {
        let key_len = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        let value_at = KEY + key.len();
        // `repeat_n` has an exact length, so `collect` allocates the slice in place, without a vector first.
        let mut record: Arc<[u8]> = std::iter::repeat_n(0, value_at + value.len()).collect();
        let bytes = Arc::get_mut(&mut record).expect("a new record has one handle");
        bytes[KEY_LEN..KEY].copy_from_slice(&key_len.to_le_bytes());
        bytes[KEY..value_at].copy_from_slice(key);
        bytes[value_at..].copy_from_slice(value);
        Self { record }
    }

    /// Sets the fixed fields of a draft.
    pub(crate) fn with_fields(mut self, fields: Fields) -> Self {
        // Write the fields in place, so that no record is allocated under the store's lock.
        let bytes = Arc::get_mut(&mut self.record).expect("a draft has one handle");
        bytes[CREATE..MOD].copy_from_slice(&fields.create_revision.get().to_le_bytes());
        bytes[MOD..VERSION].copy_from_slice(&fields.mod_revision.get().to_le_bytes());
        bytes[VERSION..LEASE].copy_from_slice(&fields.version.to_le_bytes());
        bytes[LEASE..SUB].copy_from_slice(&fields.lease.get().to_le_bytes());
        bytes[SUB..KEY_LEN].copy_from_slice(&fields.sub.to_le_bytes());
        self
    }

    /// Returns a copy of the record without its value, for `keys_only` (R-RNG-9).
    pub(crate) fn without_value(&self) -> Self {
        Self::draft(self.key(), &[]).with_fields(self.fields())
    }

    /// Returns a copy of the record without the first `len` bytes of its key, for a namespace.
    pub(crate) fn without_prefix(&self, len: usize) -> Self {
        Self::draft(&self.key()[len..], self.value()).with_fields(self.fields())
    }

    /// Returns the fixed fields.
    pub(crate) fn fields(&self) -> Fields {
        Fields {
            create_revision: self.create_revision(),
            mod_revision: self.mod_revision(),
            version: self.version(),
            lease: self.lease(),
            sub: self.sub(),
        }
    }

    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.record[KEY..self.value_at()]
    }

    /// Returns the value. An empty value is legal.
    pub fn value(&self) -> &[u8] {
        &self.record[self.value_at()..]
    }

    /// Returns the key as text.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] if the key is not UTF-8.
    pub fn key_str(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(self.key())
    }

    /// Returns the value as text.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] if the value is not UTF-8.
    pub fn value_str(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(self.value())
    }

    /// Returns the revision that created the key. A key that was deleted and put again has a new create revision.
    pub fn create_revision(&self) -> Revision {
        Revision::new(self.number(CREATE))
    }

    /// Returns the revision that stored this value. For the pair of a delete event, returns the revision of the delete.
    pub fn mod_revision(&self) -> Revision {
        Revision::new(self.number(MOD))
    }

    /// Returns the number of puts of the key since the key was created, including the put of this value: 1 for the
    /// first put.
    pub fn version(&self) -> i64 {
        self.number(VERSION)
    }

    /// Returns the lease that this value was attached to, or [`LeaseId::NONE`]. An old value keeps its lease id after
    /// the lease has ended (R-LSE-4).
    pub fn lease(&self) -> LeaseId {
        LeaseId::new(self.number(LEASE))
    }

    /// Returns whether this record is a tombstone, which records that the key was deleted.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version() == 0
    }

    /// Returns the kind of the event that this record represents.
    pub(crate) fn event_type(&self) -> EventType {
        if self.is_tombstone() { EventType::Delete } else { EventType::Put }
    }

    /// Returns the position of the change in its transaction.
    pub(crate) fn sub(&self) -> u32 {
        self.short(SUB)
    }

    /// Returns the length of the key and the value together.
    pub(crate) fn payload_len(&self) -> u64 {
        (self.record.len() - KEY) as u64
    }

    /// Returns whether both handles share one allocation. Equal records may be separate allocations.
    pub(crate) fn same_record(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.record, &other.record)
    }

    /// Returns the offset of the value in the record.
    fn value_at(&self) -> usize {
        KEY + self.short(KEY_LEN) as usize
    }

    /// Reads the 64-bit field at an offset.
    fn number(&self, at: usize) -> i64 {
        let bytes = self.record[at..at + 8].try_into().expect("a record begins with its fixed fields");
        i64::from_le_bytes(bytes)
    }

    /// Reads the 32-bit field at an offset.
    fn short(&self, at: usize) -> u32 {
        let bytes = self.record[at..at + 4].try_into().expect("a record begins with its fixed fields");
        u32::from_le_bytes(bytes)
    }
}

/// Compares key, value, revisions, version and lease, but not the position of the change in its transaction.
impl PartialEq for KeyValue {
    fn eq(&self, other: &Self) -> bool {
        // Skip the bytes of `sub`, which only the engine uses.
        self.same_record(other)
            || self.record[..SUB] == other.record[..SUB] && self.record[KEY_LEN..] == other.record[KEY_LEN..]
    }
}

impl Eq for KeyValue {}

impl Hash for KeyValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Like `eq`, the hash ignores `sub`: equal pairs must have equal hashes.
        (self.key(), self.value(), self.create_revision(), self.mod_revision()).hash(state);
        (self.version(), self.lease()).hash(state);
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &format_args!("\"{}\"", self.key().escape_ascii()))
            .field("value", &format_args!("\"{}\"", self.value().escape_ascii()))
            .field("create_revision", &self.create_revision())
            .field("mod_revision", &self.mod_revision())
            .field("version", &self.version())
            .field("lease", &self.lease())
            .finish()
    }
}

/// A put or a delete of one key at a revision: etcd's `mvccpb.Event`.
///
/// ```
/// use leasehold::{EventType, Store};
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// let deleted = store.delete("config/mode")?.header().revision();
/// let event = &store.events(deleted)?[0];
/// assert_eq!((event.event_type(), event.kv().key()), (EventType::Delete, &b"config/mode"[..]));
/// assert_eq!(event.kv().mod_revision(), deleted);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub(crate) kv: KeyValue,
    pub(crate) prev_kv: PrevKv,
}

/// The previous pair of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PrevKv {
    /// The watcher did not request the previous pair, or the key did not exist before the transaction.
    None,
    /// The watcher requested the previous pair, but the state before the transaction is compacted (R-CMP-5).
    Compacted,
    Pair(KeyValue),
}

impl PrevKv {
    /// Applies `f` to the pair, if there is one.
    pub(crate) fn map(&self, f: impl FnOnce(&KeyValue) -> KeyValue) -> Self {
        match self {
            Self::None => Self::None,
            Self::Compacted => Self::Compacted,
            Self::Pair(kv) => Self::Pair(f(kv)),
        }
    }
}

impl Event {
    /// Returns whether the key was put or deleted.
    pub fn event_type(&self) -> EventType {
        self.kv.event_type()
    }

    /// Returns the pair that the put stored. The pair of a delete has only the key and, as `mod_revision`, the revision
    /// of the delete.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }

    /// Returns the pair as it was before the whole transaction, if the watcher requested it with
    /// [`Watch::prev_kv`](crate::Watch::prev_kv).
    ///
    /// The result is `None` for a put that created the key, and for a delete of a key that the transaction itself had
    /// created. The result is also `None` if the state before the transaction is compacted (R-WCH-17), which
    /// [`is_prev_kv_compacted`](Self::is_prev_kv_compacted) reports.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        match &self.prev_kv {
            PrevKv::Pair(kv) => Some(kv),
            PrevKv::None | PrevKv::Compacted => None,
        }
    }

    /// Returns whether [`prev_kv`](Self::prev_kv) is missing because of a compaction (R-CMP-5). etcd does not report
    /// this case.
    ///
    /// The result is `true` if the watcher requested the previous pair, the event is not a create, and the state before
    /// the event's transaction is compacted. So the result can be `true` only for events of the compacted revision
    /// itself. For a delete of the compacted revision, the result is `true` even if the transaction had created the key
    /// before it deleted the key, because the compaction dropped the record of the put.
    ///
    /// If a [`Store`](crate::Store) delivered the event to a watcher that requested previous pairs, `false` without a
    /// previous pair means that the key did not exist before the transaction.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// store.put(("config/mode", "blue"))?;
    /// let deleted = store.delete("config/mode")?.header().revision();
    /// store.compact(deleted)?;
    ///
    /// let mut watcher = store.watch(Watch::key("config/mode").start_revision(deleted).prev_kv())?;
    /// let response = watcher.try_recv()?.expect("the delete is retained");
    /// let event = &response.events()[0];
    /// assert_eq!((event.prev_kv(), event.is_prev_kv_compacted()), (None, true));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn is_prev_kv_compacted(&self) -> bool {
        matches!(self.prev_kv, PrevKv::Compacted)
    }

    /// Returns whether the event is a put of a key that was absent.
    pub fn is_create(&self) -> bool {
        // A key that was deleted and put again has a new create revision, so this put is a create too (R-REV-5).
        self.event_type() == EventType::Put && self.kv.create_revision() == self.kv.mod_revision()
    }
}

/// The kind of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A put created or changed the key.
    Put,
    /// The key was deleted, by a request or because its lease ended.
    Delete,
}

impl KeyValue {
    /// Creates a pair from etcd's fields, for a backend. An existing key has a version of at least 1. With version 0,
    /// the pair is a [tombstone](Self::tombstone).
    ///
    /// ```
    /// use leasehold::{KeyValue, LeaseId};
    ///
    /// let kv = KeyValue::new("config/mode", "blue", 2, 7, 3, LeaseId::NONE);
    /// assert_eq!((kv.key(), kv.create_revision().get(), kv.version()), (&b"config/mode"[..], 2, 3));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the key is 4 GiB or longer.
    pub fn new(
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        create_revision: impl Into<Revision>,
        mod_revision: impl Into<Revision>,
        version: i64,
        lease: impl Into<LeaseId>,
    ) -> Self {
        let (create_revision, mod_revision) = (create_revision.into(), mod_revision.into());
        let fields = Fields { create_revision, mod_revision, version, lease: lease.into(), sub: 0 };
        Self::draft(key.as_ref(), value.as_ref()).with_fields(fields)
    }

    /// Creates the pair of a delete event, which has only a key and the revision of the delete.
    ///
    /// # Panics
    ///
    /// Panics if the key is 4 GiB or longer.
    pub fn tombstone(key: impl AsRef<[u8]>, mod_revision: impl Into<Revision>) -> Self {
        Self::new(key, [], 0, mod_revision, 0, LeaseId::NONE)
    }
}

impl Event {
    /// Creates an event, for a backend: a delete if the version of `kv` is 0, and a put otherwise.
    ///
    /// R-WCH-17 defines which events have a previous pair. [`is_prev_kv_compacted`](Self::is_prev_kv_compacted) returns
    /// `false` for the returned event, because etcd does not send the reason why a previous pair is missing.
    ///
    /// ```
    /// use leasehold::{Event, EventType, KeyValue};
    ///
    /// let event = Event::new(KeyValue::tombstone("config/mode", 8), None);
    /// assert_eq!((event.event_type(), event.kv().mod_revision().get()), (EventType::Delete, 8));
    /// ```
    pub fn new(kv: KeyValue, prev_kv: Option<KeyValue>) -> Self {
        Self { kv, prev_kv: prev_kv.map_or(PrevKv::None, PrevKv::Pair) }
    }
}
