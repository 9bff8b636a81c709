//! Conversions of the responses of the `etcd-client` crate into the wire's.

use leasehold_etcd::etcd_client::{
    DeleteResponse, Error, Event, EventType, GetResponse, KeyValue, LeaderKey, PutResponse, ResponseHeader,
    TxnOpResponse, TxnResponse, WatchResponse,
};
use leasehold_testkit::wire;
use leasehold_testkit::wire::Failure;
use tonic::Status;

/// # Panics
/// If the error is not a gRPC status: the crate refused a request that etcd would have answered.
pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::GRpcStatus(status) => failure_of_status(status),
        other => panic!("the client reports an error of its own: {other}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
pub(crate) fn failure_of_status(status: Status) -> Failure {
    // The names of tonic's codes are gRPC's.
    Failure::new(&format!("{:?}", status.code()), status.message())
}

pub(crate) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.expect("a response has a header").revision()
}

pub(crate) fn kv(kv: &KeyValue) -> wire::Kv {
    wire::Kv {
        key: kv.key().to_vec(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        value: kv.value().to_vec(),
        lease: kv.lease(),
    }
}

pub(crate) fn range(response: &GetResponse) -> wire::RangeResponse {
    wire::RangeResponse {
        revision: revision(response.header()),
        kvs: response.kvs().iter().map(kv).collect(),
        more: response.more(),
        count: response.count(),
    }
}

pub(crate) fn put(response: &PutResponse) -> wire::PutResponse {
    wire::PutResponse { revision: revision(response.header()), prev_kv: response.prev_key().map(kv) }
}

pub(crate) fn delete_range(response: &DeleteResponse) -> wire::DeleteRangeResponse {
    wire::DeleteRangeResponse {
        revision: revision(response.header()),
        deleted: response.deleted(),
        prev_kvs: response.prev_kvs().iter().map(kv).collect(),
    }
}

pub(crate) fn txn(response: &TxnResponse) -> wire::TxnResponse {
    let responses = response.op_responses();
    let responses = responses.iter().map(|response| match response {
        TxnOpResponse::Get(response) => wire::OpResponse::Range(range(response)),
        TxnOpResponse::Put(response) => wire::OpResponse::Put(put(response)),
        TxnOpResponse::Delete(response) => wire::OpResponse::DeleteRange(delete_range(response)),
        TxnOpResponse::Txn(response) => wire::OpResponse::Txn(txn(response)),
    });
    wire::TxnResponse {
        revision: revision(response.header()),
        succeeded: response.succeeded(),
        responses: responses.collect(),
    }
}

/// The crate hides whether a response is a fragment.
pub(crate) fn watch(response: &WatchResponse) -> wire::WatchResponse {
    wire::WatchResponse {
        revision: revision(response.header()),
        watch_id: response.watch_id(),
        created: response.created(),
        canceled: response.canceled(),
        compact_revision: response.compact_revision(),
        cancel_reason: response.cancel_reason().to_owned(),
        fragment: false,
        events: response.events().iter().map(event).collect(),
    }
}

fn event(event: &Event) -> wire::WatchEvent {
    wire::WatchEvent {
        delete: event.event_type() == EventType::Delete,
        kv: kv(event.kv().expect("an event has a pair")),
        prev_kv: event.prev_kv().map(kv),
        prev_kv_compacted: false,
    }
}

pub(crate) fn leader_key(leader: &LeaderKey) -> wire::LeaderKey {
    wire::LeaderKey {
        name: leader.name().to_vec(),
        key: leader.key().to_vec(),
        rev: leader.rev(),
        lease: leader.lease(),
    }
}
