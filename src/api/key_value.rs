use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::{self, Utf8Error};
use std::sync::Arc;

use crate::api::{LeaseId, Revision};

/// A key with one of its values and what the store knows of it: etcd's `mvccpb.KeyValue`.
///
/// It is a handle to the store's own record, shared by the key's history and every reader: a clone costs one
/// reference count, and nothing of it ever changes.
#[derive(Clone)]
pub struct KeyValue {
    /// The fixed fields, little endian, in the order of [`Fields`]; then the key; then the value. One allocation.
    record: Arc<[u8]>,
}

/// The fixed fields of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    /// 0 in a tombstone, and only there.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    /// The position inside the transaction `mod_revision`.
    pub(crate) sub: u32,
}

const CREATE: usize = 0;
const MOD: usize = 8;
const VERSION: usize = 16;
const LEASE: usize = 24;
const SUB: usize = 32;
const KEY_LEN: usize = 36;
const KEY: usize = 40;

impl KeyValue {
    /// Bytes that a record needs beyond its key and its value: the fixed fields and the two reference counts.
    pub(crate) const OVERHEAD: u64 = KEY as u64 + 16;

    /// A record whose fixed fields are still to be filled in, which takes no memory any more.
    pub(crate) fn draft(key: &[u8], value: &[u8]) -> Self {
        let key_len = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        let value_at = KEY + key.len();
        let mut record: Arc<[u8]> = std::iter::repeat_n(0, value_at + value.len()).collect();
        let bytes = Arc::get_mut(&mut record).expect("nobody else has a handle to a new record");
        bytes[KEY_LEN..KEY].copy_from_slice(&key_len.to_le_bytes());
        bytes[KEY..value_at].copy_from_slice(key);
        bytes[value_at..].copy_from_slice(value);
        Self { record }
    }

    /// Fills in the fixed fields of a draft.
    pub(crate) fn with_fields(mut self, fields: Fields) -> Self {
        let bytes = Arc::get_mut(&mut self.record).expect("a draft is not shared");
        bytes[CREATE..MOD].copy_from_slice(&fields.create_revision.get().to_le_bytes());
        bytes[MOD..VERSION].copy_from_slice(&fields.mod_revision.get().to_le_bytes());
        bytes[VERSION..LEASE].copy_from_slice(&fields.version.to_le_bytes());
        bytes[LEASE..SUB].copy_from_slice(&fields.lease.get().to_le_bytes());
        bytes[SUB..KEY_LEN].copy_from_slice(&fields.sub.to_le_bytes());
        self
    }

    /// The same record without its value, as `keys_only` asks for (R-RNG-9).
    pub(crate) fn without_value(&self) -> Self {
        Self::draft(self.key(), &[]).with_fields(self.fields())
    }

    /// The same record with a shorter key, as a namespace shows it.
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

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.record[KEY..self.value_at()]
    }

    /// The value; an empty one is a value like others.
    pub fn value(&self) -> &[u8] {
        &self.record[self.value_at()..]
    }

    /// The key as text.
    ///
    /// # Errors
    ///
    /// If it is not UTF-8.
    pub fn key_str(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(self.key())
    }

    /// The value as text.
    ///
    /// # Errors
    ///
    /// If it is not UTF-8.
    pub fn value_str(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(self.value())
    }

    /// The revision at which the key was created, after being absent.
    pub fn create_revision(&self) -> Revision {
        Revision::new(self.number(CREATE))
    }

    /// The revision of this value.
    pub fn mod_revision(&self) -> Revision {
        Revision::new(self.number(MOD))
    }

    /// How many values the key had since it was created, this one included: 1 for the first.
    pub fn version(&self) -> i64 {
        self.number(VERSION)
    }

    /// The lease that this value was attached to, [`LeaseId::NONE`] if none. An old value keeps showing it when the
    /// lease is gone (R-LSE-4).
    pub fn lease(&self) -> LeaseId {
        LeaseId::new(self.number(LEASE))
    }

    /// Whether this record says that the key was deleted.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version() == 0
    }

    /// What kind of event this record is.
    pub(crate) fn event_type(&self) -> EventType {
        if self.is_tombstone() { EventType::Delete } else { EventType::Put }
    }

    /// The position inside the transaction.
    pub(crate) fn sub(&self) -> u32 {
        self.short(SUB)
    }

    /// What this record counts for in the bytes that a store holds.
    pub(crate) fn payload_len(&self) -> u64 {
        (self.record.len() - KEY) as u64
    }

    /// Whether both are handles to the same record, not merely equal.
    pub(crate) fn same_record(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.record, &other.record)
    }

    fn value_at(&self) -> usize {
        KEY + self.short(KEY_LEN) as usize
    }

    fn number(&self, at: usize) -> i64 {
        let bytes = self.record[at..at + 8].try_into().expect("a record begins with its fixed fields");
        i64::from_le_bytes(bytes)
    }

    fn short(&self, at: usize) -> u32 {
        let bytes = self.record[at..at + 4].try_into().expect("a record begins with its fixed fields");
        u32::from_le_bytes(bytes)
    }
}

/// By what it shows; the position inside its transaction does not count.
impl PartialEq for KeyValue {
    fn eq(&self, other: &Self) -> bool {
        self.same_record(other)
            || self.record[..SUB] == other.record[..SUB] && self.record[KEY_LEN..] == other.record[KEY_LEN..]
    }
}

impl Eq for KeyValue {}

impl Hash for KeyValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The position inside the transaction is left out, as by `PartialEq`.
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

/// A change of a key at a revision: etcd's `mvccpb.Event`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub(crate) kv: KeyValue,
    pub(crate) prev_kv: PrevKv,
}

/// The pair before a change, as an event has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PrevKv {
    /// The watcher did not ask for it, or the key did not exist.
    None,
    /// The watcher asked for it, and the state before the change is compacted (R-CMP-5).
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

    /// Returns the pair as the put stored it. For a delete only `key` and `mod_revision`, the revision of the delete, are
    /// set.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }

    /// Returns the pair as it was before the whole transaction, if the watcher asked for it with
    /// [`Watch::prev_kv`](crate::Watch::prev_kv).
    ///
    /// It is `None` for a put that created the key, for a delete of a key that the same transaction had created, and where
    /// the state before the transaction is compacted (R-WCH-17). The last case is reported by
    /// [`is_prev_kv_compacted`](Self::is_prev_kv_compacted).
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        match &self.prev_kv {
            PrevKv::Pair(kv) => Some(kv),
            PrevKv::None | PrevKv::Compacted => None,
        }
    }

    /// Returns whether [`prev_kv`](Self::prev_kv) is missing because of a compaction: the watcher asked for it, the event is not
    /// a create, and the state before its transaction is compacted (R-CMP-5). etcd does not report this case.
    ///
    /// If it returns `false` to a watcher that asked for previous pairs, then an event without one is of a key that did not
    /// exist. Only events of the compacted revision itself can return `true`. A delete of that revision does so even if the
    /// same transaction had created the key: the compaction has dropped that put.
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

    /// Returns whether the key was put after being absent.
    pub fn is_create(&self) -> bool {
        self.event_type() == EventType::Put && self.kv.create_revision() == self.kv.mod_revision()
    }
}

/// The kind of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The key was created or got a new value.
    Put,
    /// The key was deleted, by a request or with its lease.
    Delete,
}

impl KeyValue {
    /// Creates a pair of a backend, with etcd's fields. The version counts from 1; 0 makes a
    /// [deleted key](Self::tombstone) of it.
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
    /// If the key is 4 GiB or longer.
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

    /// Creates the pair of a deletion, which has a key and the revision of the deletion only.
    ///
    /// # Panics
    ///
    /// If the key is 4 GiB or longer.
    pub fn tombstone(key: impl AsRef<[u8]>, mod_revision: impl Into<Revision>) -> Self {
        Self::new(key, [], 0, mod_revision, 0, LeaseId::NONE)
    }
}

impl Event {
    /// Creates an event of a backend: a deletion if the version of `kv` is 0, and else a put. R-WCH-17 defines which events have a
    /// previous pair. [`is_prev_kv_compacted`](Self::is_prev_kv_compacted) returns `false`, since etcd's wire does not carry that.
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
