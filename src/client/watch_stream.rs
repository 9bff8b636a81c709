use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use super::handle::Client;
use super::mailbox::{Asking, Mailbox};
use super::receiver::{Receiver, Source, receives};
use crate::Result;
use crate::api::{Delivery, Lag, Watch, WatchId, WatchRequest, WatchResponse};

/// etcd's watch stream: any number of watchers whose responses come as one sequence (R-WCH-1), each with the id of its
/// watcher. All ways to receive are those of [`Receiver`].
///
/// [`Watcher`](crate::Watcher) is easier where one is enough. Dropping the stream ends all its watchers; it does not end
/// because one of them does, but only when the store is closed, with [`Stopped`](crate::Error::Stopped).
///
/// The answers to its requests are queued until they are received, one response for each creation and cancellation, so a stream
/// that creates and cancels but does not receive grows.
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
#[must_use = "dropping a stream ends its watchers"]
pub struct WatchStream {
    receiver: Receiver<WatchResponse>,
}

/// The half of a [`WatchStream`] that asks, for another task than the one that receives. Requests to a stream whose receiving
/// half was dropped have no effect.
#[derive(Clone, Debug)]
pub struct WatchRequests {
    asking: Arc<Asking>,
}

impl WatchStream {
    pub(super) fn new(client: &Client) -> Self {
        let mailbox = client.mailbox();
        // Makes the stream known, or the backend could not report to an unused one that it is closed.
        mailbox.watch(&[]);
        Self { receiver: Receiver::idle(mailbox, Responses { unread: None, is_ended: false }) }
    }

    /// Asks for a watcher. The answer, which may be a refusal, is received before its first event.
    pub fn create(&self, watch: impl Into<Watch>) {
        self.receiver.mailbox.watch(&[WatchRequest::Create(watch.into())]);
    }

    /// Ends a watcher. If there is one of that id, the answer is received after its last event (R-WCH-22).
    pub fn cancel(&self, id: impl Into<WatchId>) {
        self.receiver.mailbox.watch(&[WatchRequest::Cancel(id.into())]);
    }

    /// Asks how far all watchers have come. If all have caught up, the answer is received after all that they were sent,
    /// and else there is none (R-WCH-21).
    pub fn request_progress(&self) {
        self.receiver.mailbox.watch(&[WatchRequest::Progress]);
    }

    /// Returns how far a watcher of this stream is behind; `None` if there is no such watcher, or the backend does not know.
    pub fn lag(&self, id: impl Into<WatchId>) -> Option<Lag> {
        self.receiver.mailbox.lag(id.into())
    }

    /// Splits the stream into a half that asks and a half that receives.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let (requests, mut responses) = store.client().watch_stream().split();
    /// let receiving = std::thread::spawn(move || responses.recv());
    /// requests.create(Watch::key("a"));
    /// let created = receiving.join().expect("the thread does not panic")?.expect("the stream has not ended");
    /// assert!(created.created());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn split(self) -> (WatchRequests, Receiver<WatchResponse>) {
        (WatchRequests { asking: Arc::new(self.receiver.mailbox.asking()) }, self.receiver)
    }
}

impl WatchRequests {
    /// As [`WatchStream::create`].
    pub fn create(&self, watch: impl Into<Watch>) {
        self.asking.watch(&[WatchRequest::Create(watch.into())]);
    }

    /// As [`WatchStream::cancel`].
    pub fn cancel(&self, id: impl Into<WatchId>) {
        self.asking.watch(&[WatchRequest::Cancel(id.into())]);
    }

    /// As [`WatchStream::request_progress`].
    pub fn request_progress(&self) {
        self.asking.watch(&[WatchRequest::Progress]);
    }

    /// As [`WatchStream::lag`], apart from responses that the receiving half has taken from the inbox and not returned yet.
    pub fn lag(&self, id: impl Into<WatchId>) -> Option<Lag> {
        self.asking.lag(id.into())
    }
}

receives!(WatchStream, WatchResponse);

/// All responses of a stream.
struct Responses {
    unread: Option<Result<WatchResponse>>,
    is_ended: bool,
}

impl Source<WatchResponse> for Responses {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<WatchResponse>>> {
        if let Some(response) = self.unread.take() {
            return Poll::Ready(response.map(Some));
        }
        while !self.is_ended {
            let delivery = ready!(mailbox.poll(waker));
            self.is_ended = delivery.is_err();
            if let Delivery::Watch(response) = delivery? {
                return Poll::Ready(Ok(Some(response)));
            }
        }
        Poll::Ready(Ok(None))
    }

    fn put_back(&mut self, response: Result<WatchResponse>) {
        self.unread = Some(response);
    }

    fn has_item(&self) -> bool {
        self.unread.is_some()
    }

    fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn describe(&self, mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("mailbox", mailbox).field("is_ended", &self.is_ended).finish()
    }
}

impl Client {
    /// A stream for several watchers.
    pub fn watch_stream(&self) -> WatchStream {
        WatchStream::new(self)
    }
}
