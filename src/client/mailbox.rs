//! The receiving half of an [`Inbox`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::backend::{Backend, Call};
use super::inbox::{Inbox, ReadyChannel};
use super::namespace::Namespace;
use super::wake::{contain, finish};
use crate::api::{Delivery, Lag, LeaseId, Timestamp, WatchId, WatchRequest, first_unread};
use crate::{Error, Result};

/// The receiving half of an [`Inbox`]. A mailbox also sends watch requests for the inbox, and shares the inbox's one
/// timer between an alarm and a deadline. Dropping the mailbox ends the watchers and the timer of the inbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    backend: Shared,
    namespace: Namespace,
    /// The inbox is created at its first use, since a wait that is ready at once needs no inbox.
    inbox: OnceLock<Arc<Inbox>>,
    /// Deliveries that were taken from the inbox, many in one lock acquisition, and not returned yet.
    rest: VecDeque<Delivery>,
    /// The instant at which the owner of the mailbox receives [`Delivery::Timer`].
    alarm: Option<Timestamp>,
    /// The instant at which [`block_until`](Self::block_until) times out.
    deadline: Option<Timestamp>,
    /// The instant of the backend's timer: the earlier of `alarm` and `deadline`.
    timer: Option<Timestamp>,
    /// Whether the timer of the deadline was delivered. No further delivery is returned until
    /// [`block_until`](Self::block_until) ends.
    is_timed_out: bool,
    /// The lease of the last received [`Delivery::LeaseEnded`], even if [`poll_call`](Self::poll_call) discarded the
    /// delivery.
    ended: Option<LeaseId>,
    /// Whether [`end`](Self::end) was called, which cancels the inbox at the backend.
    is_over: bool,
}

/// A shared backend. The `Debug` output is the word `Backend`, since a backend need not implement `Debug`.
struct Shared(Arc<dyn Backend>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl Mailbox {
    pub(super) fn new(backend: Arc<dyn Backend>, namespace: Namespace) -> Self {
        Self {
            backend: Shared(backend),
            namespace,
            inbox: OnceLock::new(),
            rest: VecDeque::new(),
            alarm: None,
            deadline: None,
            timer: None,
            is_timed_out: false,
            ended: None,
            is_over: false,
        }
    }

    fn inbox(&self) -> &Arc<Inbox> {
        self.inbox.get_or_init(Arc::default)
    }

    pub(crate) fn watch(&self, requests: &[WatchRequest]) {
        send(&*self.backend.0, &self.namespace, self.inbox(), requests);
    }

    /// Returns a handle by which another task sends watch requests on the stream of this mailbox.
    pub(super) fn request_sender(&self) -> RequestSender {
        let (backend, namespace) = (Shared(Arc::clone(&self.backend.0)), self.namespace.clone());
        RequestSender { backend, namespace, inbox: Arc::clone(self.inbox()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.backend.0.now()
    }

    /// Sets the alarm: the owner receives one [`Delivery::Timer`] at the instant `at`, or none if `at` is `None`.
    pub(crate) fn set_alarm(&mut self, at: Option<Timestamp>) {
        self.alarm = at;
        self.arm();
    }

    /// Sets the backend's timer to the earlier of `alarm` and `deadline`, unless the timer is set to that instant
    /// already, or the mailbox has [ended](Self::end).
    fn arm(&mut self) {
        let next = self.alarm.into_iter().chain(self.deadline).min();
        if !self.is_over && self.timer != next {
            self.backend.0.timer(next, self.inbox());
            // `timer` is assigned after the call, since a backend that panics may not have set the timer.
            self.timer = next;
        }
    }

    /// Processes a delivery of the timer. Returns whether the owner's alarm fires.
    fn fire(&mut self, at: Timestamp) -> bool {
        if self.timer != Some(at) {
            // The timer was unset, or set to another instant, after this delivery was queued, so ignore the delivery.
            return false;
        }
        self.timer = None;
        self.is_timed_out = self.deadline.take_if(|deadline| *deadline <= at).is_some();
        let is_alarm = self.alarm.take_if(|alarm| *alarm <= at).is_some();
        self.arm();
        is_alarm
    }

    /// Ends the watchers and the timer, so that the backend delivers nothing more.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true)
            && let Some(inbox) = self.inbox.get()
        {
            self.backend.0.cancel(inbox);
        }
    }

    /// Returns the next delivery. If there is no delivery, registers `waker`.
    ///
    /// [`Delivery::Timer`] is returned only for the owner's alarm. Returns [`Error::Stopped`] once the inbox is closed.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<Delivery>> {
        Poll::Ready(match ready!(self.next(waker)) {
            Some(Delivery::Watch(response)) => Ok(Delivery::Watch(self.namespace.watch_response(response))),
            Some(Delivery::LeaseEnded(lease)) => {
                self.ended = Some(lease);
                Ok(Delivery::LeaseEnded(lease))
            }
            Some(delivery) => Ok(delivery),
            None => Err(Error::Stopped),
        })
    }

    /// Returns the next delivery, or `None` once the inbox is closed. Keys still have the prefix of the namespace.
    fn next(&mut self, waker: Option<&Waker>) -> Poll<Option<Delivery>> {
        // The ready channel was requested after the deliveries in `rest` were taken. Move the deliveries back, since
        // the inbox sets the token only for its own queue.
        if !self.rest.is_empty() && self.has_ready_channel() {
            self.inbox.get_or_init(Arc::default).requeue(&mut self.rest);
        }
        // After the deadline, deliveries stay where they are for the next wait.
        while !self.is_timed_out {
            let delivery = match self.rest.pop_front() {
                Some(delivery) => Some(delivery),
                None => {
                    let inbox = self.inbox.get_or_init(Arc::default);
                    ready!(inbox.receive(|inbox| self.backend.0.pull(inbox), Some(&mut self.rest), waker))
                }
            };
            match delivery {
                Some(Delivery::Timer(at)) if !self.fire(at) => {}
                delivery => return Poll::Ready(delivery),
            }
        }
        Poll::Pending
    }

    /// Returns whether the end of this lease was received. The mailbox remembers only one ended lease, since an owner
    /// watches the end of one lease at most.
    pub(crate) fn has_ended(&self, lease: LeaseId) -> bool {
        self.ended == Some(lease)
    }

    /// Polls a call, and returns the answer once the answer is ready.
    ///
    /// The answer notifies the inbox, and the inbox wakes the receiver or sets the ready token. Deliveries that
    /// arrive before the answer are discarded, so the caller must watch again from the answer's revision. If a
    /// discarded delivery reports the end of a lease, [`has_ended`](Self::has_ended) returns true for the lease.
    pub(crate) fn poll_call<T>(&mut self, call: &mut Call<T>, waker: Option<&Waker>) -> Poll<Result<T>> {
        if call.is_answered() {
            // The usual case: the call holds its answer, so the poll needs no waker.
            return Pin::new(call).poll(&mut Context::from_waker(Waker::noop()));
        }
        let arrival = self.waker();
        let mut poll_once = || Pin::new(&mut *call).poll(&mut Context::from_waker(&arrival));
        loop {
            if let Poll::Ready(answer) = poll_once() {
                return Poll::Ready(answer);
            }
            match self.poll(waker) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Poll the call again: the call may have woken the inbox between the two polls, and `poll` has
                // consumed that wake-up.
                Poll::Pending => return poll_once(),
            }
        }
    }

    /// Returns a waker that notifies the inbox, so that the receiver polls again.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(self.inbox()).into()
    }

    /// Blocks the thread until `poll` is ready.
    pub(crate) fn block<T>(&mut self, mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<T>) -> T {
        let backend = Arc::clone(&self.backend.0);
        let mut found = None;
        backend.drive(&mut |context| poll(self, Some(context.waker())).map(|got| found = Some(got)));
        found.expect("`Backend::drive` returns after the poll is ready")
    }

    /// Blocks the thread until `poll` is ready, or returns `None` at the time `at`.
    ///
    /// The order of deliveries decides: a delivery that the backend queues before the timer is processed, even a
    /// delivery of the instant `at`.
    pub(crate) fn block_until<T>(
        &mut self,
        at: Timestamp,
        mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<T>,
    ) -> Option<T> {
        // A result that is ready needs no timer, so poll before the deadline is set.
        if let Poll::Ready(found) = poll(self, None) {
            return Some(found);
        }
        let guard = DeadlineGuard(self);
        guard.0.deadline = Some(at);
        guard.0.arm();
        guard.0.block(|mailbox, waker| match poll(mailbox, waker) {
            Poll::Ready(found) => Poll::Ready(Some(found)),
            Poll::Pending if mailbox.is_timed_out => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Returns a channel that holds a token while there may be a delivery. `has_more` states that the owner has an
    /// item to return, which also sets the token.
    pub(crate) fn ready(&self, has_more: bool) -> &ReadyChannel {
        self.inbox().ready(has_more || !self.rest.is_empty())
    }

    /// Returns whether the ready channel was requested.
    pub(crate) fn has_ready_channel(&self) -> bool {
        self.inbox.get().is_some_and(|inbox| inbox.has_ready_channel())
    }

    /// Returns how far a watcher is behind. Deliveries that the mailbox has not returned count as not received.
    pub(crate) fn lag(&self, id: WatchId) -> Option<Lag> {
        lag(&*self.backend.0, self.inbox(), id, &self.rest)
    }
}

impl Inbox {
    /// Receives the next delivery, or registers the context's waker if there is no delivery. `backend` must be the
    /// backend to which the inbox belongs.
    ///
    /// If the queue is empty and the inbox is notified, the inbox first [pulls](Backend::pull) from the backend. Once
    /// the inbox is closed and empty, each call returns `Ready(None)`. A registered waker replaces the earlier waker,
    /// and the next `push`, `notify` or `close` returns the registered waker. The inbox is not locked while a waker
    /// is cloned or dropped, or during a pull.
    ///
    /// An inbox has one receiver. A [`Layer`](crate::backend::Layer), or other code that calls a backend directly,
    /// polls only inboxes that it has created, from one task at a time. If two tasks receive from one inbox, each task
    /// may miss deliveries and wake-ups.
    ///
    /// # Panics
    ///
    /// Panics if the backend panics during a pull, or if the waker panics when it is cloned. After such a panic, the
    /// inbox keeps its deliveries, and the caller may poll again.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    /// use leasehold::backend::{Backend, Delivery, Inbox, WatchRequest};
    /// use std::sync::Arc;
    /// use std::task::{Context, Poll, Waker};
    ///
    /// let (store, inbox) = (Store::new(), Arc::new(Inbox::new()));
    /// Backend::watch(&store, &[WatchRequest::Create(Watch::key("config/mode"))], &inbox);
    /// Backend::timer(&store, Some(Backend::now(&store)), &inbox); // fires at once
    /// store.put(("config/mode", "blue"))?;
    ///
    /// let mut received = Vec::new();
    /// let mut context = Context::from_waker(Waker::noop());
    /// while let Poll::Ready(Some(delivery)) = inbox.poll_recv(&store, &mut context) {
    ///     received.push(match delivery {
    ///         Delivery::Watch(response) if response.created() => "created",
    ///         Delivery::Watch(_) => "put",
    ///         _ => "timer",
    ///     });
    /// }
    /// assert_eq!(received, ["created", "timer", "put"]);
    ///
    /// store.close();
    /// assert_eq!(inbox.poll_recv(&store, &mut context), Poll::Ready(None));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn poll_recv(&self, backend: &dyn Backend, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.receive(|inbox| backend.pull(inbox), None, Some(context.waker()))
    }
}

impl<T> Call<T> {
    /// Blocks the thread until the call is answered, or returns `None` once `timeout` of the backend's time has passed.
    ///
    /// After `None`, the call is still pending and can be waited for again. A timeout of zero does not block.
    ///
    /// # Errors
    ///
    /// - The error of the request, as the method that sent the request documents.
    /// - [`Stopped`](Error::Stopped) if the backend ended before the answer.
    /// - [`Unavailable`](Error::Unavailable) if a backend over a network lost its connection.
    ///
    /// # Panics
    ///
    /// - Panics if the answer was returned before.
    /// - Panics if the call is pending and was created by [`pending`](Self::pending), not by a
    ///   [`Client`](crate::Client). Such a call has no clock to measure the timeout.
    ///
    /// ```
    /// use leasehold::Store;
    /// use std::time::Duration;
    ///
    /// let mut call = Store::new().client().put(("mode", "blue"));
    /// let answer = call.wait_timeout(Duration::from_secs(1))?.expect("a store answers at once");
    /// assert_eq!(answer.header().revision().get(), 2);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        if !self.is_pending() {
            return self.try_wait();
        }
        let backend = self.backend().expect("a pending call with a timeout was made by a client");
        let mut mailbox = Mailbox::new(Arc::clone(backend), Namespace::default());
        let at = mailbox.now() + timeout;
        mailbox.block_until(at, |mailbox, waker| mailbox.poll_call(self, waker)).transpose()
    }
}

/// Sends watch requests on the stream of a mailbox from another task.
#[derive(Debug)]
pub(super) struct RequestSender {
    backend: Shared,
    namespace: Namespace,
    inbox: Arc<Inbox>,
}

impl RequestSender {
    pub(super) fn watch(&self, requests: &[WatchRequest]) {
        send(&*self.backend.0, &self.namespace, &self.inbox, requests);
    }

    pub(super) fn lag(&self, id: WatchId) -> Option<Lag> {
        lag(&*self.backend.0, &self.inbox, id, &VecDeque::new())
    }
}

fn send(backend: &dyn Backend, namespace: &Namespace, inbox: &Arc<Inbox>, requests: &[WatchRequest]) {
    if namespace.is_root() {
        return backend.watch(requests, inbox);
    }
    let placed = requests.iter().map(|request| match request {
        WatchRequest::Create(watch) => WatchRequest::Create(namespace.watch(watch.clone())),
        // No other request contains a key.
        other => other.clone(),
    });
    backend.watch(&placed.collect::<Vec<_>>(), inbox);
}

fn lag(backend: &dyn Backend, inbox: &Inbox, id: WatchId, rest: &VecDeque<Delivery>) -> Option<Lag> {
    let behind = backend.lag(inbox, id)?;
    let (unread, since) = inbox.peek(|queue| first_unread(rest.iter().chain(queue), id));
    let Some(next) = unread else {
        return Some(behind);
    };
    // `revisions` counts the revisions from the first unread event up to the current revision, including both.
    let revisions = behind.current.next().get().abs_diff(next.get());
    // Events in the inbox are older than the events that the backend has, so `since` is the time of the inbox.
    Some(Lag { revisions, since, ..behind })
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.inbox.get().is_some() {
            // A mailbox may be dropped while a panic unwinds, and a panic of the backend would then abort the
            // process.
            finish(&mut [&mut || self.end()]);
        }
    }
}

/// A mailbox with a deadline, during `block_until`. Dropping the guard removes the deadline, even if the poll panics.
struct DeadlineGuard<'a>(&'a mut Mailbox);

impl Drop for DeadlineGuard<'_> {
    fn drop(&mut self) {
        self.0.deadline = None;
        self.0.is_timed_out = false;
        // Contain a panic of the backend, so that `block_until` still returns its result. If the timer stays set,
        // `fire` ignores its delivery.
        contain(|| self.0.arm());
    }
}
