//! The errors that a client receives.

use leasehold_etcd::Method;
use leasehold_etcd::faults::{Fault, Outage};
use tonic::Code;

use crate::{faulty, panics, proxy_outage, status};

const BROKEN_STREAM: &str = "h2 protocol error: error reading a body from connection";

/// The outages that may follow a request that was applied, with the code and the text of a call.
fn ambiguous() -> [(Outage, Code, &'static str); 5] {
    [
        (Outage::LeaderChanged, Code::Unavailable, "etcdserver: leader changed"),
        (Outage::TimedOut, Code::Unavailable, "etcdserver: request timed out"),
        (Outage::DeadlineExceeded, Code::DeadlineExceeded, "context deadline exceeded"),
        (Outage::ConnectionLost, Code::Unknown, "transport error"),
        (proxy_outage(), Code::Internal, "100 % of upstreams are down\n"),
    ]
}

/// The outages that never follow a request that was applied.
fn definite() -> [(Outage, Code, &'static str); 3] {
    [
        (Outage::NoLeader, Code::Unavailable, "etcdserver: no leader"),
        (Outage::TooManyRequests, Code::ResourceExhausted, "etcdserver: too many requests"),
        (Outage::Unreachable, Code::Unavailable, "tcp connect error"),
    ]
}

#[tokio::test]
async fn refused_call_fails_with_outage_and_is_not_applied() {
    for (outage, code, text) in ambiguous().into_iter().chain(definite()) {
        let (store, faults, mut etcd) = faulty();
        let refused = faults.add(Fault::refuse(Method::Put, outage));
        let error = status(etcd.put("key", "value", None).await);
        assert_eq!((error.code(), error.message()), (code, text));
        assert_eq!(store.get("key").expect("a get is answered").count(), 0, "{text}");
        assert_eq!(refused.count(), 1, "{text}");
        etcd.put("key", "value", None).await.expect("the fault has passed");
        assert_eq!(refused.count(), 1, "{text}");
    }
}

#[tokio::test]
async fn call_with_lost_answer_fails_with_outage_and_is_applied() {
    for (outage, code, text) in ambiguous() {
        let (store, faults, mut etcd) = faulty();
        let lost = faults.add(Fault::lose_answer(Method::Put, outage));
        let error = status(etcd.put("key", "value", None).await);
        assert_eq!((error.code(), error.message()), (code, text));
        assert_eq!(store.get("key").expect("a get is answered").count(), 1, "{text}");
        assert_eq!(lost.count(), 1, "{text}");
    }
}

#[test]
fn lost_answer_with_definite_outage_panics() {
    for (outage, ..) in definite() {
        assert!(panics(|| Fault::lose_answer(Method::Put, outage)));
    }
}

#[tokio::test]
async fn open_stream_ends_with_outage() {
    for (outage, code, text) in ambiguous().into_iter().chain(definite()) {
        let (code, text) = match outage {
            Outage::ConnectionLost | Outage::Unreachable => (Code::Unknown, BROKEN_STREAM),
            _ => (code, text),
        };
        let (_store, faults, mut etcd) = faulty();
        let mut watch = etcd.watch("key", None).await.expect("a watch is answered");
        assert_eq!(faults.cut(Method::Watch, outage), 1, "{text}");
        let error = status(watch.message().await);
        assert_eq!((error.code(), error.message()), (code, text));
    }
}

#[tokio::test]
async fn stream_that_is_refused_or_lost_fails_like_a_call() {
    let (store, faults, mut etcd) = faulty();
    faults.add(Fault::refuse(Method::Watch, Outage::ConnectionLost));
    faults.add(Fault::lose_answer(Method::Watch, Outage::ConnectionLost));
    for _ in 0..2 {
        assert_eq!(status(etcd.watch("key", None).await).message(), "transport error");
    }
    assert_eq!(store.diagnostics().expect("the store is open").watchers, 0);
    etcd.watch("key", None).await.expect("both faults have passed");
}
