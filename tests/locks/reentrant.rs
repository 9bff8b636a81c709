//! Locks that a session gets again: one key, `name/<lease>`, for all its guards and tickets.

use leasehold::concurrency::{Mutex, MutexGuard, Session};
use leasehold::service::{LockRequest, LockService, UnlockRequest};
use leasehold::{Client, Error, Get, LeaseId, Put, Store, Ticket, TxnOp};
use leasehold_testkit::helpers::{all_keys, events, manual, millis, secs, session, taken};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::guarded;

fn is_waiting(ticket: &mut Ticket<MutexGuard>) -> bool {
    ticket.try_wait().expect("the session lives").is_none()
}

/// R-LCK-6.
#[test]
fn a_session_gets_it_again_and_the_last_guard_gives_it_back() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let mutex = Mutex::reentrant(&one, "l");
    let guards =
        [mutex.lock().wait().unwrap(), mutex.try_lock().wait().unwrap().unwrap(), taken(&mut mutex.lock())];
    assert!(guards.iter().all(|guard| guard.key() == b"l/1" && guard.token() == guards[0].token()));
    let mut other = Mutex::reentrant(&two, "l").lock();
    assert!(
        Mutex::new(&one, "l").try_lock().wait().unwrap().is_none(),
        "one that is not re-entrant is another"
    );
    let [first, second, third] = guards;
    first.unlock().wait().unwrap();
    first.unlock().wait().unwrap();
    drop((first, third));
    assert!(is_waiting(&mut other));
    second.check().wait().unwrap();
    second.unlock().wait().unwrap();
    assert_eq!(second.check().wait(), Err(Error::SessionExpired));
    drop(second);
    assert_eq!(taken(&mut other).key(), b"l/2");
    assert_eq!(all_keys(&store), [""; 0]);
}

/// R-LCK-6, R-LCK-9: those who wait with one key are served together, and one that gives up takes nobody's place away.
#[test]
fn waiters_of_a_session_share_their_place() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let mutex = Mutex::reentrant(&one, "l");
    let [mut first, second, mut third] = [0; 3].map(|_| mutex.lock());
    let mut behind = Mutex::new(&two, "l").lock();
    assert_eq!(all_keys(&store), ["l/1", "l/2-0", "l/2-1"]);
    drop(second);
    assert!(is_waiting(&mut first) && is_waiting(&mut third));
    assert!(mutex.try_lock().wait().unwrap().is_none(), "its key is there, and is not the oldest");
    drop(held);
    let (first, third) = (taken(&mut first), taken(&mut third));
    assert_eq!(first.token(), third.token());
    drop(first);
    assert!(is_waiting(&mut behind));
    drop(third);
    drop(taken(&mut behind));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// Once the key is gone, the next to come makes another; guards of the first are lost and take nothing away.
#[test]
fn a_lock_that_was_lost_is_got_anew() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::reentrant(&one, "l");
    let lost = mutex.lock().wait().unwrap();
    store.delete(lost.key()).unwrap();
    let held = mutex.lock().wait().unwrap();
    assert!(held.token() > lost.token());
    assert_eq!((lost.check().wait(), held.check().wait()), (Err(Error::SessionExpired), Ok(())));
    lost.unlock().wait().unwrap();
    drop(lost);
    held.check().wait().unwrap();
    let again = mutex.lock().wait().unwrap();
    drop(held);
    again.check().wait().unwrap();
    drop(again);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// Somebody may write to the key, which leaves its rank alone (R-LCK-4); it is given back nevertheless.
#[test]
fn a_key_that_was_written_to_is_given_back() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let held = Mutex::reentrant(&one, "l").lock().wait().unwrap();
    store.put(("l/1", "foreign")).unwrap();
    held.check().wait().unwrap();
    drop(held);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// Getting it again writes to the key, so that whoever is about to delete it does not; its rank stays (R-LCK-4).
#[test]
fn getting_it_again_leaves_the_rank_alone() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::reentrant(&one, "l");
    let outer = mutex.lock().wait().unwrap();
    drop(mutex.lock().wait().unwrap());
    assert!(mutex.try_lock().wait().unwrap().is_some());
    outer.unlock().wait().unwrap();
    let expected = ["put l/1= 2/2/1 #1", "put l/1= 2/3/2 #1", "put l/1= 2/4/3 #1", "delete l/1 5"];
    assert_eq!(events(&store, 2), expected);
}

/// A guard that was given back is over, though others of the session hold the lock still.
#[test]
fn a_guard_that_was_given_back_is_over() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let mutex = Mutex::reentrant(&one, "l");
    let (outer, inner) = (mutex.lock().wait().unwrap(), mutex.lock().wait().unwrap());
    outer.unlock().wait().unwrap();
    let write = outer.txn().and_then([TxnOp::put("r", "v")]);
    assert_eq!(write.commit().wait().map(drop), Err(Error::SessionExpired));
    assert_eq!((outer.check().wait(), outer.lost().try_wait()), (Err(Error::SessionExpired), Ok(Some(()))));
    assert_eq!((inner.check().wait(), inner.lost().try_wait()), (Ok(()), Ok(None)));
}

/// Who only tries does not take away the place of whoever waits by the same lease.
#[test]
fn trying_takes_no_place_away() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let locks = LockService::new(store.client());
    let mut waiting = locks.lock(LockRequest { name: "l".into(), lease: one.lease() });
    assert!(Mutex::reentrant(&one, "l").try_lock().wait().unwrap().is_none());
    assert_eq!(all_keys(&store), ["l/1", "l/2-0"]);
    drop(held);
    assert!(waiting.try_wait().unwrap().is_some());
}

/// Guards, re-entrant guards and the services' callers queue on one name, and take turns by create revision.
#[test]
fn mixed_company_takes_turns() {
    let (store, _clock) = manual();
    let sessions: Vec<Session> = (0..4).map(|_| session(&store, 5)).collect();
    let locks = LockService::new(store.client());
    let first = Mutex::new(&sessions[0], "l").lock().wait().unwrap();
    let mut reentrant = Mutex::reentrant(&sessions[1], "l").lock();
    let lease = sessions[2].lease();
    let mut service = locks.lock(LockRequest { name: "l".into(), lease });
    let mut guard = Mutex::new(&sessions[1], "l").lock();
    let mut by_nobody = locks.lock(LockRequest { name: "l".into(), lease: LeaseId::NONE });
    let mut last = Mutex::reentrant(&sessions[3], "l").lock();
    // One that comes later and shares a key has the place of the key.
    let mut with_the_first = Mutex::reentrant(&sessions[1], "l").lock();

    assert!(is_waiting(&mut reentrant) && is_waiting(&mut with_the_first));
    drop(first);
    let (one, other) = (taken(&mut reentrant), taken(&mut with_the_first));
    assert!(service.try_wait().unwrap().is_none() && one.token() == other.token());
    drop((one, other));
    let served = service.try_wait().unwrap().expect("it is its turn");
    assert!(is_waiting(&mut guard));
    locks.unlock(UnlockRequest { key: served.key }).wait().unwrap();
    let held = taken(&mut guard);
    assert!(by_nobody.try_wait().unwrap().is_none());
    drop(held);
    let served = by_nobody.try_wait().unwrap().expect("it is its turn");
    assert!(is_waiting(&mut last));
    locks.unlock(UnlockRequest { key: served.key }).wait().unwrap();
    drop(taken(&mut last));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// The key is etcd's own, so a caller of the service with the session's lease has the lock too (R-LCK-6).
#[test]
fn the_service_shares_it_by_the_lease() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let locks = LockService::new(store.client());
    let lock = LockRequest { name: "l".into(), lease: one.lease() };
    let held = locks.lock(lock).wait().unwrap();
    let guard = Mutex::reentrant(&one, "l").try_lock().wait().unwrap().expect("its key is the oldest");
    assert_eq!(guard.key(), held.key);
    locks.unlock(UnlockRequest { key: held.key }).wait().unwrap();
    assert_eq!(
        guard.check().wait(),
        Err(Error::SessionExpired),
        "whoever unlocks by the service deletes it (R-LCK-12)"
    );
}

/// Its waiters are told of the session's end at once (R-LCK-7).
#[test]
fn a_waiter_whose_session_ends_is_told_at_once() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 60));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let mut waiting = [0; 2].map(|_| Mutex::reentrant(&one, "l").lock());
    one.pause().wait().unwrap();
    clock.advance(secs(5));
    for ticket in &mut waiting {
        assert_eq!(ticket.try_wait().map(drop), Err(Error::SessionExpired));
    }
    assert_eq!(Mutex::reentrant(&one, "l").lock().wait().map(drop), Err(Error::LeaseNotFound));
    drop((waiting, held));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// The last guard is given back while the next one asks: whichever comes first, a guard that is handed out has its key.
#[test]
fn coming_and_going_may_meet() {
    guarded(|| {
        for backwards in [false, true] {
            let remote = Remote::new();
            let client = Client::new(remote.clone());
            let one = Session::open(client.clone(), secs(60)).wait().unwrap();
            let mutex = Mutex::reentrant(&one, "l");
            let first = mutex.lock().wait().unwrap();
            remote.hold();
            drop(first);
            let mut next = mutex.lock();
            let mut third = mutex.lock();
            remote.release(backwards);
            let guards: Vec<MutexGuard> = [&mut next, &mut third]
                .map(|ticket| ticket.wait_timeout(secs(0)).unwrap().unwrap_or_else(|| panic!("{ticket:?}")))
                .into();
            for guard in &guards {
                guard.check().wait().unwrap();
            }
            drop(guards);
            remote.advance(millis(1));
            let left = client.get(Get::prefix("l/").count_only()).wait().unwrap().count();
            assert_eq!(left, 0);
        }
    });
}

/// The same among threads over a store.
#[test]
fn threads_come_and_go() {
    let store = Store::new();
    let one = session(&store, 60);
    let mutex = Mutex::reentrant(&one, "l");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (mutex, store) = (&mutex, &store);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let guard = mutex.lock().wait().expect("the session lives");
                    assert_eq!(guard.check().wait(), Ok(()), "round {n} of thread {thread}");
                    if n % 7 == 0 {
                        let inner = mutex.lock().wait().expect("the session lives");
                        drop(guard);
                        assert_eq!(inner.check().wait(), Ok(()));
                    }
                    if n % 100 == 0 {
                        store.put(Put::new("l/1", "touched").lease(LeaseId::new(1))).expect("it is open");
                        drop(mutex.lock());
                    }
                }
            });
        }
    });
    drop(mutex.lock());
    assert_eq!(all_keys(&store), [""; 0]);
}
