//! Regressions of watches and backends, one test each: the earlier fault, its cause, and the behaviour now.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Builder};
use std::time::Duration;

use leasehold::backend::{Backend, Inbox, WatchRequest};
use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::watch::{WatchId, WatchStream};
use leasehold::{Put, Store, Watch, Watcher};
use leasehold_testkit::helpers::{millis, secs};

fn engine() -> Engine {
    Engine::new(EngineConfig::default(), Timestamp::ORIGIN)
}

fn create(watch: Watch) -> WatchRequest {
    WatchRequest::Create(watch)
}

fn drain(watcher: &mut Watcher) -> usize {
    std::iter::from_fn(|| watcher.try_recv().expect("the watch is not cancelled")).count()
}

/// A waker that panics.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("a user's waker panics");
    }
}

/// A waker that counts its calls.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn wait(watcher: &mut Watcher, waker: &Waker) {
    let polled = watcher.poll_recv(&mut Context::from_waker(waker));
    assert_eq!(polled, Poll::Pending);
}

/// A clock that a test sets and that never ticks its stores.
#[derive(Default)]
struct SettableClock(AtomicU64);

impl Clock for SettableClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// A stream was notified of an event only after the lock was released. Another thread's event in between could hide the
/// event from the thread that had written it.
#[test]
fn put_is_received_by_the_same_thread() {
    let store = Store::new();
    let mut watcher = store.watch(Watch::all()).unwrap();
    let other = store.clone();
    let rounds = 20_000;
    let writer = Builder::new().spawn(move || {
        for n in 0..rounds {
            other.put(("other", n.to_string())).unwrap();
        }
    });
    let writer = writer.unwrap();
    for n in 0..rounds {
        store.put(("own", n.to_string())).unwrap();
        let mut seen = false;
        while let Some(response) = watcher.try_recv().unwrap() {
            seen |= response.events().iter().any(|event| event.kv().value() == n.to_string().as_bytes());
        }
        assert!(seen, "round {n}");
    }
    writer.join().unwrap();
}

/// A second cancel of an inbox removed the stream that had reused its slot, and that stream was never notified again.
#[test]
fn second_cancel_of_an_inbox_does_not_affect_others() {
    let store = Store::new();
    let inbox = Arc::new(Inbox::new());
    Backend::watch(&store, &[create(Watch::key("a"))], &inbox);
    Backend::cancel(&store, &inbox);
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    Backend::cancel(&store, &inbox);
    assert_eq!(drain(&mut watcher), 0);
    store.put(("a", "1")).unwrap();
    assert_eq!(drain(&mut watcher), 1);
    // An inbox that is used after its cancel is closed.
    Backend::watch(&store, &[create(Watch::key("a"))], &inbox);
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
}

/// A call runs due work first, wakers included. When a waker panicked, the call was not made, and a receiver that was
/// pulling never polled again.
#[test]
fn panicking_waker_of_due_work_does_not_reach_the_call() {
    let clock = Arc::new(SettableClock::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let expiring = |key: &str| {
        let lease = store.grant(secs(5)).unwrap().id();
        store.put(Put::new(key, "v").lease(lease)).unwrap();
        let mut watcher = store.watch(Watch::key(key)).unwrap();
        wait(&mut watcher, &Arc::new(PanickingWaker).into());
        (watcher, clock.0.fetch_add(5_000_000_000, Ordering::SeqCst))
    };
    let mut watcher = store.watch(Watch::key("b")).unwrap();
    let _first = expiring("a");
    store.put(("b", "1")).unwrap();
    assert_eq!(store.get("b").unwrap().count(), 1);
    let _second = expiring("c");
    assert_eq!(drain(&mut watcher), 1);
    let _third = expiring("d");
    drop(watcher);
    store.close();
    assert!(store.get("b").is_err(), "the store is closed");
}

/// A second panicking waker aborted the process.
#[test]
fn several_panicking_wakers_of_one_put_are_contained() {
    let store = Store::new();
    let mut watchers: Vec<Watcher> = (0..4).map(|_| store.watch(Watch::key("a")).unwrap()).collect();
    let count = Arc::new(Count::default());
    for (n, watcher) in watchers.iter_mut().enumerate() {
        let waker = if n == 3 { Arc::clone(&count).into() } else { Arc::new(PanickingWaker).into() };
        wait(watcher, &waker);
    }
    store.put(("a", "1")).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(watchers.iter_mut().all(|watcher| drain(watcher) == 1));
}

/// A clock whose timer panics when it is armed.
#[derive(Default)]
struct BrokenClock(SettableClock);

struct BrokenTimer;

impl Timer for BrokenTimer {
    fn arm(&self, _: Timestamp) {
        panic!("no thread can be started");
    }
}

impl Clock for BrokenClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn attach(&self, _: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(BrokenTimer))
    }
}

/// The timer was armed before receivers were woken. If the timer panicked, they were never woken.
#[test]
fn panicking_timer_does_not_lose_wake_ups() {
    let store = Store::builder().clock(BrokenClock::default()).build();
    let mut stream: WatchStream = store.client().watch_stream();
    stream.create(Watch::key("a"));
    assert!(stream.try_recv().unwrap().is_some_and(|response| response.created()));
    assert!(stream.try_recv().unwrap().is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| stream.create(Watch::key("b").progress_notify()))).is_err());
    assert!(stream.try_recv().unwrap().is_some_and(|response| response.created()));
    store.put(("a", "1")).unwrap();
    assert_eq!(stream.try_recv().unwrap().map(|response| response.events().len()), Some(1));
}

/// Removing a watcher from the front of a topic moved all others. A put that overflowed many watchers of a key, or the close
/// of a stream with many, took time quadratic in their number: a second for 100,000.
#[test]
fn many_watchers_of_a_key_overflow_and_close_fast() {
    let mut engine = engine();
    let stream = engine.open_stream();
    for _ in 0..50_000 {
        engine.watch(stream, &create(Watch::key("a").capacity(1)));
    }
    let mut received = VecDeque::new();
    while engine.receive(stream, &mut received) {}
    for _ in 0..2 {
        engine.put(&Put::new("a", "v")).unwrap();
    }
    received.clear();
    while engine.receive(stream, &mut received) {}
    assert_eq!(received.len(), 100_000, "each watcher receives both events");
    engine.check_invariants();
    drop(engine.close_stream(stream));
    engine.check_invariants();
}

/// The shape of the interval tree was predictable. Chosen starts degenerated it into a list, and a put overflowed the stack.
#[test]
fn chosen_intervals_do_not_degenerate_the_tree() {
    let mix = |number: u64| {
        let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut engine = engine();
    let stream = engine.open_stream();
    for number in 0..30_000 {
        engine.watch(stream, &create(Watch::range(leasehold::KeyRange::from_key(mix(number).to_be_bytes()))));
    }
    engine.put(&Put::new([0xff; 9], "v")).unwrap();
    let mut received = VecDeque::new();
    while engine.receive(stream, &mut received) {}
    assert_eq!(received.len(), 60_000);
}

/// A stream that was received from before the ready streams were taken stayed in the list, once for each event.
#[test]
fn received_stream_is_removed_from_the_ready_list() {
    let mut engine = engine();
    let streams: Vec<_> = (0..3).map(|_| engine.open_stream()).collect();
    for &stream in &streams {
        engine.watch(stream, &create(Watch::key("a")));
    }
    let mut received = VecDeque::new();
    for _ in 0..1000 {
        engine.put(&Put::new("a", "v")).unwrap();
        while engine.receive(streams[0], &mut received) {}
        while engine.receive(streams[2], &mut received) {}
        engine.check_invariants();
    }
    assert_eq!(engine.take_ready_streams(), [streams[1]]);
    for _ in 0..1000 {
        let stream = engine.open_stream();
        engine.watch(stream, &create(Watch::key("b")));
        engine.close_stream(stream);
    }
    engine.check_invariants();
    assert_eq!(engine.take_ready_streams(), []);
}

/// The state hash did not cover which watchers get periodic progress, and when.
#[test]
fn state_hash_covers_periodic_progress() {
    let engine_with = |notified: i64, opened: Duration| {
        let mut engine = engine();
        engine.advance(Timestamp::ORIGIN + opened);
        let stream = engine.open_stream();
        for id in [1, 2] {
            let watch = Watch::key("a").id(id);
            let watch = if id == notified { watch.progress_notify() } else { watch };
            engine.watch(stream, &create(watch));
        }
        while engine.receive(stream, &mut VecDeque::new()) {}
        engine.advance(Timestamp::ORIGIN + secs(1));
        engine.state_hash()
    };
    let hash = engine_with(1, Duration::ZERO);
    assert_eq!(hash, engine_with(1, Duration::ZERO));
    assert_ne!(hash, engine_with(2, Duration::ZERO));
    assert_ne!(hash, engine_with(1, millis(500)));
}

/// A watcher had the lag of an earlier watcher with its id, and an ended watcher had a lag.
#[test]
fn lag_is_of_the_current_watcher_with_the_id() {
    let store = Store::new();
    let stream = store.client().watch_stream();
    stream.create(Watch::key("a").id(7));
    store.put(("a", "1")).unwrap();
    stream.cancel(7);
    stream.create(Watch::key("a").id(7));
    assert_eq!(stream.lag(7).map(|lag| lag.revisions), Some(0));
    store.put(("a", "2")).unwrap();
    assert_eq!(stream.lag(WatchId::new(7)).map(|lag| lag.revisions), Some(1));
    store.compact(3).unwrap();
    let mut late = store.client().watch(Watch::key("a").start_revision(2));
    assert!(late.lag().is_some(), "a watcher has a lag before its creation is received");
    assert!(late.try_recv().is_err());
    assert_eq!((late.lag(), late.is_ended()), (None, true));
}

/// After its end a watcher kept its token, so a `select!` loop that continued never blocked.
#[test]
fn ended_watcher_has_no_ready_token() {
    let store = Store::new();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    let _asked_for = watcher.ready_channel().try_recv();
    store.close();
    assert!(watcher.ready_channel().try_recv().is_ok());
    assert!(watcher.try_recv().is_err());
    assert!((0..3).all(|_| watcher.ready_channel().try_recv().is_err()));
}

/// An inbox that was dropped without `cancel` kept its stream forever.
#[test]
fn dropped_inbox_releases_its_stream() {
    let store = Store::new();
    for _ in 0..100 {
        Backend::watch(&store, &[create(Watch::key("a"))], &Arc::new(Inbox::new()));
    }
    // The first put closes the streams, since notifying them finds that their inboxes are dropped.
    store.put(("a", "1")).unwrap();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    store.put(("a", "2")).unwrap();
    assert_eq!(drain(&mut watcher), 1);
}

/// A wait computed its deadline twice. If the clock advanced in between, the wait was too long.
#[test]
fn recv_timeout_computes_its_deadline_once() {
    /// A clock that advances by a second at each read.
    struct AdvancingClock(SettableClock);

    impl Clock for AdvancingClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.0.fetch_add(1_000_000_000, Ordering::SeqCst))
        }
    }

    let store = Store::builder().clock(AdvancingClock(SettableClock::default())).build();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    let ticking = {
        let store = store.clone();
        let ticker = Builder::new().spawn(move || {
            // Tick until the wait is over, which drops the other handles.
            while store.next_deadline().is_none() {
                thread::yield_now();
            }
            let deadline = store.next_deadline();
            while store.next_deadline().is_some() {
                store.tick();
            }
            deadline
        });
        ticker.unwrap()
    };
    let begun = store.now();
    assert_eq!(watcher.recv_timeout(secs(60)), Ok(None));
    let deadline = ticking.join().unwrap().expect("the wait has a deadline");
    assert_eq!(
        deadline.duration_since(begun),
        secs(61),
        "the deadline is computed from the next read of the clock"
    );
}
