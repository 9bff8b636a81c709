//! The error table of the specification (section 14), and the stages of processing that return its errors.

use super::super::wire::Failure;

/// The stages in which a request is checked, in order (R-TXN-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Quota,
    Static,
    Overlap,
    Size,
    Alarm,
    Dynamic,
    Execution,
}

/// A refusal: the stage that refused, and its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    pub stage: Stage,
    pub row: Row,
}

impl Stage {
    pub fn refuses(self, row: Row) -> Refusal {
        Refusal { stage: self, row }
    }
}

/// The rows of the error table that requests of the model can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidSort,
    RequestTooLarge,
    Compacted,
    Future,
    TtlTooLarge,
    NoSpace,
    LeaseNotFound,
    LeaseExists,
    Corrupt,
}

impl Row {
    pub const ALL: [Self; 15] = [
        Self::EmptyKey,
        Self::KeyNotFound,
        Self::ValueProvided,
        Self::LeaseProvided,
        Self::TooManyOps,
        Self::DuplicateKey,
        Self::InvalidSort,
        Self::RequestTooLarge,
        Self::Compacted,
        Self::Future,
        Self::TtlTooLarge,
        Self::NoSpace,
        Self::LeaseNotFound,
        Self::LeaseExists,
        Self::Corrupt,
    ];

    /// Returns the row's name, the gRPC code's name, and the message.
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        const ARGUMENT: &str = "InvalidArgument";
        const RANGE: &str = "OutOfRange";
        match self {
            Self::EmptyKey => ("EMPTY_KEY", ARGUMENT, "etcdserver: key is not provided"),
            Self::KeyNotFound => ("KEY_NOT_FOUND", ARGUMENT, "etcdserver: key not found"),
            Self::ValueProvided => ("VALUE_PROVIDED", ARGUMENT, "etcdserver: value is provided"),
            Self::LeaseProvided => ("LEASE_PROVIDED", ARGUMENT, "etcdserver: lease is provided"),
            Self::TooManyOps => ("TOO_MANY_OPS", ARGUMENT, "etcdserver: too many operations in txn request"),
            Self::DuplicateKey => {
                ("DUPLICATE_KEY", ARGUMENT, "etcdserver: duplicate key given in txn request")
            }
            Self::InvalidSort => ("INVALID_SORT", ARGUMENT, "etcdserver: invalid sort option"),
            Self::RequestTooLarge => ("REQUEST_TOO_LARGE", ARGUMENT, "etcdserver: request is too large"),
            Self::Compacted => ("COMPACTED", RANGE, "etcdserver: mvcc: required revision has been compacted"),
            Self::Future => ("FUTURE", RANGE, "etcdserver: mvcc: required revision is a future revision"),
            Self::TtlTooLarge => ("TTL_TOO_LARGE", RANGE, "etcdserver: too large lease TTL"),
            Self::NoSpace => ("NO_SPACE", "ResourceExhausted", "etcdserver: mvcc: database space exceeded"),
            Self::LeaseNotFound => ("LEASE_NOT_FOUND", "NotFound", "etcdserver: requested lease not found"),
            Self::LeaseExists => ("LEASE_EXISTS", "FailedPrecondition", "etcdserver: lease already exists"),
            Self::Corrupt => ("CORRUPT", "DataLoss", "etcdserver: corrupt cluster"),
        }
    }

    /// Returns its name in the specification.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Returns the error as on the wire.
    pub fn failure(self) -> Failure {
        let (_, code, message) = self.texts();
        Failure::new(code, message)
    }
}
