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

/// Dropping it ends its watchers and its timer.
#[derive(Debug)]
pub(crate) struct Mailbox {
    backend: Shared,
    namespace: Namespace,
    /// Made at its first use: a wait that is over at once needs none.
    inbox: OnceLock<Arc<Inbox>>,
    /// Deliveries taken in one lock acquisition and not yet returned.
    rest: VecDeque<Delivery>,
    /// When the owner is to receive [`Delivery::Timer`].
    alarm: Option<Timestamp>,
    /// When [`block_until`](Self::block_until) gives up.
    deadline: Option<Timestamp>,
    /// The earlier of the two, which the backend's timer is set to.
    timer: Option<Timestamp>,
    /// The deadline has passed, in the backend's order: nothing that comes after it is returned.
    is_timed_out: bool,
    /// The lease of the last [`Delivery::LeaseEnded`] that was received, by [`poll_call`](Self::poll_call) too.
    ended: Option<LeaseId>,
    is_over: bool,
}

/// A backend, as `Debug` can do nothing with it.
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

    /// The half that asks, for another task.
    pub(super) fn asking(&self) -> Asking {
        let (backend, namespace) = (Shared(Arc::clone(&self.backend.0)), self.namespace.clone());
        Asking { backend, namespace, inbox: Arc::clone(self.inbox()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.backend.0.now()
    }

    /// Sets when the owner receives [`Delivery::Timer`], once.
    pub(crate) fn set_alarm(&mut self, at: Option<Timestamp>) {
        self.alarm = at;
        self.arm();
    }

    fn arm(&mut self) {
        let next = self.alarm.into_iter().chain(self.deadline).min();
        if !self.is_over && self.timer != next {
            self.backend.0.timer(next, self.inbox());
            // Noted afterwards: a backend that panics may not have set the timer.
            self.timer = next;
        }
    }

    /// Processes a delivery of the timer. Returns whether it is the owner's alarm.
    fn fire(&mut self, at: Timestamp) -> bool {
        if self.timer != Some(at) {
            // The timer was set again after this delivery was queued.
            return false;
        }
        self.timer = None;
        self.is_timed_out = self.deadline.take_if(|deadline| *deadline <= at).is_some();
        let is_alarm = self.alarm.take_if(|alarm| *alarm <= at).is_some();
        self.arm();
        is_alarm
    }

    /// Ends the watchers and the timer: nothing is received any more.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true)
            && let Some(inbox) = self.inbox.get()
        {
            self.backend.0.cancel(inbox);
        }
    }

    /// Returns the next delivery; [`Delivery::Timer`] only for the owner's alarm. Registers the waker, if any, if there is none.
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

    /// Returns the next delivery with the keys of the backend, and `None` once the inbox is closed.
    fn next(&mut self, waker: Option<&Waker>) -> Poll<Option<Delivery>> {
        if !self.rest.is_empty() && self.has_token() {
            self.inbox.get_or_init(Arc::default).put_back(&mut self.rest);
        }
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

    /// Returns whether the end of this lease was received. An owner asks for the end of one lease at most.
    pub(crate) fn has_ended(&self, lease: LeaseId) -> bool {
        self.ended == Some(lease)
    }

    /// Takes a call's answer once it is there.
    ///
    /// The call wakes the mailbox, and the mailbox wakes the receiver, so a waker and the mailbox's token both work. Watch events
    /// that are received before the answer are discarded: the caller watches again from the answer's revision on.
    pub(crate) fn poll_call<T>(&mut self, call: &mut Call<T>, waker: Option<&Waker>) -> Poll<Result<T>> {
        if call.is_answered() {
            // The usual case, which needs no waker.
            return Pin::new(call).poll(&mut Context::from_waker(Waker::noop()));
        }
        let arrival = self.waker();
        let mut look = || Pin::new(&mut *call).poll(&mut Context::from_waker(&arrival));
        loop {
            if let Poll::Ready(answer) = look() {
                return Poll::Ready(answer);
            }
            match self.poll(waker) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Poll again: the call may have woken the mailbox between the two polls.
                Poll::Pending => return look(),
            }
        }
    }

    /// A waker that makes the receiver poll again.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(self.inbox()).into()
    }

    /// Blocks the thread until `poll` returns something.
    pub(crate) fn block<T>(&mut self, mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<T>) -> T {
        let backend = Arc::clone(&self.backend.0);
        let mut found = None;
        backend.drive(&mut |context| poll(self, Some(context.waker())).map(|got| found = Some(got)));
        found.expect("a backend drives a poll until it is ready")
    }

    /// Blocks the thread until `poll` returns something, or `None` once the time is `at`. The backend's order decides: what it
    /// delivers before its timer counts, also what happens at the same instant.
    pub(crate) fn block_until<T>(
        &mut self,
        at: Timestamp,
        mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<T>,
    ) -> Option<T> {
        if let Poll::Ready(found) = poll(self, None) {
            return Some(found);
        }
        let limited = Limited(self);
        limited.0.deadline = Some(at);
        limited.0.arm();
        limited.0.block(|mailbox, waker| match poll(mailbox, waker) {
            Poll::Ready(found) => Poll::Ready(Some(found)),
            Poll::Pending if mailbox.is_timed_out => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }

    /// A channel that holds a token while there is something; `has_more` says that the owner has something anyway.
    pub(crate) fn ready(&self, has_more: bool) -> &ReadyChannel {
        self.inbox().ready(has_more || !self.rest.is_empty())
    }

    /// Returns whether that channel was asked for.
    pub(crate) fn has_token(&self) -> bool {
        self.inbox.get().is_some_and(|inbox| inbox.has_token())
    }

    /// Returns how far a watcher is behind, with the deliveries that were not returned yet.
    pub(crate) fn lag(&self, id: WatchId) -> Option<Lag> {
        lag(&*self.backend.0, self.inbox(), id, &self.rest)
    }
}

impl Inbox {
    /// Receives the next delivery of `backend`, the one that the caller passes this inbox to. [Pulls](Backend::pull) from it if
    /// the inbox is notified. Returns `Ready(None)` at each call once the inbox is closed and empty.
    ///
    /// If there is no delivery, it registers the context's waker in place of an earlier one: the next `push`, `notify` or `close`
    /// returns that waker. The inbox is not locked while a waker is cloned or dropped, and while the backend is pulled from.
    ///
    /// The caller is the one receiver of the inbox: a [`Layer`](crate::backend::Layer), or another user that calls a backend
    /// directly, polls from one task at a time and only inboxes that it has created. With a second receiver, each would miss
    /// deliveries and wake-ups.
    ///
    /// # Panics
    ///
    /// If the backend panics when it is pulled from, or the waker when it is cloned. No delivery is lost, and the caller may poll
    /// again.
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
    /// Blocks the thread until the call is answered, or until this much of the backend's time has passed: then returns `None`,
    /// and the call can be waited for again. A timeout of zero does not block.
    ///
    /// # Errors
    ///
    /// The errors of the request.
    ///
    /// # Panics
    ///
    /// If the answer was taken before, or if the call is pending and was made by [`pending`](Self::pending) rather than by a
    /// [`Client`](crate::Client): it has no clock.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        if !self.is_pending() {
            return self.try_wait();
        }
        let backend = self.backend().expect("a call with a timeout is a client's");
        let mut mailbox = Mailbox::new(Arc::clone(backend), Namespace::default());
        let at = mailbox.now() + timeout;
        mailbox.block_until(at, |mailbox, waker| mailbox.poll_call(self, waker)).transpose()
    }
}

/// A handle that sends requests for a mailbox's stream, and cannot receive.
#[derive(Debug)]
pub(super) struct Asking {
    backend: Shared,
    namespace: Namespace,
    inbox: Arc<Inbox>,
}

impl Asking {
    pub(super) fn watch(&self, requests: &[WatchRequest]) {
        send(&*self.backend.0, &self.namespace, &self.inbox, requests);
    }

    pub(super) fn lag(&self, id: WatchId) -> Option<Lag> {
        lag(&*self.backend.0, &self.inbox, id, &VecDeque::new())
    }
}

fn send(backend: &dyn Backend, namespace: &Namespace, inbox: &Arc<Inbox>, requests: &[WatchRequest]) {
    if namespace.is_everything() {
        return backend.watch(requests, inbox);
    }
    let placed = requests.iter().map(|request| match request {
        WatchRequest::Create(watch) => WatchRequest::Create(namespace.watch(watch.clone())),
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
    let revisions = behind.current.next().get().abs_diff(next.get());
    // Received events are older than those that the backend still has, so the backend's time does not apply.
    Some(Lag { revisions, since, ..behind })
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.inbox.get().is_some() {
            finish(&mut [&mut || self.end()]);
        }
    }
}

/// A mailbox with a deadline, which ends with this value, also if the poll panics.
struct Limited<'a>(&'a mut Mailbox);

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        self.0.deadline = None;
        self.0.is_timed_out = false;
        // Contained, as what was found is returned after this. A timer that is still set does nothing.
        contain(|| self.0.arm());
    }
}
