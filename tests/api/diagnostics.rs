//! `Diagnostics`: each count follows the contents of the store.

use leasehold::backend::{Delivery, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::engine::Engine;
use leasehold::maintenance::Diagnostics;
use leasehold::{Get, Grant, Put, SortOrder, SortTarget, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{engine, manual, secs};

fn create(engine: &mut Engine, stream: leasehold::engine::StreamId, watch: Watch) {
    engine.watch(stream, &WatchRequest::Create(watch));
}

#[test]
fn diagnostics_of_fresh_engine_are_zero() {
    assert_eq!(engine().diagnostics(), Diagnostics::default());
}

#[test]
fn diagnostics_count_streams_watchers_topics_and_deliveries() {
    let mut engine = engine();
    let (first, second) = (engine.open_stream(), engine.open_stream());
    create(&mut engine, first, Watch::key("a"));
    create(&mut engine, second, Watch::key("a").progress_notify());
    create(&mut engine, second, Watch::prefix("b"));
    engine.set_timer(second, Some(Timestamp::ORIGIN + secs(1)));
    let counts = engine.diagnostics();
    assert_eq!((counts.streams, counts.watchers, counts.topics), (2, 3, 2));
    assert_eq!((counts.timers, counts.progress_ticks), (1, 1));
    // One response to each creation.
    assert_eq!((counts.queued_deliveries, counts.wake_ups), (3, 2));
    assert!(counts.stream_slots >= 2 && counts.watcher_slots >= 3 && counts.topic_slots >= 2);
    assert_eq!(counts.longest_probe, 1);

    let mut received = std::collections::VecDeque::<Delivery>::new();
    while engine.receive(second, &mut received) {}
    engine.close_stream(first);
    let counts = engine.diagnostics();
    assert_eq!((counts.streams, counts.watchers, counts.topics), (1, 2, 2));
    assert_eq!(counts.queued_deliveries, 0);
}

/// A range of 64 keys is indexed by create revision when a txn reads its newest key.
#[test]
fn diagnostics_count_create_orders_and_their_keys() {
    let mut engine = engine();
    for n in 0..70 {
        engine.put(&Put::new(format!("queue/{n}"), "")).unwrap();
    }
    assert_eq!(engine.diagnostics().create_orders, 0);
    let newest = Get::prefix("queue/").sort(SortTarget::CreateRevision, SortOrder::Descend).limit(1);
    engine.txn(&Txn::new().and_then([TxnOp::Get(newest)])).unwrap();
    let counts = engine.diagnostics();
    assert_eq!((counts.create_orders, counts.create_order_keys), (1, 70));
    assert!(counts.key_slots >= 70);
}

#[test]
fn diagnostics_of_store_are_those_of_its_engine() {
    let (store, _clock) = manual();
    let watcher = store.watch(Watch::key("a")).unwrap();
    store.grant(Grant::new(secs(60))).unwrap();
    let counts = store.diagnostics().unwrap();
    assert_eq!((counts.streams, counts.watchers, counts.topics), (1, 1, 1));
    assert!(counts.lease_slots >= 1);
    drop(watcher);
    let counts = store.diagnostics().unwrap();
    assert_eq!((counts.streams, counts.watchers, counts.topics), (0, 0, 0));
    store.close();
    assert_eq!(store.diagnostics(), Err(leasehold::Error::Stopped));
}
