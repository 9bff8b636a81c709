use std::fmt;
use std::task::{Poll, Waker, ready};

use super::handle::Client;
use super::mailbox::Mailbox;
use super::receiver::{Receiver, Source, receives};
use crate::api::{Delivery, Lag, Revision, Watch, WatchId, WatchRequest, WatchResponse, WatchResponseKind};
use crate::{Error, Result};

/// Receives the changes of keys, from a revision on: every event once and in order, all events of one revision together, and no
/// gap (R-WCH-7). All ways to receive are those of [`Receiver`].
///
/// In a [`Store`](crate::Store), a slow watcher costs a bounded amount of memory: events that its share of the queue has no room
/// for are read from history later. Only if they are compacted by then does the watch end, with the compacted revision. So
/// receiving either returns the next events, or reports that some are lost.
///
/// Its errors, once each:
///
/// - [`Compacted`](Error::Compacted) if the next events were compacted, with the first revision that was not received;
/// - the [reason](WatchResponse::cancel_reason) of the backend if it ended the watch, as
///   [`Error::from_wire`](crate::Error::from_wire) returns it with `FailedPrecondition` (R-WCH-24);
/// - [`WatchCanceled`](Error::WatchCanceled) if the backend ended the watch without a reason;
/// - [`Stopped`](Error::Stopped) if the store was closed;
/// - the error that the backend refused the watch with.
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

    /// As [`new`](Self::new), but fails if the backend has refused the watch already.
    pub(crate) fn confirmed(client: &Client, watch: Watch) -> Result<Self> {
        let (mut mailbox, mut source, id) = begin(client, watch);
        // The answer to the creation is the first delivery. What comes after it is for the first receive.
        if let Poll::Ready(Some(first)) = source.poll(&mut mailbox, None).map(Result::transpose) {
            if !source.is_created {
                return first.and(Ok(Self { receiver: Receiver::idle(mailbox, source), id }));
            }
            source.put_back(first);
        }
        Ok(Self { receiver: Receiver::idle(mailbox, source), id })
    }

    /// Asks how far the watch has come. If it has caught up, a response without events is received after all that was sent,
    /// and else there is none (R-WCH-21).
    pub fn request_progress(&self) {
        self.receiver.mailbox.watch(&[WatchRequest::Progress]);
    }

    /// Returns how far the watcher is behind; `None` if it has ended, or the backend does not know.
    pub fn lag(&self) -> Option<Lag> {
        if self.receiver.is_ended() { None } else { self.receiver.mailbox.lag(self.id) }
    }
}

receives!(Watcher, WatchResponse);

fn begin(client: &Client, watch: Watch) -> (Mailbox, Watching, WatchId) {
    let mailbox = client.mailbox();
    // The first watcher of a stream that is left to choose has the id 0, which is that request's own.
    let (id, source) =
        (watch.id, Watching { next: watch.start, unread: None, is_created: false, is_ended: false });
    mailbox.watch(&[WatchRequest::Create(watch)]);
    (mailbox, source, id)
}

/// The only watcher of a stream.
struct Watching {
    /// The first revision that has not been received.
    next: Revision,
    unread: Option<Result<WatchResponse>>,
    is_created: bool,
    is_ended: bool,
}

impl Watching {
    /// Returns the response if it is for the user to see.
    fn accept(&mut self, response: WatchResponse) -> Result<Option<WatchResponse>> {
        match &response.body.kind {
            WatchResponseKind::Created => {
                self.is_created = true;
                return Ok(None);
            }
            // A watcher does not cancel itself, so the backend did.
            WatchResponseKind::Canceled | WatchResponseKind::Refused(_) => {
                return Err(response.ended_by_backend());
            }
            WatchResponseKind::Compacted(compacted) => {
                return Err(Error::Compacted { requested: self.next, compacted: Some(*compacted) });
            }
            WatchResponseKind::Events { events, .. } => {
                let last = events.as_slice().last();
                self.next = last.map_or(self.next, |event| event.kv.mod_revision().next());
            }
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
    /// Watches keys. If the store refuses to, the first receiving says so.
    pub fn watch(&self, watch: impl Into<Watch>) -> Watcher {
        Watcher::new(self, watch.into())
    }
}
