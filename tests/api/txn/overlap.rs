//! Txns that change a key twice, allowed and refused (R-TXN-16 to R-TXN-22).

use leasehold::{Delete, Error, Get, KeyRange, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{self, all_keys, events, put, revision};

fn put_op(key: &'static str) -> TxnOp {
    TxnOp::put(key, "new")
}

fn del(key: &'static str) -> TxnOp {
    TxnOp::delete(key)
}

fn del_range(start: &'static str, end: &'static str) -> TxnOp {
    Delete::range(KeyRange::from_wire(start, end)).into()
}

fn nest(success: impl IntoIterator<Item = TxnOp>) -> TxnOp {
    Txn::new().and_then(success).into()
}

fn nest_both(success: TxnOp, failure: TxnOp) -> TxnOp {
    Txn::new().and_then([success]).or_else([failure]).into()
}

/// Tries a list as success branch and as failure branch, with equal results (R-TXN-16), and nested (R-TXN-17).
#[track_caller]
fn assert_overlaps(operations: Vec<TxnOp>, overlaps: bool) {
    let txns = [
        Txn::new().and_then(operations.clone()),
        Txn::new().or_else(operations.clone()),
        Txn::new().and_then([nest(operations.clone())]),
        Txn::new().or_else([Txn::new().or_else(operations)]),
    ];
    for txn in txns {
        let store = Store::new();
        put(&store, "abc", "old");
        let answer = store.txn(txn.clone()).map(|_| ());
        assert_eq!(answer, if overlaps { Err(Error::DuplicateKey) } else { Ok(()) }, "{txn:?}");
        if overlaps {
            assert_eq!((revision(&store), all_keys(&store)), (2, vec!["abc".into()]));
        }
    }
}

/// R-TXN-18.
#[test]
fn put_overlaps_puts_and_deletes_of_its_list() {
    let rows = [
        (vec![put_op("abc"), put_op("abc")], true),
        (vec![put_op("abc"), del("abc")], true),
        (vec![del("abc"), put_op("abc")], true),
        (vec![put_op("abc"), del_range("a", "b")], true),
        (vec![del_range("a", "b"), put_op("abc")], true),
        (vec![put_op("abc"), put_op("abd"), put_op("abc")], true),
        (vec![put_op("abc"), put_op("abd")], false),
        (vec![put_op("abc"), del_range("abb", "abc")], false),
        (vec![put_op("abc"), del_range("abc\0", "abd")], false),
        (vec![del("abc"), del_range("a", "b"), del("abc"), del_range("a", "b")], false),
        (vec![put_op("abc"), Get::all().into(), TxnOp::get("abc")], false),
        (vec![Get::all().into(), del_range("a", "b"), TxnOp::get("abc")], false),
    ];
    for (operations, overlaps) in rows {
        assert_overlaps(operations, overlaps);
    }
}

/// R-TXN-18: an outer and a nested operation overlap in either order and in either branch.
#[test]
fn outer_operation_overlaps_nested_ones() {
    let rows = [
        (vec![put_op("abc"), nest([del_range("a", "b")])], true),
        (vec![del_range("a", "b"), nest([put_op("abc")])], true),
        (vec![nest([put_op("abc")]), del_range("a", "b")], true),
        (vec![nest([del("abc")]), put_op("abc")], true),
        (vec![put_op("abc"), nest([put_op("abc")])], true),
        (vec![nest([put_op("abc")]), put_op("abc")], true),
        (vec![put_op("abc"), nest_both(TxnOp::get("x"), put_op("abc"))], true),
        (vec![put_op("abc"), nest_both(TxnOp::get("x"), del("abc"))], true),
        (vec![put_op("abc"), nest([nest([nest([put_op("abc")])])])], true),
        (vec![del_range("abb", "abc"), nest_both(put_op("abc"), put_op("abc"))], false),
        (vec![del("abc"), nest([del("abc")])], false),
        (vec![put_op("abc"), nest([put_op("abd"), TxnOp::get("abc")])], false),
    ];
    for (operations, overlaps) in rows {
        assert_overlaps(operations, overlaps);
    }
}

/// R-TXN-18: at most one of the two branches of a nested txn runs.
#[test]
fn branches_of_one_nested_txn_do_not_overlap() {
    let rows = [
        (vec![nest_both(put_op("abc"), put_op("abc"))], false),
        (vec![nest_both(put_op("abc"), del("abc"))], false),
        (vec![nest_both(del("abc"), put_op("abc"))], false),
        (vec![nest_both(nest([put_op("abc")]), nest([put_op("abc")]))], false),
        (vec![nest_both(put_op("abd"), nest([put_op("abc"), put_op("abc")]))], true),
    ];
    for (operations, overlaps) in rows {
        assert_overlaps(operations, overlaps);
    }
}

/// R-TXN-18, R-TXN-19: a nested delete overlaps puts of later siblings, and not puts of earlier ones.
#[test]
fn delete_overlaps_puts_of_later_siblings_only() {
    let rows = [
        (vec![nest([put_op("abc")]), nest([put_op("abc")])], true),
        (vec![nest_both(put_op("abc"), put_op("abc")), nest_both(put_op("abc"), put_op("abc"))], true),
        (vec![nest([put_op("abc")]), nest_both(TxnOp::get("x"), put_op("abc"))], true),
        (vec![nest_both(TxnOp::get("x"), put_op("abc")), nest([put_op("abc")])], true),
        (vec![nest([del("abc")]), nest([put_op("abc")])], true),
        (vec![nest_both(TxnOp::get("x"), del_range("a", "b")), nest([put_op("abc")])], true),
        (vec![nest([put_op("abc")]), nest([del("abc")])], false),
        (vec![nest([put_op("abc")]), nest([del_range("a", "b")])], false),
        (vec![nest([del_range("a", "b")]), nest_both(del_range("a", "b"), del_range("a", "b"))], false),
        (vec![nest([put_op("abc")]), nest([put_op("abd")])], false),
    ];
    for (operations, overlaps) in rows {
        assert_overlaps(operations, overlaps);
    }
}

/// R-TXN-20, R-TXN-22.
#[test]
fn delete_without_upper_end_or_keys_does_not_overlap() {
    let rows = [
        (vec![del_range("a", "\0"), put_op("abc")], false),
        (vec![put_op("abc"), del_range("\0", "\0")], false),
        (vec![del_range("b", "a"), put_op("abc")], false),
        (vec![del_range("abc", "abc"), put_op("abc")], false),
        (vec![del("abc\0"), put_op("abc")], false),
        (vec![del("abc"), put_op("abc\0")], false),
        (vec![del_range("abc", "\0\0"), put_op("abc")], false),
        (vec![del_range("\0", "\0\0"), put_op("\0")], true),
        (vec![nest([del_range("a", "\0")]), nest([put_op("abc")])], false),
    ];
    for (operations, overlaps) in rows {
        assert_overlaps(operations, overlaps);
    }
}

/// R-REV-6, with the requests of trace B3: a put and a delete at one revision leave the key absent.
#[test]
fn put_then_delete_by_siblings_leaves_key_absent() {
    let store = Store::new();
    let response = store.txn(Txn::new().and_then([nest([put_op("a")]), nest([del("a")])])).unwrap();
    assert_eq!(response.header().revision().get(), 2);
    assert_eq!(events(&store, 2), ["put a=new 2/2/1", "delete a 2"]);
    assert_eq!(store.get("a").unwrap().count(), 0);
    assert_eq!(store.get(Get::key("a").at(2)).unwrap().count(), 0);
    // In the other order, the delete overlaps the later put (R-TXN-19).
    let reversed = Txn::new().and_then([nest([del("a")]), nest([put_op("a")])]);
    assert_eq!(store.txn(reversed).unwrap_err(), Error::DuplicateKey);
}

/// R-REV-5, R-REV-6, with the requests of trace B2: a put after a delete at one revision starts at version 1.
#[test]
fn delete_then_put_in_one_txn_starts_at_version_one() {
    let store = Store::new();
    for value in ["1", "2"] {
        put(&store, "a", value);
    }
    put(&store, "b", "x");
    let response = store.txn(Txn::new().and_then([del_range("a", "\0"), put_op("a")])).unwrap();
    assert_eq!(response.header().revision().get(), 5);
    assert_eq!(events(&store, 5), ["delete a 5", "delete b 5", "put a=new 5/5/1"]);
    assert_eq!(helpers::show_all(store.get(Get::all()).unwrap().kvs()), ["a=new 5/5/1"]);
    assert_eq!(helpers::show_all(store.get(Get::all().at(4)).unwrap().kvs()), ["a=2 2/3/2", "b=x 4/4/1"]);
}
