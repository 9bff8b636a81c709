//! `LeaseRenewer`: watched leases, the order of steps, and unusual clocks.

use std::time::Duration;

use super::helpers::{
    HALF, LEASE, START, assert_forgotten, assert_idle_until, assert_over_at, check, over, renewing, sent,
    watching,
};
use leasehold::LeaseId;
use leasehold::backend::{Inbox, LeaseRenewer, LeaseStep, Request};
use leasehold::clock::Timestamp;
use leasehold_testkit::helpers::{millis, secs};

#[test]
fn noted_revocation_ends_the_lease_at_once() {
    for ttl in [None, Some(Duration::ZERO)] {
        let (mut renewer, inbox) = (renewing(secs(9)), Inbox::new().id());
        renewer.watch(LEASE, inbox, START);
        renewer.note(LEASE, ttl, START);
        assert_eq!(renewer.poll(START), Some(over([inbox])));
        assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    }
}

/// The end of a watched lease at its deadline is reported to its watchers, also if renewing starts before the poll.
#[test]
fn watched_lease_is_over_when_renewing_starts_after_deadline() {
    let (mut renewer, inbox) = (renewing(secs(2)), Inbox::new().id());
    renewer.watch(LEASE, inbox, START);
    renewer.renew(LEASE, false, START);
    renewer.renew(LEASE, true, START + secs(3));
    assert_eq!(renewer.poll(START + secs(3)), Some(over([inbox])));
    assert_forgotten(&renewer);
}

#[test]
fn end_of_a_lease_lists_each_of_its_inboxes_once() {
    let mut renewer = renewing(secs(2));
    let [one, two, cancelled, elsewhere] = [(); 4].map(|()| Inbox::new().id());
    for inbox in [two, cancelled, one, two] {
        renewer.watch(LEASE, inbox, START);
    }
    renewer.watch(LeaseId::new(i64::MAX), elsewhere, START);
    renewer.cancel(cancelled);
    assert_eq!(
        sent(&mut renewer, START).lease(),
        LeaseId::new(i64::MAX),
        "a watch of a renewed lease sends no request"
    );
    assert_eq!(renewer.poll(START), None);
    let mut steps = std::iter::from_fn(|| renewer.poll(START + secs(2)));
    assert!(steps.any(|step| step == over([one, two])));
}

#[test]
fn cancelled_inbox_is_not_listed_by_a_reported_end() {
    let mut renewer = renewing(secs(2));
    let [one, two] = [(); 2].map(|()| Inbox::new().id());
    renewer.watch(LEASE, one, START);
    renewer.watch(LEASE, two, START);
    renewer.note(LEASE, None, START);
    renewer.cancel(one);
    assert_eq!(renewer.poll(START), Some(over([two])));
}

#[test]
fn cancelled_inbox_watches_no_lease() {
    let (mut renewer, inbox) = (LeaseRenewer::new(), Inbox::new().id());
    for lease in [i64::MIN, -1, 0, 1, i64::MAX] {
        renewer.watch(LeaseId::new(lease), inbox, START);
    }
    renewer.cancel(inbox);
    assert_eq!((renewer.poll(START), renewer.next_deadline()), (None, None));
    assert_forgotten(&renewer);
}

#[test]
fn watched_lease_that_is_not_renewed_is_checked_at_once() {
    let (mut renewer, inbox, request) = watching();
    assert_eq!((request.lease(), request.request()), (LEASE, check(LEASE)));
    renewer.watch(LEASE, Inbox::new().id(), START);
    assert_idle_until(&mut renewer, START + HALF);
    renewer.answer(request, None);
    let Some(LeaseStep::Over { inboxes, .. }) = renewer.poll(START) else { panic!("the lease is over") };
    assert_eq!((inboxes.len(), inboxes[0]), (2, inbox));
    assert_forgotten(&renewer);
}

#[test]
fn check_is_repeated_after_a_third_of_remaining_time() {
    let rows = [
        (secs(9), secs(3)),
        (secs(2), Duration::from_nanos(666_666_666)),
        (millis(1500), HALF),
        (secs(1), HALF),
        (Duration::ZERO, HALF),
    ];
    for (remaining, pause) in rows {
        let (mut renewer, _, request) = watching();
        renewer.answer(request, Some(remaining));
        assert_idle_until(&mut renewer, START + pause);
        assert_eq!(sent(&mut renewer, START + pause).request(), check(LEASE));
        assert_idle_until(&mut renewer, START + pause + HALF);
    }
}

/// Only the store knows whether another client has renewed the lease.
#[test]
fn checked_lease_never_renewed_here_has_no_deadline() {
    let (mut renewer, inbox, request) = watching();
    renewer.answer(request, Some(secs(2)));
    let request = sent(&mut renewer, START + secs(1_000_000));
    assert_eq!(renewer.poll(START + secs(1_000_000)), None);
    renewer.answer(request, None);
    assert_eq!(renewer.poll(START), Some(over([inbox])));
}

#[test]
fn stopped_watched_lease_is_over_at_its_deadline() {
    let (mut renewer, inbox) = (renewing(secs(2)), Inbox::new().id());
    renewer.watch(LEASE, inbox, START);
    renewer.renew(LEASE, false, START + secs(1));
    for tries in 0..2 {
        assert_eq!(sent(&mut renewer, START + secs(1) + tries * HALF).request(), check(LEASE));
    }
    assert_over_at(&mut renewer, START + secs(2), [inbox]);
}

/// A sixth of this TTL is less than the retry interval of checks.
#[test]
fn check_is_retried_after_half_a_second_for_any_ttl() {
    let (mut renewer, inbox) = (renewing(millis(1200)), Inbox::new().id());
    renewer.renew(LEASE, false, START);
    renewer.watch(LEASE, inbox, START + millis(100));
    sent(&mut renewer, START + millis(100));
    assert_idle_until(&mut renewer, START + millis(600));
}

#[test]
fn check_that_finds_time_remaining_extends_the_deadline() {
    for (remaining, deadline) in [(secs(2), secs(3)), (millis(1001), millis(2001)), (millis(999), secs(2))] {
        let (mut renewer, inbox) = (renewing(secs(2)), Inbox::new().id());
        renewer.watch(LEASE, inbox, START);
        renewer.renew(LEASE, false, START + secs(1));
        let request = sent(&mut renewer, START + secs(1));
        renewer.answer(request, Some(remaining));
        let mut ends = (0..4000).filter(|ms| {
            std::iter::from_fn(|| renewer.poll(START + millis(*ms))).any(|step| step == over([inbox]))
        });
        assert_eq!(ends.next(), Some(deadline.as_millis() as u64), "{remaining:?} remain");
        assert_eq!(ends.next(), None);
    }
}

#[test]
fn late_watch_of_stopped_lease_reports_its_deadline() {
    let (mut renewer, inbox) = (renewing(secs(2)), Inbox::new().id());
    renewer.renew(LEASE, false, START);
    renewer.watch(LEASE, inbox, START + millis(1700));
    assert_eq!(sent(&mut renewer, START + millis(1700)).request(), check(LEASE));
    assert_over_at(&mut renewer, START + secs(2), [inbox]);
}

#[test]
fn renewing_of_a_watched_lease_replaces_the_checks() {
    let (mut renewer, inbox, request) = watching();
    renewer.renew(LEASE, true, START);
    assert_eq!(sent(&mut renewer, START).request(), Request::KeepAlive(LEASE));
    renewer.answer(request, None);
    assert_idle_until(&mut renewer, START + HALF);
    renewer.cancel(inbox);
    assert_eq!(sent(&mut renewer, START + HALF).request(), Request::KeepAlive(LEASE));
}

#[test]
fn second_watch_after_a_cancellation_checks_again() {
    let (mut renewer, inbox) = (renewing(secs(9)), Inbox::new().id());
    renewer.renew(LEASE, false, START);
    renewer.watch(LEASE, inbox, START);
    let request = sent(&mut renewer, START);
    renewer.cancel(inbox);
    renewer.watch(LEASE, inbox, START + millis(1));
    renewer.answer(request, None);
    assert_eq!(sent(&mut renewer, START + millis(1)).request(), check(LEASE));
}

#[test]
fn steps_are_ordered_by_instant_and_lease() {
    let mut renewer = LeaseRenewer::new();
    for (lease, seconds) in [(3, 2), (1, 1), (2, 1), (-1, 3)] {
        renewer.note(LeaseId::new(lease + 10), Some(secs(9)), START);
        renewer.renew(LeaseId::new(lease), true, START + secs(seconds));
    }
    renewer.renew(LeaseId::new(11), true, START + secs(4));
    renewer.note(LeaseId::new(11), None, START);
    let late = START + secs(20);
    let steps: Vec<String> = std::iter::from_fn(|| renewer.poll(late))
        .map(|step| match step {
            LeaseStep::Send(request) => request.request().to_string(),
            LeaseStep::Over { lease, inboxes } => format!("{lease:?} is over for {inboxes:?}"),
            other => panic!("unknown kind: {other:?}"),
        })
        .collect();
    let expected = ["L11 is over for []", "keep_alive 1", "keep_alive 2", "keep_alive 3", "keep_alive -1"];
    assert_eq!(steps, expected);
}

#[test]
fn clock_set_back_delays_requests_and_ends() {
    let mut renewer = renewing(secs(2));
    let early = Timestamp::ORIGIN;
    assert_eq!(renewer.poll(early), None);
    let inbox = Inbox::new().id();
    renewer.watch(LEASE, inbox, early);
    renewer.renew(LEASE, false, early);
    let request = sent(&mut renewer, early);
    renewer.answer(request, Some(secs(1)));
    assert_idle_until(&mut renewer, early + HALF);
    assert_eq!(renewer.poll(START + secs(2)), Some(over([inbox])));
}

/// Adding stops at the last instant: each lease has at most one more request there.
#[test]
fn last_instant_has_one_request_for_each_lease() {
    let (mut renewer, inbox) = (LeaseRenewer::new(), Inbox::new().id());
    let end = Timestamp::from_nanos(u64::MAX - 10);
    renewer.renew(LeaseId::new(1), true, end);
    renewer.watch(LeaseId::new(2), inbox, end);
    for _ in 0..2 {
        for ttl in [secs(60), Duration::MAX] {
            for now in [end, Timestamp::MAX, Timestamp::MAX] {
                let steps: Vec<LeaseStep> = std::iter::from_fn(|| renewer.poll(now)).take(9).collect();
                assert!(steps.len() <= 2, "{steps:?}");
                for step in steps {
                    if let LeaseStep::Send(request) = step {
                        renewer.answer(request, Some(ttl));
                    }
                }
            }
        }
    }
}
