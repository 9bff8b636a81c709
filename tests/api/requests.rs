//! Requests in a backend: their getters, their form on etcd's wire, and their display in logs.

mod strategy;

use std::time::Duration;

use leasehold::backend::{CompareOperand, Request, RequestKind, WatchRequest};
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::{
    Compact, Compare, CompareOp, Delete, Get, Grant, KeyRange, Page, Put, Revision, SortOrder, SortTarget,
    Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{millis, secs};
use proptest::prelude::*;

use strategy::{compare, number, request, watch};

/// Builds a request from the values of its getters.
fn rebuilt(request: &Request) -> Request {
    match request {
        Request::Get(get) => Request::Get(rebuilt_get(get)),
        Request::Put(put) => Request::Put(rebuilt_put(put)),
        Request::Delete(delete) => Request::Delete(rebuilt_delete(delete)),
        Request::Txn(txn) => Request::Txn(rebuilt_txn(txn)),
        Request::Compact(compact) => {
            let rebuilt = Compact::new(compact.get_revision());
            Request::Compact(if compact.get_physical() { rebuilt.physical() } else { rebuilt })
        }
        Request::Grant(grant) => {
            let rebuilt = Grant::new(grant.get_ttl()).id(grant.get_id());
            Request::Grant(if grant.get_keep_alive() { rebuilt.keep_alive() } else { rebuilt })
        }
        Request::Page(page) => {
            let rebuilt = Page::new(page.get_range().clone(), page.get_limit());
            let rebuilt = page.get_revision().into_iter().fold(rebuilt, Page::at);
            Request::Page(if page.get_keys_only() { rebuilt.keys_only() } else { rebuilt })
        }
        others => others.clone(),
    }
}

fn rebuilt_get(get: &Get) -> Get {
    let mut rebuilt = Get::range(get.get_range().clone()).limit(get.get_limit());
    rebuilt = get.get_revision().into_iter().fold(rebuilt, Get::at);
    rebuilt = rebuilt.sort(get.get_sort_target(), get.get_sort_order());
    rebuilt = if get.get_keys_only() { rebuilt.keys_only() } else { rebuilt };
    rebuilt = if get.get_count_only() { rebuilt.count_only() } else { rebuilt };
    rebuilt = if get.get_serializable() { rebuilt.serializable() } else { rebuilt };
    rebuilt =
        rebuilt.min_mod_revision(get.get_min_mod_revision()).max_mod_revision(get.get_max_mod_revision());
    rebuilt
        .min_create_revision(get.get_min_create_revision())
        .max_create_revision(get.get_max_create_revision())
}

fn rebuilt_put(put: &Put) -> Put {
    let mut rebuilt = Put::new(put.get_key(), put.get_value()).lease(put.get_lease());
    rebuilt = if put.get_prev_kv() { rebuilt.prev_kv() } else { rebuilt };
    rebuilt = if put.get_ignore_value() { rebuilt.ignore_value() } else { rebuilt };
    if put.get_ignore_lease() { rebuilt.ignore_lease() } else { rebuilt }
}

fn rebuilt_delete(delete: &Delete) -> Delete {
    let rebuilt = Delete::range(delete.get_range().clone());
    if delete.get_prev_kv() { rebuilt.prev_kv() } else { rebuilt }
}

fn rebuilt_txn(txn: &Txn) -> Txn {
    let op = |op: &TxnOp| match op {
        TxnOp::Get(get) => TxnOp::Get(rebuilt_get(get)),
        TxnOp::Put(put) => TxnOp::Put(rebuilt_put(put)),
        TxnOp::Delete(delete) => TxnOp::Delete(rebuilt_delete(delete)),
        TxnOp::Txn(txn) => TxnOp::Txn(rebuilt_txn(txn)),
        TxnOp::Unset => TxnOp::Unset,
        other => panic!("unknown kind: {other:?}"),
    };
    let success = txn.get_success().iter().map(op).collect::<Vec<_>>();
    Txn::new()
        .when(txn.get_compare().iter().map(rebuilt_compare))
        .and_then(success)
        .or_else(txn.get_failure().iter().map(op))
}

fn rebuilt_compare(compare: &Compare) -> Compare {
    let (range, op) = (compare.get_range().clone(), compare.get_op());
    match compare.get_operand() {
        CompareOperand::Version(version) => Compare::version(range, op, *version),
        CompareOperand::CreateRevision(revision) => Compare::create_revision(range, op, *revision),
        CompareOperand::ModRevision(revision) => Compare::mod_revision(range, op, *revision),
        CompareOperand::Value(value) => Compare::value(range, op, value),
        CompareOperand::Lease(lease) => Compare::lease(range, op, *lease),
        // An unknown target has no operand.
        _ => Compare::from_wire(range, op.to_wire(), -1, 0, ""),
    }
}

fn rebuilt_watch(watch: &Watch) -> Watch {
    let mut rebuilt = Watch::range(watch.get_range().clone()).start_revision(watch.get_start_revision());
    rebuilt = rebuilt.id(watch.get_id());
    if let Some(capacity) = watch.get_capacity() {
        rebuilt = rebuilt.capacity(capacity);
    }
    rebuilt = if watch.get_prev_kv() { rebuilt.prev_kv() } else { rebuilt };
    rebuilt = if watch.get_no_put() { rebuilt.no_put() } else { rebuilt };
    rebuilt = if watch.get_no_delete() { rebuilt.no_delete() } else { rebuilt };
    rebuilt = if watch.get_progress_notify() { rebuilt.progress_notify() } else { rebuilt };
    if watch.get_fragment() { rebuilt.fragment() } else { rebuilt }
}

/// The maximum length of a request's line. It shows at most five lists of four elements, each with a key and a value.
const LINE_MAX: usize = 3000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn request_is_rebuilt_from_its_getters(request in request(), watch in watch()) {
        prop_assert_eq!(rebuilt(&request), request);
        prop_assert_eq!(rebuilt_watch(&watch), watch);
    }

    #[test]
    fn request_displays_as_one_line_that_starts_with_its_kind(request in request(), watch in watch()) {
        let line = request.to_string();
        prop_assert!(line.starts_with(&request.kind().to_string()), "{}", line);
        prop_assert!(!line.contains('\n') && line.is_ascii() && line.len() <= LINE_MAX, "{}", line);
        let line = WatchRequest::Create(watch).to_string();
        prop_assert!(line.starts_with("watch ") && !line.contains('\n') && line.is_ascii(), "{}", line);
    }

    #[test]
    fn written_ranges_are_a_subset_of_ranges(request in request()) {
        let ranges = request.ranges();
        let mut rest = ranges.iter();
        prop_assert!(request.written_ranges().iter().all(|written| rest.any(|range| range == written)));
        prop_assert!(request.written_ranges().is_empty() || request.is_write());
    }

    #[test]
    fn wire_numbers_round_trip(compare in compare(), number in number(), small in -2..9) {
        let (range, result, target, operand, value) = compare.to_wire();
        prop_assert_eq!(Compare::from_wire(range, result, target, operand, value), compare);
        prop_assert_eq!(Revision::to_wire(Revision::from_wire(number)), number);
        let order = SortOrder::from_wire(small);
        prop_assert_eq!(SortOrder::from_wire(order.to_wire()), order);
        let target = SortTarget::from_wire(small);
        prop_assert_eq!(SortTarget::from_wire(target.to_wire()), target);
        let op = CompareOp::from_wire(small);
        prop_assert_eq!(CompareOp::from_wire(op.to_wire()), op);
        if (0..3).contains(&small) {
            prop_assert_eq!((order.to_wire(), target.to_wire(), op.to_wire()), (small, small, small));
        }
    }

    #[test]
    fn grant_round_trips_over_the_wire_in_whole_seconds(ttl in number(), id in number()) {
        let grant = Grant::from_wire(ttl, id);
        prop_assert_eq!(grant.to_wire(), (ttl.max(0), id));
        let (ttl, id) = grant.to_wire();
        prop_assert_eq!(Grant::from_wire(ttl, id), grant);
    }
}

/// The TTL is rounded up, since a lease must not expire before its TTL.
#[test]
fn grant_to_wire_rounds_the_ttl_up() {
    let seconds = |ttl| Grant::new(ttl).to_wire().0;
    let ttls = [Duration::ZERO, Duration::from_nanos(1), secs(1), millis(1001), secs(2), Duration::MAX];
    assert_eq!(ttls.map(seconds), [0, 1, 1, 2, 2, i64::MAX]);
}

fn example_txn() -> Txn {
    let nested = Txn::new()
        .when([Compare::version("n", CompareOp::Less, 3)])
        .or_else([TxnOp::delete(KeyRange::from_key("m"))]);
    Txn::new()
        .when([
            Compare::create_revision("a", CompareOp::Equal, 0),
            Compare::value("b", CompareOp::NotEqual, "x"),
        ])
        .and_then([TxnOp::put("a", "1"), TxnOp::Txn(nested)])
        .or_else([TxnOp::get(KeyRange::prefix("k")), TxnOp::Unset])
}

fn assert_lines<const N: usize>(lines: [(Request, &str); N]) {
    for (request, line) in lines {
        assert_eq!(request.to_string(), line);
    }
}

#[test]
fn display_of_requests_for_keys() {
    let sorted = Get::prefix("a\n").sort(SortTarget::ModRevision, SortOrder::Descend).count_only();
    let bounded = Get::key("a").min_mod_revision(1).max_mod_revision(2);
    let created = Get::key("a").min_create_revision(3).max_create_revision(4).serializable();
    let long = format!(r#"put "{}"... (100 bytes) = "{}"... (99 bytes)"#, "k".repeat(48), "\\x00".repeat(48));
    assert_lines([
        (Request::Get(Get::key("a")), r#"get "a""#),
        (Request::Get(Get::key("")), r#"get """#),
        (Request::Get(Get::all().at(7).limit(3).keys_only()), "get * at 7 limit 3 keys_only"),
        (Request::Get(sorted), r#"get "a\n"* sort ModRevision Descend count_only"#),
        (Request::Get(bounded), r#"get "a" min_mod_revision 1 max_mod_revision 2"#),
        (Request::Get(created), r#"get "a" min_create_revision 3 max_create_revision 4 serializable"#),
        (Request::Put(Put::new("a", "b").lease(255).prev_kv()), r#"put "a" = "b" lease ff prev_kv"#),
        (
            Request::Put(Put::new("a", "").ignore_value().ignore_lease()),
            r#"put "a" = "" ignore_value ignore_lease"#,
        ),
        (Request::Put(Put::new("k".repeat(100), vec![0; 99])), &long),
        (Request::Delete(Delete::range(KeyRange::between("a", "c")).prev_kv()), r#"delete "a".."c" prev_kv"#),
        (Request::Delete(Delete::range(KeyRange::from_key("a"))), r#"delete "a".."#),
        (Request::Page(Page::new("a", 9).at(3).keys_only()), r#"page "a" limit 9 at 3 keys_only"#),
    ]);
}

#[test]
fn display_of_txns() {
    let compares = Txn::new().when([
        Compare::version("a", CompareOp::Greater, 1),
        Compare::mod_revision("a", CompareOp::Less, 2),
        Compare::lease("a", CompareOp::Equal, -16),
        Compare::from_wire(KeyRange::all(), 9, 9, 0, ""),
    ]);
    let many = Txn::new().and_then((0..7).map(|n| TxnOp::get(n.to_string())));
    assert_lines([
        (
            Request::Txn(example_txn()),
            "txn if [create_revision(\"a\") == 0, value(\"b\") != \"x\"] \
             then [put \"a\" = \"1\", txn of 1 compares, 0 + 1 operations] else [get \"k\"*, unset]",
        ),
        (
            Request::Txn(compares),
            "txn if [version(\"a\") > 1, mod_revision(\"a\") < 2, lease(\"a\") == -10, unrecognized(*) ?] \
             then [] else []",
        ),
        (Request::Txn(many), r#"txn if [] then [get "0", get "1", get "2", get "3", 3 more] else []"#),
    ]);
}

#[test]
fn display_of_other_requests() {
    let corrupt = AlarmRequest::activate(Alarm { member_id: 16, alarm: AlarmType::Corrupt });
    let full = AlarmRequest::deactivate(Alarm { member_id: 1, alarm: AlarmType::NoSpace });
    assert_lines([
        (Request::Compact(Compact::new(3).physical()), "compact 3 physical"),
        (Request::Grant(Grant::new(millis(1500)).id(16).keep_alive()), "grant 1.5s lease 10 standing"),
        (Request::Grant(Grant::new(secs(5))), "grant 5s"),
        (Request::Revoke(16.into()), "revoke 10"),
        (Request::KeepAlive(16.into()), "keep_alive 10"),
        (Request::TimeToLive { id: 16.into(), keys: true }, "time_to_live 10 keys"),
        (Request::TimeToLive { id: 16.into(), keys: false }, "time_to_live 10"),
        (Request::Leases, "leases"),
        (Request::Status, "status"),
        (Request::HashKv(3.into()), "hash_kv 3"),
        (Request::Alarm(AlarmRequest::list()), "alarm get"),
        (Request::Alarm(corrupt), "alarm activate CORRUPT member 10"),
        (Request::Alarm(full), "alarm deactivate NOSPACE member 1"),
        (Request::Snapshot, "snapshot"),
    ]);
    assert_eq!(format!("[{:>8}]", RequestKind::Get), "[     get]", "a kind can be padded to a column");
}

#[test]
fn display_of_watch_requests() {
    let watch =
        Watch::key("a").start_revision(3).id(4).prev_kv().no_put().no_delete().progress_notify().fragment();
    let line = r#"watch "a" from 3 id 4 prev_kv no_put no_delete progress_notify fragment"#;
    let requests = [
        (WatchRequest::Create(watch), line),
        (WatchRequest::Create(Watch::all()), "watch *"),
        (WatchRequest::Cancel(4.into()), "cancel 4"),
        (WatchRequest::Progress, "progress"),
        (WatchRequest::Lease(16.into()), "lease 10"),
    ];
    for (request, line) in requests {
        assert_eq!(request.to_string(), line);
    }
}

#[test]
fn is_write_of_requests() {
    let activate = AlarmRequest::activate(Alarm { member_id: 1, alarm: AlarmType::NoSpace });
    let nested = |op: TxnOp| Request::Txn(Txn::new().or_else([TxnOp::Txn(Txn::new().or_else([op]))]));
    let writes = [
        Request::Put(Put::new("a", "b")),
        Request::Delete(Delete::key("a")),
        Request::Compact(Compact::new(1)),
        Request::Grant(Grant::new(secs(1))),
        Request::Revoke(1.into()),
        Request::KeepAlive(1.into()),
        Request::Alarm(activate),
        nested(TxnOp::put("a", "b")),
        nested(TxnOp::delete("a")),
    ];
    let reads = [
        Request::Get(Get::key("a")),
        Request::TimeToLive { id: 1.into(), keys: true },
        Request::Leases,
        Request::Status,
        Request::HashKv(0.into()),
        Request::Alarm(AlarmRequest::list()),
        Request::Page(Page::new("a", 1)),
        Request::Snapshot,
        nested(TxnOp::get("a")),
        nested(TxnOp::Unset),
    ];
    assert!(writes.iter().all(Request::is_write));
    assert!(!reads.iter().any(Request::is_write));
}

#[test]
fn ranges_of_requests() {
    let txn = Request::Txn(example_txn());
    let a = || KeyRange::key("a");
    let from_m = || KeyRange::from_key("m");
    assert_eq!(
        txn.ranges(),
        [a(), KeyRange::key("b"), a(), KeyRange::prefix("k"), KeyRange::key("n"), from_m()],
        "compares come first, then operations, then the nested txn"
    );
    assert_eq!(txn.written_ranges(), [a(), from_m()]);
    for read in [Request::Get(Get::key("a")), Request::Page(Page::new("a", 1))] {
        assert_eq!((read.ranges(), read.written_ranges()), (vec![a()], vec![]));
    }
    for write in [Request::Put(Put::new("a", "b")), Request::Delete(Delete::key("a"))] {
        assert_eq!((write.ranges(), write.written_ranges()), (vec![a()], vec![a()]));
    }
    assert_eq!(Request::Revoke(1.into()).ranges(), []);
}
