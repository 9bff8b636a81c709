use std::time::Duration;

use bytes::Bytes;

use crate::api::Revision;

/// Makes the history before a revision unreadable: etcd's `CompactionRequest`.
///
/// A test with it does not warn of one fault: where the revision deleted a key and put it again, etcd 3.5.16 and later stop when
/// the key is read ([`which_etcd`](crate::manual::which_etcd)).
///
/// ```
/// use leasehold::{Compact, Store};
///
/// let store = Store::new();
/// let latest = store.put(("config/mode", "blue"))?.header().revision();
/// store.compact(Compact::new(latest).physical())?;
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

    /// Asks a [`Store`](crate::Store) to answer only when the memory was given back; others can use it meanwhile. To
    /// an [`Engine`](crate::engine::Engine) it means nothing.
    #[must_use]
    pub fn physical(self) -> Self {
        Self { physical: true, ..self }
    }
}

impl<R: Into<Revision>> From<R> for Compact {
    fn from(revision: R) -> Self {
        Self::new(revision)
    }
}

/// The answer to a [`Compact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactResponse {
    pub(crate) header: ResponseHeader,
}

impl CompactResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// The history that a store keeps when it compacts by itself (R-CMP-7, R-CMP-8).
///
/// A periodic compaction goes to the oldest sample of the revision, which is about one period old. So the first compaction, one
/// period after the store was built, goes to the revision that the store was built with, and history is kept for one to two
/// periods:
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
    /// Keeps the history of this long: a sample of the revision every tenth of the period (of an hour, if that is
    /// shorter), a compaction to the oldest sample every period (every hour, if that is shorter). Ten milliseconds at
    /// the least, to which shorter periods are raised; zero is off, as in etcd.
    Periodic(Duration),
    /// Keeps so many revisions: a compaction every five minutes. Zero is off, as in etcd.
    Revision(u64),
}

/// The answer to a hash of the key space: etcd's `HashKVResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKvResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) hash: u32,
    pub(crate) compact_revision: Option<Revision>,
    pub(crate) hash_revision: Revision,
}

impl HashKvResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// etcd's hash of what is held up to [`hash_revision`](Self::hash_revision): CRC-32C (R-MNT-2).
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The compacted revision; `None`, which etcd's wire shows as -1, if nothing was compacted yet.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// The revision up to which the hash was taken.
    pub fn hash_revision(&self) -> Revision {
        self.hash_revision
    }
}

/// What a store holds.
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
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The compacted revision, the oldest that can be read; `None` if nothing was compacted yet.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// Keys that exist now.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Versions of keys that are held, tombstones included, and those that a compaction has yet to reclaim.
    pub fn versions(&self) -> u64 {
        self.versions
    }

    /// Leases that exist now.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// About how many bytes of memory all that takes: for each version 96 and its key and value, for each key of
    /// which a version is held 112 and the key, for each lease 96.
    pub fn bytes_held(&self) -> u64 {
        self.bytes_held
    }
}

/// Why a member raises an alarm: etcd's `AlarmType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AlarmType {
    /// None; in a request, all.
    None,
    /// The quota was reached: puts, grants and txns that cost space fail.
    NoSpace,
    /// The data cannot be trusted: writes fail.
    Corrupt,
}

/// An alarm that a member has raised: etcd's `AlarmMember`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// The member that raised it.
    pub member_id: u64,
    /// What it is about.
    pub alarm: AlarmType,
}

/// What to do with alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmAction {
    /// List those of a type.
    Get,
    /// Raise one.
    Activate,
    /// End one, of exactly that member and type. Nothing else ends an alarm.
    Deactivate,
}

/// Lists, raises or ends alarms: etcd's `AlarmRequest` (R-MNT-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmRequest {
    /// What to do.
    pub action: AlarmAction,
    /// The member whose alarm it is; not looked at when listing.
    pub member_id: u64,
    /// Which type. [`AlarmType::None`] lists all, and raises or ends none.
    pub alarm: AlarmType,
}

impl AlarmRequest {
    /// Lists all alarms.
    pub const fn list() -> Self {
        Self { action: AlarmAction::Get, member_id: 0, alarm: AlarmType::None }
    }

    /// Raises an alarm.
    pub const fn activate(alarm: Alarm) -> Self {
        Self { action: AlarmAction::Activate, member_id: alarm.member_id, alarm: alarm.alarm }
    }

    /// Ends an alarm, as [`list`](Self::list) gave it.
    pub const fn deactivate(alarm: Alarm) -> Self {
        Self { action: AlarmAction::Deactivate, member_id: alarm.member_id, alarm: alarm.alarm }
    }
}

/// The answer to an [`AlarmRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) alarms: Vec<Alarm>,
}

impl AlarmResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The alarms listed, raised or ended.
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

    /// Returns whether the answer waits until memory is released.
    pub fn get_physical(&self) -> bool {
        self.physical
    }
}

impl CompactResponse {
    /// Creates a response of a backend.
    pub fn new(header: ResponseHeader) -> Self {
        Self { header }
    }
}

impl HashKvResponse {
    /// Creates a response of a backend. A compacted revision of `None`, etcd's -1, means that nothing was compacted (R-MNT-1).
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
    /// Creates a response of a backend. A backend that does not know one of the counts uses 0.
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
    /// Creates a response of a backend, with the alarms that were listed, raised or ended (R-MNT-7).
    pub fn new(header: ResponseHeader, alarms: Vec<Alarm>) -> Self {
        Self { header, alarms }
    }
}

/// A copy of a whole store as bytes: the answer to [`Client::snapshot`](crate::Client::snapshot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) blob: Bytes,
}

impl SnapshotResponse {
    /// Creates a response of a backend. The header has the revision of the copied state.
    pub fn new(header: ResponseHeader, blob: impl Into<Bytes>) -> Self {
        Self { header, blob: blob.into() }
    }

    /// Returns the header; its revision is the current one of the copied state.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the bytes, in the format of the backend. [`StoreBuilder::load`](crate::StoreBuilder::load) reads those of a
    /// [`Store`](crate::Store).
    pub fn blob(&self) -> &Bytes {
        &self.blob
    }
}

/// What every response begins with: etcd's `ResponseHeader`.
///
/// Inside a txn's responses only the revision is set, as etcd leaves it (R-REV-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) revision: Revision,
    pub(crate) raft_term: u64,
}

impl ResponseHeader {
    /// That of an operation inside a txn.
    pub(crate) const fn of_operation(revision: Revision) -> Self {
        Self { cluster_id: 0, member_id: 0, revision, raft_term: 0 }
    }

    /// The cluster that answered: a constant of the store.
    pub const fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The member that answered: a constant of the store.
    pub const fn member_id(&self) -> u64 {
        self.member_id
    }

    /// The store's revision when the request was answered; R-REV-7 says which for each kind of request.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The raft term: always 1, for nothing is ever elected here.
    pub const fn raft_term(&self) -> u64 {
        self.raft_term
    }
}

impl ResponseHeader {
    /// Creates the header of a response of a backend. In a txn's responses all but the revision are 0 (R-REV-7).
    pub fn new(cluster_id: u64, member_id: u64, revision: impl Into<Revision>, raft_term: u64) -> Self {
        Self { cluster_id, member_id, revision: revision.into(), raft_term }
    }
}

/// The limits of a store; the defaults are those of etcd's server (SEMANTICS.md, section 15), but for the quota, which
/// is off.
///
/// ```
/// use leasehold::{Limits, Store};
/// use std::time::Duration;
///
/// let limits = Limits { min_lease_ttl: Duration::from_millis(1), ..Limits::default() };
/// let store = Store::builder().limits(limits).build();
/// # let _ = store;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest writing request, in bytes of its protobuf encoding: 1.5 MiB; at most 4 GiB - 1. Above it:
    /// [`Error::RequestTooLarge`](crate::Error::RequestTooLarge).
    pub max_request_bytes: usize,
    /// The longest list of a txn, shared down the nesting (R-TXN-3): 128. Above it:
    /// [`Error::TooManyOps`](crate::Error::TooManyOps). Nesting is limited to [`Txn::MAX_DEPTH`](crate::Txn::MAX_DEPTH)
    /// levels in any case.
    pub max_txn_ops: usize,
    /// The shortest TTL of a lease, to which shorter ones are raised: 2 s. At least a nanosecond.
    pub min_lease_ttl: Duration,
    /// The longest TTL of a lease: 9,000,000,000 s. Above it: [`Error::LeaseTtlTooLarge`](crate::Error::LeaseTtlTooLarge).
    pub max_lease_ttl: Duration,
    /// How many bytes the store may hold, counted as [`Status::bytes_held`](crate::maintenance::Status::bytes_held), but without
    /// tombstones; `None`, the default, for any number. At it, writes fail with [`Error::NoSpace`](crate::Error::NoSpace)
    /// and the NOSPACE alarm is raised (R-MNT-9). The way back is etcd's: delete, compact, then end the alarm.
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
            min_lease_ttl: Duration::from_secs(2),
            max_lease_ttl: Duration::from_secs(9_000_000_000),
            quota_bytes: None,
        }
    }
}
