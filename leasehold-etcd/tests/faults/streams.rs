//! Streams that are cut, and clients that resume.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use leasehold::{Get, LeaseId, ManualClock, Store};
use leasehold_etcd::Method;
use leasehold_etcd::etcd_client::{Client, GetOptions, LockOptions, WatchOptions, WatchStream};
use leasehold_etcd::faults::{Fault, Outage};
use tokio::task::yield_now;

use crate::{faulty, over, status};

fn watchers(store: &Store) -> usize {
    store.diagnostics().expect("the store is open").watchers
}

/// Watches all orders from a revision on. The first message is received: the watch was created.
async fn watch_from(etcd: &mut Client, revision: i64) -> WatchStream {
    let options = WatchOptions::new().with_prefix().with_start_revision(revision);
    let mut watch = etcd.watch("orders/", Some(options)).await.expect("a watch is answered");
    assert!(watch.message().await.expect("the stream is open").expect("the stream is open").created());
    watch
}

fn put_order(store: &Store, number: u64) {
    store.put((format!("orders/{number}"), "new")).expect("a put is answered");
}

#[tokio::test]
async fn cut_ends_open_streams_of_method_alone() {
    let (store, faults, mut etcd) = faulty();
    let mut watches = [watch_from(&mut etcd, 1).await, watch_from(&mut etcd, 1).await];
    let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
    let (mut keeper, mut renewals) = etcd.lease_keep_alive(lease).await.expect("a lease is renewed");

    assert_eq!(faults.cut(Method::Watch, Outage::NoLeader), 2);
    assert_eq!(watchers(&store), 0, "the server's side ends with the cut");
    for watch in &mut watches {
        assert_eq!(status(watch.message().await).message(), "etcdserver: no leader");
    }
    assert_eq!(faults.cut(Method::Watch, Outage::NoLeader), 0, "no stream is open");
    keeper.keep_alive().await.expect("the stream is open");
    let renewed = renewals.message().await.expect("the stream is open").expect("the stream is open");
    assert_eq!(renewed.ttl(), 60);
    watch_from(&mut etcd, 1).await;
}

#[tokio::test]
async fn cut_wakes_client_that_waits() {
    let (_store, faults, mut etcd) = faulty();
    let mut watch = watch_from(&mut etcd, 1).await;
    let waiting = tokio::spawn(async move { watch.message().await });
    yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
    status(waiting.await.expect("the task does not panic"));
}

#[tokio::test]
async fn streams_that_end_are_forgotten() {
    let (store, faults, mut etcd) = faulty();
    let watches = [watch_from(&mut etcd, 1).await, watch_from(&mut etcd, 1).await];
    assert!(format!("{faults:?}").contains("open_streams: 2"), "{faults:?}");
    drop(watches);
    assert!(format!("{faults:?}").contains("open_streams: 0"), "{faults:?}");
    assert_eq!(watchers(&store), 0);
}

/// Every number of messages before the cut. The client resumes at the revision after the last event, and receives each event once.
#[tokio::test]
async fn watch_resumed_from_revision_receives_each_event_once() {
    for messages in 0..=6 {
        let (store, faults, mut etcd) = faulty();
        let cut = faults.add(Fault::cut_after(Method::Watch, messages, Outage::ConnectionLost));
        let (mut received, mut next, mut cuts) = (Vec::new(), 1, 0);
        let options = |next| Some(WatchOptions::new().with_prefix().with_start_revision(next));
        let mut watch = etcd.watch("orders/", options(next)).await.expect("a watch is answered");
        let mut put = 0;
        while received.len() < 5 {
            // One event a message: each order is put when the order before it was received.
            if received.len() == put {
                put += 1;
                put_order(&store, put as u64);
            }
            match watch.message().await {
                Ok(message) => {
                    for event in message.expect("the stream is open").events() {
                        let kv = event.kv().expect("an event has a pair");
                        received.push(kv.key_str().expect("a key is text").to_owned());
                        next = kv.mod_revision() + 1;
                    }
                }
                Err(_) => {
                    cuts += 1;
                    watch = etcd.watch("orders/", options(next)).await.expect("a watch is answered");
                }
            }
        }
        assert_eq!(received, ["orders/1", "orders/2", "orders/3", "orders/4", "orders/5"]);
        // The first message reports that the watch was created. The cut after the fifth event was not received.
        assert_eq!((cuts, cut.count()), (u64::from(messages < 6), 1), "cut after {messages}");
    }
}

#[tokio::test]
async fn cut_after_last_message_ends_server_side_at_once() {
    let (store, faults, mut etcd) = faulty();
    let cut = faults.add(Fault::cut_after(Method::Watch, 1, Outage::ConnectionLost));
    let mut watch = watch_from(&mut etcd, 1).await;
    assert_eq!((watchers(&store), cut.count()), (0, 1));
    status(watch.message().await);
}

#[tokio::test]
async fn stream_dropped_before_cut_is_not_counted() {
    let (_store, faults, mut etcd) = faulty();
    let cut = faults.add(Fault::cut_after(Method::Watch, 2, Outage::ConnectionLost));
    drop(watch_from(&mut etcd, 1).await);
    assert_eq!(cut.count(), 0);
}

#[tokio::test]
async fn stream_that_ends_before_cut_ends_by_itself() {
    let (store, faults, etcd) = faulty();
    put_order(&store, 1);
    let cut = faults.add(Fault::cut_after(Method::RangeStream, 2, Outage::ConnectionLost));
    let mut pairs = etcd.kv_client().get_stream("orders/1", None).await.expect("a get is answered");
    assert!(pairs.message().await.expect("the answer has one message").is_some());
    assert!(pairs.message().await.expect("the stream ends by itself").is_none());
    assert_eq!((cut.count(), faults.cut(Method::RangeStream, Outage::ConnectionLost)), (0, 0));
}

#[tokio::test]
async fn every_kind_of_stream_is_cut() {
    let (store, faults, mut etcd) = faulty();
    for number in 0..100 {
        put_order(&store, number);
    }
    let cut = |method| faults.add(Fault::cut_after(method, 1, Outage::LeaderChanged));
    let text = "etcdserver: leader changed";

    let counted = cut(Method::RangeStream);
    let options = GetOptions::new().with_prefix();
    let mut pairs = etcd.kv_client().get_stream("orders/", Some(options)).await.expect("a get is answered");
    assert!(pairs.message().await.expect("one message is received").is_some());
    assert_eq!((status(pairs.message().await).message(), counted.count()), (text, 1));

    let counted = cut(Method::Snapshot);
    store.put(("large", vec![7; 100_000])).expect("a put is answered");
    let mut pieces = etcd.snapshot().await.expect("a snapshot is answered");
    assert!(pieces.message().await.expect("one message is received").is_some());
    assert_eq!((status(pieces.message().await).message(), counted.count()), (text, 1));

    let counted = cut(Method::Observe);
    let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
    etcd.campaign("election", "value", lease).await.expect("a campaign is answered");
    let mut leaders = etcd.observe("election").await.expect("an observation is answered");
    assert!(leaders.message().await.expect("one message is received").is_some());
    assert_eq!((status(leaders.message().await).message(), counted.count()), (text, 1));

    let counted = cut(Method::LeaseKeepAlive);
    let (mut keeper, mut renewals) = etcd.lease_keep_alive(lease).await.expect("one message is received");
    assert_eq!((status(renewals.message().await).message(), counted.count()), (text, 1));
    keeper.keep_alive().await.expect_err("the server's side has ended");
    etcd.lease_keep_alive(lease).await.expect("the fault has passed");
}

/// A keep-alive stream that is cut renews nothing, and the lease expires on time unless the client begins again.
#[tokio::test]
async fn lease_expires_after_cut_of_keep_alive() {
    let clock = ManualClock::new();
    let (store, faults, mut etcd) = over(Store::builder().clock(clock.clone()).build());
    let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
    let (mut keeper, _renewals) = etcd.lease_keep_alive(lease).await.expect("the lease is renewed");
    clock.advance(Duration::from_secs(40));
    assert_eq!(faults.cut(Method::LeaseKeepAlive, Outage::ConnectionLost), 1);
    keeper.keep_alive().await.expect_err("the stream has ended");
    clock.advance(Duration::from_secs(21));
    assert!(store.leases().expect("a list is answered").leases().is_empty());
}

#[tokio::test]
async fn lost_lease_ends_lock() {
    let (store, _faults, mut etcd) = faulty();
    let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
    let options = LockOptions::new().with_lease(lease);
    etcd.lock("lock", Some(options.clone())).await.expect("a lock is answered");
    store.expire(LeaseId::new(lease)).expect("the lease exists");
    assert_eq!(store.get(Get::prefix("lock/")).expect("a get is answered").count(), 0);
    let error = status(etcd.lock("lock", Some(options)).await);
    assert_eq!(error.message(), "etcdserver: requested lease not found");
}

/// Streams are cut from several threads while clients receive: each stream ends, and no thread waits forever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_race_with_receiving_clients() {
    let (store, faults, etcd) = faulty();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut etcd = etcd.clone();
            tokio::spawn(async move {
                let mut cuts = 0;
                while cuts < 50 {
                    let mut watch = etcd.watch("orders/1", None).await.expect("a watch is answered");
                    while watch.message().await.is_ok() {}
                    cuts += 1;
                }
            })
        })
        .collect();
    let is_over = || clients.iter().all(|client| client.is_finished());
    while !is_over() {
        put_order(&store, 1);
        faults.cut(Method::Watch, Outage::ConnectionLost);
        yield_now().await;
    }
    for client in clients {
        client.await.expect("the client does not panic");
    }
    assert_eq!(watchers(&store), 0);
    assert!(format!("{faults:?}").contains("open_streams: 0"), "{faults:?}");
}

/// A poll of a cut stream after its end returns the end again.
#[tokio::test]
async fn cut_stream_stays_ended() {
    let (_store, faults, mut etcd) = faulty();
    let mut watch = watch_from(&mut etcd, 1).await;
    faults.cut(Method::Watch, Outage::TimedOut);
    status(watch.message().await);
    let again = poll_fn(|context| {
        let mut message = std::pin::pin!(watch.message());
        Poll::Ready(message.as_mut().poll(context))
    });
    assert!(matches!(again.await, Poll::Ready(Ok(None))), "the stream has no message");
}
