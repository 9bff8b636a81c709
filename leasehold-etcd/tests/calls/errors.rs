//! Calls that fail: deadlines, unknown methods, sizes, a closed store.

use std::task::{Context, Poll};

use futures_executor::block_on;
use futures_util::FutureExt;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request};
use leasehold::{Limits, Store};
use leasehold_etcd::EtcdService;
use leasehold_etcd::etcd_client::{Client, LockOptions};
use leasehold_testkit::helpers::{all_keys, manual, manual_with, secs};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::helpers::{done, lock, put, received, start, status, store_with_leases, watch};

/// Adds a `grpc-timeout` to each request, as a client with a deadline does.
#[derive(Clone)]
struct WithTimeout(EtcdService, &'static str);

impl Service<Request<Body>> for WithTimeout {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <EtcdService as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(self.1));
        self.0.call(request)
    }
}

fn with_timeout(store: &Store, timeout: &'static str) -> Client {
    leasehold_etcd::client_over(WithTimeout(leasehold_etcd::service(store), timeout))
}

/// R-LCK-9: the key is deleted before the response.
#[test]
fn lock_past_its_deadline_fails_and_leaves_no_key() {
    let (store, clock, mut client) = store_with_leases();
    drop(block_on(client.lock("disk", with_lease(1))).expect("the lock is free"));
    for (timeout, seconds) in [("5S", 5), ("5000m", 5), ("5000000u", 5), ("5000000000n", 5), ("1M", 60)] {
        let mut waiting = lock(&with_timeout(&store, timeout), "disk", 2);
        assert_eq!(all_keys(&store), ["disk/1", "disk/2"]);
        store.keep_alive(1).expect("the store is open");
        clock.advance(secs(seconds - 1));
        assert!((&mut waiting).now_or_never().is_none(), "{timeout} is not over");
        store.keep_alive(1).expect("the store is open");
        store.keep_alive(2).expect("the store is open");
        clock.advance(secs(1));
        let (code, message) = status(done(&mut waiting));
        assert_eq!((code, &*message), (Code::DeadlineExceeded, "context deadline exceeded"));
        assert_eq!(all_keys(&store), ["disk/1"], "{timeout}");
        assert_eq!(store.waiters().expect("the store is open"), []);
    }
    assert_eq!(store.diagnostics().expect("the store is open").timers, 0);
}

/// A call that completes before its deadline leaves no timer.
#[test]
fn call_before_its_deadline_succeeds() {
    let (store, _clock) = manual();
    let mut client = with_timeout(&store, "1H");
    block_on(client.put("k", "1", None)).expect("the put is valid");
    assert_eq!(all_keys(&store), ["k"]);
    let counts = store.diagnostics().expect("the store is open");
    assert_eq!((counts.timers, store.next_deadline()), (0, None));
}

/// The deadline of a stream passes while it is open, and ends the server's side.
#[test]
fn stream_past_its_deadline_fails_and_leaves_nothing() {
    let (store, clock, mut client) = store_with_leases();
    drop(block_on(client.campaign("boss", "1", 1)).expect("the election is free"));
    let mut client = with_timeout(&store, "5S");
    let mut events = block_on(watch(&mut client, "a"));
    let (_keeper, mut answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    let mut leaders = block_on(client.observe("boss")).expect("the store is open");
    block_on(leaders.message()).expect("the store is open").expect("the stream is open");

    clock.advance(secs(4));
    put(&mut client, "a", "1");
    assert_eq!(received(&mut events), ["0 1"]);
    put(&mut client, "a", "2");
    clock.advance(secs(1));
    let exceeded = (Code::DeadlineExceeded, "context deadline exceeded".to_owned());
    let event = events.message().now_or_never().expect("the event is available").expect("the event is first");
    assert_eq!(event.map(|response| response.events().len()), Some(1));
    assert_eq!(status(events.message().now_or_never().expect("the stream ends")), exceeded);
    assert_eq!(status(answers.message().now_or_never().expect("the stream ends")), exceeded);
    assert_eq!(status(leaders.message().now_or_never().expect("the stream ends")), exceeded);
    let counts = store.diagnostics().expect("the store is open");
    assert_eq!((counts.streams, counts.watchers, counts.timers), (0, 0, 0));
}

/// A client sends a timeout of 0 if its deadline has passed before the call. etcd does not apply the request.
#[test]
fn call_without_time_fails_and_is_not_applied() {
    let (store, _clock) = manual();
    for timeout in ["0n", "0H"] {
        let (code, message) = status(block_on(with_timeout(&store, timeout).put("k", "1", None)));
        assert_eq!((code, &*message), (Code::DeadlineExceeded, "context deadline exceeded"));
        assert_eq!(status(block_on(with_timeout(&store, timeout).watch("k", None))).0, code);
        assert!(all_keys(&store).is_empty(), "{timeout}");
    }
}

/// The largest number that gRPC allows, and the largest of the type, are beyond the end of time.
#[test]
fn call_with_longest_timeout_succeeds() {
    let (store, _clock) = manual();
    for timeout in ["99999999H", "18446744073709551615H"] {
        let mut client = with_timeout(&store, timeout);
        block_on(client.put("k", "1", None)).expect("the put is valid");
        block_on(watch(&mut client, "k"));
    }
}

#[test]
fn unknown_method_and_service_are_unimplemented_with_a_sentence() {
    let (store, _clock) = manual();
    for path in ["/etcdserverpb.KV/Increment", "/etcdserverpb.Queue/Push", "/", "/etcdserverpb.KV"] {
        let status =
            block_on(unary(leasehold_etcd::service(&store), path)).expect_err("no such method exists");
        let sentence = format!("{path} is not a method of etcd's API");
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, &*sentence));
    }
}

async fn unary(service: EtcdService, path: &'static str) -> Result<(), Status> {
    let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<(), ()>::default());
    Grpc::new(service).unary(tonic::Request::new(()), path, codec).await.map(tonic::Response::into_inner)
}

const MIB: usize = 1024 * 1024;

/// A request of any length reaches the store, which has its own limit. The `etcd-client` crate decodes 4 MiB of a response unless
/// the limit of a `KvClient` or `WatchClient` is raised, with etcd as well.
#[test]
fn messages_above_4_mib_pass_with_raised_limits() {
    let (store, _clock) = manual();
    let refused = status(block_on(leasehold_etcd::client(&store).put("k", vec![0; 5 * MIB], None)));
    assert_eq!(refused, (Code::InvalidArgument, "etcdserver: request is too large".into()));

    let (store, _clock) = manual_with(Limits { max_request_bytes: 64 * MIB, ..Limits::default() });
    let mut client = leasehold_etcd::client(&store);
    let mut raised = client.watch_client().max_decoding_message_size(usize::MAX);
    let mut stream = block_on(raised.watch("k", None)).expect("the store is open");
    block_on(client.put("k", vec![7; 5 * MIB], None)).expect("the limit of the store is raised");
    let (code, message) = status(block_on(client.get("k", None)));
    assert_eq!(code, Code::OutOfRange);
    assert!(message.contains("decoded message length too large"), "{message}");

    let mut raised = client.kv_client().max_decoding_message_size(usize::MAX);
    let got = block_on(raised.get("k", None)).expect("the limit of the client is raised");
    assert_eq!(got.kvs()[0].value(), vec![7; 5 * MIB]);
    let created = block_on(stream.message()).expect("the store is open").expect("the stream is open");
    assert!(created.created());
    let put =
        block_on(stream.message()).expect("the limit of the client is raised").expect("the stream is open");
    assert_eq!(put.events()[0].kv().map(|kv| kv.value().len()), Some(5 * MIB));
}

#[test]
fn closed_store_ends_calls_and_streams_as_unavailable() {
    let (store, _clock, mut client) = store_with_leases();
    drop(block_on(client.lock("disk", with_lease(1))).expect("the lock is free"));
    let mut waiting = lock(&client, "disk", 2);
    let mut stream = block_on(watch(&mut client, "a"));
    let mut unread = block_on(watch(&mut client, "b"));
    let (mut keeper, mut answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    let mut leaders = block_on(client.observe("boss")).expect("the store is open");
    let mut events = start(async move { stream.message().await });
    store.close();

    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(status(done(&mut waiting)), stopped);
    assert_eq!(status(done(&mut events)), stopped);
    assert_eq!(status(block_on(unread.message())), stopped);
    block_on(keeper.keep_alive()).expect("the client's side is open");
    assert_eq!(status(block_on(answers.message())), stopped);
    assert_eq!(status(block_on(client.put("k", "1", None))), stopped);
    assert_eq!(status(block_on(client.lock("disk", with_lease(3)))), stopped);
    assert_eq!(status(block_on(client.member_list())), stopped);
    assert_eq!(status(block_on(client.lease_keep_alive(1))), stopped);
    assert_eq!(status(block_on(leaders.message())), stopped);
}

fn with_lease(lease: i64) -> Option<LockOptions> {
    Some(LockOptions::new().with_lease(lease))
}
