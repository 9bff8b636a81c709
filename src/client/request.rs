use std::collections::VecDeque;
use std::fmt;

use crate::api::{
    AlarmAction, AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, Get,
    GetResponse, Grant, GrantResponse, HashKvResponse, KeepAliveResponse, KeyRange, LeaseId, LeasesResponse,
    Page, PageResponse, Put, PutResponse, ResponseHeader, Revision, RevokeResponse, SnapshotResponse, Status,
    TimeToLiveResponse, Txn, TxnOp, TxnResponse,
};

/// A request to a [`Backend`](crate::backend::Backend). Each variant is sent by the [`Client`](crate::Client) method
/// with the name of the variant.
///
/// A backend reads the parts of a request through getters with the names of etcd's fields and the prefix `get_`, as in
/// [`std::process::Command`].
///
/// `Display` writes one line for a log, and shortens long keys, values and lists. The text may change in any release,
/// so a program compares requests and not their text.
///
/// ```
/// use leasehold::{KeyRange, Put};
/// use leasehold::backend::{Request, RequestKind};
///
/// let request = Request::Put(Put::new("config/mode", "blue").lease(10));
/// assert_eq!(request.to_string(), r#"put "config/mode" = "blue" lease a"#);
/// assert_eq!((request.kind(), request.is_write()), (RequestKind::Put, true));
/// assert_eq!(request.ranges(), [KeyRange::key("config/mode")]);
/// let Request::Put(put) = request else { unreachable!() };
/// assert_eq!((&put.get_key()[..], put.get_lease().get()), (&b"config/mode"[..], 10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Reads keys.
    Get(Get),
    /// Sets the value of a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// Runs a transaction.
    Txn(Txn),
    /// Compacts history.
    Compact(Compact),
    /// Grants a lease. [`Grant::keep_alive`] is not part of the request: the client that receives the answer
    /// [renews](crate::backend::Backend::renew) the lease.
    Grant(Grant),
    /// Revokes a lease.
    Revoke(LeaseId),
    /// Renews a lease.
    KeepAlive(LeaseId),
    /// Reads the remaining time of a lease.
    TimeToLive {
        /// The id of the lease.
        id: LeaseId,
        /// Whether the response lists the keys of the lease.
        keys: bool,
    },
    /// Lists the leases.
    Leases,
    /// Reads the store's status.
    Status,
    /// Hashes the keys up to a revision. A revision of 0 or below means the current revision.
    HashKv(Revision),
    /// Lists, activates or deactivates alarms.
    Alarm(AlarmRequest),
    /// Reads a page of a range.
    Page(Page),
    /// Copies the whole store.
    Snapshot,
}

/// The response to a [`Request`], in the variant with the request's name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// Answers [`Request::Get`].
    Get(GetResponse),
    /// Answers [`Request::Put`].
    Put(PutResponse),
    /// Answers [`Request::Delete`].
    Delete(DeleteResponse),
    /// Answers [`Request::Txn`].
    Txn(TxnResponse),
    /// Answers [`Request::Compact`].
    Compact(CompactResponse),
    /// Answers [`Request::Grant`].
    Grant(GrantResponse),
    /// Answers [`Request::Revoke`].
    Revoke(RevokeResponse),
    /// Answers [`Request::KeepAlive`].
    KeepAlive(KeepAliveResponse),
    /// Answers [`Request::TimeToLive`].
    TimeToLive(TimeToLiveResponse),
    /// Answers [`Request::Leases`].
    Leases(LeasesResponse),
    /// Answers [`Request::Status`].
    Status(Status),
    /// Answers [`Request::HashKv`].
    HashKv(HashKvResponse),
    /// Answers [`Request::Alarm`].
    Alarm(AlarmResponse),
    /// Answers [`Request::Page`].
    Page(PageResponse),
    /// Answers [`Request::Snapshot`].
    Snapshot(SnapshotResponse),
}

/// The kind of a [`Request`] and of its [`Response`]. `Display` writes the name of the [`Client`](crate::Client)
/// method that sends the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// The kind of [`Request::Get`].
    Get,
    /// The kind of [`Request::Put`].
    Put,
    /// The kind of [`Request::Delete`].
    Delete,
    /// The kind of [`Request::Txn`].
    Txn,
    /// The kind of [`Request::Compact`].
    Compact,
    /// The kind of [`Request::Grant`].
    Grant,
    /// The kind of [`Request::Revoke`].
    Revoke,
    /// The kind of [`Request::KeepAlive`].
    KeepAlive,
    /// The kind of [`Request::TimeToLive`].
    TimeToLive,
    /// The kind of [`Request::Leases`].
    Leases,
    /// The kind of [`Request::Status`].
    Status,
    /// The kind of [`Request::HashKv`].
    HashKv,
    /// The kind of [`Request::Alarm`].
    Alarm,
    /// The kind of [`Request::Page`].
    Page,
    /// The kind of [`Request::Snapshot`].
    Snapshot,
}

impl Request {
    /// Returns the kind of the request, to count or filter requests by it.
    ///
    /// ```
    /// use leasehold::Put;
    /// use leasehold::backend::{Request, RequestKind};
    /// use std::collections::BTreeMap;
    ///
    /// let mut counts: BTreeMap<RequestKind, u32> = BTreeMap::new();
    /// for request in [Request::Put(Put::new("mode", "blue")), Request::Leases, Request::Leases] {
    ///     *counts.entry(request.kind()).or_default() += 1;
    /// }
    /// assert_eq!(counts[&RequestKind::Leases], 2);
    /// assert_eq!(RequestKind::Leases.to_string(), "leases");
    /// ```
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Get(_) => RequestKind::Get,
            Self::Put(_) => RequestKind::Put,
            Self::Delete(_) => RequestKind::Delete,
            Self::Txn(_) => RequestKind::Txn,
            Self::Compact(_) => RequestKind::Compact,
            Self::Grant(_) => RequestKind::Grant,
            Self::Revoke(_) => RequestKind::Revoke,
            Self::KeepAlive(_) => RequestKind::KeepAlive,
            Self::TimeToLive { .. } => RequestKind::TimeToLive,
            Self::Leases => RequestKind::Leases,
            Self::Status => RequestKind::Status,
            Self::HashKv(_) => RequestKind::HashKv,
            Self::Alarm(_) => RequestKind::Alarm,
            Self::Page(_) => RequestKind::Page,
            Self::Snapshot => RequestKind::Snapshot,
        }
    }

    /// Returns whether the request may change the store: its keys, its leases and their deadlines, its history or its
    /// alarms.
    ///
    /// A txn is a write if it contains a put or a delete, also in a nested txn.
    ///
    /// ```
    /// use leasehold::{Get, Put, Txn, TxnOp};
    /// use leasehold::backend::Request;
    ///
    /// assert!(!Request::Get(Get::key("mode")).is_write());
    /// assert!(Request::KeepAlive(7.into()).is_write(), "a renewal moves the deadline");
    ///
    /// let read_only = Txn::new().and_then([TxnOp::get("mode")]);
    /// assert!(!Request::Txn(read_only.clone()).is_write());
    /// let nested = read_only.or_else([TxnOp::Txn(Txn::new().and_then([TxnOp::put("mode", "blue")]))]);
    /// assert!(Request::Txn(nested).is_write());
    /// ```
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get(_)
            | Self::TimeToLive { .. }
            | Self::Leases
            | Self::Status
            | Self::HashKv(_)
            | Self::Page(_)
            | Self::Snapshot => false,
            Self::Put(_)
            | Self::Delete(_)
            | Self::Compact(_)
            | Self::Grant(_)
            | Self::Revoke(_)
            | Self::KeepAlive(_) => true,
            Self::Txn(txn) => {
                // Either branch may run, so a write in any branch counts.
                let mut is_write = false;
                visit(txn, |part| is_write |= part.is_write());
                is_write
            }
            Self::Alarm(alarm) => alarm.action != AlarmAction::Get,
        }
    }

    /// Returns the keys and ranges that the request reads, compares, puts or deletes.
    ///
    /// The ranges of a txn are in the order of its compares, the operations of both branches, and then the nested txns.
    /// A request that names no key has no ranges, such as a [`Snapshot`](Self::Snapshot) or a [`Revoke`](Self::Revoke),
    /// which deletes the keys of its lease.
    pub fn ranges(&self) -> Vec<KeyRange> {
        match self {
            Self::Get(get) => vec![get.range.clone()],
            Self::Page(page) => vec![page.range.clone()],
            Self::Txn(txn) => {
                let mut ranges = Vec::new();
                visit(txn, |part| ranges.extend(part.range()));
                ranges
            }
            // A put and a delete touch only the keys that they write, and the remaining requests name no keys.
            _ => self.written_ranges(),
        }
    }

    /// Returns the keys and ranges that the request may put or delete, in the order of [`ranges`](Self::ranges).
    pub fn written_ranges(&self) -> Vec<KeyRange> {
        match self {
            Self::Put(put) => vec![KeyRange::key(&put.key)],
            Self::Delete(delete) => vec![delete.range.clone()],
            Self::Txn(txn) => {
                let mut ranges = Vec::new();
                visit(txn, |part| ranges.extend(Some(part).filter(Part::is_write).and_then(Part::range)));
                ranges
            }
            _ => Vec::new(),
        }
    }
}

/// A compare or an operation of a txn.
enum Part<'a> {
    Compare(&'a KeyRange),
    Op(&'a TxnOp),
}

impl Part<'_> {
    fn is_write(&self) -> bool {
        matches!(self, Part::Op(TxnOp::Put(_) | TxnOp::Delete(_)))
    }

    fn range(self) -> Option<KeyRange> {
        match self {
            Part::Compare(range) => Some(range.clone()),
            Part::Op(TxnOp::Get(get)) => Some(get.range.clone()),
            Part::Op(TxnOp::Put(put)) => Some(KeyRange::key(&put.key)),
            Part::Op(TxnOp::Delete(delete)) => Some(delete.range.clone()),
            Part::Op(TxnOp::Txn(_) | TxnOp::Unset) => None,
        }
    }
}

/// Calls `visitor` with the parts of a txn, and then with the parts of each nested txn.
fn visit<'a>(txn: &'a Txn, mut visitor: impl FnMut(Part<'a>)) {
    // A queue, unlike recursion, visits all parts of a txn before the parts of its nested txns.
    let mut txns = VecDeque::from([txn]);
    while let Some(txn) = txns.pop_front() {
        txn.compare.iter().for_each(|compare| visitor(Part::Compare(&compare.range)));
        for op in txn.success.iter().chain(&txn.failure) {
            visitor(Part::Op(op));
            if let TxnOp::Txn(nested) = op {
                txns.push_back(nested);
            }
        }
    }
}

/// Writes one line for a log: the kind and the parameters. Long keys, values and lists are shortened. The text may
/// change in any release.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(get) => get.fmt(f),
            Self::Put(put) => put.fmt(f),
            Self::Delete(delete) => delete.fmt(f),
            Self::Txn(txn) => txn.fmt(f),
            Self::Compact(compact) => compact.fmt(f),
            Self::Grant(grant) => grant.fmt(f),
            Self::Revoke(id) => write!(f, "revoke {id:x}"),
            Self::KeepAlive(id) => write!(f, "keep_alive {id:x}"),
            Self::TimeToLive { id, keys: false } => write!(f, "time_to_live {id:x}"),
            Self::TimeToLive { id, keys: true } => write!(f, "time_to_live {id:x} keys"),
            Self::HashKv(revision) => write!(f, "hash_kv {revision}"),
            Self::Alarm(alarm) => alarm.fmt(f),
            Self::Page(page) => page.fmt(f),
            Self::Leases | Self::Status | Self::Snapshot => self.kind().fmt(f),
        }
    }
}

impl Response {
    /// Returns the kind of the request that this response answers.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Get(_) => RequestKind::Get,
            Self::Put(_) => RequestKind::Put,
            Self::Delete(_) => RequestKind::Delete,
            Self::Txn(_) => RequestKind::Txn,
            Self::Compact(_) => RequestKind::Compact,
            Self::Grant(_) => RequestKind::Grant,
            Self::Revoke(_) => RequestKind::Revoke,
            Self::KeepAlive(_) => RequestKind::KeepAlive,
            Self::TimeToLive(_) => RequestKind::TimeToLive,
            Self::Leases(_) => RequestKind::Leases,
            Self::Status(_) => RequestKind::Status,
            Self::HashKv(_) => RequestKind::HashKv,
            Self::Alarm(_) => RequestKind::Alarm,
            Self::Page(_) => RequestKind::Page,
            Self::Snapshot(_) => RequestKind::Snapshot,
        }
    }

    /// Returns the header of the response.
    pub fn header(&self) -> &ResponseHeader {
        match self {
            Self::Get(answer) => answer.header(),
            Self::Put(answer) => answer.header(),
            Self::Delete(answer) => answer.header(),
            Self::Txn(answer) => answer.header(),
            Self::Compact(answer) => answer.header(),
            Self::Grant(answer) => answer.header(),
            Self::Revoke(answer) => answer.header(),
            Self::KeepAlive(answer) => answer.header(),
            Self::TimeToLive(answer) => answer.header(),
            Self::Leases(answer) => answer.header(),
            Self::Status(answer) => answer.header(),
            Self::HashKv(answer) => answer.header(),
            Self::Alarm(answer) => answer.header(),
            Self::Page(answer) => answer.header(),
            Self::Snapshot(answer) => answer.header(),
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Txn => "txn",
            Self::Compact => "compact",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::KeepAlive => "keep_alive",
            Self::TimeToLive => "time_to_live",
            Self::Leases => "leases",
            Self::Status => "status",
            Self::HashKv => "hash_kv",
            Self::Alarm => "alarm",
            Self::Page => "page",
            Self::Snapshot => "snapshot",
        })
    }
}
