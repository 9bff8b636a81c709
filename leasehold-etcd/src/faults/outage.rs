//! `Outage`: the error of a call that a fault ended.

use tonic::{Code, Status};

/// The error that a client receives from a fault.
///
/// A client cannot know from every error whether etcd has applied the request:
///
/// | outage | gRPC code | text | has the request been applied? |
/// |---|---|---|---|
/// | [`NoLeader`](Self::NoLeader) | `Unavailable` | `etcdserver: no leader` | no |
/// | [`TooManyRequests`](Self::TooManyRequests) | `ResourceExhausted` | `etcdserver: too many requests` | no |
/// | [`Unreachable`](Self::Unreachable) | `Unavailable` | `tcp connect error` | no |
/// | [`LeaderChanged`](Self::LeaderChanged) | `Unavailable` | `etcdserver: leader changed` | perhaps |
/// | [`TimedOut`](Self::TimedOut) | `Unavailable` | `etcdserver: request timed out` | perhaps |
/// | [`DeadlineExceeded`](Self::DeadlineExceeded) | `DeadlineExceeded` | `context deadline exceeded` | perhaps |
/// | [`ConnectionLost`](Self::ConnectionLost) | `Unknown` | `transport error` | perhaps |
/// | [`Other`](Self::Other) | yours | yours | perhaps |
///
/// The texts of etcd are in its [`rpctypes`]. The texts of a lost connection are etcd-client's (0.21) when an etcd is killed.
///
/// [`rpctypes`]: https://pkg.go.dev/go.etcd.io/etcd/api/v3/v3rpc/rpctypes
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outage {
    /// The member has no leader, and refuses the request.
    NoLeader,
    /// The member has more committed requests than it can apply, and refuses another one.
    TooManyRequests,
    /// The member does not accept connections. An open stream ends as with [`ConnectionLost`](Self::ConnectionLost).
    Unreachable,
    /// The leader changed while a read waited for it. A lock or a campaign may have its key already.
    LeaderChanged,
    /// The member waited for a majority of the cluster in vain. The majority may apply the request later.
    TimedOut,
    /// The deadline of the call has passed.
    DeadlineExceeded,
    /// The connection ended while the call was pending. An open stream ends with `Unknown` and the text `h2 protocol error: error
    /// reading a body from connection`.
    ConnectionLost,
    /// Another error, such as one of a proxy in front of etcd.
    Other {
        /// The gRPC code.
        code: Code,
        /// The text.
        message: String,
    },
}

impl Outage {
    /// Returns whether etcd reports the outage only for requests that it has not applied.
    pub(super) const fn is_definite(&self) -> bool {
        matches!(self, Self::NoLeader | Self::TooManyRequests | Self::Unreachable)
    }

    /// Returns the status of a call without an answer.
    pub(super) fn of_call(&self) -> Status {
        match self {
            Self::NoLeader => Status::unavailable("etcdserver: no leader"),
            Self::TooManyRequests => Status::resource_exhausted("etcdserver: too many requests"),
            Self::Unreachable => Status::unavailable("tcp connect error"),
            Self::LeaderChanged => Status::unavailable("etcdserver: leader changed"),
            Self::TimedOut => Status::unavailable("etcdserver: request timed out"),
            Self::DeadlineExceeded => Status::deadline_exceeded("context deadline exceeded"),
            Self::ConnectionLost => Status::unknown("transport error"),
            Self::Other { code, message } => Status::new(*code, message.as_str()),
        }
    }

    /// Returns the status that ends an open stream.
    pub(super) fn of_stream(&self) -> Status {
        match self {
            Self::ConnectionLost | Self::Unreachable => {
                Status::unknown("h2 protocol error: error reading a body from connection")
            }
            _ => self.of_call(),
        }
    }
}
