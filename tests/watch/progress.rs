//! Progress of a watch without an event, on request and periodically (R-WCH-19 to R-WCH-21).

use std::time::Duration;

use leasehold::backend::WatchRequest;
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{ManualClock, Store, Watch};
use leasehold_testkit::helpers::{self, manual, millis, put, secs};
use leasehold_testkit::watch_helpers::{self, NOTHING, create, drain, engine_put, put_times, receive};
use leasehold_testkit::watch_helpers::{stream, stream_of};

const MOMENT: Duration = Duration::from_nanos(1);

/// Returns a store that sends periodic progress every ten seconds.
fn store_with_progress() -> (Store, ManualClock) {
    store_with_interval(secs(10))
}

fn store_with_interval(interval: Duration) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).progress_interval(interval).build(), clock)
}

/// R-WCH-19: all events up to the revision were sent before, all later ones have higher revisions, and it never decreases.
#[test]
fn progress_revision_bounds_past_and_future_events() {
    let (store, clock) = store_with_progress();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    let (mut last, mut events) = (0, 0);
    for round in 0..60 {
        put(&store, if round % 7 == 0 { "a" } else { "b" }, "v");
        if round % 3 == 0 {
            stream.request_progress();
        }
        clock.advance(secs(4));
        // Receive rarely, so that several responses are queued.
        if round % 5 > 0 {
            continue;
        }
        for response in watch_helpers::responses(&mut stream) {
            let revision = response.header().revision().get();
            events += response.events().len();
            assert!(revision > last || response.is_progress_notify() && revision == last, "{response:?}");
            let until_then = store.events(2).unwrap();
            let until_then = until_then.iter().filter(|event| {
                event.kv().key() == b"a" && event.kv().mod_revision() <= response.header().revision()
            });
            assert_eq!(until_then.count(), events, "{response:?}");
            last = revision;
        }
    }
    assert!(last > 50 && events > 5);
}

/// R-WCH-20: a watcher with periodic progress is notified at each interval since its stream was opened.
#[test]
fn periodic_progress_is_sent_on_request() {
    let (store, clock) = store_with_progress();
    clock.advance(secs(3));
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("a")]);
    clock.advance(secs(10) - MOMENT);
    assert_eq!(drain(&mut stream), NOTHING);
    clock.advance(MOMENT);
    assert_eq!(drain(&mut stream), ["0 @1 progress"]);
    put(&store, "other", "v");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress"], "events of other keys do not suppress progress");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress"], "progress is sent even if the revision is unchanged");
}

/// R-WCH-20: each stream has its own phase, which starts when the stream is opened, not when a watcher is created.
#[test]
fn progress_interval_starts_when_the_stream_opens() {
    let (store, clock) = store_with_progress();
    clock.advance(secs(3));
    let mut first = stream_of(&store, [Watch::key("a")]);
    clock.advance(secs(4));
    let mut second = stream_of(&store, [Watch::key("a").progress_notify()]);
    clock.advance(secs(15));
    assert_eq!((drain(&mut first), drain(&mut second)), (vec![], vec!["0 @1 progress".into()]));
    first.create(Watch::key("b").progress_notify());
    assert_eq!(drain(&mut first), ["1 @1 created"]);
    clock.advance(secs(1) - MOMENT);
    assert_eq!(drain(&mut first), NOTHING);
    clock.advance(MOMENT);
    assert_eq!(drain(&mut first), ["1 @1 progress"], "the tick at 23 s follows the creation");
    clock.advance(secs(4));
    assert_eq!((drain(&mut first), drain(&mut second)), (vec![], vec!["0 @1 progress".into()]));
}

/// R-WCH-20: progress is skipped once after an event.
#[test]
fn progress_is_skipped_once_after_an_event() {
    let (store, clock) = store_with_progress();
    let watches = [Watch::key("a").progress_notify(), Watch::key("b").progress_notify()];
    let mut stream = stream_of(&store, watches);
    clock.advance(secs(4));
    put(&store, "a", "1");
    put(&store, "a", "2");
    assert_eq!(drain(&mut stream).len(), 2);
    for expected in
        [&["1 @3 progress"][..], &["0 @3 progress", "1 @3 progress"], &["0 @3 progress", "1 @3 progress"]]
    {
        clock.advance(secs(10));
        assert_eq!(drain(&mut stream), expected);
    }
    stream.create(Watch::key("a").start_revision(2).progress_notify());
    assert_eq!(drain(&mut stream).len(), 2);
    for expected in
        [&["0 @3 progress", "1 @3 progress"][..], &["0 @3 progress", "1 @3 progress", "2 @3 progress"]]
    {
        clock.advance(secs(10));
        assert_eq!(drain(&mut stream), expected, "events from history suppress progress too");
    }
}

/// R-WCH-20: a watcher with an unreceived event or progress response gets no further progress.
#[test]
fn unreceived_progress_does_not_accumulate() {
    let (store, clock) = store_with_progress();
    let mut stream =
        stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("b").progress_notify()]);
    put(&store, "a", "1");
    for _ in 0..100 {
        put(&store, "c", "v");
        clock.advance(secs(10));
    }
    assert_eq!(drain(&mut stream), ["0 @2 put a=1 2/2/1", "1 @3 progress"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @102 progress", "1 @102 progress"]);
}

/// R-WCH-20: an unsynced watcher gets no progress. After it has caught up, progress is skipped once for the received events.
#[test]
fn unsynced_watcher_gets_no_progress() {
    let (store, clock) = store_with_progress();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify().capacity(1)]);
    put_times(&store, "a", 3);
    clock.advance(secs(30));
    assert_eq!(drain(&mut stream), ["0 @2 put a=0 2/2/1", "0 @4 put a=1 2/3/2, put a=2 2/4/3"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), NOTHING, "the watcher received events since the last tick");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @4 progress"]);
}

/// R-WCH-20: a watcher gets no progress before its start revision.
#[test]
fn watcher_before_its_start_gets_no_progress() {
    let (store, clock) = store_with_progress();
    let watches = [
        Watch::key("a").start_revision(4).progress_notify(),
        Watch::key("a").start_revision(i64::MAX).progress_notify(),
    ];
    let mut stream = stream_of(&store, watches);
    for _ in 0..2 {
        clock.advance(secs(10));
        put(&store, "b", "v");
        assert_eq!(drain(&mut stream), NOTHING);
    }
    put(&store, "b", "v");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @4 progress"], "the store has reached revision 4");
}

/// R-WCH-20: ended watchers get no progress, and a stream without watchers has no deadline.
#[test]
fn ended_watcher_gets_no_progress() {
    let (store, clock) = store_with_progress();
    put_times(&store, "a", 3);
    store.compact(3).unwrap();
    let mut stream = stream(&store);
    stream.create(Watch::key("a").start_revision(2).progress_notify());
    stream.create(Watch::key("a").progress_notify());
    stream.cancel(1);
    let expected = ["0 @4 created", "0 @0 compacted 3", "1 @4 created", "1 @4 canceled"];
    assert_eq!(drain(&mut stream), expected);
    clock.advance(secs(60));
    assert_eq!((drain(&mut stream), store.next_deadline()), (vec![], None));
    stream.create(Watch::key("a").progress_notify());
    assert!(store.next_deadline().is_some());
    drop(stream);
    assert_eq!(store.next_deadline(), None);
}

/// R-WCH-20: the default interval is ten minutes, and the minimum a tenth of a second.
#[test]
fn progress_interval_has_a_default_and_a_minimum() {
    let ((by_default, _clock), (shortest, _other), (none, _third)) =
        (manual(), store_with_interval(millis(99)), store_with_interval(Duration::ZERO));
    for (store, first) in [(by_default, secs(600)), (shortest, millis(100)), (none, millis(100))] {
        let _stream = stream_of(&store, [Watch::key("a").progress_notify()]);
        assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + first));
    }
    let (store, clock) = store_with_interval(Duration::MAX);
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    clock.advance(Duration::MAX);
    assert_eq!(drain(&mut stream), NOTHING, "the longest interval never ends");
}

/// R-WCH-20: a jump of the clock over many intervals sends one progress response.
#[test]
fn jump_over_many_intervals_sends_progress_once() {
    let (store, clock) = store_with_progress();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    clock.advance(secs(10_005));
    assert_eq!(drain(&mut stream), ["0 @1 progress"]);
    clock.advance(secs(5));
    assert_eq!(drain(&mut stream), ["0 @1 progress"], "the jump keeps the phase");
}

/// R-WCH-20: while no watcher of a stream can be notified, its ticks are not deadlines. A receive schedules the next one.
#[test]
fn stream_with_unreceived_notification_has_no_deadline() {
    let (store, clock) = store_with_progress();
    let mut stream =
        stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("b").progress_notify()]);
    put(&store, "b", "v");
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(10)));
    clock.advance(secs(10));
    assert_eq!(store.next_deadline(), None, "both watchers have unreceived responses");
    clock.advance(secs(15));
    assert_eq!(drain(&mut stream), ["1 @2 put b=v 2/2/1", "0 @2 progress"]);
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(30)));
    clock.advance(secs(5));
    assert_eq!(drain(&mut stream), ["0 @2 progress", "1 @2 progress"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress", "1 @2 progress"], "the tick is at 40 s");
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(50)));
}

/// R-WCH-20: a progress request lets a watcher catch up. It can then get periodic progress without a receive.
#[test]
fn watcher_synced_by_a_progress_request_gets_progress() {
    let lagging = Watch::key("a").start_revision(1).progress_notify();
    let mut engine = Engine::new(
        EngineConfig { progress_interval: secs(10), ..EngineConfig::default() },
        Timestamp::ORIGIN,
    );
    for _ in 0..5000 {
        engine_put(&mut engine, "z", "v");
    }
    let stream = engine.open_stream();
    create(&mut engine, stream, lagging);
    assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + secs(10)));
    engine.advance(Timestamp::ORIGIN + secs(15));
    assert_eq!(engine.next_deadline(), None, "an unsynced watcher without receives has no deadline");
    engine.watch(stream, &WatchRequest::Progress);
    assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + secs(20)));
    engine.advance(Timestamp::ORIGIN + secs(20));
    let lines = receive(&mut engine, stream);
    assert_eq!(lines, ["0 @5001 created", "-1 @5001 progress", "0 @5001 progress"]);
    engine.check_invariants();
}

/// R-WCH-20, R-LSE-6: at the instant of a tick, leases expire before it and commands run after it.
#[test]
fn lease_expiry_at_a_tick_precedes_it_and_a_put_follows_it() {
    let (store, clock) = store_with_progress();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    helpers::grant(&store, 7, secs(30));
    clock.advance(secs(20));
    assert_eq!(drain(&mut stream), ["0 @1 progress"], "the tick at 10 s sent progress");
    helpers::put_leased(&store, &["a"], 7);
    assert_eq!(drain(&mut stream), ["0 @2 put a=v 2/2/1 #7"]);
    clock.advance(secs(10));
    // The put came after the tick at 20 s. The delete comes before the tick at 30 s.
    assert_eq!(drain(&mut stream), ["0 @3 delete a 3"]);
    put(&store, "a", "v");
    assert_eq!(drain(&mut stream), ["0 @4 put a=v 4/4/1"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), NOTHING);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @4 progress"]);
}

/// R-WCH-20: a watcher with a future start has no deadline until the store reaches that revision.
#[test]
fn watcher_with_future_start_has_a_deadline_once_its_start_is_reached() {
    let (store, clock) = store_with_progress();
    let mut stream = stream_of(&store, [Watch::key("a").start_revision(3).progress_notify()]);
    let mut other = stream_of(&store, [Watch::key("a").start_revision(4).progress_notify()]);
    clock.advance(secs(15));
    assert_eq!((store.next_deadline(), drain(&mut stream)), (None, vec![]));
    // The receive scheduled a tick that sends nothing.
    clock.advance(secs(15));
    assert_eq!(store.next_deadline(), None);
    put(&store, "b", "v");
    assert_eq!(store.next_deadline(), None);
    put(&store, "b", "v");
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(40)));
    helpers::grant(&store, 7, secs(20));
    helpers::put_leased(&store, &["c"], 7);
    store.delete("c").unwrap();
    drop(other);
    other = stream_of(&store, [Watch::key("a").start_revision(7).progress_notify()]);
    helpers::put_leased(&store, &["c"], 7);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @6 progress"]);
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(50)), "the lease has this deadline");
    clock.advance(secs(10));
    assert_eq!(drain(&mut other), ["0 @7 progress"], "the lease expires before the tick");
}

/// R-WCH-21: one response covers all watchers of the stream, after all their events.
#[test]
fn requested_progress_covers_all_watchers() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a"), Watch::key("b"), Watch::key("c").start_revision(1)]);
    stream.request_progress();
    put(&store, "b", "1");
    stream.request_progress();
    stream.request_progress();
    put(&store, "z", "2");
    stream.request_progress();
    let expected =
        ["-1 @1 progress", "1 @2 put b=1 2/2/1", "-1 @2 progress", "-1 @2 progress", "-1 @3 progress"];
    assert_eq!(drain(&mut stream), expected);
}

/// R-WCH-21: a request on a stream without watchers has no response, even if a watcher is created later.
#[test]
fn progress_request_without_watchers_has_no_response() {
    let (store, _clock) = manual();
    put_times(&store, "a", 3);
    store.compact(4).unwrap();
    let mut stream = stream(&store);
    stream.request_progress();
    stream.create(Watch::key("a"));
    stream.cancel(0);
    stream.request_progress();
    assert_eq!(drain(&mut stream), ["0 @4 created", "0 @4 canceled"]);
    stream.create(Watch::key("a"));
    assert_eq!(drain(&mut stream), ["1 @4 created"]);
}

/// R-WCH-13, R-WCH-21: a compacted watcher is never synced, so its stream gets no progress until it is cancelled.
///
/// Other streams get their responses, and watchers with periodic progress get theirs.
#[test]
fn progress_request_waits_for_cancel_of_compacted_watcher() {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).progress_interval(secs(1)).build();
    put_times(&store, "a", 3);
    let mut beside = stream_of(&store, [Watch::key("a")]);
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("a").capacity(1)]);
    put_times(&store, "a", 3);
    store.compact(7).unwrap();
    // Watcher 1 is unsynced at the request. The receive finds that its next revision is compacted.
    stream.request_progress();
    let mut received = drain(&mut stream);
    received.retain(|line| !line.contains("put"));
    assert_eq!(received, ["1 @0 compacted 7"]);
    for _ in 0..2 {
        stream.request_progress();
        put(&store, "b", "v");
    }
    assert_eq!(drain(&mut stream), NOTHING);
    beside.request_progress();
    assert_eq!(drain(&mut beside).last().map(String::as_str), Some("-1 @9 progress"));
    clock.advance(secs(2));
    assert_eq!(drain(&mut stream), ["0 @9 progress"]);
    stream.cancel(1);
    stream.request_progress();
    assert_eq!(drain(&mut stream), ["1 @9 canceled", "-1 @9 progress"]);
}

/// R-WCH-21: a request has no response while a watcher is before its start, and none later for that request.
#[test]
fn progress_request_before_a_start_has_no_response() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a"), Watch::key("a").start_revision(3)]);
    stream.request_progress();
    put(&store, "b", "v");
    stream.request_progress();
    put(&store, "b", "v");
    assert_eq!(drain(&mut stream), NOTHING);
    stream.request_progress();
    assert_eq!(drain(&mut stream), ["-1 @3 progress"]);
}

/// R-WCH-21: a request has no response while a watcher is unsynced. A second request after it has caught up has one.
#[test]
fn progress_request_with_unsynced_watcher_has_no_response() {
    let mut engine = helpers::engine();
    for _ in 0..2500 {
        engine_put(&mut engine, "a", "v");
    }
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("b"));
    create(&mut engine, stream, Watch::key("a").start_revision(1).capacity(1));
    engine.watch(stream, &WatchRequest::Progress);
    let lines = receive(&mut engine, stream);
    assert_eq!(lines.iter().filter(|line| line.ends_with("progress")).count(), 0);
    let revisions = |line: &String| line.matches("put").count();
    assert_eq!(lines.iter().map(revisions).collect::<Vec<_>>(), [0, 0, 1000, 1000, 500]);
    assert_eq!(receive(&mut engine, stream), NOTHING);
    engine.watch(stream, &WatchRequest::Progress);
    assert_eq!(receive(&mut engine, stream), ["-1 @2501 progress"]);
    engine.check_invariants();
}

/// R-WCH-21: a request can read history for a watcher, as far as the watcher's share of the queue has room.
#[test]
fn requested_progress_does_not_overtake_events() {
    let mut engine = helpers::engine();
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("a").capacity(2));
    receive(&mut engine, stream);
    for _ in 0..5 {
        engine_put(&mut engine, "a", "v");
        engine.watch(stream, &WatchRequest::Progress);
    }
    let lines = receive(&mut engine, stream);
    let mut seen = 1;
    for line in &lines {
        let revision: i64 = line.split(['@', ' ']).nth(2).unwrap().parse().unwrap();
        seen += line.matches("put").count() as i64;
        assert!(!line.ends_with("progress") || revision <= seen, "{lines:?}");
    }
    assert_eq!(seen, 6, "{lines:?}");
}

/// R-WCH-21: a stream holds a bounded number of unreceived progress responses, and the last one is the latest.
#[test]
fn unreceived_progress_responses_are_bounded() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    let mut other = stream_of(&store, [Watch::key("a")]);
    for round in 0..100_000 {
        stream.request_progress();
        other.request_progress();
        if round % 1000 == 0 {
            put(&store, "b", "v");
        }
        assert_eq!(drain(&mut other).len(), 1, "a stream that is drained each time gets each response");
    }
    assert_eq!(store.diagnostics().unwrap().queued_deliveries, 128);
    put(&store, "a", "v");
    for _ in 0..1000 {
        stream.request_progress();
    }
    let lines = drain(&mut stream);
    assert_eq!((lines.len(), lines.iter().filter(|line| line.ends_with("progress")).count()), (130, 129));
    assert_eq!(
        lines[126..],
        ["-1 @2 progress", "-1 @101 progress", "0 @102 put a=v 102/102/1", "-1 @102 progress"]
    );
    for _ in 0..3 {
        stream.request_progress();
    }
    assert_eq!(drain(&mut stream), ["-1 @102 progress"; 3]);
}
