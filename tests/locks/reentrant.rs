//! Re-entrant locks: a session's guards and tickets share one key, `name/<lease>`.

use leasehold::concurrency::{Mutex, MutexGuard, Session};
use leasehold::service::{LockRequest, LockService, UnlockRequest};
use leasehold::{Client, Error, Get, LeaseId, Put, Store, Ticket, TxnOp};
use leasehold_testkit::helpers::{all_keys, events, manual, millis, secs, session, taken};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::guarded;

fn is_waiting(ticket: &mut Ticket<MutexGuard>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

/// R-LCK-6: each `lock` returns another guard of the session's key, and the last guard releases it.
#[test]
fn last_guard_of_session_releases_reentrant_lock() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let mutex = Mutex::reentrant(&one, "l");
    let guards =
        [mutex.lock().wait().unwrap(), mutex.try_lock().wait().unwrap().unwrap(), taken(&mut mutex.lock())];
    assert!(guards.iter().all(|guard| guard.key() == b"l/1" && guard.token() == guards[0].token()));
    let mut other = Mutex::reentrant(&two, "l").lock();
    assert!(
        Mutex::new(&one, "l").try_lock().wait().unwrap().is_none(),
        "a lock that is not re-entrant is another one"
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

/// R-LCK-6, R-LCK-9: waiters that share a key acquire together, and a dropped one leaves the key to the others.
#[test]
fn waiters_of_one_session_acquire_together() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let mutex = Mutex::reentrant(&one, "l");
    let [mut first, second, mut third] = [0; 3].map(|_| mutex.lock());
    let mut behind = Mutex::new(&two, "l").lock();
    assert_eq!(all_keys(&store), ["l/1", "l/2-0", "l/2-1"]);
    drop(second);
    assert!(is_waiting(&mut first) && is_waiting(&mut third));
    assert!(mutex.try_lock().wait().unwrap().is_none(), "the session's key is not the oldest");
    drop(held);
    let (first, third) = (taken(&mut first), taken(&mut third));
    assert_eq!(first.token(), third.token());
    drop(first);
    assert!(is_waiting(&mut behind));
    drop(third);
    drop(taken(&mut behind));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// After the key was deleted, the next lock puts another one. Guards of the deleted key are lost and release nothing.
#[test]
fn lost_reentrant_lock_is_acquired_with_new_key() {
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

/// Another client writes to the key, which keeps its rank (R-LCK-4). The guard still releases it.
#[test]
fn overwritten_key_is_released() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let held = Mutex::reentrant(&one, "l").lock().wait().unwrap();
    store.put(("l/1", "foreign")).unwrap();
    held.check().wait().unwrap();
    drop(held);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// Locking again writes to the key, so a concurrent compare-and-delete fails. The rank does not change (R-LCK-4).
#[test]
fn locking_again_keeps_the_rank() {
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

/// A released guard is lost, although other guards of the session still hold the lock.
#[test]
fn released_guard_is_lost_while_others_hold() {
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

/// A failed `try_lock` keeps the key on which another waiter of its lease waits.
#[test]
fn failed_try_lock_keeps_key_of_waiter() {
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

/// Guards, re-entrant guards and callers of the service share one queue, and acquire in the order of their create revisions.
#[test]
fn mixed_waiters_acquire_in_create_order() {
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
    // A later waiter that shares a key has the place of that key.
    let mut with_the_first = Mutex::reentrant(&sessions[1], "l").lock();

    assert!(is_waiting(&mut reentrant) && is_waiting(&mut with_the_first));
    drop(first);
    let (one, other) = (taken(&mut reentrant), taken(&mut with_the_first));
    assert!(service.try_wait().unwrap().is_none() && one.token() == other.token());
    drop((one, other));
    let served = service.try_wait().unwrap().expect("the key is the first of the queue");
    assert!(is_waiting(&mut guard));
    locks.unlock(UnlockRequest { key: served.key }).wait().unwrap();
    let held = taken(&mut guard);
    assert!(by_nobody.try_wait().unwrap().is_none());
    drop(held);
    let served = by_nobody.try_wait().unwrap().expect("the key is the first of the queue");
    assert!(is_waiting(&mut last));
    locks.unlock(UnlockRequest { key: served.key }).wait().unwrap();
    drop(taken(&mut last));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// The key has etcd's form, so a caller of the service with the session's lease shares the lock (R-LCK-6).
#[test]
fn service_caller_with_session_lease_shares_lock() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let locks = LockService::new(store.client());
    let lock = LockRequest { name: "l".into(), lease: one.lease() };
    let held = locks.lock(lock).wait().unwrap();
    let guard =
        Mutex::reentrant(&one, "l").try_lock().wait().unwrap().expect("the session's key is the oldest");
    assert_eq!(guard.key(), held.key);
    locks.unlock(UnlockRequest { key: held.key }).wait().unwrap();
    assert_eq!(
        guard.check().wait(),
        Err(Error::SessionExpired),
        "the service's unlock deletes the key (R-LCK-12)"
    );
}

/// R-LCK-7: waiters report the end of their session at once.
#[test]
fn reentrant_waiters_of_ended_session_return_session_expired() {
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

/// The last guard is released while another lock is pending. In either order, each returned guard has its key.
#[test]
fn guards_are_valid_when_release_races_lock() {
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

/// Threads lock, lock again and release concurrently over one store.
#[test]
fn threads_lock_and_release_concurrently() {
    let store = Store::new();
    let one = session(&store, 60);
    let mutex = Mutex::reentrant(&one, "l");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (mutex, store) = (&mutex, &store);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let guard = mutex.lock().wait().expect("the session is alive");
                    assert_eq!(guard.check().wait(), Ok(()), "round {n} of thread {thread}");
                    if n % 7 == 0 {
                        let inner = mutex.lock().wait().expect("the session is alive");
                        drop(guard);
                        assert_eq!(inner.check().wait(), Ok(()));
                    }
                    if n % 100 == 0 {
                        store
                            .put(Put::new("l/1", "touched").lease(LeaseId::new(1)))
                            .expect("the store is open");
                        drop(mutex.lock());
                    }
                }
            });
        }
    });
    drop(mutex.lock());
    assert_eq!(all_keys(&store), [""; 0]);
}
