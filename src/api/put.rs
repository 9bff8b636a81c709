use bytes::Bytes;

use crate::api::{IntoBytes, KeyRange, KeyValue, LeaseId, ResponseHeader};

/// Gives a key a value: etcd's `PutRequest`.
///
/// ```
/// use leasehold::Put;
///
/// let plain = Put::new("config/mode", "blue");
/// let leased = Put::new("workers/7", "here").lease(12).prev_kv();
/// # let _ = (plain, leased);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
    pub(crate) prev_kv: bool,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

impl Put {
    /// Puts `value` under `key`, attached to no lease.
    pub fn new(key: impl IntoBytes, value: impl IntoBytes) -> Self {
        Self {
            key: key.into_bytes(),
            value: value.into_bytes(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    /// Attaches the key to a lease, and to that alone: the key is deleted when the lease ends (R-PUT-5).
    #[must_use]
    pub fn lease(self, lease: impl Into<LeaseId>) -> Self {
        Self { lease: lease.into(), ..self }
    }

    /// Asks for the pair as it was before.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }

    /// Keeps the value that the key has; the one given here must be empty, and the key must exist.
    #[must_use]
    pub fn ignore_value(self) -> Self {
        Self { ignore_value: true, ..self }
    }

    /// Keeps the lease that the key has; none may be given here, and the key must exist.
    #[must_use]
    pub fn ignore_lease(self) -> Self {
        Self { ignore_lease: true, ..self }
    }
}

impl<K: IntoBytes, V: IntoBytes> From<(K, V)> for Put {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

/// The answer to a [`Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) prev_kv: Option<KeyValue>,
}

impl PutResponse {
    /// The header; its revision is that of this put.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The pair as it was before, if that was asked for and the key existed.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        self.prev_kv.as_ref()
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Put {
    /// Returns the key.
    pub fn get_key(&self) -> &Bytes {
        &self.key
    }

    /// Returns the value.
    pub fn get_value(&self) -> &Bytes {
        &self.value
    }

    /// Returns the lease; [`LeaseId::NONE`] means no lease.
    pub fn get_lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns whether the previous pair is requested.
    pub fn get_prev_kv(&self) -> bool {
        self.prev_kv
    }

    /// Returns whether the key keeps its value.
    pub fn get_ignore_value(&self) -> bool {
        self.ignore_value
    }

    /// Returns whether the key keeps its lease.
    pub fn get_ignore_lease(&self) -> bool {
        self.ignore_lease
    }
}

impl PutResponse {
    /// Creates a response of a backend, with the previous pair if it was requested and the key existed.
    pub fn new(header: ResponseHeader, prev_kv: Option<KeyValue>) -> Self {
        Self { header, prev_kv }
    }
}

/// Deletes keys: etcd's `DeleteRangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub(crate) range: KeyRange,
    pub(crate) prev_kv: bool,
}

impl Delete {
    /// Deletes the keys of a range.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        Self { range: range.into(), prev_kv: false }
    }

    /// Deletes one key.
    pub fn key(key: impl IntoBytes) -> Self {
        Self::range(KeyRange::key(key))
    }

    /// Deletes every key that begins with `prefix`.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::range(KeyRange::prefix(prefix))
    }

    /// Deletes every key.
    pub fn all() -> Self {
        Self::range(KeyRange::all())
    }

    /// Asks for the deleted pairs.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }
}

/// One key, or whatever a [`KeyRange`] is made from.
impl<K: Into<KeyRange>> From<K> for Delete {
    fn from(range: K) -> Self {
        Self::range(range)
    }
}

/// The answer to a [`Delete`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) deleted: i64,
    pub(crate) prev_kvs: Vec<KeyValue>,
}

impl DeleteResponse {
    /// The header; its revision is that of this delete if it deleted anything, and the store's otherwise.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// How many keys were deleted.
    pub fn deleted(&self) -> i64 {
        self.deleted
    }

    /// The deleted pairs in ascending key order, if they were asked for.
    pub fn prev_kvs(&self) -> &[KeyValue] {
        &self.prev_kvs
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Delete {
    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns whether the deleted pairs are requested.
    pub fn get_prev_kv(&self) -> bool {
        self.prev_kv
    }
}

impl DeleteResponse {
    /// Creates a response of a backend. `prev_kvs` are the deleted pairs in ascending key order, or empty if they were not
    /// requested.
    pub fn new(header: ResponseHeader, deleted: i64, prev_kvs: Vec<KeyValue>) -> Self {
        Self { header, deleted, prev_kvs }
    }
}
