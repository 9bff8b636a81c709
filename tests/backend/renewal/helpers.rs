//! Shorthand for the tests of `LeaseRenewer`.

use std::time::Duration;

use leasehold::LeaseId;
use leasehold::backend::{Inbox, InboxId, LeaseRenewer, LeaseRequest, LeaseStep, Request};
use leasehold::clock::Timestamp;

use leasehold_testkit::helpers::millis;

pub(crate) const LEASE: LeaseId = LeaseId::new(7);
pub(crate) const START: Timestamp = Timestamp::from_nanos(1_000_000_000);
pub(crate) const MOMENT: Duration = Duration::from_nanos(1);
pub(crate) const HALF: Duration = millis(500);

pub(crate) fn check(lease: LeaseId) -> Request {
    Request::TimeToLive { id: lease, keys: false }
}

pub(crate) fn over<const N: usize>(inboxes: [InboxId; N]) -> LeaseStep {
    LeaseStep::Over { lease: LEASE, inboxes: inboxes.into() }
}

/// Polls once, for a request.
#[track_caller]
pub(crate) fn sent(renewer: &mut LeaseRenewer, now: Timestamp) -> LeaseRequest {
    match renewer.poll(now) {
        Some(LeaseStep::Send(request)) => request,
        other => panic!("a request is due at {now:?}: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_idle_until(renewer: &mut LeaseRenewer, next: impl Into<Option<Timestamp>>) {
    let next = next.into();
    assert_eq!(renewer.next_deadline(), next);
    if let Some(next) = next {
        let before = Timestamp::from_nanos(next.as_nanos() - 1);
        assert_eq!(renewer.poll(before), None, "the step is due at {next:?}");
    }
}

/// Asserts that a lease is over from an instant on, and that it is reported once.
#[track_caller]
pub(crate) fn assert_over_at<const N: usize>(
    renewer: &mut LeaseRenewer,
    at: Timestamp,
    inboxes: [InboxId; N],
) {
    assert_idle_until(renewer, at);
    assert_eq!(renewer.poll(at), Some(over(inboxes)));
    assert_eq!((renewer.poll(at), renewer.next_deadline()), (None, None));
    assert_eq!((renewer.poll(Timestamp::MAX), renewer.next_deadline()), (None, None));
    assert_forgotten(renewer);
}

/// Asserts that the renewer has no state of any lease.
#[track_caller]
pub(crate) fn assert_forgotten(renewer: &LeaseRenewer) {
    let shown = format!("{renewer:?}");
    assert!(shown.starts_with("LeaseRenewer { leases: {}, schedule: {}, watches: {}, gone: [],"), "{shown}");
}

/// Returns a renewer that sent its first renewal at `START`.
pub(crate) fn started() -> (LeaseRenewer, LeaseRequest) {
    let mut renewer = LeaseRenewer::new();
    renewer.renew(LEASE, true, START);
    let request = sent(&mut renewer, START);
    (renewer, request)
}

/// Returns a renewer that sent its first renewal at `START`, which was answered with a TTL.
pub(crate) fn renewing(ttl: Duration) -> LeaseRenewer {
    let (mut renewer, request) = started();
    renewer.answer(request, Some(ttl));
    renewer
}

/// Returns a renewer with an inbox that watches the lease, which is not renewed. The first check was sent at `START`.
pub(crate) fn watching() -> (LeaseRenewer, InboxId, LeaseRequest) {
    let (mut renewer, inbox) = (LeaseRenewer::new(), Inbox::new().id());
    renewer.watch(LEASE, inbox, START);
    let request = sent(&mut renewer, START);
    (renewer, inbox, request)
}
