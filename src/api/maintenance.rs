use std::time::Duration;

use bytes::Bytes;

use crate::api::Revision;

/// Makes the history before a revision unreadable: etcd's `CompactionRequest`.
///
/// etcd 3.5.16 and later have a fault that this crate does not reproduce ([`which_etcd`](crate::manual::which_etcd)).
/// If the compacted revision deleted a key and put the key again, etcd's server crashes when the key is read.
///
/// ```
/// use leasehold::{Compact, Store};
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// let latest = store.put(("config/mode", "green"))?.header().revision();
/// store.compact(Compact::new(latest).physical())?;
/// assert_eq!(store.status()?.versions(), 1);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    pub(crate) revision: Revision,
    pub(crate) physical: bool,
}

impl Compact {
    /// Compacts to `revision`, which stays readable.
    pub fn new(revision: impl Into<Revision>) -> Self {
        Self { revision: revision.into(), physical: false }
    }

    /// Makes [`Store::compact`](crate::Store::compact) return only after the memory of the compacted history is
    /// reclaimed. Other threads can use the store during the call. An [`Engine`](crate::engine::Engine) ignores the
    /// option.
    #[must_use]
    pub fn physical(self) -> Self {
        Self { physical: true, ..self }
    }
}

/// Creates a request to compact to a revision.
impl<R: Into<Revision>> From<R> for Compact {
    fn from(revision: R) -> Self {
        Self::new(revision)
    }
}

/// The response to a [`Compact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactResponse {
    pub(crate) header: ResponseHeader,
}

impl CompactResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// The amount of history that automatic compaction keeps (R-CMP-7, R-CMP-8).
///
/// A periodic compaction compacts to the oldest sample of the store's revision, which is about one period old. The
/// first compaction runs one period after the store was built, and compacts to the revision that the store had when it
/// was built. So history is kept for one to two periods:
///
/// ```
/// use leasehold::{AutoCompaction, ManualClock, Store};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let period = AutoCompaction::Periodic(Duration::from_secs(2));
/// let store = Store::builder().clock(clock.clone()).auto_compaction(period).build();
/// clock.advance(Duration::from_secs(1));
/// store.put(("mode", "blue"))?; // revision 2
///
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(store.status()?.compact_revision().map(i64::from), Some(1));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(store.status()?.compact_revision().map(i64::from), Some(2));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AutoCompaction {
    /// Keeps at least the history of the last period of this length. Zero turns automatic compaction off, as in etcd.
    ///
    /// The store samples its revision every tenth of the period, and compacts to the oldest sample once per period.
    /// With a period above one hour, the store samples every 6 minutes and compacts every hour. A period below 10 ms is
    /// raised to 10 ms.
    Periodic(Duration),
    /// Keeps at least this number of the latest revisions. The store compacts every five minutes. Zero turns automatic
    /// compaction off, as in etcd.
    Revision(u64),
}

/// The response to [`Store::hash_kv`](crate::Store::hash_kv): etcd's `HashKVResponse`.
///
/// ```
/// use leasehold::Store;
///
/// let (one, other) = (Store::new(), Store::new());
/// for store in [&one, &other] {
///     store.put(("config/mode", "blue"))?;
/// }
/// let (one, other) = (one.hash_kv(0)?, other.hash_kv(0)?);
/// assert_eq!(one.hash(), other.hash()); // equal histories have equal hashes
/// assert_eq!((one.hash_revision().get(), one.compact_revision()), (2, None));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKvResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) hash: u32,
    pub(crate) compact_revision: Option<Revision>,
    pub(crate) hash_revision: Revision,
}

impl HashKvResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns etcd's hash of the retained versions up to [`hash_revision`](Self::hash_revision): a CRC-32C (R-MNT-2).
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Returns the compacted revision. `None`, which is -1 on etcd's wire, means that nothing was compacted yet.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// Returns the revision up to which versions are hashed.
    pub fn hash_revision(&self) -> Revision {
        self.hash_revision
    }
}

/// The revisions, counts and size of a store.
///
/// ```
/// use leasehold::{Compact, Store};
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// store.put(("config/mode", "green"))?;
/// let deleted = store.delete("config/mode")?.header().revision();
/// assert_eq!((store.status()?.keys(), store.status()?.versions()), (0, 3)); // two puts and a delete
///
/// store.compact(Compact::new(deleted).physical())?;
/// assert_eq!((store.status()?.compact_revision(), store.status()?.versions()), (Some(deleted), 1));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub(crate) header: ResponseHeader,
    pub(crate) compact_revision: Option<Revision>,
    pub(crate) keys: u64,
    pub(crate) versions: u64,
    pub(crate) leases: u64,
    pub(crate) bytes_held: u64,
}

impl Status {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the compacted revision, which is the oldest readable revision, or `None` if nothing was compacted yet.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// Returns the number of keys that exist.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Returns the number of versions of keys in memory, including tombstones and compacted versions that are not
    /// reclaimed yet.
    pub fn versions(&self) -> u64 {
        self.versions
    }

    /// Returns the number of leases that exist.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// Returns an estimate of the memory that keys, versions and leases take, in bytes.
    ///
    /// The estimate is 96 bytes plus key and value for each version, 112 bytes plus the key for each key that has a
    /// version in memory, and 96 bytes for each lease.
    pub fn bytes_held(&self) -> u64 {
        self.bytes_held
    }
}

/// The reason for an alarm: etcd's `AlarmType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AlarmType {
    /// No type. A request that lists the alarms of this type lists the alarms of all types.
    None,
    /// The quota was reached. While this alarm is active, puts, grants and txns that contain a put fail (R-MNT-8).
    NoSpace,
    /// The data cannot be trusted. While this alarm is active, puts, deletes, writing txns, compactions, grants and
    /// revocations fail (R-MNT-8).
    Corrupt,
}

/// An alarm that a member raised: etcd's `AlarmMember`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// The member that raised the alarm.
    pub member_id: u64,
    /// The type of the alarm.
    pub alarm: AlarmType,
}

/// The action of an [`AlarmRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmAction {
    /// Lists the alarms of a type.
    Get,
    /// Raises an alarm.
    Activate,
    /// Ends the alarm with exactly the member id and type of the request. A store never ends an alarm by itself.
    Deactivate,
}

/// Lists, raises or ends alarms: etcd's `AlarmRequest` (R-MNT-7).
///
/// ```
/// use leasehold::{Error, Store};
/// use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
///
/// let store = Store::new();
/// let full = Alarm { member_id: 1, alarm: AlarmType::NoSpace };
/// store.alarm(AlarmRequest::activate(full))?;
/// assert_eq!(store.put(("config/mode", "blue")), Err(Error::NoSpace));
/// store.alarm(AlarmRequest::deactivate(full))?;
/// store.put(("config/mode", "blue"))?;
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmRequest {
    /// Whether the request lists, raises or ends alarms.
    pub action: AlarmAction,
    /// The id of the member whose alarm is raised or ended. A request that lists alarms ignores this field.
    pub member_id: u64,
    /// The type of the alarms that the request lists, raises or ends. With [`AlarmType::None`], a request to list
    /// alarms lists all types, and a request to raise or end an alarm has no effect.
    pub alarm: AlarmType,
}

impl AlarmRequest {
    /// Lists all alarms.
    pub const fn list() -> Self {
        // etcd ignores the member id when it lists alarms (R-MNT-7).
        Self { action: AlarmAction::Get, member_id: 0, alarm: AlarmType::None }
    }

    /// Raises an alarm.
    pub const fn activate(alarm: Alarm) -> Self {
        Self { action: AlarmAction::Activate, member_id: alarm.member_id, alarm: alarm.alarm }
    }

    /// Ends an alarm, for example one from the response to [`list`](Self::list).
    pub const fn deactivate(alarm: Alarm) -> Self {
        Self { action: AlarmAction::Deactivate, member_id: alarm.member_id, alarm: alarm.alarm }
    }
}

/// The response to an [`AlarmRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) alarms: Vec<Alarm>,
}

impl AlarmResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the alarms that the request listed, raised or ended.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Compact {
    /// Returns the revision to compact to.
    pub fn get_revision(&self) -> Revision {
        self.revision
    }

    /// Returns whether the response is sent only after the memory of the compacted history is reclaimed.
    pub fn get_physical(&self) -> bool {
        self.physical
    }
}

impl CompactResponse {
    /// Creates a response, for a backend.
    pub fn new(header: ResponseHeader) -> Self {
        Self { header }
    }
}

impl HashKvResponse {
    /// Creates a response, for a backend. A `compact_revision` of `None`, etcd's -1, means that nothing was compacted
    /// (R-MNT-3).
    pub fn new(
        header: ResponseHeader,
        hash: u32,
        compact_revision: Option<Revision>,
        hash_revision: impl Into<Revision>,
    ) -> Self {
        Self { header, hash, compact_revision, hash_revision: hash_revision.into() }
    }
}

impl Status {
    /// Creates a status, for a backend. A backend that does not know a count or the size passes 0.
    pub fn new(
        header: ResponseHeader,
        compact_revision: Option<Revision>,
        keys: u64,
        versions: u64,
        leases: u64,
        bytes_held: u64,
    ) -> Self {
        Self { header, compact_revision, keys, versions, leases, bytes_held }
    }
}

impl AlarmResponse {
    /// Creates a response, for a backend, with the alarms that were listed, raised or ended (R-MNT-7).
    pub fn new(header: ResponseHeader, alarms: Vec<Alarm>) -> Self {
        Self { header, alarms }
    }
}

/// A copy of a whole store as bytes: the response to [`Client::snapshot`](crate::Client::snapshot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) blob: Bytes,
}

impl SnapshotResponse {
    /// Creates a response, for a backend. The header must have the current revision of the copied state.
    pub fn new(header: ResponseHeader, blob: impl Into<Bytes>) -> Self {
        Self { header, blob: blob.into() }
    }

    /// Returns the header. The header's revision is the current revision of the copied state.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the bytes, in the format of the backend. [`StoreBuilder::load`](crate::StoreBuilder::load) reads the
    /// format of a [`Store`](crate::Store).
    pub fn blob(&self) -> &Bytes {
        &self.blob
    }
}

/// The header of every response: etcd's `ResponseHeader`.
///
/// In the response to an operation inside a txn, the ids and the raft term of the header are 0, as in etcd (R-REV-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) revision: Revision,
    pub(crate) raft_term: u64,
}

impl ResponseHeader {
    /// Creates the header of the response to an operation inside a txn.
    pub(crate) const fn of_operation(revision: Revision) -> Self {
        Self { cluster_id: 0, member_id: 0, revision, raft_term: 0 }
    }

    /// Returns the id of the cluster that sent the response: in a response of a store, the id with which the store was
    /// built. Returns 0 for an operation inside a txn.
    pub const fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Returns the id of the member that sent the response: in a response of a store, the id with which the store was
    /// built. Returns 0 for an operation inside a txn.
    pub const fn member_id(&self) -> u64 {
        self.member_id
    }

    /// Returns a revision of the store, usually the store's current revision after the request. R-REV-7 defines the
    /// value for each kind of response.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the raft term: in a response of a store, which has no raft, 1. Returns 0 for an operation inside a txn.
    pub const fn raft_term(&self) -> u64 {
        self.raft_term
    }
}

impl ResponseHeader {
    /// Creates a header, for a backend. For the response to an operation inside a txn, all numbers but the revision are
    /// 0 (R-REV-7).
    pub fn new(cluster_id: u64, member_id: u64, revision: impl Into<Revision>, raft_term: u64) -> Self {
        Self { cluster_id, member_id, revision: revision.into(), raft_term }
    }
}

/// The limits of a store.
///
/// The defaults are the limits of etcd's server (section 15 of [`semantics`](crate::manual::semantics)), except that no
/// quota is set.
///
/// ```
/// use leasehold::{Limits, Store};
/// use std::time::Duration;
///
/// let limits = Limits { min_lease_ttl: Duration::from_millis(1), ..Limits::default() };
/// let store = Store::builder().limits(limits).build();
/// let short = Duration::from_millis(5); // the default minimum would raise the TTL to 2 s
/// assert_eq!(store.grant(short)?.ttl(), short);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of a writing request in its protobuf encoding: 1.5 MiB by default. A number above 4 GiB - 1
    /// byte counts as 4 GiB - 1 byte. A larger request fails with
    /// [`Error::RequestTooLarge`](crate::Error::RequestTooLarge).
    pub max_request_bytes: usize,
    /// The maximum length of each list of a txn (compares, success and failure operations): 128 by default. For the
    /// lists of a nested txn, the maximum is reduced by the length of the outer txn's longest list (R-TXN-3). A txn
    /// with a longer list fails with [`Error::TooManyOps`](crate::Error::TooManyOps). Txns nest at most
    /// [`Txn::MAX_DEPTH`](crate::Txn::MAX_DEPTH) levels, whatever this limit is.
    pub max_txn_ops: usize,
    /// The minimum TTL of a lease: 2 s by default. A minimum of 0 counts as 1 ns. The store raises a shorter TTL of a
    /// grant to this minimum.
    pub min_lease_ttl: Duration,
    /// The maximum TTL of a lease: 9,000,000,000 s by default. A grant with a longer TTL fails with
    /// [`Error::LeaseTtlTooLarge`](crate::Error::LeaseTtlTooLarge).
    pub max_lease_ttl: Duration,
    /// The quota of bytes in memory. `None`, the default, sets no quota.
    ///
    /// The bytes are counted as by [`Status::bytes_held`](crate::maintenance::Status::bytes_held), but tombstones do
    /// not count. A put, grant or txn that would reach the quota fails with [`Error::NoSpace`](crate::Error::NoSpace)
    /// and raises the NOSPACE alarm (R-MNT-9). To write again, delete keys, compact and end the alarm, as in etcd:
    ///
    /// ```
    /// use leasehold::{Compact, Delete, Error, Limits, Store};
    /// use leasehold::maintenance::AlarmRequest;
    ///
    /// let limits = Limits { quota_bytes: Some(10_000), ..Limits::default() };
    /// let store = Store::builder().limits(limits).build();
    /// let full = (0..100).find_map(|n| store.put((format!("job/{n}"), "queued")).err());
    /// assert_eq!(full, Some(Error::NoSpace));
    ///
    /// let latest = store.delete(Delete::prefix("job/"))?.header().revision();
    /// store.compact(Compact::new(latest).physical())?;
    /// for alarm in store.alarm(AlarmRequest::list())?.alarms() {
    ///     store.alarm(AlarmRequest::deactivate(*alarm))?;
    /// }
    /// store.put(("job/1", "queued"))?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub quota_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            // etcd's minimum is 1.5 times its election timeout of 1 s, rounded up to seconds (R-LSE-2).
            min_lease_ttl: Duration::from_secs(2),
            max_lease_ttl: Duration::from_secs(9_000_000_000),
            quota_bytes: None,
        }
    }
}
