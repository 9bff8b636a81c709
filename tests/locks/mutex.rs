//! Locks and their guards: waiters acquire in the order of their create revisions, tokens ascend, and the loss of a lock is
//! reported.

use std::time::Duration;

use leasehold::concurrency::{Fence, GuardedTxn, Mutex, MutexGuard, Session};
use leasehold::service::{LockRequest, LockService, UnlockRequest};
use leasehold::{Delete, Error, Get, Grant, ManualClock, Revision, Store, Ticket, TxnOp};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{Random, manual, millis, secs, session, taken};
use proptest::prelude::*;

fn keys(store: &Store) -> i64 {
    store.get(Get::prefix("l/").count_only()).expect("the store is open").count()
}

fn is_waiting(ticket: &mut Ticket<MutexGuard>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

#[test]
fn waiters_acquire_in_lock_order() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let (of_one, of_two) = (Mutex::new(&one, "l"), Mutex::new(&two, "l"));
    let mut held = of_one.lock().wait().unwrap();
    let mut queue: Vec<_> = [&of_one, &of_two, &of_one, &of_two].map(Mutex::lock).into();
    assert!(of_one.try_lock().wait().unwrap().is_none() && of_two.try_lock().wait().unwrap().is_none());
    assert_eq!(keys(&store), 5, "failed tries leave no keys");
    while !queue.is_empty() {
        assert!(queue.iter_mut().all(is_waiting));
        held.unlock().wait().unwrap();
        let next = taken(&mut queue.remove(0));
        assert!(next.token() > held.token(), "tokens ascend");
        held = next;
    }
    drop(held);
    assert_eq!(keys(&store), 0);
    assert!(of_two.try_lock().wait().unwrap().is_some());
}

/// A release wakes only the next waiter, independent of the number of waiters.
#[test]
fn unlock_wakes_only_the_next_waiter() {
    let (store, _clock) = manual();
    let sessions = [5; 10].map(|ttl| session(&store, ttl));
    let mut held = Mutex::new(&sessions[0], "l").lock().wait().unwrap();
    let mut waiting: Vec<_> = sessions.iter().map(|one| Mutex::new(one, "l").lock()).collect();
    assert!(waiting.iter_mut().all(is_waiting));
    for next in 0..waiting.len() {
        assert!(waiting[next..].iter().all(|ticket| ticket.ready_channel().is_empty()));
        held.unlock().wait().unwrap();
        let woken: Vec<usize> = (next..10).filter(|&n| !waiting[n].ready_channel().is_empty()).collect();
        assert_eq!(woken, [next]);
        held = taken(&mut waiting[next]);
    }
}

#[test]
fn dropped_ticket_deletes_its_key_at_once() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::new(&one, "l");
    let held = mutex.lock().wait().unwrap();
    let (middle, mut last) = (mutex.lock(), mutex.lock());
    drop(middle);
    assert_eq!(keys(&store), 2);
    assert!(is_waiting(&mut last), "the waiter's new predecessor is the owner");
    drop(held);
    drop(taken(&mut last));
    // A dropped ticket that has acquired the lock releases it.
    let (first, mut second) = (mutex.lock(), mutex.lock());
    drop(first);
    drop(taken(&mut second));
    assert_eq!(keys(&store), 0);
}

#[test]
fn lost_lock_refuses_writes_and_checks() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    fn resource(guard: &MutexGuard) -> GuardedTxn<'_> {
        guard.txn().and_then([TxnOp::put("r", "v")])
    }

    let fence = Fence::new();
    let first = Mutex::new(&one, "l").lock().wait().unwrap();
    let mut lost = first.lost();
    let mut waiting = Mutex::new(&two, "l").lock();
    assert!(resource(&first).commit().wait().unwrap().succeeded());
    fence.admit(first.token()).unwrap();

    one.pause().wait().unwrap();
    clock.advance(millis(4_999));
    assert!(is_waiting(&mut waiting) && lost.try_wait().unwrap().is_none());
    first.check().wait().unwrap();
    clock.advance(secs(1));

    let second = taken(&mut waiting);
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(first.check().wait(), Err(Error::SessionExpired));
    let before = store.status().unwrap().header().revision();
    assert_eq!(resource(&first).or_else([TxnOp::put("r", "x")]).commit().wait(), Err(Error::SessionExpired));
    assert_eq!(store.status().unwrap().header().revision(), before, "neither branch was run");
    fence.admit(second.token()).unwrap();
    let stale = Error::StaleToken { token: first.token(), newest: second.token() };
    assert_eq!(fence.admit(first.token()), Err(stale));
    first.unlock().wait().unwrap();
    drop(first);
    second.check().wait().unwrap();
    assert!(!one.is_alive().wait().unwrap() && two.is_alive().wait().unwrap());
}

/// R-LCK-7, for guards: a waiter fails at once when its session or key ends, before its predecessors release.
#[test]
fn waiter_of_ended_session_returns_session_expired() {
    let (store, clock) = manual();
    let (one, two, three) = (session(&store, 5), session(&store, 5), session(&store, 5));
    let held = Mutex::new(&one, "l").lock().wait().unwrap();
    let (of_two, of_three) = (Mutex::new(&two, "l"), Mutex::new(&three, "l"));
    let [mut expiring, mut deleted] = [of_two.lock(), of_three.lock()];
    two.pause().wait().unwrap();
    clock.advance(secs(10));
    assert_eq!(expiring.try_wait().map(drop), Err(Error::SessionExpired));
    assert!(is_waiting(&mut deleted));
    let newest = of_three.queue().wait().unwrap().waiters()[0].key().to_vec();
    store.delete(newest).unwrap();
    assert_eq!(deleted.wait().map(drop), Err(Error::SessionExpired));
    assert_eq!(of_two.lock().wait().map(drop), Err(Error::LeaseNotFound), "an ended session cannot wait");
    held.check().wait().unwrap();
}

/// A guarded txn can be awaited in async code.
#[test]
fn guarded_txn_can_be_awaited() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let write = async {
        let guard = Mutex::new(&one, "l").lock().await?;
        let written = guard.txn().and_then([TxnOp::put("r", "v")]).commit().await?;
        store.delete(guard.key())?;
        assert_eq!(
            guard.txn().and_then([TxnOp::put("r", "late")]).commit().await,
            Err(Error::SessionExpired)
        );
        leasehold::Result::Ok(written.succeeded())
    };
    assert_eq!(store.client().block_on(write), Ok(true));
    assert_eq!(store.get("r").unwrap().kvs()[0].version(), 1);
}

/// R-LCK-5, R-LCK-9: a key that another client put under the guard's name does not belong to the guard.
#[test]
fn recreated_key_is_not_owned_by_old_guard() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::new(&one, "l");
    let held = mutex.lock().wait().unwrap();
    let key = held.key().to_vec();
    store.delete(key.clone()).unwrap();
    store.put((key, "foreign")).unwrap();
    assert_eq!(held.check().wait(), Err(Error::SessionExpired));
    assert_eq!(held.lost().try_wait(), Ok(Some(())));
    held.unlock().wait().unwrap();
    drop(held);
    assert_eq!(keys(&store), 1, "the foreign key is not deleted");
}

/// Guards and callers of the service acquire in the order of their create revisions.
#[test]
fn guards_and_service_callers_share_one_queue() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let (mutex, locks) = (Mutex::new(&one, "l"), LockService::new(store.client()));
    let lease = store.grant(Grant::new(secs(60))).unwrap().id();
    let first = locks.lock(LockRequest { name: "l".into(), lease }).wait().unwrap();
    let mut second = mutex.lock();
    let other = store.grant(Grant::new(secs(60))).unwrap().id();
    let mut third = locks.lock(LockRequest { name: "l".into(), lease: other });
    let mut fourth = mutex.lock();
    assert!(is_waiting(&mut second) && third.try_wait().unwrap().is_none() && is_waiting(&mut fourth));
    locks.unlock(UnlockRequest { key: first.key }).wait().unwrap();
    let guard = taken(&mut second);
    assert!(third.try_wait().unwrap().is_none());
    guard.unlock().wait().unwrap();
    let held = third.try_wait().unwrap().expect("the key is the first of the queue");
    assert!(is_waiting(&mut fourth));
    locks.unlock(UnlockRequest { key: held.key }).wait().unwrap();
    drop(taken(&mut fourth));
}

#[test]
fn timed_out_wait_keeps_its_place() {
    let (store, clock) = manual();
    let one = session(&store, 60);
    let mutex = Mutex::new(&one, "l");
    let held = mutex.lock().wait().unwrap();
    let mut waiting = mutex.lock();
    let waiter = std::thread::Builder::new().spawn(move || {
        let in_vain = waiting.wait_timeout(secs(3)).map(|got| got.is_none());
        (in_vain, waiting)
    });
    while store.next_deadline().is_none() {
        std::thread::yield_now();
    }
    clock.advance(secs(3));
    let (in_vain, mut waiting) = waiter.unwrap().join().unwrap();
    assert_eq!(in_vain, Ok(true));
    let behind = mutex.lock();
    drop(held);
    let guard = waiting.wait_timeout(Duration::ZERO).unwrap().expect("the waiter was before the other one");
    drop(behind);
    assert!(mutex.queue().wait().unwrap().holder().is_some_and(|holder| holder.token() == guard.token()));
}

#[test]
fn closed_session_releases_locks_and_orphaned_session_does_not() {
    let (store, clock) = manual();
    let mut others = session(&store, 60);
    let waiter = Mutex::new(&others, "l");
    let one = session(&store, 5);
    let guard = Mutex::new(&one, "l").lock().wait().unwrap();
    let mut waiting = waiter.lock();
    one.close().wait().unwrap();
    assert_eq!(
        (one.close().wait(), guard.check().wait()),
        (Err(Error::LeaseNotFound), Err(Error::SessionExpired))
    );
    drop((guard, taken(&mut waiting)));

    let one = session(&store, 5);
    let guard = Mutex::new(&one, "l").lock().wait().unwrap();
    one.orphan().wait().unwrap();
    drop(one);
    let mut waiting = waiter.lock();
    clock.advance(millis(3_300));
    assert!(is_waiting(&mut waiting), "the orphaned lease lasts for its remaining TTL");
    clock.advance(secs(2));
    drop((guard, taken(&mut waiting)));

    let lease = others.lease();
    others = session(&store, 1);
    assert_eq!(others.ttl(), secs(2), "the store's minimum TTL applies");
    assert!(
        store.time_to_live(lease, false).unwrap().ttl().is_some(),
        "the mutex has a handle of the session"
    );
    drop(waiter);
    assert!(store.time_to_live(lease, false).unwrap().ttl().is_none());
}

/// A lock that is locked and unlocked a thousand times writes versions of one key. A thousand keys would slow down each read of
/// the queue.
#[test]
fn released_hold_name_is_used_again() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::new(&one, "l");
    for _ in 0..1000 {
        assert_eq!(mutex.lock().wait().unwrap().key(), b"l/1-0");
        assert_eq!(mutex.try_lock().wait().unwrap().unwrap().key(), b"l/1-0");
    }
    let held = mutex.lock().wait().unwrap();
    let waiting = mutex.lock();
    assert!(mutex.try_lock().wait().unwrap().is_none());
    drop(waiting);
    store.delete(held.key()).unwrap();
    store.put((held.key(), "foreign")).unwrap();
    drop(held);
    let mut queued = mutex.lock();
    assert!(is_waiting(&mut queued), "the waiter waits for the foreign key");
    store.delete("l/1-0").unwrap();
    assert_eq!(taken(&mut queued).key(), b"l/1-1");
}

#[test]
fn queue_display_lists_holder_and_waiters() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::new(&one, "l");
    assert_eq!(mutex.queue().wait().unwrap().to_string(), "l: no holder");
    let held = mutex.lock().wait().unwrap();
    let _waiting = [mutex.lock(), mutex.lock()];
    let queue = mutex.queue().wait().unwrap();
    assert_eq!(queue.waiters().len(), 2);
    assert_eq!(
        queue.to_string(),
        "l: held by l/1-0 (token 2, lease 1); waited for by l/1-1 (token 3, lease 1), l/1-2 (token 4, lease 1)"
    );
    assert_eq!(held.token(), Revision::new(2));
}

#[test]
fn lock_in_namespace_uses_prefixed_key() {
    let (store, _clock) = manual();
    let inside = Session::open(store.client().namespace("app/"), secs(5)).wait().unwrap();
    let outside = session(&store, 5);
    let held = Mutex::new(&inside, "l").lock().wait().unwrap();
    assert_eq!(held.key(), b"l/1-0");
    assert!(
        Mutex::new(&outside, "l").try_lock().wait().unwrap().is_some(),
        "the lock outside is another one"
    );
    let mut waiting = Mutex::new(&outside, "app/l").lock();
    assert!(is_waiting(&mut waiting));
    let mut lost = held.lost();
    store.delete(Delete::prefix("app/")).unwrap();
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(waiting.wait().map(drop), Err(Error::SessionExpired));
}

/// The state of a run of random steps.
struct MutexHarness {
    store: Store,
    clock: ManualClock,
    sessions: Vec<Session>,
    waiting: Vec<(Revision, Ticket<MutexGuard>)>,
    guards: Vec<MutexGuard>,
    newest: Revision,
}

impl MutexHarness {
    fn step(&mut self, random: &mut Random) {
        let session = self.sessions[random.below(self.sessions.len() as u64) as usize].clone();
        match random.below(10) {
            0..=3 => {
                let before = self.store.status().expect("the store is open").header().revision();
                let ticket = Mutex::new(&session, "l").lock();
                // The put is the next revision of the store, since one thread makes all requests.
                self.waiting.push((before.next(), ticket));
            }
            4 => drop(pick(&mut self.waiting, random)),
            5 => drop(pick(&mut self.guards, random)),
            6 => drop(session.pause().wait()),
            7 => drop(session.resume().wait()),
            8 => self.clock.advance(millis(random.below(4_000))),
            _ => {
                let lease = session.lease();
                drop(self.store.expire(lease));
            }
        }
        for place in (0..self.sessions.len()).rev() {
            if !self.sessions[place].is_alive().wait().expect("the store is open") {
                self.sessions[place] =
                    Session::open(&self.store, secs(5)).wait().expect("a lease is granted");
            }
        }
        self.poll();
        self.check();
    }

    fn poll(&mut self) {
        let mut waiting = Vec::new();
        for (token, mut ticket) in self.waiting.drain(..) {
            match ticket.try_wait() {
                Ok(Some(guard)) => {
                    assert!(guard.token() > self.newest, "tokens ascend in the order of the calls");
                    assert_eq!(guard.token(), token);
                    self.newest = guard.token();
                    self.guards.push(guard);
                }
                Ok(None) => waiting.push((token, ticket)),
                Err(error) => assert!(matches!(error, Error::SessionExpired | Error::LeaseNotFound)),
            }
        }
        self.waiting = waiting;
    }

    fn check(&self) {
        let holding = self.guards.iter().filter(|guard| guard.check().wait().is_ok()).count();
        assert!(holding <= 1, "the lock has at most one owner");
        assert_eq!(
            holding + self.waiting.len(),
            keys(&self.store) as usize,
            "each key has an owner or waiter"
        );
        assert!(holding == 1 || self.waiting.is_empty(), "a free lock has no waiters");
    }
}

fn pick<T>(of: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if of.is_empty() { None } else { Some(of.remove(random.below(of.len() as u64) as usize)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(20), failure_persistence: None, ..ProptestConfig::default() })]

        /// Sessions hang and end, and waits are dropped at any time. There are never two owners, no key is left over, waiters
        /// acquire in their order, and a free lock has no waiter.
    #[test]
    fn mutual_exclusion_with_random_steps(seed: u64) {
        let (store, clock) = manual();
        let sessions = (0..3).map(|_| session(&store, 5)).collect();
        let (waiting, guards) = (Vec::new(), Vec::new());
        let mut harness = MutexHarness { store, clock, sessions, waiting, guards, newest: Revision::new(0) };
        let mut random = Random::new(seed);
        for _ in 0..120 {
            harness.step(&mut random);
        }
        harness.waiting.clear();
        harness.guards.clear();
        prop_assert_eq!(keys(&harness.store), 0);
        harness.sessions.clear();
        prop_assert_eq!(harness.store.leases().expect("the store is open").leases().len(), 0);
    }
}
