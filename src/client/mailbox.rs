//! The receiving half of an [`Inbox`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crossbeam_channel::Receiver;

use super::backend::Backend;
use super::inbox::{Inbox, Look};
use super::namespace::Namespace;
use super::wake::{contain, finish};
use crate::api::{Delivery, Lag, Timestamp, WatchId, WatchRequest, first_unread};
use crate::{Error, Result};

/// Dropping it ends its watchers and its timer.
#[derive(Debug)]
pub(crate) struct Mailbox {
    backend: Shared,
    namespace: Namespace,
    inbox: Arc<Inbox>,
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
            inbox: Arc::new(Inbox::new()),
            rest: VecDeque::new(),
            alarm: None,
            deadline: None,
            timer: None,
            is_timed_out: false,
            is_over: false,
        }
    }

    pub(crate) fn watch(&self, requests: &[WatchRequest]) {
        if self.namespace.is_everything() {
            return self.backend.0.watch(requests, &self.inbox);
        }
        let placed = requests.iter().map(|request| match request {
            WatchRequest::Create(watch) => WatchRequest::Create(self.namespace.watch(watch.clone())),
            other => other.clone(),
        });
        self.backend.0.watch(&placed.collect::<Vec<_>>(), &self.inbox);
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
            self.backend.0.timer(next, &self.inbox);
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

    /// Ends the watchers and the timer: nobody looks into it any more.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.backend.0.cancel(&self.inbox);
        }
    }

    /// Returns the next delivery; [`Delivery::Timer`] only for the owner's alarm. Registers the waker, if any, if there is none.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<Delivery>> {
        match self.next(waker) {
            Look::Delivery(Delivery::Watch(response)) => {
                Poll::Ready(Ok(Delivery::Watch(self.namespace.watch_response(response))))
            }
            Look::Delivery(delivery) => Poll::Ready(Ok(delivery)),
            Look::Closed => Poll::Ready(Err(Error::Stopped)),
            Look::Nothing | Look::MustPull => Poll::Pending,
        }
    }

    fn next(&mut self, waker: Option<&Waker>) -> Look {
        if !self.rest.is_empty() && self.inbox.has_token() {
            self.inbox.put_back(&mut self.rest);
        }
        while !self.is_timed_out {
            let taken = self.rest.pop_front().map(Look::Delivery);
            match taken.unwrap_or_else(|| self.inbox.look(&mut self.rest, waker)) {
                Look::MustPull => self.backend.0.pull(&self.inbox),
                Look::Delivery(Delivery::Timer(at)) => {
                    if self.fire(at) {
                        return Look::Delivery(Delivery::Timer(at));
                    }
                }
                look => return look,
            }
        }
        Look::Nothing
    }

    /// A waker that makes the receiver poll again.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.inbox).into()
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
    pub(crate) fn ready(&self, has_more: bool) -> &Receiver<()> {
        self.inbox.ready(has_more || !self.rest.is_empty())
    }

    /// Whether anybody has asked for that channel.
    pub(crate) fn has_token(&self) -> bool {
        self.inbox.has_token()
    }

    /// How far a watcher is behind, with what lies in the inbox.
    pub(crate) fn lag(&self, id: WatchId) -> Option<Lag> {
        let behind = self.backend.0.lag(&self.inbox, id)?;
        let unread = self.inbox.peek(|queue| first_unread(self.rest.iter().chain(queue), id));
        let (since, notified_at) = self.inbox.times();
        let Some(next) = unread else {
            // The backend may have been told the time last before it woke us.
            let since = behind.since.map(|told| notified_at.map_or(told, |woken| told.max(woken)));
            return Some(Lag { since, ..behind });
        };
        let revisions = behind.current.next().get().abs_diff(next.get());
        Some(Lag { revisions, since: since.or(behind.since), ..behind })
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        finish(&mut [&mut || self.end()]);
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
