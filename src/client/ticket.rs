use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::handle::Client;
use super::inbox::ReadyChannel;
use super::mailbox::Mailbox;
use crate::Result;
use crate::api::Delivery;

/// A wait that has begun: for a queued lock, a candidacy, the loss of either, or a timer.
///
/// It keeps its place however often it is waited for in vain: by [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout),
/// [`try_wait`](Self::try_wait), `.await`, or `select!` on [`ready_channel`](Self::ready_channel). Dropping it gives up the place at once. It keeps
/// its store alive.
///
/// A ticket may hand over a lock that is lost by now, since a lease can end at any moment: between the acquisition and the wait,
/// and right after any check. `guard.check().wait()` reports whether it was lost; what must not happen without the lock goes
/// through `guard.txn()`, or takes `guard.token()` to a fence.
///
/// ```
/// use leasehold::concurrency::{Mutex, Session};
/// use leasehold::{Error, ManualClock, Store, TxnOp};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let session = Session::open(&store, Duration::from_secs(5)).wait()?;
/// let ticket = Mutex::new(&session, "disk").lock(); // acquired at once: the lock is free
/// session.pause().wait()?; // the process hangs
/// clock.advance(Duration::from_secs(5)); // its lease ends
///
/// let guard = ticket.wait()?;
/// assert_eq!(guard.check().wait(), Err(Error::SessionExpired));
/// assert!(guard.txn().and_then([TxnOp::put("last", "me")]).commit().wait().is_err());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a ticket gives up its place"]
pub struct Ticket<T> {
    /// Before the state: the subscriptions end before the place is given up, which other waiters see.
    mailbox: Mailbox,
    state: State<T>,
}

enum State<T> {
    Waiting(Box<dyn Waiting<T>>),
    /// The result is there. Dropping the wait withdraws it.
    Done(Result<T>, Option<Box<dyn Waiting<T>>>),
    /// The result was returned, and is returned again to every later caller.
    Repeats(Result<T>, Box<dyn Waiting<T>>),
    Taken,
}

/// A wait as a state machine: explicit phases, and a poll that goes through them.
pub(crate) trait Waiting<T>: Send + Sync {
    /// Goes as far as the deliveries in the mailbox allow, and registers the waker, if there is one, for the next.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>>;

    /// Returns whether dropping the wait withdraws a result that no caller has taken.
    fn withdraws(&self) -> bool {
        false
    }

    /// Called when the result is returned to the caller: from then on, dropping the wait withdraws nothing.
    fn taken(&mut self) {}

    /// Returns the result once more, if it is one that stays true.
    fn repeat(&self, _result: &Result<T>) -> Option<Result<T>> {
        None
    }
}

impl<T> Ticket<T> {
    /// Begins a wait: goes as far as that is possible at once.
    pub(crate) fn new(client: &Client, wait: impl Waiting<T> + 'static) -> Self {
        Self::begin(client.mailbox(), wait)
    }

    /// A wait that is over already.
    pub(crate) fn completed(mailbox: Mailbox, result: Result<T>) -> Self {
        Self { mailbox, state: State::Done(result, None) }
    }

    fn begin(mut mailbox: Mailbox, mut wait: impl Waiting<T> + 'static) -> Self {
        let state = match wait.poll(&mut mailbox, None) {
            Poll::Ready(result) => {
                let is_kept = wait.withdraws() || wait.repeat(&result).is_some();
                State::Done(result, is_kept.then(|| Box::new(wait) as Box<dyn Waiting<T>>))
            }
            Poll::Pending => State::Waiting(Box::new(wait)),
        };
        Self { mailbox, state }
    }

    /// Blocks the thread until the result is there.
    ///
    /// # Errors
    ///
    /// The error that ended the wait; [`Stopped`](crate::Error::Stopped) if the store was closed.
    ///
    /// # Panics
    ///
    /// If the result was taken before, unless it is one that stays true, as a loss does.
    #[track_caller]
    pub fn wait(mut self) -> Result<T> {
        if !matches!(self.state, State::Waiting(_))
            && let Poll::Ready(result) = self.state.poll(&mut self.mailbox, None)
        {
            return result;
        }
        let state = &mut self.state;
        self.mailbox.block(|mailbox, waker| state.poll(mailbox, waker))
    }

    /// Blocks the thread until the result is there, or until this much of the store's time has passed: then returns `None`, and
    /// the ticket keeps its place until it is dropped. A result of the very instant still counts, and a timeout of zero does not
    /// block.
    ///
    /// In a `match` on this, a ticket without a name is dropped at the end of the whole `match`, and may get its turn before.
    /// Give it a name, or use `let else`. Under a [`ManualClock`](crate::ManualClock), time passes only if another thread moves it:
    /// in a test with one thread, call [`try_wait`](Self::try_wait) after moving the clock.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        let at = self.mailbox.now() + timeout;
        let state = &mut self.state;
        self.mailbox.block_until(at, |mailbox, waker| state.poll(mailbox, waker)).transpose()
    }

    /// Returns the result if it is there, without blocking.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn try_wait(&mut self) -> Result<Option<T>> {
        match self.state.poll(&mut self.mailbox, None) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Returns a channel that holds a token while [`try_wait`](Self::try_wait) may return something, for `select!`. `try_wait`
    /// puts the token back if there is more to process.
    pub fn ready_channel(&self) -> &ReadyChannel {
        self.mailbox.ready(matches!(self.state, State::Done(..) | State::Repeats(..)))
    }
}

impl<T> State<T> {
    #[track_caller]
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>> {
        if let Self::Repeats(result, wait) = self {
            return Poll::Ready(wait.repeat(result).expect("a result that repeats is returned again"));
        }
        let result = match self {
            Self::Waiting(wait) => Some(ready!(wait.poll(mailbox, waker))),
            _ => None,
        };
        mailbox.end();
        let (result, wait) = match (std::mem::replace(self, Self::Taken), result) {
            (Self::Waiting(wait), Some(result)) => (result, Some(wait)),
            (Self::Done(result, wait), _) => (result, wait),
            _ => panic!("the result of a ticket is taken once"),
        };
        let Some(mut wait) = wait else {
            return Poll::Ready(result);
        };
        wait.taken();
        if let Some(again) = wait.repeat(&result) {
            *self = Self::Repeats(result, wait);
            return Poll::Ready(again);
        }
        Poll::Ready(result)
    }
}

/// Nothing here is pinned in place.
impl<T> Unpin for Ticket<T> {}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { mailbox, state } = &mut *self;
        state.poll(mailbox, Some(context.waker()))
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting(_) => "waiting",
            State::Done(..) | State::Repeats(..) => "done",
            State::Taken => "taken",
        };
        f.debug_tuple("Ticket").field(&state).finish()
    }
}

/// Waits for the mailbox's alarm.
struct Sleep;

impl Waiting<()> for Sleep {
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

impl Client {
    /// A ticket that is due when so much of the backend's time has passed. What else happens at that instant has happened
    /// by then.
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let mut nap = store.client().sleep(Duration::from_secs(60));
    /// clock.advance(Duration::from_secs(59));
    /// assert!(nap.try_wait()?.is_none());
    /// clock.advance(Duration::from_secs(1));
    /// assert!(nap.try_wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn sleep(&self, duration: Duration) -> Ticket<()> {
        Ticket::sleep(self, duration)
    }

    /// Awaits a future for this much of the backend's time. Returns `None` if the time passes first; what completes at that very
    /// instant still counts. The future is dropped then.
    ///
    /// Also returns `None`, at once, if the backend has ended and the future has not: no clock would end the wait. A call or a
    /// ticket of a closed [`Store`](crate::Store) has ended, and its [`Stopped`](crate::Error::Stopped) is returned.
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let client = store.client();
    /// let session = Session::open(&client, Duration::from_secs(60)).wait()?;
    /// let mutex = Mutex::new(&session, "disk");
    /// let guard = mutex.lock().wait()?;
    ///
    /// let mut ticket = mutex.lock();
    /// let waiting = std::thread::spawn({
    ///     let client = client.clone();
    ///     move || client.block_on(client.timeout(Duration::from_secs(5), &mut ticket)).is_none()
    /// });
    /// while store.next_deadline().is_none() {
    ///     std::thread::yield_now(); // until the thread waits
    /// }
    /// clock.advance(Duration::from_secs(5));
    /// assert!(waiting.join().expect("the thread does not panic"), "the lock is held");
    /// # drop(guard);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let (mut future, mut timer) = (std::pin::pin!(future), self.sleep(duration));
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            match ready!(Pin::new(&mut timer).poll(context)) {
                Ok(()) => Poll::Ready(None),
                // The backend closed the timer's inbox after the first poll of the future, which may have ended with it.
                Err(_) => Poll::Ready(match future.as_mut().poll(context) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                }),
            }
        })
        .await
    }
}
