use bytes::Bytes;

use crate::api::{IntoBytes, KeyRange, KeyValue, LeaseId, ResponseHeader};

/// Sets the value of a key: etcd's `PutRequest`.
///
/// ```
/// use leasehold::{Put, Store};
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?; // as `Put::new("config/mode", "blue")`
/// let response = store.put(Put::new("config/mode", "green").prev_kv())?;
/// assert_eq!(response.prev_kv().map(|kv| kv.value()), Some(&b"blue"[..]));
/// # Ok::<(), leasehold::Error>(())
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

    /// Attaches the key to a lease, instead of the key's earlier lease (R-PUT-5). The key is deleted when the lease
    /// ends.
    #[must_use]
    pub fn lease(self, lease: impl Into<LeaseId>) -> Self {
        Self { lease: lease.into(), ..self }
    }

    /// Requests the pair as it was before the put.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }

    /// Keeps the current value of the key. The put fails with [`ValueProvided`](crate::Error::ValueProvided) if its
    /// value is not empty, and with [`KeyNotFound`](crate::Error::KeyNotFound) if the key does not exist.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// store.put(("worker", "alive"))?;
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("worker", "").ignore_value().lease(lease))?; // only attaches the key to the lease
    /// let kv = store.get("worker")?.kvs()[0].clone();
    /// assert_eq!((kv.value(), kv.lease()), (&b"alive"[..], lease));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn ignore_value(self) -> Self {
        Self { ignore_value: true, ..self }
    }

    /// Keeps the current lease of the key. The put fails with [`LeaseProvided`](crate::Error::LeaseProvided) if it has
    /// a lease, and with [`KeyNotFound`](crate::Error::KeyNotFound) if the key does not exist.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("worker", "idle").lease(lease))?;
    /// store.put(Put::new("worker", "busy").ignore_lease())?; // a put without this option detaches the key
    /// assert_eq!(store.get("worker")?.kvs()[0].lease(), lease);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn ignore_lease(self) -> Self {
        Self { ignore_lease: true, ..self }
    }
}

/// Puts a value under a key, attached to no lease.
impl<K: IntoBytes, V: IntoBytes> From<(K, V)> for Put {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

/// The response to a [`Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) prev_kv: Option<KeyValue>,
}

impl PutResponse {
    /// Returns the header. The header's revision is the revision of this put.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the pair as it was before the put, if [`Put::prev_kv`] requested the pair and the key existed.
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

    /// Returns the lease, or [`LeaseId::NONE`] for no lease.
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
    /// Creates a response, for a backend. `prev_kv` is the pair before the put, if the request asked for the pair and
    /// the key existed.
    pub fn new(header: ResponseHeader, prev_kv: Option<KeyValue>) -> Self {
        Self { header, prev_kv }
    }
}

/// Deletes keys: etcd's `DeleteRangeRequest`.
///
/// ```
/// use leasehold::{Delete, Store};
///
/// let store = Store::new();
/// for key in ["jobs/1", "jobs/2", "config/mode"] {
///     store.put((key, ""))?;
/// }
/// let response = store.delete(Delete::prefix("jobs/").prev_kv())?;
/// assert_eq!((response.deleted(), response.prev_kvs()[0].key()), (2, &b"jobs/1"[..]));
/// assert_eq!(store.get("config/mode")?.count(), 1);
/// # Ok::<(), leasehold::Error>(())
/// ```
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

    /// Requests the deleted pairs.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }
}

/// Deletes the keys of a range. A key converts into the range of this key.
impl<K: Into<KeyRange>> From<K> for Delete {
    fn from(range: K) -> Self {
        Self::range(range)
    }
}

/// The response to a [`Delete`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) deleted: i64,
    pub(crate) prev_kvs: Vec<KeyValue>,
}

impl DeleteResponse {
    /// Returns the header. The header's revision is the revision of this delete if a key was deleted, and otherwise the
    /// store's current revision. R-REV-7 defines the header's revision inside a txn.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the number of deleted keys.
    pub fn deleted(&self) -> i64 {
        self.deleted
    }

    /// Returns the deleted pairs in ascending key order, if they were requested.
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
    /// Creates a response, for a backend. `prev_kvs` has the deleted pairs in ascending key order, or is empty if they
    /// were not requested.
    pub fn new(header: ResponseHeader, deleted: i64, prev_kvs: Vec<KeyValue>) -> Self {
        Self { header, deleted, prev_kvs }
    }
}
