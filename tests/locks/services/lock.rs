//! The lock service, rule by rule (R-LCK-1 to R-LCK-14). `cancel.rs` has the tests of dropped waits.

use leasehold::service::{LockService, UnlockRequest};
use leasehold::{Compact, Delete, Limits, Put, Txn, TxnOp};
use leasehold_testkit::helpers::{
    all_keys, at, delete, events, grant, manual, manual_with, millis, put, revision, secs, show_all, text,
};

use crate::service_helpers::{
    COMPACTED, EXPIRED, Moment, NO_KEY, NO_LEASE, assert_refused, assert_sleeps, assert_waits, hold, leased,
    lock, locking, meddling, replace_last, take, unlock,
};

/// R-LCK-1: a key is the name, a slash, and the lease in hexadecimal.
#[test]
fn lock_key_is_name_and_hexadecimal_lease() {
    let rows = [
        (7, "backup/7"),
        (10, "backup/a"),
        (0x694d_0000_00ab, "backup/694d000000ab"),
        (-1, "backup/-1"),
        (-77, "backup/-4d"),
        (i64::MAX, "backup/7fffffffffffffff"),
        (i64::MIN, "backup/-8000000000000000"),
    ];
    for (lease, key) in rows {
        let (store, _clock) = manual();
        grant(&store, lease, secs(10));
        assert_eq!(hold(&LockService::new(store.client()), "backup", lease).key, key);
        assert_eq!(show_all(store.get(key).unwrap().kvs()), [format!("{key}= 2/2/1 #{lease}")]);
    }
}

/// R-LCK-2: the service grants a lease, which is visible only in the key and is not renewed.
#[test]
fn lock_without_lease_grants_lease_of_one_minute() {
    let (store, clock) = manual();
    let locks = LockService::new(store.client());
    let held = hold(&locks, "a", 0);
    assert_eq!((text(&held.key), held.header.revision()), ("a/1".into(), at(2)));
    let ttl = store.time_to_live(1, true).unwrap();
    assert_eq!((ttl.granted_ttl(), ttl.ttl()), (Some(secs(60)), Some(secs(60))));
    assert_eq!(ttl.keys(), [b"a/1"]);
    assert_eq!(show_all(store.get("a/1").unwrap().kvs()), ["a/1= 2/2/1 #1"]);
    let mut second = lock(&locks, "a", 0);
    clock.advance(secs(60) - millis(1));
    assert_waits(&mut second);
    assert_eq!(all_keys(&store), ["a/1", "a/2"]);
    clock.advance(millis(1));
    assert_eq!(all_keys(&store).len(), 0, "the waiter's lease has expired too");
    assert_refused(second.try_wait(), EXPIRED);
}

/// R-LCK-2: the lease stays, without keys, until it expires.
#[test]
fn lease_of_failed_lock_stays() {
    let (store, clock) = manual_with(Limits { max_request_bytes: 200, ..Limits::default() });
    let locks = LockService::new(store.client());
    let refused = lock(&locks, vec![b'x'; 300], 0).try_wait();
    assert_refused(refused, "etcdserver: request is too large");
    grant(&store, 77, secs(1000));
    hold(&locks, "a", 77);
    drop(lock(&locks, "a", 0));
    let mut failing = lock(&locks, "a", 0);
    assert_eq!(all_keys(&store), ["a/3", "a/4d"]);
    delete(&store, "a/3");
    unlock(&locks, "a/4d");
    assert_refused(failing.try_wait(), EXPIRED);
    let listed = || store.leases().unwrap().leases().iter().map(|id| id.get()).collect::<Vec<_>>();
    assert_eq!(listed(), [1, 2, 3, 77]);
    assert!((1..4).all(|id| store.time_to_live(id, true).unwrap().keys().is_empty()));
    clock.advance(secs(60) - millis(1));
    assert_eq!(listed(), [1, 2, 3, 77]);
    clock.advance(millis(1));
    assert_eq!(listed(), [77]);
}

/// R-LCK-2: neither the request nor the wait renews the lease.
#[test]
fn lease_in_request_is_not_renewed() {
    let (store, clock, locks) = locking();
    clock.advance(secs(40));
    hold(&locks, "a", 1);
    let mut waiting = lock(&locks, "a", 2);
    assert_eq!(waiting.wait_timeout(secs(0)), Ok(None));
    clock.advance(secs(30));
    assert_waits(&mut waiting);
    for id in [1, 2] {
        assert_eq!(store.time_to_live(id, false).unwrap().ttl(), Some(secs(30)));
    }
}

/// R-LCK-3: the header is the header of the txn.
#[test]
fn free_lock_is_acquired_by_one_txn() {
    let (store, _clock, locks) = locking();
    put(&store, "other", "1");
    let held = hold(&locks, "a", 7);
    assert_eq!((held.header.revision(), revision(&store)), (at(3), 3));
    assert_eq!(events(&store, 3), ["put a/7= 3/3/1 #7"]);
    assert_eq!(hold(&locks, "b", 7).header.revision(), at(4), "a lease has many locks");
}

/// R-LCK-3: rank is the create revision alone. Only another client's txn can put two keys with one create revision.
#[test]
fn keys_of_one_create_revision_both_hold() {
    let (store, _clock, locks) = locking();
    let both = [TxnOp::Put(Put::new("a/7", "").lease(7)), TxnOp::Put(Put::new("a/8", "").lease(8))];
    store.txn(Txn::new().and_then(both)).unwrap();
    let mut third = lock(&locks, "a", 9);
    assert_eq!(hold(&locks, "a", 7).header.revision(), at(3));
    assert_eq!(hold(&locks, "a", 8).key, "a/8");
    for key in ["a/8", "a/7"] {
        assert_waits(&mut third);
        unlock(&locks, key);
    }
    assert_eq!(take(&mut third).header.revision(), at(5));
}

/// R-LCK-4: writes to keys in the queue keep all ranks.
#[test]
fn overwritten_key_keeps_rank() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let (mut second, mut third) = (lock(&locks, "a", 2), lock(&locks, "a", 3));
    for key in ["a/1", "a/2", "a/1", "a/3"] {
        put(&store, key, "foreign");
        assert_sleeps(&mut second);
        assert_sleeps(&mut third);
    }
    delete(&store, "a/1");
    assert_sleeps(&mut third);
    assert_eq!(take(&mut second).key, "a/2");
    delete(&store, "a/2");
    assert_eq!(take(&mut third).key, "a/3");
}

/// R-LCK-4: the key that the txn puts has a later create revision.
#[test]
fn key_replaced_in_one_txn_admits_next_waiter() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 8);
    let mut second = lock(&locks, "a", 2);
    store.txn(replace_last("a/8", "again")).unwrap();
    assert_eq!(take(&mut second).header.revision(), at(4));
    let mut third = lock(&locks, "a", 3);
    delete(&store, "a/2");
    assert_waits(&mut third);
    delete(&store, "a/8");
    assert_eq!(take(&mut third).key, "a/3");
}

/// R-LCK-4: when a waiter's predecessor is deleted, the waiter waits for the key before that.
#[test]
fn deleted_predecessor_admits_no_waiter() {
    for vanish in 0..3 {
        let (store, _clock, locks) = locking();
        hold(&locks, "a", 1);
        let (second, mut third) = (lock(&locks, "a", 2), lock(&locks, "a", 3));
        let mut second = Some(second);
        match vanish {
            0 => second = None,
            1 => drop(store.revoke(2).unwrap()),
            _ => drop(delete(&store, "a/2")),
        }
        assert_eq!(third.ready_channel().len(), 1, "the waiter's predecessor was deleted");
        assert_waits(&mut third);
        put(&store, "a/1", "foreign");
        assert_sleeps(&mut third);
        unlock(&locks, "a/1");
        assert_eq!(take(&mut third).key, "a/3");
        if let Some(mut second) = second {
            assert_refused(second.try_wait(), EXPIRED);
        }
    }
}

/// R-LCK-4: a delete between the read and the watch is noticed.
#[test]
fn release_before_watch_is_noticed() {
    let (store, _clock) = leased();
    let client = meddling(&store, |store, moment| {
        matches!(moment, Moment::Watch) && store.delete("a/1").unwrap().deleted() == 1
    });
    let locks = LockService::new(client);
    hold(&locks, "a", 1);
    assert_eq!(hold(&locks, "a", 2).header.revision(), at(4));
    assert_eq!(all_keys(&store), ["a/2"]);
}

/// R-LCK-5: the header has the revision at which the lock was acquired.
#[test]
fn waited_lock_header_has_current_revision() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    put(&store, "other", "1");
    assert_eq!(unlock(&locks, "a/1"), 5);
    put(&store, "other", "2");
    let held = take(&mut second);
    assert_eq!((text(&held.key), held.header.revision()), ("a/2".into(), at(6)));
}

/// R-LCK-5: the service checks neither the create revision nor the lease of the waiter's key.
#[test]
fn foreign_key_with_waiter_name_acquires() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    delete(&store, "a/2");
    put(&store, "a/2", "foreign");
    assert_sleeps(&mut second);
    unlock(&locks, "a/1");
    assert_eq!(take(&mut second).key, "a/2");
    assert_eq!(show_all(store.get("a/2").unwrap().kvs()), ["a/2=foreign 5/5/1"]);
}

/// R-LCK-6: a second `lock` with the owner's lease returns at once and puts no key.
#[test]
fn repeated_lock_of_owner_returns_at_once() {
    let (store, _clock, locks) = locking();
    let first = hold(&locks, "a", 7);
    put(&store, "other", "1");
    let waiting = lock(&locks, "a", 8);
    let again = hold(&locks, "a", 7);
    assert_eq!((&again.key, again.header.revision()), (&first.key, at(4)));
    assert_eq!(revision(&store), 4, "the second lock puts no key");
    drop(waiting);
}

/// R-LCK-6: two waits with one lease share a key and return together.
#[test]
fn waits_with_one_key_acquire_together() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let (mut first, mut second) = (lock(&locks, "a", 2), lock(&locks, "a", 2));
    let mut behind = lock(&locks, "a", 3);
    assert_eq!(revision(&store), 4, "both tickets share one key");
    unlock(&locks, "a/1");
    assert_eq!(take(&mut first), take(&mut second));
    assert_sleeps(&mut behind);
    unlock(&locks, "a/2");
    assert_eq!(take(&mut behind).key, "a/3");
}

/// R-LCK-7: the missing key is noticed once all predecessors are deleted, not earlier.
#[test]
fn waiter_without_key_fails_in_its_turn() {
    for end in 0..3 {
        let (store, clock, locks) = locking();
        grant(&store, 20, secs(10));
        hold(&locks, "a", 1);
        let (mut second, mut lost) = (lock(&locks, "a", 2), lock(&locks, "a", 20));
        match end {
            0 => drop(store.revoke(20).unwrap()),
            1 => clock.advance(secs(10)),
            _ => drop(delete(&store, "a/14")),
        }
        assert_sleeps(&mut lost);
        unlock(&locks, "a/1");
        assert_sleeps(&mut lost);
        assert_eq!(take(&mut second).key, "a/2");
        unlock(&locks, "a/2");
        let before = revision(&store);
        assert_refused(lost.try_wait(), EXPIRED);
        assert_eq!(revision(&store), before);
    }
}

/// R-LCK-8: the error gets the code `Unknown`.
#[test]
fn lock_with_unknown_lease_is_refused() {
    let (store, _clock, locks) = locking();
    for lease in [99, -1] {
        assert_refused(lock(&locks, "a", lease).try_wait(), NO_LEASE);
        assert_refused(lock(&locks, "a", lease).wait(), NO_LEASE);
    }
    hold(&locks, "a", 1);
    assert_refused(lock(&locks, "a", 99).try_wait(), NO_LEASE);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["a/1".into()], 2));
}

/// R-LCK-10: waiters acquire in the order of their create revisions, one at a time.
#[test]
fn twenty_waiters_acquire_in_order() {
    let (store, _clock, locks) = locking();
    // Leases in another order than the calls, so that the order of the keys does not decide.
    let lease = |n: i64| (n * 7) % 23 + 100;
    (0..20).for_each(|n| grant(&store, lease(n), secs(100)));
    let mut held = hold(&locks, "a", 1);
    let mut waiting: Vec<_> = (0..20).map(|n| lock(&locks, "a", lease(n))).collect();
    for n in 0..20 {
        waiting[n..].iter_mut().for_each(assert_sleeps);
        let released = unlock(&locks, held.key);
        let woken = waiting.iter().filter(|ticket| !ticket.ready_channel().is_empty()).count();
        assert_eq!(woken, 1, "a release wakes one");
        held = take(&mut waiting[n]);
        assert_eq!(text(&held.key), format!("a/{:x}", lease(n as i64)));
        assert_eq!(held.header.revision(), at(released));
    }
}

/// R-LCK-11: the next waiter acquires, whatever deletes the owner's key.
#[test]
fn next_waiter_acquires_after_any_deletion() {
    for end in 0..5 {
        let (store, clock, locks) = locking();
        grant(&store, 20, secs(10));
        hold(&locks, "a", 20);
        let mut second = lock(&locks, "a", 2);
        assert_waits(&mut second);
        match end {
            0 => drop(unlock(&locks, "a/14")),
            1 => drop(store.revoke(20).unwrap()),
            2 => clock.advance(secs(10)),
            3 => drop(store.delete(Delete::range(leasehold::KeyRange::between("a/1", "a/2"))).unwrap()),
            _ => drop(store.txn(Txn::new().and_then([TxnOp::delete("a/14")])).unwrap()),
        }
        assert_eq!(take(&mut second).header.revision(), at(4));
    }
}

/// R-LCK-12: `unlock` deletes any key of the store, and succeeds for an absent one.
#[test]
fn unlock_deletes_any_key() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    for key in ["other", "othe", "other2"] {
        put(&store, key, "1");
    }
    assert_eq!(unlock(&locks, "other"), 7);
    assert_eq!(all_keys(&store), ["a/1", "a/2", "othe", "other2"]);
    assert_eq!(unlock(&locks, "other"), 7, "the key was deleted before");
    assert_eq!(unlock(&locks, "a"), 7, "a lock's name is no key");
    assert_refused(locks.unlock(UnlockRequest::default()).wait(), NO_KEY);
    assert_eq!((unlock(&locks, "a/1"), revision(&store)), (8, 8));
    assert_eq!(take(&mut second).key, "a/2");
    assert!(store.time_to_live(1, false).unwrap().ttl().is_some(), "the lease stays");
}

/// R-LCK-13: every key that begins with the name and a slash is in the queue.
#[test]
fn lock_waits_for_longer_names() {
    let (store, _clock, locks) = locking();
    put(&store, "a/x", "foreign");
    put(&store, "a", "not inside");
    put(&store, "a0", "not inside");
    hold(&locks, "a/b", 1);
    let mut outer = lock(&locks, "a", 2);
    let mut inner = lock(&locks, "a/b", 3);
    for key in ["a/b/1", "a/x"] {
        assert_waits(&mut outer);
        unlock(&locks, key);
    }
    assert_eq!(take(&mut inner).key, "a/b/3", "the outer key does not block the inner lock");
    assert_eq!(take(&mut outer).key, "a/2");
    assert_eq!(hold(&locks, "a/c", 4).key, "a/c/4", "the lock around it is held");
    assert_eq!(hold(&locks, "a/2", 5).key, "a/2/5");
    assert_eq!(hold(&locks, "", 6).key, "/6", "no name is a name");
    assert_eq!(hold(&locks, "/", 7).key, "//7", "the older lock has a shorter name");
}

/// R-LCK-13: an overwritten key keeps the lock, also if its lease changes.
#[test]
fn overwritten_key_still_holds_lock() {
    let (store, clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    store.put(Put::new("a/1", "mine").lease(3)).unwrap();
    store.revoke(1).unwrap();
    assert_sleeps(&mut second);
    put(&store, "a/1", "for ever");
    clock.advance(secs(1000));
    assert_sleeps(&mut second);
    assert_eq!(all_keys(&store), ["a/1"]);
    unlock(&locks, "a/1");
    assert_refused(second.try_wait(), EXPIRED);
}

/// R-LCK-14: a watch that starts at a compacted revision ends the wait and deletes the key.
#[test]
fn compaction_before_watch_ends_wait() {
    for is_own_there in [true, false] {
        let (store, _clock) = leased();
        let client = meddling(&store, move |store, moment| {
            if !matches!(moment, Moment::Watch) {
                return false;
            }
            put(store, "other", "1");
            let now = put(store, if is_own_there { "other" } else { "a/2" }, "2");
            store.compact(Compact::new(now)).is_ok()
        });
        let locks = LockService::new(client);
        hold(&locks, "a", 1);
        let mut second = lock(&locks, "a", 2);
        assert_refused(second.try_wait(), COMPACTED);
        assert_eq!(events(&store, 6), ["delete a/2 6"]);
    }
}

/// R-LCK-14: a compaction after the watch has started does not affect the wait.
#[test]
fn wait_survives_compactions() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    for _ in 0..10 {
        let now = put(&store, "other", "1");
        store.compact(now).unwrap();
        assert_waits(&mut second);
    }
    let mut third = lock(&locks, "a", 3);
    let released = unlock(&locks, "a/1");
    store.compact(released).unwrap();
    assert_eq!(take(&mut second).key, "a/2");
    unlock(&locks, "a/2");
    assert_eq!(take(&mut third).key, "a/3");
}
