//! Layers between the deliveries of a backend and their receivers, over the public API alone. Each has an inner inbox for each
//! outer inbox.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use leasehold::Event;
use leasehold::backend::{Backend, Delivery, Inbox, InboxId, Layer, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::response::WatchResponse;
use leasehold::watch::{Lag, WatchId};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked while it held the lock")
}

/// Holds each delivery back for a duration, by the inner backend's time, then pushes it. For each stream, a detached task (the
/// courier) receives and pushes.
pub(crate) struct Delaying<B> {
    inner: Arc<B>,
    delay: Duration,
    lines: Mutex<BTreeMap<InboxId, Arc<Line>>>,
    /// The number of times a thread was parked.
    parked: AtomicUsize,
}

/// The way from the inner backend to one receiver.
struct Line {
    arrivals: Arc<Inbox>,
    /// Receives the timer of the next delivery that is held back.
    alarm: Arc<Inbox>,
    /// The receiver's inbox, until it is cancelled.
    outer: Mutex<Option<Arc<Inbox>>>,
}

impl<B: Backend> Delaying<B> {
    pub(crate) fn new(inner: B, delay: Duration) -> Self {
        Self { inner: Arc::new(inner), delay, lines: Mutex::default(), parked: AtomicUsize::new(0) }
    }

    /// Returns the number of times a thread was parked. The thread registers its waker before it parks.
    pub(crate) fn parked(&self) -> usize {
        self.parked.load(Ordering::SeqCst)
    }

    /// Returns the number of running couriers.
    pub(crate) fn couriers(&self) -> usize {
        Arc::strong_count(&self.inner) - 1
    }

    fn arrivals(&self, outer: &Arc<Inbox>) -> Arc<Inbox> {
        let mut lines = lock(&self.lines);
        if let Some(line) = lines.get(&outer.id()) {
            return Arc::clone(&line.arrivals);
        }
        let line = Line {
            arrivals: Arc::default(),
            alarm: Arc::default(),
            outer: Mutex::new(Some(Arc::clone(outer))),
        };
        let line = Arc::new(line);
        lines.insert(outer.id(), Arc::clone(&line));
        // Unlock before the store is called, since it may poll the detached task at once.
        drop(lines);
        let arrivals = Arc::clone(&line.arrivals);
        let (inner, delay) = (Arc::clone(&self.inner), self.delay);
        let mut courier = Courier { inner, delay, line, held: VecDeque::new() };
        self.inner.detach(Box::pin(poll_fn(move |context| courier.poll(context))));
        arrivals
    }
}

impl<B: Backend> Layer for Delaying<B> {
    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    fn watch(&self, requests: &[WatchRequest], outer: &Arc<Inbox>) {
        self.inner().watch(requests, &self.arrivals(outer));
    }

    fn timer(&self, at: Option<Timestamp>, outer: &Arc<Inbox>) {
        self.inner().timer(at, &self.arrivals(outer));
    }

    fn pull(&self, _outer: &Inbox) {}

    fn cancel(&self, outer: &Inbox) {
        let removed = lock(&self.lines).remove(&outer.id());
        let Some(line) = removed else {
            return;
        };
        let outer = lock(&line.outer).take();
        // Drop the inbox outside of the lock: dropping its waker runs user code.
        drop(outer);
        self.inner().cancel(&line.arrivals);
        self.inner().cancel(&line.alarm);
        // Ends the courier.
        wake(line.arrivals.close());
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let waker = Waker::from(Arc::new(Parked(thread::current())));
        while poll(&mut Context::from_waker(&waker)).is_pending() {
            self.parked.fetch_add(1, Ordering::SeqCst);
            thread::park();
        }
    }
}

/// Wakes a thread that is parked, or parks next.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The task of a line.
struct Courier<B> {
    inner: Arc<B>,
    delay: Duration,
    line: Arc<Line>,
    /// The deliveries that are held back, each with its time.
    held: VecDeque<(Timestamp, Delivery)>,
}

impl<B: Backend> Courier<B> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.receive(context) {
                // No delivery follows the end, so push the rest without a delay.
                self.deliver(Timestamp::MAX);
                self.line.close();
                return Poll::Ready(());
            }
            self.deliver(self.inner.now());
            if let Some((next, _)) = self.held.front() {
                self.inner.timer(Some(*next), &self.line.alarm);
            }
            if self.line.alarm.poll_recv(&*self.inner, context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Receives all available deliveries. Returns whether the line is closed.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(next) = self.line.arrivals.poll_recv(&*self.inner, context) {
            let Some(delivery) = next else {
                return true;
            };
            self.held.push_back((self.inner.now() + self.delay, delivery));
        }
        false
    }

    /// Pushes the deliveries that are due at or before `now`.
    fn deliver(&mut self, now: Timestamp) {
        while self.held.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, delivery)) = self.held.pop_front()
        {
            self.line.push(delivery, self.inner.now());
        }
    }
}

impl Line {
    fn push(&self, delivery: Delivery, now: Timestamp) {
        // Take the waker under the lock and call it after, since a waker may use the backend.
        let waker = lock(&self.outer).as_ref().and_then(|outer| outer.push(delivery, now));
        wake(waker);
    }

    fn close(&self) {
        let waker = lock(&self.outer).as_ref().and_then(|outer| outer.close());
        wake(waker);
    }
}

/// Wakes a receiver. The caller holds no lock, since a waker may use the backend.
fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

/// Drops the events for which `drops` returns true. The receiver pulls the other deliveries from the inner inbox.
pub(crate) struct Dropping<B> {
    inner: B,
    drops: fn(&Event) -> bool,
    streams: Mutex<BTreeMap<InboxId, Stream>>,
}

#[derive(Clone)]
struct Stream {
    inner: Arc<Inbox>,
    /// Notifies the receiver's inbox.
    waker: Waker,
}

impl<B: Backend> Dropping<B> {
    pub(crate) fn new(inner: B, drops: fn(&Event) -> bool) -> Self {
        Self { inner, drops, streams: Mutex::default() }
    }

    fn stream(&self, outer: &Arc<Inbox>) -> Arc<Inbox> {
        let mut streams = lock(&self.streams);
        let stream = streams.entry(outer.id()).or_insert_with(|| {
            let stream = Stream { inner: Arc::default(), waker: Waker::from(Arc::clone(outer)) };
            let polled = stream.inner.poll_recv(&self.inner, &mut Context::from_waker(&stream.waker));
            assert!(polled.is_pending(), "a new inbox is empty");
            stream
        });
        Arc::clone(&stream.inner)
    }

    /// Returns the part of a delivery that is not dropped.
    fn filter(&self, delivery: Delivery) -> Option<Delivery> {
        let Delivery::Watch(response) = &delivery else {
            return Some(delivery);
        };
        let events = response.events();
        let kept: Vec<Event> = events.iter().filter(|event| !(self.drops)(event)).cloned().collect();
        if kept.len() == events.len() {
            return Some(delivery);
        }
        if kept.is_empty() {
            return None;
        }
        let (id, header) = (response.watch_id(), *response.header());
        Some(Delivery::Watch(WatchResponse::new_events(id, header, kept, response.fragment())))
    }
}

impl<B: Backend> Layer for Dropping<B> {
    fn inner(&self) -> &dyn Backend {
        &self.inner
    }

    fn watch(&self, requests: &[WatchRequest], outer: &Arc<Inbox>) {
        self.inner().watch(requests, &self.stream(outer));
    }

    fn timer(&self, at: Option<Timestamp>, outer: &Arc<Inbox>) {
        self.inner().timer(at, &self.stream(outer));
    }

    fn pull(&self, outer: &Inbox) {
        let found = lock(&self.streams).get(&outer.id()).cloned();
        let Some(Stream { inner, waker }) = found else {
            return;
        };
        let mut is_closed = false;
        outer.fill(|queue| {
            while let Poll::Ready(next) = inner.poll_recv(&self.inner, &mut Context::from_waker(&waker)) {
                let Some(delivery) = next else {
                    is_closed = true;
                    break;
                };
                queue.extend(self.filter(delivery));
            }
            false
        });
        if is_closed {
            wake(outer.close());
        }
    }

    fn cancel(&self, outer: &Inbox) {
        let removed = lock(&self.streams).remove(&outer.id());
        removed.into_iter().for_each(|stream| self.inner().cancel(&stream.inner));
    }

    fn lag(&self, outer: &Inbox, id: WatchId) -> Option<Lag> {
        let inner = Arc::clone(&lock(&self.streams).get(&outer.id())?.inner);
        self.inner().lag(&inner, id)
    }
}
