//! Gets: revisions, limits, filters, sorting (R-RNG-1 to R-RNG-11, R-REV-7, R-REV-8).

use leasehold::response::{GetResponse, TxnOpResponse};
use leasehold::{Error, Get, KeyRange, SortOrder, SortTarget, Store, Txn};
use leasehold_testkit::helpers::{
    self, at, delete, grant, keys, manual, put, put_leased, secs, show, show_all,
};

const ORDERS: [SortOrder; 3] = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
const TARGETS: [SortTarget; 5] = [
    SortTarget::Key,
    SortTarget::Version,
    SortTarget::CreateRevision,
    SortTarget::ModRevision,
    SortTarget::Value,
];

/// Reads alone and as the only operation of a txn. Both responses must be equal (R-TXN-15).
#[track_caller]
fn read(store: &Store, get: Get) -> GetResponse {
    let alone = store.get(get.clone()).expect("the read is valid");
    let inside = store.txn(Txn::new().and_then([get])).expect("the read is valid in a txn");
    let [TxnOpResponse::Get(inside)] = inside.responses() else {
        panic!("a txn of one read returns one get response");
    };
    let parts = |response: &GetResponse| (show_all(response.kvs()), response.more(), response.count());
    assert_eq!(parts(inside), parts(&alone));
    assert_eq!(inside.header().revision(), alone.header().revision());
    alone
}

/// Returns a store with foo at 2, foo1 at 3 and foo2 at 4.
fn three_keys() -> Store {
    let store = Store::new();
    for key in ["foo", "foo1", "foo2"] {
        put(&store, key, "bar");
    }
    store
}

/// Returns a store after eight puts of six keys. Key c has three versions, and the values are not in key order.
fn six_keys() -> Store {
    let store = Store::new();
    let pairs = [
        ("a", "m2"),
        ("b", "m"),
        ("c", "p1"),
        ("c", "p2"),
        ("c", "n9"),
        ("dir", "q"),
        ("dir/x", "1"),
        ("dis", "z"),
    ];
    for (key, value) in pairs {
        put(&store, key, value);
    }
    store
}

#[track_caller]
fn spaced(store: &Store, get: Get) -> String {
    keys(read(store, get).kvs()).join(" ")
}

#[test]
fn get_returns_the_pairs_from_start_to_end() {
    let store = three_keys();
    let rows = [
        ("doo", "foo", ""),
        ("foo", "foo", ""),
        ("doo", "", ""),
        ("foo", "foo3", "foo foo1 foo2"),
        ("foo", "foo1", "foo"),
        ("foo", "foo2", "foo foo1"),
        ("foo", "", "foo"),
        ("foo1", "fop", "foo1 foo2"),
        ("foo2", "fop", "foo2"),
        ("foo3", "fop", ""),
        ("fop", "foo", ""),
        ("\0", "\0", "foo foo1 foo2"),
    ];
    for (key, end, expected) in rows {
        let response = read(&store, KeyRange::from_wire(key, end).into());
        assert_eq!(keys(response.kvs()).join(" "), expected, "{key:?} to {end:?}");
        assert_eq!(response.count(), response.kvs().len() as i64);
        assert!(!response.more());
        assert_eq!(response.header().revision(), at(4));
    }
    let all = show_all(store.get(Get::all()).unwrap().kvs());
    assert_eq!(all, ["foo=bar 2/2/1", "foo1=bar 3/3/1", "foo2=bar 4/4/1"]);
}

/// R-REV-8: a revision of 0 or below reads the latest state. R-REV-7: the header always has the store's revision.
#[test]
fn get_at_a_revision_returns_the_state_of_then() {
    let store = three_keys();
    let rows = [
        (-7, "foo foo1 foo2"),
        (-1, "foo foo1 foo2"),
        (0, "foo foo1 foo2"),
        (1, ""),
        (2, "foo"),
        (3, "foo foo1"),
    ];
    for (revision, expected) in rows {
        let response = store.get(Get::all().at(revision)).unwrap();
        assert_eq!(keys(response.kvs()).join(" "), expected, "at {revision}");
        assert_eq!(response.header().revision(), at(4));
    }
    assert_eq!(spaced(&store, Get::all().at(4)), "foo foo1 foo2");
}

/// R-REV-8, R-CMP-3.
#[test]
fn get_at_compacted_or_future_revision_returns_both_revisions() {
    let store = three_keys();
    put(&store, "foo", "newer");
    store.compact(4).unwrap();
    for revision in [-1, 0, 4, 5] {
        assert_eq!(store.get(Get::all().at(revision)).unwrap().count(), 3, "at {revision}");
    }
    for revision in [1, 2, 3] {
        let refused = Error::Compacted { requested: at(revision), compacted: Some(at(4)) };
        assert_eq!(store.get(Get::all().at(revision)).unwrap_err(), refused);
        assert_eq!(store.get(Get::key("absent").at(revision)).unwrap_err(), refused);
    }
    for revision in [6, 100, i64::MAX] {
        let refused = Error::FutureRevision { requested: at(revision), current: at(5) };
        assert_eq!(store.get(Get::all().at(revision)).unwrap_err(), refused);
    }
}

#[test]
fn limit_caps_the_pairs_and_not_the_count() {
    let store = three_keys();
    let rows = [(-1, 3, false), (0, 3, false), (1, 1, true), (2, 2, true), (3, 3, false), (100, 3, false)];
    for (limit, length, more) in rows {
        let response = read(&store, Get::all().limit(limit));
        let expected = &["foo", "foo1", "foo2"][..length];
        assert_eq!(keys(response.kvs()), expected, "limit {limit}");
        assert_eq!((response.more(), response.count()), (more, 3), "limit {limit}");
    }
    let at_three = read(&store, Get::all().limit(1).at(3));
    assert_eq!((keys(at_three.kvs()).join(" "), at_three.more(), at_three.count()), ("foo".into(), true, 2));
    let single = store.get(Get::key("foo").limit(1)).unwrap();
    assert_eq!((single.kvs().len(), single.more(), single.count()), (1, false, 1));
    assert_eq!(spaced(&store, Get::all().limit(i64::MAX)), "foo foo1 foo2");
    assert_eq!(spaced(&store, Get::all().limit(i64::MIN)), "foo foo1 foo2");
}

/// Each row is also read with `keys_only`, which clears the value and changes nothing else (R-RNG-9).
#[test]
fn get_options_combine() {
    let (sort, none, asc, desc) = (Get::all(), SortOrder::None, SortOrder::Ascend, SortOrder::Descend);
    let rows = [
        (Get::key("a"), "a", 1),
        (Get::key("a").serializable(), "a", 1),
        (Get::range(KeyRange::between("a", "c")), "a b", 2),
        (Get::prefix(""), "a b c dir dir/x dis", 6),
        (Get::range(KeyRange::from_key("")), "a b c dir dir/x dis", 6),
        (Get::range(KeyRange::between("a", "x")), "a b c dir dir/x dis", 6),
        (Get::all().at(4), "a b c", 3),
        (Get::prefix("dir"), "dir dir/x", 2),
        (Get::range(KeyRange::from_key("dir")), "dir dir/x dis", 3),
        (Get::all().limit(2), "a b", 6),
        (sort.clone().sort(SortTarget::ModRevision, asc), "a b c dir dir/x dis", 6),
        (sort.clone().sort(SortTarget::Version, asc), "a b dir dir/x dis c", 6),
        (sort.clone().sort(SortTarget::CreateRevision, none), "a b c dir dir/x dis", 6),
        (sort.clone().sort(SortTarget::CreateRevision, desc), "dis dir/x dir c b a", 6),
        (sort.clone().sort(SortTarget::Key, desc), "dis dir/x dir c b a", 6),
        (sort.clone().sort(SortTarget::Value, none), "dir/x b a c dir dis", 6),
        (sort.clone().sort(SortTarget::Value, asc), "dir/x b a c dir dis", 6),
        (sort.clone().sort(SortTarget::Value, desc), "dis dir c a b dir/x", 6),
        (sort.clone().sort(SortTarget::ModRevision, none).min_mod_revision(4), "c dir dir/x dis", 6),
        (sort.clone().sort(SortTarget::Key, desc).max_mod_revision(5), "b a", 6),
        (sort.clone().sort(SortTarget::Version, desc).min_create_revision(4), "c dir dir/x dis", 6),
        (sort.clone().sort(SortTarget::Value, desc).max_create_revision(7), "dir c a b", 6),
        (sort.clone().sort(SortTarget::Value, desc).limit(2), "dis dir", 6),
        (sort.sort(SortTarget::Version, desc).limit(1).max_mod_revision(5), "a", 6),
    ];
    let store = six_keys();
    for (get, expected, count) in rows {
        let whole = read(&store, get.clone());
        assert_eq!((keys(whole.kvs()).join(" "), whole.count()), (expected.into(), count), "{get:?}");
        assert_eq!(whole.header().revision(), at(9));
        let without = read(&store, get.keys_only());
        assert_eq!((without.count(), without.more()), (whole.count(), whole.more()));
        // `show` writes the value after `=`, so replacing it yields the pair without a value.
        let emptied: Vec<String> =
            whole.kvs().iter().map(|kv| show(kv).replace(&value_of(kv), "=")).collect();
        assert_eq!(show_all(without.kvs()), emptied);
    }
}

fn value_of(kv: &leasehold::KeyValue) -> String {
    format!("={}", helpers::text(kv.value()))
}

#[test]
fn get_at_a_revision_returns_the_version_of_then() {
    let store = six_keys();
    let rows = [(4, "c=p1 4/4/1"), (5, "c=p2 4/5/2"), (6, "c=n9 4/6/3"), (9, "c=n9 4/6/3")];
    for (revision, expected) in rows {
        assert_eq!(show_all(store.get(Get::key("c").at(revision)).unwrap().kvs()), [expected]);
    }
    assert_eq!(store.get(Get::key("c").at(3)).unwrap().count(), 0);
}

/// Three generations of `foo`: put, put, delete; put, put, delete; put, delete, put. Puts of `gap` are between them.
#[test]
fn get_at_a_revision_returns_the_generation_of_then() {
    let store = Store::new();
    for change in ["foo", "foo", "-", "foo", "gap", "foo", "-", "gap", "foo", "-", "foo"] {
        match change {
            "-" => delete(&store, "foo"),
            key => put(&store, if key == "foo" { "foo" } else { "gap" }, "v"),
        };
    }
    let rows = [
        (1, None),
        (2, Some("foo=v 2/2/1")),
        (3, Some("foo=v 2/3/2")),
        (4, None),
        (5, Some("foo=v 5/5/1")),
        (6, Some("foo=v 5/5/1")),
        (7, Some("foo=v 5/7/2")),
        (8, None),
        (9, None),
        (10, Some("foo=v 10/10/1")),
        (11, None),
        (12, Some("foo=v 12/12/1")),
    ];
    for (revision, expected) in rows {
        let response = read(&store, Get::key("foo").at(revision));
        assert_eq!(response.kvs().first().map(show).as_deref(), expected, "at {revision}");
        assert_eq!(response.count(), i64::from(expected.is_some()));
        let in_range = store.get(Get::range(KeyRange::between("f", "g")).at(revision)).unwrap();
        assert_eq!(in_range.kvs(), response.kvs(), "at {revision}");
    }
}

/// R-RNG-3: the empty key is checked first, then the sort, then the revision.
#[test]
fn get_reports_the_first_failing_check() {
    let store = three_keys();
    let bad_order = Get::all().sort(SortTarget::Key, SortOrder::Unrecognized);
    let bad_target = Get::all().sort(SortTarget::Unrecognized, SortOrder::Ascend);
    assert_eq!(store.get("").unwrap_err(), Error::EmptyKey);
    assert_eq!(store.get(Get::key("").sort(SortTarget::Unrecognized, SortOrder::None)), Err(Error::EmptyKey));
    assert_eq!(store.get(bad_order.clone()).unwrap_err(), Error::InvalidSort);
    assert_eq!(store.get(bad_target.clone()).unwrap_err(), Error::InvalidSort);
    assert_eq!(store.get(bad_order.at(100)).unwrap_err(), Error::InvalidSort);
    assert_eq!(store.get(bad_target.count_only()).unwrap_err(), Error::InvalidSort);
    assert_eq!(store.get(Get::key("").at(100)).unwrap_err(), Error::EmptyKey);
}

#[test]
fn sorts_from_wire_numbers() {
    assert_eq!([0, 1, 2].map(SortOrder::from_wire), ORDERS);
    assert_eq!([0, 1, 2, 3, 4].map(SortTarget::from_wire), TARGETS);
    for unknown in [-1, 5, 10, i32::MAX, i32::MIN] {
        assert_eq!(SortOrder::from_wire(unknown), SortOrder::Unrecognized);
        assert_eq!(SortTarget::from_wire(unknown), SortTarget::Unrecognized);
    }
    assert_eq!(SortOrder::from_wire(3), SortOrder::Unrecognized);
    assert_eq!((SortOrder::default(), SortTarget::default()), (SortOrder::None, SortTarget::Key));
}

/// R-RNG-5: keys a to e with mod revisions 5, 4, 7, 2, 8.
#[test]
fn sort_without_order_sorts_only_the_first_keys_up_to_the_limit() {
    let store = Store::new();
    for key in ["d", "e", "b", "a", "c", "c", "e"] {
        put(&store, key, "v");
    }
    let by_mod = |order| Get::all().sort(SortTarget::ModRevision, order).limit(2);
    let undirected = store.get(by_mod(SortOrder::None)).unwrap();
    assert_eq!(show_all(undirected.kvs()), ["b=v 4/4/1", "a=v 5/5/1"]);
    assert_eq!((undirected.more(), undirected.count()), (true, 5));
    let ascending = store.get(by_mod(SortOrder::Ascend)).unwrap();
    assert_eq!(show_all(ascending.kvs()), ["d=v 2/2/1", "b=v 4/4/1"]);
    assert_eq!((ascending.more(), ascending.count()), (true, 5));
    assert_eq!(spaced(&store, by_mod(SortOrder::Descend)), "e c");
    // A filter removes the cap on fetched keys, so all of them are sorted.
    assert_eq!(spaced(&store, by_mod(SortOrder::None).min_mod_revision(1)), "d b");
}

/// R-RNG-8.
#[test]
fn sort_keeps_ties_in_ascending_key_order() {
    let store = Store::new();
    for key in ["d", "b", "a", "c", "e", "b", "d"] {
        put(&store, key, "same");
    }
    let version = |order| spaced(&store, Get::all().sort(SortTarget::Version, order));
    assert_eq!(version(SortOrder::Ascend), "a c e b d");
    assert_eq!(version(SortOrder::Descend), "b d a c e");
    let value = |order| spaced(&store, Get::all().sort(SortTarget::Value, order));
    assert_eq!([value(SortOrder::Ascend), value(SortOrder::Descend)], ["a b c d e"; 2]);
}

/// R-RNG-6: `more` counts only the matching pairs, `count` all of them.
#[test]
fn revision_bounds_are_inclusive_and_do_not_change_count() {
    let store = six_keys();
    let get = || Get::all().limit(1);
    let rows = [
        (get().min_mod_revision(9), "dis", false),
        (get().min_mod_revision(8), "dir/x", true),
        (get().max_mod_revision(2), "a", false),
        (get().max_mod_revision(3), "a", true),
        (get().min_create_revision(4).max_create_revision(4), "c", false),
        (get().min_mod_revision(6).max_mod_revision(6), "c", false),
        (get().min_mod_revision(5).max_mod_revision(5), "", false),
        (get().min_mod_revision(10), "", false),
    ];
    for (get, expected, more) in rows {
        let response = read(&store, get.clone());
        assert_eq!((keys(response.kvs()).join(" ").as_str(), response.more()), (expected, more), "{get:?}");
        assert_eq!(response.count(), 6);
    }
    let single = store.get(Get::key("a").min_mod_revision(3)).unwrap();
    assert_eq!((single.kvs().len(), single.count(), single.more()), (0, 1, false));
}

/// R-RNG-7.
#[test]
fn negative_revision_bounds_filter_and_zero_bounds_do_not() {
    let store = six_keys();
    for get in [Get::all(), Get::key("a")] {
        let unbounded = get.clone().min_mod_revision(0).max_mod_revision(0).min_create_revision(0);
        let everything = spaced(&store, get.clone());
        assert_eq!(spaced(&store, unbounded.max_create_revision(0)), everything);
        assert_eq!(spaced(&store, get.clone().max_mod_revision(-1)), "");
        assert_eq!(spaced(&store, get.clone().max_create_revision(i64::MIN)), "");
        assert_eq!(spaced(&store, get.clone().min_mod_revision(-1).min_create_revision(-5)), everything);
    }
}

/// R-RNG-4, step 3.
#[test]
fn count_only_ignores_other_options() {
    let store = six_keys();
    let counts = [
        (Get::key("a").count_only(), 1),
        (Get::key("absent").count_only(), 0),
        (Get::all().count_only().limit(1), 6),
        (Get::all().count_only().keys_only(), 6),
        (Get::all().count_only().max_mod_revision(-1), 6),
        (Get::all().count_only().sort(SortTarget::Value, SortOrder::Descend), 6),
        (Get::all().count_only().at(5), 3),
        (Get::prefix("dir").count_only(), 2),
        (Get::range(KeyRange::between("x", "a")).count_only(), 0),
    ];
    for (get, count) in counts {
        let response = read(&store, get.clone());
        assert_eq!((response.kvs().len(), response.count(), response.more()), (0, count, false), "{get:?}");
    }
}

/// R-RNG-9: etcd 3.7 clears the lease; etcd 3.5 and this crate keep it.
#[test]
fn keys_only_keeps_the_lease() {
    let (store, _clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a", "b"], 7);
    for order in ORDERS {
        for target in TARGETS {
            let response = store.get(Get::all().keys_only().sort(target, order)).unwrap();
            // The order depends on the sort, and only the leases are compared here.
            let mut shown = show_all(response.kvs());
            shown.sort();
            assert_eq!(shown, ["a= 2/2/1 #7", "b= 3/3/1 #7"], "{target:?} {order:?}");
        }
    }
    assert_eq!(show_all(store.get(Get::key("a").keys_only()).unwrap().kvs()), ["a= 2/2/1 #7"]);
    assert_eq!(show_all(store.get("a").unwrap().kvs()), ["a=v 2/2/1 #7"]);
}

#[test]
fn header_has_cluster_member_revision_and_term() {
    let store = Store::builder().cluster_id(0xc1).member_id(0x3e).build();
    let header = *store.get("absent").unwrap().header();
    let named = (header.cluster_id(), header.member_id(), header.revision(), header.raft_term());
    assert_eq!(named, (0xc1, 0x3e, at(1), 1));
}

/// A limit at or above the number of keys changes no response, whatever the sort, and no arithmetic overflows.
#[test]
fn huge_limits_with_any_sort_return_all_keys() {
    let store = six_keys();
    for target in TARGETS {
        for order in ORDERS {
            let get = Get::all().sort(target, order);
            let unlimited = store.get(get.clone()).unwrap();
            assert_eq!(unlimited.kvs().len(), 6);
            assert_eq!(store.get(get.clone().limit(i64::MAX)).unwrap(), unlimited);
            assert_eq!(store.get(get.limit(6)).unwrap(), unlimited, "{target:?} {order:?}");
        }
    }
}
