//! `Watcher`: the ways to receive, and its end (R-WCH-24).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use leasehold::backend::{Backend, Delivery, Inbox, Layer, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::response::{ResponseHeader, WatchResponse};
use leasehold::{Client, Code, Compact, Error, KeyRange, ManualClock, Store, Watch};
use leasehold_testkit::helpers::{at, grant, manual, put, put_leased, secs};
use leasehold_testkit::watch_helpers::{drain_watcher, put_times, revisions, say};

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// Returns the result of a receive as text.
fn show(received: leasehold::Result<Option<WatchResponse>>) -> String {
    match received {
        Ok(Some(response)) => say(&response),
        Ok(None) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A backend whose clock advances to the next deadline while a caller waits, and only then.
#[derive(Clone)]
struct AdvancingBackend {
    store: Store,
    clock: ManualClock,
}

impl Layer for AdvancingBackend {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        while poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let deadline = self.store.next_deadline().expect("a blocked caller waits for a deadline");
            self.clock.advance(deadline.duration_since(self.clock.now()));
        }
    }
}

/// Returns a store, its clock, and a client whose waits advance the clock.
fn passing() -> (Store, ManualClock, Client) {
    let (store, clock) = manual();
    let client = Client::new(AdvancingBackend { store: store.clone(), clock: clock.clone() });
    (store, clock, client)
}

/// A waker that counts its calls since the last read.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl CountingWaker {
    fn wakes(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bell() -> (Arc<CountingWaker>, Waker) {
    let bell = Arc::new(CountingWaker::default());
    (Arc::clone(&bell), Waker::from(bell))
}

/// Events from before and after the creation are received once each. The created response is not returned.
#[test]
fn try_recv_returns_available_responses() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    let mut watcher = store.watch(Watch::key("a").start_revision(1)).unwrap();
    put(&store, "a", "2");
    assert_eq!(drain_watcher(&mut watcher), ["0 @2 put a=1 2/2/1", "0 @3 put a=2 2/3/2"]);
    assert_eq!(watcher.try_recv(), Ok(None));
    watcher.request_progress();
    assert_eq!(drain_watcher(&mut watcher), ["-1 @3 progress"]);
}

/// Keys and ranges convert into a `Watch`.
#[test]
fn watch_accepts_keys_and_ranges() {
    let (store, _clock) = manual();
    let mut one = store.watch("a").unwrap();
    let mut many = store.client().watch(KeyRange::prefix("a"));
    put(&store, "a", "1");
    put(&store, "ab", "2");
    assert_eq!(drain_watcher(&mut one), ["0 @2 put a=1 2/2/1"]);
    assert_eq!(drain_watcher(&mut many), ["0 @2 put a=1 2/2/1", "0 @3 put ab=2 3/3/1"]);
}

/// Ends each watch when it is created, with a reason or without one.
struct Ending(Store, &'static str);

impl Layer for Ending {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        Backend::watch(&self.0, requests, inbox);
        let ended = WatchResponse::new_canceled(0, ResponseHeader::new(1, 1, 1, 1), self.1);
        assert!(
            inbox.push(Delivery::Watch(ended), Timestamp::ORIGIN).is_none(),
            "the receiver has not polled"
        );
    }
}

/// R-WCH-24: the reason was lost.
#[test]
fn watch_ended_by_its_backend_reports_the_reason() {
    let no_leader =
        Error::Foreign { code: Code::FailedPrecondition, message: "etcdserver: no leader".into() };
    for (reason, expected) in [("etcdserver: no leader", no_leader), ("", Error::WatchCanceled)] {
        let client = Client::new(Ending(manual().0, reason));
        let mut watcher = client.watch("a");
        assert_eq!((watcher.try_recv(), watcher.is_ended()), (Err(expected), true));
        assert_eq!(watcher.try_recv(), Ok(None));
    }
}

/// `Store::watch` returns the refusal at once. A client's watcher returns it from the first receive, and nothing after it.
#[test]
fn refused_watch_returns_its_error_once() {
    let (store, _clock) = manual();
    let negative = Error::Compacted { requested: at(-5), compacted: None };
    let rows = [
        (Watch::range(KeyRange::between("b", "a")), Error::WatchRangeEmpty),
        (Watch::key("a").start_revision(-5), negative),
    ];
    let reasons = ["mvcc: watcher range is empty", COMPACTED];
    for ((watch, expected), reason) in rows.into_iter().zip(reasons) {
        assert_eq!(store.watch(watch.clone()).unwrap_err(), expected);
        assert!(expected.to_string().ends_with(reason), "{expected}");
        let mut watcher = store.client().watch(watch);
        put(&store, "a", "v");
        assert_eq!(watcher.try_recv(), Err(expected));
        assert_eq!((watcher.try_recv(), watcher.recv(), watcher.lag()), (Ok(None), Ok(None), None));
    }
    assert_eq!(store.status().unwrap().header().revision(), at(3));
}

/// R-WCH-24: after a compaction the error has the first unreceived revision, and is returned once.
#[test]
fn compaction_ends_a_watcher_with_one_error() {
    let (store, _clock) = manual();
    let mut watcher = store.watch(Watch::key("a").capacity(2)).unwrap();
    put_times(&store, "a", 10);
    store.compact(8).unwrap();
    assert_eq!(show(watcher.try_recv()), "0 @2 put a=0 2/2/1");
    assert_eq!(show(watcher.recv()), "0 @3 put a=1 2/3/2");
    let lost = Error::Compacted { requested: at(4), compacted: Some(at(8)) };
    assert_eq!((lost.to_string(), lost.code()), (COMPACTED.to_owned(), Code::OutOfRange));
    assert_eq!(watcher.recv(), Err(lost));
    put(&store, "a", "x");
    assert_eq!(
        (watcher.try_recv(), watcher.recv(), watcher.recv_timeout(secs(1))),
        (Ok(None), Ok(None), Ok(None))
    );
    assert_eq!((&mut watcher).into_iter().count(), 0);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(watcher.poll_recv(&mut context), Poll::Ready(Ok(None)));

    let mut late = store.watch(Watch::key("a").start_revision(2)).unwrap();
    let lost = Error::Compacted { requested: at(2), compacted: Some(at(8)) };
    assert_eq!((late.recv(), late.recv()), (Err(lost), Ok(None)));
}

/// A closed store ends a watcher with one error after the received events. A new watch on the store is refused.
#[test]
fn closed_store_ends_a_watcher_with_one_error() {
    let (store, _clock) = manual();
    let mut watcher = store.watch("a").unwrap();
    let mut iterated = store.watch("a").unwrap();
    let mut stream = store.client().watch_stream();
    store.close();
    assert_eq!(watcher.recv(), Err(Error::Stopped));
    assert_eq!((watcher.recv(), watcher.try_recv()), (Ok(None), Ok(None)));
    let all: Vec<_> = (&mut iterated).into_iter().collect();
    assert_eq!(all, [Err(Error::Stopped)]);
    assert_eq!(store.watch("a").unwrap_err(), Error::Stopped);
    assert_eq!(store.client().watch("a").try_recv(), Err(Error::Stopped));
    stream.create(Watch::key("a"));
    assert_eq!(stream.try_recv(), Err(Error::Stopped));
    assert_eq!(
        (stream.recv(), stream.is_ended()),
        (Ok(None), true),
        "the error of a closed store is returned once"
    );
}

/// Closing the store wakes a pending receiver.
#[test]
fn close_wakes_a_pending_receiver() {
    let (store, _clock) = manual();
    let mut watcher = store.watch("a").unwrap();
    let (bell, waker) = bell();
    assert_eq!(watcher.poll_recv(&mut Context::from_waker(&waker)), Poll::Pending);
    store.close();
    assert_eq!(bell.wakes(), 1);
    assert_eq!(watcher.poll_recv(&mut Context::from_waker(&waker)), Poll::Ready(Err(Error::Stopped)));
}

/// A blocking receive returns the events of another thread. The test uses real threads, and no time beyond their wake-ups.
#[test]
fn recv_blocks_until_another_thread_puts() {
    let (store, _clock) = manual();
    let mut watcher = store.watch("a").unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || (0..100).map(|_| show(watcher.recv())).collect::<Vec<_>>());
        put_times(&store, "a", 100);
        let received = receiver.join().unwrap();
        assert_eq!(received[99], "0 @101 put a=99 2/101/100");
    });
}

/// `for` receives one response after the other until the watch has ended.
#[test]
fn watcher_iterates_over_responses() {
    let (store, _clock) = manual();
    put_times(&store, "a", 3);
    let mut watcher = store.watch(Watch::key("a").start_revision(1).capacity(1)).unwrap();
    put_times(&store, "a", 3);
    let mut seen = Vec::new();
    for response in &mut watcher {
        seen.extend(revisions([&response.unwrap()]));
        if seen.len() == 6 {
            store.close();
            break;
        }
    }
    assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
    assert_eq!(watcher.into_iter().collect::<Vec<_>>(), [Err(Error::Stopped)]);
}

/// The timeout is measured in the store's time. An available event is returned at once.
#[test]
fn recv_timeout_uses_the_stores_time() {
    let (store, clock, client) = passing();
    let mut watcher = client.watch("a");
    put(&store, "a", "1");
    assert_eq!(show(watcher.recv_timeout(secs(5))), "0 @2 put a=1 2/2/1");
    assert_eq!(clock.now(), Timestamp::ORIGIN);
    for n in 1..4 {
        assert_eq!(watcher.recv_timeout(secs(5)), Ok(None));
        assert_eq!(clock.now(), Timestamp::ORIGIN + secs(5 * n));
    }
    assert_eq!((watcher.recv_timeout(Duration::ZERO), store.next_deadline()), (Ok(None), None));
    put(&store, "a", "2");
    assert_eq!(show(watcher.recv_timeout(Duration::ZERO)), "0 @3 put a=2 2/3/2");
}

/// An event at the very instant of the timeout is received, whichever thread polls first.
#[test]
fn event_at_the_timeout_is_received() {
    for (ttl, timeout, is_received) in [(4, 5, true), (5, 5, true), (6, 5, false)] {
        let (store, clock, client) = passing();
        grant(&store, 7, secs(ttl));
        put_leased(&store, &["a"], 7);
        let mut watcher = client.watch("a");
        let received = show(watcher.recv_timeout(secs(timeout)));
        assert_eq!(received, if is_received { "0 @3 delete a 3" } else { "nothing" }, "{ttl}");
        assert_eq!(clock.now(), Timestamp::ORIGIN + secs(ttl.min(timeout)));
        assert_eq!(watcher.recv_timeout(Duration::ZERO), Ok(None));
    }
}

/// All deadlines have passed when the waiting thread wakes up. The event before the timeout is still received.
///
/// The test uses a real thread, which is woken once.
#[test]
fn event_before_the_timeout_is_received_by_a_late_poll() {
    let (store, clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["a"], 7);
    let mut watcher = store.watch("a").unwrap();
    std::thread::scope(|scope| {
        let receiver =
            scope.spawn(move || [watcher.recv_timeout(secs(5)), watcher.recv_timeout(Duration::ZERO)]);
        clock.advance(secs(4));
        clock.advance(secs(96));
        let [first, second] = receiver.join().unwrap();
        let first = show(first);
        assert!(first == "0 @3 delete a 3", "{first}");
        assert_eq!(second, Ok(None));
    });
}

/// A waker is called when an event becomes available, and only then.
#[test]
fn poll_recv_wakes_its_task_once() {
    let (store, _clock) = manual();
    let mut watcher = store.watch("a").unwrap();
    let (bell, waker) = bell();
    let mut context = Context::from_waker(&waker);
    for n in 0..3 {
        assert_eq!(watcher.poll_recv(&mut context), Poll::Pending);
        assert_eq!(
            watcher.poll_recv(&mut context),
            Poll::Pending,
            "a second poll does not add a second wake-up"
        );
        put(&store, "b", "v");
        assert_eq!(bell.wakes(), 0, "an event of an unwatched key wakes no receiver");
        put(&store, "a", "v");
        put(&store, "a", "v");
        assert_eq!(bell.wakes(), 1);
        for _ in 0..2 {
            assert!(matches!(watcher.poll_recv(&mut context), Poll::Ready(Ok(Some(_)))), "{n}");
        }
    }
    assert_eq!(watcher.poll_recv(&mut context), Poll::Pending);
    let (second_bell, second) = self::bell();
    assert_eq!(watcher.poll_recv(&mut Context::from_waker(&second)), Poll::Pending);
    put(&store, "a", "v");
    assert_eq!((bell.wakes(), second_bell.wakes()), (0, 1), "only the last poll's waker is called");
}

/// `next` returns a future of the next response.
#[test]
fn watcher_next_returns_a_future() {
    let (store, _clock, client) = passing();
    let mut watcher = client.watch(Watch::key("a"));
    put_times(&store, "a", 2);
    let received = client.block_on(async {
        let first = watcher.next().await;
        [first, watcher.next().await].map(show)
    });
    assert_eq!(received, ["0 @2 put a=0 2/2/1", "0 @3 put a=1 2/3/2"]);
    grant(&store, 7, secs(5));
    put_leased(&store, &["a"], 7);
    assert_eq!(show(client.block_on(watcher.next())), "0 @4 put a=v 2/4/3 #7");
    assert_eq!(
        show(client.block_on(watcher.next())),
        "0 @5 delete a 5",
        "the clock advances to the lease's deadline"
    );
}

/// With the feature `stream`, a watcher implements `futures_core::Stream`.
#[cfg(feature = "stream")]
#[test]
fn watcher_implements_stream() {
    use futures_core::Stream;

    let (store, _clock) = manual();
    let mut watcher = store.watch(Watch::key("a").capacity(1)).unwrap();
    let (bell, waker) = bell();
    let mut context = Context::from_waker(&waker);
    let mut next = || std::pin::Pin::new(&mut watcher).poll_next(&mut context);
    assert_eq!(next(), Poll::Pending);
    put_times(&store, "a", 3);
    assert_eq!(bell.wakes(), 1);
    for expected in ["0 @2 put a=0 2/2/1", "0 @4 put a=1 2/3/2, put a=2 2/4/3"] {
        let Poll::Ready(Some(Ok(response))) = next() else { panic!("a woken watcher has a response") };
        assert_eq!(say(&response), expected);
    }
    assert_eq!(next(), Poll::Pending);
    store.close();
    assert_eq!(
        (next(), next(), next()),
        (Poll::Ready(Some(Err(Error::Stopped))), Poll::Ready(None), Poll::Ready(None))
    );
}

/// Dropping a watcher ends its watch, and the store keeps nothing for it.
#[test]
fn dropped_watcher_ends_its_watch() {
    let (store, _clock) = manual();
    for _ in 0..3 {
        let mut watcher = store.watch(Watch::key("a").progress_notify()).unwrap();
        assert_eq!(watcher.recv_timeout(Duration::ZERO), Ok(None));
        assert!(store.next_deadline().is_some());
        put(&store, "a", "unreceived");
        drop(watcher);
        assert_eq!(store.next_deadline(), None);
    }
    let watcher = store.watch("a").unwrap();
    store.compact(Compact::new(4)).unwrap();
    drop((store, watcher));
}
