//! Bugs of etcd's watches, by their issue numbers: each test shows that the bug does not occur here.

use leasehold::backend::WatchRequest;
use leasehold::engine::EngineConfig;
use leasehold::snapshot::LoadOptions;
use leasehold::{Compact, Error, Get, ManualClock, Revision, Store, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{self, at, delete, events, manual, physical, put, secs, value};
use leasehold_testkit::watch_helpers::{
    NOTHING, create, drain, engine_put, put_times, receive, responses, revisions, stream, stream_of, txn,
};

/// etcd #15220: progress responses were not queued with events, so they could overtake events up to their revision, or come
/// after later ones.
#[test]
fn progress_keeps_the_order_of_the_stream_15220() {
    let mut engine = helpers::engine();
    for _ in 0..1500 {
        engine_put(&mut engine, "a", "v");
    }
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("a").start_revision(1));
    engine.watch(stream, &WatchRequest::Progress);
    engine_put(&mut engine, "a", "v");
    engine.watch(stream, &WatchRequest::Progress);
    let mut lines = receive(&mut engine, stream);
    engine.watch(stream, &WatchRequest::Progress);
    engine_put(&mut engine, "a", "v");
    engine.watch(stream, &WatchRequest::Progress);
    lines.extend(receive(&mut engine, stream));
    let (mut last, mut progress) = (1, Vec::new());
    for line in &lines {
        let header: i64 = line.split(['@', ' ']).nth(2).unwrap().parse().unwrap();
        if line.ends_with("progress") {
            assert_eq!(header, last, "progress has the revision of the last delivered event");
            progress.push(header);
        }
        last += line.matches("put a").count() as i64;
    }
    assert_eq!((last, progress.last()), (1503, Some(&1503)));
}

/// etcd #17507, caused by the fix of #15220: if a new watcher had nothing to read, no progress was sent until the first event.
#[test]
fn progress_of_quiet_watcher_with_past_start_is_answered_17507() {
    let (store, _clock) = manual();
    put_times(&store, "other", 3);
    let mut stream = stream_of(&store, [Watch::key("quiet").start_revision(4)]);
    stream.request_progress();
    assert_eq!(drain(&mut stream), ["-1 @4 progress"]);
}

/// etcd #17529: a full queue dropped the response that a compaction ends the watcher. The watcher counted as synced, and the
/// events in between were skipped without an error.
#[test]
fn compaction_of_watcher_with_full_queue_is_reported_17529() {
    let (store, _clock) = manual();
    let watches = [(); 20].map(|()| Watch::prefix("pods/").capacity(1));
    let mut stream = stream_of(&store, watches);
    for n in 0..200 {
        let key = ["pods/1", "pods/2"][n % 2];
        put(&store, key, "v");
    }
    store.compact(150).unwrap();
    for _ in 0..10 {
        put(&store, "pods/3", "v");
    }
    let all = responses(&mut stream);
    for id in 0..20 {
        let of: Vec<_> = all.iter().filter(|r| r.watch_id().get() == id).collect();
        assert_eq!(revisions(of.iter().copied()), [2], "no event is delivered after the gap");
        assert_eq!((of.len(), of[1].compact_revision()), (2, Some(at(150))));
    }
}

/// etcd #17529, with a compaction just before the next revision of each watcher: all events are delivered.
#[test]
fn watcher_with_full_queue_receives_all_events_17529() {
    let (store, _clock) = manual();
    let mut stream =
        stream_of(&store, [1, 2, 3, 4].map(|capacity| Watch::prefix("pods/").capacity(capacity)));
    put_times(&store, "pods/1", 100);
    store.compact(3).unwrap();
    put_times(&store, "pods/2", 100);
    let all = responses(&mut stream);
    for id in 0..4 {
        let of = all.iter().filter(|r| r.watch_id().get() == id);
        assert_eq!(revisions(of), (2..=201).collect::<Vec<_>>(), "{id}");
    }
}

/// etcd #18089: a compaction at the revision of a delete dropped the tombstone. A watch from that revision, which is allowed,
/// missed the delete.
#[test]
fn compaction_keeps_the_delete_at_its_revision_18089() {
    for compact in [Compact::new(5), physical(5)] {
        let (store, _clock) = manual();
        for value in ["v2", "v3", "v4"] {
            put(&store, "k", value);
        }
        assert_eq!((delete(&store, "k"), put(&store, "k", "v6")), (5, 6));
        store.compact(compact).unwrap();
        let mut stream = stream_of(&store, [Watch::key("k").start_revision(5)]);
        assert_eq!(drain(&mut stream), ["0 @6 delete k 5, put k=v6 6/6/1"]);
    }
}

/// etcd #19179: after a restart, the only remaining tombstone of a key was not loaded, so a watch from its revision missed
/// the delete.
#[test]
fn only_remaining_tombstone_of_a_key_is_kept_19179() {
    let (store, _clock) = manual();
    for key in ["a", "b", "c", "d"] {
        put(&store, key, "1");
    }
    assert_eq!(delete(&store, "a"), 6);
    store.compact(physical(6)).unwrap();
    let mut before = stream_of(&store, [Watch::key("a").start_revision(6)]);
    assert_eq!(drain(&mut before), ["0 @6 delete a 6"]);
    assert_eq!(store.compact(6), Err(Error::Compacted { requested: at(6), compacted: Some(at(6)) }));
    put(&store, "e", "1");
    let mut again = stream_of(&store, [Watch::all().start_revision(6)]);
    assert_eq!(drain(&mut again), ["0 @7 delete a 6, put e=1 7/7/1"]);

    // A restart is a save and a load, before or after the compacted versions are reclaimed.
    let mut engine = helpers::engine();
    for key in ["a", "b"] {
        engine_put(&mut engine, key, "1");
    }
    engine.delete(&"a".into()).unwrap();
    engine.compact(&Compact::new(4)).unwrap();
    let mut freed = engine.clone();
    while freed.is_reclaiming() {
        freed.reclaim();
    }
    let [mut loaded, mut loaded_freed] = [&engine, &freed].map(|engine| {
        let mut saved = Vec::new();
        leasehold::snapshot::save(engine, &mut saved).unwrap();
        leasehold::snapshot::load(EngineConfig::default(), LoadOptions::new(), engine.now(), &saved[..])
            .unwrap()
    });
    for engine in [&mut engine, &mut freed, &mut loaded, &mut loaded_freed] {
        let stream = engine.open_stream();
        create(engine, stream, Watch::key("a").start_revision(4));
        assert_eq!(receive(engine, stream), ["0 @4 created", "0 @4 delete a 4"]);
    }
}

/// etcd #20221: a watcher with a future start lost it when a snapshot was sent to its member. It then received events and
/// progress from before its start.
#[test]
fn future_start_revision_is_kept_20221() {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).progress_interval(secs(1)).build();
    let mut stream = stream_of(&store, [Watch::prefix("k").start_revision(30).progress_notify().capacity(1)]);
    for revision in 2..30 {
        assert_eq!(put(&store, "k", "early"), revision);
        store.compact(Compact::new(revision)).unwrap();
        stream.request_progress();
        clock.advance(secs(3));
        // A refused watcher and a compacted watcher must not affect watcher 0.
        stream.create(Watch::key("k").start_revision(1).id(7));
        stream.create(Watch::key("k").start_revision(1).id(7));
        stream.cancel(7);
        assert!(drain(&mut stream).iter().all(|line| !line.starts_with("0 ") && !line.contains("progress")));
    }
    for _ in 0..3 {
        put(&store, "k", "late");
    }
    let all = responses(&mut stream);
    assert_eq!(revisions(&all), [30, 31, 32]);
}

/// etcd #10681: a compaction between a delete and its delivery removed the requested previous pair. The event looked like a
/// delete that never had one.
#[test]
fn delete_whose_prev_kv_is_compacted_reports_it_10681() {
    for (fillers, capacity, expected) in [
        (5, 100, "0 @8 delete x 8 was x=v 2/2/1"),
        (5, 1, "0 @0 compacted 8"),
        (1, 1, "0 @4 delete x 4 was compacted"),
    ] {
        let (store, _clock) = manual();
        put(&store, "x", "v");
        let mut stream = stream_of(&store, [Watch::prefix("x").prev_kv().capacity(capacity)]);
        put_times(&store, "x2", fillers);
        store.compact(delete(&store, "x")).unwrap();
        assert_eq!(drain(&mut stream).last().map(String::as_str), Some(expected), "{fillers} {capacity}");
    }
}

/// etcd #18667: members other than the client's skipped a txn's reads. A read at a compacted revision failed the txn on one
/// member only, and the members' data diverged.
///
/// Here such a txn is refused as a whole, and no watcher receives an event.
#[test]
fn txn_that_reads_a_compacted_revision_has_no_event_18667() {
    let (store, _clock) = manual();
    put_times(&store, "k1", 9);
    let hash = |store: &Store| store.hash_kv(0).unwrap().hash();
    let mut stream = stream_of(&store, [Watch::all().prev_kv()]);
    store.compact(8).unwrap();
    let before = hash(&store);
    let reading = |revision| TxnOp::Get(Get::key("k1").at(Revision::new(revision)));
    for revision in [1, 7, 11] {
        let refused = store.txn(Txn::new().and_then([TxnOp::put("k2", "foo"), reading(revision)]));
        assert!(refused.is_err(), "{revision}");
    }
    assert_eq!((value(&store, "k2"), hash(&store), drain(&mut stream).len()), (None, before, 0));
    txn(&store, [TxnOp::put("k2", "foo"), reading(8)]);
    assert_eq!(drain(&mut stream), ["0 @11 put k2=foo 11/11/1"]);
    assert_eq!(events(&store, 11), ["put k2=foo 11/11/1"]);
}

/// Many watchers are created in a short time with starts in all of the history. Each receives all events from its start on.
#[test]
fn quickly_created_watchers_receive_all_events() {
    let (store, _clock) = manual();
    put_times(&store, "a", 100);
    let mut streams: Vec<_> = (0..50).map(|_| stream(&store)).collect();
    for round in 0..20 {
        for (index, stream) in streams.iter().enumerate() {
            stream.create(Watch::key("a").start_revision(1 + (index as i64 * 7 + round) % 110));
        }
        put(&store, "a", "v");
    }
    for (index, stream) in (0..).zip(&mut streams) {
        let all = responses(stream);
        for id in 0..20 {
            let start = (1 + (index * 7 + id) % 110).max(2);
            let of = all.iter().filter(|r| r.watch_id().get() == id);
            assert_eq!(revisions(of), (start..=121).collect::<Vec<_>>(), "{index} {id}");
        }
    }
    assert_eq!(drain(&mut streams[0]), NOTHING);
}
