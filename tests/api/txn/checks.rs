//! Checks of a txn that do not depend on the state: the number of operations and each operation alone (R-TXN-2, R-TXN-3).
//!
//! Errors that only the execution can find (R-TXN-5) are here too.

use leasehold::{
    Compare, CompareOp, Delete, Error, Get, KeyRange, Limits, Put, Revision, SortOrder, SortTarget, Store,
    Txn, TxnOp,
};
use leasehold_testkit::helpers::{
    self, Random, all_keys, engine, events, grant, manual, put, put_leased, revision, secs, show_all,
};

fn puts(prefix: &str, count: usize) -> Vec<TxnOp> {
    (0..count).map(|n| TxnOp::put(format!("{prefix}{n}"), "v")).collect()
}

fn compares(count: usize) -> Vec<Compare> {
    (0..count).map(|n| Compare::create_revision(format!("k{n}"), CompareOp::Equal, 0)).collect()
}

fn nested(count: usize, inner: impl Fn(usize) -> Txn) -> Vec<TxnOp> {
    (0..count).map(|n| TxnOp::Txn(inner(n))).collect()
}

fn then(operations: Vec<TxnOp>) -> Txn {
    Txn::new().and_then(operations)
}

/// Returns a chain of nested txns. The innermost is empty.
fn chain(levels: usize) -> Txn {
    (1..levels).fold(Txn::new(), |inner, _| then(vec![inner.into()]))
}

/// R-TXN-3: 128 operations of each kind are accepted, and 129 of any are not. A nested txn has the rest of its parent's budget.
#[test]
fn txn_with_too_many_operations_for_its_budget_is_refused() {
    let store = Store::new();
    let full = Txn::new().when(compares(128)).and_then(puts("s", 128)).or_else(puts("f", 128));
    let under = |siblings: usize, inner: Txn| {
        let mut operations = puts("o", siblings);
        operations.push(inner.into());
        then(operations)
    };
    let rows = [
        (full, true),
        (Txn::new().when(compares(129)), false),
        (then(puts("s", 129)), false),
        (Txn::new().or_else(puts("f", 129)), false),
        (then(nested(129, |n| then(puts(&format!("{n}/"), 1)))), false),
        (then(nested(128, |_| Txn::new())), true),
        (under(127, Txn::new()), true),
        (under(127, then(puts("i", 1))), false),
        (under(127, Txn::new().when(compares(1))), false),
        (under(126, then(puts("i", 1))), true),
        (under(126, Txn::new().or_else(puts("i", 2))), false),
        (then(nested(64, |n| then(puts(&format!("{n}/"), 64)))), true),
        (then(nested(64, |n| then(puts(&format!("{n}/"), 65)))), false),
    ];
    for (n, (txn, is_good)) in rows.into_iter().enumerate() {
        let before = revision(&store);
        let answer = store.txn(txn).map(|_| ());
        assert_eq!(answer, if is_good { Ok(()) } else { Err(Error::TooManyOps) }, "row {n}");
        // Row 5 has only empty nested txns, so it is accepted and changes nothing.
        assert_eq!(revision(&store) == before, !is_good || n == 5, "row {n}");
    }
}

/// R-TXN-3: each level that contains a nested txn takes one operation from the budget. The innermost level can be empty.
#[test]
fn nesting_deeper_than_the_budget_is_refused() {
    let store = Store::new();
    let innermost_puts =
        |levels: usize| (1..levels).fold(then(puts("x", 1)), |inner, _| then(vec![inner.into()]));
    assert_eq!(store.txn(innermost_puts(128)).map(|_| ()), Ok(()));
    assert_eq!(store.txn(innermost_puts(129)).map(|_| ()), Err(Error::TooManyOps));
    assert_eq!(store.txn(chain(129)).map(|_| ()), Ok(()), "an empty txn takes nothing from the budget");
    assert_eq!(store.txn(chain(130)).map(|_| ()), Err(Error::TooManyOps));
    assert_eq!(all_keys(&store), ["x0"]);
}

#[test]
fn txn_budget_is_set_by_the_limits() {
    let (store, _clock) = helpers::manual_with(Limits { max_txn_ops: 3, ..Limits::default() });
    assert_eq!(store.txn(then(puts("a", 3))).map(|_| ()), Ok(()));
    assert_eq!(store.txn(then(puts("a", 4))).map(|_| ()), Err(Error::TooManyOps));
}

/// Returns operations that are invalid in every state, each with its error.
fn wrong_operations() -> Vec<(TxnOp, Error)> {
    vec![
        (TxnOp::get(""), Error::EmptyKey),
        (TxnOp::get(KeyRange::from_wire("", "\0")), Error::EmptyKey),
        (Get::key("a").sort(SortTarget::Unrecognized, SortOrder::Ascend).into(), Error::InvalidSort),
        (Get::key("a").sort(SortTarget::Key, SortOrder::Unrecognized).into(), Error::InvalidSort),
        (TxnOp::put("", "v"), Error::EmptyKey),
        (Put::new("a", "v").ignore_value().into(), Error::ValueProvided),
        (Put::new("a", "v").ignore_lease().lease(1).into(), Error::LeaseProvided),
        (TxnOp::delete(""), Error::EmptyKey),
        (Delete::range(KeyRange::from_wire("", "b")).into(), Error::EmptyKey),
        (TxnOp::Unset, Error::KeyNotFound),
        (Txn::new().when([Compare::version("", CompareOp::Equal, 0)]).into(), Error::EmptyKey),
        (then(puts("x", 128)).into(), Error::TooManyOps),
    ]
}

/// R-TXN-2: an invalid operation is found in both branches, at each level, whether the branch is taken or not.
#[test]
fn invalid_operation_is_refused_in_any_branch() {
    let store = Store::new();
    put(&store, "a", "v");
    for (op, expected) in wrong_operations() {
        let txns = [
            then(vec![op.clone()]),
            then(vec![TxnOp::put("fine", "v"), op.clone()]),
            Txn::new().or_else([op.clone()]),
            then(vec![then(vec![op.clone()]).into()]),
            Txn::new().or_else([then(vec![]).or_else([op.clone()])]),
        ];
        for txn in txns {
            assert_eq!(store.txn(txn.clone()).unwrap_err(), expected, "{txn:?}");
        }
    }
    assert_eq!((revision(&store), all_keys(&store)), (2, vec!["a".into()]));
}

/// R-TXN-2: checks are in this order: number of operations, compares, success branch, failure branch.
#[test]
fn txn_reports_the_first_invalid_operation() {
    let store = Store::new();
    let bad_compare = || Compare::version("", CompareOp::Equal, 0);
    let wrong = wrong_operations();
    let rows = [
        (then(puts("x", 129)).when([bad_compare()]), Error::TooManyOps),
        (then(vec![TxnOp::Unset]).when([bad_compare()]), Error::EmptyKey),
        (then(vec![wrong[5].0.clone(), wrong[6].0.clone()]), Error::ValueProvided),
        (then(vec![wrong[6].0.clone(), wrong[5].0.clone()]), Error::LeaseProvided),
        (then(vec![wrong[5].0.clone()]).or_else([TxnOp::get("")]), Error::ValueProvided),
        (then(vec![]).or_else([wrong[2].0.clone(), TxnOp::get("")]), Error::InvalidSort),
        (then(vec![then(vec![TxnOp::Unset]).into(), TxnOp::get("")]), Error::KeyNotFound),
        // R-TXN-1: invalid operations come before overlaps, and overlaps before checks of the state.
        (then(vec![TxnOp::put("k", "1"), TxnOp::put("k", "2"), TxnOp::get("")]), Error::EmptyKey),
        (then(vec![TxnOp::put("k", "1"), Put::new("k", "2").lease(9).into()]), Error::DuplicateKey),
        (Txn::new().or_else([TxnOp::put("k", "1"), TxnOp::put("k", "2")]), Error::DuplicateKey),
    ];
    for (n, (txn, expected)) in rows.into_iter().enumerate() {
        assert_eq!(store.txn(txn).unwrap_err(), expected, "row {n}");
    }
}

/// R-TXN-5: a put with `ignore_value` fails, since an earlier operation of the txn has deleted its key.
///
/// Everything is rolled back: pairs, versions, attachments, counters.
#[test]
fn txn_that_fails_midway_is_rolled_back() {
    let mut engine = engine();
    engine.grant(&leasehold::Grant::new(secs(10)).id(7)).unwrap();
    engine.grant(&leasehold::Grant::new(secs(10)).id(8)).unwrap();
    for (key, lease) in [("a", 7), ("b", 7), ("c", 0), ("d", 8)] {
        engine.put(&Put::new(key, "v").lease(lease)).unwrap();
    }
    let before = (engine.state_hash(), engine.status(), engine.time_to_live(7.into(), true));
    let keeping = Put::new("b", "").ignore_value();
    let txn = then(vec![
        Put::new("a", "moved").lease(8).into(),
        Put::new("c", "attached").lease(7).into(),
        TxnOp::put("new", "x"),
        Delete::range(KeyRange::from_key("b")).into(),
        then(vec![Put::new("d", "again").lease(7).into(), TxnOp::put("newer", "x")]).into(),
        keeping.into(),
    ]);
    assert_eq!(engine.txn(&txn).unwrap_err(), Error::KeyNotFound);
    assert_eq!((engine.state_hash(), engine.status(), engine.time_to_live(7.into(), true)), before);
    engine.check_invariants();
    assert_eq!(engine.events(Revision::new(1)).unwrap().count(), 4);
    engine.revoke(7.into()).unwrap();
    assert_eq!(show_all(engine.get(&Get::all()).unwrap().kvs()), ["c=v 4/4/1", "d=v 5/5/1 #8"]);
    engine.check_invariants();
}

/// R-TXN-5, for a put with `ignore_lease`, on a store.
#[test]
fn txn_that_fails_midway_has_no_event() {
    let (store, clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a"], 7);
    let all = Delete::range(KeyRange::all());
    let txn = then(vec![all.into(), Put::new("a", "x").ignore_lease().into()]);
    assert_eq!(store.txn(txn).unwrap_err(), Error::KeyNotFound);
    assert_eq!(events(&store, 1), ["put a=v 2/2/1 #7"]);
    clock.advance(secs(10));
    assert_eq!(events(&store, 3), ["delete a 3"], "key a is still attached to lease 7");
}

fn random_range(random: &mut Random) -> KeyRange {
    const ENDS: [&str; 7] = ["", "\0", "a", "b", "\u{7f}", "\0\0", "zz"];
    KeyRange::from_wire(random.pick(&ENDS), random.pick(&ENDS))
}

fn random_number(random: &mut Random) -> i64 {
    random.pick(&[0, 1, 2, 3, 5, 100, -1, -2, i64::MAX, i64::MIN])
}

fn random_get(random: &mut Random) -> TxnOp {
    let order = SortOrder::from_wire(random.below(4) as i32);
    let target = SortTarget::from_wire(random.below(6) as i32);
    let mut get = Get::range(random_range(random)).limit(random_number(random)).sort(target, order);
    get = if random.one_in(2) { get.at(random_number(random)) } else { get };
    get = if random.one_in(3) { get.min_mod_revision(random_number(random)) } else { get };
    get = if random.one_in(3) { get.max_create_revision(random_number(random)) } else { get };
    get = if random.one_in(3) { get.count_only() } else { get };
    if random.one_in(3) { get.keys_only().into() } else { get.into() }
}

fn random_put(random: &mut Random) -> TxnOp {
    let mut put = Put::new(random.pick(&["", "a", "b", "\0"]), random.pick(&["", "v"]));
    put = if random.one_in(2) { put.lease(random_number(random)) } else { put };
    put = if random.one_in(3) { put.ignore_value() } else { put };
    put = if random.one_in(3) { put.ignore_lease() } else { put };
    put.into()
}

/// A random operation is either refused without effect or executed, and the engine's invariants hold.
#[test]
fn random_operations_are_refused_or_executed() {
    let (mut engine, mut random) = (engine(), Random::new(5));
    engine.grant(&leasehold::Grant::new(secs(10)).id(1)).unwrap();
    let (mut refused, mut done) = (0, 0);
    for _ in 0..3000 {
        let op = match random.below(3) {
            0 => random_get(&mut random),
            1 => random_put(&mut random),
            _ => Delete::range(random_range(&mut random)).into(),
        };
        let before = (engine.state_hash(), engine.status());
        let current = before.1.header().revision();
        match engine.txn(&then(vec![op])) {
            Ok(response) => {
                let next = response.header().revision();
                assert!(next == current || next == current.next());
                done += 1;
            }
            Err(_) => {
                assert_eq!((engine.state_hash(), engine.status()), before);
                refused += 1;
            }
        }
    }
    engine.check_invariants();
    // Both outcomes must be common, or the comparison shows little.
    assert!(refused > 500 && done > 500, "{refused} refused, {done} done");
}
