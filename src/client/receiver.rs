use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::handle::Client;
use super::inbox::ReadyChannel;
use super::mailbox::Mailbox;
use crate::Result;

/// Receives what a backend delivers, in order: the responses of a [`Watcher`](crate::Watcher) or a
/// [`WatchStream`](crate::watch::WatchStream), the events of a [`LeaderWatcher`](crate::concurrency::LeaderWatcher), the leaders of an
/// [`Observer`](crate::service::Observer).
///
/// There are several ways to receive, for one receiver at a time: [`recv`](Self::recv) blocks,
/// [`recv_timeout`](Self::recv_timeout) blocks for a time, [`try_recv`](Self::try_recv) does not block, [`next`](Self::next) is a
/// future, `for item in &mut receiver` blocks for each item, and [`ready_channel`](Self::ready_channel) is a channel for `select!`. Each returns
/// `Err` once if the receiver has failed, and then `Ok(None)`: [`is_ended`](Self::is_ended) tells an end from an item that is not
/// there yet.
///
/// Dropping it ends the subscription. It keeps its store alive: a thread that receives returns when the store is
/// [closed](crate::Store::close).
#[must_use = "dropping a receiver ends its subscription"]
pub struct Receiver<T> {
    pub(super) mailbox: Mailbox,
    source: Box<dyn Source<T>>,
}

/// Makes items out of deliveries: explicit phases, and a poll that goes through them.
pub(crate) trait Source<T>: Send + Sync {
    /// Returns the next item, as far as the deliveries in the mailbox allow, and `Ok(None)` at the end.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<T>>>;

    /// Keeps an item that was polled ahead.
    fn put_back(&mut self, item: Result<T>);

    /// Returns whether there is an item without a delivery.
    fn has_item(&self) -> bool;

    /// Returns whether a delivery may be several items, or none.
    fn is_batched(&self) -> bool {
        false
    }

    /// Returns whether an answer is awaited: its arrival wakes no receiver that has not polled.
    fn is_calling(&self) -> bool {
        false
    }

    /// Returns whether no item comes any more, apart from those that were put back.
    fn is_ended(&self) -> bool;

    /// Writes the name of the type, and what identifies the receiver.
    fn describe(&self, mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl<T> Receiver<T> {
    /// A receiver that polls once ahead, so that calls are under way at once.
    pub(crate) fn new(client: &Client, source: impl Source<T> + 'static) -> Self {
        let mut receiver = Self::idle(client.mailbox(), source);
        receiver.poll_ahead();
        receiver
    }

    /// A receiver that does nothing before it is used.
    pub(super) fn idle(mailbox: Mailbox, source: impl Source<T> + 'static) -> Self {
        Self { mailbox, source: Box::new(source) }
    }

    /// Polls once; an item found is kept for the first receive.
    pub(super) fn poll_ahead(&mut self) {
        if let Poll::Ready(Some(next)) = self.source.poll(&mut self.mailbox, None).map(Result::transpose) {
            self.source.put_back(next);
        }
    }

    /// Returns the next item if there is one, without blocking. `None` if there is none yet, or no more.
    ///
    /// # Errors
    ///
    /// Once, and then the receiver is over: [`Stopped`](crate::Error::Stopped) if the store was closed, and those that the
    /// receiver's type names.
    pub fn try_recv(&mut self) -> Result<Option<T>> {
        let polled = self.source.poll(&mut self.mailbox, None);
        self.settle();
        match polled {
            Poll::Ready(received) => received,
            Poll::Pending => Ok(None),
        }
    }

    /// Blocks the thread until there is an item. `None` if there is no more.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Option<T>> {
        let source = &mut self.source;
        let received = self.mailbox.block(|mailbox, waker| source.poll(mailbox, waker));
        self.settle();
        received
    }

    /// Blocks the thread until there is an item, or until this much of the store's time has passed, which under a
    /// [`ManualClock`](crate::ManualClock) passes only if another thread moves it. `None` if the time has passed, or if there is
    /// no more.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        let at = self.mailbox.now() + timeout;
        let source = &mut self.source;
        let received = self.mailbox.block_until(at, |mailbox, waker| source.poll(mailbox, waker));
        self.settle();
        received.unwrap_or(Ok(None))
    }

    /// Returns the next item if there is one, and `None` if there is no more; otherwise the task is woken when there is.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        let polled = self.source.poll(&mut self.mailbox, Some(context.waker()));
        self.settle();
        polled
    }

    /// Waits for the next item, as a future: `None` if there is no more. Dropping the future loses no item.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub async fn next(&mut self) -> Result<Option<T>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Returns a channel that holds a token while [`try_recv`](Self::try_recv) may return an item, for `select!`: a channel of
    /// capacity one, and without items in it, since an item that is lost from a channel would be lost for good. `try_recv` puts
    /// the token back if anything is left. It may also find nothing.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch(Watch::key("stop"))?;
    /// let ticker = crossbeam_channel::tick(Duration::from_millis(1));
    /// let mut rounds = 0;
    /// loop {
    ///     crossbeam_channel::select_biased! {
    ///         recv(watcher.ready_channel()) -> _ => {
    ///             if let Some(response) = watcher.try_recv()? {
    ///                 assert_eq!(response.events()[0].kv().key(), b"stop");
    ///                 break;
    ///             }
    ///         }
    ///         recv(ticker) -> _ => {
    ///             rounds += 1;
    ///             if rounds == 3 {
    ///                 store.put(("stop", "now"))?;
    ///             }
    ///         }
    ///     }
    /// }
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn ready_channel(&self) -> &ReadyChannel {
        self.mailbox.ready(self.source.has_item())
    }

    /// Returns whether no item comes any more, and the error that ended the receiver, if there is one, was returned.
    pub fn is_ended(&self) -> bool {
        self.source.is_ended() && !self.source.has_item()
    }

    /// Keeps the ready token set while items may be available: one delivery may be several items, or none may have been polled;
    /// and a call wakes no receiver before it is polled.
    fn settle(&mut self) {
        let has_token = self.mailbox.has_token();
        if !self.source.has_item() && (has_token && self.source.is_batched() || self.source.is_calling()) {
            self.poll_ahead();
        }
        if has_token {
            self.ready_channel();
        }
    }
}

/// Gives a type with a field `receiver` the ways to receive of [`Receiver`].
macro_rules! receives {
    ($receiver:ident, $item:ty) => {
        impl std::ops::Deref for $receiver {
            type Target = $crate::client::Receiver<$item>;

            fn deref(&self) -> &Self::Target {
                &self.receiver
            }
        }

        impl std::ops::DerefMut for $receiver {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.receiver
            }
        }

        impl<'a> IntoIterator for &'a mut $receiver {
            type Item = $crate::Result<$item>;
            type IntoIter = $crate::client::ReceiverIter<'a, $item>;

            fn into_iter(self) -> Self::IntoIter {
                (&mut self.receiver).into_iter()
            }
        }

        #[cfg(feature = "stream")]
        impl futures_core::Stream for $receiver {
            type Item = $crate::Result<$item>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                self.receiver.poll_recv(context).map(Result::transpose)
            }
        }

        impl std::fmt::Debug for $receiver {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.receiver, f)
            }
        }
    };
}

pub(crate) use receives;

/// The items of a [`Receiver`], blocking for each, until there is no more: `for item in &mut receiver`.
#[derive(Debug)]
pub struct ReceiverIter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T> Iterator for ReceiverIter<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.recv().transpose()
    }
}

impl<'a, T> IntoIterator for &'a mut Receiver<T> {
    type Item = Result<T>;
    type IntoIter = ReceiverIter<'a, T>;

    fn into_iter(self) -> ReceiverIter<'a, T> {
        ReceiverIter { receiver: self }
    }
}

#[cfg(feature = "stream")]
impl<T> futures_core::Stream for Receiver<T> {
    type Item = Result<T>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context).map(Result::transpose)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.describe(&self.mailbox, f)
    }
}
