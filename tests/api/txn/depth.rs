//! Deeply nested txns: every use of a `Txn` needs a bounded stack.
//!
//! A txn with more than `Txn::MAX_DEPTH` levels is refused (R-TXN-3).

use std::thread;

use leasehold::clock::Timestamp;
use leasehold::concurrency::{Mutex, Session};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::response::{TxnOpResponse, TxnResponse};
use leasehold::{Compare, CompareOp, Error, Limits, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{manual_with, secs, value};

const MIB: usize = 1 << 20;

/// Runs a test on a thread with half of the default stack of `std::thread`.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(MIB);
    thread.spawn(test).expect("a thread starts").join().expect("the stack suffices");
}

/// Returns a txn of `levels` levels. Each level but the innermost is in the branch that its compare selects.
///
/// The innermost level puts `key`.
fn nested(levels: usize, key: &'static str) -> Txn {
    (1..levels).fold(Txn::new().and_then([TxnOp::put(key, "v")]), |inner, level| {
        // Alternate the branches, so that walks of both are tested.
        if level % 2 == 0 {
            return Txn::new().and_then([TxnOp::Txn(inner)]);
        }
        let never = Compare::version("absent", CompareOp::Greater, 0);
        Txn::new().when([never]).or_else([TxnOp::Txn(inner)])
    })
}

/// Returns limits with which only `Txn::MAX_DEPTH` bounds the nesting, and a quota so that the cost is computed too.
fn wide() -> Limits {
    Limits { max_txn_ops: usize::MAX, quota_bytes: Some(1 << 40), ..Limits::default() }
}

fn depth_of(response: &TxnResponse) -> usize {
    match response.responses() {
        [TxnOpResponse::Txn(inner)] => 1 + depth_of(inner),
        _ => 1,
    }
}

/// Uses a txn in every way that walks it, and returns the answers of all callers that execute it.
fn use_everywhere(make: fn() -> Txn) -> Vec<leasehold::Result<TxnResponse>> {
    let (store, _clock) = manual_with(wide());
    let (plain, _clock) = manual_with(Limits { quota_bytes: None, ..wide() });
    let mut engine =
        Engine::new(EngineConfig { limits: wide(), ..EngineConfig::default() }, Timestamp::ORIGIN);
    let txn = make();
    let copy = txn.clone();
    assert!(txn == copy);
    assert!(format!("{txn:?}").len() > 10);
    let answers = vec![
        engine.txn(&txn),
        store.txn(txn),
        plain.txn(copy),
        store.client().txn(make()).wait(),
        store.client().namespace("n/").txn(make()).wait(),
    ];
    // Cloning, comparing and printing a response walk its nesting too.
    assert!(answers.iter().all(|answer| *answer == answer.clone()));
    assert!(answers.iter().all(|answer| !format!("{answer:?}").is_empty()));
    answers
}

#[test]
fn txn_of_max_depth_is_run() {
    on_small_stack(|| {
        for answer in use_everywhere(|| nested(Txn::MAX_DEPTH, "k")) {
            assert_eq!(depth_of(&answer.unwrap()), Txn::MAX_DEPTH);
        }
    });
}

fn assert_refused_everywhere(make: fn() -> Txn) {
    for answer in use_everywhere(make) {
        assert_eq!(answer.map(|_| ()), Err(Error::TooManyOps));
    }
}

/// R-TXN-3.
#[test]
fn txn_just_deeper_than_max_depth_is_refused() {
    on_small_stack(|| {
        assert_refused_everywhere(|| nested(Txn::MAX_DEPTH + 1, "k"));
        assert_refused_everywhere(|| nested(Txn::MAX_DEPTH + 2, "k"));
    });
}

#[test]
fn txn_of_hundred_thousand_levels_is_refused() {
    on_small_stack(|| assert_refused_everywhere(|| nested(100_000, "k")));
}

/// Pretty printing writes each line through one adapter per level.
#[test]
fn txn_of_max_depth_is_pretty_printed() {
    on_small_stack(|| assert!(format!("{:#?}", nested(Txn::MAX_DEPTH, "k")).contains("Put")));
}

/// The depth is checked before the quota, the size and each operation.
#[test]
fn too_deep_txn_is_refused_before_other_checks() {
    let too_deep =
        || nested(Txn::MAX_DEPTH + 1, "").and_then([TxnOp::put("", "v"), TxnOp::put("k", vec![0; 2 << 20])]);
    let (store, _clock) = manual_with(Limits { quota_bytes: Some(1), ..Limits::default() });
    assert_eq!(store.txn(too_deep()).map(|_| ()), Err(Error::TooManyOps));
    assert_eq!(store.alarm(leasehold::maintenance::AlarmRequest::list()).unwrap().alarms(), []);
}

/// A txn that is too deep makes an outer txn too deep, in either branch and beside any siblings.
#[test]
fn too_deep_txn_makes_every_outer_txn_too_deep() {
    let (store, _clock) = manual_with(wide());
    let too_deep = || TxnOp::Txn(nested(Txn::MAX_DEPTH + 1, "k"));
    let fine = || TxnOp::Txn(nested(Txn::MAX_DEPTH - 1, "f"));
    for txn in [
        Txn::new().or_else([too_deep()]),
        Txn::new().and_then([too_deep()]).or_else([fine()]),
        Txn::new().and_then([fine(), too_deep(), fine(), TxnOp::get("a")]),
        Txn::new().and_then([too_deep()]).and_then([fine()]).when([]),
        Txn::new().and_then([TxnOp::Txn(Txn::new().or_else([too_deep()]))]),
    ] {
        assert_eq!(store.txn(txn).map(|_| ()), Err(Error::TooManyOps));
    }
    assert_eq!(store.txn(Txn::new().and_then([fine()]).or_else([fine()])).map(|_| ()), Ok(()));
    assert_eq!(value(&store, "k"), None);
}

/// A guarded txn nests its operations in one more txn, which takes a level.
#[test]
fn guarded_txn_has_one_level_less() {
    on_small_stack(|| {
        let (store, _clock) = manual_with(wide());
        let session = Session::open(&store, secs(10)).wait().unwrap();
        let guard = Mutex::new(&session, "m").lock().wait().unwrap();
        for (levels, expected) in [(Txn::MAX_DEPTH - 1, Ok(())), (Txn::MAX_DEPTH, Err(Error::TooManyOps))] {
            let guarded = guard.txn().and_then([TxnOp::Txn(nested(levels - 1, "k"))]);
            assert_eq!(guarded.commit().wait().map(|_| ()), expected);
        }
    });
}

#[test]
fn default_limits_refuse_nesting_below_max_depth() {
    let store = Store::new();
    assert_eq!(store.txn(nested(128, "k")).map(|_| ()), Ok(()));
    assert_eq!(store.txn(nested(129, "k")).map(|_| ()), Err(Error::TooManyOps));
}
