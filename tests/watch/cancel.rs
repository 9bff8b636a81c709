//! The ends of watchers and slow watchers: cancel, close, compaction, overflow (R-WCH-12 to R-WCH-14, R-WCH-22, R-CMP-2,
//! R-CMP-4).

use std::collections::VecDeque;

use leasehold::backend::WatchRequest;
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, StreamId};
use leasehold::watch::WatchId;
use leasehold::{Compact, Compare, CompareOp, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{self, at, delete, manual, physical, put, secs};
use leasehold_testkit::watch_helpers::{
    NOTHING, create, drain, engine_put, put_times, receive, responses, revisions, say_delivery, stream,
    stream_of,
};

fn cancel(engine: &mut Engine, stream: StreamId, id: i64) {
    engine.watch(stream, &WatchRequest::Cancel(WatchId::new(id)));
}

/// R-WCH-22: the cancel response comes after the last event and has the store's revision. No event follows it.
#[test]
fn cancelled_watcher_receives_no_further_event() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::all(), Watch::key("a").start_revision(9), Watch::key("a")]);
    put(&store, "a", "1");
    stream.cancel(0);
    stream.cancel(1);
    put(&store, "a", "2");
    let expected =
        ["0 @2 put a=1 2/2/1", "2 @2 put a=1 2/2/1", "0 @2 canceled", "1 @2 canceled", "2 @3 put a=2 2/3/2"];
    assert_eq!(drain(&mut stream), expected);
}

/// R-WCH-22: a cancel of an id that is not in use is ignored.
#[test]
fn cancel_of_unused_id_is_ignored() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    for id in [1, -1, 7, i64::MIN] {
        stream.cancel(id);
    }
    assert_eq!(drain(&mut stream), NOTHING);
    stream.cancel(0);
    stream.cancel(0);
    assert_eq!(drain(&mut stream), ["0 @1 canceled"]);
}

/// R-WCH-22: an unsynced watcher can be cancelled, and the rest of its history is not delivered.
#[test]
fn unsynced_watcher_can_be_cancelled() {
    let mut engine = helpers::engine();
    for _ in 0..3000 {
        engine_put(&mut engine, "a", "v");
    }
    let stream = engine.open_stream();
    for _ in 0..100 {
        create(&mut engine, stream, Watch::key("a").start_revision(1));
    }
    for id in 0..100 {
        cancel(&mut engine, stream, id);
    }
    engine.check_invariants();
    let lines = receive(&mut engine, stream);
    let sent: Vec<usize> =
        lines.iter().map(|line| line.matches("put").count()).filter(|&puts| puts > 0).collect();
    assert_eq!(sent, [1000; 100], "each watcher received its first piece before the cancel");
    assert!(lines[lines.len() - 100..].iter().all(|line| line.ends_with("@3001 canceled")));
    assert_eq!(engine.take_ready_streams(), [], "a drained stream has no wake-up left");
    engine_put(&mut engine, "a", "v");
    assert_eq!((receive(&mut engine, stream), engine.take_ready_streams()), (vec![], vec![]));
}

/// R-WCH-22: a stream stays open after the end of all its watchers, and after refusals.
#[test]
fn stream_outlives_its_watchers() {
    let (store, _clock) = manual();
    put_times(&store, "a", 3);
    store.compact(3).unwrap();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    stream.cancel(0);
    stream.create(Watch::key("a").start_revision(1));
    stream.create(Watch::key("a").start_revision(-1));
    assert_eq!(drain(&mut stream).len(), 4);
    stream.create(Watch::key("a"));
    put(&store, "a", "x");
    assert_eq!(drain(&mut stream), ["2 @4 created", "2 @5 put a=x 2/5/4"]);
}

/// R-WCH-22: closing a stream releases everything without a response. Requests on a closed stream do nothing.
#[test]
fn closed_stream_leaves_no_state() {
    let mut engine = helpers::engine();
    for _ in 0..1500 {
        engine_put(&mut engine, "a", "v");
    }
    let fresh = engine.state_hash();
    let (stream, other) = (engine.open_stream(), engine.open_stream());
    for watch in [
        Watch::key("a"),
        Watch::all().start_revision(1),
        Watch::prefix("a").progress_notify().start_revision(9999),
    ] {
        create(&mut engine, stream, watch);
    }
    engine.set_timer(stream, Some(Timestamp::ORIGIN + secs(5)));
    assert!(engine.next_deadline().is_some());
    let unreceived: Vec<String> = engine.close_stream(stream).iter().map(say_delivery).collect();
    assert_eq!(unreceived.len(), 4, "three created responses and one of a thousand revisions are unreceived");
    assert_eq!(engine.next_deadline(), None);
    assert_eq!(engine.close_stream(stream).len(), 0);
    create(&mut engine, stream, Watch::all());
    cancel(&mut engine, stream, 0);
    engine.set_timer(stream, Some(Timestamp::ORIGIN));
    engine.advance(Timestamp::ORIGIN + secs(5));
    assert_eq!((receive(&mut engine, stream), engine.lag(stream, WatchId::new(0))), (vec![], None));
    engine.check_invariants();
    let reopened = engine.open_stream();
    assert_ne!(reopened, stream, "a stream id is not reused");
    assert_eq!(receive(&mut engine, stream), NOTHING);
    engine.close_stream(reopened);
    engine.close_stream(other);
    engine.advance(Timestamp::ORIGIN + secs(6));
    // An engine with equal puts that never had a stream.
    let mut same = helpers::engine();
    for _ in 0..1500 {
        engine_put(&mut same, "a", "v");
    }
    assert_eq!(same.state_hash(), fresh);
    same.advance(Timestamp::ORIGIN + secs(6));
    assert_eq!(engine.state_hash(), same.state_hash(), "a closed stream leaves nothing in the state");
}

/// R-WCH-22: a closed stream is not among the ready streams.
#[test]
fn closed_stream_is_not_woken() {
    let mut engine = helpers::engine();
    let streams: Vec<StreamId> = (0..3).map(|_| engine.open_stream()).collect();
    for &stream in &streams {
        create(&mut engine, stream, Watch::key("a"));
    }
    assert_eq!(engine.take_ready_streams(), streams, "each ready stream is returned once, in order");
    for &stream in &streams {
        receive(&mut engine, stream);
    }
    engine_put(&mut engine, "a", "v");
    engine.close_stream(streams[1]);
    engine_put(&mut engine, "a", "v");
    assert_eq!(engine.take_ready_streams(), [streams[0], streams[2]]);
    for (stream, events) in streams.into_iter().zip([2, 0, 2]) {
        assert_eq!(receive(&mut engine, stream).len(), events);
    }
}

/// R-WCH-12: the response has no reason, no events and no header revision, and is the last one.
#[test]
fn compaction_response_has_the_compacted_revision() {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    store.compact(3).unwrap();
    let mut stream = stream(&store);
    stream.create(Watch::key("a").start_revision(2));
    put(&store, "a", "x");
    let all = responses(&mut stream);
    let ended = &all[1];
    assert!(ended.canceled() && !ended.created() && !ended.is_progress_notify() && ended.events().is_empty());
    assert_eq!(
        (ended.cancel_reason(), ended.compact_revision(), ended.watch_id().get()),
        ("", Some(at(3)), 0)
    );
    assert_eq!((ended.header().revision(), ended.header().cluster_id()), (at(0), 1));
    assert_eq!(all.len(), 2);
}

/// R-WCH-13: the id of a compacted watcher stays in use until a cancel, which has one response.
#[test]
fn compacted_watcher_keeps_its_id_until_cancelled() {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    store.compact(4).unwrap();
    let mut stream = stream(&store);
    for id in [0, 2] {
        stream.create(Watch::key("a").start_revision(1).id(id));
    }
    let ended = ["0 @5 created", "0 @0 compacted 4", "2 @5 created", "2 @0 compacted 4"];
    assert_eq!(drain(&mut stream), ended);
    stream.create(Watch::key("a").id(2));
    let refused = "-1 @5 refused: mvcc: duplicate watch ID provided on the WatchStream";
    stream.create(Watch::key("a"));
    stream.create(Watch::key("a"));
    assert_eq!(drain(&mut stream), [refused, "1 @5 created", "3 @5 created"]);
    stream.cancel(2);
    stream.cancel(2);
    stream.create(Watch::key("a").id(2));
    assert_eq!(drain(&mut stream), ["2 @5 canceled", "2 @5 created"]);
}

/// R-CMP-4: a start at the compacted revision or later is served.
#[test]
fn start_at_the_compacted_revision_is_served() {
    for compacted in 1..=5 {
        let (store, _clock) = manual();
        put_times(&store, "a", 4);
        store.compact(compacted).unwrap();
        for start in 1..=6 {
            let mut stream = stream_of(&store, [Watch::key("a").start_revision(start)]);
            put(&store, "b", "v");
            let lines = drain(&mut stream);
            if start < compacted {
                assert_eq!(lines, [format!("0 @0 compacted {compacted}")], "{start}");
            } else {
                let expected = (start.max(2)..=5).count();
                assert_eq!(
                    lines.iter().map(|line| line.matches("put").count()).sum::<usize>(),
                    expected,
                    "{start}"
                );
            }
        }
    }
}

/// R-CMP-2: a tombstone at the compacted revision is kept, and an earlier one is not.
#[test]
fn delete_at_the_compacted_revision_is_delivered() {
    for is_physical in [false, true] {
        let (store, _clock) = manual();
        for key in ["a", "b"] {
            put(&store, key, "v");
        }
        assert_eq!((delete(&store, "a"), delete(&store, "b")), (4, 5));
        store.compact(if is_physical { physical(5) } else { Compact::new(5) }).unwrap();
        let mut stream = stream_of(&store, [Watch::all().start_revision(5)]);
        assert_eq!(drain(&mut stream), ["0 @5 delete b 5"], "physical: {is_physical}");
        put(&store, "a", "w");
        store.compact(if is_physical { physical(6) } else { Compact::new(6) }).unwrap();
        let mut stream = stream_of(&store, [Watch::all().start_revision(6)]);
        assert_eq!(drain(&mut stream), ["0 @6 put a=w 6/6/1"], "physical: {is_physical}");
    }
}

/// R-CMP-4: a compaction does not affect a synced watcher, nor one with a start far in the future.
#[test]
fn compaction_does_not_affect_synced_watchers() {
    let (store, _clock) = manual();
    put_times(&store, "a", 4);
    let mut stream = stream_of(
        &store,
        [Watch::key("a"), Watch::key("a").start_revision(8), Watch::key("a").start_revision(5)],
    );
    assert_eq!(drain(&mut stream), ["2 @5 put a=3 2/5/4"]);
    put(&store, "a", "unreceived");
    store.compact(physical(6)).unwrap();
    put(&store, "b", "v");
    store.compact(7).unwrap();
    put(&store, "a", "x");
    let expected = [
        "0 @6 put a=unreceived 2/6/5",
        "2 @6 put a=unreceived 2/6/5",
        "0 @8 put a=x 2/8/6",
        "1 @8 put a=x 2/8/6",
        "2 @8 put a=x 2/8/6",
    ];
    assert_eq!(drain(&mut stream), expected, "events queued before the compaction are received");
}

/// R-WCH-14: events beyond the capacity are read from history, without gap or duplicate. Then the watcher is synced again.
#[test]
fn overflowed_watcher_catches_up() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a").capacity(2), Watch::key("a").id(7)]);
    put_times(&store, "a", 5);
    let all = responses(&mut stream);
    let of = |id: i64| all.iter().filter(move |r| r.watch_id().get() == id);
    assert_eq!((of(0).count(), revisions(of(0))), (3, vec![2, 3, 4, 5, 6]));
    assert_eq!((of(7).count(), revisions(of(7))), (5, vec![2, 3, 4, 5, 6]));
    for _ in 0..3 {
        put_times(&store, "a", 2);
        assert_eq!(responses(&mut stream).len(), 4, "a synced watcher has room for two events again");
    }
}

/// R-WCH-14: no event is missing, for any capacity and frequency of receives.
#[test]
fn slow_watcher_receives_every_event() {
    for (capacity, every) in [(0, 1), (0, 7), (1, 2), (1, 40), (3, 3), (3, 4), (3, 50), (16, 100), (128, 129)]
    {
        let mut engine = helpers::engine();
        let stream = engine.open_stream();
        create(&mut engine, stream, Watch::prefix("a").capacity(capacity).no_delete().prev_kv());
        let mut seen = Vec::new();
        for round in 0..1000_u32 {
            engine_put(&mut engine, ["a", "ab", "b"][round as usize % 3], "v");
            if round % every == 0 {
                let mut deliveries = VecDeque::new();
                // In odd rounds receive only one piece.
                while engine.receive(stream, &mut deliveries) && round % 2 == 0 {}
                seen.extend(deliveries);
            }
            if round % 97 == 0 {
                engine.check_invariants();
            }
        }
        let mut deliveries = VecDeque::new();
        while engine.receive(stream, &mut deliveries) {}
        seen.extend(deliveries);
        let responses = seen.iter().filter_map(|delivery| match delivery {
            leasehold::backend::Delivery::Watch(response) => Some(response),
            _ => None,
        });
        let expected: Vec<i64> = (2..=1001).filter(|revision| (revision - 2) % 3 < 2).collect();
        assert_eq!(revisions(responses), expected, "{capacity} {every}");
    }
}

/// R-WCH-14: the capacity bounds the number of queued events of a watcher.
#[test]
fn capacity_bounds_the_queued_events() {
    let mut engine = helpers::engine();
    let rows =
        [(None, Watch::DEFAULT_CAPACITY), (Some(0), 1), (Some(1), 1), (Some(5), 5), (Some(1000), 1000)];
    let streams = rows.map(|(capacity, _)| {
        let stream = engine.open_stream();
        let watch = Watch::key("a").fragment();
        let watch = if let Some(capacity) = capacity { watch.capacity(capacity) } else { watch };
        create(&mut engine, stream, watch);
        assert_eq!(receive(&mut engine, stream), ["0 @1 created"]);
        stream
    });
    for _ in 0..5000 {
        engine_put(&mut engine, "a", "v");
    }
    engine.check_invariants();
    for (stream, (_, expected)) in streams.into_iter().zip(rows) {
        assert_eq!(engine.close_stream(stream).len(), expected);
    }
}

/// R-WCH-14: a slow watcher does not delay other watchers of its stream.
#[test]
fn slow_watcher_does_not_delay_others() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a").capacity(1), Watch::key("b").capacity(1)]);
    put_times(&store, "a", 50);
    put(&store, "b", "v");
    let all = responses(&mut stream);
    let order: Vec<i64> = all.iter().map(|r| r.watch_id().get()).collect();
    assert_eq!(
        (order, revisions(&all).len()),
        (vec![0, 1, 0], 51),
        "the second watcher's event was queued at once"
    );
}

/// R-CMP-4: an unsynced watcher ends only if its next revision is compacted. Events queued before are received.
#[test]
fn unsynced_watcher_ends_if_its_next_revision_is_compacted() {
    for compacted in 2..=8 {
        let (store, _clock) = manual();
        let mut stream = stream_of(&store, [Watch::key("a").capacity(2), Watch::key("a").capacity(100)]);
        put_times(&store, "a", 7);
        store.compact(compacted).unwrap();
        put(&store, "b", "v");
        let all = responses(&mut stream);
        let of = |id: i64| all.iter().filter(move |r| r.watch_id().get() == id);
        assert_eq!(
            revisions(of(1)),
            (2..=8).collect::<Vec<_>>(),
            "the watcher with room for all events stays synced"
        );
        let last = of(0).next_back().unwrap();
        if compacted <= 4 {
            assert_eq!(
                (revisions(of(0)), last.canceled()),
                ((2..=8).collect(), false),
                "revision 4, the next one, is not compacted"
            );
        } else {
            assert_eq!((revisions(of(0)), last.compact_revision()), (vec![2, 3], Some(at(compacted))));
        }
        put(&store, "a", "x");
        assert_eq!(responses(&mut stream).len(), if compacted <= 4 { 2 } else { 1 });
    }
}

/// R-CMP-4: a compaction ends a watcher in the middle of its history if the next piece is compacted.
#[test]
fn compaction_ends_a_watcher_that_reads_history() {
    for compacted in [1001, 1002, 2001, 2002, 2003, 2501] {
        let mut engine = helpers::engine();
        for _ in 0..2500 {
            engine_put(&mut engine, "a", "v");
        }
        let stream = engine.open_stream();
        create(&mut engine, stream, Watch::all().start_revision(1));
        let mut deliveries = VecDeque::new();
        assert!(engine.receive(stream, &mut deliveries), "500 of 2500 revisions are still unread");
        engine.compact(&Compact::new(compacted)).unwrap();
        let lines = receive(&mut engine, stream);
        let line = if compacted > 2002 { format!("0 @0 compacted {compacted}") } else { lines[0].clone() };
        assert_eq!((lines.len(), &lines[0]), (1, &line));
        assert_eq!(lines[0].matches("put").count(), if compacted > 2002 { 0 } else { 500 }, "{compacted}");
        engine.check_invariants();
    }
}

/// R-WCH-7: events are those of the branch that ran. A failed compare has none.
#[test]
fn events_are_those_of_the_executed_branch() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::all()]);
    for value in ["1", "2"] {
        let is_absent = Compare::create_revision("a", CompareOp::Equal, 0);
        let txn =
            Txn::new().when([is_absent]).and_then([TxnOp::put("a", value)]).or_else([TxnOp::put("b", value)]);
        store.txn(txn).unwrap();
    }
    assert_eq!(drain(&mut stream), ["0 @2 put a=1 2/2/1", "0 @3 put b=2 3/3/1"]);
}
