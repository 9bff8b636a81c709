//! Namespaces of a client: every key in a request and in a response, as with etcd's `clientv3/namespace`.

use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::response::{TxnOpResponse, WatchResponse};
use leasehold::{
    Client, Compare, CompareOp, Delete, Error, Get, KeyRange, Page, Put, SortOrder, SortTarget, Store, Txn,
    TxnOp, Watch, Watcher,
};
use leasehold_testkit::helpers::{self, keys, manual, secs, show, show_all, show_events, text};

/// Returns a store with keys outside of the prefix "in/", some of them close to it, and a client of that namespace.
fn around() -> (Store, Client) {
    let store = manual().0;
    for outside in ["a", "b", "in", "in.", "in/", "in0", "z", "in\0"] {
        store.put((outside, "outside")).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(helpers::revision(&store), 9);
    let client = store.client().namespace("in/");
    (store, client)
}

fn put(client: &Client, key: &str, value: &str) -> i64 {
    client.put((key, value)).wait().expect("the put is valid").header().revision().get()
}

fn all(client: &Client) -> Vec<String> {
    keys(client.get(Get::all()).wait().expect("the read is valid").kvs())
}

fn next(watcher: &mut Watcher) -> Vec<String> {
    let response = watcher.try_recv().expect("the watch is not cancelled");
    response.map(|response: WatchResponse| show_events(response.events())).unwrap_or_default()
}

#[test]
fn put_adds_the_prefix_and_responses_strip_it() {
    let (store, client) = around();
    put(&client, "a", "1");
    let before = client.put(Put::new("a", "2").prev_kv()).wait().unwrap();
    assert_eq!(show(before.prev_kv().unwrap()), "a=1 10/10/1");
    assert_eq!(show_all(store.get("in/a").unwrap().kvs()), ["in/a=2 10/11/2"]);
    assert_eq!(show_all(client.get("a").wait().unwrap().kvs()), ["a=2 10/11/2"]);
    assert_eq!(helpers::value(&store, "a").as_deref(), Some("outside"));
}

/// Every kind of range is read, with keys outside of the namespace that sort next to its own.
#[test]
fn get_returns_only_keys_of_the_namespace() {
    let (_, client) = around();
    for key in ["\0", "a", "ab", "b", "z"] {
        put(&client, key, "v");
    }
    put(&client.namespace(b""), "\u{ff}", "v");
    let ranges: [(KeyRange, &[&str]); 11] = [
        (KeyRange::key("a"), &["a"]),
        (KeyRange::key("in/a"), &[]),
        (KeyRange::all(), &["\\x00", "a", "ab", "b", "z", "\\xc3\\xbf"]),
        (KeyRange::prefix(""), &["\\x00", "a", "ab", "b", "z", "\\xc3\\xbf"]),
        (KeyRange::from_key(""), &["\\x00", "a", "ab", "b", "z", "\\xc3\\xbf"]),
        (KeyRange::from_key("b"), &["b", "z", "\\xc3\\xbf"]),
        (KeyRange::from_key("\u{fff}"), &[]),
        (KeyRange::prefix("a"), &["a", "ab"]),
        (KeyRange::prefix(b"\xff"), &[]),
        (KeyRange::between("a", "b"), &["a", "ab"]),
        (KeyRange::between("b", "a"), &[]),
    ];
    for (range, expected) in ranges {
        let found = client.get(range.clone()).wait().unwrap();
        assert_eq!(keys(found.kvs()), expected, "{range:?}");
        assert_eq!(found.count(), expected.len() as i64);
    }
    let page = client.get(Get::all().limit(2).sort(SortTarget::Key, SortOrder::Descend)).wait().unwrap();
    assert_eq!(
        (keys(page.kvs()), page.count(), page.more()),
        (vec!["\\xc3\\xbf".into(), "z".into()], 6, true)
    );
    let counted = client.get(Get::all().count_only()).wait().unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (6, 0));
    assert_eq!(show_all(client.get(Get::key("a").keys_only()).wait().unwrap().kvs()), ["a= 11/11/1"]);
    assert_eq!(client.get(Get::all().at(11)).wait().unwrap().count(), 2);
}

#[test]
fn delete_removes_only_keys_of_the_namespace() {
    for (range, left) in [
        (KeyRange::all(), vec![]),
        (KeyRange::from_key("b"), vec!["a", "ab"]),
        (KeyRange::prefix("a"), vec!["b"]),
        (KeyRange::key("b"), vec!["a", "ab"]),
        (KeyRange::between("a", "ab"), vec!["ab", "b"]),
    ] {
        let (store, client) = around();
        let outside = helpers::all_keys(&store);
        for key in ["a", "ab", "b"] {
            put(&client, key, key);
        }
        let deleted = client.delete(Delete::range(range).prev_kv()).wait().unwrap();
        assert_eq!(all(&client), left);
        assert_eq!(deleted.deleted() as usize, 3 - left.len());
        assert!(deleted.prev_kvs().iter().all(|kv| kv.key() == kv.value()), "{deleted:?}");
        client.delete(Delete::all()).wait().unwrap();
        assert_eq!(helpers::all_keys(&store), outside);
    }
}

/// The prefix is added in each kind of operation, in each branch, at each depth, and in each compare.
#[test]
fn txn_adds_the_prefix_in_all_its_parts() {
    let (store, client) = around();
    put(&client, "a", "1");
    let has = |key: &str, value: &str| Compare::value(key, CompareOp::Equal, value);
    let inner = Txn::new()
        .when([Compare::version(KeyRange::all(), CompareOp::Equal, 1), has("a", "1")])
        .and_then([TxnOp::Delete(Delete::range(KeyRange::from_key("a")).prev_kv()), TxnOp::get("b")]);
    let txn = Txn::new()
        .when([
            has("a", "1"),
            Compare::create_revision("b", CompareOp::Equal, 0),
            Compare::value(KeyRange::from_key("\0"), CompareOp::NotEqual, "outside"),
            Compare::lease(KeyRange::prefix("a"), CompareOp::Equal, 0),
            Compare::mod_revision(KeyRange::between("a", "b"), CompareOp::Equal, 10),
        ])
        .and_then([
            TxnOp::Get(Get::all()),
            TxnOp::Txn(inner),
            TxnOp::Put(Put::new("\0c", "2").prev_kv()),
            TxnOp::Get(Get::all()),
        ])
        .or_else([TxnOp::put("wrong", "v")]);
    let answer = client.txn(txn.clone()).wait().unwrap();
    assert!(answer.succeeded());
    assert_eq!(
        shown(answer.responses()),
        ["get a=1 10/10/1", "(delete a=1 10/10/1; get )", "put ", "get \\x00c=2 11/11/1"]
    );
    let failed = client.txn(txn.or_else([TxnOp::Put(Put::new("\0c", "3").prev_kv())])).wait().unwrap();
    assert_eq!(
        (failed.succeeded(), shown(failed.responses())),
        (false, vec!["put ".into(), "put \\x00c=2 11/11/1".into()])
    );
    assert_eq!(all(&client), ["\\x00c", "wrong"]);
    assert_eq!(helpers::all_keys(&store).len(), 8 + 2);
}

fn shown(responses: &[TxnOpResponse]) -> Vec<String> {
    let show_response = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(get) => format!("get {}", show_all(get.kvs()).join(", ")),
        TxnOpResponse::Put(put) => format!("put {}", put.prev_kv().map(show).unwrap_or_default()),
        TxnOpResponse::Delete(delete) => format!("delete {}", show_all(delete.prev_kvs()).join(", ")),
        TxnOpResponse::Txn(txn) => format!("({})", shown(txn.responses()).join("; ")),
        other => panic!("unknown kind: {other:?}"),
    };
    responses.iter().map(show_response).collect()
}

/// A watch of each range shows equal changes inside and outside of the namespace.
#[test]
fn watch_delivers_only_events_of_the_namespace() {
    let ranges = [
        (KeyRange::key("a"), "a"),
        (KeyRange::prefix("a"), "a ab"),
        (KeyRange::from_key("ab"), "ab z"),
        (KeyRange::between("\0", "ab"), "\\x00 a"),
        (KeyRange::all(), "\\x00 a ab z"),
        (KeyRange::prefix(""), "\\x00 a ab z"),
        (KeyRange::key(""), "\\x00"),
        (KeyRange::from_wire("", "ab"), "\\x00 a"),
        (KeyRange::from_wire("", "\0"), "\\x00 a ab z"),
    ];
    for (range, expected) in ranges {
        let (store, client) = around();
        let mut live = client.watch(range.clone());
        for key in ["\0", "a", "ab", "z"] {
            put(&client, key, "v");
        }
        for outside in ["a", "ab", "in", "in/", "in0", "z"] {
            store.put((outside, "v")).unwrap();
        }
        // `live` receives events as they happen, and `late` reads them from history.
        let mut late = client.watch(Watch::range(range.clone()).start_revision(1));
        for watcher in [&mut live, &mut late] {
            let mut seen = Vec::new();
            while let Some(response) = watcher.try_recv().unwrap() {
                seen.extend(response.events().iter().map(|event| text(event.kv().key())));
            }
            assert_eq!(seen.join(" "), expected, "{range:?}");
        }
    }
}

#[test]
fn event_has_both_pairs_without_the_prefix() {
    let (store, client) = around();
    let mut watcher = client.watch(Watch::all().prev_kv());
    put(&client, "a", "1");
    put(&client, "a", "2");
    client.delete("a").wait().unwrap();
    for (event, before) in [
        ("put a=1 10/10/1", None),
        ("put a=2 10/11/2", Some("a=1 10/10/1")),
        ("delete a 12", Some("a=2 10/11/2")),
    ] {
        let response = watcher.try_recv().unwrap().unwrap();
        assert_eq!(show_events(response.events()), [event]);
        assert_eq!(response.events()[0].prev_kv().map(show).as_deref(), before);
    }
    store.put(("in/b", "3")).unwrap();
    assert_eq!(next(&mut watcher), ["put b=3 13/13/1"], "a write by any client is delivered");
    assert_eq!(watcher.lag().unwrap().revisions, 0);
    watcher.request_progress();
    assert!(watcher.try_recv().unwrap().unwrap().is_progress_notify());
    let mut deletes = client.watch(Watch::all().no_put());
    put(&client, "c", "v");
    client.delete("c").wait().unwrap();
    assert_eq!(next(&mut deletes), ["delete c 15"]);
}

/// R-CMP-5: a missing previous pair is reported as compacted, with and without a namespace.
#[test]
fn event_without_prev_kv_reports_compaction_inside_a_namespace() {
    let (store, client) = around();
    put(&client, "a", "1");
    put(&client, "a", "2");
    store.compact(11).unwrap();
    for (client, key) in [(store.client(), "in/a"), (client, "a")] {
        let mut asking = client.watch(Watch::key(key).start_revision(11).prev_kv());
        let mut other = client.watch(Watch::key(key).start_revision(11));
        for (watcher, is_reported) in [(&mut asking, true), (&mut other, false)] {
            let response = watcher.try_recv().unwrap().unwrap();
            let event = &response.events()[0];
            assert_eq!(show_events(response.events()), [format!("put {key}=2 10/11/2")]);
            assert_eq!((event.prev_kv(), event.is_prev_kv_compacted()), (None, is_reported));
            assert_eq!(format!("{event:?}").contains("Compacted"), is_reported);
        }
    }
}

/// A range without an end stops at the end of the namespace, whatever the prefix's last byte.
///
/// If no key sorts after all keys with the prefix, the range has no end.
#[test]
fn range_without_end_stops_at_the_end_of_the_namespace() {
    let prefixes: [&[u8]; 7] = [b"a", b"a\xff", b"a\xff\xff", b"\xff", b"\xff\xff", b"\0", b"a\0"];
    for prefix in prefixes {
        let store = manual().0;
        let mut outside: Vec<Vec<u8>> = [
            &b"\0"[..],
            b"\x01",
            b"a",
            b"a\x01",
            b"a\xfe",
            b"a\xfe\xff",
            b"b",
            b"b\0",
            b"c",
            b"\xfe\xff",
            b"\xff",
        ]
        .map(<[u8]>::to_vec)
        .into();
        // The prefix itself is outside, since its key in the namespace would be empty.
        outside.retain(|key| !key.starts_with(prefix) || key == prefix);
        for key in &outside {
            store.put((key, "outside")).unwrap();
        }
        let client = store.client().namespace(prefix);
        let inside: [&[u8]; 5] = [b"\0", b"a", b"\xfe", b"\xff", b"\xff\xff\xff"];
        let mut watcher = client.watch(KeyRange::from_key("a"));
        for key in inside {
            client.put((key, "inside")).wait().unwrap();
        }
        for key in &outside {
            store.put((key, "again")).unwrap();
        }
        let found = |get: Get| {
            let found = client.get(get).wait().unwrap();
            found.kvs().iter().map(|kv| kv.key().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(found(Get::all()), inside, "{}", text(prefix));
        assert_eq!(found(Get::range(KeyRange::from_key("a"))), inside[1..]);
        assert_eq!(found(Get::prefix(b"\xff")), inside[3..]);
        let seen = std::iter::from_fn(|| watcher.try_recv().unwrap());
        assert_eq!(seen.map(|response| response.events().len()).sum::<usize>(), 4);
        assert_eq!(client.delete(Delete::all()).wait().unwrap().deleted(), 5);
        let left = store.get(Get::all()).unwrap();
        assert!(left.kvs().iter().map(leasehold::KeyValue::key).eq(outside.iter().map(Vec::as_slice)));
    }
}

#[test]
fn empty_key_in_a_namespace_is_refused() {
    let (store, client) = around();
    let empty = || KeyRange::from_wire("", "\0");
    let before = helpers::revision(&store);
    assert_eq!(client.put(("", "v")).wait(), Err(Error::EmptyKey));
    assert_eq!(client.get("").wait(), Err(Error::EmptyKey));
    assert_eq!(client.get(empty()).wait(), Err(Error::EmptyKey));
    assert_eq!(client.delete(empty()).wait(), Err(Error::EmptyKey));
    assert_eq!(client.delete("").wait(), Err(Error::EmptyKey));
    let compares =
        [Compare::version("", CompareOp::Equal, 0), Compare::version(empty(), CompareOp::Equal, 0)];
    for compare in compares {
        assert_eq!(client.txn(Txn::new().when([compare])).wait(), Err(Error::EmptyKey));
    }
    for op in [TxnOp::put("", "v"), TxnOp::get(""), TxnOp::get(empty()), TxnOp::delete(empty())] {
        let nested = TxnOp::Txn(Txn::new().or_else([op.clone()]));
        assert_eq!(client.txn(Txn::new().and_then([op])).wait(), Err(Error::EmptyKey));
        assert_eq!(client.txn(Txn::new().and_then([nested])).wait(), Err(Error::EmptyKey));
    }
    assert_eq!(client.txn(Txn::new().and_then([TxnOp::Unset])).wait(), Err(Error::KeyNotFound));
    assert_eq!(client.watch(KeyRange::between("b", "a")).recv(), Err(Error::WatchRangeEmpty));
    assert_eq!(helpers::revision(&store), before);
}

/// etcd does not find an overlap of a put and a delete without an end (R-TXN-20). A namespace adds an end, so the overlap is
/// found, unless the namespace itself has no end.
#[test]
fn delete_to_the_end_overlaps_a_put_in_a_namespace() {
    let store = manual().0;
    let twice = || Txn::new().and_then([TxnOp::delete(KeyRange::all()), TxnOp::put("a", "v")]);
    assert!(store.client().txn(twice()).wait().is_ok());
    assert!(store.client().namespace(b"\xff").txn(twice()).wait().is_ok());
    assert_eq!(store.client().namespace("in/").txn(twice()).wait(), Err(Error::DuplicateKey));
}

/// A lease can have keys outside of the namespace, since leases are the store's. A response omits those keys.
#[test]
fn time_to_live_lists_only_keys_of_the_namespace() {
    let (store, client) = around();
    let lease = client.grant(secs(5)).wait().unwrap().id();
    for outside in ["a", "in", "in.x", "in0", "x"] {
        store.put(Put::new(outside, "v").lease(lease)).unwrap();
    }
    for inside in ["b", "a", "in/a"] {
        client.put(Put::new(inside, "v").lease(lease)).wait().unwrap();
    }
    let shown = |client: &Client, keys| {
        let answer = client.time_to_live(lease, keys).wait().unwrap();
        answer.keys().iter().map(|key| text(key)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&client, true), ["a", "b", "in/a"]);
    assert_eq!(shown(&client.namespace("in/"), true), ["a"]);
    assert_eq!(shown(&client, false), [""; 0]);
    assert_eq!(shown(&store.client(), true).len(), 8);
    assert_eq!(client.leases().wait().unwrap().leases(), [lease]);
    let mut watcher = client.watch(Watch::all());
    client.revoke(lease).wait().unwrap();
    assert_eq!(next(&mut watcher), ["delete a 18", "delete b 18", "delete in/a 18"]);
    assert_eq!(helpers::value(&store, "x"), None, "the revoke deletes keys outside of the namespace too");
}

#[test]
fn nested_namespace_has_both_prefixes() {
    let store = manual().0;
    let outer = store.client().namespace("outer/");
    let inner = outer.namespace("inner/");
    let sibling = outer.namespace("inner0");
    put(&inner, "a", "1");
    put(&outer, "b", "2");
    put(&sibling, "c", "3");
    assert_eq!(helpers::all_keys(&store), ["outer/b", "outer/inner/a", "outer/inner0c"]);
    assert_eq!(
        (all(&inner), all(&outer), all(&sibling)),
        (vec!["a".into()], vec!["b".into(), "inner/a".into(), "inner0c".into()], vec!["c".into()])
    );
    assert_eq!(all(&store.client().namespace("outer/inner/")), ["a"], "both ways join the prefixes");
    let inner_again = outer.namespace("inner").namespace("/");
    assert_eq!(all(&inner_again), ["a"]);
    assert_eq!(format!("{inner_again:?}"), r#"Client { namespace: Namespace(b"outer/inner/"), .. }"#);
}

#[test]
fn namespace_with_empty_prefix_changes_nothing() {
    let (store, inside) = around();
    let whole = store.client().namespace("").namespace(b"");
    assert_eq!(all(&whole), helpers::all_keys(&store));
    assert_eq!(all(&inside.namespace("")), all(&inside));
    let mut watcher = whole.watch(Watch::key(""));
    put(&whole, "\0", "v");
    assert_eq!(next(&mut watcher), ["put \\x00=v 10/10/1"]);
    assert_eq!(whole.get("").wait(), Err(Error::EmptyKey));
}

/// Revisions, the header, compaction and time belong to the whole store.
#[test]
fn header_compaction_and_time_are_the_stores() {
    let (store, client) = around();
    let answer = client.get("a").wait().unwrap();
    assert_eq!(answer.header(), store.get("a").unwrap().header());
    assert_eq!(put(&client, "a", "1"), 10);
    client.compact(10).wait().unwrap();
    let compacted = Error::Compacted { requested: 9.into(), compacted: Some(10.into()) };
    assert_eq!(store.get(Get::key("z").at(9)), Err(compacted.clone()));
    assert_eq!(client.watch(Watch::all().start_revision(9)).recv(), Err(compacted));
    assert_eq!(client.now(), store.now());
}

/// The next page starts after the last key, which has no prefix in the response.
#[test]
fn pages_in_a_namespace_cover_its_keys_at_one_revision() {
    let (_, client) = around();
    for key in ["a", "b", "c", "z"] {
        put(&client, key, "v");
    }
    let ranges = [(KeyRange::all(), 4), (KeyRange::from_key("b"), 4), (KeyRange::between("a", "c"), 2)];
    for (range, count) in ranges {
        let whole = client.get(Get::range(range.clone())).wait().unwrap();
        let (mut next, mut seen) = (Some(Page::new(range, 1)), Vec::new());
        while let Some(page) = next {
            let response = client.page(page.clone()).wait().unwrap();
            assert_eq!(response.revision(), whole.header().revision());
            next = page.after(&response);
            seen.extend(response.kvs().to_vec());
            put(&client, "zz", "between two pages");
        }
        assert_eq!((seen.len(), &seen[..]), (count, whole.kvs()));
    }
    assert_eq!(client.page(Page::new("", 1)).wait(), Err(Error::EmptyKey));
}

/// A request without keys concerns the whole store.
#[test]
fn request_without_keys_passes_through_a_namespace() {
    let (store, client) = around();
    assert_eq!(client.status().wait(), store.status());
    assert_eq!(client.hash_kv(5).wait(), store.hash_kv(5));
    let alarm = Alarm { member_id: 1, alarm: AlarmType::Corrupt };
    assert_eq!(client.alarm(AlarmRequest::activate(alarm)).wait().unwrap().alarms(), [alarm]);
    assert_eq!(store.put(("a", "v")), Err(Error::Corrupt));
}
