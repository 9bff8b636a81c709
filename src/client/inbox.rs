use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Wake, Waker};

use crossbeam_channel::{Sender, bounded};

use super::wake::{contain, wake};
use crate::api::{Delivery, StreamId, Timestamp};
use crate::sync::Mutex;

/// A channel that holds a token while there may be something to receive, for `select!`. The token carries no data.
pub type ReadyChannel = crossbeam_channel::Receiver<()>;

/// A queue of a [`Backend`](crate::backend::Backend)'s deliveries to one receiver, in the order in which the backend decided
/// them. It is also the receiver's watch stream.
///
/// A backend either [pushes](Self::push) each delivery, or it [notifies](Self::notify) the inbox once and [fills](Self::fill) it
/// when it is [pulled](crate::backend::Backend::pull) from. `push`, `notify` and [`close`](Self::close) return the waker of a
/// receiver that waits. The backend calls the waker after it has released its locks.
///
/// An inbox has one receiver: the code that created the inbox. The tickets and receivers of this crate create one for themselves.
/// A [`Layer`](crate::backend::Layer) creates its own and receives by [`poll_recv`](Self::poll_recv), never from an inbox that it
/// is passed.
///
/// ```
/// use leasehold::{LeaseId, Store};
/// use leasehold::clock::Timestamp;
/// use leasehold::backend::{Delivery, Inbox};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::task::{Context, Poll, Wake, Waker};
///
/// #[derive(Default)]
/// struct Receiver {
///     wakes: AtomicUsize,
/// }
///
/// impl Wake for Receiver {
///     fn wake(self: Arc<Self>) {
///         self.wakes.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let (store, inbox, receiver) = (Store::new(), Inbox::new(), Arc::new(Receiver::default()));
/// let waker = Waker::from(Arc::clone(&receiver));
/// let mut poll = || inbox.poll_recv(&store, &mut Context::from_waker(&waker));
/// assert_eq!(poll(), Poll::Pending); // registers the waker
///
/// // The backend's part, with its time: only the first push finds a receiver that waits.
/// let ended = |id| Delivery::LeaseEnded(LeaseId::new(id));
/// inbox.push(ended(1), Timestamp::ORIGIN).expect("the receiver waits").wake();
/// assert!(inbox.push(ended(2), Timestamp::ORIGIN).is_none());
/// assert_eq!(receiver.wakes.load(Ordering::Relaxed), 1);
///
/// assert_eq!(poll(), Poll::Ready(Some(ended(1))));
/// assert_eq!(poll(), Poll::Ready(Some(ended(2))));
/// assert_eq!(poll(), Poll::Pending);
///
/// // A notified receiver is woken too. It finds nothing here, since the store has nothing for this inbox.
/// inbox.notify(Timestamp::ORIGIN).expect("the receiver waits").wake();
/// assert_eq!(poll(), Poll::Pending);
///
/// inbox.close().expect("the receiver waits").wake();
/// assert_eq!(poll(), Poll::Ready(None));
/// ```
///
/// # No wake-up is lost
///
/// Contents and waker share one mutex. A receiver that finds the inbox empty registers its waker before it unlocks, and `push`,
/// `notify` and `close` take the waker before they unlock. The mark of a notification is cleared before the backend is pulled
/// from, so a notification during the pull is kept. A backend that is pulled from decides under its own lock whether it has
/// handed over everything: if so, it notifies the inbox of the next delivery.
pub struct Inbox {
    id: InboxId,
    stream: OnceLock<StreamId>,
    contents: Mutex<Contents>,
    token: OnceLock<(Sender<()>, ReadyChannel)>,
}

/// The identity of an [`Inbox`]: no other inbox of the process has it, before or after.
///
/// Ids ascend in the order of creation, so a map that is ordered by them is deterministic where the creation of inboxes is. They
/// mean nothing else, and the number is not the same in another run. An id has no public number: a backend over a network numbers
/// its streams itself.
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
    /// Whether the backend is to be pulled from.
    is_notified: bool,
    is_closed: bool,
    /// Whether the receiver knows that the inbox is closed.
    is_seen_closed: bool,
    /// The time from which the deliveries that were added last, by a pull or a push, are available.
    since: Option<Timestamp>,
    /// The time of the notification, or of an earlier one whose deliveries were pulled in part.
    notified_at: Option<Timestamp>,
    waker: Option<Waker>,
}

/// The contents of an inbox, as its receiver finds them.
enum Look {
    Delivery(Delivery),
    /// The queue is empty, and the backend is to be pulled from.
    MustPull,
    Nothing,
    Closed,
}

impl Contents {
    fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.is_notified || self.is_closed && !self.is_seen_closed
    }

    /// Notes that a pull left deliveries with the backend. They are available at least as long as the pulled ones.
    fn must_pull_again(&mut self) {
        if !std::mem::replace(&mut self.is_notified, true) {
            self.notified_at = self.since;
        }
    }
}

impl Inbox {
    /// Creates an empty inbox.
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
    /// use leasehold::backend::Inbox;
    ///
    /// let (one, other) = (Inbox::new(), Inbox::new());
    /// assert_eq!(one.id(), one.id());
    /// assert_ne!(one.id(), other.id());
    /// ```
    pub fn id(&self) -> InboxId {
        self.id
    }

    /// Returns the cell in which a backend over an [`Engine`](crate::engine::Engine) keeps the id of this inbox's stream.
    pub fn stream(&self) -> &OnceLock<StreamId> {
        &self.stream
    }

    /// Adds a delivery. `now` is the backend's time. Returns the waker to call, if the receiver waits.
    #[must_use = "a receiver that waits has to be woken"]
    pub fn push(&self, delivery: Delivery, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if contents.queue.is_empty() {
                contents.since = Some(now);
            }
            contents.queue.push_back(delivery);
        })
    }

    /// Notes that the backend has deliveries, so that the receiver's next poll [pulls](crate::backend::Backend::pull) from it.
    /// `now` is the backend's time. Returns the waker to call, if the receiver waits.
    #[must_use = "a receiver that waits has to be woken"]
    pub fn notify(&self, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if !std::mem::replace(&mut contents.is_notified, true) {
                contents.notified_at = Some(now);
            }
        })
    }

    /// Notes that nothing comes any more. The receiver receives the deliveries that are left, and then the end. Returns the waker
    /// to call, if the receiver waits.
    #[must_use = "a receiver that waits has to be woken"]
    pub fn close(&self) -> Option<Waker> {
        self.change(|contents| contents.is_closed = true)
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Option<Waker> {
        let mut contents = self.contents.lock();
        change(&mut contents);
        self.settle(&contents);
        contents.waker.take()
    }

    /// Adds deliveries when the backend is [pulled](crate::backend::Backend::pull) from. The closure appends to the queue, which
    /// holds the deliveries that were not received yet, and returns whether the backend has more. The inbox is not locked while
    /// the closure runs.
    ///
    /// # Panics
    ///
    /// If the closure panics. The queue is kept, and the inbox stays notified.
    pub fn fill(&self, pull: impl FnOnce(&mut VecDeque<Delivery>) -> bool) {
        let queue = std::mem::take(&mut self.contents.lock().queue);
        let mut filling = Filling { inbox: self, queue, has_more: true };
        filling.has_more = pull(&mut filling.queue);
    }

    /// Receives the next delivery as [`poll_recv`](Self::poll_recv) does, by `pull` where that pulls from a backend, and moves
    /// the later ones into `rest`, which is empty, unless the channel was requested.
    pub(super) fn receive(
        &self,
        mut pull: impl FnMut(&Self),
        mut rest: Option<&mut VecDeque<Delivery>>,
        waker: Option<&Waker>,
    ) -> Poll<Option<Delivery>> {
        loop {
            match self.look(rest.as_deref_mut(), waker) {
                Look::Delivery(delivery) => return Poll::Ready(Some(delivery)),
                Look::MustPull => {
                    let mut pulling = Pulling { inbox: self, is_done: false };
                    pull(self);
                    pulling.is_done = true;
                }
                Look::Closed => return Poll::Ready(None),
                Look::Nothing => return Poll::Pending,
            }
        }
    }

    /// Takes the first delivery and moves the later ones into `rest`. Registers the waker if there is nothing.
    fn look(&self, mut rest: Option<&mut VecDeque<Delivery>>, waker: Option<&Waker>) -> Look {
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents, rest.as_deref_mut());
        let (Look::Nothing, Some(waker)) = (&look, waker) else {
            return look;
        };
        if contents.waker.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            return look;
        }
        drop(contents);
        // Cloning and dropping a waker runs user code, so both happen outside the lock. A delivery may come before the lock is
        // acquired again, hence the second look.
        let waker = waker.clone();
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents, rest);
        let displaced =
            if matches!(look, Look::Nothing) { contents.waker.replace(waker) } else { Some(waker) };
        drop(contents);
        contain(|| drop(displaced));
        look
    }

    fn look_into(&self, contents: &mut Contents, rest: Option<&mut VecDeque<Delivery>>) -> Look {
        let look = if let Some(delivery) = contents.queue.pop_front() {
            if let Some(rest) = rest
                && !self.has_token()
            {
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

    /// Puts back the deliveries that were moved into `rest`.
    pub(super) fn put_back(&self, rest: &mut VecDeque<Delivery>) {
        let mut contents = self.contents.lock();
        rest.append(&mut contents.queue);
        std::mem::swap(&mut contents.queue, rest);
        self.settle(&contents);
    }

    /// Calls `read` with the deliveries in the queue. Returns its result, and the time from which the deliveries that were added
    /// last are available, if it is known.
    pub(super) fn peek<T>(&self, read: impl FnOnce(&VecDeque<Delivery>) -> T) -> (T, Option<Timestamp>) {
        let contents = self.contents.lock();
        (read(&contents.queue), contents.since)
    }

    /// Returns a channel that holds a token while there is something, or if `has_rest` reports that the receiver has a delivery.
    /// From then on, deliveries are received one by one.
    pub(super) fn ready(&self, has_rest: bool) -> &ReadyChannel {
        let (sender, receiver) = self.token.get_or_init(|| bounded(1));
        self.settle(&self.contents.lock());
        if has_rest {
            sender.try_send(()).unwrap_or_default();
        }
        receiver
    }

    /// Returns whether the channel was requested.
    pub(super) fn has_token(&self) -> bool {
        self.token.get().is_some()
    }

    /// Makes the channel, if it was requested, hold its token if and only if there is something.
    fn settle(&self, contents: &Contents) {
        if let Some((sender, receiver)) = self.token.get() {
            // Neither call waits, and both succeed or find the token as it should be.
            if contents.has_something() {
                sender.try_send(()).unwrap_or_default();
            } else {
                receiver.try_recv().unwrap_or_default();
            }
        }
    }
}

/// The queue of an inbox that is filled. Dropping it puts the queue back.
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
        if self.has_more {
            contents.must_pull_again();
        }
        self.inbox.settle(&contents);
    }
}

/// Keeps an inbox notified if the backend panics while it is pulled from.
struct Pulling<'a> {
    inbox: &'a Inbox,
    is_done: bool,
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut contents = self.inbox.contents.lock();
            contents.must_pull_again();
            self.inbox.settle(&contents);
        }
    }
}

/// Notifies the inbox without a time: the receiver polls again, and pulls from its backend.
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
