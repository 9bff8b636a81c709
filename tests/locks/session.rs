//! Sessions: leases that are kept alive, and notifications of their end.

use leasehold::backend::WatchRequest;
use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::{Error, Grant, LeaseId, Limits, Put, Store};
use leasehold_testkit::helpers::{all_keys, engine, manual, manual_with, millis, secs, session};

/// R-SES-1: a session's lease is renewed until its last handle is dropped. The store's minimum TTL applies.
#[test]
fn session_lives_until_last_handle_is_dropped() {
    let (store, clock) = manual();
    let one = Session::open(&store, secs(90)).wait().unwrap();
    assert_eq!((one.ttl(), one.lease()), (secs(90), LeaseId::new(1)));
    assert_eq!(store.next_deadline(), None, "a renewed lease has no deadline");
    clock.advance(secs(1_000_000));
    assert!(one.is_alive().wait().unwrap());
    let (lease, other) = (one.lease(), one.clone());
    drop(one);
    assert!(other.is_alive().wait().unwrap());
    drop(other);
    assert_eq!(
        store.time_to_live(lease, false).unwrap().ttl(),
        None,
        "dropping the last handle revokes the lease"
    );
    assert_eq!(Session::open(&store, millis(1)).wait().unwrap().ttl(), secs(2));
    let (store, _clock) = manual_with(Limits { min_lease_ttl: millis(0), ..Limits::default() });
    assert_eq!(Session::open(&store, millis(1)).wait().unwrap().ttl(), millis(1));
}

/// R-SES-2: the end is reported after an expiry, a revocation, and `close`.
#[test]
fn lost_completes_after_any_end_of_session() {
    let (store, clock) = manual();
    let [expires, is_revoked, is_closed, is_made_to, lives] = [0; 5].map(|_| session(&store, 5));
    let mut lost = [&expires, &is_revoked, &is_closed, &is_made_to, &lives].map(Session::lost);
    assert!(lost.iter_mut().all(|lost| lost.try_wait().unwrap().is_none()));
    assert!(lost.iter().all(|lost| lost.ready_channel().is_empty()));
    expires.pause().wait().unwrap();
    store.revoke(is_revoked.lease()).unwrap();
    is_closed.close().wait().unwrap();
    store.expire(is_made_to.lease()).unwrap();
    let reported = |lost: &mut [leasehold::Ticket<()>]| -> Vec<bool> {
        lost.iter().map(|lost| !lost.ready_channel().is_empty()).collect()
    };
    assert_eq!(reported(&mut lost), [false, true, true, true, false]);
    clock.advance(secs(5));
    assert_eq!(reported(&mut lost), [true, true, true, true, false]);
    let [ref mut ended @ .., ref mut last] = lost;
    assert!(ended.iter_mut().all(|lost| lost.try_wait() == Ok(Some(()))));
    assert_eq!(last.try_wait(), Ok(None));
    assert_eq!(expires.lost().try_wait(), Ok(Some(())), "`lost` of an ended session completes at once");
    assert_eq!(
        (expires.pause().wait(), expires.close().wait()),
        (Err(Error::LeaseNotFound), Err(Error::LeaseNotFound))
    );
}

/// R-SES-3: an orphaned lease expires one TTL after its last renewal, and `lost` completes then.
#[test]
fn orphaned_session_expires_after_its_ttl() {
    let (store, clock) = manual();
    let one = session(&store, 9);
    store.put(Put::new("k", "v").lease(one.lease())).unwrap();
    clock.advance(secs(4)); // renewed at 3
    one.orphan().wait().unwrap();
    let mut lost = one.lost();
    drop(one);
    clock.advance(millis(7_999));
    assert_eq!((lost.try_wait(), all_keys(&store)), (Ok(None), vec!["k".into()]));
    clock.advance(millis(1));
    assert_eq!((lost.try_wait(), all_keys(&store)), (Ok(Some(())), vec![]));
}

/// A resumed orphan ends with its last handle.
#[test]
fn orphaned_session_can_be_resumed() {
    let (store, clock) = manual();
    let one = session(&store, 9);
    one.orphan().wait().unwrap();
    one.resume().wait().unwrap();
    clock.advance(secs(100));
    assert!(one.is_alive().wait().unwrap());
    drop(one);
    assert_eq!(store.leases().unwrap().leases(), []);
}

/// A session that is resumed within its TTL loses no lock.
#[test]
fn paused_session_can_be_resumed_within_ttl() {
    let (store, clock) = manual();
    let one = session(&store, 5);
    let guard = Mutex::new(&one, "l").lock().wait().unwrap();
    for _ in 0..10 {
        one.pause().wait().unwrap();
        clock.advance(secs(3));
        one.resume().wait().unwrap();
        clock.advance(secs(1));
    }
    guard.check().wait().unwrap();
    one.pause().wait().unwrap();
    clock.advance(secs(5));
    assert_eq!(
        (one.resume().wait(), guard.check().wait()),
        (Err(Error::LeaseNotFound), Err(Error::SessionExpired))
    );
}

/// The deletion of the lease's keys is delivered before the end of the lease.
#[test]
fn keys_are_deleted_before_lease_end_is_delivered() {
    let mut engine = engine();
    let lease = engine.grant(&Grant::new(secs(5))).unwrap().id();
    engine.put(&Put::new("a", "v").lease(lease)).unwrap();
    let stream = engine.open_stream();
    engine.watch(stream, &WatchRequest::Lease(lease));
    engine.watch(stream, &WatchRequest::Lease(lease));
    engine.watch(stream, &WatchRequest::Create("a".into()));
    let receive = |engine: &mut leasehold::engine::Engine| {
        let mut received = std::collections::VecDeque::new();
        assert!(!engine.receive(stream, &mut received));
        received
    };
    assert_eq!(receive(&mut engine).len(), 1, "the response to the watch is delivered");
    engine.check_invariants();
    engine.advance(engine.next_deadline().unwrap());
    engine.check_invariants();
    let mut received = receive(&mut engine);
    assert!(matches!(
        received.make_contiguous(),
        [leasehold::backend::Delivery::Watch(deleted), leasehold::backend::Delivery::LeaseEnded(ended)]
            if deleted.events().len() == 1 && *ended == lease
    ));
    engine.watch(stream, &WatchRequest::Lease(lease));
    assert_eq!(
        receive(&mut engine),
        [leasehold::backend::Delivery::LeaseEnded(lease)],
        "each request is answered once"
    );
    // The stream is closed, so the end of the lease is delivered to no stream.
    let another = engine.grant(&Grant::new(secs(5)).id(lease)).unwrap().id();
    engine.watch(stream, &WatchRequest::Lease(another));
    drop(engine.close_stream(stream));
    engine.revoke(another).unwrap();
    engine.check_invariants();
}

/// Requests about an ended lease have one response until it is received, like requests about an existing lease.
#[test]
fn repeated_requests_about_ended_lease_queue_one_response() {
    let mut engine = engine();
    let stream = engine.open_stream();
    for _ in 0..100_000 {
        engine.watch(stream, &WatchRequest::Lease(LeaseId::new(7)));
    }
    assert_eq!(engine.diagnostics().queued_deliveries, 1);
    let mut received = std::collections::VecDeque::new();
    for _ in 0..2 {
        received.clear();
        engine.watch(stream, &WatchRequest::Lease(LeaseId::new(7)));
        assert!(!engine.receive(stream, &mut received));
        assert_eq!(received, [leasehold::backend::Delivery::LeaseEnded(LeaseId::new(7))]);
    }
}

#[test]
fn blocked_thread_is_woken_by_end_of_session() {
    let store = Store::new();
    let one = session(&store, 60);
    let lost = one.lost();
    let waiter = std::thread::Builder::new().spawn(move || lost.wait()).unwrap();
    one.close().wait().unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
    let two = session(&store, 60);
    let lost = two.lost();
    store.close();
    assert_eq!(lost.wait(), Err(Error::Stopped));
}

/// A handle's name is the value of its locks' keys. A candidacy has the candidate's value.
#[test]
fn session_handle_names_are_key_values() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::new(&one.with_name("worker a"), "l");
    let held = mutex.lock().wait().unwrap();
    let waiting = Mutex::reentrant(&one.with_name(b"\xff".to_vec()), "l").lock();
    assert_eq!(
        mutex.queue().wait().unwrap().to_string(),
        "l: held by worker a (l/1-0, token 2, lease 1); waited for by \\xff (l/1, token 3, lease 1)"
    );
    let leader = Election::new(&one.with_name("worker a"), "e").campaign("a").wait().unwrap();
    assert_eq!(store.get(leader.key()).unwrap().kvs()[0].value(), b"a");
    drop((held, waiting));
}

/// R-SES-1: a session with an existing lease, like etcd's `WithLease`.
#[test]
fn session_opens_with_existing_lease() {
    let (store, clock) = manual();
    store.grant(Grant::new(secs(5)).id(-7)).unwrap();
    let one = Session::open_with_lease(&store, -7).wait().unwrap();
    assert_eq!((one.lease(), one.ttl()), (LeaseId::new(-7), secs(5)));
    clock.advance(secs(100));
    assert_eq!(Mutex::new(&one, "l").lock().wait().unwrap().key(), b"l/-7-0");
    assert_eq!(Mutex::reentrant(&one, "l").lock().wait().unwrap().key(), b"l/-7");
    // Two sessions with one lease use different keys.
    let two = Session::open_with_lease(&store, -7).wait().unwrap();
    let held = Mutex::new(&one, "l").lock().wait().unwrap();
    let mut waiting = Mutex::new(&two, "l").lock();
    assert!(waiting.try_wait().unwrap().is_none());
    assert_eq!(all_keys(&store), ["l/-7-0", "l/-7-1"]);
    drop(held);
    assert_eq!(waiting.try_wait().unwrap().unwrap().key(), b"l/-7-1");
    assert_eq!(Session::open_with_lease(&store, 8).wait().map(drop), Err(Error::LeaseNotFound));
}
