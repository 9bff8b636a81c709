//! What was once broken about watches and the seam, each test with a word on what broke and why.

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
    std::iter::from_fn(|| watcher.try_recv().expect("the watch goes on")).count()
}

/// Panics when it wakes.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker of somebody else's");
    }
}

/// Counts how often it wakes.
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

/// Nanoseconds that a test counts, and nobody ticks.
#[derive(Default)]
struct Counted(AtomicU64);

impl Clock for Counted {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// A stream was told of an event only after the lock was released. Another writer's event for it, in between, was then not
/// to be seen by the one who had written it.
#[test]
fn who_has_put_receives_it() {
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

/// A second cancel of an inbox took out whoever had its place by then, which was never told of anything again.
#[test]
fn a_second_cancel_concerns_nobody_else() {
    let store = Store::new();
    let inbox = Arc::new(Inbox::new());
    Backend::watch(&store, &[create(Watch::key("a"))], &inbox);
    Backend::cancel(&store, &inbox);
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    Backend::cancel(&store, &inbox);
    assert_eq!(drain(&mut watcher), 0);
    store.put(("a", "1")).unwrap();
    assert_eq!(drain(&mut watcher), 1);
    // And an inbox that is used after its end learns that it is over.
    Backend::watch(&store, &[create(Watch::key("a"))], &inbox);
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
}

/// A call runs due work first, wakers included. When a waker panicked, the call was not made, and a receiver that was pulling
/// never polled again.
#[test]
fn panicking_waker_of_due_work_does_not_reach_the_call() {
    let clock = Arc::new(Counted::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let expiring = |key: &str| {
        let lease = store.grant(secs(5)).unwrap().id();
        store.put(Put::new(key, "v").lease(lease)).unwrap();
        let mut watcher = store.watch(Watch::key(key)).unwrap();
        wait(&mut watcher, &Arc::new(Bomb).into());
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

/// A second waker that panicked aborted the process.
#[test]
fn several_panicking_wakers_of_one_put_are_contained() {
    let store = Store::new();
    let mut watchers: Vec<Watcher> = (0..4).map(|_| store.watch(Watch::key("a")).unwrap()).collect();
    let count = Arc::new(Count::default());
    for (n, watcher) in watchers.iter_mut().enumerate() {
        let waker = if n == 3 { Arc::clone(&count).into() } else { Arc::new(Bomb).into() };
        wait(watcher, &waker);
    }
    store.put(("a", "1")).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(watchers.iter_mut().all(|watcher| drain(watcher) == 1));
}

/// A clock whose timer cannot be armed.
#[derive(Default)]
struct Broken(Counted);

struct BrokenTimer;

impl Timer for BrokenTimer {
    fn arm(&self, _: Timestamp) {
        panic!("no thread can be started");
    }
}

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn attach(&self, _: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(BrokenTimer))
    }
}

/// The timer was told before those who waited were; if it panicked, they were never told.
#[test]
fn a_timer_that_cannot_be_armed_keeps_nobody_waiting() {
    let store = Store::builder().clock(Broken::default()).build();
    let mut stream: WatchStream = store.client().watch_stream();
    stream.create(Watch::key("a"));
    assert!(stream.try_recv().unwrap().is_some_and(|response| response.created()));
    assert!(stream.try_recv().unwrap().is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| stream.create(Watch::key("b").progress_notify()))).is_err());
    assert!(stream.try_recv().unwrap().is_some_and(|response| response.created()));
    store.put(("a", "1")).unwrap();
    assert_eq!(stream.try_recv().unwrap().map(|response| response.events().len()), Some(1));
}

/// Leaving a topic from its front moved all the others: a put at which many watchers of a key overflowed, and the closing of a
/// stream with many, took a time that grew with the square of their number: a second for 100,000.
#[test]
fn many_watchers_of_a_key_overflow_and_close_in_little_time() {
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
    assert_eq!(received.len(), 100_000, "each saw both");
    engine.check_invariants();
    drop(engine.close_stream(stream));
    engine.check_invariants();
}

/// The shape of the intervals could be foreseen. Starts chosen by it made a chain of them, and a put overflowed the stack.
#[test]
fn intervals_cannot_be_chosen_to_make_a_chain() {
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

/// Streams that were received from before the list of the woken was taken stayed in it, again and again.
#[test]
fn a_stream_is_woken_once() {
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
    assert_eq!(engine.take_woken(), [streams[1]]);
    for _ in 0..1000 {
        let stream = engine.open_stream();
        engine.watch(stream, &create(Watch::key("b")));
        engine.close_stream(stream);
    }
    engine.check_invariants();
    assert_eq!(engine.take_woken(), []);
}

/// The state's hash did not tell who is to be notified of progress, nor when.
#[test]
fn what_is_to_come_is_in_the_hash() {
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

/// A watcher got the lag of an earlier one with its id, and one that had ended got one at all.
#[test]
fn lag_is_of_who_has_the_id_now() {
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
    assert!(late.lag().is_some(), "also before its creation was received");
    assert!(late.try_recv().is_err());
    assert_eq!((late.lag(), late.is_ended()), (None, true));
}

/// After the end the token stayed, so that a `select!` loop that went on never waited.
#[test]
fn an_ended_watcher_holds_no_token() {
    let store = Store::new();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    let _asked_for = watcher.ready().try_recv();
    store.close();
    assert!(watcher.ready().try_recv().is_ok());
    assert!(watcher.try_recv().is_err());
    assert!((0..3).all(|_| watcher.ready().try_recv().is_err()));
}

/// An inbox that was dropped without a word kept its stream for ever.
#[test]
fn a_dropped_inbox_leaves_nothing() {
    let store = Store::new();
    for _ in 0..100 {
        Backend::watch(&store, &[create(Watch::key("a"))], &Arc::new(Inbox::new()));
    }
    // The streams are closed when they would be told of something; so the second put has nobody to look for.
    store.put(("a", "1")).unwrap();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    store.put(("a", "2")).unwrap();
    assert_eq!(drain(&mut watcher), 1);
}

/// A wait reckoned its end twice, and could last longer than it was told, if the clock moved in between.
#[test]
fn a_wait_ends_when_it_was_to_end() {
    /// Moves on with each look.
    struct Hasty(Counted);

    impl Clock for Hasty {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.0.fetch_add(1_000_000_000, Ordering::SeqCst))
        }
    }

    let store = Store::builder().clock(Hasty(Counted::default())).build();
    let mut watcher = store.watch(Watch::key("a")).unwrap();
    let ticking = {
        let store = store.clone();
        let ticker = Builder::new().spawn(move || {
            // Until the wait is over, which drops the other handles.
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
    assert_eq!(deadline.since(begun), secs(61), "one look at the clock after another");
}
