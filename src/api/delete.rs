use crate::api::{IntoBytes, KeyRange, KeyValue, ResponseHeader};

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
