//! Locks and elections over a backend whose calls overlap and overtake each other: whatever happens at whatever moment, one holds
//! the lock or leads, who was first is first, nobody waits in vain, nothing is left behind, and whoever follows is told all of it
//! (R-LCK-3 to R-LCK-13, R-ELC-1, R-ELC-7).

mod harness;

use std::collections::BTreeSet;

use leasehold::Error;
use leasehold::concurrency::{Mutex, Session};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{all_keys, events, manual, secs, text};
use leasehold_testkit::wakers::{Count, poll_with};
use proptest::prelude::*;

use crate::scheduled_backend::{Manners, Stepped};
use harness::{Rules, World};

fn run(seed: u64, rules: Rules) {
    let mut world = World::new(seed, rules);
    for _ in 0..300 {
        world.act();
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(30), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_overtakes_what_one_holds_the_lock(seed: u64) {
        run(seed, Rules::default());
    }

    /// Some calls are answered when they are made, as a store's are; and history is compacted now and then (R-LCK-14).
    #[test]
    fn whatever_is_answered_at_once_one_holds_the_lock(seed: u64) {
        run(seed, Rules { manners: Manners { at_once: 3, ..Manners::default() }, compacts: true });
    }

    /// Calls fail, and nobody can tell whether they were applied. A key is left behind only if giving it back has failed.
    #[test]
    fn whatever_fails_one_holds_the_lock(seed: u64) {
        let manners = Manners { at_once: 8, refused: 24, lost: 24 };
        run(seed, Rules { manners, ..Rules::default() });
    }
}

/// R-LCK-9: a wait is given up after any number of steps, before what the last one brought was looked at. Of its key nothing is
/// left, and who waits behind it gets the lock.
#[test]
fn a_ticket_dropped_at_any_moment_leaves_no_key() {
    let last = (0..100).find(|&steps| has_got_after(steps)).expect("it gets the lock at last");
    assert!(last > 6, "its key is put, and looked for twice: {last} steps");
}

/// Whether the ticket had become a guard by then. If not, it is dropped.
fn has_got_after(steps: usize) -> bool {
    let stepped = Stepped::new(0);
    let session = Session::open(stepped.client(), secs(5)).wait().expect("it is granted");
    let mutex = Mutex::new(&session, "l");
    let mut held = mutex.lock().wait().ok();
    let (mut given_up, mut behind) = (mutex.lock(), mutex.lock());
    for _ in 0..steps {
        if given_up.try_wait().expect("the session lives").is_some() {
            return true;
        }
        if !stepped.step_in_order() {
            held = None;
        }
    }
    drop((given_up, held));
    let mut looks = 0;
    let guard = loop {
        stepped.settle();
        if let Some(guard) = behind.try_wait().expect("the session lives") {
            break guard;
        }
        looks += 1;
        assert!(looks < 10, "it waits in vain: {}", mutex.queue().wait().expect("the store is open"));
    };
    assert_eq!(all_keys(stepped.store()), [text(guard.key())]);
    drop(guard);
    stepped.settle();
    assert_eq!(all_keys(stepped.store()), [""; 0]);
    false
}

/// R-LCK-4: whoever waits watches whoever is before it, and nobody else.
#[test]
fn a_release_wakes_one() {
    let stepped = Stepped::new(0);
    let session = Session::open(stepped.client(), secs(5)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let held = mutex.lock().wait().unwrap();
    let mut queue: Vec<_> = (0..5).map(|_| (mutex.lock(), Count::default())).collect();
    for _ in 0..3 {
        for (ticket, woken) in &mut queue {
            assert!(poll_with(ticket, &woken.waker()).is_pending());
        }
        stepped.settle();
    }
    let before: Vec<_> = queue.iter().map(|(_, woken)| woken.get()).collect();
    drop(held);
    stepped.settle();
    let woken = queue.iter().zip(before).filter(|((_, woken), before)| woken.get() > *before);
    assert_eq!(woken.count(), 1);
}

/// R-LCK-7: the key is deleted after it was looked for, and seen to be deleted before the answer to that comes.
#[test]
fn a_waiter_is_told_of_its_loss_though_an_older_answer_comes_later() {
    let stepped = Stepped::new(0);
    let session = Session::open(stepped.client(), secs(5)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let _held = mutex.lock().wait().unwrap();
    let mut before = mutex.lock();
    stepped.settle();
    let mut waiting = mutex.lock();
    for _ in 0..2 {
        stepped.settle();
        assert!(before.try_wait().unwrap().is_none() && waiting.try_wait().unwrap().is_none());
    }
    drop(before);
    stepped.settle();
    assert!(waiting.try_wait().unwrap().is_none(), "it looks who is before it now");
    assert!(stepped.step_in_order(), "that is applied");
    stepped.store().delete("l/1-2").unwrap();
    // It sees that, and says so now or when the answer has come.
    let told = waiting.try_wait().and_then(|_| {
        stepped.settle();
        waiting.try_wait()
    });
    assert_eq!(told.map(drop), Err(Error::SessionExpired));
}

/// R-LCK-5, R-LCK-9: not even one that has the name of a hold that is over. It would outlive the session.
#[test]
fn a_strangers_key_is_never_ones_own() {
    let (store, _clock) = manual();
    let session = Session::open(&store, secs(5)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let key = mutex.lock().wait().unwrap().key().to_vec();
    store.put((&key, "foreign")).unwrap();
    let mut ticket = mutex.lock();
    assert!(!matches!(ticket.try_wait(), Ok(Some(_))), "it was not put by this hold");
    drop(ticket);
    assert_eq!(all_keys(&store), [text(&key)]);
}

/// A call is applied though nobody waits for its answer; and a later one may come before it.
#[test]
fn calls_overtake_each_other() {
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let stepped = Stepped::new(seed);
        for n in ["1", "2", "3"] {
            drop(stepped.client().put(("k", n)));
        }
        assert_eq!(all_keys(stepped.store()), [""; 0]);
        stepped.settle();
        orders.insert(events(stepped.store(), 1));
    }
    assert_eq!(orders.len(), 6, "in any order");
}
