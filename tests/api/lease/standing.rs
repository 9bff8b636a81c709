//! Leases with automatic keep-alive, as if renewed after every third of the TTL until paused.

use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::{Error, Grant, LeaseId, ManualClock, Store};
use leasehold_testkit::helpers::{all_keys, events, manual, put_leased, secs};

const MOMENT: Duration = Duration::from_nanos(1);

/// Returns a store with lease 7 of `ttl` seconds, kept alive since one second after the origin, and the leased key "a".
fn standing(ttl: u64) -> (Store, ManualClock) {
    let (store, clock) = manual();
    clock.advance(secs(1));
    store.grant(Grant::new(secs(ttl)).id(7).keep_alive()).expect("lease id 7 is free");
    put_leased(&store, &["a"], 7);
    (store, clock)
}

fn since_grant(duration: Duration) -> Option<Timestamp> {
    Some(Timestamp::ORIGIN + secs(1) + duration)
}

#[test]
fn lease_with_automatic_keep_alive_has_no_deadline() {
    let (store, clock) = standing(9);
    assert_eq!(store.next_deadline(), None);
    clock.advance(secs(1_000_000_000));
    assert_eq!(
        (all_keys(&store), store.leases().unwrap().leases()),
        (vec!["a".into()], &[LeaseId::new(7)][..])
    );
    store.pause_keep_alive(7).unwrap();
    assert_eq!(
        store.next_deadline(),
        since_grant(secs(999_999_999 + 9)),
        "the last renewal is one second before the pause"
    );
}

/// The deadline is one TTL after the last automatic renewal. A renewal due at the instant of the pause counts.
#[test]
fn paused_lease_expires_one_ttl_after_the_last_renewal() {
    let third = secs(3);
    let rows = [
        (Duration::ZERO, Duration::ZERO),
        (MOMENT, Duration::ZERO),
        (third - MOMENT, Duration::ZERO),
        (third, third),
        (third + MOMENT, third),
        (2 * third - MOMENT, third),
        (2 * third, 2 * third),
        (3 * third, 3 * third),
        (100 * third - MOMENT, 99 * third),
        (100 * third, 100 * third),
    ];
    for (paused, renewed) in rows {
        let (store, clock) = standing(9);
        clock.advance(paused);
        store.pause_keep_alive(7).unwrap();
        assert_eq!(store.next_deadline(), since_grant(renewed + secs(9)), "paused after {paused:?}");
        assert_eq!(store.time_to_live(7, false).unwrap().ttl(), Some(renewed + secs(9) - paused));
        clock.advance(renewed + secs(9) - paused - MOMENT);
        assert_eq!(all_keys(&store), ["a"]);
        clock.advance(MOMENT);
        assert_eq!((events(&store, 3), store.next_deadline()), (vec!["delete a 3".into()], None));
    }
}

/// A third of ten seconds is truncated to whole nanoseconds.
#[test]
fn renewal_interval_is_truncated_to_nanoseconds() {
    let third = Duration::from_nanos(3_333_333_333);
    for (paused, renewed) in [(3 * third - MOMENT, 2 * third), (3 * third, 3 * third), (secs(10), 3 * third)]
    {
        let (store, clock) = standing(10);
        clock.advance(paused);
        store.pause_keep_alive(7).unwrap();
        assert_eq!(store.next_deadline(), since_grant(renewed + secs(10)), "paused after {paused:?}");
    }
}

/// With automatic keep-alive, the time left is the time that would be left after a pause now.
#[test]
fn time_left_restarts_at_each_automatic_renewal() {
    let (store, clock) = standing(9);
    // A TTL of 9 s is renewed every 3 s.
    for expected in [9, 8, 7, 9, 8, 7, 9] {
        assert_eq!(store.time_to_live(7, false).unwrap().ttl(), Some(secs(expected)));
        clock.advance(secs(1));
    }
    assert_eq!(store.time_to_live(7, false).unwrap().granted_ttl(), Some(secs(9)));
}

/// A renewal by request moves the instants of the automatic renewals after it.
#[test]
fn keep_alive_request_restarts_the_renewal_interval() {
    let (store, clock) = standing(9);
    clock.advance(secs(2));
    assert_eq!(store.keep_alive(7).unwrap().ttl(), Some(secs(9)));
    clock.advance(secs(2));
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(2 + 9)));
    store.keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(4 + 9)), "a keep-alive request renews a paused lease");
}

#[test]
fn resume_keep_alive_renews_at_once() {
    let (store, clock) = standing(9);
    clock.advance(secs(4));
    store.pause_keep_alive(7).unwrap();
    clock.advance(secs(3));
    store.resume_keep_alive(7).unwrap();
    assert_eq!((store.next_deadline(), store.time_to_live(7, false).unwrap().ttl()), (None, Some(secs(9))));
    clock.advance(secs(2));
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(7 + 9)));
    clock.advance(secs(7));
    assert_eq!(all_keys(&store).len(), 0);
}

/// Pausing a lease without automatic keep-alive and resuming a lease with it change nothing.
#[test]
fn second_pause_or_resume_has_no_effect() {
    let (store, clock) = standing(9);
    store.grant(Grant::new(secs(20)).id(8)).unwrap();
    store.pause_keep_alive(8).unwrap();
    clock.advance(secs(4));
    store.resume_keep_alive(7).unwrap();
    assert_eq!(
        store.time_to_live(7, false).unwrap().ttl(),
        Some(secs(8)),
        "resuming an active lease does not renew it"
    );
    store.pause_keep_alive(7).unwrap();
    clock.advance(secs(5));
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(3 + 9)));
    clock.advance(secs(3));
    assert_eq!(store.next_deadline(), since_grant(secs(20)), "lease 8 keeps its deadline");
    store.resume_keep_alive(8).unwrap();
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn pause_or_resume_of_unknown_lease_returns_lease_not_found() {
    let (store, clock) = standing(9);
    for id in [0, 8, -7] {
        assert_eq!(store.pause_keep_alive(id).unwrap_err(), Error::LeaseNotFound);
        assert_eq!(store.resume_keep_alive(id).unwrap_err(), Error::LeaseNotFound);
    }
    store.pause_keep_alive(7).unwrap();
    clock.advance(secs(9));
    assert_eq!(
        store.resume_keep_alive(7).unwrap_err(),
        Error::LeaseNotFound,
        "lease 7 expired at this instant"
    );
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn lease_with_automatic_keep_alive_can_be_revoked_or_expired() {
    let ways: [fn(&Store) -> leasehold::Result<leasehold::response::RevokeResponse>; 2] =
        [|store| store.revoke(7), |store| store.expire(7)];
    for end in ways {
        let (store, _clock) = standing(9);
        assert_eq!(end(&store).unwrap().header().revision().get(), 3);
        assert_eq!((events(&store, 3), store.next_deadline()), (vec!["delete a 3".into()], None));
        assert_eq!(end(&store).unwrap_err(), Error::LeaseNotFound);
    }
}

/// Leases are listed by the time left (R-LSE-11), which restarts at each automatic renewal.
#[test]
fn leases_with_automatic_keep_alive_are_listed_by_time_left() {
    let (store, clock) = standing(9);
    for (id, ttl) in [(1, 8), (2, 9), (3, 20)] {
        store.grant(Grant::new(secs(ttl)).id(id)).unwrap();
    }
    let listed =
        |store: &Store| -> Vec<i64> { store.leases().unwrap().leases().iter().map(|id| id.get()).collect() };
    assert_eq!(listed(&store), [1, 7, 2, 3]);
    clock.advance(secs(2));
    assert_eq!(listed(&store), [1, 7, 2, 3]);
    clock.advance(secs(1));
    assert_eq!(listed(&store), [1, 2, 7, 3]);
    clock.advance(secs(4));
    assert_eq!(listed(&store), [1, 2, 7, 3]);
    clock.advance(secs(3));
    assert_eq!(listed(&store), [7, 3]);
}

/// Advancing time does no work for 10,000 leases with automatic keep-alive. Once paused, each of them expires.
#[test]
fn ten_thousand_paused_leases_expire() {
    let (store, clock) = manual();
    for id in 1..=10_000 {
        store.grant(Grant::new(secs(3)).id(id).keep_alive()).unwrap();
    }
    clock.advance(secs(1_000_000_000));
    for id in 1..=10_000 {
        store.pause_keep_alive(id).unwrap();
    }
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(1_000_000_003)));
    clock.advance(secs(3));
    assert_eq!((store.status().unwrap().leases(), store.next_deadline()), (0, None));
}
