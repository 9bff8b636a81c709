//! Watch streams: creation of watchers, their ids, and their start revisions (R-WCH-1 to R-WCH-6).
//!
//! Events are tested in `events.rs`, the ends of watchers in `cancel.rs`, progress in `progress.rs`.

use leasehold::watch::WatchId;
use leasehold::{KeyRange, ManualClock, Revision, Store, Watch};
use leasehold_testkit::helpers::{at, delete, manual, put, secs};
use leasehold_testkit::watch_helpers::{
    self, NOTHING, drain, drain_watcher, put_times, responses, say, stream, stream_of, txn,
};

const DUPLICATE: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY: &str = "mvcc: watcher range is empty";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

fn wire(key: &[u8], range_end: &[u8]) -> Watch {
    Watch::range(KeyRange::from_wire(key.to_vec(), range_end.to_vec()))
}

/// R-WCH-1: a stream delivers one sequence of responses, in the order of the requests and changes.
#[test]
fn stream_delivers_one_ordered_sequence() {
    let (store, _clock) = manual();
    let mut stream = stream(&store);
    stream.create(Watch::key("a"));
    put(&store, "a", "1");
    stream.create(Watch::prefix("b"));
    put(&store, "b1", "2");
    stream.request_progress();
    stream.cancel(0);
    put(&store, "a", "3");
    put(&store, "b2", "4");
    let expected = [
        "0 @1 created",
        "0 @2 put a=1 2/2/1",
        "1 @2 created",
        "1 @3 put b1=2 3/3/1",
        "-1 @3 progress",
        "0 @3 canceled",
        "1 @5 put b2=4 5/5/1",
    ];
    assert_eq!(drain(&mut stream), expected);
    assert_eq!(drain(&mut stream), NOTHING);
}

/// R-WCH-1: the fields of each kind of response.
#[test]
fn watch_response_has_the_fields_of_its_kind() {
    let (store, _clock) = manual();
    let mut stream = stream(&store);
    stream.create(Watch::key("a"));
    put(&store, "a", "1");
    stream.request_progress();
    let all = responses(&mut stream);
    let header = all[1].header();
    assert_eq!((header.cluster_id(), header.member_id(), header.raft_term()), (1, 1, 1));
    let kinds: Vec<_> =
        all.iter().map(|r| (r.created(), r.canceled(), r.is_progress_notify(), r.events().len())).collect();
    assert_eq!(kinds, [(true, false, false, 0), (false, false, false, 1), (false, false, true, 0)]);
    assert!(
        all.iter().all(|r| r.cancel_reason().is_empty() && r.compact_revision().is_none() && !r.fragment())
    );
}

/// R-WCH-2: an empty key means the first possible key, and an empty end means one key.
#[test]
fn watch_covers_the_keys_of_its_interval() {
    let keys: [&[u8]; 6] = [b"\0", b"\0\0", b"a", b"b", b"c", b"\xff"];
    let rows: [(&[u8], &[u8], &[usize]); 10] = [
        (b"", b"", &[0]),
        (b"\0", b"", &[0]),
        (b"", b"\0", &[0, 1, 2, 3, 4, 5]),
        (b"\0", b"\0", &[0, 1, 2, 3, 4, 5]),
        (b"", b"b", &[0, 1, 2]),
        (b"a", b"", &[2]),
        (b"a", b"a\0", &[2]),
        (b"a", b"c", &[2, 3]),
        (b"b", b"\0", &[3, 4, 5]),
        (b"\xff", b"\0", &[5]),
    ];
    for (key, end, expected) in rows {
        let (store, _clock) = manual();
        let mut stream = stream_of(&store, [wire(key, end)]);
        for key in keys {
            store.put((key.to_vec(), "v")).unwrap();
        }
        let all = responses(&mut stream);
        let seen: Vec<&[u8]> = all.iter().flat_map(|r| r.events()).map(|event| event.kv().key()).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|&index| keys[index]).collect();
        assert_eq!(seen, expected, "{key:?} {end:?}");
    }
}

/// R-WCH-2, R-RNG-3, etcd #18053: a watch of the empty key is accepted and covers only the key `"\0"`. A get of it is refused.
#[test]
fn watch_of_the_empty_key_sees_only_the_key_of_one_zero_byte() {
    let (store, _clock) = manual();
    let mut watchers =
        ["".into(), Watch::key(""), Watch::range(KeyRange::key("")), Watch::key("").start_revision(1)]
            .map(|watch| store.watch(watch).unwrap());
    assert_eq!(store.get("").unwrap_err(), leasehold::Error::EmptyKey);
    for key in ["a", "\0\0", "\0", "b"] {
        put(&store, key, "v");
    }
    for watcher in &mut watchers {
        assert_eq!(drain_watcher(watcher), ["0 @4 put \\x00=v 4/4/1"]);
    }
    let mut all = store.watch(Watch::prefix("")).unwrap();
    put(&store, "c", "v");
    assert_eq!(drain_watcher(&mut all), ["0 @6 put c=v 6/6/1"]);
}

/// R-WCH-2: an interval that ends at or before its start is refused, and the stream stays usable.
#[test]
fn watch_of_empty_interval_is_refused() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    let mut stream = stream(&store);
    for (key, end) in [("b", "a"), ("b", "b"), ("b\0", "b"), ("b", "\0\0")] {
        stream.create(wire(key.as_bytes(), end.as_bytes()));
        assert_eq!(drain(&mut stream), [format!("-1 @2 refused: {EMPTY}")], "{key:?} {end:?}");
    }
    stream.create(Watch::key("b"));
    put(&store, "b", "2");
    assert_eq!(drain(&mut stream), ["0 @2 created", "0 @3 put b=2 3/3/1"], "a refused watch uses no id");
}

/// R-WCH-3: a watcher gets the smallest free number at or above a counter, which only increases.
#[test]
fn watch_ids_are_chosen_by_a_counter() {
    let (store, _clock) = manual();
    let mut stream = stream(&store);
    let mut id = |watch: Watch| {
        stream.create(watch);
        stream.try_recv().unwrap().unwrap().watch_id().get()
    };
    assert_eq!(id(Watch::key("a")), 0);
    assert_eq!(
        [id(Watch::key("a").id(2)), id(Watch::key("a").id(3)), id(Watch::key("a").id(-7))],
        [2, 3, -7]
    );
    assert_eq!([id(Watch::key("a")), id(Watch::key("a"))], [1, 4], "ids in use are skipped");
    assert_eq!(
        [id(wire(b"b", b"a")), id(Watch::key("a").id(2)), id(Watch::key("a").start_revision(-1))],
        [-1; 3]
    );
    assert_eq!(id(Watch::key("a")), 5, "a refused watch uses no id");
    assert_eq!([id(Watch::key("a").id(i64::MAX)), id(Watch::key("a").id(i64::MIN))], [i64::MAX, i64::MIN]);
    for cancelled in [0, 1, 4, 5] {
        stream.cancel(cancelled);
    }
    assert_eq!(drain(&mut stream).len(), 4);
    stream.create(Watch::key("a"));
    assert_eq!(drain(&mut stream), ["6 @1 created"], "freed ids are not chosen again");
}

/// R-WCH-3: an id in use is refused. An id that a cancel freed can be requested.
#[test]
fn watch_id_can_be_requested_if_free() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a").id(1)]);
    stream.create(Watch::key("b").id(1));
    stream.create(Watch::key("b"));
    stream.create(Watch::key("c"));
    let duplicate = format!("-1 @1 refused: {DUPLICATE}");
    assert_eq!(drain(&mut stream), [&*duplicate, "0 @1 created", "2 @1 created"]);
    stream.create(Watch::key("d").id(2));
    stream.cancel(1);
    stream.create(Watch::key("e").id(1));
    assert_eq!(drain(&mut stream), [&*duplicate, "1 @1 canceled", "1 @1 created"]);
    put(&store, "a", "1");
    put(&store, "e", "2");
    assert_eq!(drain(&mut stream), ["1 @3 put e=2 3/3/1"], "id 1 is the new watcher's");
}

/// R-WCH-3: each stream has its own ids, and closing a stream does not affect the others.
#[test]
fn streams_of_a_store_are_independent() {
    let (store, _clock) = manual();
    let mut streams: Vec<_> =
        (0..3).map(|_| stream_of(&store, [Watch::key("a"), Watch::key("b").id(9)])).collect();
    drop(streams.remove(1));
    streams[0].cancel(9);
    put(&store, "a", "1");
    put(&store, "b", "2");
    assert_eq!(drain(&mut streams[0]), ["9 @1 canceled", "0 @2 put a=1 2/2/1"]);
    assert_eq!(drain(&mut streams[1]), ["0 @2 put a=1 2/2/1", "9 @3 put b=2 3/3/1"]);
}

/// R-WCH-4: the id -1 is accepted, as in etcd. Refusals and progress for all watchers have that id too.
#[test]
fn watcher_can_have_the_id_minus_one() {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).progress_interval(secs(1)).build();
    let mut stream =
        stream_of(&store, [Watch::key("a").id(WatchId::INVALID).progress_notify(), Watch::key("b")]);
    stream.create(Watch::key("b").id(WatchId::INVALID));
    stream.create(wire(b"b", b"a"));
    put(&store, "a", "1");
    stream.request_progress();
    let expected = [
        format!("-1 @1 refused: {DUPLICATE}"),
        format!("-1 @1 refused: {EMPTY}"),
        "-1 @2 put a=1 2/2/1".to_owned(),
        "-1 @2 progress".to_owned(),
    ];
    assert_eq!(drain(&mut stream), expected);
    clock.advance(secs(2));
    assert_eq!(
        drain(&mut stream),
        ["-1 @2 progress"],
        "the watcher with id -1 receives its periodic progress"
    );
    stream.cancel(-1);
    put(&store, "a", "2");
    put(&store, "b", "2");
    assert_eq!(drain(&mut stream), ["-1 @2 canceled", "0 @4 put b=2 4/4/1"]);
    let mut watcher = store.watch(Watch::key("a").id(-1).start_revision(3)).unwrap();
    assert_eq!(drain_watcher(&mut watcher), ["-1 @4 put a=2 2/3/2"]);
}

/// R-WCH-5: the created response has the store's revision and comes before all events. No later event is missing.
#[test]
fn created_response_comes_before_all_later_events() {
    let (store, _clock) = manual();
    for n in 1..20 {
        let mut live = stream(&store);
        live.create(Watch::all());
        let mut past = stream(&store);
        past.create(Watch::all().start_revision(1));
        put(&store, "a", "v");
        let seen = responses(&mut live);
        assert_eq!(
            (say(&seen[0]), watch_helpers::revisions(&seen)),
            (format!("0 @{n} created"), vec![n + 1])
        );
        let seen = responses(&mut past);
        assert_eq!(say(&seen[0]), format!("0 @{n} created"));
        assert_eq!(watch_helpers::revisions(&seen), (2..=n + 1).collect::<Vec<_>>());
    }
}

/// Returns the revisions of 2 to 8 that a watcher created at revision 5 receives.
fn seen_from(start: i64) -> Vec<i64> {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    let mut stream = stream_of(&store, [Watch::key("a").start_revision(start)]);
    put_times(&store, "a", 3);
    let seen = responses(&mut stream);
    assert_eq!(drain(&mut stream), NOTHING);
    watch_helpers::revisions(&seen)
}

/// R-WCH-6: a watcher receives events from its start revision on, in the past or in the future.
#[test]
fn watcher_starts_at_the_requested_revision() {
    let rows = [(0, 6), (1, 2), (2, 2), (3, 3), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (i64::MAX, 9)];
    for (start, first) in rows {
        assert_eq!(seen_from(start), (first..=8).collect::<Vec<_>>(), "{start}");
    }
}

/// R-WCH-6: revisions are not negative.
#[test]
fn negative_start_revision_is_refused() {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    store.compact(3).unwrap();
    let mut stream = stream(&store);
    for start in [-1, -3, i64::MIN] {
        stream.create(Watch::key("a").start_revision(start));
        let refused = stream.try_recv().unwrap().unwrap();
        assert_eq!(say(&refused), format!("-1 @5 refused: {COMPACTED}"), "{start}");
        assert_eq!(refused.compact_revision(), None, "the compacted revision is 0 on the wire");
    }
}

/// R-WCH-2, R-WCH-3, R-WCH-6: of several reasons to refuse a watch, etcd checks the start first and the id last.
#[test]
fn watch_reports_the_first_failing_check() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a").id(7)]);
    let rows = [
        (wire(b"b", b"a").start_revision(-1).id(7), COMPACTED),
        (wire(b"b", b"a").start_revision(-1), COMPACTED),
        (Watch::key("a").start_revision(-1).id(7), COMPACTED),
        (wire(b"b", b"a").id(7), EMPTY),
        (wire(b"b", b"a").id(-1), EMPTY),
        (Watch::key("a").id(7).start_revision(1), DUPLICATE),
    ];
    for (watch, reason) in rows {
        stream.create(watch);
        assert_eq!(drain(&mut stream), [format!("-1 @1 refused: {reason}")]);
    }
}

/// R-WCH-6: a start before the compacted revision is accepted, and a compaction response ends the watcher.
#[test]
fn compacted_start_revision_is_accepted_then_ended() {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    store.compact(4).unwrap();
    for start in [1, 2, 3] {
        let mut stream = stream(&store);
        stream.create(Watch::key("a").start_revision(start));
        assert_eq!(drain(&mut stream), ["0 @5 created", "0 @0 compacted 4"], "{start}");
    }
    let mut stream = stream(&store);
    stream.create(Watch::key("a").start_revision(4));
    assert_eq!(drain(&mut stream), ["0 @5 created", "0 @5 put a=2 2/4/3, put a=3 2/5/4"]);
}

/// R-WCH-6: before its start revision a watcher receives nothing. From then on it receives whole revisions.
#[test]
fn watcher_with_future_start_receives_nothing_before_it() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::all().start_revision(5), Watch::all().start_revision(4)]);
    put(&store, "a", "1");
    delete(&store, "a");
    assert_eq!(drain(&mut stream), NOTHING);
    txn(&store, [leasehold::TxnOp::put("b", "2"), leasehold::TxnOp::put("a", "3")]);
    assert_eq!(drain(&mut stream), ["1 @4 put b=2 4/4/1, put a=3 4/4/1"]);
    put(&store, "b", "4");
    assert_eq!(drain(&mut stream), ["0 @5 put b=4 4/5/2", "1 @5 put b=4 4/5/2"]);
}

/// The conversions into a `Watch`, and its defaults.
#[test]
fn watch_converts_from_keys_and_ranges() {
    assert_eq!(<Watch as From<&'static str>>::from("a"), Watch::key("a"));
    assert_eq!(<Watch as From<KeyRange>>::from(KeyRange::prefix("a")), Watch::prefix("a"));
    assert_eq!(Watch::prefix(""), Watch::all());
    assert_eq!(Watch::key("a").start_revision(Revision::new(3)), Watch::key("a").start_revision(3));
    assert_eq!(Watch::key("a").id(WatchId::AUTO), Watch::key("a").start_revision(at(0)));
    assert_ne!(Watch::key("a").prev_kv(), Watch::key("a"));
}

/// R-WCH-2, in a namespace: a range without an end stops at the end of the namespace.
#[test]
fn watch_in_a_namespace_covers_only_its_keys() {
    let (store, _clock) = manual();
    let part = store.client().namespace("p/");
    let mut stream = part.watch_stream();
    for watch in
        [Watch::all().prev_kv(), Watch::key("a"), wire(b"b", b"\0"), wire(b"", b""), wire(b"b", b"a")]
    {
        stream.create(watch);
    }
    assert_eq!(drain(&mut stream).len(), 5);
    for key in ["p/", "p/a", "p/\0", "p/b", "p0", "o", "p"] {
        put(&store, key, "v");
    }
    put(&store, "p/a", "w");
    let expected = [
        "0 @3 put a=v 3/3/1",
        "1 @3 put a=v 3/3/1",
        "0 @4 put \\x00=v 4/4/1",
        "3 @4 put \\x00=v 4/4/1",
        "0 @5 put b=v 5/5/1",
        "2 @5 put b=v 5/5/1",
        "0 @9 put a=w 3/9/2 was a=v 3/3/1",
        "1 @9 put a=w 3/9/2",
    ];
    assert_eq!(drain(&mut stream), expected, "the key \"p/\" would be empty in the namespace");
}

/// A stream of one store receives nothing from another store.
#[test]
fn streams_of_two_stores_are_independent() {
    let ((one, _clock), (other, _other)): ((Store, _), (Store, _)) = (manual(), manual());
    let mut stream = stream_of(&one, [Watch::all()]);
    put(&other, "a", "1");
    assert_eq!(drain(&mut stream), NOTHING);
}
