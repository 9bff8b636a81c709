//! Leases kept alive as a standing fact: as if renewed every third of the TTL, until paused.

use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::{Error, Grant, LeaseId, ManualClock, Store};
use leasehold_testkit::helpers::{all_keys, events, manual, put_leased, secs};

const MOMENT: Duration = Duration::from_nanos(1);

/// A standing lease 7 of so many seconds with the key "a", granted one second after the origin.
fn standing(ttl: u64) -> (Store, ManualClock) {
    let (store, clock) = manual();
    clock.advance(secs(1));
    store.grant(Grant::new(secs(ttl)).id(7).standing()).expect("the id is free");
    put_leased(&store, &["a"], 7);
    (store, clock)
}

fn since_grant(duration: Duration) -> Option<Timestamp> {
    Some(Timestamp::ORIGIN + secs(1) + duration)
}

#[test]
fn it_has_no_deadline() {
    let (store, clock) = standing(9);
    assert_eq!(store.next_deadline(), None);
    clock.advance(secs(1_000_000_000));
    assert_eq!(
        (all_keys(&store), store.leases().unwrap().leases()),
        (vec!["a".into()], &[LeaseId::new(7)][..])
    );
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(999_999_999 + 9)), "last renewed a second before");
}

/// The deadline is one TTL after the last renewal that would have been made; one due at the very instant counts.
#[test]
fn paused_it_ends_one_ttl_after_the_last_renewal() {
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

/// A third of ten seconds is cut to whole nanoseconds.
#[test]
fn a_ttl_that_three_does_not_divide() {
    let third = Duration::from_nanos(3_333_333_333);
    for (paused, renewed) in [(3 * third - MOMENT, 2 * third), (3 * third, 3 * third), (secs(10), 3 * third)]
    {
        let (store, clock) = standing(10);
        clock.advance(paused);
        store.pause_keep_alive(7).unwrap();
        assert_eq!(store.next_deadline(), since_grant(renewed + secs(10)), "paused after {paused:?}");
    }
}

/// While it stands, the time left is what would be left if it were paused now.
#[test]
fn the_time_left_swings() {
    let (store, clock) = standing(9);
    for expected in [9, 8, 7, 9, 8, 7, 9] {
        assert_eq!(store.time_to_live(7, false).unwrap().ttl(), Some(secs(expected)));
        clock.advance(secs(1));
    }
    assert_eq!(store.time_to_live(7, false).unwrap().granted_ttl(), Some(secs(9)));
}

/// A renewal by hand moves the instants of those to come.
#[test]
fn a_renewal_by_hand_counts_too() {
    let (store, clock) = standing(9);
    clock.advance(secs(2));
    assert_eq!(store.keep_alive(7).unwrap().ttl(), Some(secs(9)));
    clock.advance(secs(2));
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(2 + 9)));
    store.keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(4 + 9)), "paused, it is a lease like others");
}

#[test]
fn resuming_begins_with_a_renewal() {
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

/// Pausing what is paused, or never stood, and resuming what stands changes nothing.
#[test]
fn pausing_and_resuming_twice_is_as_once() {
    let (store, clock) = standing(9);
    store.grant(Grant::new(secs(20)).id(8)).unwrap();
    store.pause_keep_alive(8).unwrap();
    clock.advance(secs(4));
    store.resume_keep_alive(7).unwrap();
    assert_eq!(store.time_to_live(7, false).unwrap().ttl(), Some(secs(8)), "no renewal now");
    store.pause_keep_alive(7).unwrap();
    clock.advance(secs(5));
    store.pause_keep_alive(7).unwrap();
    assert_eq!(store.next_deadline(), since_grant(secs(3 + 9)));
    clock.advance(secs(3));
    assert_eq!(store.next_deadline(), since_grant(secs(20)), "the other lease is untouched");
    store.resume_keep_alive(8).unwrap();
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn a_lease_that_is_not_there_cannot_be_paused_or_resumed() {
    let (store, clock) = standing(9);
    for id in [0, 8, -7] {
        assert_eq!(store.pause_keep_alive(id).unwrap_err(), Error::LeaseNotFound);
        assert_eq!(store.resume_keep_alive(id).unwrap_err(), Error::LeaseNotFound);
    }
    store.pause_keep_alive(7).unwrap();
    clock.advance(secs(9));
    assert_eq!(store.resume_keep_alive(7).unwrap_err(), Error::LeaseNotFound, "it ended at this instant");
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn it_can_be_revoked_and_expired() {
    let ways: [fn(&Store) -> leasehold::Result<leasehold::response::RevokeResponse>; 2] =
        [|store| store.revoke(7), |store| store.expire(7)];
    for end in ways {
        let (store, _clock) = standing(9);
        assert_eq!(end(&store).unwrap().header().revision().get(), 3);
        assert_eq!((events(&store, 3), store.next_deadline()), (vec!["delete a 3".into()], None));
        assert_eq!(end(&store).unwrap_err(), Error::LeaseNotFound);
    }
}

/// By the time they have left (R-LSE-11), which for standing ones swings.
#[test]
fn listed_among_others() {
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

/// Ten thousand of them cost the passing of time nothing, and pausing each later brings each to its end.
#[test]
fn many() {
    let (store, clock) = manual();
    for id in 1..=10_000 {
        store.grant(Grant::new(secs(3)).id(id).standing()).unwrap();
    }
    clock.advance(secs(1_000_000_000));
    for id in 1..=10_000 {
        store.pause_keep_alive(id).unwrap();
    }
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(1_000_000_003)));
    clock.advance(secs(3));
    assert_eq!((store.status().unwrap().leases(), store.next_deadline()), (0, None));
}
