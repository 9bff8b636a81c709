use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::wake::wake;
use crate::api::{Delivery, StreamId, Timestamp};
use crate::sync::Mutex;

/// A waiter's mailbox, and its watch stream: everything that a [`Backend`](crate::Backend) has to tell it, in one order.
///
/// A backend either [pushes](Self::push) each delivery, or [notifies](Self::notify) the inbox once that there is something
/// and gives it when asked to [`pull`](crate::Backend::pull). Either gives back whom to wake, which is to be done with no
/// lock held.
///
/// # No wake-up is lost
///
/// Contents and waker are under one small mutex. Who looks and finds nothing registers its waker in the same critical
/// section; who puts something in takes the waker in the same one. So either the look sees the item, or the push sees
/// the waker. A backend that is pulled from marks, in the critical section in which it hands over all it has, that the
/// stream is awaited, and notifies once that is so and something comes. The inbox's own mark of that is taken down before
/// it pulls, so that what comes during the pull puts it up again.
pub struct Inbox {
    id: InboxId,
    stream: OnceLock<StreamId>,
    contents: Mutex<Contents>,
    token: OnceLock<(Sender<()>, Receiver<()>)>,
}

/// The identity of an [`Inbox`]: no other inbox of the process has it, before or after.
///
/// Ids ascend in the order of creation, so a map that is ordered by them is deterministic where the creation of inboxes is. They
/// mean nothing else, and the number is not the same in another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(u64);

impl InboxId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Only the uniqueness of the number matters, so no ordering is needed.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Contents {
    queue: VecDeque<Delivery>,
    /// Whether the backend has more.
    is_notified: bool,
    is_closed: bool,
    /// Whether its taker knows that.
    is_seen_closed: bool,
    /// Since when there is what was added last, by pulling or pushing.
    since: Option<Timestamp>,
    /// Since when the backend has more.
    notified_at: Option<Timestamp>,
    waker: Option<Waker>,
}

/// What there is in an inbox.
pub(super) enum Look {
    Delivery(Delivery),
    /// Nothing, but the backend may have something.
    MustPull,
    Nothing,
    Closed,
}

impl Contents {
    fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.is_notified || self.is_closed && !self.is_seen_closed
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> Self {
        let contents = Contents {
            queue: VecDeque::new(),
            is_notified: false,
            is_closed: false,
            is_seen_closed: false,
            since: None,
            notified_at: None,
            waker: None,
        };
        Self {
            id: InboxId::next(),
            stream: OnceLock::new(),
            contents: Mutex::new(contents),
            token: OnceLock::new(),
        }
    }

    /// Returns the id of this inbox, for a backend that keeps a record for each inbox.
    ///
    /// ```
    /// use leasehold::Inbox;
    ///
    /// let (one, other) = (Inbox::new(), Inbox::new());
    /// assert_eq!(one.id(), one.id());
    /// assert_ne!(one.id(), other.id());
    /// ```
    pub fn id(&self) -> InboxId {
        self.id
    }

    /// Where a backend over an [`Engine`](crate::Engine) notes which of its streams this is.
    pub fn stream(&self) -> &OnceLock<StreamId> {
        &self.stream
    }

    /// Adds a delivery, at a time of the backend. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn push(&self, delivery: Delivery, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if contents.queue.is_empty() {
                contents.since = Some(now);
            }
            contents.queue.push_back(delivery);
        })
    }

    /// Notes that there is something to be pulled, at a time of the backend. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn notify(&self, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if !std::mem::replace(&mut contents.is_notified, true) {
                contents.notified_at = Some(now);
            }
        })
    }

    /// Notes that the backend is gone: after what is in the inbox nothing comes. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn close(&self) -> Option<Waker> {
        self.change(|contents| contents.is_closed = true)
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Option<Waker> {
        let mut contents = self.contents.lock();
        change(&mut contents);
        self.settle(&contents);
        contents.waker.take()
    }

    /// Lets a backend that is asked to pull add what it has. The closure appends to the queue, which has the deliveries that were
    /// not received yet, and returns whether there is more. It runs without any lock of the inbox, and if it panics, the inbox is
    /// pulled for again.
    pub fn fill(&self, pull: impl FnOnce(&mut VecDeque<Delivery>) -> bool) {
        let queue = std::mem::take(&mut self.contents.lock().queue);
        let mut filling = Filling { inbox: self, queue, has_more: true };
        filling.has_more = pull(&mut filling.queue);
    }

    /// Takes what is there, without waiting: the first delivery, and the others into `rest`, which is empty. Registers the
    /// waker, if there is one, where there is nothing.
    pub(super) fn look(&self, rest: &mut VecDeque<Delivery>, waker: Option<&Waker>) -> Look {
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents, rest);
        let (Look::Nothing, Some(waker)) = (&look, waker) else {
            return look;
        };
        if contents.waker.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            return look;
        }
        drop(contents);
        // Cloning and dropping wakers is foreign code, so neither is done under the lock; hence the second look.
        let waker = waker.clone();
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents, rest);
        let displaced =
            if matches!(look, Look::Nothing) { contents.waker.replace(waker) } else { Some(waker) };
        drop(contents);
        drop(displaced);
        look
    }

    fn look_into(&self, contents: &mut Contents, rest: &mut VecDeque<Delivery>) -> Look {
        let look = if let Some(delivery) = contents.queue.pop_front() {
            if !self.has_token() {
                std::mem::swap(&mut contents.queue, rest);
            }
            Look::Delivery(delivery)
        } else if std::mem::take(&mut contents.is_notified) {
            contents.since = contents.notified_at.take();
            return Look::MustPull;
        } else if contents.is_closed {
            contents.is_seen_closed = true;
            Look::Closed
        } else {
            Look::Nothing
        };
        self.settle(contents);
        look
    }

    /// Puts back what was taken and not used.
    pub(super) fn put_back(&self, rest: &mut VecDeque<Delivery>) {
        let mut contents = self.contents.lock();
        rest.append(&mut contents.queue);
        std::mem::swap(&mut contents.queue, rest);
        self.settle(&contents);
    }

    /// Calls `read` with the deliveries in the queue. Returns its result, and the time from which the deliveries that were added last
    /// are available, if it is known.
    pub(super) fn peek<T>(&self, read: impl FnOnce(&VecDeque<Delivery>) -> T) -> (T, Option<Timestamp>) {
        let contents = self.contents.lock();
        (read(&contents.queue), contents.since)
    }

    /// Returns a channel that holds a token while there is something, or if `has_rest` reports that the receiver has a delivery. From
    /// then on, deliveries are received one by one.
    pub(super) fn ready(&self, has_rest: bool) -> &Receiver<()> {
        let (sender, receiver) = self.token.get_or_init(|| bounded(1));
        self.settle(&self.contents.lock());
        if has_rest {
            sender.try_send(()).unwrap_or_default();
        }
        receiver
    }

    /// Whether anybody has asked for the channel.
    pub(super) fn has_token(&self) -> bool {
        self.token.get().is_some()
    }

    /// Sees to it that the channel, once somebody has asked for it, holds its token if and only if there is something.
    fn settle(&self, contents: &Contents) {
        if let Some((sender, receiver)) = self.token.get() {
            // Neither waits, and that the token is there or gone already is what is wanted.
            if contents.has_something() {
                sender.try_send(()).unwrap_or_default();
            } else {
                receiver.try_recv().unwrap_or_default();
            }
        }
    }
}

/// The queue of an inbox that is being filled; dropping it puts it back.
struct Filling<'a> {
    inbox: &'a Inbox,
    queue: VecDeque<Delivery>,
    has_more: bool,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let mut contents = self.inbox.contents.lock();
        self.queue.append(&mut contents.queue);
        std::mem::swap(&mut contents.queue, &mut self.queue);
        if self.has_more && !std::mem::replace(&mut contents.is_notified, true) {
            // It has been there since what was pulled before it has.
            contents.notified_at = contents.since;
        }
        self.inbox.settle(&contents);
    }
}

/// Wakes the receiver to poll again.
impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        if let Some(waker) = self.change(|contents| contents.is_notified = true) {
            wake(waker);
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("stream", &self.stream.get()).finish_non_exhaustive()
    }
}
