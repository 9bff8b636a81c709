//! The lock service, rule by rule (R-LCK-1 to R-LCK-14). How waits are given up is in `cancel.rs`.

use leasehold::service::{LockService, UnlockRequest};
use leasehold::{Compact, Delete, Limits, Put, Txn, TxnOp};
use leasehold_testkit::helpers::{
    all_keys, at, delete, events, grant, manual, manual_with, millis, put, revision, secs, show_all, text,
};

use crate::service_helpers::{
    COMPACTED, EXPIRED, Moment, NO_KEY, NO_LEASE, assert_refused, assert_sleeps, assert_waits, hold, leased,
    lock, locking, meddling, replace_last, take, unlock,
};

/// R-LCK-1.
#[test]
fn the_key_is_the_name_and_the_lease_in_hexadecimal() {
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

/// R-LCK-2: a lease of its own, that shows in the key alone and that nobody renews.
#[test]
fn a_lock_without_a_lease_is_given_one_of_a_minute() {
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
    assert_eq!(all_keys(&store).len(), 0, "the waiter's has ended as well");
    assert_refused(second.try_wait(), EXPIRED);
}

/// R-LCK-2: the lease stays behind, empty, until it expires.
#[test]
fn the_lease_of_a_lock_that_was_not_got_stays() {
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

/// R-LCK-2: neither by the request nor while it waits.
#[test]
fn a_lease_that_was_brought_is_not_renewed() {
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

/// R-LCK-3: the header is the txn's.
#[test]
fn a_free_lock_is_got_by_one_txn() {
    let (store, _clock, locks) = locking();
    put(&store, "other", "1");
    let held = hold(&locks, "a", 7);
    assert_eq!((held.header.revision(), revision(&store)), (at(3), 3));
    assert_eq!(events(&store, 3), ["put a/7= 3/3/1 #7"]);
    assert_eq!(hold(&locks, "b", 7).header.revision(), at(4), "a lease has many locks");
}

/// R-LCK-3: rank is the create revision alone, and only a foreign txn can give it twice.
#[test]
fn two_keys_of_one_revision_both_hold() {
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

/// R-LCK-4.
#[test]
fn overwriting_a_key_changes_no_rank() {
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

/// R-LCK-4: the key that is there afterwards is a later one.
#[test]
fn a_delete_and_a_put_in_one_txn_let_the_next_one_in() {
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

/// R-LCK-4: who is before a waiter that vanishes is before those behind it.
#[test]
fn a_middle_waiter_that_vanishes_lets_nobody_in() {
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
        assert_eq!(third.ready().len(), 1, "it was its predecessor");
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

/// R-LCK-4: a delete between the read and the watch counts.
#[test]
fn a_release_just_before_the_watch_is_not_missed() {
    let (store, _clock) = leased();
    let client = meddling(&store, |store, moment| {
        matches!(moment, Moment::Watch) && store.delete("a/1").unwrap().deleted() == 1
    });
    let locks = LockService::new(client);
    hold(&locks, "a", 1);
    assert_eq!(hold(&locks, "a", 2).header.revision(), at(4));
    assert_eq!(all_keys(&store), ["a/2"]);
}

/// R-LCK-5: the header is of the moment when the lock was got.
#[test]
fn whoever_waited_is_told_the_revision_of_now() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    put(&store, "other", "1");
    assert_eq!(unlock(&locks, "a/1"), 5);
    put(&store, "other", "2");
    let held = take(&mut second);
    assert_eq!((text(&held.key), held.header.revision()), ("a/2".into(), at(6)));
}

/// R-LCK-5: neither the create revision nor the lease of the key is looked at.
#[test]
fn a_key_that_somebody_else_made_again_counts() {
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

/// R-LCK-6.
#[test]
fn who_holds_a_lock_has_it_again() {
    let (store, _clock, locks) = locking();
    let first = hold(&locks, "a", 7);
    put(&store, "other", "1");
    let waiting = lock(&locks, "a", 8);
    let again = hold(&locks, "a", 7);
    assert_eq!((&again.key, again.header.revision()), (&first.key, at(4)));
    assert_eq!(revision(&store), 4, "nothing was put");
    drop(waiting);
}

/// R-LCK-6.
#[test]
fn two_waits_on_one_key_end_together() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let (mut first, mut second) = (lock(&locks, "a", 2), lock(&locks, "a", 2));
    let mut behind = lock(&locks, "a", 3);
    assert_eq!(revision(&store), 4, "one key for both");
    unlock(&locks, "a/1");
    assert_eq!(take(&mut first), take(&mut second));
    assert_sleeps(&mut behind);
    unlock(&locks, "a/2");
    assert_eq!(take(&mut behind).key, "a/3");
}

/// R-LCK-7: it is noticed when all predecessors are gone, and no sooner.
#[test]
fn a_waiter_without_its_key_waits_for_its_turn() {
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

/// R-LCK-8: the code is lost.
#[test]
fn an_unknown_lease_is_refused() {
    let (store, _clock, locks) = locking();
    for lease in [99, -1] {
        assert_refused(lock(&locks, "a", lease).try_wait(), NO_LEASE);
        assert_refused(lock(&locks, "a", lease).wait(), NO_LEASE);
    }
    hold(&locks, "a", 1);
    assert_refused(lock(&locks, "a", 99).try_wait(), NO_LEASE);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["a/1".into()], 2));
}

/// R-LCK-10: first come, first served, and one at a time.
#[test]
fn twenty_waiters_get_it_in_turn() {
    let (store, _clock, locks) = locking();
    let lease = |n: i64| (n * 7) % 23 + 100;
    (0..20).for_each(|n| grant(&store, lease(n), secs(100)));
    let mut held = hold(&locks, "a", 1);
    let mut waiting: Vec<_> = (0..20).map(|n| lock(&locks, "a", lease(n))).collect();
    for n in 0..20 {
        waiting[n..].iter_mut().for_each(assert_sleeps);
        let released = unlock(&locks, held.key);
        let woken = waiting.iter().filter(|ticket| !ticket.ready().is_empty()).count();
        assert_eq!(woken, 1, "a release wakes one");
        held = take(&mut waiting[n]);
        assert_eq!(text(&held.key), format!("a/{:x}", lease(n as i64)));
        assert_eq!(held.header.revision(), at(released));
    }
}

/// R-LCK-11: however the holder's key goes, the next one has the lock.
#[test]
fn a_lock_is_passed_on_however_it_was_lost() {
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

/// R-LCK-12: any key of the store, held by whomever, or none.
#[test]
fn unlocking_deletes_any_key() {
    let (store, _clock, locks) = locking();
    hold(&locks, "a", 1);
    let mut second = lock(&locks, "a", 2);
    for key in ["other", "othe", "other2"] {
        put(&store, key, "1");
    }
    assert_eq!(unlock(&locks, "other"), 7);
    assert_eq!(all_keys(&store), ["a/1", "a/2", "othe", "other2"]);
    assert_eq!(unlock(&locks, "other"), 7, "it is gone already");
    assert_eq!(unlock(&locks, "a"), 7, "a lock's name is no key");
    assert_refused(locks.unlock(UnlockRequest::default()).wait(), NO_KEY);
    assert_eq!((unlock(&locks, "a/1"), revision(&store)), (8, 8));
    assert_eq!(take(&mut second).key, "a/2");
    assert!(store.time_to_live(1, false).unwrap().ttl().is_some(), "the lease stays");
}

/// R-LCK-13: whatever is under the name takes part.
#[test]
fn a_lock_waits_for_locks_inside_its_name() {
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
    assert_eq!(take(&mut inner).key, "a/b/3", "older than the lock around it, or not");
    assert_eq!(take(&mut outer).key, "a/2");
    assert_eq!(hold(&locks, "a/c", 4).key, "a/c/4", "the lock around it is held");
    assert_eq!(hold(&locks, "a/2", 5).key, "a/2/5");
    assert_eq!(hold(&locks, "", 6).key, "/6", "no name is a name");
    assert_eq!(hold(&locks, "/", 7).key, "//7", "the older one is around it");
}

/// R-LCK-13.
#[test]
fn a_held_key_may_be_overwritten() {
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

/// R-LCK-14: a watch that cannot begin ends the wait, and the key.
#[test]
fn what_is_compacted_before_it_is_watched_ends_the_wait() {
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

/// R-LCK-14, the other way: what was compacted before the watch began, but after what it waits for, does not matter.
#[test]
fn a_wait_outlives_compactions() {
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
