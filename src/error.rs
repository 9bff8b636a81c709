//! The error type of the crate, with etcd's messages and gRPC codes.

use std::fmt;

use crate::api::Revision;

/// A `Result` with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The error of a failed request.
///
/// A request to which a store returns an error changes nothing, except that a request that would reach the quota
/// activates the NOSPACE alarm (R-MNT-9). If a request fails between the client and the store, for example in a
/// network, the store may have executed it: see [`is_ambiguous`](Self::is_ambiguous).
///
/// For an error that etcd has, `Display` writes etcd's exact message, and [`code`](Self::code) returns etcd's gRPC code
/// (section 14 of [`semantics`](crate::manual::semantics)).
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
    /// The key of a request, an operation of a txn, or a compare is empty. Message: `etcdserver: key is not provided`
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` is set for an absent key, or an operation of a txn has no request. Message:
    /// `etcdserver: key not found`
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` is set together with a value. Message: `etcdserver: value is provided`
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` is set together with a lease. Message: `etcdserver: lease is provided`
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A list of a txn is longer than [`Limits::max_txn_ops`](crate::Limits::max_txn_ops) allows, or the txn has too
    /// many levels of nested txns (R-TXN-3). Message: `etcdserver: too many operations in txn request`
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A branch of a txn puts one key twice, or both puts and deletes one key. Two deletes of one key are allowed.
    /// R-TXN-16 to R-TXN-22 define exceptions. Message: `etcdserver: duplicate key given in txn request`
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The sort order or sort target of a read is not one that etcd defines. Message: `etcdserver: invalid sort option`
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    /// A writing request is larger than [`Limits::max_request_bytes`](crate::Limits::max_request_bytes). Message:
    /// `etcdserver: request is too large`
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The requested revision is compacted. Message: `etcdserver: mvcc: required revision has been compacted`
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The requested revision.
        requested: Revision,
        /// The compacted revision, which is the oldest readable revision. `None` if nothing was compacted yet, since
        /// some requests fail with this error for a negative revision even before the first compaction.
        compacted: Option<Revision>,
    },
    /// The requested revision is above the store's current revision. Message:
    /// `etcdserver: mvcc: required revision is a future revision`
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision {
        /// The requested revision.
        requested: Revision,
        /// The store's current revision.
        current: Revision,
    },
    /// The TTL of a grant is above [`Limits::max_lease_ttl`](crate::Limits::max_lease_ttl). Message:
    /// `etcdserver: too large lease TTL`
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The lease does not exist. Message: `etcdserver: requested lease not found`
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The requested id of a grant is in use. Message: `etcdserver: lease already exists`
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The request would reach the byte quota, or the NOSPACE alarm is active (R-MNT-8, R-MNT-9). Message:
    /// `etcdserver: mvcc: database space exceeded`
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is active (R-MNT-8). Message: `etcdserver: corrupt cluster`
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// The range of a watch ends at or before its start (R-WCH-2). Message: `mvcc: watcher range is empty`
    #[error("mvcc: watcher range is empty")]
    WatchRangeEmpty,
    /// Another watcher of the stream has the requested id (R-WCH-3). Message:
    /// `mvcc: duplicate watch ID provided on the WatchStream`
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    WatchIdTaken,
    /// The backend ended a watch and reported no reason, for example because a connection was lost. The receiver had
    /// not cancelled the watch, and no compaction ended it. If the backend reports a reason, the error is instead the
    /// variant whose message is the reason, or [`Foreign`](Self::Foreign) (R-WCH-24). The message of `WatchCanceled` is
    /// not etcd's.
    #[error("watch was canceled by the backend")]
    WatchCanceled,
    /// The backend ended the watch by which a call of the lock or election service waits for its predecessor. Message:
    /// `lost watcher waiting for delete`
    #[error("lost watcher waiting for delete")]
    WatcherLost,
    /// The key of a lock was deleted, by a request or because its lease ended (R-LCK-5). Message: `mutex: session is
    /// expired`
    #[error("mutex: session is expired")]
    SessionExpired,
    /// A fencing token is older than the newest token that the resource has seen, so the token's owner has lost the
    /// lock. The message is not etcd's.
    #[error("fencing token {token} is stale: {newest} was seen")]
    StaleToken {
        /// The rejected token.
        token: Revision,
        /// The newest token seen.
        newest: Revision,
    },
    /// The election has no leader (R-ELC-10). Message: `election: no leader`
    #[error("election: no leader")]
    NoLeader,
    /// The candidate's key does not exist any more, or was created again, so the candidacy has ended (R-ELC-7).
    /// Message: `election: not leader`
    #[error("election: not leader")]
    NotLeader,
    /// A request to the election service has no `leader` field (R-ELC-7). Message: `"leader" field must be provided`
    #[error("\"leader\" field must be provided")]
    MissingLeaderField,
    /// An error of a request that the lock or election service sent on behalf of its caller. As in etcd, the message of
    /// the inner error is unchanged, but the code is [`Code::Unknown`] (R-LCK-8).
    #[error(transparent)]
    Service(Box<Self>),
    /// The store was closed, and the request was not executed. Message: `etcdserver: server stopped`
    ///
    /// An etcd server that shuts down sends this message even for a request that the server may still execute. So
    /// [`from_wire`](Self::from_wire) converts this message to [`Foreign`](Self::Foreign), which is ambiguous.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The backend could not reach the store, or received no response from it. The message is not etcd's.
    ///
    /// A backend reports every error of its transport as `Unavailable`. `maybe_applied` is `false` only if the backend
    /// knows that the request was not sent.
    #[error("the store is unavailable{}", if *.maybe_applied { "; the request may have been executed" } else { "" })]
    Unavailable {
        /// `true` if the request may have been executed, or may still be executed.
        maybe_applied: bool,
    },
    /// An error of a backend for which this enum has no other variant, with the error's message and gRPC code. The
    /// code, and for some codes the message, decide whether the error [is ambiguous](Self::is_ambiguous).
    #[error("{message}")]
    Foreign {
        /// The gRPC code.
        code: Code,
        /// The message.
        message: Box<str>,
    },
    /// A read in pages is sorted other than by ascending key, which etcd's range stream does not support (R-RNG-12).
    /// Message: `RangeStream does not support custom sort orders`
    #[error("RangeStream does not support custom sort orders")]
    PageSortUnsupported,
    /// A read in pages has a revision filter, which etcd's range stream does not support (R-RNG-12). Message:
    /// `RangeStream does not support revision filters`
    #[error("RangeStream does not support revision filters")]
    PageFilterUnsupported,
}

impl Error {
    /// Converts a gRPC code and a message that a backend received over a network to an error.
    ///
    /// The result is the variant without fields that has this code and message, or [`Foreign`](Self::Foreign) if no
    /// variant has them. The result is never [`Stopped`](Self::Stopped), because a store behind a network may have
    /// executed the request. [`Compacted`](Self::Compacted) and [`FutureRevision`](Self::FutureRevision) contain
    /// revisions that etcd does not send, so a backend creates these errors itself from its request.
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
        // All variants with a message of etcd and without fields, except `Stopped`, which would state that the request
        // was not executed.
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
            Self::MissingLeaderField,
            Self::PageSortUnsupported,
            Self::PageFilterUnsupported,
        ];
        let found = known.into_iter().find(|error| error.code() == code && error.to_string() == message);
        found.unwrap_or_else(|| Self::Foreign { code, message: message.into() })
    }

    /// Returns whether the failed request may have been executed, or may be executed later. After such an error, a
    /// caller should read the state before a retry, or retry only a request that is safe to execute twice.
    ///
    /// These errors are ambiguous:
    ///
    /// | error | cause |
    /// |---|---|
    /// | [`Unavailable`](Self::Unavailable) with `maybe_applied` | the backend received no response |
    /// | [`Foreign`](Self::Foreign) with [`Cancelled`](Code::Cancelled) or [`DeadlineExceeded`](Code::DeadlineExceeded) | the caller or a time limit ended the wait for the response |
    /// | `Foreign` with [`Unavailable`](Code::Unavailable) | the connection was lost, or etcd timed out, changed its leader or stopped |
    /// | `Foreign` with [`Internal`](Code::Internal) or [`Unknown`](Code::Unknown) | the response was broken |
    /// | `Foreign` with [`ResourceExhausted`](Code::ResourceExhausted) or [`OutOfRange`](Code::OutOfRange), and a message that does not begin with `etcdserver: ` | the response was longer than the limit of a gRPC library |
    /// | [`Service`](Self::Service) | the inner error is ambiguous |
    ///
    /// After any other error, the request that failed was not executed. etcd returns the other errors before it
    /// executes a request, and a gRPC library returns none of them for an executed request.
    ///
    /// ```
    /// use leasehold::{Code, Error};
    ///
    /// assert!(Error::from_wire(Code::Unavailable, "etcdserver: request timed out").is_ambiguous());
    /// assert!(!Error::from_wire(Code::ResourceExhausted, "etcdserver: too many requests").is_ambiguous());
    /// assert!(!Error::Stopped.is_ambiguous());
    /// ```
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Unavailable { maybe_applied } => *maybe_applied,
            Self::Foreign { code, message } => match code {
                Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::Internal
                | Code::Unavailable => true,
                // grpc-go and tonic report a response that is too long by one of these codes. etcd uses these codes for
                // requests that it does not execute, with messages that begin with `etcdserver: `.
                Code::ResourceExhausted | Code::OutOfRange => !message.starts_with("etcdserver: "),
                _ => false,
            },
            Self::Service(inner) => inner.is_ambiguous(),
            _ => false,
        }
    }

    /// Returns the gRPC code that etcd sends with this error. An error that etcd does not have, such as
    /// [`StaleToken`](Self::StaleToken), has a code that the crate chose.
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
            // etcd's lock and election services return plain errors, to which gRPC assigns this code.
            Self::SessionExpired
            | Self::NoLeader
            | Self::NotLeader
            | Self::MissingLeaderField
            | Self::WatcherLost
            | Self::Service(_) => Code::Unknown,
            // etcd's client reports the reason why a watch ended, one of the last three variants, by this code
            // (R-WCH-24).
            Self::StaleToken { .. }
            | Self::LeaseExists
            | Self::WatchRangeEmpty
            | Self::WatchIdTaken
            | Self::WatchCanceled => Code::FailedPrecondition,
            Self::NoSpace => Code::ResourceExhausted,
            Self::Corrupt => Code::DataLoss,
            Self::Stopped | Self::Unavailable { .. } => Code::Unavailable,
            Self::Foreign { code, .. } => *code,
            Self::PageSortUnsupported | Self::PageFilterUnsupported => Code::Unimplemented,
        }
    }
}

/// The gRPC status code of an error. `Display` writes the code's name, and `as i32` returns its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The caller cancelled the request.
    Cancelled = 1,
    /// The error has no more specific code.
    Unknown = 2,
    /// The request is invalid in every state of the store.
    InvalidArgument = 3,
    /// The time limit of the request has passed.
    DeadlineExceeded = 4,
    /// The requested object does not exist.
    NotFound = 5,
    /// The object to create already exists.
    AlreadyExists = 6,
    /// The caller lacks the permission for the request.
    PermissionDenied = 7,
    /// A quota is exhausted.
    ResourceExhausted = 8,
    /// The state does not allow the request.
    FailedPrecondition = 9,
    /// The request was aborted, for example because of a conflict.
    Aborted = 10,
    /// A revision, a TTL or the length of a response is outside the valid range.
    OutOfRange = 11,
    /// The operation, or its combination of options, is not supported.
    Unimplemented = 12,
    /// The backend violated an invariant.
    Internal = 13,
    /// The store is closed or cannot be reached, or the connection to it was lost.
    Unavailable = 14,
    /// The data cannot be trusted.
    DataLoss = 15,
    /// The caller is not authenticated.
    Unauthenticated = 16,
}

impl Code {
    // All codes of gRPC except 0, which means success.
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

    /// Returns the code with this gRPC number, or [`Unknown`](Self::Unknown) for any other number.
    pub fn from_wire(number: i32) -> Self {
        Self::ALL.into_iter().find(|code| *code as i32 == number).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
