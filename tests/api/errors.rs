//! Every error: the requests that return it, its message, its code and its revisions (SEMANTICS.md section 14).
//!
//! A refused request changes nothing (R-0-4).

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::{
    Code, Compact, Compare, CompareOp, Delete, Error, Get, Grant, KeyRange, LeaseId, Limits, ManualClock,
    Page, Put, Result, SortOrder, SortTarget, Store, Txn, TxnOp,
};
use leasehold_testkit::helpers::{self, at, secs};

const EMPTY_KEY: &str = "etcdserver: key is not provided";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const VALUE_PROVIDED: &str = "etcdserver: value is provided";
const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
const INVALID_SORT: &str = "etcdserver: invalid sort option";
const REQUEST_TOO_LARGE: &str = "etcdserver: request is too large";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const TTL_TOO_LARGE: &str = "etcdserver: too large lease TTL";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const LEASE_EXISTS: &str = "etcdserver: lease already exists";
const CORRUPT: &str = "etcdserver: corrupt cluster";
const STOPPED: &str = "etcdserver: server stopped";
const UNSORTED: &str = "RangeStream does not support custom sort orders";
const UNFILTERED: &str = "RangeStream does not support revision filters";

/// A request that the engine of [`prepared`] refuses.
struct Row {
    request: fn(&mut Engine) -> Result<()>,
    error: Error,
    message: &'static str,
    code: Code,
    number: i32,
}

fn row(request: fn(&mut Engine) -> Result<()>, error: Error, message: &'static str) -> Row {
    let (code, number) = match message {
        COMPACTED | FUTURE | TTL_TOO_LARGE => (Code::OutOfRange, 11),
        LEASE_NOT_FOUND => (Code::NotFound, 5),
        LEASE_EXISTS => (Code::FailedPrecondition, 9),
        NO_SPACE => (Code::ResourceExhausted, 8),
        CORRUPT => (Code::DataLoss, 15),
        STOPPED => (Code::Unavailable, 14),
        UNSORTED | UNFILTERED => (Code::Unimplemented, 12),
        _ => (Code::InvalidArgument, 3),
    };
    Row { request, error, message, code, number }
}

/// Returns an engine at 60 s with the key "k" at the revisions 2 to 6, at last with lease 7, compacted at 4.
fn prepared(quota_bytes: Option<u64>) -> Engine {
    let limits = Limits { max_request_bytes: 1000, max_txn_ops: 4, quota_bytes, ..Limits::default() };
    let mut engine = Engine::new(EngineConfig { limits, ..EngineConfig::default() }, Timestamp::ORIGIN);
    engine.advance(Timestamp::ORIGIN + secs(60));
    engine.grant(&Grant::new(secs(60)).id(7)).expect("lease id 7 is free");
    for value in ["1", "2", "3", "4"] {
        engine.put(&Put::new("k", value)).expect("the put is valid");
    }
    engine.put(&Put::new("k", "5").lease(7)).expect("lease 7 exists");
    engine.compact(&Compact::new(4)).expect("revision 4 is not compacted");
    engine
}

fn compacted(requested: i64) -> Error {
    Error::Compacted { requested: at(requested), compacted: Some(at(4)) }
}

fn future(requested: i64) -> Error {
    Error::FutureRevision { requested: at(requested), current: at(6) }
}

fn then<const N: usize>(operations: [TxnOp; N]) -> Txn {
    // A put comes first: it would show if the txn were not refused as a whole.
    Txn::new().and_then([TxnOp::put("first", "v")]).and_then(operations)
}

fn put(engine: &mut Engine, put: Put) -> Result<()> {
    engine.put(&put).map(drop)
}

fn get(engine: &mut Engine, get: Get) -> Result<()> {
    engine.get(&get).map(drop)
}

fn txn(engine: &mut Engine, txn: Txn) -> Result<()> {
    engine.txn(&txn).map(drop)
}

#[track_caller]
fn assert_refused(mut engine: Engine, rows: Vec<Row>) {
    for (n, row) in rows.into_iter().enumerate() {
        let before = (engine.state_hash(), engine.status());
        let error = (row.request)(&mut engine).expect_err("the engine refuses each row's request");
        assert_eq!(error, row.error, "row {n}");
        assert_words(&error, row.message, row.code, row.number);
        assert_eq!((engine.state_hash(), engine.status()), before, "row {n}: {error} changed something");
        engine.check_invariants();
    }
}

#[track_caller]
fn assert_words(error: &Error, message: &str, code: Code, number: i32) {
    assert_eq!((error.to_string().as_str(), error.code(), error.code() as i32), (message, code, number));
    assert_eq!(error.code().to_string(), format!("{code:?}"));
}

#[test]
fn invalid_request_returns_its_error() {
    use Error::{DuplicateKey, EmptyKey, InvalidSort, KeyNotFound, LeaseProvided, TooManyOps, ValueProvided};
    let rows = vec![
        row(|engine| get(engine, Get::key("")), EmptyKey, EMPTY_KEY),
        row(|engine| put(engine, Put::new("", "v")), EmptyKey, EMPTY_KEY),
        row(|engine| engine.delete(&Delete::key("")).map(drop), EmptyKey, EMPTY_KEY),
        row(|engine| txn(engine, then([TxnOp::get("")])), EmptyKey, EMPTY_KEY),
        row(|engine| txn(engine, then([]).or_else([TxnOp::put("", "v")])), EmptyKey, EMPTY_KEY),
        row(|engine| txn(engine, then([TxnOp::delete("")])), EmptyKey, EMPTY_KEY),
        row(
            |engine| txn(engine, then([]).when([Compare::lease("", CompareOp::Equal, 0)])),
            EmptyKey,
            EMPTY_KEY,
        ),
        row(|engine| txn(engine, then([TxnOp::Unset])), KeyNotFound, KEY_NOT_FOUND),
        row(|engine| put(engine, Put::new("k", "v").ignore_value()), ValueProvided, VALUE_PROVIDED),
        row(
            |engine| txn(engine, then([Put::new("k", "v").ignore_value().into()])),
            ValueProvided,
            VALUE_PROVIDED,
        ),
        row(|engine| put(engine, Put::new("k", "v").ignore_lease().lease(7)), LeaseProvided, LEASE_PROVIDED),
        row(
            |engine| txn(engine, then([Put::new("k", "").ignore_lease().lease(7).into()])),
            LeaseProvided,
            LEASE_PROVIDED,
        ),
        row(
            |engine| txn(engine, then([1, 2, 3, 4].map(|n| TxnOp::put(format!("{n}"), "v")))),
            TooManyOps,
            TOO_MANY_OPS,
        ),
        row(
            |engine| txn(engine, then([TxnOp::put("k", "1"), TxnOp::put("k", "2")])),
            DuplicateKey,
            DUPLICATE_KEY,
        ),
        row(
            |engine| txn(engine, then([TxnOp::delete("k"), TxnOp::put("k", "2")])),
            DuplicateKey,
            DUPLICATE_KEY,
        ),
        row(
            |engine| get(engine, Get::all().sort(SortTarget::Key, SortOrder::Unrecognized)),
            InvalidSort,
            INVALID_SORT,
        ),
        row(
            |engine| txn(engine, then([Get::all().sort(SortTarget::Unrecognized, SortOrder::None).into()])),
            InvalidSort,
            INVALID_SORT,
        ),
    ];
    assert_refused(prepared(None), rows);
}

fn long() -> Vec<u8> {
    vec![b'x'; 1000]
}

#[test]
fn too_large_request_returns_request_too_large() {
    let too_large = || Error::RequestTooLarge;
    let rows = vec![
        row(|engine| put(engine, Put::new("k", long())), too_large(), REQUEST_TOO_LARGE),
        row(|engine| put(engine, Put::new(long(), "")), too_large(), REQUEST_TOO_LARGE),
        row(|engine| engine.delete(&Delete::key(long())).map(drop), too_large(), REQUEST_TOO_LARGE),
        row(|engine| txn(engine, then([TxnOp::put("k", long())])), too_large(), REQUEST_TOO_LARGE),
        row(|engine| txn(engine, then([]).or_else([TxnOp::delete(long())])), too_large(), REQUEST_TOO_LARGE),
    ];
    assert_refused(prepared(None), rows);
}

/// The error has the requested revision and the store's compacted or current one.
#[test]
fn unreadable_revision_returns_compacted_or_future_revision() {
    let rows = vec![
        row(|engine| get(engine, Get::key("k").at(3)), compacted(3), COMPACTED),
        row(|engine| get(engine, Get::all().at(1).count_only()), compacted(1), COMPACTED),
        row(|engine| txn(engine, then([Get::key("k").at(3).into()])), compacted(3), COMPACTED),
        row(|engine| txn(engine, then([Get::key("k").at(-1).into()])), compacted(-1), COMPACTED),
        row(|engine| engine.compact(&Compact::new(4)).map(drop), compacted(4), COMPACTED),
        row(|engine| engine.compact(&Compact::new(-9)).map(drop), compacted(-9), COMPACTED),
        row(|engine| engine.hash_kv(at(4)).map(drop), compacted(4), COMPACTED),
        row(|engine| engine.events(at(3)).map(drop), compacted(3), COMPACTED),
        row(|engine| engine.page(&Page::new(KeyRange::all(), 1).at(3)).map(drop), compacted(3), COMPACTED),
        row(|engine| get(engine, Get::key("k").at(7)), future(7), FUTURE),
        row(|engine| txn(engine, then([Get::key("k").at(7).into()])), future(7), FUTURE),
        row(|engine| engine.compact(&Compact::new(7)).map(drop), future(7), FUTURE),
        row(|engine| engine.compact(&Compact::new(i64::MAX)).map(drop), future(i64::MAX), FUTURE),
        row(|engine| engine.hash_kv(at(100)).map(drop), future(100), FUTURE),
        row(|engine| engine.page(&Page::new(KeyRange::all(), 1).at(7)).map(drop), future(7), FUTURE),
    ];
    assert_refused(prepared(None), rows);
}

/// Before the first compaction, the error has no compacted revision.
#[test]
fn negative_revision_before_a_compaction_returns_compacted() {
    let never = |requested| Error::Compacted { requested: at(requested), compacted: None };
    let rows = vec![
        row(|engine| engine.compact(&Compact::new(-1)).map(drop), never(-1), COMPACTED),
        row(|engine| txn(engine, then([Get::key("k").at(-2).into()])), never(-2), COMPACTED),
        row(|engine| engine.events(at(-2)).map(drop), never(-2), COMPACTED),
    ];
    assert_refused(helpers::engine(), rows);
}

#[test]
fn missing_lease_or_key_returns_its_error() {
    use Error::{KeyNotFound, LeaseExists, LeaseNotFound, LeaseTtlTooLarge};
    let rows = vec![
        row(|engine| put(engine, Put::new("k", "v").lease(8)), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| txn(engine, then([Put::new("k", "v").lease(8).into()])), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.revoke(LeaseId::new(8)).map(drop), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.revoke(LeaseId::NONE).map(drop), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.expire(LeaseId::new(-7)).map(drop), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.pause_keep_alive(LeaseId::new(8)), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.resume_keep_alive(LeaseId::new(8)), LeaseNotFound, LEASE_NOT_FOUND),
        row(|engine| engine.grant(&Grant::new(secs(5)).id(7)).map(drop), LeaseExists, LEASE_EXISTS),
        row(
            |engine| engine.grant(&Grant::from_wire(9_000_000_001, 8)).map(drop),
            LeaseTtlTooLarge,
            TTL_TOO_LARGE,
        ),
        row(
            |engine| engine.grant(&Grant::from_wire(9_000_000_001, 0)).map(drop),
            LeaseTtlTooLarge,
            TTL_TOO_LARGE,
        ),
        row(|engine| put(engine, Put::new("absent", "").ignore_value()), KeyNotFound, KEY_NOT_FOUND),
        row(|engine| put(engine, Put::new("absent", "v").ignore_lease()), KeyNotFound, KEY_NOT_FOUND),
        row(
            |engine| txn(engine, then([Put::new("absent", "").ignore_value().into()])),
            KeyNotFound,
            KEY_NOT_FOUND,
        ),
        // Only the execution can find that the key is deleted (R-TXN-5).
        row(
            |engine| {
                let everything = Delete::range(KeyRange::all()).into();
                txn(engine, then([everything, Put::new("k", "").ignore_value().into()]))
            },
            KeyNotFound,
            KEY_NOT_FOUND,
        ),
    ];
    assert_refused(prepared(None), rows);
}

fn under(alarm: AlarmType) -> Engine {
    let mut engine = prepared(None);
    engine.alarm(&AlarmRequest { action: AlarmAction::Activate, member_id: 1, alarm });
    engine
}

#[test]
fn active_alarm_returns_no_space_or_corrupt() {
    let no_space = vec![
        row(|engine| put(engine, Put::new("k", "v")), Error::NoSpace, NO_SPACE),
        row(|engine| txn(engine, then([])), Error::NoSpace, NO_SPACE),
        row(|engine| engine.grant(&Grant::new(secs(5))).map(drop), Error::NoSpace, NO_SPACE),
    ];
    assert_refused(under(AlarmType::NoSpace), no_space);
    let corrupt = vec![
        row(|engine| put(engine, Put::new("k", "v")), Error::Corrupt, CORRUPT),
        row(|engine| engine.delete(&Delete::key("k")).map(drop), Error::Corrupt, CORRUPT),
        row(|engine| txn(engine, then([])), Error::Corrupt, CORRUPT),
        row(|engine| engine.compact(&Compact::new(5)).map(drop), Error::Corrupt, CORRUPT),
        row(|engine| engine.grant(&Grant::new(secs(5))).map(drop), Error::Corrupt, CORRUPT),
        row(|engine| engine.revoke(LeaseId::new(7)).map(drop), Error::Corrupt, CORRUPT),
    ];
    assert_refused(under(AlarmType::Corrupt), corrupt);
}

/// R-MNT-9: the first refused put raises the alarm and changes nothing else. Later refusals change nothing.
#[test]
fn put_above_the_quota_raises_the_alarm() {
    let mut engine = prepared(Some(2000));
    let full = |engine: &mut Engine| put(engine, Put::new("k", vec![b'x'; 1800]));
    let list = AlarmRequest { action: AlarmAction::Get, member_id: 0, alarm: AlarmType::None };
    let before = engine.status();
    assert_eq!(full(&mut engine).unwrap_err(), Error::NoSpace);
    assert_eq!((engine.status(), engine.alarm(&list).alarms().len()), (before, 1));
    assert_refused(engine, vec![row(full, Error::NoSpace, NO_SPACE)]);
}

/// Covers the errors that only a store returns. Its hash, events and status must not change.
#[test]
fn store_returns_its_own_errors() {
    let store = Store::builder().clock(ManualClock::new()).build();
    store.put(("k", "v")).unwrap();
    let state = |store: &Store| (store.hash_kv(0), store.events(1), store.status());
    let before = state(&store);
    let unsorted = store.range_pages(Get::all().sort(SortTarget::Key, SortOrder::Descend), 1).unwrap_err();
    assert_eq!(unsorted, Error::PageSortUnsupported);
    assert_words(&unsorted, UNSORTED, Code::Unimplemented, 12);
    let unfiltered = store.range_pages(Get::all().min_mod_revision(2), 1).unwrap_err();
    assert_eq!(unfiltered, Error::PageFilterUnsupported);
    assert_words(&unfiltered, UNFILTERED, Code::Unimplemented, 12);
    assert_eq!(state(&store), before);
    store.close();
    let stopped = store.put(("k", "v")).unwrap_err();
    assert_eq!(stopped, Error::Stopped);
    assert_words(&stopped, STOPPED, Code::Unavailable, 14);
}

/// An error can be boxed, compared, and printed with its revisions.
#[test]
fn errors_are_cloneable_and_comparable() {
    fn is_an_error<T: std::error::Error + Clone + PartialEq + Send + Sync + 'static>(_: &T) {}
    let error = compacted(3);
    is_an_error(&error);
    assert_eq!(format!("{error:?}"), "Compacted { requested: R3, compacted: Some(R4) }");
    assert_eq!(format!("{:?}", future(7)), "FutureRevision { requested: R7, current: R6 }");
    assert_ne!(compacted(3), compacted(2));
    let boxed: Box<dyn std::error::Error> = error.into();
    assert_eq!(boxed.to_string(), COMPACTED);
}

/// An error that was sent over a network becomes the variant with its message and code.
#[test]
fn from_wire_returns_the_variant_of_message_and_code() {
    let plain = [
        Error::EmptyKey,
        Error::KeyNotFound,
        Error::ValueProvided,
        Error::LeaseProvided,
        Error::TooManyOps,
        Error::DuplicateKey,
        Error::InvalidSort,
        Error::RequestTooLarge,
        Error::LeaseTtlTooLarge,
        Error::LeaseNotFound,
        Error::LeaseExists,
        Error::NoSpace,
        Error::Corrupt,
        Error::WatchRangeEmpty,
        Error::WatchIdTaken,
        Error::WatcherLost,
        Error::SessionExpired,
        Error::NoLeader,
        Error::NotLeader,
        Error::MissingLeaderField,
        Error::PageSortUnsupported,
        Error::PageFilterUnsupported,
    ];
    for error in plain {
        assert_eq!(Error::from_wire(error.code(), &error.to_string()), error);
        assert!(!error.is_ambiguous(), "{error}");
        // The services lose the code (R-LCK-8), and the message alone does not select a variant.
        let degraded = Error::from_wire(Code::Aborted, &error.to_string());
        assert_eq!(degraded, Error::Foreign { code: Code::Aborted, message: error.to_string().into() });
    }
    for number in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] {
        let code = Code::from_wire(number);
        assert_eq!(code as i32, number);
        let foreign = Error::from_wire(code, "a message of another program");
        assert_eq!((foreign.code(), foreign.to_string()), (code, "a message of another program".into()));
        assert_eq!(foreign.is_ambiguous(), [1, 2, 4, 8, 11, 13, 14].contains(&number), "{code}");
        let of_etcd = Error::from_wire(code, "etcdserver: a message of a later etcd");
        assert_eq!(of_etcd.is_ambiguous(), [1, 2, 4, 13, 14].contains(&number), "{code}");
    }
    assert_eq!([Code::from_wire(0), Code::from_wire(17), Code::from_wire(-1)], [Code::Unknown; 3]);
}

#[test]
fn unavailable_is_ambiguous_if_the_request_may_be_applied() {
    let words = ["the store is unavailable", "the store is unavailable; the request may have been executed"];
    for (maybe_applied, message) in [false, true].into_iter().zip(words) {
        let error = Error::Unavailable { maybe_applied };
        assert_words(&error, message, Code::Unavailable, 14);
        assert_eq!(error.is_ambiguous(), maybe_applied);
        assert_eq!(Error::Service(Box::new(error)).is_ambiguous(), maybe_applied);
    }
    assert!(!Error::Stopped.is_ambiguous(), "a closed store has not executed the request");
}

/// A server that stops may execute what it was asked before, unlike a store that is closed.
#[test]
fn stopped_server_on_the_wire_is_ambiguous() {
    let stopped = Error::from_wire(Code::Unavailable, STOPPED);
    assert_ne!(stopped, Error::Stopped);
    assert_words(&stopped, STOPPED, Code::Unavailable, 14);
    assert!(stopped.is_ambiguous());
}
