//! Delivered events: order, whole revisions, filters, previous pairs, fragments (R-WCH-7 to R-WCH-11, R-WCH-15 to R-WCH-18,
//! R-WCH-23, R-CMP-2, R-CMP-5).

use std::collections::BTreeSet;

use leasehold::{Delete, KeyRange, Put, Store, TxnOp, Watch};
use leasehold_testkit::helpers::{self, delete, grant, manual, physical, put, put_leased, secs};
use leasehold_testkit::watch_helpers::{
    self, NOTHING, drain, engine_put, put_times, receive, responses, revisions, say, store_of, stream,
    stream_of, txn,
};

const MIB: usize = 1024 * 1024;

/// Returns a delete of all keys from `start` on. In a txn, a put of one of these keys can follow it (R-TXN-20).
fn wipe(start: &'static str) -> TxnOp {
    TxnOp::Delete(Delete::range(KeyRange::from_key(start)))
}

/// Wraps an operation in a nested txn. Of two nested txns, one can put a key that the later one deletes (R-TXN-19).
fn nested(operation: TxnOp) -> TxnOp {
    TxnOp::Txn(leasehold::Txn::new().and_then([operation]))
}

/// R-WCH-7: a watch that starts after the last received revision continues exactly there, live or from history.
#[test]
fn watch_from_the_next_revision_continues_without_gap() {
    let (store, _clock) = manual();
    put_times(&store, "other", 3);
    let (mut next, mut seen) = (1, Vec::new());
    for round in 0..20 {
        let mut stream = stream_of(&store, [Watch::prefix("a").start_revision(next)]);
        for n in 0..round % 4 {
            txn(&store, [TxnOp::put("a1", n.to_string()), TxnOp::put("other", "v"), TxnOp::put("a2", "v")]);
        }
        let revisions = revisions(&responses(&mut stream));
        next = revisions.last().map_or(next, |last| last + 1);
        seen.extend(revisions);
        put(&store, "a3", "unseen as yet");
    }
    let expected = store.events(1).unwrap();
    let expected = expected.iter().filter(|event| event.kv().key().starts_with(b"a"));
    let mut expected: Vec<i64> = expected.map(|event| event.kv().mod_revision().get()).collect();
    expected.truncate(seen.len());
    assert_eq!(seen, expected);
    assert!(seen.len() > 40);
}

/// R-WCH-8: events are in the order of the operations, not of the keys. The keys of a range delete are in ascending order.
#[test]
fn events_are_in_execution_order() {
    let (store, _clock) = manual();
    for key in ["k3", "k1", "k2"] {
        put(&store, key, "v");
    }
    let mut stream = stream_of(&store, [Watch::all()]);
    let inner = leasehold::Txn::new().and_then([TxnOp::put("m", "2"), TxnOp::delete("absent")]);
    let range = TxnOp::Delete(Delete::prefix("k"));
    txn(&store, [TxnOp::put("z", "1"), TxnOp::Txn(inner), range, TxnOp::put("a", "3")]);
    let expected = "0 @5 put z=1 5/5/1, put m=2 5/5/1, delete k1 5, delete k2 5, delete k3 5, put a=3 5/5/1";
    assert_eq!(drain(&mut stream), [expected]);
    stream.create(Watch::all().start_revision(5));
    assert_eq!(drain(&mut stream)[1], expected.replace("0 @", "1 @"), "history has the same order");
}

/// R-WCH-9: a synced watcher receives one response for each transaction, with all matching events and its revision.
#[test]
fn synced_watcher_receives_one_response_per_transaction() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::prefix("a")]);
    put(&store, "a", "1");
    put(&store, "b", "no match");
    put(&store, "a", "2");
    txn(&store, [TxnOp::put("a1", "3"), TxnOp::put("b", "4"), TxnOp::put("a2", "5")]);
    txn(&store, [TxnOp::put("b", "6"), TxnOp::delete("absent")]);
    txn(&store, [TxnOp::get("a")]);
    delete(&store, "absent");
    store.delete(Delete::prefix("a")).unwrap();
    let expected = [
        "0 @2 put a=1 2/2/1",
        "0 @4 put a=2 2/4/2",
        "0 @5 put a1=3 5/5/1, put a2=5 5/5/1",
        "0 @7 delete a 7, delete a1 7, delete a2 7",
    ];
    assert_eq!(drain(&mut stream), expected);
}

/// R-WCH-9: a refused request and a request without changes have no event.
#[test]
fn request_without_changes_has_no_event() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::all()]);
    store.put(Put::new("", "v")).unwrap_err();
    store.put(Put::new("a", "v").lease(9)).unwrap_err();
    store
        .txn(leasehold::Txn::new().and_then([TxnOp::put("a", "1"), TxnOp::Put(Put::new("b", "v").lease(9))]))
        .unwrap_err();
    delete(&store, "a");
    grant(&store, 7, secs(10));
    store.revoke(7).unwrap();
    assert_eq!(drain(&mut stream), NOTHING);
}

/// R-WCH-10: history is delivered in responses of a thousand whole revisions. The header has the revision of the read.
#[test]
fn history_is_delivered_in_responses_of_1000_revisions() {
    let mut engine = helpers::engine();
    for _ in 0..500 {
        engine_put(&mut engine, "a", "v");
    }
    let wide = (0..128).map(|n| TxnOp::put(format!("a{n:03}"), "w"));
    engine.txn(&leasehold::Txn::new().and_then(wide)).unwrap();
    for _ in 0..1999 {
        engine_put(&mut engine, "a", "v");
    }
    let stream = engine.open_stream();
    watch_helpers::create(&mut engine, stream, Watch::all().start_revision(1));
    let mut batches = Vec::new();
    let mut deliveries = std::collections::VecDeque::new();
    loop {
        let has_more = engine.receive(stream, &mut deliveries);
        for delivery in deliveries.drain(..) {
            let leasehold::backend::Delivery::Watch(response) = delivery else {
                panic!("the stream has no timer")
            };
            if !response.created() {
                let revisions = revisions([&response]);
                let distinct: BTreeSet<i64> = revisions.iter().copied().collect();
                let header = response.header().revision().get();
                batches.push((
                    header,
                    revisions[0],
                    revisions[revisions.len() - 1],
                    distinct.len(),
                    revisions.len(),
                ));
            }
        }
        if !has_more {
            break;
        }
        // The next response's header is higher, although its events are older.
        engine_put(&mut engine, "b", "v");
        engine.check_invariants();
    }
    let expected =
        [(2501, 2, 1001, 1000, 1127), (2501, 1002, 2001, 1000, 1000), (2502, 2002, 2502, 501, 501)];
    assert_eq!(batches, expected);
}

/// R-WCH-10: a piece of history without a match is read and has no response.
#[test]
fn history_without_a_match_has_no_response() {
    let (store, _clock) = manual();
    put_times(&store, "a", 3);
    put_times(&store, "other", 10_000);
    put_times(&store, "a", 1);
    let mut stream = stream(&store);
    stream.create(Watch::key("a").start_revision(3));
    stream.create(Watch::key("b").start_revision(1));
    let mut lines = drain(&mut stream);
    lines.sort();
    let expected = [
        "0 @10005 created",
        "0 @10005 put a=0 2/10005/4",
        "0 @10005 put a=1 2/3/2, put a=2 2/4/3",
        "1 @10005 created",
    ];
    assert_eq!(lines, expected);
    put(&store, "b", "v");
    stream.request_progress();
    assert_eq!(drain(&mut stream), ["1 @10006 put b=v 10006/10006/1", "-1 @10006 progress"]);
}

/// R-WCH-11: a watcher receives both changes of a key at one revision, live and from history.
#[test]
fn key_changed_twice_in_a_revision_has_two_events() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    let mut stream = stream_of(&store, [Watch::all()]);
    txn(&store, [wipe("a"), TxnOp::put("a", "2")]);
    txn(&store, [nested(TxnOp::put("n", "3")), nested(TxnOp::delete("n"))]);
    let expected = ["0 @3 delete a 3, put a=2 3/3/1", "0 @4 put n=3 4/4/1, delete n 4"];
    assert_eq!(drain(&mut stream), expected);
    stream.create(Watch::all().start_revision(3));
    let past = "1 @4 delete a 3, put a=2 3/3/1, put n=3 4/4/1, delete n 4";
    assert_eq!(drain(&mut stream), ["1 @4 created", past]);
}

/// R-CMP-2, R-WCH-11: of the compacted revision itself, only the last change of a key is kept.
#[test]
fn compacted_revision_keeps_the_last_change_of_a_key() {
    for is_physical in [false, true] {
        let (store, _clock) = manual();
        put(&store, "a", "1");
        let (put_n, delete_n) = (nested(TxnOp::put("n", "3")), nested(TxnOp::delete("n")));
        txn(&store, [wipe("a"), nested(TxnOp::put("a", "2")), put_n, delete_n]);
        txn(&store, [wipe("a"), TxnOp::put("a", "4")]);
        let compact = if is_physical { physical(3) } else { leasehold::Compact::new(3) };
        store.compact(compact).unwrap();
        let mut stream = stream_of(&store, [Watch::all().start_revision(3)]);
        let expected = "0 @4 put a=2 3/3/1, delete n 3, delete a 4, put a=4 4/4/1";
        assert_eq!(drain(&mut stream), [expected], "physical: {is_physical}");
    }
}

/// R-WCH-15: watchers receive a revision in the order of their ids, and all of them before the next revision.
#[test]
fn watchers_of_a_stream_receive_in_id_order() {
    let (store, _clock) = manual();
    let ids = [5, -3, 2, 9, 1];
    let ranges = [
        KeyRange::key("a"),
        KeyRange::prefix("a"),
        KeyRange::all(),
        KeyRange::key("a"),
        KeyRange::prefix("a"),
    ];
    let watches = ids.into_iter().zip(ranges).map(|(id, range)| Watch::range(range).id(id));
    let mut stream = stream(&store);
    watches.for_each(|watch| stream.create(watch));
    drain(&mut stream);
    put(&store, "a", "1");
    txn(&store, [TxnOp::put("b", "2"), TxnOp::put("a", "3")]);
    let seen: Vec<(i64, i64)> =
        responses(&mut stream).iter().map(|r| (r.header().revision().get(), r.watch_id().get())).collect();
    let each = |revision| [-3, 1, 2, 5, 9].map(|id| (revision, id));
    assert_eq!(seen, [each(2), each(3)].concat());
}

/// R-WCH-16: filtered events are not delivered. A watch with both filters receives nothing.
#[test]
fn filters_remove_events() {
    let (store, _clock) = manual();
    let both = Watch::all().no_put().no_delete();
    let watches = [Watch::all().no_put(), Watch::all().no_delete(), both.clone()];
    let mut stream = stream_of(&store, watches.clone());
    put(&store, "a", "1");
    txn(&store, [TxnOp::put("b", "2"), TxnOp::delete("a")]);
    delete(&store, "b");
    let live = ["1 @2 put a=1 2/2/1", "0 @3 delete a 3", "1 @3 put b=2 3/3/1", "0 @4 delete b 4"];
    assert_eq!(drain(&mut stream), live);
    let mut past = watch_helpers::stream(&store);
    watches.into_iter().for_each(|watch| past.create(watch.start_revision(1)));
    let mut seen = drain(&mut past);
    seen.retain(|line| !line.ends_with("created"));
    assert_eq!(seen, ["0 @4 delete a 3, delete b 4", "1 @4 put a=1 2/2/1, put b=2 3/3/1"]);
    assert_eq!(store.watch(both).unwrap().try_recv(), Ok(None));
}

/// R-WCH-17: the previous pair is the one before the whole transaction. A create has none.
#[test]
fn prev_kv_is_the_pair_before_the_transaction() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::all().prev_kv(), Watch::key("a")]);
    put(&store, "a", "1");
    put(&store, "a", "2");
    txn(&store, [wipe("a"), TxnOp::put("a", "3")]);
    txn(&store, [nested(TxnOp::put("n", "4")), nested(TxnOp::delete("n"))]);
    txn(&store, [nested(TxnOp::put("a", "5")), nested(TxnOp::delete("a"))]);
    put(&store, "a", "6");
    delete(&store, "a");
    let expected = [
        "0 @2 put a=1 2/2/1",
        "0 @3 put a=2 2/3/2 was a=1 2/2/1",
        "0 @4 delete a 4 was a=2 2/3/2, put a=3 4/4/1",
        "0 @5 put n=4 5/5/1, delete n 5",
        "0 @6 put a=5 4/6/2 was a=3 4/4/1, delete a 6 was a=3 4/4/1",
        "0 @7 put a=6 7/7/1",
        "0 @8 delete a 8 was a=6 7/7/1",
    ];
    let (asked, others): (Vec<_>, Vec<_>) =
        responses(&mut stream).into_iter().partition(|response| response.watch_id().get() == 0);
    assert_eq!(asked.iter().map(say).collect::<Vec<_>>(), expected);
    let has_prev = others.iter().flat_map(|r| r.events()).any(|event| event.prev_kv().is_some());
    assert!(!has_prev && others.len() == 6, "a watcher without `prev_kv` receives no previous pairs");
    let mut past = stream_of(&store, [Watch::all().prev_kv().start_revision(1)]);
    let bodies: Vec<&str> = expected.iter().map(|line| &line[5..]).collect();
    assert_eq!(drain(&mut past), [format!("0 @8 {}", bodies.join(", "))], "history has previous pairs");
}

/// R-CMP-5, R-WCH-17: an event that is not a create reports that its previous pair is compacted.
#[test]
fn prev_kv_of_a_compacted_state_is_reported_as_compacted() {
    let (store, _clock) = manual();
    put_times(&store, "a", 3);
    put(&store, "b", "v");
    delete(&store, "b");
    let mut live = stream_of(&store, [Watch::all().prev_kv()]);
    store.compact(4).unwrap();
    let mut past = stream_of(&store, [Watch::all().prev_kv().start_revision(4)]);
    let expected = "0 @6 put a=2 2/4/3 was compacted, put b=v 5/5/1, delete b 6 was b=v 5/5/1";
    assert_eq!(drain(&mut past), [expected], "the event at revision 4 needs the state at 3");
    store.compact(6).unwrap();
    put(&store, "a", "x");
    let expected = ["0 @7 put a=x 2/7/4 was a=2 2/4/3"];
    assert_eq!(
        (drain(&mut live), drain(&mut past)),
        (expected.map(String::from).into(), expected.map(String::from).into())
    );
}

/// R-WCH-17: watchers of one event share no response, so each has or lacks the previous pair independently.
#[test]
fn watchers_receive_separate_responses() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    let mut stream =
        stream_of(&store, [Watch::key("a").prev_kv(), Watch::key("a"), Watch::prefix("a").prev_kv()]);
    put(&store, "a", "2");
    let with = "put a=2 2/3/2 was a=1 2/2/1";
    let expected = [format!("0 @3 {with}"), "1 @3 put a=2 2/3/2".to_owned(), format!("2 @3 {with}")];
    assert_eq!(drain(&mut stream), expected);
}

fn big_puts(store: &Store, times: usize, bytes: usize) {
    for n in 0..times {
        store.put((format!("big{n}"), vec![b'x'; bytes])).expect("the put is valid");
    }
}

/// Returns the fragment flag and the number of events of each response.
fn pieces(store: &Store, watch: Watch) -> Vec<(bool, usize)> {
    let mut stream = stream_of(store, [watch]);
    let all = responses(&mut stream);
    let heads: BTreeSet<_> = all.iter().map(|r| (r.watch_id(), r.header().revision())).collect();
    assert_eq!(heads.len(), 1, "all fragments have one watch id and revision");
    let seen: Vec<_> = all.iter().flat_map(|r| r.events()).cloned().collect();
    assert_eq!(Ok(seen), store.events(1), "the fragments contain all events in order");
    all.iter().map(|r| (r.fragment(), r.events().len())).collect()
}

/// R-WCH-18: five events of 1 MiB are delivered in five fragments.
#[test]
fn long_response_is_delivered_in_fragments() {
    let (store, _clock) = manual();
    big_puts(&store, 5, MIB);
    let expected = [(true, 1), (true, 1), (true, 1), (true, 1), (false, 1)];
    assert_eq!(pieces(&store, Watch::all().start_revision(1).fragment()), expected);
    assert_eq!(
        pieces(&store, Watch::all().start_revision(1)),
        [(false, 5)],
        "a watch without `fragment` receives one response"
    );
    let mut live = stream_of(&store, [Watch::all().fragment()]);
    big_puts(&store, 2, MIB);
    assert_eq!(responses(&mut live).iter().filter(|r| r.fragment()).count(), 0, "each event is one response");
}

/// R-WCH-18: a fragment contains as many events as fit below the limit. A response within the limit is not split.
#[test]
fn fragments_are_filled_up_to_the_limit() {
    // The fragment limit is the request limit plus half a MiB.
    let (store, _clock) = store_of(1000);
    for n in 0..700 {
        store.put((format!("k{n:03}"), vec![b'x'; 900])).unwrap();
    }
    let split = pieces(&store, Watch::all().start_revision(1).fragment());
    assert_eq!(split.iter().map(|piece| piece.0).collect::<Vec<_>>(), [true, false]);
    let limit = 1000 + 512 * 1024;
    assert!((limit / 1000..limit / 900).contains(&split[0].1), "{split:?}");

    let (store, _clock) = store_of(1000);
    for n in 0..500 {
        store.put((format!("k{n:03}"), vec![b'x'; 900])).unwrap();
    }
    assert_eq!(pieces(&store, Watch::all().start_revision(1).fragment()), [(false, 500)]);
}

/// R-WCH-18: an event is not split, whatever its size. A revision can be split, and previous pairs count.
#[test]
fn revision_can_be_split_into_fragments() {
    let (store, _clock) = store_of(usize::MAX / 2);
    let large = || vec![b'x'; 600 * 1024];
    let mut unlimited = stream_of(&store, [Watch::all().fragment()]);
    txn(&store, [TxnOp::put("a", large()), TxnOp::put("b", large())]);
    assert_eq!(responses(&mut unlimited).len(), 1);

    let (store, _clock) = store_of(2 * MIB);
    let mut stream = stream_of(&store, [Watch::all().fragment(), Watch::all().fragment().prev_kv()]);
    let counts = |stream: &mut _| -> Vec<(i64, bool, usize)> {
        let all = responses(stream);
        all.iter().map(|r| (r.watch_id().get(), r.fragment(), r.events().len())).collect()
    };
    txn(&store, [TxnOp::put("a", large()), TxnOp::put("b", large()), TxnOp::put("c", large())]);
    assert_eq!(counts(&mut stream), [(0, false, 3), (1, false, 3)]);
    store.delete(Delete::all()).unwrap();
    assert_eq!(counts(&mut stream), [(0, false, 3), (1, false, 3)]);
    txn(&store, [TxnOp::put("a", vec![b'x'; 1800 * 1024])]);
    txn(&store, [TxnOp::put("a", vec![b'y'; 1800 * 1024])]);
    assert_eq!(counts(&mut stream).len(), 4, "a single event is not split");
    txn(&store, [TxnOp::put("b", large()), TxnOp::put("a", "small")]);
    assert_eq!(counts(&mut stream), [(0, false, 2), (1, false, 2)]);
    put(&store, "c", "v");
    txn(&store, [TxnOp::put("b", large()), TxnOp::put("c", vec![b'x'; 1400 * 1024])]);
    let with_previous = [(0, false, 1), (0, false, 2), (1, false, 1), (1, true, 1), (1, false, 1)];
    let mut counted = counts(&mut stream);
    counted.sort_by_key(|&(id, _, _)| id);
    assert_eq!(counted, with_previous);
}

/// R-WCH-23, R-LSE-5, R-LSE-6: a lease that ends deletes its keys in ascending order, at a revision of its own.
#[test]
fn ended_lease_delivers_deletes() {
    let (store, clock) = manual();
    for (id, ttl) in [(7, 10), (3, 10), (5, 60)] {
        grant(&store, id, secs(ttl));
    }
    put_leased(&store, &["c", "a", "b"], 7);
    put_leased(&store, &["z", "y"], 3);
    put_leased(&store, &["r", "q"], 5);
    let mut stream =
        stream_of(&store, [Watch::all(), Watch::prefix("b").prev_kv(), Watch::all().no_delete()]);
    clock.advance(secs(10));
    store.revoke(5).unwrap();
    let expected = [
        "0 @9 delete y 9, delete z 9",
        "0 @10 delete a 10, delete b 10, delete c 10",
        "1 @10 delete b 10 was b=v 4/4/1 #7",
        "0 @11 delete q 11, delete r 11",
    ];
    assert_eq!(drain(&mut stream), expected);
    let mut engine = helpers::engine();
    let (stream, id) = (engine.open_stream(), engine.grant(&leasehold::Grant::new(secs(5))).unwrap().id());
    watch_helpers::create(&mut engine, stream, Watch::all());
    engine.put(&Put::new("a", "v").lease(id)).unwrap();
    engine.expire(id).unwrap();
    assert_eq!(receive(&mut engine, stream)[1..], ["0 @2 put a=v 2/2/1 #1", "0 @3 delete a 3"]);
}

/// A put of an empty value is a put event.
#[test]
fn put_of_empty_value_is_a_put_event() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a"), Watch::key("a").no_put()]);
    put(&store, "a", "");
    let all = responses(&mut stream);
    assert_eq!(all.iter().map(say).collect::<Vec<_>>(), ["0 @2 put a= 2/2/1"]);
    assert!(all[0].events()[0].is_create());
}
