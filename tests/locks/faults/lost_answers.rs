//! Locks and elections over backends with faults. One loses requests or responses, so the caller does not know whether a request
//! was applied; others answer later, or compact between a read and its watch.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::{Call, Client, Error, Get, Grant, Store, Ticket};
use leasehold_testkit::helpers::{all_keys, keys, manual, secs, taken};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::guarded;

use crate::service_helpers::compacting;

/// The error of a request with a lost response.
const LOST: Error = Error::Unavailable { maybe_applied: true };

/// The part of a call that is lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// The request was not applied.
    Request,
    /// The request was applied, and its response was lost.
    Answer,
}

/// Loses the next request of a kind, once `lose` has set it.
#[derive(Clone)]
struct LossyBackend {
    store: Store,
    next: Arc<Slot<Option<(Lost, Kind)>>>,
}

type Kind = fn(&Request) -> bool;

impl LossyBackend {
    fn new() -> Self {
        Self { store: manual().0, next: Arc::default() }
    }

    /// Opens a session over the lossy backend.
    fn session(&self) -> Session {
        Session::open(Client::new(self.clone()), secs(5)).wait().expect("a lease is granted")
    }

    /// Loses the next transaction.
    fn lose(&self, next: Lost) {
        self.lose_one(next, |request| matches!(request, Request::Txn(_)));
    }

    fn lose_one(&self, next: Lost, kind: Kind) {
        *self.next.lock().expect("no thread panicked while it held the lock") = Some((next, kind));
    }
}

impl Layer for LossyBackend {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let lost = self
            .next
            .lock()
            .expect("no thread panicked while it held the lock")
            .take_if(|(_, kind)| kind(&request));
        if !matches!(lost, Some((Lost::Request, _))) {
            let answer = self.store.call(request);
            if lost.is_none() {
                return answer;
            }
        }
        Call::from_result(Err(LOST))
    }
}

const KINDS: [fn(&Session, &'static str) -> Mutex; 2] = [Mutex::new, Mutex::reentrant];

/// etcd's issue 22082: its second `Unlock` deletes the key by name, which may belong to a newer lock of the session or of its
/// lease.
#[test]
fn repeated_unlock_keeps_newer_lock() {
    for kind in KINDS {
        for is_of_another in [false, true] {
            let backend = LossyBackend::new();
            let one = backend.session();
            let another = Session::open_with_lease(Client::new(backend.clone()), one.lease()).wait().unwrap();
            let first = kind(&one, "l").lock().wait().unwrap();
            backend.lose(Lost::Answer);
            assert_eq!(first.unlock().wait(), Err(LOST));
            let newer = kind(if is_of_another { &another } else { &one }, "l").try_lock().wait().unwrap();
            let newer = newer.expect("the lock was released");
            assert_eq!(newer.key() == first.key(), is_of_another || first.key() == b"l/1");
            first.unlock().wait().unwrap();
            drop(first);
            assert_eq!(newer.check().wait(), Ok(()));
            drop(newer);
            assert_eq!(all_keys(&backend.store), [""; 0]);
        }
    }
}

/// A lost unlock request leaves the lock held, and another unlock releases it.
#[test]
fn unlock_after_lost_request_releases() {
    for kind in KINDS {
        let backend = LossyBackend::new();
        let (one, two) = (backend.session(), backend.session());
        let first = kind(&one, "l").lock().wait().unwrap();
        let mut waiting = kind(&two, "l").lock();
        backend.lose(Lost::Request);
        assert_eq!(first.unlock().wait(), Err(LOST));
        assert_eq!((first.check().wait(), waiting.try_wait().unwrap().is_none()), (Ok(()), true));
        first.unlock().wait().unwrap();
        drop(taken(&mut waiting));
    }
}

/// A session that locks a re-entrant lock again while an unlock is uncertain keeps the lock.
#[test]
fn reentrant_lock_acquired_during_uncertain_unlock_is_kept() {
    for lost in [Lost::Request, Lost::Answer] {
        let backend = LossyBackend::new();
        let one = backend.session();
        let mutex = Mutex::reentrant(&one, "l");
        let first = mutex.lock().wait().unwrap();
        backend.lose(lost);
        assert_eq!(first.unlock().wait(), Err(LOST));
        let again = mutex.lock().wait().unwrap();
        first.unlock().wait().unwrap();
        assert_eq!(again.check().wait(), Ok(()), "{lost:?}");
        drop((first, again));
        assert_eq!(all_keys(&backend.store), [""; 0]);
    }
}

/// Dropping a guard after an uncertain unlock tries to release once more.
#[test]
fn guard_dropped_after_uncertain_unlock_is_released() {
    for kind in KINDS {
        for lost in [Lost::Request, Lost::Answer] {
            let backend = LossyBackend::new();
            let one = backend.session();
            let held = kind(&one, "l").lock().wait().unwrap();
            backend.lose(lost);
            assert_eq!(held.unlock().wait(), Err(LOST));
            drop(held);
            assert_eq!(all_keys(&backend.store), [""; 0]);
        }
    }
}

/// etcd's issue 22123: a failed `Resign` forgets the leadership there, and another `Resign` does nothing.
#[test]
fn resign_after_failed_resign_releases_leadership() {
    for lost in [Lost::Request, Lost::Answer] {
        let backend = LossyBackend::new();
        let (one, two) = (backend.session(), backend.session());
        let leader = Election::new(&one, "e").campaign("one").wait().unwrap();
        let mut waiting = Election::new(&two, "e").campaign("two");
        backend.lose(lost);
        assert_eq!(leader.resign().wait(), Err(LOST));
        let still_leads = matches!(lost, Lost::Request);
        assert_eq!(
            (leader.check().wait().is_ok(), leader.proclaim("still").wait().is_ok()),
            (still_leads, still_leads)
        );
        leader.resign().wait().unwrap();
        let next = taken(&mut waiting);
        leader.resign().wait().unwrap();
        drop(leader);
        next.check().wait().unwrap();
    }
}

/// etcd's issues 9715 and 21128: a wait with a compacted start revision leaves its key behind there. Here it reads and watches
/// again.
#[test]
fn candidacy_survives_compaction_before_its_watch() {
    let (store, _clock) = manual();
    let client = compacting(&store);
    let one = Session::open(client, secs(5)).wait().unwrap();
    let leader = Election::new(&one, "e").campaign("a").wait().unwrap();
    let mut waiting = Election::new(&one, "e").campaign("b");
    assert!(waiting.try_wait().unwrap().is_none());
    drop(leader);
    drop(taken(&mut waiting));
    assert_eq!(all_keys(&store), ["other"]);
}

/// Drops a wait over a remote after each number of polls, with late or reordered responses.
fn drop_at_every_phase<T>(begin: impl Fn(&Session) -> Ticket<T>) {
    for held_at in 0..5 {
        for backwards in [false, true] {
            let remote = Remote::new();
            let client = Client::new(remote.clone());
            let settle = || (0..4).for_each(|_| remote.advance(secs(0)));
            client.put(("a/0", "in the way")).wait().expect("the remote is running");
            let one = Session::open(client.clone(), secs(5)).wait().expect("a lease is granted");
            if held_at == 0 {
                remote.hold();
            }
            let mut ticket = begin(&one);
            for step in 1..=held_at {
                settle();
                assert!(ticket.try_wait().expect("the session is alive").is_none());
                if step == held_at {
                    remote.hold();
                }
            }
            drop(ticket); // The drop does not block, although the remote holds its calls.
            remote.release(backwards);
            settle();
            let left = client.get(Get::prefix("a/")).wait().expect("the remote is running");
            assert_eq!(keys(left.kvs()), ["a/0"], "calls were held at {held_at}");
        }
    }
}

/// etcd's issue 18082 and jetcd's issue 291: a dropped wait leaves no key, and dropping it does not block.
#[test]
fn remote_wait_dropped_at_any_phase_leaves_no_key() {
    guarded(|| {
        drop_at_every_phase(|one| Mutex::new(one, "a").lock());
        drop_at_every_phase(|one| Mutex::reentrant(one, "a").lock());
        drop_at_every_phase(|one| Election::new(one, "a").campaign("v"));
    });
}

/// Whether the key was put is unknown, so it is looked up and deleted.
#[test]
fn put_with_lost_response_leaves_no_key() {
    for kind in KINDS {
        for tries in [false, true] {
            let backend = LossyBackend::new();
            let one = backend.session();
            backend.lose(Lost::Answer);
            let mutex = kind(&one, "l");
            let lost = if tries { mutex.try_lock().wait().map(drop) } else { mutex.lock().wait().map(drop) };
            assert_eq!(lost, Err(LOST));
            assert_eq!(all_keys(&backend.store), [""; 0]);
            assert!(mutex.lock().try_wait().unwrap().is_some());
        }
    }
    let backend = LossyBackend::new();
    let one = backend.session();
    backend.lose(Lost::Answer);
    assert!(Election::new(&one, "e").campaign("v").try_wait().is_err());
    assert!(Election::new(&one, "e").campaign("w").try_wait().unwrap().is_some());
}

/// Another guard of the session shares the re-entrant lock; the last of them releases it.
#[test]
fn shared_key_with_lost_response_is_released() {
    let backend = LossyBackend::new();
    let one = backend.session();
    let mutex = Mutex::reentrant(&one, "l");
    let held = mutex.lock().wait().unwrap();
    backend.lose(Lost::Answer);
    assert_eq!(mutex.lock().wait().map(drop), Err(LOST));
    held.check().wait().unwrap();
    drop(held);
    assert_eq!(all_keys(&backend.store), [""; 0]);
}

/// The client renews leases, so a lost request or response cannot cause endless renewals.
#[test]
fn lease_with_any_lost_request_expires_after_its_ttl() {
    for lost in [Lost::Request, Lost::Answer] {
        let is_grant = |request: &Request| matches!(request, Request::Grant(_));
        let is_revoke = |request: &Request| matches!(request, Request::Revoke(_));
        let is_renewal = |request: &Request| matches!(request, Request::KeepAlive(_));
        let is_asked = |request: &Request| matches!(request, Request::TimeToLive { .. });
        let (store, clock) = manual();
        let backend = LossyBackend { store: store.clone(), next: Arc::default() };
        let ended = |what: &str| {
            clock.advance(secs(5));
            assert_eq!(store.leases().unwrap().leases(), [], "{what}, {lost:?}");
        };
        backend.lose_one(lost, is_grant);
        assert_eq!(Session::open(Client::new(backend.clone()), secs(5)).wait().map(drop), Err(LOST));
        ended("the grant was lost");
        backend.lose_one(lost, is_grant);
        let standing = Client::new(backend.clone()).grant(Grant::new(secs(5)).keep_alive());
        assert_eq!(standing.wait(), Err(LOST));
        ended("the grant of a standing lease was lost");

        let one = backend.session();
        backend.lose_one(lost, is_asked);
        assert_eq!(one.orphan().wait(), Err(LOST));
        drop(one);
        ended("the answer to an orphaning was lost");

        let one = backend.session();
        backend.lose_one(lost, is_revoke);
        drop(one);
        ended("dropped, and the revocation was lost");

        let one = backend.session();
        backend.lose_one(lost, is_revoke);
        assert_eq!(one.close().wait(), Err(LOST));
        ended("closed, and the revocation was lost");

        for (kind, what) in [(is_renewal as Kind, "the renewal was lost"), (is_asked, "the TTL was lost")] {
            let lease = store.grant(secs(5)).unwrap().id();
            backend.lose_one(lost, kind);
            assert!(Session::open_with_lease(Client::new(backend.clone()), lease).wait().is_err());
            ended(what);
        }
    }
}

/// Loses every request that would revoke a session's lease.
struct Deaf(Store);

impl Layer for Deaf {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        match request {
            Request::Revoke(_) => Call::from_result(Err(LOST)),
            other => self.0.call(other),
        }
    }
}

/// A dropped session's lease still had its full TTL after a day.
#[test]
fn dropped_session_without_revocation_expires_after_its_ttl() {
    let (store, clock) = manual();
    let one = Session::open(Client::new(Deaf(store.clone())), secs(5)).wait().unwrap();
    clock.advance(secs(86_400));
    assert_eq!(one.is_alive().wait(), Ok(true));
    drop(one);
    clock.advance(secs(5));
    assert_eq!(store.leases().unwrap().leases(), []);
}

/// An unpolled response is not received, so the lease is not renewed.
#[test]
fn dropped_grant_call_starts_no_renewal() {
    let remote = Remote::new();
    let client = Client::new(remote.clone());
    remote.hold();
    drop(client.grant(Grant::new(secs(5)).keep_alive()));
    remote.release(false);
    for _ in 0..4 {
        remote.advance(secs(0));
    }
    assert_eq!(client.leases().wait().unwrap().leases().len(), 1);
    remote.advance(secs(5));
    assert_eq!(client.leases().wait().unwrap().leases(), []);
}

/// Refuses every txn while `is_up` is false.
#[derive(Clone)]
struct Unreachable {
    store: Store,
    is_up: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

impl Layer for Unreachable {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        if matches!(request, Request::Txn(_)) && !self.is_up.load(Ordering::SeqCst) {
            self.tries.fetch_add(1, Ordering::SeqCst);
            return Call::from_result(Err(Error::Unavailable { maybe_applied: false }));
        }
        self.store.call(request)
    }
}

/// The release of a dropped guard was tried only once, and the key stayed until the session ended.
#[test]
fn dropped_guard_is_released_once_store_is_reachable() {
    let (store, clock) = manual();
    let is_up = Arc::new(AtomicBool::new(true));
    let layer = Unreachable { store: store.clone(), is_up: Arc::clone(&is_up), tries: Arc::default() };
    let one = Session::open(Client::new(layer.clone()), secs(5)).wait().unwrap();
    for kind in KINDS {
        let guard = kind(&one, "l").lock().wait().unwrap();
        is_up.store(false, Ordering::SeqCst);
        drop(guard);
        let before = layer.tries.load(Ordering::SeqCst);
        clock.advance(secs(10));
        let tries = layer.tries.load(Ordering::SeqCst) - before;
        // One attempt every 100 ms, with a tolerance.
        assert!((50..=150).contains(&tries), "{tries} attempts in 10 s");
        assert_eq!(all_keys(&store).len(), 1);
        is_up.store(true, Ordering::SeqCst);
        clock.advance(secs(1));
        assert_eq!(all_keys(&store), [""; 0]);
    }
    assert_eq!(store.next_deadline(), None, "no task is left");
}

/// The attempts to release end with the session.
#[test]
fn release_attempts_end_with_session() {
    let (store, clock) = manual();
    let is_up = Arc::new(AtomicBool::new(true));
    let layer = Unreachable { store: store.clone(), is_up: Arc::clone(&is_up), tries: Arc::default() };
    for is_dropped in [true, false] {
        is_up.store(true, Ordering::SeqCst);
        let one = Session::open(Client::new(layer.clone()), secs(5)).wait().unwrap();
        let guard = Mutex::new(&one, "l").lock().wait().unwrap();
        is_up.store(false, Ordering::SeqCst);
        drop(guard);
        if !is_dropped {
            one.orphan().wait().unwrap();
        }
        drop(one);
        clock.advance(secs(10));
        let tries = layer.tries.load(Ordering::SeqCst);
        clock.advance(secs(100));
        assert_eq!(layer.tries.load(Ordering::SeqCst), tries);
        assert_eq!((store.leases().unwrap().leases().len(), all_keys(&store).len()), (0, 0));
    }
}
