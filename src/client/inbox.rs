use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Wake, Waker};

use crossbeam_channel::{Sender, bounded};

use super::wake::{contain, wake};
use crate::api::{Delivery, StreamId, Timestamp};
use crate::sync::Mutex;

/// A channel for `select!` that holds a token while an item may be available. The token carries no data.
pub type ReadyChannel = crossbeam_channel::Receiver<()>;

/// A queue of a [`Backend`](crate::backend::Backend)'s deliveries to one receiver, in the order in which the backend
/// decided them.
///
/// An inbox also identifies the receiver's watch stream. A backend either [pushes](Self::push) each delivery, or it
/// [notifies](Self::notify) the inbox that there are deliveries, and [fills](Self::fill) the inbox when the inbox
/// [pulls](crate::backend::Backend::pull). `push`, `notify` and [`close`](Self::close) return the waker of a waiting
/// receiver. The backend calls the waker after it has released its locks.
///
/// An inbox has one receiver: the code that created the inbox. Each ticket and each receiver of this crate creates an
/// inbox for itself. A [`Layer`](crate::backend::Layer) creates inner inboxes and receives from them by
/// [`poll_recv`](Self::poll_recv). A layer never receives from an inbox that a client passes to it.
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
/// // Push two deliveries, as a backend does at its own time. Only the first push returns the waker, which is
/// // registered once.
/// let ended = |id| Delivery::LeaseEnded(LeaseId::new(id));
/// inbox.push(ended(1), Timestamp::ORIGIN).expect("the receiver waits").wake();
/// assert!(inbox.push(ended(2), Timestamp::ORIGIN).is_none());
/// assert_eq!(receiver.wakes.load(Ordering::Relaxed), 1);
///
/// assert_eq!(poll(), Poll::Ready(Some(ended(1))));
/// assert_eq!(poll(), Poll::Ready(Some(ended(2))));
/// assert_eq!(poll(), Poll::Pending);
///
/// // A notification returns the waker too. The next poll pulls from the store, which has no delivery for this inbox.
/// inbox.notify(Timestamp::ORIGIN).expect("the receiver waits").wake();
/// assert_eq!(poll(), Poll::Pending);
///
/// inbox.close().expect("the receiver waits").wake();
/// assert_eq!(poll(), Poll::Ready(None));
/// ```
///
/// # No wake-up is lost
///
/// The deliveries and the waker of an inbox share one mutex. A receiver that finds the inbox empty registers its waker
/// before it unlocks, and `push`, `notify` and `close` take the waker before they unlock.
///
/// The inbox clears the mark of a notification before it pulls, so a notification during the pull is kept. During a
/// pull, the backend decides under its own lock whether it has more deliveries for the inbox than the pull takes. If
/// it has more, the inbox stays notified. If it has no more, the backend notifies the inbox of the next new delivery.
pub struct Inbox {
    id: InboxId,
    stream: OnceLock<StreamId>,
    contents: Mutex<Contents>,
    token: OnceLock<(Sender<()>, ReadyChannel)>,
}

/// The identity of an [`Inbox`], which is unique in the process and is never reused.
///
/// Ids ascend in the order of creation. A map that is ordered by inbox ids is therefore deterministic if inboxes are
/// created in a deterministic order. An id has no public number, since the number differs between runs. A backend
/// over a network numbers its streams itself.
///
/// ```
/// use leasehold::backend::{Inbox, InboxId};
/// use std::collections::BTreeMap;
///
/// let (first, second) = (Inbox::new(), Inbox::new());
/// assert!(first.id() < second.id());
///
/// // The streams of a backend over a network, numbered by the backend.
/// let mut streams: BTreeMap<InboxId, u32> = BTreeMap::new();
/// for inbox in [&second, &first, &second] {
///     let next = streams.len() as u32;
///     streams.entry(inbox.id()).or_insert(next);
/// }
/// assert_eq!(streams.into_values().collect::<Vec<_>>(), [1, 0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(u64);

impl InboxId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // `Relaxed` suffices, since all changes of one atomic have one order: ids are unique and ascend.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Contents {
    queue: VecDeque<Delivery>,
    /// Whether the next poll pulls from the backend, unless the queue has a delivery.
    is_notified: bool,
    is_closed: bool,
    /// Whether a poll has reported to the receiver that the inbox is closed.
    is_seen_closed: bool,
    /// The time since which the oldest delivery in the queue is available: the time of a push to the empty queue, or
    /// the time of the notification before a pull. `None` before the first delivery, and after a pull whose
    /// notification had no time.
    oldest_at: Option<Timestamp>,
    /// The time of the notification that the next pull consumes. `None` if the inbox is not notified, or the
    /// notification has no time. A pull that leaves deliveries with the backend keeps its time for the next pull.
    notified_at: Option<Timestamp>,
    waker: Option<Waker>,
}

/// The result of one poll of an inbox.
enum Next {
    Delivery(Delivery),
    /// The queue is empty and the inbox is notified: pull from the backend and poll again.
    NeedsPull,
    Empty,
    Closed,
}

impl Contents {
    /// Returns whether a poll may be ready: there is a delivery, a notification, or a close that no poll has reported.
    fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.is_notified || self.is_closed && !self.is_seen_closed
    }

    /// Marks the inbox as notified again, because a pull panicked or left deliveries with the backend. The backend
    /// sends no new notification of these deliveries, so the time of the earlier notification is kept.
    fn must_pull_again(&mut self) {
        if !std::mem::replace(&mut self.is_notified, true) {
            self.notified_at = self.oldest_at;
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
            oldest_at: None,
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

    /// Returns the cell in which a backend over an [`Engine`](crate::engine::Engine) keeps the id of this inbox's
    /// stream.
    pub fn stream(&self) -> &OnceLock<StreamId> {
        &self.stream
    }

    /// Adds a delivery at the backend's time `now`. Returns the waker of a waiting receiver, which the backend calls.
    #[must_use = "the backend must wake the waiting receiver"]
    pub fn push(&self, delivery: Delivery, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if contents.queue.is_empty() {
                contents.oldest_at = Some(now);
            }
            contents.queue.push_back(delivery);
        })
    }

    /// Notifies the inbox at the backend's time `now` that the backend has deliveries.
    ///
    /// The receiver's next poll that finds the queue empty [pulls](crate::backend::Backend::pull) from the backend.
    /// Returns the waker of a waiting receiver, which the backend calls.
    #[must_use = "the backend must wake the waiting receiver"]
    pub fn notify(&self, now: Timestamp) -> Option<Waker> {
        self.change(|contents| {
            if !std::mem::replace(&mut contents.is_notified, true) {
                contents.notified_at = Some(now);
            }
        })
    }

    /// Closes the inbox. The receiver receives the deliveries that the inbox has or was notified of, and then `None`
    /// from each poll.
    ///
    /// Returns the waker of a waiting receiver, which the backend calls.
    #[must_use = "the backend must wake the waiting receiver"]
    pub fn close(&self) -> Option<Waker> {
        self.change(|contents| contents.is_closed = true)
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Option<Waker> {
        let mut contents = self.contents.lock();
        change(&mut contents);
        self.sync_token(&contents);
        contents.waker.take()
    }

    /// Adds deliveries: a backend calls this method in its [`pull`](crate::backend::Backend::pull).
    ///
    /// The closure appends to the queue of deliveries that were not received yet, and returns whether the backend has
    /// more. The inbox is not locked while the closure runs.
    ///
    /// # Panics
    ///
    /// Panics if the closure panics. The queue is kept after such a panic, and the inbox stays notified.
    pub fn fill(&self, pull: impl FnOnce(&mut VecDeque<Delivery>) -> bool) {
        let queue = std::mem::take(&mut self.contents.lock().queue);
        let mut filling = FillGuard { inbox: self, queue, has_more: true };
        filling.has_more = pull(&mut filling.queue);
    }

    /// Receives the next delivery, as [`poll_recv`](Self::poll_recv), but calls `pull` to pull from the backend.
    ///
    /// Unless the ready channel was requested, moves all other deliveries of the queue into `rest`, which must be
    /// empty.
    pub(super) fn receive(
        &self,
        mut pull: impl FnMut(&Self),
        mut rest: Option<&mut VecDeque<Delivery>>,
        waker: Option<&Waker>,
    ) -> Poll<Option<Delivery>> {
        loop {
            match self.poll_queue(rest.as_deref_mut(), waker) {
                Next::Delivery(delivery) => return Poll::Ready(Some(delivery)),
                Next::NeedsPull => {
                    // The pull runs without the lock of the inbox, since the backend calls `fill`, which acquires the
                    // lock.
                    let mut pulling = PullGuard { inbox: self, is_done: false };
                    pull(self);
                    pulling.is_done = true;
                }
                Next::Closed => return Poll::Ready(None),
                Next::Empty => return Poll::Pending,
            }
        }
    }

    /// Takes the first delivery of the queue. Unless the ready channel was requested, moves the other deliveries into
    /// `rest`. Registers the waker if the result is [`Next::Empty`].
    fn poll_queue(&self, mut rest: Option<&mut VecDeque<Delivery>>, waker: Option<&Waker>) -> Next {
        let mut contents = self.contents.lock();
        let next = self.take_next(&mut contents, rest.as_deref_mut());
        // Only a poll that finds nothing registers its waker.
        let (Next::Empty, Some(waker)) = (&next, waker) else {
            return next;
        };
        if contents.waker.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            return next;
        }
        drop(contents);
        // Cloning and dropping a waker runs user code, so both happen outside the lock. Poll the queue again after
        // the clone, since a delivery may have arrived before the lock was acquired again.
        let waker = waker.clone();
        let mut contents = self.contents.lock();
        let next = self.take_next(&mut contents, rest);
        let displaced = if matches!(next, Next::Empty) { contents.waker.replace(waker) } else { Some(waker) };
        drop(contents);
        contain(|| drop(displaced));
        next
    }

    /// Takes the first delivery of the queue. Unless the ready channel was requested, moves the other deliveries into
    /// `rest`. If the queue is empty and the inbox is notified, clears the notification and returns
    /// [`Next::NeedsPull`].
    fn take_next(&self, contents: &mut Contents, rest: Option<&mut VecDeque<Delivery>>) -> Next {
        let next = if let Some(delivery) = contents.queue.pop_front() {
            // If the ready channel was requested, the deliveries stay in the queue, since `sync_token` sets the token
            // for them.
            if let Some(rest) = rest
                && !self.has_ready_channel()
            {
                std::mem::swap(&mut contents.queue, rest);
            }
            Next::Delivery(delivery)
        } else if std::mem::take(&mut contents.is_notified) {
            // The mark `is_notified` is cleared before the pull, so a notification during the pull is kept. The token
            // stays set until the poll after the pull.
            contents.oldest_at = contents.notified_at.take();
            return Next::NeedsPull;
        } else if contents.is_closed {
            contents.is_seen_closed = true;
            Next::Closed
        } else {
            Next::Empty
        };
        self.sync_token(contents);
        next
    }

    /// Moves the deliveries in `rest` back to the front of the queue.
    pub(super) fn requeue(&self, rest: &mut VecDeque<Delivery>) {
        let mut contents = self.contents.lock();
        // The deliveries in `rest` were taken earlier, so they come before the deliveries in the queue.
        rest.append(&mut contents.queue);
        std::mem::swap(&mut contents.queue, rest);
        self.sync_token(&contents);
    }

    /// Calls `read` with the deliveries in the queue. Returns the result, and the time since which the oldest
    /// delivery in the queue is available, if known.
    pub(super) fn peek<T>(&self, read: impl FnOnce(&VecDeque<Delivery>) -> T) -> (T, Option<Timestamp>) {
        let contents = self.contents.lock();
        (read(&contents.queue), contents.oldest_at)
    }

    /// Returns a channel that holds a token while the inbox has a delivery, a notification, or a close that no poll
    /// has reported.
    ///
    /// `has_rest` states that the receiver holds a delivery or an item outside the inbox, which also sets the token.
    /// Once the channel was requested, [`receive`](Self::receive) takes one delivery at a time.
    pub(super) fn ready(&self, has_rest: bool) -> &ReadyChannel {
        let (sender, receiver) = self.token.get_or_init(|| bounded(1));
        // The inbox may have had a delivery before the channel was requested.
        self.sync_token(&self.contents.lock());
        if has_rest {
            sender.try_send(()).unwrap_or_default();
        }
        receiver
    }

    /// Returns whether the ready channel was requested.
    pub(super) fn has_ready_channel(&self) -> bool {
        self.token.get().is_some()
    }

    /// Sets or clears the token of the ready channel, if the channel was requested, to match the contents.
    fn sync_token(&self, contents: &Contents) {
        if let Some((sender, receiver)) = self.token.get() {
            // Neither `try_send` nor `try_recv` blocks. Each fails only if the token is already set or already
            // cleared, so ignore the failure.
            if contents.has_something() {
                sender.try_send(()).unwrap_or_default();
            } else {
                receiver.try_recv().unwrap_or_default();
            }
        }
    }
}

/// The queue of an inbox during [`Inbox::fill`]. Dropping the guard puts the queue back.
struct FillGuard<'a> {
    inbox: &'a Inbox,
    queue: VecDeque<Delivery>,
    has_more: bool,
}

impl Drop for FillGuard<'_> {
    fn drop(&mut self) {
        let mut contents = self.inbox.contents.lock();
        // Deliveries that were pushed during the pull come after the pulled ones.
        self.queue.append(&mut contents.queue);
        std::mem::swap(&mut contents.queue, &mut self.queue);
        if self.has_more {
            contents.must_pull_again();
        }
        self.inbox.sync_token(&contents);
    }
}

/// Keeps an inbox notified if the backend panics during a pull.
struct PullGuard<'a> {
    inbox: &'a Inbox,
    is_done: bool,
}

impl Drop for PullGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut contents = self.inbox.contents.lock();
            contents.must_pull_again();
            self.inbox.sync_token(&contents);
        }
    }
}

/// Notifies the inbox without a time, so that the receiver polls again and pulls from its backend.
impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        // A waker call has no time, so `notified_at` keeps the time of an earlier notification, if any.
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
