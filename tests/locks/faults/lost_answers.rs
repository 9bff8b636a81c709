//! Locks and elections over a backend whose answers are lost: whoever asks does not know whether it was done. And over one that
//! answers later, or compacts at the worst moment.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::{Call, Client, Error, Get, Grant, Store, Ticket};
use leasehold_testkit::helpers::{all_keys, keys, manual, secs, taken};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::guarded;

use crate::service_helpers::compacting;

/// The error of a request whose answer is lost.
const LOST: Error = Error::Unavailable { maybe_applied: true };

/// What becomes of a request whose answer is lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// It was not done.
    Request,
    /// It was done.
    Answer,
}

/// Loses the next request of a kind, once it is told how.
#[derive(Clone)]
struct Loser {
    store: Store,
    next: Arc<Slot<Option<(Lost, Kind)>>>,
}

type Kind = fn(&Request) -> bool;

impl Loser {
    fn new() -> Self {
        Self { store: manual().0, next: Arc::default() }
    }

    /// A session over it.
    fn session(&self) -> Session {
        Session::open(Client::new(self.clone()), secs(5)).wait().expect("a lease is granted")
    }

    /// Loses the next transaction.
    fn lose(&self, next: Lost) {
        self.lose_one(next, |request| matches!(request, Request::Txn(_)));
    }

    fn lose_one(&self, next: Lost, kind: Kind) {
        *self.next.lock().expect("nobody panics with it") = Some((next, kind));
    }
}

impl Layer for Loser {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let lost = self.next.lock().expect("nobody panics with it").take_if(|(_, kind)| kind(&request));
        if !matches!(lost, Some((Lost::Request, _))) {
            let answer = self.store.call(request);
            if lost.is_none() {
                return answer;
            }
        }
        Call::ready(Err(LOST))
    }
}

const KINDS: [fn(&Session, &'static str) -> Mutex; 2] = [Mutex::new, Mutex::reentrant];

/// etcd's #22082: its second `Unlock` deletes the key by name, and so a lock that the session has got since, or another of the
/// same lease.
#[test]
fn an_unlock_that_is_tried_again_takes_no_newer_lock() {
    for kind in KINDS {
        for is_of_another in [false, true] {
            let loser = Loser::new();
            let one = loser.session();
            let another = Session::open_with_lease(Client::new(loser.clone()), one.lease()).wait().unwrap();
            let first = kind(&one, "l").lock().wait().unwrap();
            loser.lose(Lost::Answer);
            assert_eq!(first.unlock().wait(), Err(LOST));
            let newer = kind(if is_of_another { &another } else { &one }, "l").try_lock().wait().unwrap();
            let newer = newer.expect("it was given back");
            assert_eq!(newer.key() == first.key(), is_of_another || first.key() == b"l/1");
            first.unlock().wait().unwrap();
            drop(first);
            assert_eq!(newer.check().wait(), Ok(()));
            drop(newer);
            assert_eq!(all_keys(&loser.store), [""; 0]);
        }
    }
}

/// What was not done is done by trying again, and the lock is held until then.
#[test]
fn an_unlock_that_was_not_done_is_tried_again() {
    for kind in KINDS {
        let loser = Loser::new();
        let (one, two) = (loser.session(), loser.session());
        let first = kind(&one, "l").lock().wait().unwrap();
        let mut waiting = kind(&two, "l").lock();
        loser.lose(Lost::Request);
        assert_eq!(first.unlock().wait(), Err(LOST));
        assert_eq!((first.check().wait(), waiting.try_wait().unwrap().is_none()), (Ok(()), true));
        first.unlock().wait().unwrap();
        drop(taken(&mut waiting));
    }
}

/// Who gets a re-entrant lock again while it is not known whether it was given back has it.
#[test]
fn a_lock_that_is_got_again_meanwhile_stays() {
    for lost in [Lost::Request, Lost::Answer] {
        let loser = Loser::new();
        let one = loser.session();
        let mutex = Mutex::reentrant(&one, "l");
        let first = mutex.lock().wait().unwrap();
        loser.lose(lost);
        assert_eq!(first.unlock().wait(), Err(LOST));
        let again = mutex.lock().wait().unwrap();
        first.unlock().wait().unwrap();
        assert_eq!(again.check().wait(), Ok(()), "{lost:?}");
        drop((first, again));
        assert_eq!(all_keys(&loser.store), [""; 0]);
    }
}

/// A guard that is dropped after an unlock in doubt tries once more.
#[test]
fn dropping_tries_again() {
    for kind in KINDS {
        for lost in [Lost::Request, Lost::Answer] {
            let loser = Loser::new();
            let one = loser.session();
            let held = kind(&one, "l").lock().wait().unwrap();
            loser.lose(lost);
            assert_eq!(held.unlock().wait(), Err(LOST));
            drop(held);
            assert_eq!(all_keys(&loser.store), [""; 0]);
        }
    }
}

/// etcd's #22123: its `Resign` forgets that it leads though it could not resign, and does nothing when it is tried again.
#[test]
fn a_resignation_that_failed_is_tried_again() {
    for lost in [Lost::Request, Lost::Answer] {
        let loser = Loser::new();
        let (one, two) = (loser.session(), loser.session());
        let leader = Election::new(&one, "e").campaign("one").wait().unwrap();
        let mut waiting = Election::new(&two, "e").campaign("two");
        loser.lose(lost);
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

/// etcd's #9715 and #21128: a wait that cannot be watched, because what it waits for was compacted meanwhile, leaves its key
/// behind there. Here it looks again, and goes on.
#[test]
fn a_compaction_at_the_worst_moment_does_not_matter() {
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

/// Drops a wait over a far backend after any number of looks, with answers that are late, or come in another order.
fn drop_at_every_phase<T>(begin: impl Fn(&Session) -> Ticket<T>) {
    for held_at in 0..5 {
        for backwards in [false, true] {
            let remote = Remote::new();
            let client = Client::new(remote.clone());
            let settle = || (0..4).for_each(|_| remote.advance(secs(0)));
            client.put(("a/0", "in the way")).wait().expect("the far end is there");
            let one = Session::open(client.clone(), secs(5)).wait().expect("a lease is granted");
            if held_at == 0 {
                remote.hold();
            }
            let mut ticket = begin(&one);
            for step in 1..=held_at {
                settle();
                assert!(ticket.try_wait().expect("the session lives").is_none());
                if step == held_at {
                    remote.hold();
                }
            }
            drop(ticket); // at once: nobody waits for the far end
            remote.release(backwards);
            settle();
            let left = client.get(Get::prefix("a/")).wait().expect("the far end is there");
            assert_eq!(keys(left.kvs()), ["a/0"], "calls were held at {held_at}");
        }
    }
}

/// etcd's #18082 and jetcd's #291: a wait that is given up leaves no key, and giving it up waits for nothing.
#[test]
fn a_far_wait_leaves_no_key_whenever_it_is_dropped() {
    guarded(|| {
        drop_at_every_phase(|one| Mutex::new(one, "a").lock());
        drop_at_every_phase(|one| Mutex::reentrant(one, "a").lock());
        drop_at_every_phase(|one| Election::new(one, "a").campaign("v"));
    });
}

/// Whether the key was put is not known; so it is looked after.
#[test]
fn an_entry_whose_answer_is_lost_leaves_no_key() {
    for kind in KINDS {
        for tries in [false, true] {
            let loser = Loser::new();
            let one = loser.session();
            loser.lose(Lost::Answer);
            let mutex = kind(&one, "l");
            let lost = if tries { mutex.try_lock().wait().map(drop) } else { mutex.lock().wait().map(drop) };
            assert_eq!(lost, Err(LOST));
            assert_eq!(all_keys(&loser.store), [""; 0]);
            assert!(mutex.lock().try_wait().unwrap().is_some());
        }
    }
    let loser = Loser::new();
    let one = loser.session();
    loser.lose(Lost::Answer);
    assert!(Election::new(&one, "e").campaign("v").try_wait().is_err());
    assert!(Election::new(&one, "e").campaign("w").try_wait().unwrap().is_some());
}

/// The same of a re-entrant lock that others of the session share: the last of them gives it back.
#[test]
fn a_shared_key_whose_answer_is_lost_is_given_back() {
    let loser = Loser::new();
    let one = loser.session();
    let mutex = Mutex::reentrant(&one, "l");
    let held = mutex.lock().wait().unwrap();
    loser.lose(Lost::Answer);
    assert_eq!(mutex.lock().wait().map(drop), Err(LOST));
    held.check().wait().unwrap();
    drop(held);
    assert_eq!(all_keys(&loser.store), [""; 0]);
}

/// Renewing is the client's own act, so no lease is renewed for ever because a request or its answer was lost.
#[test]
fn lease_ends_with_its_ttl_whatever_request_of_its_session_is_lost() {
    for lost in [Lost::Request, Lost::Answer] {
        let is_grant = |request: &Request| matches!(request, Request::Grant(_));
        let is_revoke = |request: &Request| matches!(request, Request::Revoke(_));
        let is_renewal = |request: &Request| matches!(request, Request::KeepAlive(_));
        let is_asked = |request: &Request| matches!(request, Request::TimeToLive { .. });
        let (store, clock) = manual();
        let loser = Loser { store: store.clone(), next: Arc::default() };
        let ended = |what: &str| {
            clock.advance(secs(5));
            assert_eq!(store.leases().unwrap().leases(), [], "{what}, {lost:?}");
        };
        loser.lose_one(lost, is_grant);
        assert_eq!(Session::open(Client::new(loser.clone()), secs(5)).wait().map(drop), Err(LOST));
        ended("the grant was lost");
        loser.lose_one(lost, is_grant);
        let standing = Client::new(loser.clone()).grant(Grant::new(secs(5)).standing());
        assert_eq!(standing.wait(), Err(LOST));
        ended("the grant of a standing lease was lost");

        let one = loser.session();
        loser.lose_one(lost, is_asked);
        assert_eq!(one.orphan().wait(), Err(LOST));
        drop(one);
        ended("the answer to an orphaning was lost");

        let one = loser.session();
        loser.lose_one(lost, is_revoke);
        drop(one);
        ended("dropped, and the revocation was lost");

        let one = loser.session();
        loser.lose_one(lost, is_revoke);
        assert_eq!(one.close().wait(), Err(LOST));
        ended("closed, and the revocation was lost");

        for (kind, what) in [(is_renewal as Kind, "the renewal was lost"), (is_asked, "the TTL was lost")] {
            let lease = store.grant(secs(5)).unwrap().id();
            loser.lose_one(lost, kind);
            assert!(Session::open_with_lease(Client::new(loser.clone()), lease).wait().is_err());
            ended(what);
        }
    }
}

/// Loses every request that would end a session's lease.
struct Deaf(Store);

impl Layer for Deaf {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        match request {
            Request::Revoke(_) => Call::ready(Err(LOST)),
            other => self.0.call(other),
        }
    }
}

/// A dropped session's lease had its full TTL after a day.
#[test]
fn dropped_session_ends_with_its_ttl_if_no_revocation_arrives() {
    let (store, clock) = manual();
    let one = Session::open(Client::new(Deaf(store.clone())), secs(5)).wait().unwrap();
    clock.advance(secs(86_400));
    assert_eq!(one.is_alive().wait(), Ok(true));
    drop(one);
    clock.advance(secs(5));
    assert_eq!(store.leases().unwrap().leases(), []);
}

/// An answer that is never polled is not received: the lease is an ordinary one.
#[test]
fn grant_whose_call_is_dropped_begins_no_renewal() {
    let remote = Remote::new();
    let client = Client::new(remote.clone());
    remote.hold();
    drop(client.grant(Grant::new(secs(5)).standing()));
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
            return Call::ready(Err(Error::Unavailable { maybe_applied: false }));
        }
        self.store.call(request)
    }
}

/// The release of a dropped guard was tried once, and the key stayed until the session ended.
#[test]
fn dropped_guard_is_released_once_the_store_is_reachable() {
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
        assert!((50..=150).contains(&tries), "{tries} attempts in 10 s");
        assert_eq!(all_keys(&store).len(), 1);
        is_up.store(true, Ordering::SeqCst);
        clock.advance(secs(1));
        assert_eq!(all_keys(&store), [""; 0]);
    }
    assert_eq!(store.next_deadline(), None, "no task is left");
}

/// The attempts end with the session.
#[test]
fn release_is_not_tried_after_the_session() {
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
