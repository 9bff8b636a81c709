//! One error enum, in etcd's words.

use std::fmt;

use crate::api::Revision;

/// A `Result` whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused. A refused request has changed nothing, except that one which the quota refuses raises the
/// NOSPACE alarm (R-MNT-9).
///
/// `Display` is etcd's exact message, [`code`](Self::code) its gRPC code (SEMANTICS.md, section 14).
///
/// ```
/// use leasehold::{Code, Error, Put, Store};
///
/// let refused = Store::new().put(Put::new("", "value")).unwrap_err();
/// assert_eq!(refused, Error::EmptyKey);
/// assert_eq!(refused.to_string(), "etcdserver: key is not provided");
/// assert_eq!(refused.code(), Code::InvalidArgument);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request, an operation of a txn, or a compare has an empty key. `etcdserver: key is not provided`
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key, or an operation of a txn that is none.
    /// `etcdserver: key not found`
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value. `etcdserver: value is provided`
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease. `etcdserver: lease is provided`
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A list of a txn is longer than the txn may have operations (R-TXN-3).
    /// `etcdserver: too many operations in txn request`
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A txn changes one key twice (R-TXN-16). `etcdserver: duplicate key given in txn request`
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that etcd does not know. `etcdserver: invalid sort option`
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    /// A writing request is longer than [`Limits::max_request_bytes`](crate::Limits).
    /// `etcdserver: request is too large`
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The revision asked for is no longer held.
    /// `etcdserver: mvcc: required revision has been compacted`
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The compacted revision, the oldest that can still be read. `None` if nothing was compacted yet: a negative
        /// revision, inside a txn or of a compaction, is refused even then.
        compacted: Option<Revision>,
    },
    /// The revision asked for does not exist yet. `etcdserver: mvcc: required revision is a future revision`
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// A lease's TTL is above [`Limits::max_lease_ttl`](crate::Limits). `etcdserver: too large lease TTL`
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// There is no such lease. `etcdserver: requested lease not found`
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id asked for is in use. `etcdserver: lease already exists`
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The byte quota is used up, or the NOSPACE alarm is active (R-MNT-8, R-MNT-9).
    /// `etcdserver: mvcc: database space exceeded`
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is active (R-MNT-8). `etcdserver: corrupt cluster`
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// A watch's range ends at or before its start (R-WCH-2). `mvcc: watcher range is empty`
    #[error("mvcc: watcher range is empty")]
    WatchRangeEmpty,
    /// Another watcher of the stream has the id (R-WCH-3).
    /// `mvcc: duplicate watch ID provided on the WatchStream`
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    WatchIdTaken,
    /// The backend ended a watch that its receiver did not cancel, and not by a compaction: a connection that was lost, say. The
    /// message is this crate's.
    #[error("watch was canceled by the backend")]
    WatchCanceled,
    /// The backend ended the watch that a lock or a campaign of the services waits by. `lost watcher waiting for delete`
    #[error("lost watcher waiting for delete")]
    WatcherLost,
    /// The key of a lock is gone: its lease has ended, or somebody deleted it (R-LCK-5). `mutex: session is expired`
    #[error("mutex: session is expired")]
    SessionExpired,
    /// A fencing token is older than one that was seen: its holder has lost the lock. The message is this crate's.
    #[error("fencing token {token} is stale: {newest} was seen")]
    StaleToken {
        /// The token.
        token: Revision,
        /// The newest that was seen.
        newest: Revision,
    },
    /// Nobody leads (R-ELC-10). `election: no leader`
    #[error("election: no leader")]
    NoLeader,
    /// The candidacy is over (R-ELC-7). `election: not leader`
    #[error("election: not leader")]
    NotLeader,
    /// A request of the election service without its leader (R-ELC-7). `"leader" field must be provided`
    #[error("\"leader\" field must be provided")]
    LeaderMissing,
    /// What the lock and election services pass on: etcd's lose its code (R-LCK-8). The message is its own.
    #[error(transparent)]
    Unknown(Box<Self>),
    /// The store was closed. `etcdserver: server stopped`
    #[error("etcdserver: server stopped")]
    Stopped,
    /// Reading in pages, like etcd's range stream, is in key order only (R-RNG-12).
    /// `RangeStream does not support custom sort orders`
    #[error("RangeStream does not support custom sort orders")]
    PagesUnsorted,
    /// Reading in pages, like etcd's range stream, takes no revision filters (R-RNG-12).
    /// `RangeStream does not support revision filters`
    #[error("RangeStream does not support revision filters")]
    PagesUnfiltered,
}

impl Error {
    /// The gRPC code that etcd answers this error with.
    pub fn code(&self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSort
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted { .. } | Self::FutureRevision { .. } | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::LeaseNotFound => Code::NotFound,
            Self::SessionExpired
            | Self::NoLeader
            | Self::NotLeader
            | Self::LeaderMissing
            | Self::WatcherLost
            | Self::Unknown(_) => Code::Unknown,
            Self::StaleToken { .. }
            | Self::LeaseExists
            | Self::WatchRangeEmpty
            | Self::WatchIdTaken
            | Self::WatchCanceled => Code::FailedPrecondition,
            Self::NoSpace => Code::ResourceExhausted,
            Self::Corrupt => Code::DataLoss,
            Self::Stopped => Code::Unavailable,
            Self::PagesUnsorted | Self::PagesUnfiltered => Code::Unimplemented,
        }
    }
}

/// The gRPC codes that [`Error`]s have. `Display` is the code's name, `as i32` its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// What it was is not said.
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// What was asked for does not exist.
    NotFound = 5,
    /// A limit of memory is reached.
    ResourceExhausted = 8,
    /// The state does not allow the request.
    FailedPrecondition = 9,
    /// A revision or a TTL is outside of what can be served.
    OutOfRange = 11,
    /// The combination of options is not offered.
    Unimplemented = 12,
    /// Nobody serves requests any more.
    Unavailable = 14,
    /// The data cannot be trusted.
    DataLoss = 15,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
