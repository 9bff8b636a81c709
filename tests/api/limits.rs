//! Limits: request size, quota, and the alarms that refuse writes (R-MNT-7 to R-MNT-9, SEMANTICS.md section 15).
//!
//! The operation budget of a txn is tested in `txn/checks.rs`, the TTLs of leases in `lease/lifecycle.rs`.

use leasehold::maintenance::{Alarm, AlarmAction, AlarmRequest, AlarmType};
use leasehold::{
    Compare, CompareOp, Delete, Error, Get, Grant, KeyRange, Limits, Put, Result, SortOrder, SortTarget,
    Store, Txn, TxnOp,
};
use leasehold_testkit::helpers::{
    all_keys, at, grant, manual, manual_with, physical, put, put_leased, revision, secs,
};

fn limited(max_request_bytes: usize) -> Store {
    manual_with(Limits { max_request_bytes, ..Limits::default() }).0
}

fn with_quota(bytes: u64) -> Store {
    manual_with(Limits { quota_bytes: Some(bytes), ..Limits::default() }).0
}

fn bytes(length: usize) -> Vec<u8> {
    vec![b'x'; length]
}

fn then(operations: impl IntoIterator<Item = TxnOp>) -> Txn {
    Txn::new().and_then(operations)
}

#[test]
fn default_limits_are_etcds() {
    let limits = Limits::default();
    assert_eq!((limits.max_request_bytes, limits.max_txn_ops), (1_572_864, 128));
    assert_eq!((limits.min_lease_ttl, limits.max_lease_ttl), (secs(2), secs(9_000_000_000)));
    assert_eq!(limits.quota_bytes, None);
}

/// Section 15: the encoded request can be as long as the limit.
#[test]
fn put_at_the_size_limit_is_accepted() {
    let store = Store::new();
    // Tag and length take two bytes before the key of three, and four before the value.
    let longest = 1_572_864 - 5 - 4;
    assert_eq!(store.put(("foo", bytes(longest + 1))).unwrap_err(), Error::RequestTooLarge);
    assert_eq!(store.put(("foo", bytes(1_600_000))).unwrap_err(), Error::RequestTooLarge);
    assert_eq!(revision(&store), 1);
    store.put(("foo", bytes(longest))).unwrap();
    assert_eq!(store.get("foo").unwrap().kvs()[0].value().len(), longest);
}

/// Each field counts with its encoded length: a small number 2 bytes, a set flag 2, the lease by its size.
#[test]
fn every_field_of_a_put_counts_towards_its_size() {
    let store = limited(100);
    for lease in [1, 127, 128, -1] {
        grant(&store, lease, secs(10));
    }
    put(&store, "k", "v");
    let with_fields = |n, put: Put| match n {
        0 => put,
        1 => put.prev_kv(),
        2 => put.lease(1),
        3 => put.lease(127),
        4 => put.lease(128),
        5 => put.lease(-1),
        _ => put.ignore_lease().prev_kv(),
    };
    // The key takes 3 bytes with tag and length, and the value 2 bytes besides its own.
    for (n, longest) in [95, 93, 93, 93, 92, 84, 91].into_iter().enumerate() {
        assert!(store.put(with_fields(n, Put::new("k", bytes(longest)))).is_ok(), "row {n}");
        let refused = store.put(with_fields(n, Put::new("k", bytes(longest + 1))));
        assert_eq!(refused.unwrap_err(), Error::RequestTooLarge, "row {n}");
    }
    // Without a value only the key counts: an empty field is not encoded.
    assert!(store.put((bytes(98), "")).is_ok());
    assert_eq!(store.put((bytes(99), "")).unwrap_err(), Error::RequestTooLarge);
}

#[test]
fn delete_at_the_size_limit_is_accepted() {
    let store = limited(100);
    assert!(store.delete(Delete::key(bytes(98))).is_ok());
    assert_eq!(store.delete(Delete::key(bytes(99))).unwrap_err(), Error::RequestTooLarge);
    assert!(store.delete(Delete::key(bytes(96)).prev_kv()).is_ok());
    assert_eq!(store.delete(Delete::key(bytes(97)).prev_kv()).unwrap_err(), Error::RequestTooLarge);
    assert!(store.delete(KeyRange::from_wire(bytes(48), bytes(48))).is_ok());
    assert_eq!(store.delete(KeyRange::from_wire(bytes(48), bytes(49))).unwrap_err(), Error::RequestTooLarge);
}

fn put_of(length: usize) -> TxnOp {
    TxnOp::put("k", bytes(length))
}

fn read_of(length: usize) -> TxnOp {
    TxnOp::get(bytes(length))
}

fn compare_with(length: usize) -> Compare {
    Compare::value("k", CompareOp::Equal, bytes(length))
}

/// Both branches and the compares count. A txn of reads alone has no limit, but one with a nested txn has.
#[test]
fn txn_at_the_size_limit_is_accepted() {
    let store = limited(100);
    let assert_longest = |longest: usize, txn: fn(usize) -> Txn| {
        assert!(store.txn(txn(longest)).is_ok(), "{:?}", txn(longest));
        assert_eq!(store.txn(txn(longest + 1)).unwrap_err(), Error::RequestTooLarge);
    };
    assert_longest(91, |length| then([put_of(length)]));
    assert_longest(91, |length| Txn::new().or_else([put_of(length)]));
    assert_longest(84, |length| then([put_of(0)]).when([compare_with(length)]));
    assert_longest(94, |length| then([TxnOp::delete(bytes(length))]));
    assert_longest(90, |length| then([then([read_of(length)]).into()]));
    let reads = then([read_of(100_000)]).or_else([read_of(100_000)]).when([compare_with(100_000)]);
    assert!(!store.txn(reads).unwrap().succeeded());
}

/// A get with each field at its widest has 82 bytes, or 86 with the two messages around it. Its keys have 2.
#[test]
fn txn_of_gets_with_all_fields_is_measured_to_the_byte() {
    let widest = || {
        let get = Get::range(KeyRange::from_wire("a", "b")).at(-1).limit(-1).count_only().keys_only();
        let get = get.min_create_revision(-1).max_create_revision(-1).min_mod_revision(-1);
        let get = get.max_mod_revision(-1).sort(SortTarget::Value, SortOrder::Descend);
        TxnOp::Get(get.serializable())
    };
    let txn = || then((0..8).map(|_| widest())).or_else([TxnOp::delete(bytes(3))]);
    // The delete's key takes 5 bytes with tag and length, and the two messages around it 2 bytes each.
    let exact = 8 * 86 + 9;
    assert_eq!(limited(exact - 1).txn(txn()).unwrap_err(), Error::RequestTooLarge);
    assert_ne!(limited(exact).txn(txn()).err(), Some(Error::RequestTooLarge));
}

/// R-PUT-1, R-TXN-1: the size is checked after the static checks and before the checks of the state.
#[test]
fn size_is_checked_between_static_and_dynamic_checks() {
    let store = limited(100);
    let long = || bytes(200);
    assert_eq!(store.put(("", long())).unwrap_err(), Error::EmptyKey);
    assert_eq!(store.put(Put::new("k", long()).ignore_value()).unwrap_err(), Error::ValueProvided);
    assert_eq!(store.put(Put::new("k", long()).lease(9)).unwrap_err(), Error::RequestTooLarge);
    assert_eq!(store.delete(KeyRange::from_wire("", long())).unwrap_err(), Error::EmptyKey);
    let twice = then([TxnOp::put("k", long()), TxnOp::put("k", "")]);
    assert_eq!(store.txn(twice).unwrap_err(), Error::DuplicateKey);
    let future = then([TxnOp::put("k", long()), Get::key("k").at(99).into()]);
    assert_eq!(store.txn(future).unwrap_err(), Error::RequestTooLarge);
    assert_eq!(revision(&store), 1);
}

fn alarm(store: &Store, action: AlarmAction, member_id: u64, alarm: AlarmType) -> Vec<Alarm> {
    let response = store.alarm(AlarmRequest { action, member_id, alarm }).expect("the store is open");
    assert_eq!(response.header().revision().get(), revision(store));
    response.alarms().to_vec()
}

/// R-MNT-7.
#[test]
fn alarms_form_a_set() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, NoSpace, None};
    let (store, _clock) = manual();
    let (space_1, corrupt_1, space_2) = (
        Alarm { member_id: 1, alarm: NoSpace },
        Alarm { member_id: 1, alarm: Corrupt },
        Alarm { member_id: 2, alarm: NoSpace },
    );
    assert_eq!(alarm(&store, Get, 0, None), []);
    assert_eq!(alarm(&store, Activate, 1, NoSpace), [space_1]);
    assert_eq!(alarm(&store, Activate, 1, NoSpace), [space_1], "a second activation has no further effect");
    assert_eq!(alarm(&store, Activate, 1, Corrupt), [corrupt_1]);
    assert_eq!(alarm(&store, Activate, 2, NoSpace), [space_2]);
    assert_eq!(alarm(&store, Activate, 3, None), []);
    assert_eq!(
        alarm(&store, Get, 9, None),
        [space_1, corrupt_1, space_2],
        "a list without alarm type ignores the member id"
    );
    assert_eq!(alarm(&store, Get, 0, NoSpace), [space_1, space_2]);
    assert_eq!(alarm(&store, Get, 0, Corrupt), [corrupt_1]);
    assert_eq!(alarm(&store, Deactivate, 0, NoSpace), [], "an alarm is deactivated for exactly its member");
    assert_eq!(alarm(&store, Deactivate, 2, Corrupt), []);
    assert_eq!(alarm(&store, Deactivate, 1, None), []);
    assert_eq!(alarm(&store, Deactivate, 1, NoSpace), [space_1]);
    assert_eq!(alarm(&store, Deactivate, 1, NoSpace), []);
    assert_eq!(alarm(&store, Get, 0, None), [corrupt_1, space_2]);
}

/// A request with its name.
struct Named(&'static str, fn(&Store) -> Result<()>);

/// Every kind of request, on a store with the key "k" at revision 3, lease 7 and compacted revision 2.
const REQUESTS: [Named; 15] = [
    Named("get", |store| store.get("k").map(drop)),
    Named("read-only txn", |store| store.txn(then([TxnOp::get("k")])).map(drop)),
    Named("events", |store| store.events(3).map(drop)),
    Named("hash_kv", |store| store.hash_kv(3).map(drop)),
    Named("keep_alive", |store| store.keep_alive(7).map(drop)),
    Named("time_to_live", |store| store.time_to_live(7, true).map(drop)),
    Named("expire", |store| store.expire(8).map(drop)),
    Named("put", |store| store.put(("k", "v")).map(drop)),
    Named("grant", |store| store.grant(Grant::new(secs(5))).map(drop)),
    Named("txn that puts", |store| store.txn(then([TxnOp::put("k", "v")])).map(drop)),
    Named("txn that might put", |store| {
        store.txn(Txn::new().or_else([then([TxnOp::put("k", "v")])])).map(drop)
    }),
    Named("delete", |store| store.delete("absent").map(drop)),
    Named("txn that deletes", |store| store.txn(then([TxnOp::delete("absent")])).map(drop)),
    Named("compact", |store| store.compact(3).map(drop)),
    Named("revoke", |store| store.revoke(7).map(drop)),
];

fn prepared() -> Store {
    let (store, _clock) = manual();
    for id in [7, 8] {
        grant(&store, id, secs(60));
    }
    put(&store, "k", "v");
    put(&store, "k", "v");
    store.compact(2).expect("revision 2 is not compacted yet");
    store
}

/// R-MNT-8: each alarm refuses its kinds of requests until it is deactivated.
#[test]
fn active_alarm_refuses_its_requests() {
    let refused_by = |kind: AlarmType| {
        let (store, mut refused) = (prepared(), Vec::new());
        alarm(&store, AlarmAction::Activate, 99, kind);
        let expected = if kind == AlarmType::Corrupt { Error::Corrupt } else { Error::NoSpace };
        for Named(name, request) in REQUESTS {
            match request(&store) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, expected, "{name}");
                    refused.push(name);
                }
            }
        }
        refused
    };
    let cost = ["put", "grant", "txn that puts", "txn that might put"];
    assert_eq!(refused_by(AlarmType::NoSpace), cost);
    let writes = [&cost[..], &["delete", "txn that deletes", "compact", "revoke"]].concat();
    assert_eq!(refused_by(AlarmType::Corrupt), writes);
    let store = prepared();
    for kind in [AlarmType::Corrupt, AlarmType::NoSpace] {
        alarm(&store, AlarmAction::Activate, 1, kind);
    }
    assert_eq!(
        store.put(("k", "v")).unwrap_err(),
        Error::Corrupt,
        "the corrupt alarm is checked before the space alarm"
    );
    for kind in [AlarmType::Corrupt, AlarmType::NoSpace] {
        alarm(&store, AlarmAction::Deactivate, 1, kind);
    }
    for Named(name, request) in REQUESTS {
        assert_eq!(request(&store), Ok(()), "{name}");
    }
}

/// R-MNT-9: the held bytes and the request's cost together must stay below the quota.
#[test]
fn put_at_the_quota_is_refused() {
    // A put costs 256 plus its key and value. The put of four bytes is then held as 96 + 4 + 112 + 1.
    let held = 96 + 4 + 112 + 1;
    let store = with_quota(held + 256 + 4 + 1);
    put(&store, "a", "xyz");
    assert_eq!(store.status().unwrap().bytes_held(), held);
    assert_eq!(store.put(("b", "wxyz")).unwrap_err(), Error::NoSpace);
    assert_eq!((revision(&store), all_keys(&store)), (2, vec!["a".into()]));
    let raised = Alarm { member_id: 1, alarm: AlarmType::NoSpace };
    assert_eq!(alarm(&store, AlarmAction::Get, 0, AlarmType::None), [raised]);
    assert_eq!(
        store.put(("b", "")).unwrap_err(),
        Error::NoSpace,
        "the active alarm refuses even a small put"
    );
    alarm(&store, AlarmAction::Deactivate, 1, AlarmType::NoSpace);
    put(&store, "b", "xyz");
}

/// R-MNT-9: a grant costs 64. A txn costs its more expensive branch, nested txns included, whichever branch is taken.
///
/// A request without cost is accepted.
#[test]
fn quota_counts_the_most_expensive_branch() {
    let put_of = |key: &'static str| TxnOp::put(key, "123");
    let nested = |operations: Vec<TxnOp>| TxnOp::from(then(operations));
    let rows: [(u64, Txn); 8] = [
        (0, then([TxnOp::get("a"), TxnOp::delete("a"), nested(vec![TxnOp::get("a")])])),
        (260, then([put_of("a")])),
        (260, then([TxnOp::get("b"), put_of("a"), TxnOp::delete("c")])),
        (260, Txn::new().or_else([put_of("a")])),
        (520, then([put_of("a"), put_of("b")])),
        (520, then([put_of("a")]).or_else([put_of("a"), put_of("b")])),
        (520, then([put_of("a"), nested(vec![put_of("b")])])),
        (780, then([put_of("a"), nested(vec![nested(vec![put_of("b"), put_of("c")])])])),
    ];
    for (cost, txn) in rows {
        assert_eq!(with_quota(cost + 1).txn(txn.clone()).map(drop), Ok(()), "a cost of {cost}: {txn:?}");
        let refused = if cost == 0 { Ok(()) } else { Err(Error::NoSpace) };
        assert_eq!(with_quota(cost).txn(txn).map(drop), refused, "a cost of {cost}");
    }
    assert!(with_quota(65).grant(Grant::new(secs(5))).is_ok());
    assert_eq!(with_quota(64).grant(Grant::new(secs(5))).unwrap_err(), Error::NoSpace);
}

/// R-MNT-9: the quota is checked before any validation.
#[test]
fn quota_is_checked_first() {
    let store = with_quota(1);
    assert_eq!(store.put(("", "")).unwrap_err(), Error::NoSpace);
    assert_eq!(store.put(Put::new("k", bytes(2_000_000)).lease(9)).unwrap_err(), Error::NoSpace);
    assert_eq!(store.txn(then([TxnOp::put("", "")])).unwrap_err(), Error::NoSpace);
    assert_eq!(store.grant(Grant::from_wire(i64::MAX, 0)).unwrap_err(), Error::NoSpace);
    assert_eq!(store.delete("").unwrap_err(), Error::EmptyKey, "a delete costs nothing");
    assert_eq!(store.get("").unwrap_err(), Error::EmptyKey);
}

/// R-MNT-8, R-MNT-9: deletes and a compaction free space. The alarm stays active until a request deactivates it.
#[test]
fn deletes_and_compaction_free_quota() {
    let store = with_quota(20_000);
    let mut stored = 0;
    while store.put((format!("{stored:03}"), bytes(500))).is_ok() {
        stored += 1;
    }
    assert!((20..40).contains(&stored), "{stored} puts were stored");
    assert_eq!(store.get(Get::all()).unwrap().count(), stored);
    assert_eq!(store.txn(then([TxnOp::delete("000")])).unwrap().header().revision(), at(stored + 2));
    assert_eq!(store.delete(Delete::range(KeyRange::all())).unwrap().deleted(), stored - 1);
    let last = revision(&store);
    store.compact(physical(last)).unwrap();
    assert!(store.status().unwrap().bytes_held() < 10_000);
    assert_eq!(store.put(("k", "v")).unwrap_err(), Error::NoSpace, "the alarm is still active");
    alarm(&store, AlarmAction::Deactivate, 1, AlarmType::NoSpace);
    assert_eq!(put(&store, "k", "v"), last + 1);
}

/// With active alarms, leases still expire and their keys are deleted.
#[test]
fn leases_expire_under_alarms() {
    let (store, clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["a"], 7);
    for kind in [AlarmType::Corrupt, AlarmType::NoSpace] {
        alarm(&store, AlarmAction::Activate, 1, kind);
    }
    clock.advance(secs(5));
    assert_eq!((all_keys(&store).len(), store.status().unwrap().leases()), (0, 0));
}
