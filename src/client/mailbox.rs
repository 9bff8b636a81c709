//! An inbox of one's own at a backend.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crossbeam_channel::Receiver;

use super::backend::Backend;
use super::inbox::{Inbox, Look};
use super::namespace::Namespace;
use crate::api::{Delivery, Lag, Timestamp, WatchId, WatchRequest, first_unread};
use crate::{Error, Result};

/// Dropping it ends its watchers and its timer.
#[derive(Debug)]
pub(crate) struct Mailbox {
    backend: Shared,
    namespace: Namespace,
    inbox: Arc<Inbox>,
    /// What was taken out of the inbox ahead, so that its lock is taken once for all of it.
    rest: VecDeque<Delivery>,
    /// The instant that the timer was set to last.
    timer: Option<Timestamp>,
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
            timer: None,
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

    pub(crate) fn set_timer(&mut self, at: Option<Timestamp>) {
        if !self.is_over {
            self.timer = at;
            self.backend.0.timer(at, &self.inbox);
        }
    }

    /// Ends the watchers and the timer: nobody looks into it any more.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.backend.0.cancel(&self.inbox);
        }
    }

    /// Waits for the next delivery; without a waker, only looks for it. A timer that was unset or set anew meanwhile is not one.
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
        loop {
            let taken = self.rest.pop_front().map(Look::Delivery);
            match taken.unwrap_or_else(|| self.inbox.look(&mut self.rest, waker)) {
                Look::MustPull => self.backend.0.pull(&self.inbox),
                Look::Delivery(Delivery::Timer(at)) if Some(at) != self.timer => {}
                look => return look,
            }
        }
    }

    /// Wakes whoever waits for a delivery, and has him look again.
    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.inbox).into()
    }

    /// Blocks the thread until `poll` gives something.
    pub(crate) fn block<T>(&mut self, mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<T>) -> T {
        let backend = Arc::clone(&self.backend.0);
        let mut found = None;
        backend.drive(&mut |context| poll(self, Some(context.waker())).map(|got| found = Some(got)));
        found.expect("a backend drives a poll until it gives something")
    }

    /// Blocks the thread until `poll` gives something or the time is up, which a delivery of the timer says. What happened
    /// before that, in the backend's order, comes first. The timer is what `poll` itself wants it to be afterwards.
    pub(crate) fn block_until<T>(
        &mut self,
        at: Timestamp,
        own_timer: Option<Timestamp>,
        mut poll: impl FnMut(&mut Self, Option<&Waker>) -> Poll<Option<T>>,
    ) -> Option<T> {
        if let Poll::Ready(found) = poll(self, None) {
            return found;
        }
        if own_timer.is_some_and(|own| own <= at) {
            return self.block(poll);
        }
        self.set_timer(Some(at));
        let found = self.block(poll);
        self.set_timer(own_timer);
        found
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
        self.end();
    }
}
