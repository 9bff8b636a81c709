//! The lag of a watcher: revisions and time since its first unreceived event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leasehold::clock::{Clock, Timestamp};
use leasehold::watch::Lag;
use leasehold::{Revision, Store, Watch};
use leasehold_testkit::helpers::{grant, manual, millis, put, put_leased, secs};
use leasehold_testkit::watch_helpers::{drain, put_times, revisions, stream, stream_of};

fn lag(current: i64, revisions: u64, since: Option<u64>) -> Option<Lag> {
    let since = since.map(|seconds| Timestamp::ORIGIN + secs(seconds));
    Some(Lag { current: Revision::new(current), revisions, since })
}

/// The lag has the number of revisions since the first unreceived event, and the time of that event.
#[test]
fn lag_counts_revisions_and_time() {
    let (store, clock) = manual();
    let mut watcher = store.watch(Watch::key("a").capacity(2)).unwrap();
    assert_eq!(watcher.lag(), lag(1, 0, None));
    put(&store, "b", "other");
    assert_eq!(watcher.lag(), lag(2, 0, None), "an event of an unwatched key causes no lag");
    clock.advance(secs(5));
    put(&store, "a", "1");
    clock.advance(secs(5));
    put(&store, "b", "other");
    assert_eq!(watcher.lag(), lag(4, 2, Some(5)));
    put_times(&store, "a", 8);
    assert_eq!(watcher.lag(), lag(12, 10, Some(5)), "the time is the first unreceived event's");
    assert_eq!(revisions(&watcher.recv().unwrap()), [3]);
    assert_eq!(watcher.lag(), lag(12, 8, Some(5)), "revision 5 is the next to receive");
    while watcher.try_recv().unwrap().is_some() {}
    assert_eq!(watcher.lag(), lag(12, 0, None));
    clock.advance(millis(1500));
    put(&store, "a", "x");
    assert_eq!(watcher.lag().unwrap().since, Some(Timestamp::ORIGIN + millis(11_500)));
    store.close();
    assert_eq!(watcher.lag(), None);
}

/// A missing watcher has no lag. An ended watcher has none, or a lag of zero after a compaction.
#[test]
fn lag_of_missing_watcher_is_none() {
    let (store, _clock) = manual();
    let mut stream = stream(&store);
    assert_eq!(stream.lag(0), None, "an unopened stream has no watchers");
    stream.create(Watch::key("a"));
    stream.create(Watch::key("b"));
    drain(&mut stream);
    put_times(&store, "b", 3);
    assert_eq!((stream.lag(0), stream.lag(1), stream.lag(2)), (lag(4, 0, None), lag(4, 3, Some(0)), None));
    stream.cancel(1);
    assert_eq!(stream.lag(1), None);
    store.compact(4).unwrap();
    stream.create(Watch::key("a").start_revision(2));
    drain(&mut stream);
    assert_eq!(stream.lag(2), lag(4, 0, None), "an ended watcher waits for no revision");
}

/// The time is per watcher.
#[test]
fn lag_is_per_watcher_of_a_stream() {
    let (store, clock) = manual();
    let stream = stream_of(&store, [Watch::key("a"), Watch::key("b")]);
    put(&store, "a", "1");
    clock.advance(secs(5));
    put(&store, "b", "2");
    assert_eq!((stream.lag(0), stream.lag(1)), (lag(3, 2, Some(0)), lag(3, 1, Some(5))));
}

/// R-WCH-4: a refusal has the id -1 and must not count as the creation of a watcher with that id.
#[test]
fn lag_of_watcher_minus_one_survives_a_refusal() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a").id(-1)]);
    put_times(&store, "a", 3);
    stream.create(Watch::key("a").id(-1));
    assert_eq!(stream.lag(-1), lag(4, 3, Some(0)));
    stream.try_recv().unwrap();
    assert_eq!(stream.lag(-1), lag(4, 2, Some(0)), "two revisions are still unreceived");
}

/// A backlog that is pulled in several pieces keeps the time of its watchers' creation, in the last piece too.
#[test]
fn lag_of_backlog_pulled_in_pieces_keeps_its_time() {
    let (store, clock) = manual();
    put_times(&store, "a", 3000);
    clock.advance(secs(3));
    let mut stream = stream(&store);
    stream.create(Watch::key("a").start_revision(2));
    stream.create(Watch::key("a").start_revision(2));
    clock.advance(secs(4));
    let mut seen = vec![];
    while stream.try_recv().unwrap().is_some() {
        seen.extend([0, 1].map(|id| stream.lag(id).expect("the watcher exists")));
    }
    assert!(seen.len() > 4 && seen.iter().rev().take(2).all(|lag| lag.revisions == 0), "{seen:?}");
    for lag in seen {
        assert_eq!(lag.since, (lag.revisions > 0).then_some(Timestamp::ORIGIN + secs(3)), "{lag:?}");
    }
}

/// A clock without ticks. A command then advances the store's time only if it does due work.
#[derive(Default)]
struct Unticked(AtomicU64);

impl Clock for Unticked {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn lag_under_clock_without_ticks_counts_from_the_put() {
    let clock = Arc::new(Unticked::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let watcher = store.watch("a").unwrap();
    clock.0.store(secs(5).as_nanos() as u64, Ordering::SeqCst);
    put(&store, "a", "1");
    clock.0.store(secs(9).as_nanos() as u64, Ordering::SeqCst);
    assert_eq!(watcher.lag(), lag(2, 1, Some(5)));
}

/// The inbox received the first event before the second one was made.
#[test]
fn lag_counts_from_the_first_event_that_was_not_received() {
    let (store, clock) = manual();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    put_times(&store, "a", 2);
    watcher.recv().unwrap();
    clock.advance(secs(5));
    put(&store, "a", "late");
    assert_eq!(watcher.lag(), lag(4, 2, Some(0)));
}

/// A lease expires at its deadline, even if the store processes it later. The inbox is notified with the deadline's time too.
#[test]
fn lag_of_overdue_lease_expiry_counts_from_the_deadline() {
    let clock = Arc::new(Unticked::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    for (lease, key) in [(1, "a1"), (2, "a2")] {
        grant(&store, lease, secs(5));
        put_leased(&store, &[key], lease);
    }
    let mut watcher = store.watch(Watch::prefix("a")).unwrap();
    clock.0.store(secs(9).as_nanos() as u64, Ordering::SeqCst);
    put(&store, "b", "other");
    assert_eq!(watcher.lag(), lag(6, 3, Some(5)));
    watcher.recv().unwrap();
    assert_eq!(watcher.lag(), lag(6, 2, Some(5)), "the event of the second lease is in the inbox");
}
