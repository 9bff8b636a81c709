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
    /// The store was closed, and the request was not executed. `etcdserver: server stopped`
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The backend could not reach the store, or received no answer from it. The message is this crate's.
    #[error("the store is unavailable{}", if *.maybe_applied { "; the request may have been executed" } else { "" })]
    Unavailable {
        /// Whether the request may have been executed, or may still be.
        maybe_applied: bool,
    },
    /// An error of a backend that is none of the others: its message and gRPC code.
    #[error("{message}")]
    Foreign {
        /// The gRPC code.
        code: Code,
        /// The message.
        message: Box<str>,
    },
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
    /// Returns the error with this gRPC code and message, as received over a network: the variant whose message it is, if that
    /// needs nothing more, or [`Foreign`](Self::Foreign).
    ///
    /// [`Compacted`](Self::Compacted) and [`FutureRevision`](Self::FutureRevision) carry revisions that the wire does not, so a
    /// backend makes them itself from its request.
    ///
    /// ```
    /// use leasehold::{Code, Error};
    ///
    /// let known = Error::from_wire(Code::NotFound, "etcdserver: requested lease not found");
    /// assert_eq!(known, Error::LeaseNotFound);
    /// let foreign = Error::from_wire(Code::PermissionDenied, "etcdserver: permission denied");
    /// assert_eq!((foreign.code(), foreign.to_string()), (Code::PermissionDenied, "etcdserver: permission denied".into()));
    /// ```
    pub fn from_wire(code: Code, message: &str) -> Self {
        let known = [
            Self::EmptyKey,
            Self::KeyNotFound,
            Self::ValueProvided,
            Self::LeaseProvided,
            Self::TooManyOps,
            Self::DuplicateKey,
            Self::InvalidSort,
            Self::RequestTooLarge,
            Self::LeaseTtlTooLarge,
            Self::LeaseNotFound,
            Self::LeaseExists,
            Self::NoSpace,
            Self::Corrupt,
            Self::WatchRangeEmpty,
            Self::WatchIdTaken,
            Self::WatcherLost,
            Self::SessionExpired,
            Self::NoLeader,
            Self::NotLeader,
            Self::LeaderMissing,
            Self::Stopped,
            Self::PagesUnsorted,
            Self::PagesUnfiltered,
        ];
        let found = known.into_iter().find(|error| error.code() == code && error.to_string() == message);
        found.unwrap_or_else(|| Self::Foreign { code, message: message.into() })
    }

    /// Returns whether the request may have been executed although it failed. A caller then reads before it retries, or retries
    /// only what is safe to execute twice.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Unavailable { maybe_applied } => *maybe_applied,
            Self::Foreign { code, .. } => {
                matches!(code, Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Unavailable)
            }
            Self::Unknown(inner) => inner.is_ambiguous(),
            _ => false,
        }
    }

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
            Self::Stopped | Self::Unavailable { .. } => Code::Unavailable,
            Self::Foreign { code, .. } => *code,
            Self::PagesUnsorted | Self::PagesUnfiltered => Code::Unimplemented,
        }
    }
}

/// The gRPC status codes of errors. `Display` is the code's name, `as i32` its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The caller cancelled the request.
    Cancelled = 1,
    /// Unknown.
    Unknown = 2,
    /// The request is wrong in any state of the store.
    InvalidArgument = 3,
    /// The time limit of the request has passed.
    DeadlineExceeded = 4,
    /// The requested object does not exist.
    NotFound = 5,
    /// The object to create exists already.
    AlreadyExists = 6,
    /// The caller may not make the request.
    PermissionDenied = 7,
    /// A limit of memory is reached.
    ResourceExhausted = 8,
    /// The state does not allow the request.
    FailedPrecondition = 9,
    /// The request was aborted, by a conflict for example.
    Aborted = 10,
    /// A revision or a TTL is outside the valid range.
    OutOfRange = 11,
    /// The combination of options is not supported.
    Unimplemented = 12,
    /// An invariant of the backend is broken.
    Internal = 13,
    /// The store does not serve requests.
    Unavailable = 14,
    /// The data cannot be trusted.
    DataLoss = 15,
    /// The caller is not authenticated.
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Returns the error code with this gRPC number; [`Unknown`](Self::Unknown) for any other number.
    pub fn from_wire(number: i32) -> Self {
        Self::ALL.into_iter().find(|code| *code as i32 == number).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
