//! etcd's messages as plain values: one struct per message, with the wire's own fields and numbers.
//!
//! Traces, the model and the crate all use these messages, so each can be compared with the others. This module does not use
//! the crate.

mod service;
mod watch;

pub use self::service::{LeaderKey, ServiceRequest, ServiceResponse, Services};
pub use self::watch::{WatchCreate, WatchEvent, WatchResponse};

/// `mvccpb.KeyValue`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kv {
    pub key: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

/// One change of history: a PUT with the stored pair, or a DELETE whose pair has only key and mod_revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub delete: bool,
    pub kv: Kv,
}

/// `RangeRequest`. Enums are the protobuf numbers: sort_order NONE 0, ASCEND 1, DESCEND 2; sort_target KEY 0, VERSION 1,
/// CREATE 2, MOD 3, VALUE 4. Other numbers are unknown enums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub limit: i64,
    pub revision: i64,
    pub sort_order: i32,
    pub sort_target: i32,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub prev_kv: bool,
}

/// The `target_union` of a compare: the operand that was sent, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Operand {
    #[default]
    Unset,
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Vec<u8>),
    Lease(i64),
}

/// `Compare`. `result`: EQUAL 0, GREATER 1, LESS 2, NOT_EQUAL 3. `target`: VERSION 0, CREATE 1, MOD 2, VALUE 3, LEASE 4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compare {
    pub result: i32,
    pub target: i32,
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub operand: Operand,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    /// An operation without a request.
    Unset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

/// The alarm kinds NOSPACE and CORRUPT, and NONE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    None,
    NoSpace,
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmAction {
    Get,
    Activate,
    Deactivate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    /// `physical`: respond only after the memory is released.
    Compact {
        revision: i64,
        physical: bool,
    },
    HashKv {
        revision: i64,
    },
    /// `standing`: the engine keeps the lease alive until a pause, so it has no deadline before.
    LeaseGrant {
        ttl: i64,
        id: i64,
        standing: bool,
    },
    LeaseRevoke {
        id: i64,
    },
    /// Ends the lease now, as if its deadline had passed.
    LeaseExpire {
        id: i64,
    },
    LeaseKeepAlive {
        id: i64,
    },
    /// Stops the automatic keep-alive: the lease expires one TTL after the last automatic renewal.
    LeasePauseKeepAlive {
        id: i64,
    },
    /// Starts the automatic keep-alive with a renewal at this instant.
    LeaseResumeKeepAlive {
        id: i64,
    },
    LeaseTimeToLive {
        id: i64,
        keys: bool,
    },
    LeaseLeases,
    Alarm {
        action: AlarmAction,
        member: u64,
        kind: AlarmKind,
    },
    /// Advances the time.
    Advance {
        nanos: u64,
    },
    /// Returns every change in history with mod_revision >= `from`, in order, as a watcher of all keys receives them.
    Events {
        from: i64,
    },
    /// Returns revision, compacted revision, live keys, retained versions, leases and bytes held.
    Status,
    WatchCreate(WatchCreate),
    WatchCancel {
        stream: u32,
        id: i64,
    },
    WatchProgress {
        stream: u32,
    },
    /// Receives everything available on the stream, until nothing more comes. Responses to the other requests come here too.
    WatchReceive {
        stream: u32,
    },
    WatchClose {
        stream: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    pub revision: i64,
    pub kvs: Vec<Kv>,
    pub more: bool,
    pub count: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    pub revision: i64,
    pub prev_kv: Option<Kv>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    pub revision: i64,
    pub deleted: i64,
    pub prev_kvs: Vec<Kv>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    pub revision: i64,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub revision: i64,
    pub compacted: i64,
    pub keys: u64,
    pub versions: u64,
    pub leases: u64,
    pub bytes: u64,
}

/// A response. `revision` is always the header's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact {
        revision: i64,
    },
    HashKv {
        revision: i64,
        hash: u32,
        compact_revision: i64,
    },
    LeaseGrant {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    LeaseExpire {
        revision: i64,
    },
    /// A TTL of 0 means that the lease does not exist.
    LeaseKeepAlive {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    LeasePauseKeepAlive,
    LeaseResumeKeepAlive,
    /// A TTL of -1 means that the lease does not exist.
    LeaseTimeToLive {
        revision: i64,
        id: i64,
        ttl: i64,
        granted_ttl: i64,
        keys: Vec<Vec<u8>>,
    },
    LeaseLeases {
        revision: i64,
        ids: Vec<i64>,
    },
    Alarm {
        revision: i64,
        alarms: Vec<(u64, AlarmKind)>,
    },
    Advance,
    Events(Vec<Change>),
    Status(Status),
    /// The stream accepted the request.
    Watch,
    Watched(Vec<WatchResponse>),
}

/// An error as the wire shows it: the gRPC code's name and the exact message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// The settings that affect answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    /// The minimum TTL in seconds.
    pub min_ttl: i64,
    pub max_ttl: i64,
    pub quota_bytes: Option<u64>,
    pub member_id: u64,
    /// The interval of periodic progress.
    pub progress_interval_nanos: u64,
}

impl Default for Settings {
    /// Returns a real server's settings.
    fn default() -> Self {
        Self {
            max_txn_ops: 128,
            max_request_bytes: 1536 * 1024,
            min_ttl: 2,
            max_ttl: 9_000_000_000,
            quota_bytes: None,
            member_id: 1,
            progress_interval_nanos: 600_000_000_000,
        }
    }
}

/// An implementation of etcd's requests: the crate or the model.
pub trait Subject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure>;

    /// Returns the lock and election services, if the subject has them.
    fn services(&mut self) -> Option<&mut dyn Services> {
        None
    }
}
