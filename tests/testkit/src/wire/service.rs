//! The messages of the lock and election services, and the trait for their pending calls.

use super::{Failure, Kv};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderKey {
    pub name: Vec<u8>,
    pub key: Vec<u8>,
    pub rev: i64,
    pub lease: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRequest {
    Lock { name: Vec<u8>, lease: i64 },
    Unlock { key: Vec<u8> },
    Campaign { name: Vec<u8>, lease: i64, value: Vec<u8> },
    Proclaim { leader: Option<LeaderKey>, value: Vec<u8> },
    Leader { name: Vec<u8> },
    Resign { leader: Option<LeaderKey> },
    Observe { name: Vec<u8> },
}

/// A response of a service. `revision` is always the header's. `Observe` has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceResponse {
    Lock { revision: i64, key: Vec<u8> },
    Unlock { revision: i64 },
    Campaign { revision: i64, leader: LeaderKey },
    Proclaim { revision: i64 },
    Leader { revision: i64, kv: Kv },
    Resign { revision: i64 },
}

/// The two services of a subject. A call is identified by a handle until its answer is taken.
pub trait Services {
    /// Starts a call, which runs as far as it can.
    fn start(&mut self, handle: &str, request: &ServiceRequest);

    /// Lets all calls run as far as they can, in the order of their starts.
    fn settle(&mut self);

    /// Takes the answer of a call, or returns `None` if the call is pending.
    fn take(&mut self, handle: &str) -> Option<Result<ServiceResponse, Failure>>;

    /// Drops a call.
    fn cancel(&mut self, handle: &str);

    /// Takes what an observer has received, and returns whether its stream has ended.
    fn observed(&mut self, handle: &str) -> (Vec<(i64, Kv)>, bool);
}
