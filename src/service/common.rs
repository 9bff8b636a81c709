//! What locks and candidacies have in common: a key under a prefix, on a lease, and the errors of the services.

use std::time::Duration;

use bytes::Bytes;

use crate::api::{Grant, GrantResponse, KeyRange, LeaseId};
use crate::client::{Call, Client};
use crate::{Code, Error};

/// The lease of those who bring none (R-LCK-2).
const TTL: Duration = Duration::from_secs(60);

/// The name of a lock or election, as a range of keys.
pub(super) fn range_of(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat())
}

/// The key of a lease in it (R-LCK-1).
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
