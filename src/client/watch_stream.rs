use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use super::handle::Client;
use super::mailbox::{Mailbox, RequestSender};
use super::receiver::{Receiver, Source, receives};
use crate::Result;
use crate::api::{Delivery, Lag, Watch, WatchId, WatchRequest, WatchResponse};

/// A watch stream of etcd: any number of watchers whose responses arrive as one sequence (R-WCH-1).
///
/// Each response has the [id](WatchResponse::watch_id) of its watcher. The stream derefs to [`Receiver`], which has all
/// methods that receive. [`Watcher`](crate::Watcher) is simpler for a single watcher.
///
/// The end of a watcher does not end the stream. The stream ends with [`Stopped`](crate::Error::Stopped) when the store
/// is closed. Dropping the stream ends its watchers.
///
/// Each creation, and each cancellation of a known watcher, is answered by one response, which is queued until it is
/// received. The queue of a stream that creates and cancels watchers without receiving therefore grows.
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
/// assert_eq!(ids, [0, 1, 1], "two creations, and the put of the second watcher's key");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a stream ends its watchers"]
pub struct WatchStream {
    receiver: Receiver<WatchResponse>,
}

/// The requesting half of a [`WatchStream`], which [`WatchStream::split`] returns.
///
/// The requesting half sends requests from another task than the task that receives. Requests have no effect once the
/// receiving half is dropped.
///
/// ```
/// use leasehold::{Store, Watch};
///
/// let store = Store::new();
/// let (requests, mut responses) = store.client().watch_stream().split();
/// let other = requests.clone();
/// requests.create(Watch::key("a"));
/// other.cancel(0);
/// assert!(responses.recv()?.expect("the stream is open").created());
/// assert!(responses.recv()?.expect("the stream is open").canceled());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WatchRequests {
    sender: Arc<RequestSender>,
}

impl WatchStream {
    pub(super) fn new(client: &Client) -> Self {
        let mailbox = client.mailbox();
        // An empty list registers the inbox, so that the backend closes the inbox when the backend ends, even if the
        // stream is never used.
        mailbox.watch(&[]);
        Self { receiver: Receiver::idle(mailbox, Responses { unread: None, is_ended: false }) }
    }

    /// Requests a watcher.
    ///
    /// The answer is a response that is [`created`](WatchResponse::created), or [`canceled`](WatchResponse::canceled)
    /// if the store refuses the watch. The answer is received before the watcher's first event.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let mut stream = store.client().watch_stream();
    /// stream.create(Watch::prefix("config/").id(7));
    /// store.put(("config/mode", "blue"))?;
    ///
    /// let created = stream.recv()?.expect("the stream is open");
    /// assert!(created.created() && created.watch_id().get() == 7);
    /// let change = stream.recv()?.expect("the stream is open");
    /// assert_eq!((change.watch_id().get(), change.events()[0].kv().value()), (7, &b"blue"[..]));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn create(&self, watch: impl Into<Watch>) {
        self.receiver.mailbox.watch(&[WatchRequest::Create(watch.into())]);
    }

    /// Cancels a watcher.
    ///
    /// The answer is a response that is [`canceled`](WatchResponse::canceled), received after the watcher's last
    /// event. The cancellation of an unknown id is not answered (R-WCH-22).
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let mut stream = store.client().watch_stream();
    /// stream.create(Watch::key("a"));
    /// let id = stream.recv()?.expect("the stream is open").watch_id();
    ///
    /// stream.cancel(id);
    /// let answer = stream.recv()?.expect("the stream is open");
    /// assert!(answer.canceled() && answer.watch_id() == id);
    /// stream.cancel(id);
    /// assert_eq!(stream.try_recv()?, None, "the id is unknown by then");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn cancel(&self, id: impl Into<WatchId>) {
        self.receiver.mailbox.watch(&[WatchRequest::Cancel(id.into())]);
    }

    /// Requests the progress of all watchers of the stream.
    ///
    /// If all watchers are synced and their start revisions are reached, the answer is one response with the id
    /// [`WatchId::INVALID`]. The response is received after all events up to the revision of its header. The store
    /// ignores the request for good if a watcher is unsynced or has a future start revision, or without any watcher
    /// (R-WCH-21). A watcher that a compaction has ended counts as unsynced until it is cancelled.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    /// use leasehold::watch::WatchId;
    ///
    /// let store = Store::new();
    /// let mut stream = store.client().watch_stream();
    /// stream.create(Watch::key("a"));
    /// assert!(stream.recv()?.expect("the stream is open").created());
    ///
    /// let revision = store.put(("b", "1"))?.header().revision();
    /// stream.request_progress();
    /// let progress = stream.recv()?.expect("the stream is open");
    /// assert!(progress.is_progress_notify());
    /// assert_eq!((progress.watch_id(), progress.header().revision()), (WatchId::INVALID, revision));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn request_progress(&self) {
        self.receiver.mailbox.watch(&[WatchRequest::Progress]);
    }

    /// Returns how far a watcher of this stream is behind, or `None` if the watcher or its lag is unknown.
    pub fn lag(&self, id: impl Into<WatchId>) -> Option<Lag> {
        self.receiver.mailbox.lag(id.into())
    }

    /// Splits the stream into a requesting half and a receiving half, for two tasks or threads.
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
        (WatchRequests { sender: Arc::new(self.receiver.mailbox.request_sender()) }, self.receiver)
    }
}

impl WatchRequests {
    /// Requests a watcher: see [`WatchStream::create`].
    pub fn create(&self, watch: impl Into<Watch>) {
        self.sender.watch(&[WatchRequest::Create(watch.into())]);
    }

    /// Cancels a watcher: see [`WatchStream::cancel`].
    pub fn cancel(&self, id: impl Into<WatchId>) {
        self.sender.watch(&[WatchRequest::Cancel(id.into())]);
    }

    /// Requests the progress of all watchers: see [`WatchStream::request_progress`].
    pub fn request_progress(&self) {
        self.sender.watch(&[WatchRequest::Progress]);
    }

    /// Returns how far a watcher is behind: see [`WatchStream::lag`].
    ///
    /// Responses that the receiving half has taken from the inbox and not returned yet count as received.
    /// [`WatchStream::lag`] counts such responses as not received.
    pub fn lag(&self, id: impl Into<WatchId>) -> Option<Lag> {
        self.sender.lag(id.into())
    }
}

receives!(WatchStream, WatchResponse);

/// The source of all responses of a stream.
struct Responses {
    /// A response that was polled ahead.
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
            // A stream requests neither a timer nor the end of a lease, so any other delivery is ignored.
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
    /// Opens a watch stream for several watchers.
    pub fn watch_stream(&self) -> WatchStream {
        WatchStream::new(self)
    }
}
