use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, Get, GetResponse, Grant,
    GrantResponse, HashKvResponse, KeepAliveResponse, LeaseId, LeasesResponse, Page, PageResponse, Put,
    PutResponse, Revision, RevokeResponse, SnapshotResponse, Status, TimeToLiveResponse, Txn, TxnResponse,
};

/// A request to a [`Backend`](crate::Backend). Each variant is sent by the [`Client`](crate::Client) method of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Reads keys.
    Get(Get),
    /// Gives a key a value.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// Runs a transaction.
    Txn(Txn),
    /// Makes history unreadable.
    Compact(Compact),
    /// Grants a lease. [`Grant::standing`] is not part of the request: the client that receives the answer
    /// [renews](crate::Backend::renew) the lease.
    Grant(Grant),
    /// Ends a lease.
    Revoke(LeaseId),
    /// Renews a lease.
    KeepAlive(LeaseId),
    /// Asks how long a lease still lives.
    TimeToLive {
        /// The lease.
        id: LeaseId,
        /// Whether its keys are asked for.
        keys: bool,
    },
    /// Lists the leases.
    Leases,
    /// Reads the numbers of what the store holds.
    Status,
    /// Hashes what is held up to a revision; 0 and below mean the current one.
    HashKv(Revision),
    /// Lists, raises or ends alarms.
    Alarm(AlarmRequest),
    /// Reads a page of a range.
    Page(Page),
    /// Copies the whole store.
    Snapshot,
}

/// The answer to a [`Request`], in the variant of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// To [`Request::Get`].
    Get(GetResponse),
    /// To [`Request::Put`].
    Put(PutResponse),
    /// To [`Request::Delete`].
    Delete(DeleteResponse),
    /// To [`Request::Txn`].
    Txn(TxnResponse),
    /// To [`Request::Compact`].
    Compact(CompactResponse),
    /// To [`Request::Grant`].
    Grant(GrantResponse),
    /// To [`Request::Revoke`].
    Revoke(RevokeResponse),
    /// To [`Request::KeepAlive`].
    KeepAlive(KeepAliveResponse),
    /// To [`Request::TimeToLive`].
    TimeToLive(TimeToLiveResponse),
    /// To [`Request::Leases`].
    Leases(LeasesResponse),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::HashKv`].
    HashKv(HashKvResponse),
    /// To [`Request::Alarm`].
    Alarm(AlarmResponse),
    /// To [`Request::Page`].
    Page(PageResponse),
    /// To [`Request::Snapshot`].
    Snapshot(SnapshotResponse),
}
