//! Deletes: counts, previous pairs, tombstones (R-DEL-1 to R-DEL-3).

use leasehold::response::{DeleteResponse, TxnOpResponse};
use leasehold::{Delete, Error, Get, KeyRange, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{
    Random, all_keys, at, delete, events, grant, keys, manual, put, put_leased, revision, secs, show_all,
};

/// The ways to delete: alone, and as the only operation of a txn. Both must have equal results.
const WAYS: [fn(&Store, Delete) -> leasehold::Result<DeleteResponse>; 2] =
    [|store, delete| store.delete(delete), delete_in_txn];

fn delete_in_txn(store: &Store, delete: Delete) -> leasehold::Result<DeleteResponse> {
    let response = store.txn(Txn::new().and_then([delete]))?;
    match response.responses() {
        [TxnOpResponse::Delete(delete)] => Ok(delete.clone()),
        other => panic!("a txn of one delete returns one delete response: {other:?}"),
    }
}

fn store_of(keys: &[&'static str]) -> Store {
    let store = Store::new();
    for &key in keys {
        put(&store, key, "v");
    }
    store
}

/// R-DEL-1, R-DEL-2, and R-REV-3: a delete of no keys makes no revision.
#[test]
fn delete_removes_the_keys_in_its_range() {
    let all = ["a", "b", "c", "c/abc", "d"];
    let rows: [(Delete, i64, &[&str]); 13] = [
        (Delete::prefix(""), 5, &[]),
        (Delete::range(KeyRange::from_key("")), 5, &[]),
        (Delete::range(KeyRange::all()), 5, &[]),
        (Delete::range(KeyRange::between("a", "c")), 2, &["c", "c/abc", "d"]),
        (Delete::key("c"), 1, &["a", "b", "c/abc", "d"]),
        (Delete::prefix("c"), 2, &["a", "b", "d"]),
        (Delete::range(KeyRange::from_key("c")), 3, &["a", "b"]),
        (Delete::key("e"), 0, &all),
        (Delete::range(KeyRange::between("c", "a")), 0, &all),
        (Delete::range(KeyRange::between("a", "a")), 0, &all),
        (Delete::range(KeyRange::from_wire("a", "\0\0")), 0, &all),
        (Delete::range(KeyRange::between("a", "d")), 4, &["d"]),
        (Delete::range(KeyRange::between("d", "dd")), 1, &["a", "b", "c", "c/abc"]),
    ];
    for way in WAYS {
        for (delete, deleted, left) in rows.clone() {
            let store = store_of(&all);
            let response = way(&store, delete.clone()).unwrap();
            assert_eq!(
                (response.deleted(), all_keys(&store)),
                (deleted, left.iter().map(ToString::to_string).collect())
            );
            // Five puts make the revisions 2 to 6.
            let expected = if deleted > 0 { 7 } else { 6 };
            assert_eq!(
                (response.header().revision(), revision(&store)),
                (at(expected), expected),
                "{delete:?}"
            );
            assert_eq!(response.prev_kvs(), [], "previous pairs are returned on request only");
        }
    }
}

/// R-DEL-2, R-DEL-3: previous pairs are in ascending key order, independent of the order of the puts.
#[test]
fn delete_returns_prev_kvs_in_key_order_on_request() {
    for way in WAYS {
        let store = store_of(&["c", "a", "b", "d", "b"]);
        let response = way(&store, Delete::range(KeyRange::between("a", "d")).prev_kv()).unwrap();
        assert_eq!(show_all(response.prev_kvs()), ["a=v 3/3/1", "b=v 4/6/2", "c=v 2/2/1"]);
        assert_eq!(response.deleted(), 3);
        assert_eq!(events(&store, 7), ["delete a 7", "delete b 7", "delete c 7"]);
        let nothing = way(&store, Delete::prefix("a").prev_kv()).unwrap();
        assert_eq!((nothing.deleted(), nothing.prev_kvs().len()), (0, 0));
    }
}

#[test]
fn second_delete_deletes_nothing() {
    for way in WAYS {
        let store = store_of(&["foo"]);
        assert_eq!(way(&store, "foo".into()).unwrap().deleted(), 1);
        for _ in 0..10 {
            let again = way(&store, "foo".into()).unwrap();
            assert_eq!((again.deleted(), again.header().revision()), (0, at(3)));
        }
        assert_eq!(events(&store, 1), ["put foo=v 2/2/1", "delete foo 3"]);
    }
}

/// R-DEL-1: an empty key is an error with any range end.
#[test]
fn delete_of_empty_key_returns_empty_key() {
    let store = store_of(&["a"]);
    for way in WAYS {
        for end in ["", "\0", "b"] {
            let refused = way(&store, Delete::range(KeyRange::from_wire("", end)));
            assert_eq!(refused.unwrap_err(), Error::EmptyKey);
        }
    }
    assert_eq!((revision(&store), all_keys(&store)), (2, vec!["a".into()]));
}

#[test]
fn get_at_earlier_revision_returns_deleted_keys() {
    let store = store_of(&["a", "b"]);
    store.delete(Delete::range(KeyRange::all())).unwrap();
    assert_eq!(keys(store.get(Get::all().at(3)).unwrap().kvs()), ["a", "b"]);
    assert_eq!(store.get(Get::all().at(4)).unwrap().count(), 0);
    assert_eq!(store.get(Get::all()).unwrap().header().revision(), at(4));
}

/// R-DEL-3: the lease itself stays alive.
#[test]
fn deleted_key_is_detached_from_its_lease() {
    let (store, clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a", "b", "c"], 7);
    store.delete("b").unwrap();
    assert_eq!(store.time_to_live(7, true).unwrap().keys(), [b"a", b"c"]);
    put(&store, "b", "mine");
    store.delete(Delete::range(KeyRange::between("a", "b"))).unwrap();
    clock.advance(secs(10));
    assert_eq!(all_keys(&store), ["b"]);
    assert_eq!(events(&store, 8), ["delete c 8"]);
    assert_eq!(store.leases().unwrap().leases(), []);
}

/// Of a thousand random puts and deletes, the last one of each key decides whether the key is present.
#[test]
fn random_puts_and_deletes_leave_the_expected_keys() {
    const KEYS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let (store, mut random) = (Store::new(), Random::new(3));
    let mut expected = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let key = random.pick(&KEYS);
        let before = revision(&store);
        if random.one_in(2) {
            put(&store, key, "v");
            expected.insert(key.to_string());
        } else {
            let deletes = i64::from(expected.remove(key));
            assert_eq!(delete(&store, key), before + deletes);
        }
    }
    assert_eq!(all_keys(&store), expected.into_iter().collect::<Vec<_>>());
}

/// Each delete of a txn counts the keys that are left by the operations before it.
#[test]
fn deletes_in_a_txn_see_earlier_deletes() {
    let store = store_of(&["a", "b"]);
    let both = Txn::new().and_then([TxnOp::delete("a"), TxnOp::delete(KeyRange::all()), TxnOp::delete("a")]);
    let response = store.txn(both).unwrap();
    let deleted: Vec<i64> = response.responses().iter().map(deleted_of).collect();
    assert_eq!((deleted, response.header().revision()), (vec![1, 1, 0], at(4)));
    assert_eq!(events(&store, 4), ["delete a 4", "delete b 4"]);
}

fn deleted_of(response: &TxnOpResponse) -> i64 {
    match response {
        TxnOpResponse::Delete(delete) => delete.deleted(),
        other => panic!("the response to a delete is a delete: {other:?}"),
    }
}
