//! Conversions of the crate's responses into the wire's.

use std::time::Duration;

use leasehold::maintenance::{AlarmType, Status};
use leasehold::response::{
    AlarmResponse, DeleteResponse, GetResponse, GrantResponse, HashKvResponse, KeepAliveResponse,
    LeasesResponse, PutResponse, ResponseHeader, TimeToLiveResponse, TxnOpResponse, TxnResponse,
    WatchResponse,
};
use leasehold::{Error, Event, EventType, KeyValue, Revision};

use crate::wire;

pub fn failure(error: &Error) -> wire::Failure {
    wire::Failure::new(&error.code().to_string(), &error.to_string())
}

pub fn revision(header: &ResponseHeader) -> i64 {
    header.revision().get()
}

pub fn range(response: &GetResponse) -> wire::RangeResponse {
    wire::RangeResponse {
        revision: revision(response.header()),
        kvs: response.kvs().iter().map(kv).collect(),
        more: response.more(),
        count: response.count(),
    }
}

pub fn put(response: &PutResponse) -> wire::PutResponse {
    wire::PutResponse { revision: revision(response.header()), prev_kv: response.prev_kv().map(kv) }
}

pub fn delete_range(response: &DeleteResponse) -> wire::DeleteRangeResponse {
    wire::DeleteRangeResponse {
        revision: revision(response.header()),
        deleted: response.deleted(),
        prev_kvs: response.prev_kvs().iter().map(kv).collect(),
    }
}

pub fn txn(response: &TxnResponse) -> wire::TxnResponse {
    let responses = response.responses().iter().map(|response| match response {
        TxnOpResponse::Get(response) => wire::OpResponse::Range(range(response)),
        TxnOpResponse::Put(response) => wire::OpResponse::Put(put(response)),
        TxnOpResponse::Delete(response) => wire::OpResponse::DeleteRange(delete_range(response)),
        TxnOpResponse::Txn(response) => wire::OpResponse::Txn(txn(response)),
        other => panic!("the model has no such response: {other:?}"),
    });
    wire::TxnResponse {
        revision: revision(response.header()),
        succeeded: response.succeeded(),
        responses: responses.collect(),
    }
}

pub fn hash_kv(response: &HashKvResponse) -> wire::Response {
    wire::Response::HashKv {
        revision: revision(response.header()),
        hash: response.hash(),
        compact_revision: compacted(response.compact_revision()),
    }
}

pub fn lease_grant(response: &GrantResponse) -> wire::Response {
    wire::Response::LeaseGrant {
        revision: revision(response.header()),
        id: response.id().get(),
        ttl: seconds(response.ttl()),
    }
}

pub fn lease_keep_alive(response: &KeepAliveResponse) -> wire::Response {
    wire::Response::LeaseKeepAlive {
        revision: revision(response.header()),
        id: response.id().get(),
        ttl: response.ttl().map_or(0, seconds),
    }
}

pub fn lease_time_to_live(response: &TimeToLiveResponse) -> wire::Response {
    wire::Response::LeaseTimeToLive {
        revision: revision(response.header()),
        id: response.id().get(),
        ttl: response.ttl().map_or(-1, seconds),
        granted_ttl: response.granted_ttl().map_or(0, seconds),
        keys: response.keys().to_vec(),
    }
}

pub fn lease_leases(response: &LeasesResponse) -> wire::Response {
    wire::Response::LeaseLeases {
        revision: revision(response.header()),
        ids: response.leases().iter().map(|id| id.get()).collect(),
    }
}

pub fn alarm(response: &AlarmResponse) -> wire::Response {
    let kind = |alarm| match alarm {
        AlarmType::None => wire::AlarmKind::None,
        AlarmType::NoSpace => wire::AlarmKind::NoSpace,
        AlarmType::Corrupt => wire::AlarmKind::Corrupt,
        other => panic!("the model has no such alarm: {other:?}"),
    };
    wire::Response::Alarm {
        revision: revision(response.header()),
        alarms: response.alarms().iter().map(|alarm| (alarm.member_id, kind(alarm.alarm))).collect(),
    }
}

pub fn events(events: impl IntoIterator<Item = Event>) -> wire::Response {
    let changes = events
        .into_iter()
        .map(|event| wire::Change { delete: event.event_type() == EventType::Delete, kv: kv(event.kv()) });
    wire::Response::Events(changes.collect())
}

pub fn watch(response: &WatchResponse) -> wire::WatchResponse {
    let event = |event: &Event| wire::WatchEvent {
        delete: event.event_type() == EventType::Delete,
        kv: kv(event.kv()),
        prev_kv: event.prev_kv().map(kv),
        prev_kv_compacted: event.is_prev_kv_compacted(),
    };
    wire::WatchResponse {
        revision: revision(response.header()),
        watch_id: response.watch_id().get(),
        created: response.created(),
        canceled: response.canceled(),
        compact_revision: response.compact_revision().map_or(0, Revision::get),
        cancel_reason: response.cancel_reason().to_owned(),
        fragment: response.fragment(),
        events: response.events().iter().map(event).collect(),
    }
}

pub fn status(status: &Status) -> wire::Response {
    wire::Response::Status(wire::Status {
        revision: revision(status.header()),
        compacted: compacted(status.compact_revision()),
        keys: status.keys(),
        versions: status.versions(),
        leases: status.leases(),
        bytes: status.bytes_held(),
    })
}

pub fn kv(kv: &KeyValue) -> wire::Kv {
    wire::Kv {
        key: kv.key().to_vec(),
        create_revision: kv.create_revision().get(),
        mod_revision: kv.mod_revision().get(),
        version: kv.version(),
        value: kv.value().to_vec(),
        lease: kv.lease().get(),
    }
}

/// Returns the compacted revision as on the wire: -1 if there is none.
fn compacted(revision: Option<Revision>) -> i64 {
    revision.map_or(-1, Revision::get)
}

/// Returns a duration in whole seconds, truncated as on the wire (R-LSE-10).
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
