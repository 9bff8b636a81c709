use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::backend::{Backend, Call};
use super::inbox::Inbox;
use super::request::{Request, Response};
use crate::api::{Lag, LeaseId, Timestamp, WatchId, WatchRequest};

/// A backend in front of another backend, for example to delay answers, lose answers, count requests or cut watches.
///
/// Each method forwards to the inner backend unless the layer overrides it. Every layer is a [`Backend`], so layers
/// stack. In a layer, call the inner backend as `self.inner().now()`: `self.now()` is ambiguous if `Layer` and
/// `Backend` are both in scope.
///
/// ```
/// use leasehold::{Call, Client, Store};
/// use leasehold::backend::{Backend, Layer, Request, Response};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// struct Counting {
///     store: Store,
///     requests: Arc<AtomicUsize>,
/// }
///
/// impl Layer for Counting {
///     fn inner(&self) -> &dyn Backend {
///         &self.store
///     }
///
///     fn call(&self, request: Request) -> Call<Response> {
///         self.requests.fetch_add(1, Ordering::Relaxed);
///         self.inner().call(request)
///     }
/// }
///
/// let requests = Arc::new(AtomicUsize::new(0));
/// let client = Client::new(Counting { store: Store::new(), requests: Arc::clone(&requests) });
/// client.put(("config/mode", "blue")).wait()?;
/// client.get("config/mode").wait()?;
/// assert_eq!(requests.load(Ordering::Relaxed), 2);
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// # Deliveries
///
/// A layer that delays, drops, changes or adds deliveries creates an inner inbox for each outer inbox, which is an
/// inbox that a client passes to the layer. The layer makes the client's requests on the inner inbox, receives from
/// the inner inbox by [`poll_recv`](Inbox::poll_recv), and delivers to the outer inbox. The receiver's events, ends
/// of leases and timers therefore stay in one order. A layer that changes deliveries overrides these methods:
///
/// - [`watch`](Self::watch) and [`timer`](Self::timer) forward the call to the inner backend, with the inner inbox in
///   place of the outer inbox.
/// - [`pull`](Self::pull) receives from the inner inbox and [fills](Inbox::fill) the outer inbox. The waker for
///   `poll_recv` is the outer inbox (`Waker::from(Arc<Inbox>)`). If a task of the layer receives and
///   [pushes](Inbox::push) the deliveries, `pull` does nothing.
/// - [`cancel`](Self::cancel) forwards the call with the inner inbox and drops the inner inbox. If a task of the
///   layer receives from the inner inbox, `cancel` also closes the inner inbox, which ends the task.
/// - [`lag`](Self::lag) forwards the call with the inner inbox.
///
/// When the inner inbox is closed, the layer closes the outer inbox. `pull` and `cancel` ignore an inbox that the
/// layer does not know: a client has used such an inbox only to wait for calls.
///
/// ```
/// use leasehold::{Client, Store, Watch};
/// use leasehold::clock::Timestamp;
/// use leasehold::watch::{Lag, WatchId};
/// use leasehold::backend::{Backend, Delivery, Inbox, InboxId, Layer, WatchRequest};
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex, MutexGuard};
/// use std::task::{Context, Poll, Waker};
///
/// /// Drops each watch response with an event of a key under `secret/`.
/// struct Hiding {
///     store: Store,
///     streams: Mutex<BTreeMap<InboxId, Stream>>,
/// }
///
/// #[derive(Clone)]
/// struct Stream {
///     inner: Arc<Inbox>,
///     /// Notifies the outer inbox.
///     waker: Waker,
/// }
///
/// impl Hiding {
///     fn streams(&self) -> MutexGuard<'_, BTreeMap<InboxId, Stream>> {
///         self.streams.lock().expect("no thread panics while it has the lock")
///     }
///
///     fn inner_inbox(&self, outer: &Arc<Inbox>) -> Arc<Inbox> {
///         let mut streams = self.streams();
///         let stream = streams.entry(outer.id()).or_insert_with(|| {
///             let stream = Stream { inner: Arc::default(), waker: Waker::from(Arc::clone(outer)) };
///             // The new inner inbox is empty, so `poll_recv` registers the waker.
///             assert!(stream.inner.poll_recv(&self.store, &mut Context::from_waker(&stream.waker)).is_pending());
///             stream
///         });
///         Arc::clone(&stream.inner)
///     }
/// }
///
/// fn is_shown(delivery: &Delivery) -> bool {
///     let Delivery::Watch(response) = delivery else { return true };
///     !response.events().iter().any(|event| event.kv().key().starts_with(b"secret/"))
/// }
///
/// impl Layer for Hiding {
///     fn inner(&self) -> &dyn Backend {
///         &self.store
///     }
///
///     fn watch(&self, requests: &[WatchRequest], outer: &Arc<Inbox>) {
///         self.inner().watch(requests, &self.inner_inbox(outer));
///     }
///
///     fn timer(&self, at: Option<Timestamp>, outer: &Arc<Inbox>) {
///         self.inner().timer(at, &self.inner_inbox(outer));
///     }
///
///     fn pull(&self, outer: &Inbox) {
///         let Some(Stream { inner, waker }) = self.streams().get(&outer.id()).cloned() else { return };
///         let mut context = Context::from_waker(&waker);
///         let mut is_closed = false;
///         outer.fill(|queue| {
///             while let Poll::Ready(next) = inner.poll_recv(self.inner(), &mut context) {
///                 let Some(delivery) = next else {
///                     is_closed = true;
///                     break;
///                 };
///                 queue.extend(Some(delivery).filter(is_shown));
///             }
///             false
///         });
///         if is_closed && let Some(waker) = outer.close() {
///             waker.wake();
///         }
///     }
///
///     fn cancel(&self, outer: &Inbox) {
///         let stream = self.streams().remove(&outer.id());
///         stream.into_iter().for_each(|stream| self.inner().cancel(&stream.inner));
///     }
///
///     fn lag(&self, outer: &Inbox, id: WatchId) -> Option<Lag> {
///         let inner = Arc::clone(&self.streams().get(&outer.id())?.inner);
///         self.inner().lag(&inner, id)
///     }
/// }
///
/// let store = Store::new();
/// let client = Client::new(Hiding { store: store.clone(), streams: Mutex::default() });
/// let mut watcher = client.watch(Watch::all());
/// store.put(("secret/token", "1"))?;
/// store.put(("config/mode", "blue"))?;
/// assert_eq!(watcher.recv()?.expect("the store is open").events()[0].kv().key(), b"config/mode");
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// # Delays
///
/// For each receiver, a layer that holds deliveries back needs a task that receives and pushes deliveries, and a timer
/// of the layer's own:
///
/// - The task polls two inner inboxes with one waker. The layer forwards the receiver's requests and timer with the
///   first inbox. The layer sets its own timer on the second inbox, since an inbox has one timer.
/// - `cancel` takes the outer inbox out of the mutex under which the task pushes, so the task pushes nothing
///   afterwards. `cancel` then cancels and closes the first inner inbox, which wakes and ends the task, and cancels
///   the second inner inbox.
/// - Wakers are called, and inner inboxes are cancelled, after the mutex is released.
///
/// ```
/// use leasehold::{Client, ManualClock, Store};
/// use leasehold::clock::Timestamp;
/// use leasehold::backend::{Backend, Delivery, Inbox, InboxId, Layer, WatchRequest};
/// use std::collections::{BTreeMap, VecDeque};
/// use std::future::poll_fn;
/// use std::sync::{Arc, Mutex, MutexGuard};
/// use std::task::{Context, Poll, Waker};
/// use std::time::Duration;
///
/// const DELAY: Duration = Duration::from_secs(1);
///
/// /// Delays each delivery by a second.
/// struct Delaying {
///     store: Store,
///     lines: Mutex<BTreeMap<InboxId, Arc<Line>>>,
/// }
///
/// struct Line {
///     arrivals: Arc<Inbox>,
///     alarm: Arc<Inbox>,
///     /// The receiver's inbox. `None` once the receiver's inbox is cancelled.
///     outer: Mutex<Option<Arc<Inbox>>>,
/// }
///
/// fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
///     mutex.lock().expect("no thread panics while it has the lock")
/// }
///
/// impl Line {
///     /// Runs `act`, which pushes to the receiver's inbox or closes it, unless the inbox is cancelled.
///     fn deliver(&self, act: impl FnOnce(&Inbox) -> Option<Waker>) {
///         let waker = lock(&self.outer).as_deref().and_then(act);
///         waker.into_iter().for_each(Waker::wake);
///     }
///
///     /// Receives deliveries into `held`, and pushes each delivery that is due. Completes when `arrivals` is
///     /// closed.
///     fn poll(&self, store: &Store, held: &mut VecDeque<(Timestamp, Delivery)>, context: &mut Context<'_>) -> Poll<()> {
///         loop {
///             while let Poll::Ready(next) = self.arrivals.poll_recv(store, context) {
///                 let Some(delivery) = next else {
///                     self.deliver(Inbox::close);
///                     return Poll::Ready(());
///                 };
///                 held.push_back((store.now() + DELAY, delivery));
///             }
///             while held.front().is_some_and(|(at, _)| *at <= store.now()) {
///                 let (_, due) = held.pop_front().expect("there is a front");
///                 self.deliver(|outer| outer.push(due, store.now()));
///             }
///             store.timer(held.front().map(|(at, _)| *at), &self.alarm);
///             if self.alarm.poll_recv(store, context).is_pending() {
///                 return Poll::Pending;
///             }
///         }
///     }
/// }
///
/// impl Delaying {
///     fn arrivals(&self, outer: &Arc<Inbox>) -> Arc<Inbox> {
///         if let Some(line) = lock(&self.lines).get(&outer.id()) {
///             return Arc::clone(&line.arrivals);
///         }
///         let outer_inbox = Mutex::new(Some(Arc::clone(outer)));
///         let line = Arc::new(Line { arrivals: Arc::default(), alarm: Arc::default(), outer: outer_inbox });
///         lock(&self.lines).insert(outer.id(), Arc::clone(&line));
///         let (arrivals, store, mut held) = (Arc::clone(&line.arrivals), self.store.clone(), VecDeque::new());
///         self.store.detach(Box::pin(poll_fn(move |context| line.poll(&store, &mut held, context))));
///         arrivals
///     }
/// }
///
/// impl Layer for Delaying {
///     fn inner(&self) -> &dyn Backend {
///         &self.store
///     }
///
///     fn watch(&self, requests: &[WatchRequest], outer: &Arc<Inbox>) {
///         self.inner().watch(requests, &self.arrivals(outer));
///     }
///
///     fn timer(&self, at: Option<Timestamp>, outer: &Arc<Inbox>) {
///         self.inner().timer(at, &self.arrivals(outer));
///     }
///
///     fn pull(&self, _: &Inbox) {} // every delivery is pushed
///
///     fn cancel(&self, outer: &Inbox) {
///         let Some(line) = lock(&self.lines).remove(&outer.id()) else { return };
///         let taken = lock(&line.outer).take();
///         drop(taken);
///         self.inner().cancel(&line.arrivals);
///         line.arrivals.close().into_iter().for_each(Waker::wake);
///         self.inner().cancel(&line.alarm);
///     }
/// }
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let client = Client::new(Delaying { store: store.clone(), lines: Mutex::default() });
/// let mut watcher = client.watch("config/mode");
/// store.put(("config/mode", "blue"))?;
/// assert_eq!(watcher.try_recv()?, None);
/// clock.advance(DELAY);
/// assert_eq!(watcher.try_recv()?.expect("a second has passed").events().len(), 1);
/// drop(watcher);
/// assert_eq!(store.diagnostics()?.streams, 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Returns the backend behind this layer.
    fn inner(&self) -> &dyn Backend;

    /// Forwards to the inner backend by default: see [`Backend::call`].
    fn call(&self, request: Request) -> Call<Response> {
        self.inner().call(request)
    }

    /// Forwards to the inner backend by default: see [`Backend::watch`].
    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.inner().watch(requests, inbox);
    }

    /// Forwards to the inner backend by default: see [`Backend::timer`].
    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.inner().timer(at, inbox);
    }

    /// Forwards to the inner backend by default: see [`Backend::renew`].
    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.inner().renew(lease, is_on);
    }

    /// Forwards to the inner backend by default: see [`Backend::pull`].
    fn pull(&self, inbox: &Inbox) {
        self.inner().pull(inbox);
    }

    /// Forwards to the inner backend by default: see [`Backend::cancel`].
    fn cancel(&self, inbox: &Inbox) {
        self.inner().cancel(inbox);
    }

    /// Forwards to the inner backend by default: see [`Backend::lag`].
    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        self.inner().lag(inbox, id)
    }

    /// Forwards to the inner backend by default: see [`Backend::now`].
    fn now(&self) -> Timestamp {
        self.inner().now()
    }

    /// Forwards to the inner backend by default: see [`Backend::detach`].
    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.inner().detach(task);
    }

    /// Forwards to the inner backend by default: see [`Backend::drive`].
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        self.inner().drive(poll);
    }
}

impl<L: Layer> Backend for L {
    fn call(&self, request: Request) -> Call<Response> {
        // Each method names the trait `Layer`, since `Backend` has methods with the same names.
        Layer::call(self, request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        Layer::watch(self, requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        Layer::timer(self, at, inbox);
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        Layer::renew(self, lease, is_on);
    }

    fn pull(&self, inbox: &Inbox) {
        Layer::pull(self, inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        Layer::cancel(self, inbox);
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        Layer::lag(self, inbox, id)
    }

    fn now(&self) -> Timestamp {
        Layer::now(self)
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        Layer::detach(self, task);
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        Layer::drive(self, poll);
    }
}
