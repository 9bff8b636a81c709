//! etcd's lock and election services, message for message, with what etcd was observed to do where that is odd (R-0-5).

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
use crate::concurrency::{oldest, queue_of};
use crate::{Code, Error};

pub use election::ElectionService;
pub use lock::LockService;
pub use observe::Observer;

/// Asks for a lock: etcd's `v3lockpb.LockRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRequest {
    /// The lock's name.
    pub name: Bytes,
    /// The lease that the lock goes with; [`LeaseId::NONE`] for a new one of 60 s, which nobody renews (R-LCK-2).
    pub lease: LeaseId,
}

/// The lock is held: etcd's `v3lockpb.LockResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockResponse {
    /// The header: of the moment when the lock was got.
    pub header: ResponseHeader,
    /// The key that exists as long as the lock is held.
    pub key: Bytes,
}

/// Gives a lock back: etcd's `v3lockpb.UnlockRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlockRequest {
    /// The key that [`LockResponse`] named. Any key is deleted, whosever it is (R-LCK-12).
    pub key: Bytes,
}

/// The key is gone: etcd's `v3lockpb.UnlockResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockResponse {
    /// The header.
    pub header: ResponseHeader,
}

/// Who leads: etcd's `v3electionpb.LeaderKey`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderKey {
    /// The election's name.
    pub name: Bytes,
    /// The key that exists as long as the candidate does not resign.
    pub key: Bytes,
    /// The revision at which the key was created.
    pub rev: Revision,
    /// The lease that the key goes with.
    pub lease: LeaseId,
}

/// Stands for election: etcd's `v3electionpb.CampaignRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignRequest {
    /// The election's name.
    pub name: Bytes,
    /// The lease that the candidacy goes with; [`LeaseId::NONE`] for a new one of 60 s, which nobody renews.
    pub lease: LeaseId,
    /// What the leader proclaims first.
    pub value: Bytes,
}

/// The election is won: etcd's `v3electionpb.CampaignResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignResponse {
    /// The header: of the beginning of the candidacy, not of the victory (R-ELC-3).
    pub header: ResponseHeader,
    /// What the leader proclaims and resigns with.
    pub leader: LeaderKey,
}

/// Changes a leader's value: etcd's `v3electionpb.ProclaimRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProclaimRequest {
    /// What [`CampaignResponse`] gave. It must be there.
    pub leader: Option<LeaderKey>,
    /// The new value.
    pub value: Bytes,
}

/// The value is proclaimed: etcd's `v3electionpb.ProclaimResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProclaimResponse {
    /// The header.
    pub header: ResponseHeader,
}

/// Asks who leads: etcd's `v3electionpb.LeaderRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderRequest {
    /// The election's name.
    pub name: Bytes,
}

/// Follows who leads: a `v3electionpb.LeaderRequest` to `Observe`.
pub type ObserveRequest = LeaderRequest;

/// Who leads, and what with: etcd's `v3electionpb.LeaderResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderResponse {
    /// The header.
    pub header: ResponseHeader,
    /// The leader's key and value.
    pub kv: KeyValue,
}

/// Gives a candidacy up: etcd's `v3electionpb.ResignRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResignRequest {
    /// What [`CampaignResponse`] gave. It must be there.
    pub leader: Option<LeaderKey>,
}

/// The candidacy is over: etcd's `v3electionpb.ResignResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResignResponse {
    /// The header.
    pub header: ResponseHeader,
}

/// The lease of those who bring none (R-LCK-2).
const TTL: Duration = Duration::from_secs(60);

/// The key of a lease in the queue of that name (R-LCK-1).
fn key_of(name: &[u8], lease: LeaseId) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// Asks for a lease of 60 s.
fn grant(client: &Client) -> Call<GrantResponse> {
    client.grant(Grant::new(TTL))
}

/// The services lose the code of what they pass on (R-LCK-8).
fn degrade(error: Error) -> Error {
    match error.code() {
        Code::Unknown | Code::Unavailable => error,
        _ => Error::Unknown(Box::new(error)),
    }
}

/// Reads the oldest key of an election, which is its leader's.
fn get_leader(name: &[u8]) -> Get {
    oldest(&queue_of(name))
}

/// That the candidacy is still the one meant.
fn is_of(leader: &LeaderKey) -> Compare {
    Compare::create_revision(leader.key.clone(), CompareOp::Equal, leader.rev)
}

/// Gives a key up, if it is still the one meant (R-ELC-9).
fn resign_txn(leader: &LeaderKey) -> Txn {
    Txn::new().when([is_of(leader)]).and_then([TxnOp::delete(leader.key.clone())])
}

/// Gives a key another value, if it is still the one meant (R-ELC-7).
fn proclaim_txn(leader: &LeaderKey, value: Bytes) -> Txn {
    let put = Put::new(leader.key.clone(), value).lease(leader.lease);
    Txn::new().when([is_of(leader)]).and_then([TxnOp::Put(put)])
}
