//! Txns: order of processing, compares, execution, header revisions (R-TXN-1 to R-TXN-15).
//!
//! Tests of txns that change a key twice are in `overlap.rs`.

use leasehold::response::{TxnOpResponse, TxnResponse};
use leasehold::{
    Compare, CompareOp, Error, Get, KeyRange, LeaseId, Put, SortOrder, SortTarget, Store, Txn, TxnOp,
};
use leasehold_testkit::helpers::{
    Random, all_keys, at, events, grant, keys, manual, put, revision, secs, show_all, value,
};

const EQUAL: CompareOp = CompareOp::Equal;
const GREATER: CompareOp = CompareOp::Greater;
const LESS: CompareOp = CompareOp::Less;
const NOT_EQUAL: CompareOp = CompareOp::NotEqual;

fn holds(store: &Store, compare: Compare) -> bool {
    store.txn(Txn::new().when([compare])).expect("a txn of compares alone is valid").succeeded()
}

fn then(operations: impl IntoIterator<Item = TxnOp>) -> Txn {
    Txn::new().and_then(operations)
}

/// Returns each response's header revision. A nested txn's is followed by its inner revisions in brackets.
fn inner_revisions(response: &TxnResponse) -> String {
    let shown: Vec<String> = response.responses().iter().map(inner_revision).collect();
    shown.join(" ")
}

fn inner_revision(response: &TxnOpResponse) -> String {
    let header = match response {
        TxnOpResponse::Get(get) => get.header(),
        TxnOpResponse::Put(put) => put.header(),
        TxnOpResponse::Delete(delete) => delete.header(),
        TxnOpResponse::Txn(txn) => {
            return format!("{}[{}]", txn.header().revision(), inner_revisions(txn));
        }
        other => panic!("unknown kind: {other:?}"),
    };
    assert_eq!(
        (header.cluster_id(), header.member_id(), header.raft_term()),
        (0, 0, 0),
        "an inner header has only its revision set"
    );
    header.revision().to_string()
}

/// Returns the pairs of each get.
fn reads(response: &TxnResponse) -> Vec<Vec<String>> {
    let read = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(get) => Some(show_all(get.kvs())),
        _ => None,
    };
    response.responses().iter().filter_map(read).collect()
}

/// R-REV-3: reads and deletes of absent keys make no revision.
#[test]
fn txn_without_changes_makes_no_revision() {
    let store = Store::new();
    put(&store, "abc", "def");
    let rows = [
        (then([]), 2),
        (then([TxnOp::get("abc")]), 2),
        (then([TxnOp::delete("def")]), 2),
        (then([then([TxnOp::get("abc")]).into(), TxnOp::delete("x")]), 2),
        (then([TxnOp::put("abc", "123")]), 3),
        (then([TxnOp::put("a", "1"), TxnOp::put("b", "1"), TxnOp::delete("abc")]), 4),
        (then([then([then([TxnOp::put("c", "1")]).into(), TxnOp::put("d", "1")]).into()]), 5),
        (Txn::new().or_else([TxnOp::put("never", "1")]), 5),
    ];
    for (txn, expected) in rows {
        let response = store.txn(txn.clone()).unwrap();
        assert!(response.succeeded(), "an empty list of compares holds");
        assert_eq!((response.header().revision(), revision(&store)), (at(expected), expected), "{txn:?}");
    }
    let header = *store.txn(Txn::new()).unwrap().header();
    assert_eq!((header.cluster_id(), header.member_id(), header.raft_term()), (1, 1, 1));
}

/// R-REV-7, R-TXN-12, with the requests of trace B5.
#[test]
fn operation_sees_changes_of_earlier_operations() {
    let store = Store::new();
    put(&store, "before", "x");
    let response = store
        .txn(then([
            TxnOp::get("w/a"),
            TxnOp::put("w/a", "1"),
            TxnOp::get("w/a"),
            Get::prefix("w/").count_only().into(),
            TxnOp::delete("w/zzz"),
            Get::key("w/a").at(2).into(),
            then([TxnOp::get("w/a"), TxnOp::put("w/b", "2")]).into(),
            TxnOp::get(KeyRange::prefix("w/")),
        ]))
        .unwrap();
    assert_eq!(inner_revisions(&response), "2 3 3 3 3 3 0[3 3] 3");
    let w_a = "w/a=1 3/3/1".to_string();
    let expected = [vec![], vec![w_a.clone()], vec![], vec![], vec![w_a, "w/b=2 3/3/1".into()]];
    assert_eq!(reads(&response), expected);
    assert_eq!(response.header().revision(), at(3));
    assert!(matches!(&response.responses()[3], TxnOpResponse::Get(counted) if counted.count() == 1));
    assert!(matches!(&response.responses()[4], TxnOpResponse::Delete(delete) if delete.deleted() == 0));
}

/// R-REV-7: the response of a delete before any change has the revision before the txn.
#[test]
fn header_before_the_first_change_has_the_earlier_revision() {
    let store = Store::new();
    put(&store, "a", "1");
    let response = store.txn(then([
        TxnOp::delete("none"),
        TxnOp::get("a"),
        TxnOp::delete("a"),
        TxnOp::get("a"),
        TxnOp::delete("a"),
    ]));
    assert_eq!(inner_revisions(&response.unwrap()), "2 2 3 3 3");
}

/// R-TXN-15.
#[test]
fn get_in_a_txn_supports_all_options() {
    let store = Store::new();
    for key in ["a", "b", "c"] {
        put(&store, key, "v");
    }
    let newest = Get::all().sort(SortTarget::ModRevision, SortOrder::Descend).limit(2).min_mod_revision(3);
    let response = store.txn(then([TxnOp::put("b", "w"), newest.into()])).unwrap();
    assert!(matches!(&response.responses()[1], TxnOpResponse::Get(get)
        if keys(get.kvs()) == ["b", "c"] && !get.more() && get.count() == 3));
    let response = store.txn(then([TxnOp::put("b", "x"), Get::all().limit(1).keys_only().into()])).unwrap();
    assert!(matches!(&response.responses()[1], TxnOpResponse::Get(get)
        if show_all(get.kvs()) == ["a= 2/2/1"] && get.more() && get.count() == 3));
}

/// R-TXN-7. The keys are named after their create revisions.
#[test]
fn compare_of_a_range_holds_if_every_key_satisfies_it() {
    let store = Store::new();
    for key in ["r/2", "r/3", "r/4", "s/5"] {
        put(&store, key, "x");
    }
    let (from, prefix) = (|| KeyRange::from_key("r/"), || KeyRange::prefix("r/"));
    let rows = [
        (Compare::create_revision(from(), LESS, 6), true),
        (Compare::create_revision(from(), LESS, 5), false),
        (Compare::create_revision(prefix(), LESS, 5), true),
        (Compare::create_revision(prefix(), LESS, 4), false),
        (Compare::value(KeyRange::prefix("q/"), EQUAL, "x"), false),
        (Compare::value(prefix(), EQUAL, "x"), true),
        (Compare::value(from(), NOT_EQUAL, "y"), true),
        (Compare::lease(prefix(), GREATER, 0), false),
        (Compare::lease(prefix(), EQUAL, 0), true),
        (Compare::mod_revision(prefix(), GREATER, 1), true),
        (Compare::mod_revision(prefix(), GREATER, 2), false),
        (Compare::version(from(), EQUAL, 1), true),
    ];
    for (compare, expected) in rows {
        assert_eq!(holds(&store, compare.clone()), expected, "{compare:?}");
    }
    put(&store, "r/3", "y");
    assert!(!holds(&store, Compare::value(prefix(), EQUAL, "x")));
    assert!(!holds(&store, Compare::version(prefix(), EQUAL, 1)));
}

/// R-TXN-8.
#[test]
fn compare_of_absent_key_uses_zeros_and_no_value() {
    let store = Store::new();
    put(&store, "deleted", "v");
    store.delete("deleted").unwrap();
    for range in [KeyRange::key("absent"), KeyRange::key("deleted"), KeyRange::prefix("none/")] {
        for op in [EQUAL, NOT_EQUAL, GREATER, LESS] {
            for value in ["", "x"] {
                assert!(!holds(&store, Compare::value(range.clone(), op, value)), "{op:?} {value:?}");
            }
        }
        let numbers = |op, number| {
            [
                Compare::version(range.clone(), op, number),
                Compare::create_revision(range.clone(), op, number),
                Compare::mod_revision(range.clone(), op, number),
                Compare::lease(range.clone(), op, number),
            ]
        };
        let rows = [
            (EQUAL, 0, true),
            (EQUAL, 1, false),
            (NOT_EQUAL, 5, true),
            (NOT_EQUAL, 0, false),
            (GREATER, 0, false),
            (GREATER, -1, true),
            (LESS, 1, true),
            (LESS, 0, false),
        ];
        for (op, number, expected) in rows {
            for compare in numbers(op, number) {
                assert_eq!(holds(&store, compare.clone()), expected, "{compare:?}");
            }
        }
    }
}

/// R-TXN-9, R-TXN-10: a compare holds if `stored OP operand` is true. Values are compared bytewise.
#[test]
fn compare_applies_operator_to_stored_value_and_operand() {
    let (store, _clock) = manual();
    grant(&store, 7, secs(10));
    // Byte 0x80 is above 0x7f only if bytes are unsigned.
    store.put(("k", &b"b\x80"[..])).unwrap();
    store.put(Put::new("k", &b"b\x80"[..]).lease(7)).unwrap();
    put(&store, "empty", "");
    let value = |op, operand: &'static [u8]| Compare::value("k", op, operand);
    let rows = [
        (value(EQUAL, b"b\x80"), true),
        (value(EQUAL, b"b"), false),
        (value(GREATER, b"b"), true),
        (value(GREATER, b"b\x7f"), true),
        (value(LESS, b"b\x80\0"), true),
        (value(LESS, b"b\x80"), false),
        (value(NOT_EQUAL, b""), true),
        (Compare::value("empty", EQUAL, ""), true),
        (Compare::value("empty", LESS, "\0"), true),
        (Compare::version("k", EQUAL, 2), true),
        (Compare::version("k", GREATER, 2), false),
        (Compare::create_revision("k", EQUAL, 2), true),
        (Compare::mod_revision("k", EQUAL, 3), true),
        (Compare::mod_revision("k", LESS, at(4)), true),
        (Compare::lease("k", EQUAL, LeaseId::new(7)), true),
        (Compare::lease("k", NOT_EQUAL, 7), false),
        (Compare::lease("k", LESS, i64::MAX), true),
    ];
    for (compare, expected) in rows {
        assert_eq!(holds(&store, compare.clone()), expected, "{compare:?}");
    }
}

/// R-TXN-11.
#[test]
fn compare_from_wire_accepts_unknown_numbers() {
    let store = Store::new();
    put(&store, "k", "v");
    let wire = |result, target, number, value: &'static str| {
        Compare::from_wire(KeyRange::key("k"), result, target, number, value)
    };
    let rows = [
        (wire(0, 0, 1, ""), Compare::version("k", EQUAL, 1), true),
        (wire(1, 1, 1, ""), Compare::create_revision("k", GREATER, 1), true),
        (wire(2, 2, 2, ""), Compare::mod_revision("k", LESS, 2), false),
        (wire(3, 3, 0, "v"), Compare::value("k", NOT_EQUAL, "v"), false),
        (wire(0, 4, 0, "v"), Compare::lease("k", EQUAL, 0), true),
    ];
    for (from_wire, named, expected) in rows {
        assert_eq!(from_wire, named);
        assert_eq!(holds(&store, named), expected);
    }
    for unknown in [4, -1] {
        assert!(holds(&store, wire(unknown, 0, 99, "")), "a compare with an unknown result holds");
        assert_eq!(CompareOp::from_wire(unknown), CompareOp::Unrecognized);
    }
    for (result, expected) in [(0, true), (1, false), (2, false), (3, false)] {
        assert_eq!(holds(&store, wire(result, 5, 99, "x")), expected, "an unknown target compares as equal");
    }
}

/// R-TXN-6.
#[test]
fn one_false_compare_selects_the_failure_branch() {
    let store = Store::new();
    put(&store, "key1", "abc");
    put(&store, "key2", "efg");
    let (yes, no) = (Compare::value("key1", EQUAL, "abc"), Compare::value("key2", NOT_EQUAL, "efg"));
    let branches =
        |txn: Txn| txn.and_then([TxnOp::put("result", "success")]).or_else([TxnOp::put("result", "failure")]);
    assert!(store.txn(branches(Txn::new().when([yes.clone(), yes.clone()]))).unwrap().succeeded());
    assert_eq!(value(&store, "result").as_deref(), Some("success"));
    assert!(!store.txn(branches(Txn::new().when([yes, no.clone()]))).unwrap().succeeded());
    assert_eq!(value(&store, "result").as_deref(), Some("failure"));
    let no_failure = store.txn(Txn::new().when([no]).and_then([TxnOp::put("result", "never")])).unwrap();
    assert_eq!((no_failure.succeeded(), no_failure.responses(), revision(&store)), (false, &[][..], 5));
}

/// R-TXN-13, R-TXN-14, with the requests of trace B4.
#[test]
fn nested_compares_see_the_state_before_the_txn() {
    let store = Store::new();
    put(&store, "n1", "old");
    put(&store, "c/1", "x");
    let nested = Txn::new()
        .when([Compare::value("n1", EQUAL, "new")])
        .and_then([TxnOp::get("n1")])
        .or_else([TxnOp::get("c/1")]);
    let response = store.txn(then([TxnOp::put("n1", "new"), nested.into()])).unwrap();
    assert!(matches!(&response.responses()[1], TxnOpResponse::Txn(inner)
        if !inner.succeeded() && reads(inner) == [["c/1=x 3/3/1"]]));
    assert_eq!(inner_revisions(&response), "4 0[4]");
}

#[test]
fn outer_and_nested_changes_share_one_revision() {
    let store = Store::new();
    let response = store.txn(then([
        TxnOp::put("foo", "bar"),
        then([TxnOp::put("abc", "123"), TxnOp::get("foo")]).into(),
        TxnOp::put("last", "x"),
    ]));
    assert_eq!(inner_revisions(&response.unwrap()), "2 0[2 2] 2");
    assert_eq!(events(&store, 2), ["put foo=bar 2/2/1", "put abc=123 2/2/1", "put last=x 2/2/1"]);
}

/// Ten nested txns, each with a random compare whose outcome is known. The txns of the selected branches run.
#[test]
fn nested_compares_select_their_branches() {
    let (store, mut random) = (Store::new(), Random::new(11));
    put(&store, "k", "v");
    for _ in 0..200 {
        let path: Vec<bool> = (0..10).map(|_| random.one_in(2)).collect();
        let txn = path.iter().rev().fold(Txn::new(), |inner, &taken| {
            // Key k has version 1, so the compare holds exactly if `taken` is true.
            let version = Compare::version("k", EQUAL, i64::from(taken));
            let (with, without) = (vec![TxnOp::Txn(inner)], vec![TxnOp::put("never", "x")]);
            let (success, failure) = if taken { (with, without) } else { (without, with) };
            Txn::new().when([version]).and_then(success).or_else(failure)
        });
        let mut response = store.txn(txn).unwrap();
        for &taken in &path {
            assert_eq!(response.succeeded(), taken);
            let TxnOpResponse::Txn(inner) = response.responses()[0].clone() else {
                panic!("the only response is one of a nested txn");
            };
            response = inner;
        }
        assert_eq!((response.succeeded(), response.responses()), (true, &[][..]));
    }
    assert_eq!((revision(&store), all_keys(&store)), (2, vec!["k".into()]));
}

/// R-REV-9: the requested revision is taken literally and checked against the state before the txn.
#[test]
fn get_at_a_revision_in_a_txn_is_checked_before_its_changes() {
    let store = Store::new();
    put(&store, "k", "1");
    put(&store, "k", "2");
    let read = |revision| then([TxnOp::put("k", "3"), Get::key("k").at(revision).into()]);
    let future = |requested| Err(Error::FutureRevision { requested: at(requested), current: at(3) });
    assert_eq!(store.txn(read(4)), future(4), "the revision that the txn makes cannot be read in it");
    assert_eq!(store.txn(read(-2)), Err(Error::Compacted { requested: at(-2), compacted: None }));
    assert_eq!(store.txn(read(100)), future(100));
    assert_eq!(revision(&store), 3, "a refused txn makes no revision");
    for (requested, expected) in [(3, "k=2 2/3/2"), (2, "k=1 2/2/1")] {
        assert_eq!(reads(&store.txn(then([Get::key("k").at(requested).into()])).unwrap()), [[expected]]);
    }
    assert_eq!(
        reads(&store.txn(read(-1)).unwrap()),
        [["k=3 2/4/3"]],
        "revision -1 is the latest before any compaction"
    );
    store.compact(3).unwrap();
    let compacted = |requested| Err(Error::Compacted { requested: at(requested), compacted: Some(at(3)) });
    assert_eq!([store.txn(read(2)), store.txn(read(-1))], [compacted(2), compacted(-1)]);
    assert_eq!(reads(&store.txn(read(0)).unwrap()), [["k=3 2/5/4"]]);
    assert_eq!(reads(&store.txn(read(3)).unwrap()), [["k=2 2/3/2"]]);
}

/// R-TXN-4, R-0-4: the taken path is checked depth first in the order of operations. The other branch is not checked.
#[test]
fn failing_check_on_the_taken_path_refuses_the_txn() {
    let store = Store::new();
    put(&store, "k", "v");
    put(&store, "k", "v");
    store.compact(2).unwrap();
    let future = TxnOp::from(Get::key("k").at(100));
    let old = TxnOp::from(Get::key("k").at(1));
    let unleased = TxnOp::from(Put::new("k", "x").lease(9));
    let keyless = TxnOp::from(Put::new("absent", "").ignore_value());
    let (is_future, is_old) = (
        Error::FutureRevision { requested: at(100), current: at(3) },
        Error::Compacted { requested: at(1), compacted: Some(at(2)) },
    );
    let nested = |op: &TxnOp| TxnOp::from(then([op.clone()]));
    let rows = [
        (vec![future.clone(), old.clone()], is_future.clone()),
        (vec![old.clone(), future.clone()], is_old.clone()),
        (vec![unleased.clone(), keyless.clone(), old.clone()], Error::LeaseNotFound),
        (vec![keyless.clone(), unleased.clone()], Error::KeyNotFound),
        (vec![nested(&future), unleased], is_future),
        (vec![nested(&nested(&old)), keyless.clone()], is_old),
        (vec![Put::new("absent", "").lease(9).ignore_value().into()], Error::LeaseNotFound),
    ];
    for (operations, expected) in rows {
        let writing = then([TxnOp::put("other", "x")]).and_then(operations.clone());
        assert_eq!(store.txn(writing).unwrap_err(), expected, "{operations:?}");
        let untaken = Txn::new().and_then([TxnOp::get("k")]).or_else(operations.clone());
        let nested_untaken = then([untaken.clone().into()]);
        assert!(store.txn(untaken).unwrap().succeeded());
        assert!(store.txn(nested_untaken).unwrap().succeeded());
    }
    assert_eq!((revision(&store), all_keys(&store)), (3, vec!["k".into()]));
    // The check uses the state before the txn, so an earlier put in the txn does not make the key exist for it.
    let created_before = then([TxnOp::put("absent", "x"), then([keyless]).into()]);
    assert_eq!(store.txn(created_before).unwrap_err(), Error::DuplicateKey);
}
