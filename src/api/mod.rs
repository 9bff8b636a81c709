//! The requests, responses and records of etcd's API. The types only contain data, and the engine executes the
//! requests.

mod display;
mod encoded_len;
mod get;
mod ids;
mod key_range;
mod key_value;
mod lease;
mod maintenance;
mod put;
mod txn;
mod watch;

pub use get::{Get, GetResponse, Page, PageResponse, SortOrder, SortTarget};
pub use ids::{LeaseId, Revision, StreamId, Timestamp, WatchId};
pub use key_range::{IntoBytes, KeyRange};
pub use key_value::{Event, EventType, KeyValue};
pub use lease::{
    Grant, GrantResponse, KeepAliveResponse, LeasesResponse, RevokeResponse, TimeToLiveResponse,
};
pub use maintenance::{
    Alarm, AlarmAction, AlarmRequest, AlarmResponse, AlarmType, AutoCompaction, Compact, CompactResponse,
    HashKvResponse, Limits, ResponseHeader, SnapshotResponse, Status,
};
pub use put::{Delete, DeleteResponse, Put, PutResponse};
pub use txn::{Compare, CompareOp, CompareOperand, Txn, TxnOp, TxnOpResponse, TxnResponse};
pub use watch::{Delivery, Lag, Watch, WatchRequest, WatchResponse};

pub(crate) use get::KeyValues;
pub(crate) use key_value::{Fields, PrevKv};
pub(crate) use watch::{Events, WatchRefusal, WatchResponseBody, WatchResponseKind, first_unread};
