//! Semaphores: capacity, order, the cost of a release, and backends that lose answers or cut watches.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot};

use crate::service_helpers::{Moment, meddling};
use leasehold::backend::{Backend, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::concurrency::{Mutex, Permit, Semaphore, Session};
use leasehold::{Call, Client, Error, Store, Ticket, Txn, TxnOp};
use leasehold_testkit::helpers::{all_keys, manual, secs, session, taken};
use leasehold_testkit::wakers::{Count, poll_with};

fn is_waiting(ticket: &mut Ticket<Permit>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

#[test]
fn acquire_beyond_capacity_waits_in_order() {
    let (store, _clock) = manual();
    let sessions = [5; 2].map(|ttl| session(&store, ttl));
    for permits in 1..5 {
        let of = |n: usize| Semaphore::new(&sessions[n % 2], "s", permits);
        let mut tickets: Vec<_> = (0..9).map(|n| of(n).acquire()).collect();
        let mut held: Vec<_> =
            tickets.drain(..permits as usize).map(|mut ticket| taken(&mut ticket)).collect();
        while !tickets.is_empty() {
            assert!(tickets.iter_mut().all(is_waiting));
            // Each holder is released in some round.
            held.remove(tickets.len() % held.len()).release().wait().unwrap();
            let next = taken(&mut tickets.remove(0));
            assert!(held.iter().all(|other| other.token() < next.token()));
            held.push(next);
            assert!(held.iter().all(|permit| permit.check().wait().is_ok()));
        }
        drop(held);
        assert_eq!(all_keys(&store), [""; 0]);
    }
}

#[test]
fn permits_released_together_are_acquired_together() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 3);
    let held: Vec<_> = (0..3).map(|_| semaphore.acquire().wait().unwrap()).collect();
    let mut waiting: Vec<_> = (0..4).map(|_| semaphore.acquire()).collect();
    assert!(waiting.iter_mut().all(is_waiting));
    let deletes = held[..2].iter().map(|permit| TxnOp::delete(permit.key().to_vec()));
    store.txn(Txn::new().and_then(deletes)).unwrap();
    let permits: Vec<_> = waiting[..2].iter_mut().map(taken).collect();
    assert!(waiting[2..].iter_mut().all(is_waiting));
    assert!(permits.iter().all(|permit| permit.token() > held[2].token()));
}

#[test]
#[should_panic(expected = "a semaphore has at least one permit")]
fn semaphore_of_no_permits_panics() {
    let (store, _clock) = manual();
    Semaphore::new(&session(&store, 5), "s", 0);
}

#[test]
fn try_acquire_on_full_semaphore_returns_none() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 2);
    let first = semaphore.try_acquire().wait().unwrap().expect("a permit is free");
    let second = semaphore.try_acquire().wait().unwrap().expect("a permit is free");
    assert!(semaphore.try_acquire().wait().unwrap().is_none());
    assert_eq!(all_keys(&store), ["s/1-0", "s/1-1"], "no key is left behind");
    let mut waiting = semaphore.acquire();
    drop(first);
    // The permit belongs to the waiter, which has not polled yet.
    assert!(semaphore.try_acquire().wait().unwrap().is_none());
    drop((taken(&mut waiting), second));
    assert!(semaphore.try_acquire().wait().unwrap().is_some());
    assert_eq!(all_keys(&store), [""; 0]);
}

/// A hold that was not put returns its number, so a loop of tries uses one key.
#[test]
fn try_acquire_in_loop_reuses_keys() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 2);
    let held = semaphore.acquire().wait().unwrap();
    for _ in 0..100 {
        let permit = semaphore.try_acquire().wait().unwrap().expect("a permit is free");
        assert_eq!(permit.key(), b"s/1-1");
        assert!(semaphore.try_acquire().wait().unwrap().is_none());
    }
    let permit = semaphore.acquire().wait().unwrap();
    for _ in 0..100 {
        assert!(semaphore.try_acquire().wait().unwrap().is_none());
    }
    let _waiting = semaphore.acquire();
    assert_eq!(all_keys(&store), ["s/1-0", "s/1-1", "s/1-2"]);
    drop((held, permit));
}

#[test]
fn try_acquire_of_closed_session_returns_lease_not_found() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let held = Semaphore::new(&two, "s", 2).acquire().wait().unwrap();
    one.close().wait().unwrap();
    let semaphore = Semaphore::new(&one, "s", 2);
    assert_eq!(semaphore.try_acquire().wait().map(drop), Err(Error::LeaseNotFound));
    assert_eq!(semaphore.acquire().wait().map(drop), Err(Error::LeaseNotFound));
    drop(held);
}

/// R-LCK-5: a key that another client put under the permit's name does not belong to the permit.
#[test]
fn foreign_key_with_permit_name_takes_a_permit() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 3);
    store.put(("s/1-0", "foreign")).unwrap();
    let permits = [semaphore.try_acquire().wait().unwrap(), semaphore.acquire().wait().map(Some).unwrap()];
    let keys = permits.each_ref().map(|permit| permit.as_ref().expect("two permits are free").key().to_vec());
    assert_eq!(keys, [b"s/1-1", b"s/1-2"]);
    assert!(semaphore.try_acquire().wait().unwrap().is_none());
    drop(permits);
    assert_eq!(all_keys(&store), ["s/1-0"]);
}

/// After a try has read the keys, another client queues before the try puts its key.
#[test]
fn overtaken_try_acquire_counts_again() {
    for (arrivals, is_acquired) in [(1, true), (2, false), (3, false)] {
        let (store, _clock) = manual();
        let other = session(&store, 60);
        let semaphore = Semaphore::new(&other, "s", 3);
        let _held = semaphore.acquire().wait().unwrap();
        let (overtaking, calls) = (semaphore.clone(), AtomicUsize::new(0));
        let is_armed = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&is_armed);
        let client = meddling(&store, move |_, moment| {
            if armed.load(Ordering::SeqCst) && matches!(moment, Moment::Call(_)) {
                let calls = calls.fetch_add(1, Ordering::SeqCst);
                if (1..=arrivals).contains(&calls) {
                    // Forget the ticket, since dropping it would delete its key.
                    std::mem::forget(overtaking.acquire());
                }
            }
            false
        });
        let one = Session::open(client, secs(60)).wait().unwrap();
        is_armed.store(true, Ordering::SeqCst);
        let tried = Semaphore::new(&one, "s", 3).try_acquire().wait().unwrap();
        assert_eq!(tried.is_some(), is_acquired, "{arrivals} arrivals");
        assert_eq!(all_keys(&store).len(), 3, "the number of permits is the capacity");
    }
}

#[test]
fn permit_of_ended_session_is_acquired_by_waiter() {
    let (store, clock) = manual();
    let (one, two, three) = (session(&store, 5), session(&store, 60), session(&store, 60));
    let of = |session: &Session| Semaphore::new(session, "s", 2);
    let lost = of(&one).acquire().wait().unwrap();
    let kept = of(&two).acquire().wait().unwrap();
    let (mut expiring, mut waiting) = (of(&one).acquire(), of(&three).acquire());
    assert!(is_waiting(&mut expiring) && is_waiting(&mut waiting));
    let mut loss = lost.lost();
    one.pause().wait().unwrap();
    clock.advance(secs(5));
    assert_eq!(loss.try_wait(), Ok(Some(())));
    assert_eq!(lost.check().wait(), Err(Error::SessionExpired));
    let refused = lost.txn().and_then([TxnOp::put("r", "v")]).commit().wait();
    assert_eq!(refused.map(drop), Err(Error::SessionExpired));
    assert_eq!(expiring.try_wait().map(drop), Err(Error::SessionExpired));
    let next = taken(&mut waiting);
    assert!(kept.check().wait().is_ok() && next.check().wait().is_ok());
}

#[test]
fn dropped_ticket_leaves_the_queue() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 2);
    let held = [semaphore.acquire().wait().unwrap(), semaphore.acquire().wait().unwrap()];
    let (first, second, mut third) = (semaphore.acquire(), semaphore.acquire(), semaphore.acquire());
    assert!(is_waiting(&mut third));
    drop((first, second));
    assert_eq!(all_keys(&store).len(), 3);
    assert!(is_waiting(&mut third), "both permits are held");
    let [one_held, other_held] = held;
    drop(other_held);
    drop((taken(&mut third), one_held));
    // A ticket that is in turn and is dropped releases the permit.
    drop(semaphore.acquire());
    assert_eq!(all_keys(&store), [""; 0]);
}

/// A release wakes the waiters that watch the released key, at most as many as there are permits, and one of them acquires.
#[test]
fn release_wakes_at_most_permits_waiters_and_one_acquires() {
    for permits in [1_usize, 2, 3, 5] {
        for released in 0..permits {
            let (store, _clock) = manual();
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let client = meddling(&store, move |_, moment| {
                counted.fetch_add(usize::from(matches!(moment, Moment::Call(_))), Ordering::SeqCst);
                false
            });
            let one = Session::open(client, secs(60)).wait().unwrap();
            let semaphore = Semaphore::new(&one, "s", permits as u32);
            let mut held: Vec<_> = (0..permits).map(|_| semaphore.acquire().wait().unwrap()).collect();
            let mut queue: Vec<_> = (0..12).map(|_| (semaphore.acquire(), Count::default())).collect();
            for (ticket, woken) in &mut queue {
                assert!(poll_with(ticket, &woken.waker()).is_pending());
            }
            drop(held.remove(released));
            let woken: Vec<_> = (0..queue.len()).filter(|&n| queue[n].1.get() > 0).collect();
            assert_eq!(woken, (0..=released).collect::<Vec<_>>(), "{permits} permits, {released} released");
            calls.store(0, Ordering::SeqCst);
            let acquired: Vec<_> = queue
                .iter_mut()
                .map(|(ticket, _)| ticket.try_wait().unwrap())
                .take_while(Option::is_some)
                .collect();
            assert_eq!(acquired.len(), 1, "only the first waiter acquires");
            assert!(queue[1..].iter_mut().all(|(ticket, _)| is_waiting(ticket)));
            assert_eq!(calls.load(Ordering::SeqCst), woken.len(), "each woken waiter reads once");
        }
    }
}

/// A waiter watches the n keys before its own, and its own key. No watch on an earlier predecessor stays.
#[test]
fn semaphore_waiter_that_moves_up_keeps_its_number_of_watches() {
    let (store, _clock) = manual();
    let one = session(&store, 60);
    let semaphore = Semaphore::new(&one, "s", 3);
    let watchers = || store.diagnostics().unwrap().watchers;
    let _held = [(); 3].map(|()| semaphore.acquire().wait().unwrap());
    let mut between: Vec<_> = (0..5).map(|_| semaphore.acquire()).collect();
    let mut last = semaphore.acquire();
    while let Some(predecessor) = between.pop() {
        assert!(is_waiting(&mut last) && between.iter_mut().all(is_waiting));
        drop(predecessor);
        assert!(is_waiting(&mut last));
        assert_eq!(watchers(), 4 * (between.len() + 1), "{} between", between.len());
    }
    let waits: Vec<_> =
        store.waiters().unwrap().iter().map(|waiter| waiter.blocked_on().token().get()).collect();
    assert_eq!(waits, [2, 3, 4]);
}

/// Records each request.
#[derive(Clone)]
struct Recording {
    store: Store,
    requests: Arc<Slot<Vec<String>>>,
}

impl Recording {
    fn note(&self, what: String) {
        self.requests.lock().expect("no test panicked while it held the list").push(what);
    }
}

impl Layer for Recording {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.note(format!("{request:?}"));
        self.store.call(request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.note(format!("{requests:?}"));
        Backend::watch(&self.store, requests, inbox);
    }
}

/// Runs a lock through waits, releases, tries and an expiry. Returns its requests.
fn requests_of<T>(
    acquire: fn(&Session) -> Ticket<T>,
    try_acquire: fn(&Session) -> Call<Option<T>>,
) -> Vec<String> {
    let (store, _clock) = manual();
    let recording = Recording { store: store.clone(), requests: Arc::default() };
    let open = || Session::open(Client::new(recording.clone()), secs(60)).wait().expect("a lease is granted");
    let (one, two) = (open(), open());
    let held = acquire(&one).wait().expect("the lock is free");
    let mut tickets = [acquire(&two), acquire(&one), acquire(&two), acquire(&one)];
    assert!(tickets.iter_mut().all(|ticket| ticket.try_wait().expect("the session is alive").is_none()));
    assert!(try_acquire(&one).wait().expect("the store is open").is_none());
    let [mut first, second, mut third, mut fourth] = tickets;
    drop(second);
    assert!(third.try_wait().expect("the session is alive").is_none());
    drop(held);
    drop(taken(&mut first));
    drop(taken(&mut third));
    store.expire(one.lease()).expect("the lease exists");
    assert_eq!(fourth.try_wait().map(drop), Err(Error::SessionExpired));
    assert!(try_acquire(&two).wait().expect("the session is alive").is_some());
    assert_eq!(all_keys(&store), [""; 0]);
    let requests = recording.requests.lock().expect("no test panicked while it held the list");
    requests.clone()
}

#[test]
fn semaphore_with_one_permit_makes_requests_of_mutex() {
    let of_mutex = requests_of(|one| Mutex::new(one, "l").lock(), |one| Mutex::new(one, "l").try_lock());
    let of_semaphore = requests_of(
        |one| Semaphore::new(one, "l", 1).acquire(),
        |one| Semaphore::new(one, "l", 1).try_acquire(),
    );
    assert!(of_mutex.len() > 20, "{of_mutex:#?}");
    assert_eq!(of_semaphore, of_mutex);
}

/// A mutex and a semaphore share a queue under one name: the mutex waits for every key, the semaphore for all but one.
#[test]
fn mutex_and_semaphore_of_one_name_share_a_queue() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let (mutex, semaphore) = (Mutex::new(&one, "l"), Semaphore::new(&one, "l", 2));
    let held = mutex.lock().wait().unwrap();
    let permit = semaphore.try_acquire().wait().unwrap().expect("one of two is free");
    let mut waiting = mutex.lock();
    assert!(waiting.try_wait().unwrap().is_none());
    drop(held);
    assert!(waiting.try_wait().unwrap().is_none());
    drop(permit);
    drop(taken(&mut waiting));
}

#[test]
fn queue_shows_holders_and_waiters() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let semaphore = Semaphore::new(&one, "s", 2);
    assert_eq!(semaphore.queue().wait().unwrap().to_string(), "s: no holder");
    let _held = semaphore.acquire().wait().unwrap();
    let queue = semaphore.queue().wait().unwrap();
    assert_eq!((queue.to_string(), queue.waiters()), ("s: held by s/1-0 (token 2, lease 1)".into(), &[][..]));
    let _tickets = [(); 3].map(|()| semaphore.acquire());
    let queue = semaphore.queue().wait().unwrap();
    assert_eq!((queue.holders().len(), queue.waiters().len()), (2, 2));
    assert_eq!(queue.holder().map(|place| place.token().get()), Some(2));
    assert_eq!(
        queue.to_string(),
        "s: held by s/1-0 (token 2, lease 1), s/1-1 (token 3, lease 1); \
         waited for by s/1-2 (token 4, lease 1), s/1-3 (token 5, lease 1)"
    );
}

/// The error of a request with a lost response.
const LOST: Error = Error::Unavailable { maybe_applied: true };

/// Loses the nth next txn, or its response.
#[derive(Clone)]
struct LossyBackend {
    store: Store,
    lost: Arc<Slot<Option<(usize, bool)>>>,
}

impl Layer for LossyBackend {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let mut lost = self.lost.lock().expect("no test panicked while it held the number");
        let is_txn = matches!(request, Request::Txn(_));
        match *lost {
            Some((0, is_applied)) if is_txn => {
                *lost = None;
                drop(lost);
                if is_applied {
                    drop(self.store.call(request).wait());
                }
                return Call::from_result(Err(LOST));
            }
            Some((n, is_applied)) if is_txn => *lost = Some((n - 1, is_applied)),
            _ => {}
        }
        drop(lost);
        self.store.call(request)
    }
}

#[test]
fn acquire_with_lost_response_leaves_no_key() {
    for is_applied in [false, true] {
        for (is_try, txns) in [(true, 2), (false, 1)] {
            for nth in 0..txns {
                let backend = LossyBackend { store: manual().0, lost: Arc::default() };
                let one = Session::open(Client::new(backend.clone()), secs(5)).wait().unwrap();
                let semaphore = Semaphore::new(&one, "s", 2);
                let held = semaphore.acquire().wait().unwrap();
                *backend.lost.lock().unwrap() = Some((nth, is_applied));
                let lost = match is_try {
                    true => semaphore.try_acquire().wait().map(drop),
                    false => semaphore.acquire().wait().map(drop),
                };
                assert_eq!(lost, Err(LOST), "txn {nth}");
                assert_eq!(all_keys(&backend.store), ["s/1-0"], "txn {nth}, applied: {is_applied}");
                assert!(semaphore.try_acquire().wait().unwrap().is_some());
                drop(held);
            }
        }
    }
}

/// A failed release can be repeated, and does not delete a newer permit.
#[test]
fn release_with_lost_response_can_be_repeated() {
    for is_applied in [false, true] {
        let backend = LossyBackend { store: manual().0, lost: Arc::default() };
        let one = Session::open(Client::new(backend.clone()), secs(5)).wait().unwrap();
        let semaphore = Semaphore::new(&one, "s", 2);
        let (first, _second) = (semaphore.acquire().wait().unwrap(), semaphore.acquire().wait().unwrap());
        *backend.lost.lock().unwrap() = Some((0, is_applied));
        assert_eq!(first.release().wait(), Err(LOST));
        let newer = semaphore.try_acquire().wait().unwrap();
        assert_eq!(newer.is_some(), is_applied);
        first.release().wait().unwrap();
        assert!(newer.is_none_or(|newer| newer.check().wait().is_ok()));
    }
}

/// A compaction between read and watch ends no wait.
#[test]
fn compaction_before_watch_does_not_end_wait() {
    let (store, _clock) = manual();
    let client = crate::service_helpers::compacting(&store);
    let one = Session::open(client, secs(5)).wait().unwrap();
    let semaphore = Semaphore::new(&one, "s", 2);
    let (first, _second) = (semaphore.acquire().wait().unwrap(), semaphore.acquire().wait().unwrap());
    let mut waiting = semaphore.acquire();
    assert!(is_waiting(&mut waiting));
    drop(first);
    drop(taken(&mut waiting));
}
