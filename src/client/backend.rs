//! The interface between clients and the store: the `Backend` trait, and `Call`, a pending response.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::inbox::Inbox;
use super::request::{Request, Response};
use super::wake::park_until;
use crate::Result;
use crate::api::{Lag, LeaseId, Timestamp, WatchId, WatchRequest};
use crate::sync::Mutex;

/// Executes the requests of clients. A backend is a [`Store`](crate::Store), or a real or simulated network in front
/// of a store.
///
/// [`Client`](crate::Client) is a handle to a backend.
///
/// A backend in front of another backend implements [`Layer`](crate::backend::Layer), which forwards each method that
/// the layer does not override. A wrapper that implements `Backend` directly must forward every method, including the
/// methods with a default.
///
/// # Contract
///
/// - [`call`](Self::call) sends its request whether or not the returned [`Call`] is polled. Dropping the call
///   abandons the answer, never the request. Two requests may be executed in either order, unless the second call is
///   made after the first call is answered.
/// - All deliveries to one receiver (watch responses, ends of leases and its timer) go into one [`Inbox`], in the
///   order in which the backend decided them. The order of polls therefore does not decide whether a receiver gets an
///   event or times out. At the instant of a timer, the deliveries that the backend has for the inbox come before the
///   timer.
/// - An inbox belongs to one backend. An inbox is a watch stream (R-WCH-1): the inbox has its own watch ids, and its
///   responses are one sequence.
/// - No user code runs while the backend holds a lock that its own methods acquire. The backend drops values of users
///   and calls wakers after it has released the lock. If a waker panics, the backend still calls the other wakers.
/// - After [`cancel`](Self::cancel), the backend delivers nothing more to the inbox.
/// - A lost connection ends no watch: a [`WatchResumer`](crate::backend::WatchResumer) resumes the watchers of a
///   stream on the next connection.
/// - A backend renews a lease from the call of [`renew`](Self::renew) that turns renewing on until the call that
///   turns renewing off, or until the client's process ends. `renew` takes effect inside the client's process, so a
///   lost request neither starts nor stops renewing.
/// - A backend that may be cut off from its store delivers a [requested](WatchRequest::Lease) end of a lease one TTL
///   after the backend sent the last answered renewal, since the lease may have ended by then. A
///   [`LeaseRenewer`](crate::backend::LeaseRenewer) decides when a lease is renewed, and when a lease is over.
/// - A backend answers a call with [`Unavailable`](crate::Error::Unavailable) for every error of its transport, and
///   with [`Error::from_wire`](crate::Error::from_wire) for an error of the store. After an
///   [ambiguous](crate::Error::is_ambiguous) error, the locks and elections of [`concurrency`](crate::concurrency)
///   check whether their write was applied.
///
/// # The end of a backend
///
/// A backend may end while clients still use it, for example when the backend is closed or its thread stops. An ended
/// backend acts as follows:
///
/// - The backend closes every inbox that it knows, so that no receiver waits for ever. [`watch`](Self::watch) and
///   [`timer`](Self::timer) close an inbox that is new to the backend.
/// - A call that the backend has sent but not answered returns `Unavailable { maybe_applied: true }`. A new call
///   returns [`Stopped`](crate::Error::Stopped) or `Unavailable { maybe_applied: false }`.
/// - [`pull`](Self::pull), [`cancel`](Self::cancel) and [`renew`](Self::renew) do nothing. A renewed lease expires
///   one TTL after its last renewal.
/// - [Detached](Self::detach) tasks that are polled end, since their calls return errors and their inboxes are
///   closed. The backend may also drop detached tasks, after it has released its locks.
///
/// Clients, calls, tickets, receivers and detached tasks share the ownership of the backend. The last owner may drop
/// the backend on any thread, also on a thread of the backend. A backend's destructor therefore must not join the
/// thread that it runs on.
///
/// # Requests of the recipes
///
/// A backend that serves only some requests answers the others with an error, such as `Unimplemented`. The types of
/// [`concurrency`](crate::concurrency) send the requests in this table, where r is a create revision, m a mod
/// revision and n a number of permits:
///
/// | type | requests |
/// |---|---|
/// | [`Session`](crate::concurrency::Session) | grant, keep_alive, time_to_live without keys, revoke; `renew`; `WatchRequest::Lease` |
/// | a lock, permit or candidacy, queued | a txn: if the key has create revision 0, get the newest n keys of a range (sort by create revision, descending, limit n), put the key with the lease |
/// | a lock, permit or candidacy, tried | a txn: if a range has create revision 0, which holds only for an empty range, put the key. With several permits or readers, a txn: if a range has create revisions below r and the key has create revision 0, put the key, else get the key and the newest n keys of the range |
/// | a re-entrant lock | in the else branch of the two txns above: put the key with `ignore_value`, `ignore_lease` and `prev_kv`, and get the oldest key of the range. A try nests these operations in a txn: if the key has a create revision above 0 |
/// | a wait | a txn without compares: get the newest n keys up to `max_create_revision` r - 1, get the key, and, if another client may have put the key, get the keys below the key with `min_create_revision` and `max_create_revision` r (sort by key, descending, limit n) |
/// | | one stream: watches of single keys with ids above 0, from a revision, `no_put`; later cancels of these ids, also of watches that have ended; `WatchRequest::Lease` |
/// | a release | a txn: if the key has create revision r, delete the key. For a re-entrant key, the txn also compares the mod revision with m, and gets the key if a compare fails |
/// | `lost` | get the key, then a stream as for a wait |
/// | the cleanup after an ambiguous error | get the key, then a stream as for a wait, but with `no_delete` instead of `no_put`, and a cancel of id 0, which the stream does not have |
/// | a guarded txn, `check`, `proclaim` | a txn: if the key has create revision r, the nested txn |
/// | `queue`, `candidates`, `leader` | get a range (sort by create revision, ascending), with limit 1 for the leader |
/// | [`LeaderWatcher`](crate::concurrency::LeaderWatcher) | get a range as `candidates`, then a stream: watches of the range with ids above 0, from a revision; cancels, the first of the unknown id 0 |
///
/// The [services](crate::service) send txns, gets, puts, deletes, grants and watches of the forms in this table. A
/// [`Watcher`](crate::Watcher) creates one watch with the automatic id, which is 0 in a new stream.
///
/// # Examples
///
/// This example is a backend that pushes its deliveries:
///
/// ```
/// use leasehold::{Call, Client, Code, Error, Event, KeyValue, LeaseId};
/// use leasehold::clock::Timestamp;
/// use leasehold::watch::WatchId;
/// use leasehold::backend::{Backend, Delivery, Inbox, Request, Response, WatchRequest};
/// use leasehold::response::{GetResponse, PutResponse, ResponseHeader, WatchResponse};
/// use std::panic::{AssertUnwindSafe, catch_unwind};
/// use std::pin::Pin;
/// use std::sync::{Arc, Mutex};
/// use std::task::{Context, Waker};
///
/// /// A backend with the single key `mode` and without leases. Each stream has one watcher, which watches `mode`.
/// /// The clock of the backend does not advance.
/// struct Switch(Mutex<State>);
///
/// struct State {
///     kv: KeyValue,
///     inboxes: Vec<Arc<Inbox>>,
/// }
///
/// impl Switch {
///     /// Runs a command under the lock. Once the lock is released, calls the wakers that the command has collected.
///     fn locked<T>(&self, command: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
///         let mut wakers = Vec::new();
///         let answer = command(&mut self.0.lock().expect("no command panics"), &mut wakers);
///         for waker in wakers {
///             let _contained = catch_unwind(AssertUnwindSafe(|| waker.wake()));
///         }
///         answer
///     }
/// }
///
/// impl State {
///     fn header(&self) -> ResponseHeader {
///         ResponseHeader::new(1, 1, self.kv.mod_revision(), 1)
///     }
/// }
///
/// impl Backend for Switch {
///     fn call(&self, request: Request) -> Call<Response> {
///         Call::from_result(self.locked(|state, wakers| match request {
///             Request::Get(get) if get.get_range().contains(b"mode") => {
///                 Ok(Response::Get(GetResponse::new(state.header(), vec![state.kv.clone()], false, 1)))
///             }
///             Request::Put(put) if put.get_key() == "mode" => {
///                 let (revision, version) = (state.kv.mod_revision().next(), state.kv.version() + 1);
///                 state.kv = KeyValue::new("mode", put.get_value(), 2, revision, version, 0);
///                 let events = vec![Event::new(state.kv.clone(), None)];
///                 let delivery = Delivery::Watch(WatchResponse::new_events(0, state.header(), events, false));
///                 for inbox in &state.inboxes {
///                     wakers.extend(inbox.push(delivery.clone(), self.now()));
///                 }
///                 Ok(Response::Put(PutResponse::new(state.header(), None)))
///             }
///             _ => Err(Error::Foreign { code: Code::Unimplemented, message: "unknown request or key".into() }),
///         }))
///     }
///
///     fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
///         self.locked(|state, wakers| {
///             for request in requests {
///                 let header = state.header();
///                 let answer = match request {
///                     WatchRequest::Create(_) => {
///                         state.inboxes.push(Arc::clone(inbox));
///                         Delivery::Watch(WatchResponse::new_created(0, header))
///                     }
///                     WatchRequest::Cancel(id) => {
///                         state.inboxes.retain(|other| other.id() != inbox.id());
///                         Delivery::Watch(WatchResponse::new_canceled(*id, header, ""))
///                     }
///                     WatchRequest::Progress => {
///                         Delivery::Watch(WatchResponse::new_progress(WatchId::INVALID, header))
///                     }
///                     WatchRequest::Lease(id) => Delivery::LeaseEnded(*id), // no lease exists
///                     _ => continue,
///                 };
///                 wakers.extend(inbox.push(answer, self.now()));
///             }
///         });
///     }
///
///     fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
///         // As time does not pass, a timer fires at once or never.
///         if let Some(at) = at.filter(|&at| at <= self.now()) {
///             self.locked(|_, wakers| wakers.extend(inbox.push(Delivery::Timer(at), self.now())));
///         }
///     }
///
///     fn renew(&self, _: LeaseId, _: bool) {}
///
///     fn pull(&self, _: &Inbox) {} // every delivery is pushed
///
///     fn cancel(&self, inbox: &Inbox) {
///         self.locked(|state, _| state.inboxes.retain(|other| other.id() != inbox.id()));
///     }
///
///     fn now(&self) -> Timestamp {
///         Timestamp::ORIGIN
///     }
///
///     fn detach(&self, mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
///         // Every call is answered at once, so a task that only makes calls completes here. This backend drops any
///         // other task.
///         let _polled = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
///     }
/// }
///
/// let kv = KeyValue::new("mode", "blue", 2, 2, 1, 0);
/// let client = Client::new(Switch(Mutex::new(State { kv, inboxes: Vec::new() })));
/// let mut watcher = client.watch("mode");
/// client.put(("mode", "green")).wait()?;
/// assert_eq!(watcher.recv()?.expect("the watch has not ended").events()[0].kv().value(), b"green");
/// assert_eq!(client.get("mode").wait()?.kvs()[0].version(), 2);
/// assert_eq!(client.delete("mode").wait().unwrap_err().code(), Code::Unimplemented);
/// # Ok::<(), Error>(())
/// ```
pub trait Backend: Send + Sync + 'static {
    /// Executes a request, and answers with a response of the request's [kind](Response::kind). A client panics on a
    /// response of another kind.
    fn call(&self, request: Request) -> Call<Response>;

    /// Sends requests on the watch stream of `inbox`. If possible, the backend executes all requests of the list at
    /// one revision of the store.
    ///
    /// The backend delivers the answers into the inbox: see [`WatchRequest`]. If the list is empty, the backend only
    /// registers the inbox, so that it can [close](Inbox::close) the inbox when the backend ends.
    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>);

    /// Sets the timer of `inbox` to deliver [`Delivery::Timer`](crate::backend::Delivery) at `at`, or unsets it if `at`
    /// is `None`.
    ///
    /// A new timer replaces the earlier timer of the inbox. If `at` has passed, the timer fires at once. The delivery
    /// contains `at` even if the timer fires late, since a receiver ignores a `Delivery::Timer` with any other
    /// instant.
    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>);

    /// Starts renewing a lease if `is_on` is true, with the first renewal at once. Stops renewing the lease if `is_on`
    /// is false.
    ///
    /// The call is local and immediate, and it cannot fail. The call has no effect on a lease that has ended. A
    /// [`Store`](crate::Store) renews the lease internally, and a backend over a network sends a renewal every third
    /// of the TTL. Once renewing stops, the lease expires one TTL after its last renewal.
    fn renew(&self, lease: LeaseId, is_on: bool);

    /// [Fills](Inbox::fill) an inbox with the deliveries that it was [notified](Inbox::notify) of.
    ///
    /// A notified inbox calls this method when its receiver polls. In a backend that [pushes](Inbox::push) each
    /// delivery, the method does nothing.
    fn pull(&self, inbox: &Inbox);

    /// Ends the watchers and the timer of an inbox. The backend ignores an inbox that it does not know: a client has
    /// used such an inbox only to wait for calls.
    fn cancel(&self, inbox: &Inbox);

    /// Returns how far a watcher is behind, where deliveries that are in the inbox count as received. The default
    /// returns `None`, which means that the backend does not know the lag.
    fn lag(&self, _inbox: &Inbox, _id: WatchId) -> Option<Lag> {
        None
    }

    /// Returns the backend's current time, which its timers use.
    fn now(&self) -> Timestamp;

    /// Runs a future to completion in the background, such as the cleanup of a dropped value.
    ///
    /// The future awaits calls, timers and watches of this backend. The future's waker may be called on any thread.
    /// Most tasks complete after one or two calls. The cleanup after an ambiguous error may wait as long as the lease
    /// of its session exists.
    ///
    /// In an async program, the runtime's `spawn` can run the tasks. Without a runtime, a thread of the backend can
    /// poll the tasks that were woken. The simplest executor has a thread for each task:
    ///
    /// ```
    /// use std::pin::Pin;
    /// use std::sync::Arc;
    /// use std::task::{Context, Wake, Waker};
    /// use std::thread::{self, Thread};
    ///
    /// struct Unpark(Thread);
    ///
    /// impl Wake for Unpark {
    ///     fn wake(self: Arc<Self>) {
    ///         self.0.unpark();
    ///     }
    /// }
    ///
    /// fn detach(mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
    ///     thread::spawn(move || {
    ///         let waker = Waker::from(Arc::new(Unpark(thread::current())));
    ///         while task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
    ///             thread::park();
    ///         }
    ///     });
    /// }
    /// # let (done, is_done) = std::sync::mpsc::channel();
    /// # let client = leasehold::Store::new().client();
    /// # detach(Box::pin(async move {
    /// #     client.sleep(std::time::Duration::from_millis(1)).await.expect("the store is open");
    /// #     done.send(()).expect("the example waits");
    /// # }));
    /// # is_done.recv().expect("the task completes");
    /// ```
    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Blocks the calling thread until `poll` is ready. The default parks the thread between polls.
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        park_until(poll);
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn call(&self, request: Request) -> Call<Response> {
        (**self).call(request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        (**self).watch(requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        (**self).timer(at, inbox);
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        (**self).renew(lease, is_on);
    }

    fn pull(&self, inbox: &Inbox) {
        (**self).pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        (**self).cancel(inbox);
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        (**self).lag(inbox, id)
    }

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (**self).detach(task);
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        (**self).drive(poll);
    }
}

/// A request that was sent, and a future of its answer.
///
/// The request is executed whether or not the call is polled. Dropping the call abandons only the answer. A
/// [`Store`](crate::Store) answers at once, without an allocation.
///
/// | method | if there is no answer yet |
/// |---|---|
/// | [`wait`](Self::wait) | blocks |
/// | [`wait_timeout`](Self::wait_timeout) | blocks for a limited time |
/// | [`try_wait`](Self::try_wait) | returns `None` |
/// | `.await` | is pending |
///
/// ```
/// use leasehold::{Client, Store};
/// use std::time::Duration;
///
/// let client = Store::new().client();
/// client.put(("config/mode", "blue")).wait()?;
///
/// let mut call = client.get("config/mode");
/// let answer = call.try_wait()?.expect("a store answers at once");
/// assert_eq!(answer.kvs()[0].value(), b"blue");
///
/// let mut call = client.get("config/mode");
/// let answer = call.wait_timeout(Duration::from_secs(1))?.expect("a store answers at once");
/// assert_eq!(answer.kvs()[0].value(), b"blue");
///
/// async fn read(client: &Client) -> leasehold::Result<i64> {
///     Ok(client.get("config/mode").await?.count())
/// }
/// assert_eq!(client.block_on(read(&client))?, 1);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "the request is executed, but its answer and its error are returned only by waiting for the call"]
pub struct Call<T> {
    state: State<T>,
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

enum State<T> {
    Ready(Result<T>),
    /// The call waits for the future. The mutex around the future makes the call `Sync` and is never locked, since
    /// all access is through `&mut`.
    Pending {
        future: Mutex<Answering<T>>,
        backend: Option<Arc<dyn Backend>>,
    },
    Taken,
}

/// A call may be moved after a poll, since `poll` pins no field.
impl<T> Unpin for Call<T> {}

impl<T> Call<T> {
    /// Creates a call that is answered already.
    pub fn from_result(answer: Result<T>) -> Self {
        Self { state: State::Ready(answer) }
    }

    /// Creates a call that a future answers. The backend must execute the request even if the future is not polled.
    pub fn pending(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self { state: State::Pending { future: Mutex::new(Box::pin(future)), backend: None } }
    }

    /// Blocks the thread until the call is answered.
    ///
    /// # Errors
    ///
    /// - The error of the request, as the method that sent the request documents.
    /// - [`Stopped`](crate::Error::Stopped) if the store was closed before the request.
    /// - [`Unavailable`](crate::Error::Unavailable) if a backend over a network lost its connection.
    ///
    /// # Panics
    ///
    /// Panics if the answer was returned before.
    #[track_caller]
    pub fn wait(mut self) -> Result<T> {
        let (mut future, backend) = match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => return answer,
            State::Pending { future, backend } => (future.into_inner(), backend),
            State::Taken => panic!("{TAKEN}"),
        };
        let mut answer = None;
        let mut poll =
            |context: &mut Context<'_>| future.as_mut().poll(context).map(|got| answer = Some(got));
        match backend {
            // A simulated backend overrides `drive`, to run the simulation instead of parking the thread.
            Some(backend) => backend.drive(&mut poll),
            None => park_until(&mut poll),
        }
        answer.expect("a backend drives a call until it is answered")
    }

    /// Returns the answer if it is ready, and otherwise `None`, without blocking.
    ///
    /// # Errors
    ///
    /// - The error of the request, as the method that sent the request documents.
    /// - [`Stopped`](crate::Error::Stopped) if the store was closed before the request.
    /// - [`Unavailable`](crate::Error::Unavailable) if a backend over a network lost its connection.
    ///
    /// # Panics
    ///
    /// Panics if the answer was returned before.
    #[track_caller]
    pub fn try_wait(&mut self) -> Result<Option<T>> {
        match self.poll_answer(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    #[track_caller]
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let State::Pending { future, .. } = &mut self.state {
            let answer = std::task::ready!(future.get_mut().as_mut().poll(context));
            // The state is set after the poll: if the future is pending or panics, the call keeps the future.
            self.state = State::Taken;
            return Poll::Ready(answer);
        }
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => Poll::Ready(answer),
            State::Pending { .. } | State::Taken => panic!("{TAKEN}"),
        }
    }

    /// Returns whether the call holds its answer already, so that no future must be polled.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Returns the backend by which a pending call blocks the thread and measures timeouts. Returns `None` for an
    /// answered call, and for a call that no client has made.
    pub(super) fn backend(&self) -> Option<&Arc<dyn Backend>> {
        match &self.state {
            State::Pending { backend, .. } => backend.as_ref(),
            State::Ready(_) | State::Taken => None,
        }
    }

    /// Returns whether the call still waits for its future, so that the future must be polled.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending { .. })
    }

    /// Returns a call whose answer is the result of `change` for this call's answer. An error of this call is returned
    /// unchanged.
    pub(super) fn map<U>(
        self,
        backend: &Arc<dyn Backend>,
        change: impl FnOnce(T) -> U + Send + 'static,
    ) -> Call<U>
    where
        T: 'static,
    {
        self.map_result(backend, |answer| answer.map(change))
    }

    /// Returns a call whose result is the result of `change` for this call's result.
    pub(super) fn map_result<U>(
        self,
        backend: &Arc<dyn Backend>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U>
    where
        T: 'static,
    {
        match self.state {
            State::Ready(answer) => Call::from_result(change(answer)),
            State::Pending { future, .. } => {
                Call::pending(async move { change(future.into_inner().await) }).of(backend)
            }
            // The new call panics when it is polled, as this call would.
            State::Taken => Call { state: State::Taken },
        }
    }

    /// Sets the backend by which a pending call blocks the thread and measures timeouts.
    pub(super) fn of(mut self, of: &Arc<dyn Backend>) -> Self {
        if let State::Pending { backend, .. } = &mut self.state {
            *backend = Some(Arc::clone(of));
        }
        self
    }
}

const TAKEN: &str = "the answer of a call is taken once";

impl<T> Future for Call<T> {
    type Output = Result<T>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.poll_answer(context)
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ready(_) => "answered",
            State::Pending { .. } => "pending",
            State::Taken => "taken",
        };
        f.debug_tuple("Call").field(&state).finish()
    }
}
