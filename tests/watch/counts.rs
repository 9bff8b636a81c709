//! The sizes of the tables behind watches: topics and ready streams have no entries without watchers or streams.

use leasehold::backend::WatchRequest;
use leasehold::engine::{Engine, StreamId};
use leasehold::{Compact, Watch};
use leasehold_testkit::helpers::engine;
use leasehold_testkit::watch_helpers::{create, engine_put, receive};

/// Returns `count` watches of distinct ranges, single keys and prefixes by turns. Each range has a key of its own.
fn watches(count: usize) -> impl Iterator<Item = Watch> {
    (0..count).map(|n| match n % 2 {
        0 => Watch::key(format!("k{n:03}")),
        _ => Watch::prefix(format!("k{n:03}")),
    })
}

/// Opens a stream with one watcher in each of 50 topics.
fn stream_in_50_topics(engine: &mut Engine) -> StreamId {
    let stream = engine.open_stream();
    for watch in watches(50) {
        create(engine, stream, watch.capacity(1));
    }
    receive(engine, stream);
    assert_eq!((engine.diagnostics().watchers, engine.diagnostics().topics), (50, 50));
    stream
}

#[test]
fn topics_of_cancelled_watchers_are_removed() {
    let mut engine = engine();
    let stream = stream_in_50_topics(&mut engine);
    for id in 0..50 {
        engine.watch(stream, &WatchRequest::Cancel(id.into()));
        assert_eq!(engine.diagnostics().topics, 49 - id as usize);
    }
}

#[test]
fn topics_of_closed_streams_are_removed_with_their_last_watcher() {
    let mut engine = engine();
    let streams = [stream_in_50_topics(&mut engine), engine.open_stream()];
    watches(20).for_each(|watch| create(&mut engine, streams[1], watch));
    engine.close_stream(streams[0]);
    assert_eq!(engine.diagnostics().topics, 20);
    engine.close_stream(streams[1]);
    assert_eq!(engine.diagnostics().topics, 0);
}

/// A watcher whose share of the queue is full leaves its topic, and joins it again after reading history.
#[test]
fn topics_of_unsynced_watchers_are_removed() {
    let mut engine = engine();
    let stream = stream_in_50_topics(&mut engine);
    for _ in 0..2 {
        for n in 0..50 {
            engine_put(&mut engine, format!("k{n:03}"), "v");
        }
    }
    assert_eq!((engine.diagnostics().watchers, engine.diagnostics().topics), (50, 0));
    receive(&mut engine, stream);
    assert_eq!(engine.diagnostics().topics, 50);
}

#[test]
fn topics_of_watchers_ended_by_a_compaction_are_removed() {
    let mut engine = engine();
    let stream = stream_in_50_topics(&mut engine);
    for n in (0..50).chain(0..50) {
        engine_put(&mut engine, format!("k{n:03}"), "v");
    }
    engine.compact(&Compact::new(engine.status().header().revision())).unwrap();
    receive(&mut engine, stream);
    assert_eq!(
        (engine.diagnostics().watchers, engine.diagnostics().topics),
        (50, 1),
        "only the topic of the last put is kept"
    );
}

/// A stream that is received from before its wake-up is taken leaves a stale entry.
///
/// At most 32 stale entries stay, or as many as there are other entries.
#[test]
fn wake_ups_of_received_streams_are_removed() {
    for waiting in [0, 1, 40] {
        let mut engine = engine();
        for _ in 0..waiting {
            let stream = engine.open_stream();
            create(&mut engine, stream, Watch::key("waiting"));
        }
        let stream = engine.open_stream();
        create(&mut engine, stream, Watch::key("received"));
        for n in 0..1000 {
            receive(&mut engine, stream);
            engine_put(&mut engine, "received", "v");
            let wake_ups = engine.diagnostics().wake_ups;
            assert!(
                wake_ups <= 2 * (waiting + 1) + 32,
                "{wake_ups} wake-ups of {waiting} + 1 streams at {n}"
            );
        }
        engine.check_invariants();
        assert_eq!(engine.take_ready_streams().len(), waiting + 1);
        assert_eq!(engine.diagnostics().wake_ups, 0);
    }
}

#[test]
fn wake_ups_of_closed_streams_are_removed() {
    let mut engine = engine();
    for _ in 0..1000 {
        let stream = engine.open_stream();
        create(&mut engine, stream, Watch::key("a"));
        engine.close_stream(stream);
        assert!(
            engine.diagnostics().wake_ups <= 32,
            "{} wake-ups of no stream",
            engine.diagnostics().wake_ups
        );
    }
    assert!(engine.take_ready_streams().is_empty());
}
