//! etcd's lock and election services, with etcd's messages. The services behave as etcd was observed to behave,
//! oddities included (R-0-5).

mod election;
mod lock;
mod observe;

use std::time::Duration;

use bytes::Bytes;

use crate::api::{
    Compare, CompareOp, Get, Grant, GrantResponse, KeyValue, LeaseId, Put, ResponseHeader, Revision, Txn,
    TxnOp,
};
use crate::client::{Call, Client};
use crate::concurrency::{oldest, queue_range};
use crate::{Code, Error};

pub use election::ElectionService;
pub use lock::LockService;
pub use observe::Observer;

/// A request for a lock: etcd's `v3lockpb.LockRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRequest {
    /// The name of the lock.
    pub name: Bytes,
    /// The lease of the lock's key. [`LeaseId::NONE`] requests a new lease of 60 s, which is not renewed (R-LCK-2).
    pub lease: LeaseId,
}

/// The response to a [`LockRequest`] whose lock is acquired: etcd's `v3lockpb.LockResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockResponse {
    /// The header of the txn or read which showed that the lock was acquired (R-LCK-3, R-LCK-5).
    pub header: ResponseHeader,
    /// The key that exists as long as the lock is held.
    pub key: Bytes,
}

/// A request to release a lock: etcd's `v3lockpb.UnlockRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlockRequest {
    /// The key of the [`LockResponse`]. The service deletes whatever key this is, without a check of the key's owner
    /// (R-LCK-12).
    pub key: Bytes,
}

/// The response to an [`UnlockRequest`], also if the key did not exist: etcd's `v3lockpb.UnlockResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockResponse {
    /// The header of the deletion's response.
    pub header: ResponseHeader,
}

/// The key of a candidate: etcd's `v3electionpb.LeaderKey`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderKey {
    /// The name of the election.
    pub name: Bytes,
    /// The candidate's key, which exists until the candidate resigns, the key's lease ends, or a client deletes the
    /// key.
    pub key: Bytes,
    /// The revision at which the key was created.
    pub rev: Revision,
    /// The lease of the key.
    pub lease: LeaseId,
}

/// A request to become leader: etcd's `v3electionpb.CampaignRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignRequest {
    /// The name of the election.
    pub name: Bytes,
    /// The lease of the candidate's key. [`LeaseId::NONE`] requests a new lease of 60 s, which is not renewed.
    pub lease: LeaseId,
    /// The value of the candidate's key, which is the leader's value once the candidate leads.
    pub value: Bytes,
}

/// The response to a won election: etcd's `v3electionpb.CampaignResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignResponse {
    /// The header of the txn that put or found the candidate's key, not of the moment when the candidate won (R-ELC-3).
    pub header: ResponseHeader,
    /// The leader's key, for [`ProclaimRequest`] and [`ResignRequest`].
    pub leader: LeaderKey,
}

/// A request to change a leader's value: etcd's `v3electionpb.ProclaimRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProclaimRequest {
    /// The leader of the [`CampaignResponse`]. `None` fails with [`MissingLeaderField`](Error::MissingLeaderField).
    pub leader: Option<LeaderKey>,
    /// The new value.
    pub value: Bytes,
}

/// The response to a changed value: etcd's `v3electionpb.ProclaimResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProclaimResponse {
    /// The header of the txn that changed the value.
    pub header: ResponseHeader,
}

/// A request for the leader: etcd's `v3electionpb.LeaderRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderRequest {
    /// The name of the election.
    pub name: Bytes,
}

/// A request to observe an election: etcd's `v3electionpb.LeaderRequest`, which etcd's `Observe` receives.
pub type ObserveRequest = LeaderRequest;

/// The leader of an election and its value: etcd's `v3electionpb.LeaderResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderResponse {
    /// The header of the read or watch response that contained `kv`. If an [`Observer`] has waited without a leader,
    /// the revision in the header of its next item is the mod revision of `kv` (R-ELC-11).
    pub header: ResponseHeader,
    /// The leader's key and value.
    pub kv: KeyValue,
}

/// A request to resign: etcd's `v3electionpb.ResignRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResignRequest {
    /// The leader of the [`CampaignResponse`]. `None` fails with [`MissingLeaderField`](Error::MissingLeaderField).
    pub leader: Option<LeaderKey>,
}

/// The response to a resignation: etcd's `v3electionpb.ResignResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResignResponse {
    /// The header of the txn that deleted the candidate's key, or that found no key to delete.
    pub header: ResponseHeader,
}

/// The TTL of a lease that a service grants for a request without a lease (R-LCK-2).
const TTL: Duration = Duration::from_secs(60);

/// Returns the key `name/<lease>`, with the lease in hexadecimal (R-LCK-1).
fn key_of(name: &[u8], lease: LeaseId) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// Grants a lease of 60 s.
fn grant(client: &Client) -> Call<GrantResponse> {
    client.grant(Grant::new(TTL))
}

/// Replaces the code of an error by Unknown, as etcd's services do with the errors of their requests (R-LCK-8). Keeps
/// an error with the code Unavailable unchanged.
fn degrade(error: Error) -> Error {
    match error.code() {
        // `Unavailable` is the code of a closed store or a failed backend, not of an answer of etcd's store.
        Code::Unknown | Code::Unavailable => error,
        _ => Error::Service(Box::new(error)),
    }
}

/// Returns a request that reads the oldest key of an election, which is the leader's key.
fn get_leader(name: &[u8]) -> Get {
    oldest(&queue_range(name))
}

/// Returns a compare that holds while the candidate's key exists and has the create revision `leader.rev`.
fn leader_unchanged(leader: &LeaderKey) -> Compare {
    Compare::create_revision(leader.key.clone(), CompareOp::Equal, leader.rev)
}

/// Returns a transaction that deletes a candidate's key if its create revision is unchanged (R-ELC-9).
fn resign_txn(leader: &LeaderKey) -> Txn {
    Txn::new().when([leader_unchanged(leader)]).and_then([TxnOp::delete(leader.key.clone())])
}

/// Returns a transaction that changes the value of a candidate's key if its create revision is unchanged (R-ELC-7).
fn proclaim_txn(leader: &LeaderKey, value: Bytes) -> Txn {
    // etcd trusts the lease of the request, and moves the key to that lease if it exists (R-ELC-8).
    let put = Put::new(leader.key.clone(), value).lease(leader.lease);
    Txn::new().when([leader_unchanged(leader)]).and_then([TxnOp::Put(put)])
}
