//! The cost of a release to the waiters of a queue: it wakes one waiter, which makes at most two requests. A waiter that moves up
//! keeps no watch on earlier predecessors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leasehold::concurrency::{Election, LeaderWatcher, Mutex, Session};
use leasehold::service::{ElectionService, LockRequest, LockService};
use leasehold::{Client, Get, Grant, SortOrder, SortTarget, Store, Ticket};
use leasehold_testkit::helpers::{manual, secs, taken};

use crate::service_helpers::{Moment, compacting, meddling, observe};

const WAITERS: usize = 10;

/// Returns a client with a counter of its calls.
fn counting(store: &Store) -> (Client, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let client = meddling(store, move |_, moment| {
        counted.fetch_add(usize::from(matches!(moment, Moment::Call(_))), Ordering::SeqCst);
        false
    });
    (client, count)
}

/// Returns a request for the key of the lock's owner.
fn oldest() -> Get {
    Get::prefix("l/").sort(SortTarget::CreateRevision, SortOrder::Ascend).limit(1)
}

/// R-LCK-4, R-LCK-10: deletes the owner's key repeatedly, and asserts that each deletion wakes only the next waiter.
fn assert_wakes_one<T>(store: &Store, count: &AtomicUsize, mut queue: Vec<Ticket<T>>, most: usize) {
    for next in 0..WAITERS {
        assert!(queue.iter_mut().skip(next).all(|ticket| ticket.ready_channel().is_empty()));
        let found = store.get(oldest()).expect("the store is open");
        store.delete(found.kvs()[0].key()).expect("the store is open");
        let woken =
            queue.iter().enumerate().skip(next).filter(|(_, ticket)| !ticket.ready_channel().is_empty());
        assert_eq!(woken.map(|(n, _)| n).collect::<Vec<_>>(), [next]);
        count.store(0, Ordering::SeqCst);
        let held = taken(&mut queue[next]);
        let asked = count.load(Ordering::SeqCst);
        assert!(asked <= most, "the woken waiter makes {asked} requests");
        // Keep the key: the next round deletes it through the store.
        std::mem::forget(held);
    }
}

#[test]
fn released_mutex_wakes_only_the_next_waiter() {
    let (store, _clock) = manual();
    let (client, count) = counting(&store);
    let session = Session::open(client, secs(60)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    std::mem::forget(mutex.lock().wait().unwrap());
    assert_wakes_one(&store, &count, (0..WAITERS).map(|_| mutex.lock()).collect(), 1);
}

#[test]
fn resigned_leader_wakes_only_the_next_candidate() {
    let (store, _clock) = manual();
    let (client, count) = counting(&store);
    let session = Session::open(client, secs(60)).wait().unwrap();
    let election = Election::new(&session, "l");
    std::mem::forget(election.campaign("v").wait().unwrap());
    assert_wakes_one(&store, &count, (0..WAITERS).map(|_| election.campaign("v")).collect(), 1);
}

#[test]
fn released_service_lock_wakes_only_the_next_waiter() {
    let (store, _clock) = manual();
    let (client, count) = counting(&store);
    let locks = LockService::new(client);
    let lock = |_| {
        let lease = store.grant(Grant::new(secs(60))).unwrap().id();
        locks.lock(LockRequest { name: "l".into(), lease })
    };
    lock(0).wait().unwrap();
    assert_wakes_one(&store, &count, (0..WAITERS).map(lock).collect(), 2);
}

fn is_waiting<T>(ticket: &mut Ticket<T>) -> bool {
    ticket.try_wait().expect("a queued waiter is not refused").is_none()
}

/// R-LCK-4: a waiter watches its immediate predecessor. The waiters between it and the owner are dropped, last one first, so the
/// predecessor changes each time. No watch on an earlier predecessor stays.
fn assert_watches_do_not_add_up<T>(store: &Store, enqueue: impl Fn(usize) -> Ticket<T>) {
    let watchers = || store.diagnostics().expect("the store is open").watchers;
    let before = watchers();
    let mut waiting = enqueue(0);
    assert!(is_waiting(&mut waiting), "the holder keeps the lock");
    let of_one_waiter = watchers() - before;
    assert!((1..=2).contains(&of_one_waiter), "the predecessor's key and the waiter's own: {of_one_waiter}");
    drop(waiting);
    assert_eq!(watchers(), before);
    let mut between: Vec<_> = (0..5).map(&enqueue).collect();
    let mut last = enqueue(5);
    while let Some(predecessor) = between.pop() {
        drop(predecessor);
        assert!(is_waiting(&mut last), "the holder keeps the lock");
        assert!(between.iter_mut().all(is_waiting));
        assert_eq!(watchers() - before, of_one_waiter * (between.len() + 1), "{} between", between.len());
    }
}

#[test]
fn mutex_waiter_that_moves_up_keeps_its_number_of_watches() {
    let (store, _clock) = manual();
    let session = Session::open(&store, secs(60)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let _held = mutex.lock().wait().unwrap();
    assert_watches_do_not_add_up(&store, |_| mutex.lock());
}

#[test]
fn candidate_that_moves_up_keeps_its_number_of_watches() {
    let (store, _clock) = manual();
    let session = Session::open(&store, secs(60)).wait().unwrap();
    let election = Election::new(&session, "l");
    let _leading = election.campaign("v").wait().unwrap();
    assert_watches_do_not_add_up(&store, |_| election.campaign("v"));
}

#[test]
fn service_waiter_that_moves_up_keeps_its_number_of_watches() {
    let (store, _clock) = manual();
    let locks = LockService::new(store.client());
    let lock = |_| {
        let lease = store.grant(Grant::new(secs(60))).unwrap().id();
        locks.lock(LockRequest { name: "l".into(), lease })
    };
    lock(0).wait().unwrap();
    assert_watches_do_not_add_up(&store, lock);
}

/// R-ELC-11: an observer has one watch at a time, on the queue or on the leader's key.
#[test]
fn observer_has_one_watch_while_leaders_change() {
    let (store, _clock) = manual();
    let watchers = || store.diagnostics().unwrap().watchers;
    let mut observer = observe(&ElectionService::new(store.client()), "l");
    for n in 0..5 {
        assert_eq!((observer.try_recv().unwrap(), watchers()), (None, 1), "before leader {n}");
        store.put((format!("l/{n}"), "v")).unwrap();
        assert!(observer.try_recv().unwrap().is_some());
        assert_eq!(watchers(), 1, "while {n} leads");
        store.delete(format!("l/{n}")).unwrap();
    }
}

/// After a compaction has ended its watch, a leader watcher reads the queue and watches again, once.
#[test]
fn leader_watcher_has_one_watch_after_each_gap() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "l");
    for n in 0..5 {
        while leaders.try_recv().unwrap().is_some() {}
        assert_eq!(store.diagnostics().unwrap().watchers, 1, "after {n} gaps");
        for _ in 0..300 {
            store.put(("l/a", "v")).unwrap();
        }
        store.compact(store.status().unwrap().header().revision()).unwrap();
    }
}

/// A watch that a compaction ended stays until it is cancelled (R-WCH-13).
#[test]
fn lost_has_one_watch_after_a_compaction() {
    let (store, _clock) = manual();
    let one = Session::open(compacting(&store), secs(5)).wait().unwrap();
    let held = Mutex::new(&one, "l").lock().wait().unwrap();
    let mut lost = held.lost();
    assert_eq!((lost.try_wait(), store.diagnostics().unwrap().watchers), (Ok(None), 1));
    store.delete(held.key()).unwrap();
    assert_eq!(lost.try_wait(), Ok(Some(())));
}
