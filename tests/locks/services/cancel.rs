//! Dropped waits for locks and elections, and the ways to wait for them (R-LCK-9, R-ELC-6). The tests run over a store, in a
//! namespace, and while the store is closed. `far.rs` has the tests over a backend that answers later.

use std::task::Poll;

use leasehold::service::{ElectionService, LockService};
use leasehold::{Compact, Error, Grant, Put};
use leasehold_testkit::helpers::{all_keys, delete, events, put, revision, secs, value};
use leasehold_testkit::wakers::{Count, guarded, poll_with};

use crate::service_helpers::{
    COMPACTED, EXPIRED, Moment, assert_refused, assert_sleeps, assert_stopped, assert_waits, campaign,
    candidacy, compacting, electing, hold, leased, lock, locking, meddling, observe, proclaim, resign, take,
    unlock, win,
};

/// R-LCK-9: dropping the ticket deletes its key in one revision, before the drop returns.
#[test]
fn dropped_lock_ticket_deletes_its_key() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let second = lock(&locks, "a", 2);
    let mut third = lock(&locks, "a", 3);
    drop(second);
    assert_eq!((revision(&store), events(&store, 5)), (5, vec!["delete a/2 5".to_owned()]));
    assert_waits(&mut third);
    drop(third);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["a/1".into()], 6));
    assert_eq!(hold(&locks, "a", 1).key, "a/1", "lease 1 still holds the lock");
}

/// R-LCK-9: a key that another client has put again is deleted too.
#[test]
fn dropped_lock_ticket_deletes_foreign_key_of_its_name() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let second = lock(&locks, "a", 2);
    delete(&store, "a/2");
    put(&store, "a/2", "foreign");
    drop(second);
    assert_eq!(value(&store, "a/2"), None);
    let third = lock(&locks, "a", 3);
    delete(&store, "a/3");
    let before = revision(&store);
    drop(third);
    assert_eq!(revision(&store), before, "the dropped ticket had no key");
}

/// R-LCK-9: two tickets share one key, and dropping either deletes it for both.
#[test]
fn dropped_ticket_ends_other_ticket_of_its_key() {
    for is_later in [true, false] {
        let (store, _clock, locks) = locking();
        hold(&locks, "a", 1);
        let (first, second) = (lock(&locks, "a", 2), lock(&locks, "a", 2));
        let (dropped, mut kept) = if is_later { (second, first) } else { (first, second) };
        drop(dropped);
        assert_eq!(all_keys(&store), ["a/1"]);
        assert_sleeps(&mut kept);
        unlock(&locks, "a/1");
        assert_refused(kept.try_wait(), EXPIRED);
    }
}

/// R-LCK-9: a call that has returned cannot be cancelled.
#[test]
fn dropped_completed_ticket_has_no_effect() {
    let (store, _clock, locks) = locking();
    let mut first = lock(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    take(&mut first);
    drop(first);
    assert_eq!(all_keys(&store), ["a/1", "a/2"]);
    unlock(&locks, "a/1");
    take(&mut second);
    drop(second);
    assert_eq!(all_keys(&store), ["a/2"]);
    let elections = ElectionService::new(store.client());
    let mut won = campaign(&elections, "e", 3, "v");
    take(&mut won);
    drop(won);
    let mut refused = lock(&locks, "b", 99);
    assert!(refused.try_wait().is_err());
    drop(refused);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["a/2".into(), "e/3".into()], 5));
}

/// A ticket that has won but was not polled deletes its key when it is dropped.
#[test]
fn dropped_unpolled_lock_ticket_releases_lock() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let second = lock(&locks, "a", 2);
    let mut third = lock(&locks, "a", 3);
    unlock(&locks, "a/1");
    assert_eq!(second.ready_channel().len(), 1);
    drop(second);
    assert_eq!(take(&mut third).key, "a/3");
    assert_eq!(all_keys(&store), ["a/3"]);
}

#[test]
fn dropped_ticket_of_free_lock_releases_lock() {
    let (store, _clock, locks) = locking();
    drop(lock(&locks, "a", 1));
    let elections = ElectionService::new(store.client());
    drop(campaign(&elections, "e", 1, "v"));
    assert_eq!(all_keys(&store).len(), 0);
}

/// R-ELC-6: dropping a candidacy has the effect of `resign`.
#[test]
fn dropped_candidacy_is_withdrawn() {
    let (store, _clock, elections) = electing();
    win(&elections, "e", 1, "one");
    let second = campaign(&elections, "e", 2, "two");
    let third = campaign(&elections, "e", 3, "three");
    let fourth = campaign(&elections, "e", 4, "four");
    proclaim(&elections, &candidacy("e", "e/2", 3, 2), "new").unwrap();
    drop(second);
    assert_eq!(events(&store, 7), ["delete e/2 7"], "an overwritten key is deleted with its candidacy");
    delete(&store, "e/3");
    put(&store, "e/3", "foreign");
    drop(third);
    assert_eq!((value(&store, "e/3"), revision(&store)), (Some("foreign".into()), 9));
    drop((campaign(&elections, "e", 4, "four"), campaign(&elections, "e", 4, "new")));
    assert_eq!(all_keys(&store), ["e/1", "e/3"], "the first dropped ticket deletes the shared key");
    resign(&elections, &candidacy("e", "e/1", 2, 1)).unwrap();
    drop(fourth);
    assert_eq!(all_keys(&store), ["e/3"]);
}

/// A wait that ends with an error deletes its key.
#[test]
fn failed_wait_deletes_its_key() {
    for is_second in [false, true] {
        let (store, _clock) = leased();
        let client = meddling(&store, move |store, moment| {
            let is_meant = store.get("a/1").unwrap().count() == i64::from(!is_second);
            if !is_meant || !matches!(moment, Moment::Watch) {
                return false;
            }
            put(store, "other", "1");
            let now = put(store, "other", "2");
            store.compact(Compact::new(now)).is_ok()
        });
        let locks = LockService::new(client);
        for lease in [3, 1] {
            store.put(Put::new(format!("a/{lease}"), "").lease(lease)).unwrap();
        }
        let mut ticket = lock(&locks, "a", 2);
        if is_second {
            assert_waits(&mut ticket);
            delete(&store, "a/1");
        }
        assert_refused(ticket.try_wait(), COMPACTED);
        assert_eq!(value(&store, "a/2"), None);
        drop(ticket);
    }
}

/// A wait that timed out keeps its place, and a lock that is free at the timeout is acquired.
#[test]
fn timed_out_service_wait_keeps_its_place() {
    let (store, clock, locks) = locking();
    store.grant(Grant::new(secs(10)).id(20)).unwrap();
    hold(&locks, "a", 20);
    let mut second = lock(&locks, "a", 2);
    let third = lock(&locks, "a", 3);
    for _ in 0..3 {
        assert_eq!(second.wait_timeout(secs(0)), Ok(None));
        clock.advance(secs(3));
    }
    assert_eq!(revision(&store), 4);
    clock.advance(secs(1));
    assert_eq!(second.wait_timeout(secs(0)).unwrap().unwrap().key, "a/2");
    drop(third);
    let next = campaign(&ElectionService::new(store.client()), "a", 4, "v");
    unlock(&locks, "a/2");
    assert_eq!(next.wait().unwrap().leader.key, "a/4");
}

#[test]
fn ready_token_is_set_when_lock_is_acquired() {
    let (store, _clock, locks) = locking();
    let elections = ElectionService::new(store.client());
    let mut free = lock(&locks, "a", 1);
    assert_eq!(free.ready_channel().len(), 1, "a free lock sets the token at once");
    take(&mut free);
    let (mut second, mut third) = (lock(&locks, "a", 2), campaign(&elections, "a", 3, "v"));
    assert_sleeps(&mut second);
    assert_sleeps(&mut third);
    unlock(&locks, "a/1");
    assert_eq!((second.ready_channel().recv(), third.ready_channel().len()), (Ok(()), 0));
    take(&mut second);
    unlock(&locks, "a/2");
    assert_eq!(third.ready_channel().recv(), Ok(()));
    take(&mut third);
}

/// A task is woken when its key is the first of the queue.
#[test]
fn service_tickets_can_be_awaited() {
    let (store, _clock, locks) = locking();
    let elections = ElectionService::new(store.client());
    let held = store.client().block_on(lock(&locks, "a", 1)).unwrap();
    let (mut second, mut third) = (lock(&locks, "a", 2), campaign(&elections, "a", 3, "v"));
    let (of_second, of_third) = (Count::default(), Count::default());
    assert_eq!(poll_with(&mut second, &of_second.waker()), Poll::Pending);
    assert_eq!(poll_with(&mut third, &of_third.waker()), Poll::Pending);
    unlock(&locks, held.key);
    assert_eq!((of_second.get(), of_third.get()), (1, 0));
    let Poll::Ready(Ok(held)) = poll_with(&mut second, &of_second.waker()) else {
        panic!("the ticket is ready")
    };
    unlock(&locks, held.key);
    assert_eq!(of_third.get(), 1);
    assert_eq!(store.client().block_on(third).unwrap().leader.key, "a/3");
}

/// One thread waits, and another one unlocks.
#[test]
fn blocked_thread_acquires_service_lock() {
    guarded(|| {
        let (_store, _clock, locks) = locking();
        hold(&locks, "a", 1);
        let second = lock(&locks, "a", 2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || second.wait().unwrap().key);
            unlock(&locks, "a/1");
            assert_eq!(waiting.join().unwrap(), "a/2");
        });
    });
}

/// No waiter is lost, and no two threads hold the lock together.
#[test]
fn threads_hold_a_lock_one_at_a_time() {
    guarded(|| {
        let (store, _clock) = leased();
        let inside = std::sync::Mutex::new(());
        std::thread::scope(|scope| {
            for lease in 1..5 {
                let (locks, inside) = (LockService::new(store.client()), &inside);
                scope.spawn(move || {
                    for round in 0..50 {
                        let ticket = lock(&locks, "a", lease);
                        if round % 5 == lease {
                            drop(ticket);
                            // A dropped ticket that had acquired the lock leaves its key, which `unlock` deletes.
                            unlock(&locks, format!("a/{lease}"));
                            continue;
                        }
                        let held = ticket.wait().unwrap();
                        let guard = inside.try_lock().expect("no other thread holds the lock");
                        std::thread::yield_now();
                        drop(guard);
                        unlock(&locks, held.key);
                    }
                });
            }
        });
        assert_eq!(all_keys(&store).len(), 0);
    });
}

/// A blocked thread is woken and returns `Stopped`.
#[test]
fn blocked_lock_thread_returns_stopped_when_store_is_closed() {
    guarded(|| {
        let (store, _clock, locks) = locking();
        hold(&locks, "a", 1);
        let second = lock(&locks, "a", 2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || assert_stopped(second.wait()));
            store.close();
            waiting.join().unwrap();
        });
    });
}

#[test]
fn service_waits_return_stopped_when_store_is_closed() {
    let (store, _clock, locks) = locking();
    let elections = ElectionService::new(store.client());
    hold(&locks, "a", 1);
    let (mut second, third) = (lock(&locks, "a", 2), campaign(&elections, "a", 3, "v"));
    let dropped = lock(&locks, "a", 4);
    assert_waits(&mut second);
    store.close();
    drop(dropped);
    assert_eq!(second.ready_channel().len(), 1);
    assert_stopped(second.try_wait());
    assert_stopped(third.wait());
    assert_stopped(lock(&locks, "a", 5).wait());
    assert_stopped(lock(&locks, "a", 0).wait());
    assert_stopped(campaign(&elections, "a", 0, "v").wait());
    assert_stopped(resign(&elections, &candidacy("a", "a/1", 2, 0)));
}

#[test]
fn services_in_namespace_use_prefixed_keys() {
    let (store, _clock) = leased();
    let client = store.client().namespace("ns/");
    let (locks, elections) = (LockService::new(client.clone()), ElectionService::new(client));
    put(&store, "a/9", "outside");
    hold(&locks, "a", 1);
    let mut second = campaign(&elections, "a", 2, "v");
    drop(lock(&locks, "a", 3));
    assert_eq!(hold(&locks, "", 4).key, "/4");
    assert_eq!(all_keys(&store), ["a/9", "ns//4", "ns/a/1", "ns/a/2"]);
    assert_eq!(unlock(&locks, "a/9"), 7, "the key outside the namespace is not deleted");
    assert_sleeps(&mut second);
    unlock(&locks, "a/1");
    assert_eq!(take(&mut second).leader, candidacy("a", "a/2", 4, 2));
    drop(observe(&elections, "a"));
    let outside = LockService::new(store.client());
    assert_waits(&mut lock(&outside, "ns/a", 5));
    assert_eq!(all_keys(&store), ["a/9", "ns//4", "ns/a/2"]);
}

/// The documented variant of `Error` can be matched.
#[test]
fn wait_without_key_returns_session_expired() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    delete(&store, "a/2");
    unlock(&locks, "a/1");
    assert_eq!(second.try_wait(), Err(Error::SessionExpired));
}

/// etcd's `Campaign` withdraws the candidacy only when its caller cancels.
#[test]
fn candidacy_with_failed_watch_keeps_its_key() {
    let (store, _clock) = leased();
    let client = compacting(&store);
    let elections = ElectionService::new(client);
    win(&elections, "e", 1, "one");
    assert_refused(campaign(&elections, "e", 2, "two").try_wait(), COMPACTED);
    assert_eq!(all_keys(&store), ["e/1", "e/2", "other"]);
}
