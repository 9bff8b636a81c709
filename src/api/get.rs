use std::fmt;

use crate::api::{IntoBytes, KeyRange, KeyValue, ResponseHeader, Revision};

/// Reads keys: etcd's `RangeRequest`.
///
/// ```
/// use leasehold::{Get, SortOrder, SortTarget, Store};
///
/// let store = Store::new();
/// let first = store.put(("jobs/1", "queued"))?.header().revision();
/// store.put(("jobs/2", "queued"))?;
/// store.put(("jobs/1", "done"))?;
/// let newest = Get::prefix("jobs/").sort(SortTarget::ModRevision, SortOrder::Descend).limit(1);
/// assert_eq!(store.get(newest)?.kvs()[0].key(), b"jobs/1");
/// assert_eq!(store.get(Get::key("jobs/1").at(first))?.kvs()[0].value(), b"queued");
/// assert_eq!(store.get(Get::prefix("jobs/").count_only())?.count(), 2);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    pub(crate) range: KeyRange,
    pub(crate) limit: i64,
    pub(crate) revision: Option<Revision>,
    pub(crate) sort_order: SortOrder,
    pub(crate) sort_target: SortTarget,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
    pub(crate) serializable: bool,
    pub(crate) min_mod_revision: i64,
    pub(crate) max_mod_revision: i64,
    pub(crate) min_create_revision: i64,
    pub(crate) max_create_revision: i64,
}

impl Get {
    /// Reads the keys of a range, in ascending key order.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        Self {
            range: range.into(),
            limit: 0,
            revision: None,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            serializable: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Reads one key.
    pub fn key(key: impl IntoBytes) -> Self {
        Self::range(KeyRange::key(key))
    }

    /// Reads every key that begins with `prefix`.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::range(KeyRange::prefix(prefix))
    }

    /// Reads every key.
    pub fn all() -> Self {
        Self::range(KeyRange::all())
    }

    /// Limits the number of pairs. 0, the default, and negative numbers mean no limit.
    ///
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// for key in ["a", "b", "c"] {
    ///     store.put((key, ""))?;
    /// }
    /// let read = store.get(Get::all().limit(2))?;
    /// assert_eq!((read.kvs().len(), read.more(), read.count()), (2, true, 3));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn limit(self, limit: i64) -> Self {
        Self { limit, ..self }
    }

    /// Reads the state at a revision instead of the latest state. The read fails if the revision is below the compacted
    /// revision or above the current revision.
    ///
    /// 0 means the latest state, and so does a negative number outside of a txn. Inside a txn, -1 means the latest
    /// state until the first compaction. A txn fails if it reads at -1 after a compaction, or at a number below -1
    /// (R-REV-8, R-REV-9).
    #[must_use]
    pub fn at(self, revision: impl Into<Revision>) -> Self {
        Self { revision: Some(revision.into()), ..self }
    }

    /// Sorts the pairs. Pairs with equal sort fields are in ascending key order, even in a descending sort (R-RNG-8).
    ///
    /// One combination returns unexpected pairs, as in etcd (R-RNG-5): a target other than the key, the order
    /// [`SortOrder::None`], a limit, and no bound on a revision. With this combination, only the first `limit + 1`
    /// pairs in key order are sorted, and up to `limit` of these are returned.
    #[must_use]
    pub fn sort(self, target: SortTarget, order: SortOrder) -> Self {
        Self { sort_target: target, sort_order: order, ..self }
    }

    /// Omits the values of the pairs.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// Requests only the count, which ignores limit, filters and sort.
    #[must_use]
    pub fn count_only(self) -> Self {
        Self { count_only: true, ..self }
    }

    /// Allows a response from a member that lags behind. A store has one member, so the option has no effect (R-0-1).
    #[must_use]
    pub fn serializable(self) -> Self {
        Self { serializable: true, ..self }
    }

    /// Omits pairs with a `mod_revision` below `revision`. A bound of 0 means no bound.
    #[must_use]
    pub fn min_mod_revision(self, revision: impl Into<Revision>) -> Self {
        Self { min_mod_revision: revision.into().get(), ..self }
    }

    /// Omits pairs with a `mod_revision` above `revision`. A bound of 0 means no bound, and a negative bound omits all
    /// pairs.
    #[must_use]
    pub fn max_mod_revision(self, revision: impl Into<Revision>) -> Self {
        Self { max_mod_revision: revision.into().get(), ..self }
    }

    /// Omits pairs with a `create_revision` below `revision`. A bound of 0 means no bound.
    #[must_use]
    pub fn min_create_revision(self, revision: impl Into<Revision>) -> Self {
        Self { min_create_revision: revision.into().get(), ..self }
    }

    /// Omits pairs with a `create_revision` above `revision`. A bound of 0 means no bound, and a negative bound omits
    /// all pairs.
    #[must_use]
    pub fn max_create_revision(self, revision: impl Into<Revision>) -> Self {
        Self { max_create_revision: revision.into().get(), ..self }
    }
}

/// Reads the keys of a range. A key converts into the range of this key.
impl<K: Into<KeyRange>> From<K> for Get {
    fn from(range: K) -> Self {
        Self::range(range)
    }
}

/// The direction of a sort: etcd's `SortOrder`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortOrder {
    /// Requests no direction: the pairs are sorted in ascending order of the target. [`Get::sort`] describes an
    /// exception.
    #[default]
    None,
    /// Sorts in ascending order.
    Ascend,
    /// Sorts in descending order.
    Descend,
    /// Stands for a number that etcd's protocol does not define. The request fails with
    /// [`Error::InvalidSort`](crate::Error::InvalidSort).
    Unrecognized,
}

impl SortOrder {
    /// Returns the order with this number on etcd's wire.
    pub const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Ascend,
            2 => Self::Descend,
            _ => Self::Unrecognized,
        }
    }
}

/// The field to sort by: etcd's `SortTarget`.
///
/// ```
/// use leasehold::{Get, SortOrder, SortTarget, Store};
///
/// let store = Store::new();
/// for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
///     store.put((key, value))?;
/// }
/// let sorted = store.get(Get::all().sort(SortTarget::Value, SortOrder::Ascend))?;
/// let keys: Vec<&[u8]> = sorted.kvs().iter().map(|kv| kv.key()).collect();
/// assert_eq!(keys, [b"b", b"c", b"a"]);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortTarget {
    /// Sorts by the key.
    #[default]
    Key,
    /// Sorts by [`KeyValue::version`].
    Version,
    /// Sorts by [`KeyValue::create_revision`].
    CreateRevision,
    /// Sorts by [`KeyValue::mod_revision`].
    ModRevision,
    /// Sorts by the value.
    Value,
    /// Stands for a number that etcd's protocol does not define. The request fails with
    /// [`Error::InvalidSort`](crate::Error::InvalidSort).
    Unrecognized,
}

impl SortTarget {
    /// Returns the target with this number on etcd's wire.
    pub const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Key,
            1 => Self::Version,
            2 => Self::CreateRevision,
            3 => Self::ModRevision,
            4 => Self::Value,
            _ => Self::Unrecognized,
        }
    }
}

impl Get {
    /// Returns the bounds: minimum and maximum of the mod revision, then minimum and maximum of the create revision. A
    /// bound of 0 means no bound.
    pub(crate) fn revision_bounds(&self) -> [i64; 4] {
        [self.min_mod_revision, self.max_mod_revision, self.min_create_revision, self.max_create_revision]
    }
}

/// The response to a [`Get`]: etcd's `RangeResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) kvs: KeyValues,
    pub(crate) more: bool,
    pub(crate) count: i64,
}

impl GetResponse {
    /// Returns the header. The header's revision is the store's current revision, not the revision that was read.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the pairs.
    pub fn kvs(&self) -> &[KeyValue] {
        self.kvs.as_slice()
    }

    /// Returns the first pair, or `None` if the response has no pair. A read of one key returns at most one pair.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// store.put(("config/mode", "blue"))?;
    /// let found = store.get("config/mode")?;
    /// assert_eq!(found.kv().map(|kv| kv.value()), Some(&b"blue"[..]));
    /// assert!(store.get("config/color")?.kv().is_none());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn kv(&self) -> Option<&KeyValue> {
        self.kvs().first()
    }

    /// Returns the pairs as an owned list, without copying keys or values.
    pub fn into_kvs(self) -> Vec<KeyValue> {
        match self.kvs {
            KeyValues::Single(kv) => kv.into_iter().collect(),
            KeyValues::Many(kvs) => kvs,
        }
    }

    /// Returns whether the limit cut off pairs that match the filters.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Returns the number of keys in the range, regardless of limit and filters (R-RNG-6).
    pub fn count(&self) -> i64 {
        self.count
    }
}

/// The pairs of a response. `Single` stores at most one pair without allocating a list. `PartialEq` and `Debug` see
/// only the pairs, not the variant.
#[derive(Clone)]
pub(crate) enum KeyValues {
    Single(Option<KeyValue>),
    Many(Vec<KeyValue>),
}

impl KeyValues {
    pub(crate) fn as_slice(&self) -> &[KeyValue] {
        match self {
            Self::Single(kv) => kv.as_slice(),
            Self::Many(kvs) => kvs,
        }
    }
}

impl PartialEq for KeyValues {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for KeyValues {}

impl fmt::Debug for KeyValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Get {
    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the limit. 0 and negative numbers mean no limit.
    pub fn get_limit(&self) -> i64 {
        self.limit
    }

    /// Returns the revision to read at, or `None` for the latest revision. [`Revision::to_wire`] converts the result to
    /// the field of etcd's request.
    pub fn get_revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Returns the direction of the sort.
    pub fn get_sort_order(&self) -> SortOrder {
        self.sort_order
    }

    /// Returns the target of the sort.
    pub fn get_sort_target(&self) -> SortTarget {
        self.sort_target
    }

    /// Returns whether the values are omitted.
    pub fn get_keys_only(&self) -> bool {
        self.keys_only
    }

    /// Returns whether only the count is requested.
    pub fn get_count_only(&self) -> bool {
        self.count_only
    }

    /// Returns whether a member that lags behind may send the response.
    pub fn get_serializable(&self) -> bool {
        self.serializable
    }

    /// Returns the lower bound of `mod_revision`. 0 means no bound.
    pub fn get_min_mod_revision(&self) -> Revision {
        Revision::new(self.min_mod_revision)
    }

    /// Returns the upper bound of `mod_revision`. 0 means no bound.
    pub fn get_max_mod_revision(&self) -> Revision {
        Revision::new(self.max_mod_revision)
    }

    /// Returns the lower bound of `create_revision`. 0 means no bound.
    pub fn get_min_create_revision(&self) -> Revision {
        Revision::new(self.min_create_revision)
    }

    /// Returns the upper bound of `create_revision`. 0 means no bound.
    pub fn get_max_create_revision(&self) -> Revision {
        Revision::new(self.max_create_revision)
    }
}

impl SortOrder {
    /// Returns the order's number on etcd's wire. For [`Unrecognized`](Self::Unrecognized), returns -1, which etcd's
    /// protocol does not define.
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Ascend => 1,
            Self::Descend => 2,
            Self::Unrecognized => -1,
        }
    }
}

impl SortTarget {
    /// Returns the target's number on etcd's wire. For [`Unrecognized`](Self::Unrecognized), returns -1, which etcd's
    /// protocol does not define.
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::Key => 0,
            Self::Version => 1,
            Self::CreateRevision => 2,
            Self::ModRevision => 3,
            Self::Value => 4,
            Self::Unrecognized => -1,
        }
    }
}

impl GetResponse {
    /// Creates a response, for a backend. The header must have the store's current revision, not the revision that was
    /// read (R-REV-7). `count` is the number of keys in the range, regardless of limit and filters (R-RNG-6).
    pub fn new(header: ResponseHeader, kvs: Vec<KeyValue>, more: bool, count: i64) -> Self {
        Self { header, kvs: KeyValues::Many(kvs), more, count }
    }
}

/// Reads one page of a long range: up to `limit` pairs in key order, at one revision (R-RNG-12).
///
/// Unlike a [`Get`] with a limit, a page does not count the keys of the range, so its cost does not grow with the
/// number of keys after the page. [`after`](Self::after) returns the request for the next page.
///
/// ```
/// use leasehold::{KeyRange, Page, Store};
///
/// let store = Store::new();
/// for n in 0..5 {
///     store.put((format!("job/{n}"), "queued"))?;
/// }
/// let client = store.client();
/// let mut keys = 0;
/// let mut next = Some(Page::new(KeyRange::prefix("job/"), 2));
/// while let Some(page) = next {
///     let response = client.page(page.clone()).wait()?;
///     keys += response.kvs().len();
///     next = page.after(&response);
/// }
/// assert_eq!(keys, 5);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub(crate) range: KeyRange,
    pub(crate) limit: usize,
    pub(crate) revision: Option<Revision>,
    pub(crate) keys_only: bool,
}

impl Page {
    /// Reads up to `limit` pairs of a range at the latest revision. A limit of 0 is raised to 1.
    pub fn new(range: impl Into<KeyRange>, limit: usize) -> Self {
        // A page without pairs would have no last key for the next page to start after.
        Self { range: range.into(), limit: limit.max(1), revision: None, keys_only: false }
    }

    /// Reads the state at a revision. 0 and negative numbers mean the latest revision.
    ///
    /// ```
    /// use leasehold::{KeyRange, Page, Store};
    ///
    /// let store = Store::new();
    /// let first = store.put(("job/1", "queued"))?.header().revision();
    /// store.put(("job/2", "queued"))?;
    /// let page = store.page(Page::new(KeyRange::prefix("job/"), 10).at(first).keys_only())?;
    /// assert_eq!((page.revision(), page.kvs().len(), page.kvs()[0].value()), (first, 1, &b""[..]));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn at(self, revision: impl Into<Revision>) -> Self {
        Self { revision: Some(revision.into()), ..self }
    }

    /// Omits the values of the pairs.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// Returns the request for the next page, at the revision of `response`, which must be the response to this
    /// request. Returns `None` if no page follows `response`.
    pub fn after(&self, response: &PageResponse) -> Option<Self> {
        let last = response.kvs.last().filter(|_| response.more)?;
        // No key is between `last` and `last` with a zero byte appended. A range of a single key never has a second
        // page, so the end is not empty and the new range is an interval.
        let after_last = [last.key(), b"\0"].concat();
        let range = KeyRange::from_wire(after_last, self.range.shared_end());
        Some(Self { range, revision: Some(response.revision), ..self.clone() })
    }

    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the limit, at least 1.
    pub fn get_limit(&self) -> usize {
        self.limit
    }

    /// Returns the revision to read at, or `None` for the latest revision.
    pub fn get_revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Returns whether the values are omitted.
    pub fn get_keys_only(&self) -> bool {
        self.keys_only
    }
}

/// The response to a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) revision: Revision,
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) more: bool,
}

impl PageResponse {
    /// Creates a response, for a backend, from the revision that was read and the pairs in key order. `more` states
    /// whether the range has pairs after the last pair of `kvs`.
    pub fn new(
        header: ResponseHeader,
        revision: impl Into<Revision>,
        kvs: Vec<KeyValue>,
        more: bool,
    ) -> Self {
        Self { header, revision: revision.into(), kvs, more }
    }

    /// Returns the header. The header's revision is the store's current revision, which may be later than the revision
    /// of the page.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the revision at which the page was read.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the pairs in key order.
    pub fn kvs(&self) -> &[KeyValue] {
        &self.kvs
    }

    /// Returns whether the range has pairs after this page.
    pub fn more(&self) -> bool {
        self.more
    }
}

/// Iterates over the pairs.
impl IntoIterator for GetResponse {
    type Item = KeyValue;
    type IntoIter = std::vec::IntoIter<KeyValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_kvs().into_iter()
    }
}

/// Iterates over the pairs.
impl<'a> IntoIterator for &'a GetResponse {
    type Item = &'a KeyValue;
    type IntoIter = std::slice::Iter<'a, KeyValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.kvs().iter()
    }
}
