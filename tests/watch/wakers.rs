//! Wakers: each is called without a lock held, whatever it does, and none is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::watch::WatchStream;
use leasehold::{Error, Get, Store, Watch, Watcher};
use leasehold_testkit::helpers::{grant, manual, put, put_leased, secs};
use leasehold_testkit::watch_helpers::{drain, drain_watcher, put_times, say, stream_of};

/// A waker that counts its calls and runs a closure.
struct ActingWaker<F> {
    wakes: AtomicUsize,
    act: F,
}

impl<F: Fn() + Send + Sync + 'static> ActingWaker<F> {
    fn new(act: F) -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self { wakes: AtomicUsize::new(0), act });
        (Arc::clone(&bell), Waker::from(bell))
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl<F: Fn() + Send + Sync + 'static> Wake for ActingWaker<F> {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        (self.act)();
    }
}

/// Polls a watcher that has nothing to receive.
fn await_with(watcher: &mut Watcher, waker: &Waker) {
    assert_eq!(watcher.poll_recv(&mut Context::from_waker(waker)), Poll::Pending);
}

/// A waker can call the store, and sees every change that it was woken for.
#[test]
fn waker_can_call_the_store() {
    let (store, clock) = manual();
    let mut watchers = ["a", "b"].map(|key| store.watch(key).unwrap());
    let inner = store.clone();
    let (bell, waker) = ActingWaker::new(move || {
        assert_eq!(inner.get(Get::key("a")).unwrap().count(), 1);
        let mut other = inner.watch(Watch::key("a").start_revision(2)).unwrap();
        assert_eq!(drain_watcher(&mut other).len(), 1);
        put(&inner, "b", "from the waker");
        grant(&inner, 9, secs(9));
    });
    let (second_bell, second) = ActingWaker::new(|| ());
    await_with(&mut watchers[0], &waker);
    await_with(&mut watchers[1], &second);
    put(&store, "a", "v");
    assert_eq!((bell.wakes(), second_bell.wakes()), (1, 1));
    assert_eq!(drain_watcher(&mut watchers[1]), ["0 @3 put b=from the waker 3/3/1"]);
    clock.advance(secs(10));
    assert_eq!(store.leases().unwrap().leases().len(), 0);
}

#[test]
fn panicking_waker_affects_neither_the_put_nor_the_other_wakers() {
    let (store, _clock) = manual();
    let mut watchers = [(); 4].map(|()| store.watch("a").unwrap());
    let (_, bad) = ActingWaker::new(|| panic!("this waker always panics"));
    let (bell, good) = ActingWaker::new(|| ());
    for (watcher, waker) in watchers.iter_mut().zip([&good, &bad, &good, &good]) {
        await_with(watcher, waker);
    }
    put(&store, "a", "v");
    assert_eq!(bell.wakes(), 3);
    put(&store, "a", "w");
    for watcher in &mut watchers {
        assert_eq!(drain_watcher(watcher), ["0 @2 put a=v 2/2/1", "0 @3 put a=w 2/3/2"]);
    }
}

/// Each change wakes the receivers of its events and no others.
#[test]
fn event_wakes_only_its_receivers() {
    let (store, clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["leased"], 7);
    let mut watchers = ["a", "leased", "b"].map(|key| store.watch(key).unwrap());
    let bells = [(); 3].map(|()| ActingWaker::new(|| ()));
    for (watcher, (_, waker)) in watchers.iter_mut().zip(&bells) {
        await_with(watcher, waker);
    }
    let wakes = || [0, 1, 2].map(|n: usize| bells[n].0.wakes());
    put(&store, "a", "v");
    assert_eq!(wakes(), [1, 0, 0]);
    clock.advance(secs(5));
    assert_eq!(wakes(), [1, 1, 0], "the expiry of a lease wakes its watcher");
    store.compact(2).unwrap();
    assert_eq!(wakes(), [1, 1, 0], "a compaction wakes no watcher");
    watchers[2].request_progress();
    assert_eq!(wakes(), [1, 1, 1], "a progress response wakes its watcher");
}

/// After an overflow, a watcher's waker is called again for the first event after everything was received.
#[test]
fn overflowed_watcher_is_woken_again() {
    let (store, _clock) = manual();
    let mut watcher = store.watch(Watch::key("a").capacity(1)).unwrap();
    let (bell, waker) = ActingWaker::new(|| ());
    for round in 1..20 {
        await_with(&mut watcher, &waker);
        put_times(&store, "a", round);
        assert_eq!(bell.wakes(), round, "a waker is called once for any number of events");
        let mut context = Context::from_waker(&waker);
        let mut events = 0;
        while let Poll::Ready(Ok(Some(response))) = watcher.poll_recv(&mut context) {
            events += response.events().len();
        }
        assert_eq!(events, round);
    }
}

/// Only the last waker is kept, and a waker is dropped with its watcher.
#[test]
fn waker_is_dropped_with_its_watcher() {
    let (store, _clock) = manual();
    let mut watcher = store.watch("a").unwrap();
    let (first_bell, first) = ActingWaker::new(|| ());
    let (second_bell, second) = ActingWaker::new(|| ());
    await_with(&mut watcher, &first);
    assert_eq!(Arc::strong_count(&first_bell), 3);
    await_with(&mut watcher, &second);
    assert_eq!((Arc::strong_count(&first_bell), Arc::strong_count(&second_bell)), (2, 3));
    put(&store, "a", "v");
    assert_eq!((first_bell.wakes(), second_bell.wakes(), Arc::strong_count(&second_bell)), (0, 1, 2));
    drain_watcher(&mut watcher);
    await_with(&mut watcher, &second);
    drop(watcher);
    assert_eq!(Arc::strong_count(&second_bell), 2);
    put(&store, "a", "w");
    assert_eq!(second_bell.wakes(), 1);
}

/// A stream can be polled, blocked on, and closed like a watcher. The error of a closed store is returned once.
#[test]
fn stream_is_received_from_in_every_way() {
    let (store, _clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    let (bell, waker) = ActingWaker::new(|| ());
    let mut context = Context::from_waker(&waker);
    assert_eq!(stream.poll_recv(&mut context), Poll::Pending);
    put(&store, "a", "1");
    assert_eq!(bell.wakes(), 1);
    let Poll::Ready(Ok(Some(response))) = stream.poll_recv(&mut context) else {
        panic!("a woken stream has a response")
    };
    assert_eq!(say(&response), "0 @2 put a=1 2/2/1");
    assert_eq!(stream.recv_timeout(Duration::ZERO), Ok(None));
    put(&store, "a", "2");
    assert_eq!(stream.recv_timeout(Duration::MAX).unwrap().as_ref().map(say).unwrap(), "0 @3 put a=2 2/3/2");
    put(&store, "a", "3");
    assert_eq!(say(&stream.recv().unwrap().unwrap()), "0 @4 put a=3 2/4/3");
    assert_eq!(drain(&mut stream).len(), 0);
    store.close();
    assert_eq!(stream.poll_recv(&mut context), Poll::Ready(Err(Error::Stopped)));
    for _ in 0..2 {
        assert_eq!(stream.poll_recv(&mut context), Poll::Ready(Ok(None)));
        assert_eq!((stream.recv_timeout(secs(1)), stream.is_ended()), (Ok(None), true));
    }
}

/// Blocks with a timeout on another thread while `pass` runs.
fn wait_while_time_passes(
    store: &Store,
    stream: &mut WatchStream,
    until: Timestamp,
    pass: impl FnOnce(),
) -> Option<String> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            stream
                .recv_timeout(until.duration_since(store.now()))
                .expect("the store is open")
                .as_ref()
                .map(say)
        });
        // The receiving thread waits once its timer is set.
        while store.next_deadline().is_none_or(|deadline| deadline > until) {
            std::thread::yield_now();
        }
        pass();
        waiting.join().expect("the receiving thread does not panic")
    })
}

/// A thread that waits with a timeout is woken by the store's time. An event before the timeout comes first.
///
/// The threads are real and the time is manual.
#[test]
fn recv_timeout_returns_at_the_stores_time() {
    let (store, clock) = manual();
    let mut stream = stream_of(&store, [Watch::key("a")]);
    let until = Timestamp::ORIGIN + secs(5);
    let timed_out = wait_while_time_passes(&store, &mut stream, until, || clock.advance(secs(5)));
    assert_eq!((timed_out, store.next_deadline()), (None, None));
    let until = Timestamp::ORIGIN + secs(20);
    let received = wait_while_time_passes(&store, &mut stream, until, || {
        put(&store, "a", "v");
        clock.advance(secs(100));
    });
    assert_eq!(received, Some("0 @2 put a=v 2/2/1".to_owned()));
    assert_eq!(stream.recv_timeout(Duration::ZERO), Ok(None), "a timer that fired is removed");
    let until = store.now() + secs(20);
    let received =
        wait_while_time_passes(&store, &mut stream, until, || assert_eq!(put(&store, "a", "early"), 3));
    assert_eq!(received, Some("0 @3 put a=early 2/3/2".to_owned()));
    assert_eq!(store.next_deadline(), None, "a timer that did not fire is unset");
    put(&store, "a", "w");
    assert_eq!(stream.recv_timeout(secs(1)).unwrap().as_ref().map(say).unwrap(), "0 @4 put a=w 2/4/3");
}
