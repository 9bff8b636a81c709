//! How far a watch has come, without an event: asked for and from time to time (R-WCH-19 to R-WCH-21).

use std::time::Duration;

use leasehold::backend::WatchRequest;
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{ManualClock, Store, Watch};
use leasehold_testkit::helpers::{self, manual, millis, put, secs};
use leasehold_testkit::watch_helpers::{self, NOTHING, create, drain, engine_put, put_times, receive};
use leasehold_testkit::watch_helpers::{stream, stream_of};

const MOMENT: Duration = Duration::from_nanos(1);

/// A store that tells of progress each ten seconds.
fn telling() -> (Store, ManualClock) {
    telling_each(secs(10))
}

fn telling_each(interval: Duration) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).progress_interval(interval).build(), clock)
}

/// R-WCH-19: all events until then were sent before, all later ones are of later revisions, and it never goes back.
#[test]
fn progress_is_a_promise() {
    let (store, clock) = telling();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    let (mut last, mut events) = (0, 0);
    for round in 0..60 {
        put(&store, if round % 7 == 0 { "a" } else { "b" }, "v");
        if round % 3 == 0 {
            stream.request_progress();
        }
        clock.advance(secs(4));
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

/// R-WCH-20: each interval since the stream was opened, to who asked for it, with the store's revision.
#[test]
fn who_wants_it_is_told_from_time_to_time() {
    let (store, clock) = telling();
    clock.advance(secs(3));
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("a")]);
    clock.advance(secs(10) - MOMENT);
    assert_eq!(drain(&mut stream), NOTHING);
    clock.advance(MOMENT);
    assert_eq!(drain(&mut stream), ["0 @1 progress"]);
    put(&store, "other", "v");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress"], "events of others do not matter");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress"], "nor does it that nothing happened");
}

/// R-WCH-20: the phase is that of the stream's opening, whenever its watchers are made, and of each stream its own.
#[test]
fn the_phase_is_that_of_the_stream() {
    let (store, clock) = telling();
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
    assert_eq!(drain(&mut first), ["1 @1 progress"], "at 23 s, a second after it was made");
    clock.advance(secs(4));
    assert_eq!((drain(&mut first), drain(&mut second)), (vec![], vec!["0 @1 progress".into()]));
}

/// R-WCH-20: once, and only once, it is left out after an event.
#[test]
fn after_an_event_it_is_left_out_once() {
    let (store, clock) = telling();
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
        assert_eq!(drain(&mut stream), expected, "events of history count too");
    }
}

/// R-WCH-20: who has not received the last event, or the last notification, is sent no further one.
#[test]
fn nothing_piles_up_for_who_does_not_receive() {
    let (store, clock) = telling();
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

/// R-WCH-20: not while it lags; and when it has caught up, not for what it has just been sent.
#[test]
fn a_lagging_watcher_is_not_told() {
    let (store, clock) = telling();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify().capacity(1)]);
    put_times(&store, "a", 3);
    clock.advance(secs(30));
    assert_eq!(drain(&mut stream), ["0 @2 put a=0 2/2/1", "0 @4 put a=1 2/3/2, put a=2 2/4/3"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), NOTHING, "it has had events since the last time");
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @4 progress"]);
}

/// R-WCH-20: not before its start.
#[test]
fn before_its_start_a_watcher_is_not_told() {
    let (store, clock) = telling();
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
    assert_eq!(drain(&mut stream), ["0 @4 progress"], "the store has come to revision 4");
}

/// R-WCH-20: ended watchers are told nothing, and then time has nothing to do for the stream.
#[test]
fn an_ended_watcher_is_not_told() {
    let (store, clock) = telling();
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

/// R-WCH-20: ten minutes unless set, and at least a tenth of a second.
#[test]
fn the_interval_has_a_default_and_a_minimum() {
    let ((by_default, _clock), (shortest, _other), (none, _third)) =
        (manual(), telling_each(millis(99)), telling_each(Duration::ZERO));
    for (store, first) in [(by_default, secs(600)), (shortest, millis(100)), (none, millis(100))] {
        let _stream = stream_of(&store, [Watch::key("a").progress_notify()]);
        assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + first));
    }
    let (store, clock) = telling_each(Duration::MAX);
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    clock.advance(Duration::MAX);
    assert_eq!(drain(&mut stream), NOTHING, "never");
}

/// R-WCH-20: a jump of the time is one notification.
#[test]
fn a_long_time_is_told_once() {
    let (store, clock) = telling();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    clock.advance(secs(10_005));
    assert_eq!(drain(&mut stream), ["0 @1 progress"]);
    clock.advance(secs(5));
    assert_eq!(drain(&mut stream), ["0 @1 progress"], "the phase is as before");
}

/// R-WCH-20: while no watcher of a stream can be notified, its ticks are no deadlines; a receive makes the next one.
#[test]
fn stream_with_unreceived_notification_has_no_deadline() {
    let (store, clock) = telling();
    let mut stream =
        stream_of(&store, [Watch::key("a").progress_notify(), Watch::key("b").progress_notify()]);
    put(&store, "b", "v");
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(10)));
    clock.advance(secs(10));
    assert_eq!(store.next_deadline(), None, "the one has an event, the other a notification");
    clock.advance(secs(15));
    assert_eq!(drain(&mut stream), ["1 @2 put b=v 2/2/1", "0 @2 progress"]);
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(30)));
    clock.advance(secs(5));
    assert_eq!(drain(&mut stream), ["0 @2 progress", "1 @2 progress"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @2 progress", "1 @2 progress"], "at 40 s, where the next is at 50 s");
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(50)));
}

/// R-WCH-20: a request for progress lets a watcher catch up, and then it can be notified without a receive.
#[test]
fn watcher_that_a_progress_request_synced_is_notified() {
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
    assert_eq!(engine.next_deadline(), None, "it lags, and is not received from");
    engine.watch(stream, &WatchRequest::Progress);
    assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + secs(20)));
    engine.advance(Timestamp::ORIGIN + secs(20));
    let said = receive(&mut engine, stream);
    assert_eq!(said, ["0 @5001 created", "-1 @5001 progress", "0 @5001 progress"]);
    engine.check_invariants();
}

/// R-WCH-20, R-LSE-6: at the instant of a tick, leases end before it and commands come after it.
#[test]
fn events_at_the_instant_of_a_tick_count_before_it_only_if_a_lease_ends() {
    let (store, clock) = telling();
    let mut stream = stream_of(&store, [Watch::key("a").progress_notify()]);
    helpers::grant(&store, 7, secs(30));
    clock.advance(secs(20));
    assert_eq!(drain(&mut stream), ["0 @1 progress"], "that of 10 s");
    helpers::put_leased(&store, &["a"], 7);
    assert_eq!(drain(&mut stream), ["0 @2 put a=v 2/2/1 #7"]);
    clock.advance(secs(10));
    // The put came after the tick at 20 s; the delete comes before the one at 30 s.
    assert_eq!(drain(&mut stream), ["0 @3 delete a 3"]);
    put(&store, "a", "v");
    assert_eq!(drain(&mut stream), ["0 @4 put a=v 4/4/1"]);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), NOTHING);
    clock.advance(secs(10));
    assert_eq!(drain(&mut stream), ["0 @4 progress"]);
}

/// R-WCH-20: a watcher with a start in the future causes no deadline until the store reaches that revision.
#[test]
fn watcher_with_future_start_has_a_deadline_once_its_start_is_reached() {
    let (store, clock) = telling();
    let mut stream = stream_of(&store, [Watch::key("a").start_revision(3).progress_notify()]);
    let mut other = stream_of(&store, [Watch::key("a").start_revision(4).progress_notify()]);
    clock.advance(secs(15));
    assert_eq!((store.next_deadline(), drain(&mut stream)), (None, vec![]));
    // A receive made a deadline that makes no difference.
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
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(50)), "that of the lease, and of a tick");
    clock.advance(secs(10));
    assert_eq!(drain(&mut other), ["0 @7 progress"], "the lease ended at the tick's instant, before it");
}

/// R-WCH-21: one answer for all watchers of the stream, after all they were sent.
#[test]
fn one_answer_is_for_all_watchers() {
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

/// R-WCH-21: no watcher, no answer; nor later, when there is one.
#[test]
fn without_watchers_there_is_no_answer() {
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

/// R-WCH-13, R-WCH-21: a watcher that a compaction has ended is never synced, so its stream gets no answer until it is cancelled.
/// Other streams get one, and a watcher with periodic progress is notified.
#[test]
fn progress_request_is_not_answered_until_a_compacted_watcher_is_cancelled() {
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

/// R-WCH-21: not while one of them has still to come to its start, nor then of itself.
#[test]
fn before_a_start_there_is_no_answer() {
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

/// R-WCH-21: not while one of them has history to read, not even later; when all is read, and asked again, there is.
#[test]
fn while_one_lags_there_is_no_answer() {
    let mut engine = helpers::engine();
    for _ in 0..2500 {
        engine_put(&mut engine, "a", "v");
    }
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("b"));
    create(&mut engine, stream, Watch::key("a").start_revision(1).capacity(1));
    engine.watch(stream, &WatchRequest::Progress);
    let said = receive(&mut engine, stream);
    assert_eq!(said.iter().filter(|line| line.ends_with("progress")).count(), 0);
    let revisions = |line: &String| line.matches("put").count();
    assert_eq!(said.iter().map(revisions).collect::<Vec<_>>(), [0, 0, 1000, 1000, 500]);
    assert_eq!(receive(&mut engine, stream), NOTHING);
    engine.watch(stream, &WatchRequest::Progress);
    assert_eq!(receive(&mut engine, stream), ["-1 @2501 progress"]);
    engine.check_invariants();
}

/// R-WCH-21: what history there is may be read on the occasion, as far as the watcher has room for it.
#[test]
fn an_answer_never_overtakes_events() {
    let mut engine = helpers::engine();
    let stream = engine.open_stream();
    create(&mut engine, stream, Watch::key("a").capacity(2));
    receive(&mut engine, stream);
    for _ in 0..5 {
        engine_put(&mut engine, "a", "v");
        engine.watch(stream, &WatchRequest::Progress);
    }
    let said = receive(&mut engine, stream);
    let mut seen = 1;
    for line in &said {
        let revision: i64 = line.split(['@', ' ']).nth(2).unwrap().parse().unwrap();
        seen += line.matches("put").count() as i64;
        assert!(!line.ends_with("progress") || revision <= seen, "{said:?}");
    }
    assert_eq!(seen, 6, "{said:?}");
}

/// R-WCH-21: a caller that asks and never receives holds a bounded number of answers, of which the last is the latest.
#[test]
fn unreceived_progress_answers_are_bounded() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    let mut other = stream_of(&store, [Watch::key("a")]);
    for round in 0..100_000 {
        stream.request_progress();
        other.request_progress();
        if round % 1000 == 0 {
            put(&store, "b", "v");
        }
        assert_eq!(drain(&mut other).len(), 1, "a receiver that keeps up has each answer");
    }
    assert_eq!(store.diagnostics().unwrap().queued_deliveries, 128);
    put(&store, "a", "v");
    for _ in 0..1000 {
        stream.request_progress();
    }
    let said = drain(&mut stream);
    assert_eq!((said.len(), said.iter().filter(|line| line.ends_with("progress")).count()), (130, 129));
    assert_eq!(
        said[126..],
        ["-1 @2 progress", "-1 @101 progress", "0 @102 put a=v 102/102/1", "-1 @102 progress"]
    );
    for _ in 0..3 {
        stream.request_progress();
    }
    assert_eq!(drain(&mut stream), ["-1 @102 progress"; 3]);
}
