//! Conversions of the store's responses and errors into etcd's.

use std::time::Duration;

use bytes::Bytes;
use leasehold::maintenance::{Alarm, AlarmType};
use leasehold::response::{
    DeleteResponse, GetResponse, PutResponse, ResponseHeader, TxnOpResponse, TxnResponse, WatchResponse,
};
use leasehold::service::LeaderKey;
use leasehold::{Error, Event, EventType, KeyValue, Revision};
use tonic::{Code, Status};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::{mvccpb, v3electionpb};

pub(crate) fn status(error: Error) -> Status {
    // Both enums have gRPC's numbers.
    Status::new(Code::from_i32(error.code() as i32), error.to_string())
}

pub(crate) fn header(header: &ResponseHeader) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: header.cluster_id(),
        member_id: header.member_id(),
        revision: header.revision().get(),
        raft_term: header.raft_term(),
    })
}

pub(crate) fn key_value(kv: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(kv.key()),
        create_revision: kv.create_revision().get(),
        mod_revision: kv.mod_revision().get(),
        version: kv.version(),
        value: Bytes::copy_from_slice(kv.value()),
        lease: kv.lease().get(),
    }
}

fn key_values(kvs: &[KeyValue]) -> Vec<mvccpb::KeyValue> {
    kvs.iter().map(key_value).collect()
}

pub(crate) fn range(response: &GetResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: header(response.header()),
        kvs: key_values(response.kvs()),
        more: response.more(),
        count: response.count(),
    }
}

pub(crate) fn put(response: &PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: header(response.header()), prev_kv: response.prev_kv().map(key_value) }
}

pub(crate) fn delete(response: &DeleteResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: header(response.header()),
        deleted: response.deleted(),
        prev_kvs: key_values(response.prev_kvs()),
    }
}

pub(crate) fn txn(response: &TxnResponse) -> pb::TxnResponse {
    pb::TxnResponse {
        header: header(response.header()),
        succeeded: response.succeeded(),
        responses: response.responses().iter().map(op).collect(),
    }
}

fn op(response: &TxnOpResponse) -> pb::ResponseOp {
    let response = match response {
        TxnOpResponse::Get(response) => Response::ResponseRange(range(response)),
        TxnOpResponse::Put(response) => Response::ResponsePut(put(response)),
        TxnOpResponse::Delete(response) => Response::ResponseDeleteRange(delete(response)),
        TxnOpResponse::Txn(response) => Response::ResponseTxn(txn(response)),
        other => panic!("etcd has a message for each response of a txn, but not for {other:?}"),
    };
    pb::ResponseOp { response: Some(response) }
}

pub(crate) fn watch(response: &WatchResponse) -> pb::WatchResponse {
    pb::WatchResponse {
        header: header(response.header()),
        watch_id: response.watch_id().get(),
        created: response.created(),
        canceled: response.canceled(),
        compact_revision: Revision::to_wire(response.compact_revision()),
        cancel_reason: response.cancel_reason().to_owned(),
        fragment: response.fragment(),
        events: response.events().iter().map(event).collect(),
    }
}

fn event(event: &Event) -> mvccpb::Event {
    let event_type = match event.event_type() {
        EventType::Put => mvccpb::event::EventType::Put,
        EventType::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: event_type.into(),
        kv: Some(key_value(event.kv())),
        prev_kv: event.prev_kv().map(key_value),
    }
}

pub(crate) fn alarms(alarms: &[Alarm]) -> Vec<pb::AlarmMember> {
    let member = |alarm: &Alarm| {
        let kind = match alarm.alarm {
            AlarmType::None => pb::AlarmType::None,
            AlarmType::NoSpace => pb::AlarmType::Nospace,
            AlarmType::Corrupt => pb::AlarmType::Corrupt,
            other => panic!("etcd has a message for each alarm, but not for {other:?}"),
        };
        pb::AlarmMember { member_id: alarm.member_id, alarm: kind.into() }
    };
    alarms.iter().map(member).collect()
}

pub(crate) fn leader_key(leader: LeaderKey) -> v3electionpb::LeaderKey {
    v3electionpb::LeaderKey {
        name: leader.name,
        key: leader.key,
        rev: leader.rev.get(),
        lease: leader.lease.get(),
    }
}

/// Returns a duration in seconds, rounded down as etcd does.
pub(crate) fn seconds(duration: Duration) -> i64 {
    duration.as_secs().try_into().unwrap_or(i64::MAX)
}
