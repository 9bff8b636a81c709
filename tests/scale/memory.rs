//! Tables and lists shrink when their entries are removed. `Diagnostics` counts their slots.

use std::sync::Arc;

use leasehold::backend::{Backend, Inbox, WatchRequest};
use leasehold::engine::{Engine, StreamId};
use leasehold::maintenance::Diagnostics;
use leasehold::{Grant, LeaseId, Put, Watch};
use leasehold_testkit::helpers::{Random, engine, manual, secs};
use leasehold_testkit::watch_helpers::{create, engine_put, receive};

/// More entries than four segments of a table hold. A segment has 4,096 slots.
const MANY: usize = 20_000;

/// The number of slots that a table without entries can keep.
const FEW: usize = 64;

/// Returns the numbers below `MANY` in several orders.
fn orders() -> [Vec<usize>; 4] {
    let mut random = Random::new(1);
    let mut shuffled: Vec<usize> = (0..MANY).collect();
    for at in (1..MANY).rev() {
        shuffled.swap(at, random.below(at as u64 + 1) as usize);
    }
    let odd_after_even = (0..MANY).step_by(2).chain((1..MANY).step_by(2));
    [(0..MANY).collect(), (0..MANY).rev().collect(), odd_after_even.collect(), shuffled]
}

fn assert_small(counts: &Diagnostics) {
    let slots =
        [counts.stream_slots, counts.watcher_slots, counts.topic_slots, counts.lease_slots, counts.key_slots];
    assert!(slots.iter().all(|&slots| slots <= FEW), "{counts:?}");
}

fn open_watch(engine: &mut Engine, number: usize) -> StreamId {
    let stream = engine.open_stream();
    let watch = if number.is_multiple_of(2) {
        Watch::key(format!("{number}"))
    } else {
        Watch::prefix(format!("{number}/"))
    };
    create(engine, stream, watch);
    stream
}

#[test]
fn tables_of_closed_streams_are_freed_in_any_order() {
    for order in orders() {
        let mut engine = engine();
        let streams: Vec<StreamId> = (0..MANY).map(|number| open_watch(&mut engine, number)).collect();
        assert!(engine.diagnostics().watcher_slots >= MANY);
        for &number in &order {
            engine.close_stream(streams[number]);
        }
        engine.check_invariants();
        assert_small(&engine.diagnostics());
        // The tables can be used again.
        let again: Vec<StreamId> = (0..100).map(|number| open_watch(&mut engine, number)).collect();
        assert_eq!(engine.diagnostics().watchers, again.len());
        engine.check_invariants();
    }
}

/// Covers the lists of watchers of one key, of their unreceived events, and of a lease's keys.
#[test]
fn lists_are_freed_when_few_entries_are_left() {
    let mut engine = engine();
    let streams: Vec<StreamId> = (0..MANY).map(|_| engine.open_stream()).collect();
    for &stream in &streams {
        create(&mut engine, stream, Watch::key("popular"));
        receive(&mut engine, stream);
    }
    drop(engine.take_ready_streams());
    engine_put(&mut engine, "popular", "v");
    for &stream in streams[1..].iter().rev() {
        engine.close_stream(stream);
    }
    engine_put(&mut engine, "popular", "v");
    let counts = engine.diagnostics();
    assert!(counts.list_slots <= 5 * FEW, "lists of the topic, wake-ups and recipients: {counts:?}");

    create(&mut engine, streams[0], Watch::key("busy").capacity(MANY));
    for _ in 0..MANY {
        engine_put(&mut engine, "busy", "v");
    }
    for _ in 0..3 {
        assert!(!receive(&mut engine, streams[0]).is_empty());
        engine_put(&mut engine, "popular", "v");
    }
    let counts = engine.diagnostics();
    assert!(counts.list_slots <= 5 * FEW, "slots of the queue: {counts:?}");
    engine.close_stream(streams[0]);

    engine.grant(&Grant::new(secs(100)).id(1)).unwrap();
    for number in 0..MANY {
        engine.put(&Put::new(format!("{number}"), "").lease(1)).unwrap();
    }
    for number in 1..MANY {
        engine.put(&Put::new(format!("{number}"), "")).unwrap();
    }
    let counts = engine.diagnostics();
    assert!(counts.list_slots <= 5 * FEW, "slots of the lease: {counts:?}");
    engine.check_invariants();
}

#[test]
fn tables_of_revoked_leases_and_compacted_keys_are_freed() {
    let mut engine = engine();
    for number in 1..=MANY as i64 {
        engine.grant(&Grant::new(secs(100)).id(number)).unwrap();
        engine.put(&Put::new(format!("{number}"), "").lease(number)).unwrap();
    }
    for number in 1..=MANY as i64 {
        engine.revoke(LeaseId::new(number)).unwrap();
    }
    let current = engine.put(&Put::new("last", "")).unwrap().header().revision();
    engine.compact(&leasehold::Compact::new(current)).unwrap();
    while engine.is_reclaiming() {
        engine.reclaim();
    }
    engine.check_invariants();
    let counts = engine.diagnostics();
    assert_eq!(counts.lease_slots.max(FEW), FEW, "{counts:?}");
    // One key is left, and besides its segment one vacant segment is kept.
    assert!(counts.key_slots <= 2 * 4096, "{counts:?}");
}

/// A segment with a few values is kept, and one vacant segment.
#[test]
fn vacant_segments_are_freed_and_occupied_ones_kept() {
    let mut engine = engine();
    let streams: Vec<StreamId> = (0..MANY).map(|number| open_watch(&mut engine, number)).collect();
    let is_kept = |number: usize| number < 10 || number / 4096 == 3 && number % 4096 < 10;
    for number in (0..MANY).filter(|&number| !is_kept(number)) {
        engine.close_stream(streams[number]);
    }
    let counts = engine.diagnostics();
    assert_eq!((counts.watchers, counts.watcher_slots, counts.stream_slots), (20, 3 * 4096, 3 * 4096));
    engine.check_invariants();
    // New values fill the lowest segments, so the highest can be freed.
    for number in 0..4000 {
        open_watch(&mut engine, number);
    }
    for number in (0..MANY).filter(|&number| number >= 4096 && is_kept(number)) {
        engine.close_stream(streams[number]);
    }
    assert_eq!(engine.diagnostics().watcher_slots, 2 * 4096);
    engine.check_invariants();
}

/// Leases are revoked in blocks and granted again, over several segments. Freeing a segment loses none of them.
#[test]
fn freed_segments_lose_no_live_leases() {
    let mut engine = engine();
    let mut random = Random::new(3);
    let mut live: Vec<i64> = Vec::new();
    let mut next = 1;
    for _ in 0..60 {
        for _ in 0..random.below(6000) {
            engine.grant(&Grant::new(secs(100)).id(next)).unwrap();
            live.push(next);
            next += 1;
        }
        let start = random.below(live.len() as u64 + 1) as usize;
        let end = live.len().min(start + random.below(9000) as usize);
        for id in live.drain(start..end) {
            engine.revoke(LeaseId::new(id)).unwrap();
        }
        engine.check_invariants();
        assert_eq!(engine.leases().leases().len(), live.len());
    }
    for id in live {
        engine.revoke(LeaseId::new(id)).unwrap();
    }
    assert_small(&engine.diagnostics());
}

/// Streams that are opened and closed at the edge of a segment reuse its slots.
#[test]
fn reopened_streams_reuse_slots() {
    let mut engine = engine();
    let mut streams: Vec<StreamId> = (0..4096).map(|number| open_watch(&mut engine, number)).collect();
    for round in 0..1000 {
        streams.push(open_watch(&mut engine, round));
        let slots = engine.diagnostics().stream_slots;
        assert_eq!(slots, 2 * 4096);
        engine.close_stream(streams.swap_remove(if round % 2 == 0 { 4096 } else { round }));
    }
    engine.check_invariants();
}

/// Covers the store's table of inboxes, for watchers that are dropped in several orders.
#[test]
fn inboxes_of_dropped_watchers_are_freed() {
    for order in orders() {
        let (store, _clock) = manual();
        let watch = |number: usize| store.watch(Watch::key(format!("{number}"))).unwrap();
        let mut watchers: Vec<_> = (0..MANY).map(|number| Some(watch(number))).collect();
        assert!(store.diagnostics().unwrap().inbox_slots >= MANY);
        for &number in &order {
            watchers[number] = None;
        }
        let counts = store.diagnostics().unwrap();
        assert_small(&counts);
        assert!(counts.inbox_slots <= FEW, "{counts:?}");
        assert_eq!((counts.streams, watch(0).try_recv().unwrap()), (0, None));
    }
}

/// An inbox dropped without `cancel` is found when its stream is notified.
#[test]
fn inboxes_dropped_without_cancel_are_freed() {
    let (store, _clock) = manual();
    let inboxes: Vec<Arc<Inbox>> = (0..MANY).map(|_| Arc::default()).collect();
    for inbox in &inboxes {
        Backend::watch(&store, &[WatchRequest::Create(Watch::key("a"))], inbox);
        Backend::pull(&store, inbox);
    }
    assert!(store.diagnostics().unwrap().inbox_slots >= MANY);
    drop(inboxes);
    store.put(("a", "v")).unwrap();
    let counts = store.diagnostics().unwrap();
    assert_small(&counts);
    assert!(counts.streams == 0 && counts.inbox_slots.max(counts.list_slots) <= FEW, "{counts:?}");
}
