//! Leases: grants, keep-alives, expiry and revocation, and the attached keys (R-LSE-1 to R-LSE-11).
//!
//! Tests of automatic keep-alives are in `standing.rs`.

use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::{Error, Grant, LeaseId, Limits, ManualClock, Put, Store};
use leasehold_testkit::helpers::{
    self, Random, all_keys, at, engine, events, grant, manual, manual_with, millis, put, put_leased,
    revision, secs,
};

const MOMENT: Duration = Duration::from_nanos(1);

fn listed(store: &Store) -> Vec<i64> {
    store.leases().expect("the store is open").leases().iter().map(|id| id.get()).collect()
}

/// Returns the seconds left and the seconds granted, as etcd's wire shows them.
fn on_wire(store: &Store, id: i64) -> (i64, i64) {
    let response = store.time_to_live(id, true).expect("the store is open");
    let seconds = |ttl: Option<Duration>, none| ttl.map_or(none, |ttl| ttl.as_secs() as i64);
    (seconds(response.ttl(), -1), seconds(response.granted_ttl(), 0))
}

fn brief_leases() -> (Store, ManualClock) {
    manual_with(Limits { min_lease_ttl: MOMENT, ..Limits::default() })
}

/// R-LSE-2: the response has the effective TTL. Neither a grant nor a read makes a revision.
#[test]
fn grant_returns_at_least_the_minimum_ttl() {
    let (store, _clock) = manual();
    let rows = [
        (Grant::new(Duration::ZERO), secs(2)),
        (Grant::new(millis(1999)), secs(2)),
        (Grant::new(secs(2)), secs(2)),
        (Grant::new(millis(2500)), millis(2500)),
        (Grant::from_wire(-1, 0), secs(2)),
        (Grant::from_wire(i64::MIN, 0), secs(2)),
        (Grant::from_wire(3, 0), secs(3)),
        (Grant::new(secs(9_000_000_000)), secs(9_000_000_000)),
    ];
    for (n, (request, ttl)) in (1..).zip(rows) {
        let granted = store.grant(request).unwrap();
        assert_eq!(
            (granted.id(), granted.ttl()),
            (LeaseId::new(n), ttl),
            "the store chooses lease ids from 1 on"
        );
        assert_eq!(granted.header().revision(), at(1));
        assert_eq!(store.time_to_live(n, false).unwrap().granted_ttl(), Some(ttl));
    }
    assert_eq!(store.status().unwrap().leases(), 8);
    for ttl in [secs(9_000_000_000) + MOMENT, secs(9_000_000_001), Duration::MAX] {
        assert_eq!(store.grant(Grant::new(ttl)).unwrap_err(), Error::LeaseTtlTooLarge);
    }
    assert_eq!(store.grant(Grant::from_wire(i64::MAX, 0)).unwrap_err(), Error::LeaseTtlTooLarge);
    assert_eq!((store.status().unwrap().leases(), revision(&store)), (8, 1));
}

/// R-LSE-2: every number but 0 is an id. An id in use is refused, after the check of the TTL.
#[test]
fn grant_with_chosen_id_uses_it_if_free() {
    let (store, _clock) = manual();
    for id in [1, 2, 5, -1, i64::MAX, i64::MIN] {
        grant(&store, id, secs(10));
        assert_eq!(store.grant(Grant::new(secs(10)).id(id)).unwrap_err(), Error::LeaseExists);
        let too_large = Grant::new(Duration::MAX).id(id);
        assert_eq!(store.grant(too_large).unwrap_err(), Error::LeaseTtlTooLarge);
    }
    let chosen: Vec<i64> = (0..4).map(|_| store.grant(Grant::new(secs(10))).unwrap().id().get()).collect();
    assert_eq!(chosen, [3, 4, 6, 7], "the store skips lease ids that are in use");
    assert_eq!(store.grant(Grant::new(secs(10)).id(0)).unwrap().id(), LeaseId::new(8));
}

/// R-LSE-5: a revoke deletes all attached keys at one revision, in ascending order. Without keys it makes no revision.
#[test]
fn revoke_deletes_attached_keys_at_one_revision() {
    let (store, _clock) = manual();
    for id in [7, -7] {
        grant(&store, id, secs(10));
    }
    put_leased(&store, &["c", "a", "b"], 7);
    put_leased(&store, &["other"], -7);
    assert_eq!(store.revoke(7).unwrap().header().revision(), at(6));
    assert_eq!(events(&store, 6), ["delete a 6", "delete b 6", "delete c 6"]);
    assert_eq!((all_keys(&store), listed(&store)), (vec!["other".into()], vec![-7]));
    for id in [7, 0, 99] {
        assert_eq!(store.revoke(id).unwrap_err(), Error::LeaseNotFound);
    }
    assert_eq!(store.put(Put::new("a", "x").lease(7)).unwrap_err(), Error::LeaseNotFound);
    grant(&store, 8, secs(10));
    assert_eq!(
        store.revoke(8).unwrap().header().revision(),
        at(6),
        "revoking a lease without keys makes no revision"
    );
}

/// R-LSE-3, R-LSE-6: a lease ends at its deadline, not a nanosecond earlier.
#[test]
fn lease_expires_at_its_deadline() {
    let (store, clock) = manual();
    clock.advance(millis(123));
    grant(&store, 7, secs(10));
    put_leased(&store, &["b", "a"], 7);
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + millis(10_123)));
    clock.advance(secs(10) - MOMENT);
    assert_eq!((all_keys(&store).len(), listed(&store)), (2, vec![7]));
    clock.advance(MOMENT);
    assert_eq!((all_keys(&store).len(), listed(&store)), (0, vec![]));
    assert_eq!(events(&store, 4), ["delete a 4", "delete b 4"]);
    assert_eq!((revision(&store), store.next_deadline()), (4, None));
}

/// R-LSE-6: leases expire by deadline, then by id. Each has its own revision, or none without keys.
#[test]
fn leases_expire_by_deadline_then_id() {
    let (store, clock) = manual();
    for (id, ttl, key) in [(9, 5, "e"), (3, 5, "c"), (-4, 5, "b"), (1, 6, "f"), (8, 4, "a"), (5, 5, "d")] {
        grant(&store, id, secs(ttl));
        put_leased(&store, &[key], id);
    }
    grant(&store, 2, secs(5));
    clock.advance(secs(60));
    let expected = ["delete a 8", "delete b 9", "delete c 10", "delete d 11", "delete e 12", "delete f 13"];
    assert_eq!((events(&store, 8), revision(&store)), (expected.map(String::from).to_vec(), 13));
}

/// R-LSE-7, R-LSE-3: each renewal restarts the TTL.
#[test]
fn keep_alive_restarts_the_ttl() {
    let (store, clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a"], 7);
    for _ in 0..5 {
        clock.advance(secs(10) - MOMENT);
        let kept = store.keep_alive(7).unwrap();
        assert_eq!(
            (kept.id(), kept.ttl(), kept.header().revision()),
            (LeaseId::new(7), Some(secs(10)), at(2))
        );
    }
    clock.advance(secs(10) - MOMENT);
    assert_eq!(all_keys(&store), ["a"]);
    clock.advance(MOMENT);
    assert_eq!(all_keys(&store).len(), 0);
}

/// R-LSE-7, R-LSE-8: for id 0 and for an unknown, expired or revoked lease, the response has no TTL and no error.
#[test]
fn keep_alive_of_missing_lease_returns_no_ttl() {
    let (store, clock) = manual();
    for id in [1, 2, 3] {
        grant(&store, id, secs(5));
    }
    put_leased(&store, &["a"], 1);
    clock.advance(secs(5) - MOMENT);
    assert_eq!(store.keep_alive(3).unwrap().ttl(), Some(secs(5)));
    store.revoke(2).unwrap();
    clock.advance(MOMENT);
    for id in [1, 2, 0, 99, -99] {
        let answer = store.keep_alive(id).unwrap();
        assert_eq!((answer.id(), answer.ttl()), (LeaseId::new(id), None));
        assert_eq!(on_wire(&store, id), (-1, 0));
    }
    assert_eq!((listed(&store), all_keys(&store).len()), (vec![3], 0));
}

/// R-LSE-10: on the wire, the time left is truncated to whole seconds. Without a clock advance it is the whole TTL.
#[test]
fn time_to_live_returns_time_left_and_keys() {
    let (store, clock) = manual();
    grant(&store, 7, secs(10));
    assert_eq!(on_wire(&store, 7), (10, 10));
    clock.advance(MOMENT);
    assert_eq!(store.time_to_live(7, false).unwrap().ttl(), Some(secs(10) - MOMENT));
    assert_eq!(on_wire(&store, 7), (9, 10));
    clock.advance(millis(9500));
    assert_eq!(on_wire(&store, 7), (0, 10));
    put_leased(&store, &["b", "a"], 7);
    let with_keys = store.time_to_live(7, true).unwrap();
    assert_eq!((with_keys.id(), with_keys.keys()), (LeaseId::new(7), &[b"a".to_vec(), b"b".to_vec()][..]));
    assert_eq!(with_keys.header().revision(), at(3));
    assert_eq!(store.time_to_live(7, false).unwrap().keys(), Vec::<Vec<u8>>::new());
    let unknown = store.time_to_live(8, true).unwrap();
    let parts = (unknown.id(), unknown.ttl(), unknown.granted_ttl(), unknown.keys().len());
    assert_eq!(parts, (LeaseId::new(8), None, None, 0));
}

/// R-LSE-11: leases are listed by the time left, then in the order of their grants. A renewal moves a lease back.
#[test]
fn leases_are_listed_by_time_left_then_grant_order() {
    let (store, clock) = manual();
    assert_eq!(listed(&store), [0; 0]);
    for (id, ttl) in [(9, 10), (3, 10), (5, 8), (-1, 10)] {
        grant(&store, id, secs(ttl));
    }
    assert_eq!(listed(&store), [5, 9, 3, -1]);
    clock.advance(secs(3));
    store.keep_alive(5).unwrap();
    assert_eq!(listed(&store), [9, 3, -1, 5]);
    store.keep_alive(9).unwrap();
    assert_eq!(listed(&store), [3, -1, 5, 9]);
    grant(&store, 4, secs(7));
    assert_eq!(listed(&store), [3, -1, 4, 5, 9], "lease 4 was granted after 3 and -1");
    store.revoke(3).unwrap();
    assert_eq!(store.leases().unwrap().header().revision(), at(1));
    assert_eq!(listed(&store), [-1, 4, 5, 9]);
}

/// R-LSE-5: keys and deadlines of an earlier lease with the id do not affect the new lease.
#[test]
fn lease_id_can_be_granted_again() {
    let (store, clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["old"], 7);
    put(&store, "stays", "v");
    store.revoke(7).unwrap();
    grant(&store, 7, secs(60));
    put_leased(&store, &["new"], 7);
    clock.advance(secs(59));
    assert_eq!((all_keys(&store), listed(&store)), (vec!["new".into(), "stays".into()], vec![7]));
    clock.advance(secs(1));
    assert_eq!(all_keys(&store), ["stays"]);
    grant(&store, 7, secs(2));
    assert_eq!(store.time_to_live(7, true).unwrap().keys().len(), 0);
    store.expire(7).unwrap();
    grant(&store, 7, secs(2));
    assert_eq!(listed(&store), [7]);
}

/// R-LSE-4: an old version of a key contains its lease id after the lease has ended.
#[test]
fn history_contains_ids_of_ended_leases() {
    let (store, _clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["a"], 7);
    store.revoke(7).unwrap();
    let old = store.get(leasehold::Get::key("a").at(2)).unwrap();
    assert_eq!(helpers::show_all(old.kvs()), ["a=v 2/2/1 #7"]);
}

/// The limits can allow leases of less than a second. Such a lease expires to the nanosecond.
#[test]
fn minimum_ttl_can_be_a_nanosecond() {
    let (store, clock) = brief_leases();
    assert_eq!(store.grant(Grant::new(Duration::ZERO).id(1)).unwrap().ttl(), MOMENT);
    for (id, nanos) in [(2, 10), (3, 20), (4, 1_000_000)] {
        assert_eq!(store.grant(Grant::new(MOMENT * nanos).id(id)).unwrap().ttl(), MOMENT * nanos);
        store.put(Put::new(format!("k{id}"), "v").lease(id)).unwrap();
    }
    clock.advance(MOMENT * 10);
    assert_eq!((listed(&store), all_keys(&store)), (vec![3, 4], vec!["k3".into(), "k4".into()]));
    assert_eq!(on_wire(&store, 4), (0, 0));
    clock.advance(MOMENT * 9);
    assert_eq!(store.time_to_live(3, false).unwrap().ttl(), Some(MOMENT));
    clock.advance(MOMENT);
    assert_eq!(listed(&store), [4]);
    let least_is_zero = Limits { min_lease_ttl: Duration::ZERO, ..Limits::default() };
    assert_eq!(manual_with(least_is_zero).0.grant(Grant::new(Duration::ZERO)).unwrap().ttl(), MOMENT);
}

/// Two thousand leases with one deadline, granted in random order, expire in the order of ids, each at its own revision.
#[test]
fn leases_with_one_deadline_expire_by_id() {
    let ((store, clock), mut random) = (manual(), Random::new(2));
    let mut ids: Vec<i64> = (-1000..=1000).filter(|&id| id != 0).collect();
    // Shuffle the ids (Fisher-Yates).
    for last in (1..ids.len()).rev() {
        ids.swap(last, random.below(last as u64 + 1) as usize);
    }
    for &id in &ids {
        grant(&store, id, secs(5));
        store.put(Put::new(format!("{id}"), "v").lease(id)).unwrap();
    }
    clock.advance(secs(5));
    ids.sort_unstable();
    let expected: Vec<String> =
        (2002..).zip(ids).map(|(revision, id)| format!("delete {id} {revision}")).collect();
    assert_eq!(events(&store, 2002), expected);
}

/// Revoked leases are removed from the queue of deadlines although the first entry of the queue stays.
///
/// The queue's length shows in the engine's debug output, which has tens of bytes for each entry.
#[test]
fn revoked_leases_are_removed_from_the_deadline_queue() {
    let mut engine = engine();
    engine.grant(&Grant::new(secs(5)).id(1)).unwrap();
    let bytes_held = engine.status().bytes_held();
    for n in 0..100_000 {
        let id = engine.grant(&Grant::new(secs(10 + n % 7))).unwrap().id();
        engine.revoke(id).unwrap();
    }
    assert_eq!((engine.status().leases(), engine.status().bytes_held()), (1, bytes_held));
    let shown = format!("{engine:?}").len();
    assert!(shown < 500_000, "the engine's debug output has {shown} bytes");
    engine.check_invariants();
    engine.advance(Timestamp::ORIGIN + secs(5));
    assert_eq!((engine.status().leases(), engine.next_deadline()), (0, None));
}

/// Renewals and pauses add no entries to the queue of deadlines either.
#[test]
fn renewals_do_not_grow_the_deadline_queue() {
    let mut engine = engine();
    for id in [1, 2, 3] {
        engine.grant(&Grant::new(secs(5)).id(id)).unwrap();
    }
    let shown = format!("{engine:?}").len();
    for n in 1..=100_000 {
        engine.advance(Timestamp::ORIGIN + MOMENT * n);
        engine.keep_alive(2.into());
        engine.resume_keep_alive(3.into()).unwrap();
        engine.pause_keep_alive(3.into()).unwrap();
    }
    let grown = format!("{engine:?}").len() - shown;
    assert!(grown < 500, "the engine's debug output grew by {grown} bytes");
    engine.check_invariants();
    assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + secs(5)));
}

/// R-LSE-10: while another thread attaches and detaches keys, a response lists the keys of one moment, in order.
#[test]
fn time_to_live_lists_keys_atomically_under_concurrent_puts() {
    let (store, _clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["stays"], 7);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..500 {
                put_leased(&store, &["a", "z"], 7);
                put(&store, "z", "detached");
                helpers::delete(&store, "a");
            }
        });
        for _ in 0..500 {
            let response = store.time_to_live(7, true).unwrap();
            let keys: Vec<String> = response.keys().iter().map(|key| helpers::text(key)).collect();
            // The other thread attaches a before z, and deletes a after z is detached.
            let expected = [&["stays"][..], &["a", "stays"], &["a", "stays", "z"]];
            assert!(expected.iter().any(|expected| keys == *expected), "{keys:?}");
        }
    });
    assert_eq!(store.time_to_live(7, true).unwrap().keys(), [b"stays"]);
}

/// R-LSE-7: a lease can be renewed and queried as soon as its grant returns, with four threads that grant.
#[test]
fn granted_lease_is_visible_to_the_next_request() {
    let (store, _clock) = manual();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let id = store.grant(Grant::new(secs(60))).unwrap().id();
                    assert_eq!(store.keep_alive(id).unwrap().ttl(), Some(secs(60)));
                    assert_eq!(store.time_to_live(id, false).unwrap().ttl(), Some(secs(60)));
                }
            });
        }
    });
    assert_eq!(listed(&store), (1..=800).collect::<Vec<_>>());
}
