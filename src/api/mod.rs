//! The vocabulary: requests, responses and records, with etcd's names. No behaviour beyond construction.

mod delete;
mod display;
mod encoded_len;
mod get;
mod header;
mod ids;
mod into_bytes;
mod key_range;
mod key_value;
mod lease;
mod limits;
mod maintenance;
mod page;
mod put;
mod timestamp;
mod txn;
mod waiter;
mod watch;

pub use delete::{Delete, DeleteResponse};
pub use get::{Get, GetResponse, SortOrder, SortTarget};
pub use header::ResponseHeader;
pub use ids::{LeaseId, Revision, StreamId, WatchId};
pub use into_bytes::IntoBytes;
pub use key_range::KeyRange;
pub use key_value::{Event, EventType, KeyValue};
pub use lease::{
    Grant, GrantResponse, KeepAliveResponse, LeasesResponse, RevokeResponse, TimeToLiveResponse,
};
pub use limits::Limits;
pub use maintenance::{
    Alarm, AlarmAction, AlarmRequest, AlarmResponse, AlarmType, AutoCompaction, Compact, CompactResponse,
    HashKvResponse, SnapshotResponse, Status,
};
pub use page::{Page, PageResponse};
pub use put::{Put, PutResponse};
pub use timestamp::Timestamp;
pub use txn::{Compare, CompareOp, CompareOperand, Txn, TxnOp, TxnOpResponse, TxnResponse};
pub use waiter::{Place, Waiter};
pub use watch::{Delivery, Lag, Watch, WatchRequest, WatchResponse};

pub(crate) use get::KeyValues;
pub(crate) use key_value::{Fields, PrevKv};
pub(crate) use watch::{Events, WatchRefusal, WatchResponseBody, WatchResponseKind, first_unread};
