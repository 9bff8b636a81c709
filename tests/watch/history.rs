//! Reading history in pieces while its compacted part is still being reclaimed (R-WCH-10, R-CMP-2, R-CMP-4, R-CMP-5).

use std::collections::VecDeque;

use leasehold::backend::Delivery;
use leasehold::engine::{Engine, StreamId};
use leasehold::response::WatchResponse;
use leasehold::{Compact, Store, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{self, manual, physical, put};
use leasehold_testkit::watch_helpers::{create, drain, engine_put, receive, revisions, stream_of, txn};

/// Puts several keys with a prefix at one revision.
fn put_many(engine: &mut Engine, prefix: &str, keys: usize) {
    let puts = (0..keys).map(|n| TxnOp::put(format!("{prefix}{n:03}"), "v"));
    engine.txn(&Txn::new().and_then(puts)).expect("the txn is valid");
}

/// Returns the responses of a stream. Each piece is received before the next one is read.
fn pieces(engine: &mut Engine, stream: StreamId) -> Vec<WatchResponse> {
    let mut all = Vec::new();
    loop {
        let mut deliveries = VecDeque::new();
        let has_more = engine.receive(stream, &mut deliveries);
        all.extend(deliveries.into_iter().filter_map(|delivery| match delivery {
            Delivery::Watch(response) if !response.created() => Some(response),
            _ => None,
        }));
        engine.check_invariants();
        if !has_more {
            return all;
        }
    }
}

/// R-WCH-10: a piece ends between two revisions, even if only some events of a revision match.
#[test]
fn history_piece_ends_between_revisions() {
    // The numbers of matching and other events per revision, so that pieces fill up at different places.
    for (of_a, of_b) in [(128, 0), (100, 0), (7, 93), (93, 7), (1, 127), (0, 128)] {
        let mut engine = helpers::engine();
        for _ in 0..150 {
            let puts = |prefix: &'static str, keys| {
                (0..keys).map(move |n| TxnOp::put(format!("{prefix}{n:03}"), "v"))
            };
            engine.txn(&Txn::new().and_then(puts("a", of_a).chain(puts("b", of_b)))).unwrap();
        }
        let stream = engine.open_stream();
        create(&mut engine, stream, Watch::prefix("a").start_revision(1));
        let all = pieces(&mut engine, stream);
        for response in &all {
            assert_eq!(response.events().len() % of_a, 0, "{of_a} {of_b}: whole revisions");
        }
        let expected: Vec<i64> = (2..=151).flat_map(|revision| vec![revision; of_a]).collect();
        assert_eq!(revisions(&all), expected, "{of_a} {of_b}");
    }
}

/// Returns an engine with a long history that is compacted at a revision, before anything is reclaimed.
fn compacted_at(revision: i64) -> Engine {
    let mut engine = helpers::engine();
    for round in 0..60 {
        put_many(&mut engine, "k", 100);
        if round % 10 == 0 {
            engine.delete(&leasehold::Delete::key("k050")).expect("the delete is valid");
        }
    }
    engine.compact(&Compact::new(revision)).expect("the revision is not compacted yet");
    engine
}

/// R-CMP-2, R-CMP-5: the events of a watch do not depend on how much of the compacted history is reclaimed.
#[test]
fn events_do_not_depend_on_reclaiming() {
    // Revision 3 is a delete, as is every eleventh after it.
    for revision in [3, 4, 14, 40, 66, 67] {
        let unfreed = compacted_at(revision);
        let mut freed = unfreed.clone();
        while freed.is_reclaiming() {
            freed.reclaim();
        }
        let seen = [unfreed, freed].map(|mut engine| {
            let stream = engine.open_stream();
            create(&mut engine, stream, Watch::all().start_revision(revision).prev_kv());
            let all = pieces(&mut engine, stream);
            let events: Vec<_> = all.iter().flat_map(|response| response.events()).cloned().collect();
            for event in &events {
                let is_first = event.kv().mod_revision().get() == revision;
                assert!(
                    !is_first || event.prev_kv().is_none(),
                    "the state before the first revision is compacted: {event:?}"
                );
                assert_eq!(event.is_prev_kv_compacted(), is_first && !event.is_create(), "{event:?}");
            }
            assert_eq!(events.first().map(|event| event.kv().mod_revision().get()), Some(revision));
            events
        });
        assert_eq!(seen[0], seen[1], "{revision}");
    }
}

/// R-CMP-5: a live watcher receives a previous pair of the compacted revision itself, which can still be read.
#[test]
fn event_after_the_compacted_revision_has_its_prev_kv() {
    let mut engine = compacted_at(67);
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("k001").prev_kv());
    receive(&mut engine, stream);
    engine_put(&mut engine, "k001", "w");
    assert_eq!(receive(&mut engine, stream), ["0 @68 put k001=w 2/68/61 was k001=v 2/67/60"]);
}

/// R-CMP-5: a previous pair is compacted only for a watcher that requests it, and never for a create.
///
/// A delete cannot show whether its own transaction created the key, since that put is compacted too (R-CMP-2).
#[test]
fn event_of_the_compacted_revision_reports_its_missing_prev_kv() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    put(&store, "b", "1");
    let operations = [
        TxnOp::put("a", "2"),
        TxnOp::delete("b"),
        TxnOp::put("c", "1"),
        TxnOp::Txn(Txn::new().and_then([TxnOp::put("d", "1")])),
        TxnOp::Txn(Txn::new().and_then([TxnOp::delete("d")])),
    ];
    assert_eq!(txn(&store, operations), 4);
    store.compact(4).unwrap();
    put(&store, "c", "2");
    let changes = ["put a=2 2/4/2", "delete b 4", "put c=1 4/4/1", "delete d 4", "put c=2 4/5/2"];
    let reported = [" was compacted", " was compacted", "", " was compacted", " was c=1 4/4/1"];
    let with: Vec<String> =
        changes.iter().zip(reported).map(|(change, was)| format!("{change}{was}")).collect();
    let mut saved = Vec::new();
    store.save(&mut saved).unwrap();
    let loaded = Store::builder().load(&saved[..]).unwrap();
    for store in [store, loaded] {
        let mut asking = stream_of(&store, [Watch::all().start_revision(4).prev_kv()]);
        let mut other = stream_of(&store, [Watch::all().start_revision(4)]);
        assert_eq!(drain(&mut asking), [format!("0 @5 {}", with.join(", "))]);
        assert_eq!(drain(&mut other), [format!("0 @5 {}", changes.join(", "))]);
        store.compact(physical(5)).unwrap();
        let mut stream = stream_of(&store, [Watch::all().start_revision(5).prev_kv()]);
        assert_eq!(
            drain(&mut stream),
            ["0 @5 put c=2 4/5/2 was compacted"],
            "a previous pair is looked up when the event is received"
        );
    }
}
