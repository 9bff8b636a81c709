//! Locks and elections over a backend with overlapping and reordered calls (R-LCK-3 to R-LCK-13, R-ELC-1, R-ELC-7). Under
//! any interleaving: mutual exclusion, first-come order, no lost wake-ups, no leaked keys, and followers that see every leader.

mod harness;

use std::collections::BTreeSet;

use leasehold::Error;
use leasehold::concurrency::{Mutex, Session};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{all_keys, events, manual, secs, text};
use leasehold_testkit::wakers::{Count, poll_with};
use proptest::prelude::*;

use crate::scheduled_backend::{FaultRates, Stepped};
use harness::{HoldsHarness, Rules};

fn run(seed: u64, rules: Rules) {
    let mut harness = HoldsHarness::new(seed, rules);
    for _ in 0..300 {
        harness.act();
    }
    harness.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(30), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutual_exclusion_with_reordered_calls(seed: u64) {
        run(seed, Rules::default());
    }

        /// Some calls are answered when they are made, as a store's calls are, and history is compacted at times (R-LCK-14).
    #[test]
    fn mutual_exclusion_with_immediate_responses(seed: u64) {
        run(seed, Rules { fault_rates: FaultRates { at_once: 3, ..FaultRates::default() }, compacts: true });
    }

        /// Calls fail, and the caller does not know whether they were applied. A key may be left only if its release failed.
    #[test]
    fn mutual_exclusion_with_failing_calls(seed: u64) {
        let fault_rates = FaultRates { at_once: 8, refused: 24, lost: 24, late: 0 };
        run(seed, Rules { fault_rates, ..Rules::default() });
    }

    /// Calls fail and are applied later. A put that comes after its error leaves no key.
    #[test]
    fn whatever_is_applied_late_one_holds_the_lock(seed: u64) {
        let fault_rates = FaultRates { at_once: 8, late: 12, ..FaultRates::default() };
        run(seed, Rules { fault_rates, compacts: seed % 2 == 0 });
    }
}

/// Two reads of a lost key fail, and the deletion is found by the third, after the pause between attempts.
#[test]
fn loss_whose_reads_failed_is_reported_after_a_pause() {
    let fault_rates = FaultRates { at_once: 8, late: 12, ..FaultRates::default() };
    run(13815458132611951364, Rules { fault_rates, compacts: true });
}

/// R-LCK-9: the ticket is dropped after each number of steps, before it polls the result of the last one. Its key is deleted,
/// and the next waiter acquires the lock.
#[test]
fn ticket_dropped_after_any_step_leaves_no_key() {
    let last = (0..100).find(|&steps| has_got_after(steps)).expect("the ticket completes within 100 steps");
    assert!(last > 6, "a wait takes one put and two reads: {last} steps");
}

/// Returns whether the ticket had become a guard after these steps. Otherwise drops the ticket.
fn has_got_after(steps: usize) -> bool {
    let stepped = Stepped::new(0);
    let session = Session::open(stepped.client(), secs(5)).wait().expect("a lease is granted");
    let mutex = Mutex::new(&session, "l");
    let mut held = mutex.lock().wait().ok();
    let (mut given_up, mut behind) = (mutex.lock(), mutex.lock());
    for _ in 0..steps {
        if given_up.try_wait().expect("the session is alive").is_some() {
            return true;
        }
        // Without a step left, the ticket waits for the owner, so release the lock.
        if !stepped.step_in_order() {
            held = None;
        }
    }
    drop((given_up, held));
    let mut poll_mode = 0;
    let guard = loop {
        stepped.settle();
        if let Some(guard) = behind.try_wait().expect("the session is alive") {
            break guard;
        }
        poll_mode += 1;
        assert!(
            poll_mode < 10,
            "the waiter behind acquires within 10 polls: {}",
            mutex.queue().wait().expect("the store is open")
        );
    };
    assert_eq!(all_keys(stepped.store()), [text(guard.key())]);
    drop(guard);
    stepped.settle();
    assert_eq!(all_keys(stepped.store()), [""; 0]);
    false
}

/// R-LCK-4: each waiter watches its predecessor only.
#[test]
fn release_wakes_one_waiter() {
    let stepped = Stepped::new(0);
    let session = Session::open(stepped.client(), secs(5)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let held = mutex.lock().wait().unwrap();
    let mut queue: Vec<_> = (0..5).map(|_| (mutex.lock(), Count::default())).collect();
    // A waiter needs several polls: for its put, for the read of its predecessor, and to watch it.
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

/// R-LCK-7: the key is deleted after the waiter's read was applied. The waiter receives the DELETE before the older response.
#[test]
fn waiter_reports_loss_before_older_response() {
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
    assert!(waiting.try_wait().unwrap().is_none(), "the waiter reads its predecessor");
    assert!(stepped.step_in_order(), "the read is applied");
    stepped.store().delete("l/1-2").unwrap();
    // The waiter receives the DELETE now, and reports the loss now or once the response has come.
    let reported = waiting.try_wait().and_then(|_| {
        stepped.settle();
        waiting.try_wait()
    });
    assert_eq!(reported.map(drop), Err(Error::SessionExpired));
}

/// R-LCK-5, R-LCK-9: a key with the name of a released one is not treated as the waiter's key. It would outlive the session.
#[test]
fn foreign_key_with_hold_name_is_not_acquired() {
    let (store, _clock) = manual();
    let session = Session::open(&store, secs(5)).wait().unwrap();
    let mutex = Mutex::new(&session, "l");
    let key = mutex.lock().wait().unwrap().key().to_vec();
    store.put((&key, "foreign")).unwrap();
    let mut ticket = mutex.lock();
    assert!(!matches!(ticket.try_wait(), Ok(Some(_))), "a foreign key is not acquired");
    drop(ticket);
    assert_eq!(all_keys(&store), [text(&key)]);
}

/// A call is applied although its response is not awaited, and a later call may be applied before it.
#[test]
fn calls_are_applied_in_any_order() {
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
    assert_eq!(orders.len(), 6, "each of the six orders occurs");
}

/// Two compactions within the interval between two attempts left a waiter asleep until time passed or it was polled.
#[test]
fn waiter_overtaken_by_two_compactions_acquires_without_time() {
    let rules = Rules { fault_rates: FaultRates { at_once: 3, ..FaultRates::default() }, compacts: true };
    run(3_110_210_348_061_656_002, rules);
}
