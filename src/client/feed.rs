//! Receiving one thing after the other.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::handle::Client;
use super::mailbox::Mailbox;
use crate::Result;

/// How a feed is filled: explicit phases, and a poll that goes through them.
pub(crate) trait Follow {
    type Item;

    /// Returns the next item, as far as the deliveries in the mailbox allow, and `Ok(None)` at the end of the feed.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<Self::Item>>>;

    /// Keeps an item that was polled and is not wanted yet.
    fn put_back(&mut self, item: Result<Self::Item>);

    /// Whether there are items without a look into the mailbox.
    fn has_more(&self) -> bool;

    /// Whether it awaits an answer.
    fn is_asking(&self) -> bool;
}

/// The ways to receive what something follows.
pub(crate) struct Feed<F> {
    mailbox: Mailbox,
    pub(crate) follow: F,
}

impl<F: Follow> Feed<F> {
    /// Goes as far as that goes without taking anything.
    pub(crate) fn new(client: &Client, follow: F) -> Self {
        let mut feed = Self { mailbox: client.mailbox(), follow };
        feed.advance();
        feed
    }

    fn advance(&mut self) {
        if let Poll::Ready(Some(next)) = self.follow.poll(&mut self.mailbox, None).map(Result::transpose) {
            self.follow.put_back(next);
        }
    }

    pub(crate) fn try_recv(&mut self) -> Result<Option<F::Item>> {
        let polled = self.follow.poll(&mut self.mailbox, None);
        self.settle();
        match polled {
            Poll::Ready(received) => received,
            Poll::Pending => Ok(None),
        }
    }

    pub(crate) fn recv(&mut self) -> Result<Option<F::Item>> {
        let follow = &mut self.follow;
        let received = self.mailbox.block(|mailbox, waker| follow.poll(mailbox, waker));
        self.settle();
        received
    }

    pub(crate) fn recv_timeout(&mut self, duration: Duration) -> Result<Option<F::Item>> {
        let at = self.mailbox.now() + duration;
        let follow = &mut self.follow;
        let received = self.mailbox.block_until(at, |mailbox, waker| follow.poll(mailbox, waker));
        self.settle();
        received.unwrap_or(Ok(None))
    }

    pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<F::Item>>> {
        let polled = self.follow.poll(&mut self.mailbox, Some(context.waker()));
        self.settle();
        polled
    }

    pub(crate) async fn next(&mut self) -> Result<Option<F::Item>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    pub(crate) fn ready(&self) -> &Receiver<()> {
        self.mailbox.ready(self.follow.has_more())
    }

    /// Sees to it that whoever waits by the token, now or from later on, is told of all there is. One delivery may be several items,
    /// or none may have been looked at; and a call wakes nobody before it is polled.
    fn settle(&mut self) {
        let has_token = self.mailbox.has_token();
        if !self.follow.has_more() && (has_token || self.follow.is_asking()) {
            self.advance();
        }
        if has_token {
            self.ready();
        }
    }
}
