//! What the services have in common: a key under a prefix, on a lease; what is done to a candidate's key; and their errors.

use std::time::Duration;

use bytes::Bytes;

use super::messages::LeaderKey;
use crate::api::{Compare, CompareOp, Get, Grant, GrantResponse, LeaseId, Put, Txn, TxnOp};
use crate::client::{Call, Client};
use crate::concurrency::{oldest, queue_of};
use crate::{Code, Error};

/// The lease of those who bring none (R-LCK-2).
const TTL: Duration = Duration::from_secs(60);

/// The key of a lease in the queue of that name (R-LCK-1).
pub(super) fn key_of(name: &[u8], lease: LeaseId) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// Asks for a lease of 60 s.
pub(super) fn grant(client: &Client) -> Call<GrantResponse> {
    client.grant(Grant::new(TTL))
}

/// The services lose the code of what they pass on (R-LCK-8).
pub(super) fn degrade(error: Error) -> Error {
    match error.code() {
        Code::Unknown | Code::Unavailable => error,
        _ => Error::Unknown(Box::new(error)),
    }
}

/// Reads the oldest key of an election, which is its leader's.
pub(super) fn get_leader(name: &[u8]) -> Get {
    oldest(&queue_of(name))
}

/// That the candidacy is still the one meant.
fn is_of(leader: &LeaderKey) -> Compare {
    Compare::create_revision(leader.key.clone(), CompareOp::Equal, leader.rev)
}

/// Gives a key up, if it is still the one meant (R-ELC-9).
pub(super) fn resign_txn(leader: &LeaderKey) -> Txn {
    Txn::new().when([is_of(leader)]).and_then([TxnOp::delete(leader.key.clone())])
}

/// Gives a key another value, if it is still the one meant (R-ELC-7).
pub(super) fn proclaim_txn(leader: &LeaderKey, value: Bytes) -> Txn {
    let put = Put::new(leader.key.clone(), value).lease(leader.lease);
    Txn::new().when([is_of(leader)]).and_then([TxnOp::Put(put)])
}
