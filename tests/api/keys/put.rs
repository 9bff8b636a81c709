//! Puts: revisions, versions, and leases that are kept or replaced (R-PUT-1 to R-PUT-7, R-REV-1 to R-REV-5).

use leasehold::engine::Engine;
use leasehold::response::{PutResponse, TxnOpResponse};
use leasehold::{Error, Get, LeaseId, Put, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{
    all_keys, at, delete, engine, events, grant, manual, physical, put, put_leased, revision, secs, show,
    show_all, value,
};

/// The ways to put: alone, and as the only operation of a txn. Both must have equal results.
const WAYS: [fn(&Store, Put) -> leasehold::Result<PutResponse>; 2] =
    [|store, put| store.put(put), put_in_txn];

fn put_in_txn(store: &Store, put: Put) -> leasehold::Result<PutResponse> {
    let response = store.txn(Txn::new().and_then([put]))?;
    match response.responses() {
        [TxnOpResponse::Put(put)] => Ok(put.clone()),
        other => panic!("a txn of one put returns one put response: {other:?}"),
    }
}

/// Returns the pair under a key as text.
fn shown(store: &Store, key: &'static str) -> String {
    show(&store.get(key).expect("a get of a key that is not empty succeeds").kvs()[0])
}

/// R-REV-1.
#[test]
fn new_store_is_at_revision_one() {
    let store = Store::new();
    assert_eq!(revision(&store), 1);
    assert_eq!(store.status().unwrap().compact_revision(), None);
    assert_eq!(put(&store, "a", "1"), 2);
    assert_eq!(revision(&store), 2);
}

/// R-REV-2, over one hundred puts.
#[test]
fn each_put_makes_one_revision() {
    for way in WAYS {
        let store = Store::new();
        for expected in 2..102 {
            way(&store, Put::new("foo", "bar")).unwrap();
            assert_eq!(revision(&store), expected);
        }
    }
}

/// R-REV-4: ten puts of one key, each with a different lease.
#[test]
fn put_on_live_key_keeps_create_revision_and_increments_version() {
    for way in WAYS {
        let (store, _clock) = manual();
        for n in 1..=10 {
            grant(&store, n, secs(100));
            way(&store, Put::new("foo", "bar").lease(n)).unwrap();
            assert_eq!(shown(&store, "foo"), format!("foo=bar 2/{}/{n} #{n}", n + 1));
        }
    }
}

/// R-REV-3: a put makes a revision even if the value and the lease stay equal.
#[test]
fn identical_put_makes_a_revision() {
    let store = Store::new();
    assert_eq!([put(&store, "a", "1"), put(&store, "a", "1")], [2, 3]);
    assert_eq!(shown(&store, "a"), "a=1 2/3/2");
    store.put(Put::new("a", "").ignore_value().ignore_lease()).unwrap();
    assert_eq!(shown(&store, "a"), "a=1 2/4/3");
}

/// R-REV-5, with the requests of trace B1.
#[test]
fn put_after_delete_starts_at_version_one() {
    let store = Store::new();
    for expected in 2..=4 {
        assert_eq!(put(&store, "a", "v"), expected);
    }
    assert_eq!(shown(&store, "a"), "a=v 2/4/3");
    let old = store.get(Get::key("a").at(2)).unwrap();
    assert_eq!((show_all(old.kvs()), old.header().revision()), (vec!["a=v 2/2/1".into()], at(4)));
    assert_eq!(store.get(Get::key("a").at(1)).unwrap().kvs(), []);
    assert_eq!(delete(&store, "a"), 5);
    assert_eq!(put(&store, "a", "v"), 6);
    assert_eq!(shown(&store, "a"), "a=v 6/6/1");
}

#[test]
fn each_of_ten_generations_starts_at_version_one() {
    for way in WAYS {
        let store = Store::new();
        for n in 0..10 {
            let created = 2 * n + 2;
            way(&store, Put::new("foo", "bar")).unwrap();
            assert_eq!(shown(&store, "foo"), format!("foo=bar {created}/{created}/1"));
            assert_eq!(delete(&store, "foo"), created + 1);
            let deleted = store.get("foo").unwrap();
            assert_eq!((deleted.count(), deleted.header().revision()), (0, at(created + 1)));
        }
    }
}

/// R-PUT-4.
#[test]
fn put_returns_prev_kv_only_on_request() {
    for way in WAYS {
        let store = Store::new();
        assert_eq!(way(&store, Put::new("foo", "bar").prev_kv()).unwrap().prev_kv(), None);
        let second = way(&store, Put::new("foo", "baz").prev_kv()).unwrap();
        assert_eq!(second.prev_kv().map(show).as_deref(), Some("foo=bar 2/2/1"));
        assert_eq!(second.header().revision(), at(3));
        assert_eq!(way(&store, Put::new("foo", "qux")).unwrap().prev_kv(), None);
        assert_eq!(shown(&store, "foo"), "foo=qux 2/4/3");
        delete(&store, "foo");
        assert_eq!(way(&store, Put::new("foo", "new").prev_kv()).unwrap().prev_kv(), None);
    }
}

/// R-PUT-3.
#[test]
fn ignore_value_keeps_the_value() {
    for way in WAYS {
        let (store, _clock) = manual();
        let ignoring = || Put::new("foo", "").ignore_value();
        assert_eq!(way(&store, ignoring()).unwrap_err(), Error::KeyNotFound);
        assert_eq!((revision(&store), all_keys(&store).len()), (1, 0));
        put(&store, "foo", "bar");
        grant(&store, 7, secs(10));
        let leased = way(&store, ignoring().lease(7).prev_kv()).unwrap();
        assert_eq!(leased.prev_kv().map(show).as_deref(), Some("foo=bar 2/2/1"));
        assert_eq!(shown(&store, "foo"), "foo=bar 2/3/2 #7");
        assert_eq!(way(&store, Put::new("foo", "x").ignore_value()).unwrap_err(), Error::ValueProvided);
        way(&store, ignoring()).unwrap();
        assert_eq!(shown(&store, "foo"), "foo=bar 2/4/3");
        store.revoke(7).unwrap();
        assert_eq!(
            value(&store, "foo").as_deref(),
            Some("bar"),
            "revoking lease 7 keeps a key that was detached from it"
        );
        delete(&store, "foo");
        assert_eq!(way(&store, ignoring()).unwrap_err(), Error::KeyNotFound);
    }
}

/// R-PUT-3.
#[test]
fn ignore_lease_keeps_the_lease() {
    for way in WAYS {
        let (store, _clock) = manual();
        let ignoring = |value| Put::new("foo", value).ignore_lease();
        assert_eq!(way(&store, ignoring("bar")).unwrap_err(), Error::KeyNotFound);
        grant(&store, 7, secs(10));
        put_leased(&store, &["foo"], 7);
        way(&store, ignoring("bar")).unwrap();
        assert_eq!(shown(&store, "foo"), "foo=bar 2/3/2 #7");
        assert_eq!(way(&store, ignoring("x").lease(7)).unwrap_err(), Error::LeaseProvided);
        assert_eq!(shown(&store, "foo"), "foo=bar 2/3/2 #7");
        put(&store, "foo", "detached");
        store.revoke(7).unwrap();
        assert_eq!(shown(&store, "foo"), "foo=detached 2/4/3");
    }
}

/// R-PUT-5, for a second put with an equal lease.
#[test]
fn second_put_with_equal_lease_attaches_the_key_once() {
    for way in WAYS {
        let (store, _clock) = manual();
        grant(&store, 7, secs(10));
        way(&store, Put::new("foo", "bar").lease(7)).unwrap();
        way(&store, Put::new("foo", "bar").lease(7)).unwrap();
        assert_eq!(shown(&store, "foo"), "foo=bar 2/3/2 #7");
        assert_eq!(store.time_to_live(7, true).unwrap().keys(), [b"foo"]);
        assert_eq!(store.revoke(7).unwrap().header().revision(), at(4));
        assert_eq!(events(&store, 4), ["delete foo 4"]);
    }
}

/// R-PUT-5: a key is deleted with the lease in its pair, and with no earlier lease of the key.
#[test]
fn put_with_another_lease_replaces_the_first() {
    let (store, _clock) = manual();
    for id in [1, 2] {
        grant(&store, id, secs(10));
    }
    put_leased(&store, &["foo"], 1);
    put_leased(&store, &["foo"], 2);
    assert_eq!(store.time_to_live(1, true).unwrap().keys(), Vec::<Vec<u8>>::new());
    assert_eq!(store.time_to_live(2, true).unwrap().keys(), [b"foo"]);
    assert_eq!(
        store.revoke(1).unwrap().header().revision(),
        at(3),
        "revoking a lease without keys makes no revision"
    );
    assert_eq!(shown(&store, "foo"), "foo=v 2/3/2 #2");
    assert_eq!(show_all(store.get(Get::key("foo").at(2)).unwrap().kvs()), ["foo=v 2/2/1 #1"]);
    store.revoke(2).unwrap();
    assert_eq!(value(&store, "foo"), None);
}

/// R-PUT-1, R-PUT-2: the order of the checks. A refused put has no effect (R-0-4).
#[test]
fn put_reports_the_first_failing_check() {
    let both = |key, value| Put::new(key, value).ignore_value().ignore_lease();
    let rows = [
        (both("", "x").lease(99), Error::EmptyKey),
        (both("a", "x").lease(99), Error::ValueProvided),
        (both("a", "").lease(99), Error::LeaseProvided),
        (Put::new("absent", "").lease(99).ignore_value(), Error::LeaseNotFound),
        (Put::new("a", "x").lease(99), Error::LeaseNotFound),
        (both("absent", ""), Error::KeyNotFound),
        (Put::new("absent", "x").ignore_lease(), Error::KeyNotFound),
    ];
    for way in WAYS {
        let store = Store::new();
        put(&store, "a", "1");
        for (put, expected) in rows.clone() {
            assert_eq!(way(&store, put).unwrap_err(), expected);
        }
        assert_eq!((revision(&store), all_keys(&store)), (2, vec!["a".into()]));
    }
}

/// R-PUT-2: nothing is stored. An unknown lease in the branch of a txn that is not taken is ignored.
#[test]
fn put_with_unknown_lease_returns_lease_not_found() {
    let store = Store::new();
    let leased = || Put::new("foo", "bar").lease(123_456);
    assert_eq!(store.put(leased()).unwrap_err(), Error::LeaseNotFound);
    let taken = Txn::new().and_then([TxnOp::put("other", "x"), leased().into()]);
    assert_eq!(store.txn(taken).unwrap_err(), Error::LeaseNotFound);
    assert_eq!((revision(&store), all_keys(&store).len()), (1, 0));
    let untaken = Txn::new().and_then([TxnOp::put("other", "x")]).or_else([leased()]);
    assert!(store.txn(untaken).unwrap().succeeded());
    assert_eq!(all_keys(&store), ["other"]);
}

/// R-PUT-7, and R-REV-4 for empty values.
#[test]
fn put_accepts_any_bytes_and_any_lease_id() {
    let (store, _clock) = manual();
    // Lease ids are signed, and keys and values need not be UTF-8.
    for (n, id) in [-9, -77, i64::MIN, i64::MAX].into_iter().enumerate() {
        grant(&store, id, secs(10));
        let key = vec![0xff, n as u8];
        store.put(Put::new(key.clone(), vec![0, 0xff]).lease(id)).unwrap();
        let response = store.get(key).unwrap();
        let kv = &response.kvs()[0];
        assert_eq!((kv.value(), kv.lease()), (&[0, 0xff][..], LeaseId::new(id)));
    }
    put(&store, "empty", "");
    assert_eq!(shown(&store, "empty"), "empty= 6/6/1");
    let long = vec![b'k'; 70_000];
    store.put((long.clone(), long.clone())).unwrap();
    let response = store.get(long.clone()).unwrap();
    assert_eq!((response.kvs()[0].key(), response.kvs()[0].value()), (&long[..], &long[..]));
}

/// A returned pair does not change when its key is put, deleted or compacted.
#[test]
fn returned_pair_is_immutable() {
    let store = Store::new();
    put(&store, "a", "old");
    let held = store.get("a").unwrap();
    put(&store, "a", "new");
    delete(&store, "a");
    store.compact(physical(4)).unwrap();
    assert_eq!(show_all(held.kvs()), ["a=old 2/2/1"]);
}

/// Each put allocates a record of its own length: no bytes of a longer value show in a later, shorter one.
#[test]
fn values_of_all_sizes_are_returned_whole() {
    let mut engine: Engine = engine();
    // Shrink and then grow, so that lengths follow longer and shorter ones.
    for length in (0..600).rev().chain(0..600) {
        let value: Vec<u8> = (0..length).map(|n| n as u8).collect();
        engine.put(&Put::new("k", value.clone())).unwrap();
        assert_eq!(engine.get(&"k".into()).unwrap().kvs()[0].value(), value);
    }
    engine.check_invariants();
}
