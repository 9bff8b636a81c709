//! `LeaseRenewer`: when leases are renewed and over. `watched.rs` tests watched leases, and `random.rs` compares random runs with
//! a model.

use std::time::Duration;

use super::helpers::{
    HALF, LEASE, MOMENT, START, assert_forgotten, assert_idle_until, assert_over_at, over, renewing, sent,
    started,
};
use leasehold::backend::{Inbox, LeaseRenewer, Request};
use leasehold::clock::Timestamp;
use leasehold_testkit::helpers::{millis, secs};

#[test]
fn renewer_without_leases_has_nothing_due() {
    let mut renewer = LeaseRenewer::new();
    assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    renewer.renew(LEASE, false, START);
    renewer.cancel(Inbox::new().id());
    renewer.note(LEASE, None, START);
    assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    assert_forgotten(&renewer);
}

#[test]
fn started_renewing_sends_renewal_at_once() {
    let mut renewer = LeaseRenewer::new();
    renewer.renew(LEASE, true, START);
    assert_idle_until(&mut renewer, START);
    let request = sent(&mut renewer, START);
    assert_eq!((request.lease(), request.request()), (LEASE, Request::KeepAlive(LEASE)));
    assert_eq!(renewer.poll(START), None);
}

/// R-LSE-13: the interval of etcd's client and of the engine's automatic keep-alive.
#[test]
fn answered_renewal_is_repeated_after_a_third_of_the_ttl() {
    let rows = [
        (secs(9), secs(3)),
        (secs(2), Duration::from_nanos(666_666_666)),
        (millis(3), millis(1)),
        (3 * MOMENT, MOMENT),
        (2 * MOMENT, MOMENT),
        (secs(9_000_000_000), secs(3_000_000_000)),
    ];
    for (ttl, third) in rows {
        let mut renewer = renewing(ttl);
        for round in 1..4 {
            let due = START + round * third;
            assert_idle_until(&mut renewer, due);
            let request = sent(&mut renewer, due);
            renewer.answer(request, Some(ttl));
        }
    }
}

/// The next renewal is due a third of the TTL after the last one was sent, not after its response.
#[test]
fn late_renewal_delays_later_renewals() {
    let mut renewer = renewing(secs(9));
    let late = START + secs(4);
    let request = sent(&mut renewer, late);
    assert_eq!(renewer.poll(late + millis(400)), None);
    renewer.answer(request, Some(secs(9)));
    assert_idle_until(&mut renewer, late + secs(3));
}

#[test]
fn unanswered_renewal_is_sent_again_after_the_retry_interval() {
    let rows = [
        (secs(60), HALF),
        (secs(3), HALF),
        (millis(2994), millis(499)),
        (secs(2), Duration::from_nanos(333_333_334)),
        (millis(6), millis(1)),
        (12 * MOMENT, 2 * MOMENT),
        (13 * MOMENT, 3 * MOMENT),
    ];
    for (ttl, retry) in rows {
        let mut renewer = renewing(ttl);
        let third = START + ttl / 3;
        for tries in 0..3 {
            let due = third + tries * retry;
            assert_idle_until(&mut renewer, due);
            assert_eq!(sent(&mut renewer, due).request(), Request::KeepAlive(LEASE));
        }
    }
}

/// A sixth of 4 ns is rounded up to 1 ns.
#[test]
fn retry_interval_is_at_least_a_nanosecond() {
    let mut renewer = renewing(4 * MOMENT);
    for due in [1, 2, 3] {
        assert_idle_until(&mut renewer, START + due * MOMENT);
        sent(&mut renewer, START + due * MOMENT);
    }
    assert_over_at(&mut renewer, START + 4 * MOMENT, []);
}

#[test]
fn response_to_any_try_ends_the_retries() {
    let (mut renewer, first) = started();
    let second = sent(&mut renewer, START + HALF);
    renewer.answer(second, Some(secs(9)));
    assert_idle_until(&mut renewer, START + HALF + secs(3));
    renewer.answer(first, Some(secs(9)));
    assert_idle_until(&mut renewer, START + HALF + secs(3));
}

/// If responses take longer than the retry interval, each response belongs to an earlier try.
#[test]
fn response_to_an_earlier_try_is_accepted() {
    let (mut renewer, first) = started();
    sent(&mut renewer, START + HALF);
    renewer.answer(first, Some(secs(9)));
    assert_idle_until(&mut renewer, START + secs(3));
}

/// The retry interval follows from the TTL, also for a renewal that was sent before the TTL was known.
#[test]
fn first_response_sets_retry_interval_of_pending_renewal() {
    let (mut renewer, first) = started();
    sent(&mut renewer, START + HALF);
    renewer.answer(first, Some(millis(1200)));
    assert_idle_until(&mut renewer, START + HALF + millis(200));
}

/// R-LSE-3: the store's deadline is one TTL after the arrival of the renewal, which is not earlier than its sending.
#[test]
fn lease_is_over_one_ttl_after_last_answered_renewal() {
    let mut renewer = renewing(secs(2));
    let answered = sent(&mut renewer, START + secs(1));
    renewer.answer(answered, Some(secs(2)));
    for tries in 0..4 {
        let due = START + secs(1) + Duration::from_nanos(666_666_666 + tries * 333_333_334);
        sent(&mut renewer, due);
    }
    assert_over_at(&mut renewer, START + secs(3), []);
}

#[test]
fn poll_after_deadline_reports_end_without_request() {
    for late in [Duration::ZERO, MOMENT, secs(1000)] {
        let mut renewer = renewing(secs(2));
        assert_eq!(renewer.poll(START + secs(2) + late), Some(over([])));
        assert_eq!((renewer.poll(START + secs(2) + late), renewer.next_deadline()), (None, None));
    }
}

#[test]
fn lease_with_an_unknown_ttl_has_no_deadline() {
    let (mut renewer, _) = started();
    let late = START + secs(1_000_000_000);
    let request = sent(&mut renewer, late);
    assert_eq!((renewer.poll(late), renewer.next_deadline()), (None, Some(late + HALF)));
    renewer.answer(request, Some(secs(2)));
    for third in 1..=3 {
        let due = late + third * Duration::from_nanos(666_666_666);
        assert!(renewer.poll(due).is_some(), "a step is due at {due:?}");
    }
}

/// Adding to an instant stops at `Timestamp::MAX`, and the rounding of the retry interval does not overflow.
#[test]
fn ttl_of_any_length_is_accepted() {
    let mut renewer = LeaseRenewer::new();
    renewer.note(LEASE, Some(Duration::MAX), START);
    renewer.renew(LEASE, true, START);
    let request = sent(&mut renewer, START);
    assert_idle_until(&mut renewer, START + HALF);
    renewer.answer(request, Some(Duration::MAX));
    assert_over_at(&mut renewer, Timestamp::MAX, []);
}

#[test]
fn noted_grant_sets_the_deadline_before_the_first_answer() {
    let mut renewer = LeaseRenewer::new();
    renewer.note(LEASE, Some(secs(2)), START);
    renewer.renew(LEASE, true, START + secs(1));
    for tries in 0..3 {
        sent(&mut renewer, START + secs(1) + tries * Duration::from_nanos(333_333_334));
    }
    assert_over_at(&mut renewer, START + secs(2), []);
}

/// A client may also renew the lease itself. The schedule of the renewer's own renewals does not change.
#[test]
fn noted_renewal_moves_only_the_deadline() {
    let mut renewer = renewing(secs(9));
    renewer.note(LEASE, Some(secs(9)), START + secs(2));
    for tries in 0..16 {
        let due = START + secs(3) + tries * HALF;
        assert_idle_until(&mut renewer, due);
        sent(&mut renewer, due);
    }
    assert_over_at(&mut renewer, START + secs(11), []);
}

#[test]
fn noted_grant_of_an_unused_lease_is_forgotten_at_its_deadline() {
    let mut renewer = LeaseRenewer::new();
    renewer.note(LEASE, Some(secs(2)), START);
    assert_idle_until(&mut renewer, START + secs(2));
    assert_eq!((renewer.poll(START + secs(2)), renewer.next_deadline()), (None, None));
    assert_forgotten(&renewer);
}

#[test]
fn late_response_does_not_move_deadline_back() {
    let (mut renewer, first) = started();
    let second = sent(&mut renewer, START + HALF);
    renewer.answer(second, Some(secs(2)));
    renewer.answer(first, Some(secs(2)));
    for tries in 0..4 {
        sent(&mut renewer, START + HALF + Duration::from_nanos(666_666_666 + tries * 333_333_334));
    }
    assert_over_at(&mut renewer, START + HALF + secs(2), []);
}

/// R-LSE-7: etcd answers with TTL 0, not with an error.
#[test]
fn response_without_ttl_ends_lease_at_once() {
    for ttl in [None, Some(Duration::ZERO)] {
        let (mut renewer, request) = started();
        renewer.answer(request, ttl);
        assert_eq!(renewer.next_deadline(), Some(Timestamp::ORIGIN));
        assert_eq!(renewer.poll(Timestamp::ORIGIN), Some(over([])));
        assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
        assert_forgotten(&renewer);
    }
}

/// The response to a newer renewal may arrive first.
#[test]
fn lease_not_found_by_earlier_renewal_is_over() {
    let (mut renewer, first) = started();
    let second = sent(&mut renewer, START + HALF);
    renewer.answer(second, Some(secs(9)));
    renewer.answer(first, None);
    assert_eq!(renewer.poll(START + HALF), Some(over([])));
}

#[test]
fn response_after_end_is_ignored() {
    let mut renewer = renewing(secs(2));
    let request = sent(&mut renewer, START + secs(1));
    assert_eq!(renewer.poll(START + secs(2)), Some(over([])));
    for ttl in [Some(secs(9)), None] {
        renewer.answer(request, ttl);
        assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    }
    // A later lease with this id ignores it too.
    renewer.renew(LEASE, true, START + secs(3));
    let own = sent(&mut renewer, START + secs(3));
    for ttl in [Some(secs(90)), None] {
        renewer.answer(request, ttl);
        assert_idle_until(&mut renewer, START + secs(3) + HALF);
    }
    renewer.answer(own, Some(secs(2)));
    assert_eq!(renewer.poll(START + secs(5)), Some(over([])));
}

#[test]
fn response_after_renewing_stopped_is_ignored() {
    for ttl in [Some(secs(9)), None] {
        let (mut renewer, request) = started();
        renewer.renew(LEASE, false, START);
        assert_forgotten(&renewer);
        renewer.answer(request, ttl);
        assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    }
}

#[test]
fn stopped_lease_is_neither_renewed_nor_reported() {
    let mut renewer = renewing(secs(9));
    renewer.renew(LEASE, false, START + secs(1));
    renewer.renew(LEASE, false, START + secs(1));
    assert_idle_until(&mut renewer, START + secs(9));
    assert_eq!((renewer.poll(START + secs(9)), renewer.next_deadline()), (None, None));
    assert_forgotten(&renewer);
}

#[test]
fn restarted_renewing_sends_renewal_at_once() {
    let mut renewer = renewing(secs(9));
    let pending = sent(&mut renewer, START + secs(3));
    renewer.renew(LEASE, false, START + secs(3));
    renewer.renew(LEASE, true, START + secs(3));
    let own = sent(&mut renewer, START + secs(3));
    assert_ne!(own, pending);
    for ttl in [Some(secs(90)), None] {
        renewer.answer(pending, ttl);
        assert_idle_until(&mut renewer, START + secs(3) + HALF);
    }
    // The deadline is kept, since the lease is unchanged.
    assert_eq!(renewer.poll(START + secs(9)), Some(over([])));
}

#[test]
fn renewing_started_twice_sends_one_renewal() {
    let (mut renewer, request) = started();
    renewer.renew(LEASE, true, START + millis(1));
    assert_idle_until(&mut renewer, START + HALF);
    renewer.answer(request, Some(secs(9)));
    assert_idle_until(&mut renewer, START + secs(3));
}

/// Another client may have renewed the lease since the stop. A poll at the deadline would have removed the state of the lease.
#[test]
fn deadline_passed_while_stopped_is_ignored() {
    for is_watch in [false, true] {
        let mut renewer = renewing(secs(2));
        renewer.renew(LEASE, false, START);
        let late = START + secs(2);
        if is_watch {
            renewer.watch(LEASE, Inbox::new().id(), late);
        } else {
            renewer.renew(LEASE, true, late);
        }
        sent(&mut renewer, late);
        assert_idle_until(&mut renewer, late + HALF);
    }
}

#[test]
fn deadline_not_passed_while_stopped_is_kept() {
    let mut renewer = renewing(secs(2));
    renewer.renew(LEASE, false, START);
    let before = START + (secs(2) - MOMENT);
    renewer.renew(LEASE, true, before);
    sent(&mut renewer, before);
    assert_over_at(&mut renewer, START + secs(2), []);
}
