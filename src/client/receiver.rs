use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::handle::Client;
use super::inbox::ReadyChannel;
use super::mailbox::Mailbox;
use crate::Result;

/// Receives the items that a backend delivers, in order.
///
/// The items are the responses of a [`Watcher`](crate::Watcher) or a [`WatchStream`](crate::watch::WatchStream), the
/// events of a [`LeaderWatcher`](crate::concurrency::LeaderWatcher), or the leaders of an
/// [`Observer`](crate::service::Observer).
///
/// | method | if there is no item |
/// |---|---|
/// | [`recv`](Self::recv) | blocks |
/// | [`recv_timeout`](Self::recv_timeout) | blocks for a limited time |
/// | [`try_recv`](Self::try_recv) | returns `Ok(None)` |
/// | [`next`](Self::next), [`poll_recv`](Self::poll_recv) | are pending |
/// | `for item in &mut receiver` | blocks for each item |
/// | [`ready_channel`](Self::ready_channel), for `select!` | the channel usually holds no token |
///
/// A receiver that fails returns the error once, and `Ok(None)` from then on. [`is_ended`](Self::is_ended)
/// distinguishes a receiver that has ended from a receiver that waits for its next item.
///
/// Dropping a receiver ends its subscription. A receiver keeps its store alive. When the store is
/// [closed](crate::Store::close), a blocked receive returns [`Stopped`](crate::Error::Stopped).
///
/// ```
/// use leasehold::watch::WatchStream;
/// use leasehold::{Error, Store, Watch};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let mut stream: WatchStream = store.client().watch_stream();
/// stream.create(Watch::key("mode"));
/// assert!(stream.recv()?.expect("the stream is open").created());
/// assert_eq!(stream.try_recv()?, None);
/// assert_eq!(stream.recv_timeout(Duration::from_millis(1))?, None);
/// assert!(!stream.is_ended(), "a later receive may return a response");
///
/// store.put(("mode", "blue"))?;
/// let response = store.client().block_on(stream.next())?.expect("the stream is open");
/// assert_eq!(response.events().len(), 1);
///
/// store.close();
/// let items: Vec<_> = (&mut stream).into_iter().collect();
/// assert_eq!(items, [Err(Error::Stopped)]);
/// assert!(stream.is_ended());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping a receiver ends its subscription"]
pub struct Receiver<T> {
    pub(super) mailbox: Mailbox,
    source: Box<dyn Source<T>>,
}

/// The state machine that converts the deliveries of a mailbox to the items of a receiver.
pub(crate) trait Source<T>: Send + Sync {
    /// Receives deliveries until there is an item, and returns the item. Returns `Ok(None)` once the source has
    /// ended. If there is no delivery, registers the waker.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<T>>>;

    /// Keeps an item that was polled ahead, so that the next poll returns the item.
    fn put_back(&mut self, item: Result<T>);

    /// Returns whether the source holds an item, which the next poll returns without a delivery.
    fn has_item(&self) -> bool;

    /// Returns whether one delivery may contain several items, or no item.
    fn is_batched(&self) -> bool {
        false
    }

    /// Returns whether the source waits for the answer to a call. The answer sets the ready token only if the source
    /// was polled after the call was made.
    fn has_pending_call(&self) -> bool {
        false
    }

    /// Returns whether the source returns no further item, apart from an item that was put back.
    fn is_ended(&self) -> bool;

    /// Writes the `Debug` output of the receiver: the name of its type, and its identifying fields.
    fn describe(&self, mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl<T> Receiver<T> {
    /// Creates a receiver and polls it once, so that the source sends its first request.
    pub(crate) fn new(client: &Client, source: impl Source<T> + 'static) -> Self {
        let mut receiver = Self::idle(client.mailbox(), source);
        receiver.poll_ahead();
        receiver
    }

    /// Creates a receiver without polling it.
    pub(super) fn idle(mailbox: Mailbox, source: impl Source<T> + 'static) -> Self {
        Self { mailbox, source: Box::new(source) }
    }

    /// Polls the source once. An item that the poll returns is kept for the next receive.
    pub(super) fn poll_ahead(&mut self) {
        if let Poll::Ready(Some(next)) = self.source.poll(&mut self.mailbox, None).map(Result::transpose) {
            self.source.put_back(next);
        }
    }

    /// Returns the next item, or `None` if there is no item yet or the receiver has [ended](Self::is_ended), without
    /// blocking.
    ///
    /// # Errors
    ///
    /// Returns the error that ends the receiver, once: [`Stopped`](crate::Error::Stopped) if the store was closed, or
    /// an error that the documentation of the receiver's type lists.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch("mode")?;
    /// assert_eq!(watcher.try_recv()?, None);
    /// store.put(("mode", "blue"))?;
    /// assert!(watcher.try_recv()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<T>> {
        let polled = self.source.poll(&mut self.mailbox, None);
        self.sync_ready_token();
        match polled {
            Poll::Ready(received) => received,
            Poll::Pending => Ok(None),
        }
    }

    /// Blocks the thread until there is an item, and returns `None` if the receiver has ended.
    ///
    /// # Errors
    ///
    /// Returns the error that ends the receiver, once: [`Stopped`](crate::Error::Stopped) if the store was closed, or
    /// an error that the documentation of the receiver's type lists.
    ///
    /// ```
    /// use leasehold::{Error, Store};
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch("mode")?;
    /// store.put(("mode", "blue"))?;
    /// assert!(watcher.recv()?.is_some());
    ///
    /// let receiving = std::thread::spawn(move || (watcher.recv(), watcher.recv()));
    /// store.close(); // the thread returns
    /// let received = receiving.join().expect("the thread does not panic");
    /// assert_eq!(received, (Err(Error::Stopped), Ok(None)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn recv(&mut self) -> Result<Option<T>> {
        let source = &mut self.source;
        let received = self.mailbox.block(|mailbox, waker| source.poll(mailbox, waker));
        self.sync_ready_token();
        received
    }

    /// Blocks the thread until there is an item, or returns `None` once `timeout` of the store's time has passed.
    ///
    /// An item that is delivered at the instant of the timeout, but before the timer, is returned. The method also
    /// returns `None` if the receiver has [ended](Self::is_ended). Under a [`ManualClock`](crate::ManualClock), time
    /// passes only if another thread moves the clock.
    ///
    /// # Errors
    ///
    /// Returns the error that ends the receiver, once: [`Stopped`](crate::Error::Stopped) if the store was closed, or
    /// an error that the documentation of the receiver's type lists.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        let at = self.mailbox.now() + timeout;
        let source = &mut self.source;
        let received = self.mailbox.block_until(at, |mailbox, waker| source.poll(mailbox, waker));
        self.sync_ready_token();
        received.unwrap_or(Ok(None))
    }

    /// Polls for the next item, and registers the context's waker if there is no item yet.
    ///
    /// Returns `Ready(Ok(None))` if the receiver has ended.
    ///
    /// # Errors
    ///
    /// Returns the error that ends the receiver, once: [`Stopped`](crate::Error::Stopped) if the store was closed, or
    /// an error that the documentation of the receiver's type lists.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        let polled = self.source.poll(&mut self.mailbox, Some(context.waker()));
        self.sync_ready_token();
        polled
    }

    /// Awaits the next item, and returns `None` if the receiver has ended. Dropping the future loses no item.
    ///
    /// # Errors
    ///
    /// Returns the error that ends the receiver, once: [`Stopped`](crate::Error::Stopped) if the store was closed, or
    /// an error that the documentation of the receiver's type lists.
    ///
    /// ```
    /// use leasehold::{Client, Store};
    ///
    /// async fn first_value(client: &Client) -> leasehold::Result<Option<Vec<u8>>> {
    ///     let mut watcher = client.watch("mode");
    ///     client.put(("mode", "blue")).await?;
    ///     let response = watcher.next().await?;
    ///     Ok(response.map(|response| response.events()[0].kv().value().to_vec()))
    /// }
    ///
    /// let client = Store::new().client();
    /// assert_eq!(client.block_on(first_value(&client))?, Some(b"blue".to_vec()));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub async fn next(&mut self) -> Result<Option<T>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Returns a channel for `select!` that holds a token while [`try_recv`](Self::try_recv) may return an item.
    ///
    /// The token carries no item, so dropping the token loses no item. `try_recv` and `ready_channel` put the token
    /// back if there may be another item. After a token, `try_recv` may also return `None`.
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

    /// Returns whether the receiver has ended. An ended receiver returns no further item. The error that ended the
    /// receiver, if any, was returned before.
    pub fn is_ended(&self) -> bool {
        self.source.is_ended() && !self.source.has_item()
    }

    /// Keeps the ready token set while items may be available. Each method that receives calls this function last.
    fn sync_ready_token(&mut self) {
        let has_channel = self.mailbox.has_ready_channel();
        // The token shows only that the inbox has deliveries. A delivery may contain several items or none, so a
        // batched source is polled for the next item. The answer to a call that this receive has made wakes the inbox
        // only if the source is polled again. So a source with a pending call is polled too.
        if !self.source.has_item()
            && (has_channel && self.source.is_batched() || self.source.has_pending_call())
        {
            self.poll_ahead();
        }
        if has_channel {
            // `ready_channel` also sets the token for an item that the source holds.
            self.ready_channel();
        }
    }
}

/// Implements `Deref` to [`Receiver`], iteration, `Stream` and `Debug` for a type with a field `receiver`.
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

/// An iterator over the items of a [`Receiver`] that blocks for each item: `for item in &mut receiver`.
///
/// The iterator ends when the receiver has ended. An error that ends the receiver is the last item of the iterator.
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
