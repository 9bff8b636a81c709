//! Locks and elections: the messages of etcd's two services, and calls of them that wait.

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

/// `revision` is always that of the header. `Observe` has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceResponse {
    Lock { revision: i64, key: Vec<u8> },
    Unlock { revision: i64 },
    Campaign { revision: i64, leader: LeaderKey },
    Proclaim { revision: i64 },
    Leader { revision: i64, kv: Kv },
    Resign { revision: i64 },
}

/// Whoever offers the two services. A call is known by a handle until its answer is taken.
pub trait Services {
    /// Starts a call, which runs as far as it can.
    fn start(&mut self, handle: &str, request: &ServiceRequest);

    /// Lets all calls run as far as they can, in the order in which they were started.
    fn settle(&mut self);

    /// Takes the answer of a call; `None` if it still waits.
    fn take(&mut self, handle: &str) -> Option<Result<ServiceResponse, Failure>>;

    /// Gives a call up.
    fn cancel(&mut self, handle: &str);

    /// Takes what an observer has received, and tells whether its stream has ended.
    fn observed(&mut self, handle: &str) -> (Vec<(i64, Kv)>, bool);
}
