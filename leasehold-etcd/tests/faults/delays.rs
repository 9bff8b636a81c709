//! Delays in the time of the store, and calls that are dropped.

use std::time::Duration;

use leasehold::{Get, ManualClock, Store};
use leasehold_etcd::etcd_client::{Client, LockOptions};
use leasehold_etcd::faults::{Fault, Faults, Injected, Outage};
use leasehold_etcd::{Method, TokioClock, client_over, service};
use tokio::task::yield_now;
use tonic::Code;
use tower::ServiceBuilder;

use crate::{over, status};

const MINUTE: Duration = Duration::from_secs(60);

fn with_clock() -> (ManualClock, Store, Faults, Client) {
    let clock = ManualClock::new();
    let (store, faults, etcd) = over(Store::builder().clock(clock.clone()).build());
    (clock, store, faults, etcd)
}

/// Lets the other tasks run until a fault has happened.
async fn happened(fault: &Injected) {
    while fault.count() == 0 {
        yield_now().await;
    }
}

fn count(store: &Store) -> i64 {
    store.get(Get::prefix("key")).expect("a get is answered").count()
}

#[tokio::test]
async fn delayed_call_is_applied_when_clock_has_moved() {
    let (clock, store, faults, mut etcd) = with_clock();
    let delayed = faults.add(Fault::delay(Method::Put, MINUTE));
    let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
    happened(&delayed).await;
    clock.advance(MINUTE - Duration::from_nanos(1));
    yield_now().await;
    assert_eq!((call.is_finished(), count(&store)), (false, 0));
    clock.advance(Duration::from_nanos(1));
    call.await.expect("the call does not panic").expect("the call is answered");
    assert_eq!((count(&store), delayed.count()), (1, 1));
}

#[tokio::test]
async fn delayed_answer_follows_its_effect() {
    let (clock, store, faults, mut etcd) = with_clock();
    let delayed = faults.add(Fault::delay_answer(Method::Put, MINUTE));
    let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
    happened(&delayed).await;
    assert_eq!((call.is_finished(), count(&store)), (false, 1));
    clock.advance(MINUTE);
    call.await.expect("the call does not panic").expect("the call is answered");
}

#[tokio::test]
async fn delays_of_one_call_add_up() {
    let (clock, store, faults, mut etcd) = with_clock();
    let first = faults.add(Fault::delay(Method::Put, MINUTE));
    let second = faults.add(Fault::delay(Method::Put, MINUTE));
    let refused = faults.add(Fault::refuse(Method::Put, Outage::TimedOut));
    let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
    happened(&first).await;
    clock.advance(MINUTE);
    happened(&second).await;
    assert_eq!(refused.count(), 0);
    clock.advance(MINUTE);
    status(call.await.expect("the call does not panic"));
    assert_eq!((refused.count(), count(&store)), (1, 0));
}

#[tokio::test]
async fn call_dropped_in_delay_is_never_applied() {
    let (clock, store, faults, mut etcd) = with_clock();
    let delayed = faults.add(Fault::delay(Method::Put, MINUTE));
    let lost = faults.add(Fault::lose_answer(Method::Put, Outage::TimedOut));
    let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
    happened(&delayed).await;
    call.abort();
    assert!(call.await.expect_err("the task was aborted").is_cancelled());
    clock.advance(2 * MINUTE);
    assert_eq!(count(&store), 0);
    assert_eq!(lost.count(), 0, "a call without an answer has none to lose");
    assert_eq!(store.next_deadline(), None, "the delay's timer was removed");
}

/// A lock that waits for its owner is withdrawn, as without the layer.
#[tokio::test]
async fn dropped_lock_leaves_no_key() {
    let (_clock, store, faults, mut etcd) = with_clock();
    let owner = etcd.lock("key", None).await.expect("a lock is answered");
    let delayed = faults.add(Fault::delay(Method::Lock, Duration::ZERO));
    let mut waiter = etcd.clone();
    let call = tokio::spawn(async move { waiter.lock("key", Some(LockOptions::new())).await });
    happened(&delayed).await;
    while count(&store) < 2 {
        yield_now().await;
    }
    call.abort();
    assert!(call.await.expect_err("the task was aborted").is_cancelled());
    assert_eq!(count(&store), 1);
    etcd.unlock(owner.key()).await.expect("an unlock is answered");
}

/// A request that names its deadline in a header, as other clients do. The deadline passes during a delay.
#[tokio::test]
async fn deadline_passes_during_delay() {
    for is_applied in [false, true] {
        let (clock, store, faults, _etcd) = with_clock();
        let deadline = |mut request: http::Request<_>| {
            request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("1S"));
            request
        };
        let faulty = ServiceBuilder::new().map_request(deadline).layer(&faults).service(service(&store));
        let mut etcd = client_over(faulty);
        let delay = if is_applied { Fault::delay_answer } else { Fault::delay };
        let delayed = faults.add(delay(Method::Put, MINUTE));
        let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
        happened(&delayed).await;
        clock.advance(Duration::from_secs(1));
        let error = status(call.await.expect("the call does not panic"));
        assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, "context deadline exceeded"));
        clock.advance(MINUTE);
        assert_eq!(count(&store), i64::from(is_applied));
    }
}

/// The time of a delay counts for the deadline of a stream.
#[tokio::test]
async fn deadline_of_delayed_stream_counts_from_the_call() {
    for delay in [Fault::delay, Fault::delay_answer] {
        let (clock, store, faults, _etcd) = with_clock();
        let deadline = |mut request: http::Request<_>| {
            request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("90S"));
            request
        };
        let faulty = ServiceBuilder::new().map_request(deadline).layer(&faults).service(service(&store));
        let mut etcd = client_over(faulty);
        let delayed = faults.add(delay(Method::Watch, MINUTE));
        let call = tokio::spawn(async move { etcd.watch("key", None).await });
        happened(&delayed).await;
        clock.advance(MINUTE);
        let call = call.await.expect("the call does not panic");
        let mut stream = call.expect("the delay ends before the deadline");
        stream.message().await.expect("the deadline has not passed");
        clock.advance(MINUTE / 2);
        let error = status(stream.message().await);
        assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, "context deadline exceeded"));
        assert_eq!(store.diagnostics().expect("the store is open").streams, 0);
    }
}

#[tokio::test]
async fn delayed_call_of_closed_store_is_answered() {
    let (_clock, store, faults, mut etcd) = with_clock();
    let delayed = faults.add(Fault::delay(Method::Put, MINUTE));
    let call = tokio::spawn(async move { etcd.put("key", "value", None).await });
    happened(&delayed).await;
    store.close();
    status(call.await.expect("the call does not panic"));
}

#[tokio::test(start_paused = true)]
async fn delay_passes_in_tokios_time() {
    let (_store, faults, mut etcd) = over(Store::builder().clock(TokioClock::new()).build());
    faults.add(Fault::delay(Method::Put, MINUTE).times(2));
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        etcd.put("key", "value", None).await.expect("a put is answered");
    }
    let passed = begun.elapsed();
    assert!(passed >= 2 * MINUTE && passed < 3 * MINUTE, "two of three puts were delayed: {passed:?}");
}
