use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::handle::Client;
use super::mailbox::Mailbox;
use crate::Result;
use crate::api::{Delivery, Lag, Timestamp, Watch, WatchId, WatchRequest, WatchResponse};

/// etcd's watch stream: any number of watchers whose responses come as one sequence (R-WCH-1), each with the id of its
/// watcher.
///
/// [`Watcher`](crate::Watcher) is easier where one is enough. Dropping the stream ends all its watchers; it does not end
/// because one of them does. It keeps its store alive.
///
/// What answers its requests is queued until it is received, with one response for each creation and cancellation, so a stream
/// that creates and cancels and is not received from grows.
///
/// ```
/// use leasehold::{Store, Watch};
///
/// let store = Store::new();
/// let mut stream = store.client().watch_stream();
/// stream.create(Watch::key("a"));
/// stream.create(Watch::key("b"));
/// store.put(("b", "1"))?;
///
/// let ids: Vec<i64> = std::iter::from_fn(|| stream.try_recv().transpose())
///     .map(|response| Ok(response?.watch_id().get()))
///     .collect::<leasehold::Result<_>>()?;
/// assert_eq!(ids, [0, 1, 1], "both were created, and the second saw the put");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a stream ends its watchers"]
pub struct WatchStream {
    mailbox: Mailbox,
    /// Whether the backend knows the stream. One that was never used must be made known before a receive can wait, or the
    /// backend could not report that it is closed.
    is_known: AtomicBool,
}

impl WatchStream {
    pub(super) fn new(client: &Client) -> Self {
        Self { mailbox: client.mailbox(), is_known: AtomicBool::new(false) }
    }

    /// A stream with its first watcher.
    pub(super) fn with_watcher(client: &Client, watch: Watch) -> Self {
        let stream = Self::new(client);
        stream.create(watch);
        stream.is_known.store(true, Ordering::Relaxed);
        stream
    }

    fn make_known(&self) {
        // A load first, since every receive comes here.
        if !self.is_known.load(Ordering::Relaxed) && !self.is_known.swap(true, Ordering::Relaxed) {
            self.mailbox.watch(&[]);
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.mailbox.now()
    }

    /// Asks for a watcher. The answer, which may be a refusal, is received before its first event.
    pub fn create(&self, watch: impl Into<Watch>) {
        self.mailbox.watch(&[WatchRequest::Create(watch.into())]);
    }

    /// Ends a watcher. If there is one of that id, the answer is received after its last event (R-WCH-22).
    pub fn cancel(&self, id: impl Into<WatchId>) {
        self.mailbox.watch(&[WatchRequest::Cancel(id.into())]);
    }

    /// Asks how far all watchers have come. If all have caught up, the answer is received after all that they were sent,
    /// and else there is none (R-WCH-21).
    pub fn request_progress(&self) {
        self.mailbox.watch(&[WatchRequest::Progress]);
    }

    /// Gives the next response if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the store was closed.
    pub fn try_recv(&mut self) -> Result<Option<WatchResponse>> {
        self.make_known();
        match poll_response(&mut self.mailbox, None) {
            Poll::Ready(response) => response.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Waits for the next response.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the store was closed.
    pub fn recv(&mut self) -> Result<WatchResponse> {
        self.make_known();
        self.mailbox.block(poll_response)
    }

    /// Waits for the next response for some of the store's time at the most, which under a
    /// [`ManualClock`](crate::ManualClock) passes only if another thread moves it. `None` says that the time has passed before
    /// there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the store was closed.
    pub fn recv_timeout(&mut self, duration: Duration) -> Result<Option<WatchResponse>> {
        self.recv_until(self.now() + duration)
    }

    pub(super) fn recv_until(&mut self, at: Timestamp) -> Result<Option<WatchResponse>> {
        self.make_known();
        self.mailbox.block_until(at, poll_response).transpose()
    }

    /// Gives the next response if there is one; else the task is woken when there is.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped) if the store was closed.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchResponse>> {
        self.make_known();
        poll_response(&mut self.mailbox, Some(context.waker()))
    }

    /// A channel that holds a token while there is something to receive, for `select!`. After the token was taken from it,
    /// the next receiving puts it back if anything is left. A token may turn out to stand for nothing, so follow it with
    /// [`try_recv`](Self::try_recv).
    pub fn ready(&self) -> &Receiver<()> {
        self.make_known();
        self.mailbox.ready(false)
    }

    /// How far a watcher of this stream is behind; `None` if there is no such watcher, or the backend cannot tell.
    pub fn lag(&self, id: impl Into<WatchId>) -> Option<Lag> {
        self.mailbox.lag(id.into())
    }
}

fn poll_response(mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<WatchResponse>> {
    loop {
        if let Delivery::Watch(response) = std::task::ready!(mailbox.poll(waker))? {
            return Poll::Ready(Ok(response));
        }
    }
}
