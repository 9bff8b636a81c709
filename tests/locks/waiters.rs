//! The list of pending waits that a store returns.

use leasehold::concurrency::{Election, Mutex, Wait};
use leasehold::service::{LockRequest, LockService};
use leasehold::{LeaseId, Store};
use leasehold_testkit::helpers::{manual, secs, session};

fn waiters(store: &Store) -> Vec<String> {
    store.waiters().expect("the store is open").iter().map(Wait::to_string).collect()
}

#[test]
fn waiters_lists_each_wait_with_its_predecessor() {
    let (store, clock) = manual();
    let one = session(&store, 5);
    let two = session(&store, 5);
    assert_eq!(waiters(&store), [""; 0]);
    let of_one = Mutex::new(&one.with_name("one"), "l");
    let held = of_one.lock().wait().unwrap();
    let second = Mutex::new(&two.with_name("two"), "l").lock();
    let locks = LockService::new(store.client());
    let third = locks.lock(LockRequest { name: "l".into(), lease: LeaseId::NONE });
    let leader = Election::new(&two, "e").campaign("a").wait().unwrap();
    let follower = Election::new(&one, "e").campaign("b");
    assert_eq!(
        waiters(&store),
        [
            "two (l/2-0, token 3, lease 2) waits for one (l/1-0, token 2, lease 1)",
            "l/3 (token 4, lease 3) waits for two (l/2-0, token 3, lease 2)",
            "b (e/1-1, token 6, lease 1) waits for a (e/2-1, token 5, lease 2)",
        ]
    );
    // A waiter that has not polled since is listed with its last known predecessor.
    drop(held);
    drop(second);
    assert_eq!(
        waiters(&store)[0],
        "l/3 (token 4, lease 3) waits for l/2-0 (gone)",
        "the waiter is listed with its deleted predecessor until it polls"
    );
    let mut third = third;
    drop(third.try_wait().unwrap().expect("the key is the first of the queue"));
    two.pause().wait().unwrap();
    clock.advance(secs(5));
    let mut follower = follower;
    drop(follower.try_wait().unwrap().expect("the key is the first of the queue"));
    assert_eq!(waiters(&store), [""; 0]);
    drop(leader);
    store.close();
    assert!(store.waiters().is_err());
}

/// Two sessions wait for each other's lock, and no deadline will end that. Both waits are listed.
#[test]
fn waiters_lists_deadlocked_sessions() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5).with_name("one"), session(&store, 5).with_name("two"));
    let _held = [(&one, "x"), (&two, "y")].map(|(of, name)| Mutex::new(of, name).lock().wait().unwrap());
    let waiting = [(&one, "y"), (&two, "x")].map(|(of, name)| Mutex::new(of, name).lock());
    assert_eq!(
        waiters(&store),
        [
            "one (y/1-1, token 4, lease 1) waits for two (y/2-0, token 3, lease 2)",
            "two (x/2-1, token 5, lease 2) waits for one (x/1-0, token 2, lease 1)",
        ]
    );
    assert_eq!(store.next_deadline(), None);
    drop(waiting);
    assert_eq!(waiters(&store), [""; 0]);
}
