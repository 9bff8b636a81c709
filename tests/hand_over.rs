//! What a release costs those who wait: one is woken, and asks at most twice.

mod passing;
mod service_shorthand;
mod shorthand;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::service::{LockRequest, LockService};
use leasehold::{Client, Get, Grant, SortOrder, SortTarget, Store, Ticket};
use service_shorthand::{Moment, meddling};
use shorthand::{manual, secs, taken};

const WAITERS: usize = 10;

/// A client whose requests are counted: calls, and requests of watches.
fn counting(store: &Store) -> (Client, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let client = meddling(store, move |_, moment| {
        counted.fetch_add(usize::from(matches!(moment, Moment::Call(_))), Ordering::SeqCst);
        false
    });
    (client, count)
}

/// The key of whoever has the lock.
fn oldest() -> Get {
    Get::prefix("l/").sort(SortTarget::CreateRevision, SortOrder::Ascend).limit(1)
}

/// R-LCK-4, R-LCK-10: releases one after the other, of which each wakes the next alone.
fn assert_wakes_one<T>(store: &Store, count: &AtomicUsize, mut queue: Vec<Ticket<T>>, most: usize) {
    for next in 0..WAITERS {
        assert!(queue.iter_mut().skip(next).all(|ticket| ticket.ready().is_empty()));
        let found = store.get(oldest()).expect("the store is open");
        store.delete(found.kvs()[0].key()).expect("the store is open");
        let woken = queue.iter().enumerate().skip(next).filter(|(_, ticket)| !ticket.ready().is_empty());
        assert_eq!(woken.map(|(n, _)| n).collect::<Vec<_>>(), [next]);
        count.store(0, Ordering::SeqCst);
        let held = taken(&mut queue[next]);
        let asked = count.load(Ordering::SeqCst);
        assert!(asked <= most, "it asks {asked} times");
        std::mem::forget(held);
    }
}

#[test]
fn of_guards() {
    let (store, _clock) = manual();
    let (client, count) = counting(&store);
    let session = Session::open(client, secs(60)).unwrap();
    let mutex = Mutex::new(&session, "l");
    std::mem::forget(mutex.lock().unwrap());
    assert_wakes_one(&store, &count, (0..WAITERS).map(|_| mutex.enqueue()).collect(), 1);
}

#[test]
fn of_leaders() {
    let (store, _clock) = manual();
    let (client, count) = counting(&store);
    let session = Session::open(client, secs(60)).unwrap();
    let election = Election::new(&session, "l");
    std::mem::forget(election.campaign("v").unwrap());
    assert_wakes_one(&store, &count, (0..WAITERS).map(|_| election.stand("v")).collect(), 1);
}

#[test]
fn of_the_service() {
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
