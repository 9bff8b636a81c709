use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;
use std::task::Waker;

use crossbeam_channel::{Receiver, Sender, bounded};

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
    stream: OnceLock<StreamId>,
    contents: Mutex<Contents>,
    token: OnceLock<(Sender<()>, Receiver<()>)>,
}

struct Contents {
    queue: VecDeque<Delivery>,
    /// Whether the backend has more.
    is_notified: bool,
    is_closed: bool,
    /// Since when there is something in the queue.
    since: Option<Timestamp>,
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
        !self.queue.is_empty() || self.is_notified || self.is_closed
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> Self {
        let contents = Contents {
            queue: VecDeque::new(),
            is_notified: true,
            is_closed: false,
            since: None,
            waker: None,
        };
        Self { stream: OnceLock::new(), contents: Mutex::new(contents), token: OnceLock::new() }
    }

    /// Where a backend over an [`Engine`](crate::Engine) notes which of its streams this is.
    pub fn stream(&self) -> &OnceLock<StreamId> {
        &self.stream
    }

    /// Adds a delivery. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn push(&self, delivery: Delivery) -> Option<Waker> {
        self.change(|contents| contents.queue.push_back(delivery))
    }

    /// Notes that there is something to be pulled. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn notify(&self) -> Option<Waker> {
        self.change(|contents| contents.is_notified = true)
    }

    /// Notes that the backend is gone: after what is in the inbox nothing comes. Gives whom to wake.
    #[must_use = "who waits for it has to be woken"]
    pub fn close(&self) -> Option<Waker> {
        self.change(|contents| contents.is_closed = true)
    }

    /// Lets a backend that is asked to pull add what it has. The closure gives whether there is more, and since when what it
    /// adds has been there; it runs without any lock of the inbox.
    pub fn fill(&self, pull: impl FnOnce(&mut VecDeque<Delivery>) -> (bool, Option<Timestamp>)) {
        let mut queue = std::mem::take(&mut self.contents.lock().queue);
        let was_empty = queue.is_empty();
        let (has_more, since) = pull(&mut queue);
        let mut contents = self.contents.lock();
        queue.append(&mut contents.queue);
        contents.queue = queue;
        contents.is_notified |= has_more;
        if was_empty {
            contents.since = since;
        }
        self.settle(&contents);
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Option<Waker> {
        let mut contents = self.contents.lock();
        change(&mut contents);
        self.settle(&contents);
        contents.waker.take()
    }

    /// Takes what is there, without waiting.
    pub(super) fn look(&self) -> Look {
        let mut contents = self.contents.lock();
        self.look_into(&mut contents)
    }

    /// The same, and registers the waker if there is nothing.
    pub(super) fn look_or_register(&self, waker: &Waker) -> Look {
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents);
        let is_registered = contents.waker.as_ref().is_some_and(|registered| registered.will_wake(waker));
        if !matches!(look, Look::Nothing) || is_registered {
            return look;
        }
        drop(contents);
        // Cloning and dropping wakers is foreign code, so neither is done under the lock; hence the second look.
        let waker = waker.clone();
        let mut contents = self.contents.lock();
        let look = self.look_into(&mut contents);
        let displaced =
            if matches!(look, Look::Nothing) { contents.waker.replace(waker) } else { Some(waker) };
        drop(contents);
        drop(displaced);
        look
    }

    fn look_into(&self, contents: &mut Contents) -> Look {
        let look = if let Some(delivery) = contents.queue.pop_front() {
            Look::Delivery(delivery)
        } else if std::mem::take(&mut contents.is_notified) {
            Look::MustPull
        } else if contents.is_closed {
            Look::Closed
        } else {
            Look::Nothing
        };
        if !matches!(look, Look::MustPull) {
            self.settle(contents);
        }
        look
    }

    /// The first delivery that is there, as `read` sees it, and since when there is one.
    pub(super) fn peek<T>(&self, read: impl FnMut(&Delivery) -> Option<T>) -> Option<(T, Option<Timestamp>)> {
        let contents = self.contents.lock();
        let found = contents.queue.iter().find_map(read)?;
        Some((found, contents.since))
    }

    /// A channel that holds a token while there is something.
    pub(super) fn ready(&self) -> &Receiver<()> {
        let (_, receiver) = self.token.get_or_init(|| bounded(1));
        self.settle(&self.contents.lock());
        receiver
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
