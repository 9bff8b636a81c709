use std::fmt;
use std::task::{Poll, Waker, ready};

use super::handle::Client;
use super::mailbox::Mailbox;
use super::receiver::{Receiver, Source, receives};
use crate::api::{Delivery, Lag, Revision, Watch, WatchId, WatchRequest, WatchResponse, WatchResponseKind};
use crate::{Error, Result};

/// Receives the changes of keys from a revision on.
///
/// A watcher receives each event once and in order, without a gap (R-WCH-7). One response contains all events of a
/// revision, unless [`Watch::fragment`] allows the store to split the response. `Watcher` derefs to [`Receiver`], which
/// has all methods that receive.
///
/// In a [`Store`](crate::Store), a slow watcher uses a bounded amount of memory. Events beyond the watcher's
/// [capacity](Watch::capacity) are read from history when the watcher receives. If events are compacted before they
/// are read, the watch ends with [`Compacted`](Error::Compacted). A receive therefore returns the next events or
/// reports a loss.
///
/// To watch again later without a gap, start after the mod revision of the last event. The revision of a
/// [header](WatchResponse::header) can be later than the events of its response (R-WCH-10).
///
/// A blocked receive ends with a response, with the end of the watch or with [`Store::close`](crate::Store::close). A
/// watcher keeps its store alive, so dropping the other handles of the store does not end a blocked receive. To stop
/// a receiving thread, let the thread wait for the [ready channel](Receiver::ready_channel) and for a channel of your
/// own: see [`embedding`](crate::manual::embedding).
///
/// # Errors
///
/// A receive returns one of these errors once, and the watcher has then ended:
///
/// - [`Compacted`](Error::Compacted) if the next events were compacted. The field `requested` of the error is the
///   first revision that was not received.
/// - The error of a refusal, such as [`WatchRangeEmpty`](Error::WatchRangeEmpty), if the backend refused the watch.
/// - The error that [`Error::from_wire`](crate::Error::from_wire) returns for `FailedPrecondition` and the
///   [reason](WatchResponse::cancel_reason), if the backend ended the watch with a reason (R-WCH-24).
/// - [`WatchCanceled`](Error::WatchCanceled) if the backend ended the watch without a reason.
/// - [`Stopped`](Error::Stopped) if the store was closed. Events that the watcher had not received when the store was
///   closed may be lost.
///
/// # Examples
///
/// This example watches a prefix from a revision on, without blocking:
///
/// ```
/// use leasehold::{Error, Store, Watch};
///
/// let store = Store::new();
/// let blue = store.put(("config/mode", "blue"))?.header().revision();
/// let green = store.put(("config/mode", "green"))?.header().revision();
///
/// let mut watcher = store.watch(Watch::prefix("config/").start_revision(blue).prev_kv())?;
/// while let Some(response) = watcher.try_recv()? {
///     for event in response.events() {
///         println!("{:?} {:?} -> {:?}", event.event_type(), event.prev_kv(), event.kv());
///     }
/// }
///
/// store.compact(green)?;
/// let mut too_late = store.watch(Watch::prefix("config/").start_revision(blue))?;
/// assert_eq!(too_late.recv(), Err(Error::Compacted { requested: blue, compacted: Some(green) }));
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// [`recv`](Receiver::recv) blocks, [`recv_timeout`](Receiver::recv_timeout) blocks for a limited time,
/// [`try_recv`](Receiver::try_recv) does not block, and `for response in &mut watcher` blocks for each response until
/// the watcher has ended:
///
/// ```
/// use leasehold::{Error, Store};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let mut watcher = store.watch("mode")?;
/// assert_eq!(watcher.try_recv()?, None);
/// assert_eq!(watcher.recv_timeout(Duration::from_millis(1))?, None);
///
/// store.put(("mode", "blue"))?;
/// assert_eq!(watcher.recv()?.expect("the watch is open").events()[0].kv().value(), b"blue");
///
/// store.put(("mode", "green"))?;
/// store.put(("mode", "red"))?;
/// let mut changes = 0;
/// for response in &mut watcher {
///     match response {
///         Ok(response) => changes += response.events().len(),
///         Err(error) => assert_eq!(error, Error::Stopped),
///     }
///     if changes == 2 {
///         store.close(); // ends the loop
///     }
/// }
/// assert_eq!(changes, 2);
/// assert!(watcher.is_ended());
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// In this example, a compaction discards events that a watcher with a capacity of 1 has yet to read. The watcher
/// receives the response that was queued before the compaction, and then the error `Compacted`:
///
/// ```
/// use leasehold::{Error, Store, Watch};
///
/// let store = Store::new();
/// let mut watcher = store.watch(Watch::key("mode").capacity(1))?;
/// store.put(("mode", "blue"))?; // queued
/// let green = store.put(("mode", "green"))?.header().revision(); // stays in history
/// let red = store.put(("mode", "red"))?.header().revision();
/// store.compact(red)?;
///
/// assert_eq!(watcher.recv()?.expect("the first change is queued").events()[0].kv().value(), b"blue");
/// assert_eq!(watcher.recv(), Err(Error::Compacted { requested: green, compacted: Some(red) }));
/// assert_eq!(watcher.recv(), Ok(None));
///
/// // Read the current state, and watch from the next revision.
/// let state = store.get("mode")?;
/// let mut watcher = store.watch(Watch::key("mode").start_revision(state.header().revision().next()))?;
/// assert_eq!((state.kvs()[0].value(), watcher.try_recv()?), (&b"red"[..], None));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a watcher ends the watch"]
pub struct Watcher {
    receiver: Receiver<WatchResponse>,
    id: WatchId,
}

impl Watcher {
    pub(super) fn new(client: &Client, watch: Watch) -> Self {
        let (mailbox, source, id) = begin(client, watch);
        Self { receiver: Receiver::idle(mailbox, source), id }
    }

    /// Begins a watch, and returns the error if the backend has already refused the watch.
    pub(crate) fn confirmed(client: &Client, watch: Watch) -> Result<Self> {
        let (mut mailbox, mut source, id) = begin(client, watch);
        // The first delivery answers the creation. A response after the creation is kept for the first receive.
        if let Poll::Ready(Some(first)) = source.poll(&mut mailbox, None).map(Result::transpose) {
            if !source.is_created {
                return first.and(Ok(Self { receiver: Receiver::idle(mailbox, source), id }));
            }
            source.put_back(first);
        }
        Ok(Self { receiver: Receiver::idle(mailbox, source), id })
    }

    /// Requests the progress of the watch.
    ///
    /// If the watcher is synced and its start revision is reached, it receives a response without events. All events up
    /// to the revision in the header are received before that response. The store ignores the request for good if the
    /// watcher is unsynced or its start revision is in the future (R-WCH-21).
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch("mode")?;
    /// let revision = store.put(("other", "1"))?.header().revision();
    /// watcher.request_progress();
    /// let progress = watcher.recv()?.expect("the watch is open");
    /// assert!(progress.is_progress_notify());
    /// assert_eq!(progress.header().revision(), revision);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn request_progress(&self) {
        self.receiver.mailbox.watch(&[WatchRequest::Progress]);
    }

    /// Returns how far the watcher is behind, or `None` if it has ended or the backend does not know the lag.
    pub fn lag(&self) -> Option<Lag> {
        if self.receiver.is_ended() { None } else { self.receiver.mailbox.lag(self.id) }
    }
}

receives!(Watcher, WatchResponse);

fn begin(client: &Client, watch: Watch) -> (Mailbox, Watching, WatchId) {
    let mailbox = client.mailbox();
    // The requested id is the watcher's id even if it is `WatchId::AUTO`, which is 0: a new stream assigns 0 as its
    // first automatic id.
    let (id, source) =
        (watch.id, Watching { next: watch.start, unread: None, is_created: false, is_ended: false });
    mailbox.watch(&[WatchRequest::Create(watch)]);
    (mailbox, source, id)
}

/// Converts the deliveries of a stream that has one watcher.
struct Watching {
    /// The first revision whose events are not received yet.
    next: Revision,
    /// A response that was polled ahead.
    unread: Option<Result<WatchResponse>>,
    is_created: bool,
    is_ended: bool,
}

impl Watching {
    /// Processes a response. Returns the response if the user receives it, and an error if the response ends the
    /// watch.
    fn accept(&mut self, response: WatchResponse) -> Result<Option<WatchResponse>> {
        match &response.body.kind {
            WatchResponseKind::Created => {
                self.is_created = true;
                return Ok(None);
            }
            // A `Watcher` sends no cancellation, so the backend ended or refused the watch.
            WatchResponseKind::Canceled | WatchResponseKind::Refused(_) => {
                return Err(response.ended_by_backend());
            }
            WatchResponseKind::Compacted(compacted) => {
                return Err(Error::Compacted { requested: self.next, compacted: Some(*compacted) });
            }
            // The revision of the header can be later than the last event, so continue after the event (R-WCH-10).
            WatchResponseKind::Events { events, .. } => {
                let last = events.as_slice().last();
                self.next = last.map_or(self.next, |event| event.kv.mod_revision().next());
            }
            // Take the maximum, since the start revision of the watch may be in the future.
            WatchResponseKind::Progress => self.next = self.next.max(response.header().revision().next()),
        }
        Ok(Some(response))
    }
}

impl Source<WatchResponse> for Watching {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<WatchResponse>>> {
        if let Some(response) = self.unread.take() {
            return Poll::Ready(response.map(Some));
        }
        while !self.is_ended {
            let accepted = match ready!(mailbox.poll(waker)) {
                Ok(Delivery::Watch(response)) => self.accept(response),
                // A watcher requests neither a timer nor the end of a lease. The mailbox keeps the timer of
                // `recv_timeout` to itself.
                Ok(Delivery::Timer(_) | Delivery::LeaseEnded(_)) => Ok(None),
                Err(error) => Err(error),
            };
            self.is_ended = accepted.is_err();
            if let Some(response) = accepted? {
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
        f.debug_struct("Watcher")
            .field("mailbox", mailbox)
            .field("next", &self.next)
            .field("is_ended", &self.is_ended)
            .finish()
    }
}

impl Client {
    /// Watches keys. If the backend refuses the watch, the first receive returns the error.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let client = Store::new().client();
    /// let mut watcher = client.watch("mode");
    /// client.put(("mode", "blue")).wait()?;
    /// assert_eq!(watcher.recv()?.expect("the watch is open").events()[0].kv().value(), b"blue");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn watch(&self, watch: impl Into<Watch>) -> Watcher {
        Watcher::new(self, watch.into())
    }
}
