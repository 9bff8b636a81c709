use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::handle::Client;
use super::mailbox::Mailbox;
use crate::Result;
use crate::api::{Delivery, Timestamp};

/// Something that is waited for.
///
/// It is under way as soon as it exists, and keeps its place however often it is waited for in vain. Wait for it by
/// [`wait`](Self::wait), for a time by [`wait_timeout`](Self::wait_timeout), look by [`try_take`](Self::try_take), `.await`
/// it, or `select!` on [`ready`](Self::ready). Dropping it gives the place up, at once. It
/// keeps its store alive.
#[must_use = "dropping a ticket gives up the place"]
pub struct Ticket<T> {
    mailbox: Mailbox,
    /// `None` once it was taken.
    wait: Option<Box<dyn Wait<T>>>,
}

/// How something is waited for: explicit phases, and a poll that goes through them.
pub(super) trait Wait<T>: Send {
    /// Goes as far as the deliveries in the mailbox allow, and registers the waker, if there is one, for the next. A timer that is not its own it gives back.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<T>>;

    /// The instant at which it wants to be polled itself.
    fn timer(&self) -> Option<Timestamp> {
        None
    }
}

pub(super) enum Step<T> {
    Done(Result<T>),
    TimedOut,
}

impl<T> Ticket<T> {
    pub(super) fn new(mailbox: Mailbox, wait: impl Wait<T> + 'static) -> Self {
        Self { mailbox, wait: Some(Box::new(wait)) }
    }

    /// Waits until it is there.
    ///
    /// # Errors
    ///
    /// What ended the waiting; [`Stopped`](crate::Error::Stopped) if the store was closed.
    ///
    /// # Panics
    ///
    /// If it was taken already.
    pub fn wait(mut self) -> Result<T> {
        let wait = self.wait.as_mut().expect("a ticket is taken once");
        self.mailbox.block(|mailbox, waker| poll_done(&mut **wait, mailbox, waker))
    }

    /// Waits until it is there, for some of the store's time at the most. `None` says that the time has passed before; the
    /// ticket keeps its place. What comes at the very instant still counts.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If it was taken already.
    pub fn wait_timeout(&mut self, duration: Duration) -> Result<Option<T>> {
        let wait = self.wait.as_mut().expect("a ticket is taken once");
        let at = self.mailbox.now() + duration;
        let done = self.mailbox.block_until(at, wait.timer(), |mailbox, waker| {
            wait.poll(mailbox, waker).map(|step| match step {
                Step::Done(result) => Some(result),
                Step::TimedOut => None,
            })
        });
        self.finish(done)
    }

    /// Takes it if it is there.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If it was taken already.
    pub fn try_take(&mut self) -> Result<Option<T>> {
        let wait = self.wait.as_mut().expect("a ticket is taken once");
        match poll_done(&mut **wait, &mut self.mailbox, None) {
            Poll::Ready(result) => self.finish(Some(result)),
            Poll::Pending => Ok(None),
        }
    }

    fn finish(&mut self, done: Option<Result<T>>) -> Result<Option<T>> {
        if done.is_some() {
            self.wait = None;
        }
        done.transpose()
    }

    /// A channel that holds a token while [`try_take`](Self::try_take) may find something, for `select!`. It puts the token
    /// back if there is more to look at.
    pub fn ready(&self) -> &Receiver<()> {
        self.mailbox.ready()
    }
}

fn poll_done<T>(wait: &mut dyn Wait<T>, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>> {
    loop {
        if let Step::Done(result) = std::task::ready!(wait.poll(mailbox, waker)) {
            return Poll::Ready(result);
        }
    }
}

/// Nothing here is pinned in place.
impl<T> Unpin for Ticket<T> {}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { mailbox, wait } = &mut *self;
        let result = std::task::ready!(poll_done(
            &mut **wait.as_mut().expect("a ticket is taken once"),
            mailbox,
            Some(context.waker())
        ));
        *wait = None;
        Poll::Ready(result)
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("is_taken", &self.wait.is_none()).finish_non_exhaustive()
    }
}

/// Waits for an instant.
struct Sleep {
    until: Timestamp,
}

impl Wait<()> for Sleep {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<()>> {
        loop {
            match std::task::ready!(mailbox.poll(waker)) {
                Ok(Delivery::Timer(at)) if at == self.until => return Poll::Ready(Step::Done(Ok(()))),
                Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                Ok(Delivery::Watch(_)) => {}
                Err(error) => return Poll::Ready(Step::Done(Err(error))),
            }
        }
    }

    fn timer(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

impl Ticket<()> {
    pub(super) fn sleep(client: &Client, duration: Duration) -> Self {
        let mut mailbox = Mailbox::new(client.backend().clone());
        let until = client.now() + duration;
        mailbox.set_timer(Some(until));
        Self::new(mailbox, Sleep { until })
    }
}
