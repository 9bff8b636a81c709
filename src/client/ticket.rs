use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::handle::Client;
use super::mailbox::Mailbox;
use crate::Result;
use crate::api::Delivery;

/// Something that is waited for.
///
/// It is under way as soon as it exists, and keeps its place however often it is waited for in vain. Wait for it by
/// [`wait`](Self::wait), for a time by [`wait_timeout`](Self::wait_timeout), look by [`try_take`](Self::try_take), `.await`
/// it, or `select!` on [`ready`](Self::ready). Dropping it gives the place up, at once. It keeps its store alive.
#[must_use = "dropping a ticket gives up the place"]
pub struct Ticket<T> {
    /// Before the state: what is subscribed to ends before the place is given up, which others see.
    mailbox: Mailbox,
    state: State<T>,
}

enum State<T> {
    Waiting(Box<dyn Wait<T>>),
    /// It is there, and can still be given up.
    Done(Result<T>, Box<dyn Wait<T>>),
    Taken,
}

/// A wait as a state machine: explicit phases, and a poll that goes through them.
pub(crate) trait Wait<T>: Send {
    /// Goes as far as the deliveries in the mailbox allow, and registers the waker, if there is one, for the next.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>>;

    /// Called when the result is returned to the caller: from then on, dropping the wait withdraws nothing.
    fn taken(&mut self) {}
}

impl<T> Ticket<T> {
    /// Begins to wait: goes as far as that goes at once.
    pub(crate) fn new(client: &Client, wait: impl Wait<T> + 'static) -> Self {
        Self::begin(client.mailbox(), wait)
    }

    fn begin(mut mailbox: Mailbox, mut wait: impl Wait<T> + 'static) -> Self {
        let state = match wait.poll(&mut mailbox, None) {
            Poll::Ready(result) => State::Done(result, Box::new(wait)),
            Poll::Pending => State::Waiting(Box::new(wait)),
        };
        Self { mailbox, state }
    }

    /// Waits until it is there.
    ///
    /// # Errors
    ///
    /// What ended the waiting; [`Stopped`](crate::Error::Stopped) if the store was closed.
    ///
    /// # Panics
    ///
    /// If it was taken already, or has given an error.
    pub fn wait(mut self) -> Result<T> {
        let state = &mut self.state;
        self.mailbox.block(|mailbox, waker| state.poll(mailbox, waker))
    }

    /// Waits until it is there, for some of the store's time at the most. `None` says that the time has passed before; the
    /// ticket keeps its place until it is dropped. What comes at the very instant still counts, and a duration of zero only looks.
    ///
    /// In a `match` on this, a ticket without a name is dropped at the end of the whole `match`, and may get its turn meanwhile.
    /// Give it a name, or use `let else`. Under a [`ManualClock`](crate::ManualClock), time passes only if another thread moves it:
    /// in a test with one thread, [`try_take`](Self::try_take) after moving the clock.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If it was taken already, or has given an error.
    pub fn wait_timeout(&mut self, duration: Duration) -> Result<Option<T>> {
        let at = self.mailbox.now() + duration;
        let state = &mut self.state;
        self.mailbox.block_until(at, |mailbox, waker| state.poll(mailbox, waker)).transpose()
    }

    /// Takes it if it is there.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If it was taken already, or has given an error.
    pub fn try_take(&mut self) -> Result<Option<T>> {
        match self.state.poll(&mut self.mailbox, None) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// A channel that holds a token while [`try_take`](Self::try_take) may find something, for `select!`. It puts the token
    /// back if there is more to look at.
    pub fn ready(&self) -> &Receiver<()> {
        self.mailbox.ready(matches!(self.state, State::Done(..)))
    }
}

impl<T> State<T> {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>> {
        if let Self::Waiting(wait) = self {
            let result = ready!(wait.poll(mailbox, waker));
            mailbox.end();
            wait.taken();
            *self = Self::Taken;
            return Poll::Ready(result);
        }
        match std::mem::replace(self, Self::Taken) {
            Self::Done(result, mut wait) => {
                mailbox.end();
                wait.taken();
                Poll::Ready(result)
            }
            Self::Waiting(_) | Self::Taken => panic!("a ticket is taken once"),
        }
    }
}

/// Nothing here is pinned in place.
impl<T> Unpin for Ticket<T> {}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { mailbox, state } = &mut *self;
        state.poll(mailbox, Some(context.waker()))
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting(_) => "waiting",
            State::Done(..) => "done",
            State::Taken => "taken",
        };
        f.debug_tuple("Ticket").field(&state).finish()
    }
}

/// Waits for the mailbox's alarm.
struct Sleep;

impl Wait<()> for Sleep {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<()>> {
        loop {
            if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Ticket<()> {
    pub(super) fn sleep(client: &Client, duration: Duration) -> Self {
        let mut mailbox = client.mailbox();
        let until = client.now() + duration;
        mailbox.set_alarm(Some(until));
        Self::begin(mailbox, Sleep)
    }
}
