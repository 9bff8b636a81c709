//! Responses that a backend builds with the public constructors, equal to a store's responses.

use std::pin::Pin;
use std::sync::Arc;

use leasehold::backend::{Backend, Delivery, Inbox, Request, RequestKind, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType, Status};
use leasehold::response::{
    AlarmResponse, CompactResponse, DeleteResponse, GetResponse, GrantResponse, HashKvResponse,
    KeepAliveResponse, LeasesResponse, PageResponse, PutResponse, ResponseHeader, RevokeResponse,
    SnapshotResponse, TimeToLiveResponse, TxnOpResponse, TxnResponse, WatchResponse,
};
use leasehold::watch::WatchId;
use leasehold::{
    Call, Client, Compact, Compare, CompareOp, Delete, Error, Event, EventType, Get, Grant, KeyRange,
    KeyValue, LeaseId, Limits, Page, Put, Revision, Store, Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{manual_with, secs};
use leasehold_testkit::watch_helpers::{drain_watcher, say};

/// Returns at least one request of each kind, and several of the kinds whose responses vary.
fn requests() -> Vec<Request> {
    let nested = Txn::new().and_then([TxnOp::Put(Put::new("c", "1").prev_kv()), TxnOp::get("c")]);
    let txn = Txn::new().when([Compare::version("a", CompareOp::Greater, 0)]).and_then([
        TxnOp::get("a"),
        TxnOp::Delete(Delete::key("b").prev_kv()),
        TxnOp::Txn(nested),
    ]);
    let full = Alarm { member_id: 7, alarm: AlarmType::NoSpace };
    vec![
        Request::Grant(Grant::new(secs(5)).id(7)),
        Request::Put(Put::new("a", "1").lease(7)),
        Request::Put(Put::new("a", "2").prev_kv()),
        Request::Put(Put::new("b", "1").lease(7)),
        Request::Get(Get::key("a")),
        Request::Get(Get::all().limit(1)),
        Request::Page(Page::new(KeyRange::all(), 1).at(3)),
        Request::TimeToLive { id: 7.into(), keys: true },
        Request::TimeToLive { id: 8.into(), keys: true },
        Request::KeepAlive(7.into()),
        Request::KeepAlive(8.into()),
        Request::Leases,
        Request::Txn(txn),
        Request::Delete(Delete::key("a").prev_kv()),
        Request::HashKv(0.into()),
        Request::Compact(Compact::new(3)),
        Request::HashKv(0.into()),
        Request::Revoke(7.into()),
        Request::Alarm(AlarmRequest::activate(full)),
        Request::Alarm(AlarmRequest::list()),
        Request::Status,
        Request::Snapshot,
    ]
}

fn rebuilt_header(header: &ResponseHeader) -> ResponseHeader {
    ResponseHeader::new(header.cluster_id(), header.member_id(), header.revision(), header.raft_term())
}

fn rebuilt_kv(kv: &KeyValue) -> KeyValue {
    let (created, modified) = (kv.create_revision(), kv.mod_revision());
    KeyValue::new(kv.key(), kv.value(), created, modified, kv.version(), kv.lease())
}

fn rebuilt_kvs(kvs: &[KeyValue]) -> Vec<KeyValue> {
    kvs.iter().map(rebuilt_kv).collect()
}

fn rebuilt_get(get: &GetResponse) -> GetResponse {
    GetResponse::new(rebuilt_header(get.header()), rebuilt_kvs(get.kvs()), get.more(), get.count())
}

fn rebuilt_put(put: &PutResponse) -> PutResponse {
    PutResponse::new(rebuilt_header(put.header()), put.prev_kv().map(rebuilt_kv))
}

fn rebuilt_delete(delete: &DeleteResponse) -> DeleteResponse {
    DeleteResponse::new(rebuilt_header(delete.header()), delete.deleted(), rebuilt_kvs(delete.prev_kvs()))
}

fn rebuilt_txn(txn: &TxnResponse) -> TxnResponse {
    let rebuilt = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(get) => TxnOpResponse::Get(rebuilt_get(get)),
        TxnOpResponse::Put(put) => TxnOpResponse::Put(rebuilt_put(put)),
        TxnOpResponse::Delete(delete) => TxnOpResponse::Delete(rebuilt_delete(delete)),
        TxnOpResponse::Txn(txn) => TxnOpResponse::Txn(rebuilt_txn(txn)),
        other => panic!("unknown kind: {other:?}"),
    };
    let responses = txn.responses().iter().map(rebuilt).collect();
    TxnResponse::new(rebuilt_header(txn.header()), txn.succeeded(), responses)
}

/// Builds a response from the values of its getters.
fn rebuilt(response: &Response) -> Response {
    let header = rebuilt_header(response.header());
    match response {
        Response::Get(get) => Response::Get(rebuilt_get(get)),
        Response::Put(put) => Response::Put(rebuilt_put(put)),
        Response::Delete(delete) => Response::Delete(rebuilt_delete(delete)),
        Response::Txn(txn) => Response::Txn(rebuilt_txn(txn)),
        Response::Compact(_) => Response::Compact(CompactResponse::new(header)),
        Response::Grant(granted) => Response::Grant(GrantResponse::new(header, granted.id(), granted.ttl())),
        Response::Revoke(_) => Response::Revoke(RevokeResponse::new(header)),
        Response::KeepAlive(kept) => {
            Response::KeepAlive(KeepAliveResponse::new(header, kept.id(), kept.ttl()))
        }
        Response::TimeToLive(lease) => {
            let (ttl, granted_ttl, keys) = (lease.ttl(), lease.granted_ttl(), lease.keys().to_vec());
            Response::TimeToLive(TimeToLiveResponse::new(header, lease.id(), ttl, granted_ttl, keys))
        }
        Response::Leases(leases) => Response::Leases(LeasesResponse::new(header, leases.leases().to_vec())),
        Response::Status(status) => Response::Status(Status::new(
            header,
            status.compact_revision(),
            status.keys(),
            status.versions(),
            status.leases(),
            status.bytes_held(),
        )),
        Response::HashKv(hash) => {
            let (compacted, revision) = (hash.compact_revision(), hash.hash_revision());
            Response::HashKv(HashKvResponse::new(header, hash.hash(), compacted, revision))
        }
        Response::Alarm(alarm) => Response::Alarm(AlarmResponse::new(header, alarm.alarms().to_vec())),
        Response::Page(page) => {
            Response::Page(PageResponse::new(header, page.revision(), rebuilt_kvs(page.kvs()), page.more()))
        }
        Response::Snapshot(copy) => Response::Snapshot(SnapshotResponse::new(header, copy.blob().clone())),
        other => panic!("unknown kind of response: {other:?}"),
    }
}

#[test]
fn response_of_each_kind_is_rebuilt_by_its_constructor() {
    let store = Store::new();
    let mut kinds: Vec<RequestKind> = Vec::new();
    for request in requests() {
        let kind = request.kind();
        let response = store.call(request).wait().unwrap_or_else(|error| panic!("{kind} failed: {error}"));
        assert_eq!(response.kind(), kind);
        assert_eq!(rebuilt(&response), response);
        kinds.push(kind);
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 15, "{kinds:?}");
}

fn rebuilt_event(event: &Event) -> Event {
    let kv = match event.event_type() {
        EventType::Put => rebuilt_kv(event.kv()),
        EventType::Delete => KeyValue::tombstone(event.kv().key(), event.kv().mod_revision()),
    };
    Event::new(kv, event.prev_kv().map(rebuilt_kv))
}

/// Builds a watch response field by field, as a backend does from etcd's message.
fn rebuilt_watch(response: &WatchResponse) -> WatchResponse {
    let (id, header) = (response.watch_id(), rebuilt_header(response.header()));
    match (response.created(), response.canceled()) {
        (true, true) => WatchResponse::new_refused(header, response.cancel_reason()),
        (true, false) => WatchResponse::new_created(id, header),
        (false, true) => match response.compact_revision() {
            Some(revision) => WatchResponse::new_compacted(id, header, revision),
            None => WatchResponse::new_canceled(id, header, response.cancel_reason()),
        },
        (false, false) if response.events().is_empty() => WatchResponse::new_progress(id, header),
        (false, false) => {
            let events = response.events().iter().map(rebuilt_event).collect();
            WatchResponse::new_events(id, header, events, response.fragment())
        }
    }
}

/// Covers all kinds of watch responses. Five values of 200 KB are delivered in fragments.
#[test]
fn watch_response_of_each_kind_is_rebuilt_by_its_constructor() {
    let (store, _) = manual_with(Limits { max_request_bytes: 250_000, ..Limits::default() });
    let mut stream = store.client().watch_stream();
    for key in ["k1", "k2", "k3", "k4", "k5"] {
        store.put((key, vec![b'v'; 200_000])).unwrap();
    }
    stream.create(Watch::prefix("k").prev_kv().fragment());
    stream.create(Watch::range(KeyRange::between("b", "a")));
    stream.create(Watch::key("a").id(3));
    stream.create(Watch::key("a").id(3));
    stream.request_progress();
    store.put(("k1", "small")).unwrap();
    store.delete(Delete::prefix("k")).unwrap();
    stream.cancel(3);
    store.compact(5).unwrap();
    stream.create(Watch::key("a").start_revision(2));
    let mut lines = Vec::new();
    while let Some(response) = stream.try_recv().unwrap() {
        assert_eq!(rebuilt_watch(&response), response);
        lines.push(say(&response).split_whitespace().nth(2).unwrap().to_owned());
    }
    let expected = [
        "created",
        "refused:",
        "created",
        "refused:",
        "progress",
        "put",
        "delete",
        "delete",
        "canceled",
        "created",
        "compacted",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn negative_start_revision_is_refused_with_etcds_message() {
    let store = Store::new();
    let mut stream = store.client().watch_stream();
    stream.create(Watch::key("a").start_revision(-3));
    let refused = stream.try_recv().unwrap().expect("a creation has a response");
    assert_eq!(refused.cancel_reason(), "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(rebuilt_watch(&refused).cancel_reason(), refused.cancel_reason());
}

#[test]
fn watch_response_keeps_a_foreign_cancel_reason() {
    let header = ResponseHeader::new(1, 2, 3, 4);
    let refused = WatchResponse::new_refused(header, "etcdserver: permission denied");
    assert_eq!((refused.created(), refused.canceled(), refused.watch_id()), (true, true, WatchId::INVALID));
    assert_eq!(refused.cancel_reason(), "etcdserver: permission denied");
    let ended = WatchResponse::new_canceled(5, header, "etcdserver: no leader");
    assert_eq!((ended.created(), ended.canceled(), ended.watch_id()), (false, true, WatchId::new(5)));
    assert_eq!((ended.cancel_reason(), ended.compact_revision()), ("etcdserver: no leader", None));
    assert!(format!("{ended:?}").contains("no leader"), "{ended:?}");
    assert_ne!(ended, WatchResponse::new_canceled(5, header, ""));
    let created = WatchResponse::new_created(5, header);
    assert_eq!((created.cancel_reason(), created.events().len(), created.fragment()), ("", 0, false));
}

#[test]
fn tombstone_has_only_key_and_mod_revision() {
    let kv = KeyValue::tombstone("a", 7);
    let fields = (kv.key(), kv.value(), kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease());
    assert_eq!(fields, (&b"a"[..], &b""[..], Revision::new(0), Revision::new(7), 0, LeaseId::NONE));
    assert_eq!(Event::new(kv, None).event_type(), EventType::Delete);
    let kv = KeyValue::new([0xff], [], 7, 7, 1, 9);
    let event = Event::new(kv.clone(), Some(KeyValue::new("b", "c", 1, 2, 2, 0)));
    assert!(event.is_create());
    assert_eq!((event.kv(), event.prev_kv().map(KeyValue::version)), (&kv, Some(2)));
}

/// A backend that delivers recorded responses to each stream and fails every call.
struct Recorded(Vec<WatchResponse>);

impl Backend for Recorded {
    fn call(&self, _: Request) -> Call<Response> {
        Call::from_result(Err(Error::Stopped))
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        if requests.is_empty() {
            return;
        }
        for response in &self.0 {
            assert!(
                inbox.push(Delivery::Watch(response.clone()), self.now()).is_none(),
                "no task waits on the inbox before its creation returns"
            );
        }
    }

    fn timer(&self, _: Option<Timestamp>, _: &Arc<Inbox>) {}

    fn renew(&self, _: LeaseId, _: bool) {}

    fn pull(&self, _: &Inbox) {}

    fn cancel(&self, _: &Inbox) {}

    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn detach(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

fn watched<const N: usize>(responses: [WatchResponse; N]) -> Vec<String> {
    drain_watcher(&mut Client::new(Recorded(responses.into())).watch("a"))
}

#[test]
fn watcher_receives_recorded_responses() {
    let header = ResponseHeader::new(1, 2, 9, 4);
    let put = Event::new(KeyValue::new("a", "1", 8, 8, 1, 0), None);
    let created = || WatchResponse::new_created(0, header);
    let events = WatchResponse::new_events(0, header, vec![put], false);
    let rest = [WatchResponse::new_progress(0, header), WatchResponse::new_compacted(0, header, 30)];
    let [progress, compacted] = rest;
    let expected =
        ["0 @9 put a=1 8/8/1", "0 @9 progress", "Compacted { requested: R10, compacted: Some(R30) }"];
    assert_eq!(watched([created(), events, progress, compacted]), expected);
    assert_eq!(watched([created(), WatchResponse::new_canceled(0, header, "")]), ["WatchCanceled"]);
    let with_reason = WatchResponse::new_canceled(0, header, "no leader");
    let reason = "Foreign { code: FailedPrecondition, message: \"no leader\" }";
    assert_eq!(watched([created(), with_reason]), [reason]);
}

/// A reason of etcd becomes the error that it names, and other text is kept.
#[test]
fn watcher_reports_recorded_refusals() {
    let header = ResponseHeader::new(1, 2, 9, 4);
    let reasons = [
        ("mvcc: watcher range is empty", "WatchRangeEmpty"),
        ("mvcc: duplicate watch ID provided on the WatchStream", "WatchIdTaken"),
        (
            "etcdserver: mvcc: required revision has been compacted",
            "Compacted { requested: R0, compacted: None }",
        ),
        (
            "etcdserver: permission denied",
            r#"Foreign { code: FailedPrecondition, message: "etcdserver: permission denied" }"#,
        ),
    ];
    for (reason, error) in reasons {
        assert_eq!(watched([WatchResponse::new_refused(header, reason)]), [error], "{reason}");
    }
}
