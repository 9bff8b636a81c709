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

/// A result that may be pending, such as a queued lock. A lock that the ticket returns may be lost already, which the
/// guard's `check` reports.
///
/// A ticket waits for a lock or leadership, for the loss of a session, lock or leadership, or for a timer. Wait for the
/// result with [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout) or [`try_wait`](Self::try_wait), with
/// `.await`, or in a `select!` on [`ready_channel`](Self::ready_channel). A wait that times out keeps the ticket's
/// place in the queue. Dropping the ticket withdraws the request at once.
///
/// The lease of the session can end at any moment, also between the acquisition and the wait, or right after a check. A
/// write that requires the lock therefore uses `guard.txn()`, or passes `guard.token()` to a fence.
///
/// A ticket keeps its store alive.
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
/// session.pause().wait()?; // as if the process hangs
/// clock.advance(Duration::from_secs(5)); // the lease expires
///
/// let guard = ticket.wait()?;
/// assert_eq!(guard.check().wait(), Err(Error::SessionExpired));
/// assert!(guard.txn().and_then([TxnOp::put("last", "me")]).commit().wait().is_err());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a ticket withdraws its request"]
pub struct Ticket<T> {
    // `mailbox` is declared before `state`, so dropping the ticket ends the subscriptions before it deletes the queue
    // key.
    mailbox: Mailbox,
    state: State<T>,
}

enum State<T> {
    Waiting(Box<dyn Waiting<T>>),
    /// The result is ready and was not returned. The wait is kept if dropping it withdraws the result, or if the result
    /// is permanent.
    Done(Result<T>, Option<Box<dyn Waiting<T>>>),
    /// The result was returned once, and each later poll returns it again.
    Repeats(Result<T>, Box<dyn Waiting<T>>),
    Taken,
}

/// The state machine of a wait.
pub(crate) trait Waiting<T>: Send + Sync {
    /// Advances the wait as far as the deliveries in the mailbox allow. If the wait is pending, registers the waker
    /// for the next delivery.
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>>;

    /// Returns whether dropping the wait withdraws a result that was not returned to a caller.
    fn withdraws(&self) -> bool {
        false
    }

    /// Notes that the result is returned to the caller, so that dropping the wait no longer withdraws the result.
    fn taken(&mut self) {}

    /// Returns a copy of the result if it is permanent, such as the loss of a lock.
    fn repeat(&self, _result: &Result<T>) -> Option<Result<T>> {
        None
    }
}

impl<T> Ticket<T> {
    /// Begins a wait and polls it once.
    pub(crate) fn new(client: &Client, wait: impl Waiting<T> + 'static) -> Self {
        Self::begin(client.mailbox(), wait)
    }

    /// Creates a ticket whose result is ready.
    pub(crate) fn completed(mailbox: Mailbox, result: Result<T>) -> Self {
        Self { mailbox, state: State::Done(result, None) }
    }

    fn begin(mut mailbox: Mailbox, mut wait: impl Waiting<T> + 'static) -> Self {
        let state = match wait.poll(&mut mailbox, None) {
            Poll::Ready(result) => {
                // A wait that neither withdraws nor repeats the result is no longer needed, so spare the allocation.
                let is_kept = wait.withdraws() || wait.repeat(&result).is_some();
                State::Done(result, is_kept.then(|| Box::new(wait) as Box<dyn Waiting<T>>))
            }
            Poll::Pending => State::Waiting(Box::new(wait)),
        };
        Self { mailbox, state }
    }

    /// Blocks the thread until the result is ready.
    ///
    /// Under a [`ManualClock`](crate::ManualClock), time passes only if another thread moves the clock. A wait for an
    /// instant or for the expiry of a lease may therefore block for ever. In a test with one thread, move the clock and
    /// call [`try_wait`](Self::try_wait).
    ///
    /// # Errors
    ///
    /// - [`Stopped`](crate::Error::Stopped) if the store was closed during the wait.
    /// - [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session of a lock or candidacy had ended before the
    ///   queue key was put.
    /// - [`SessionExpired`](crate::Error::SessionExpired) for a lock, [`NotLeader`](crate::Error::NotLeader) for a
    ///   candidacy, if the session ended or the queue key was deleted during the wait.
    /// - [`Unavailable`](crate::Error::Unavailable), or another error of a request, if the backend answered a request
    ///   of the wait with that error.
    ///
    /// # Panics
    ///
    /// Panics if the result was returned before. A ticket for the loss of a session, lock or leadership does not panic:
    /// a loss is permanent, so each wait returns the loss.
    #[track_caller]
    pub fn wait(mut self) -> Result<T> {
        // A result that is ready is returned without `Backend::drive`, in which a simulated backend runs its
        // simulation.
        if !matches!(self.state, State::Waiting(_))
            && let Poll::Ready(result) = self.state.poll(&mut self.mailbox, None)
        {
            return result;
        }
        let state = &mut self.state;
        self.mailbox.block(|mailbox, waker| state.poll(mailbox, waker))
    }

    /// Blocks the thread until the result is ready, or returns `None` once `timeout` of the store's time has passed.
    ///
    /// After `None`, the ticket keeps its place in the queue until it is dropped. A result that is delivered at the
    /// instant of the timeout, but before the timer, is returned. A timeout of zero does not block.
    ///
    /// A temporary ticket in the head of a `match` is dropped at the end of the `match`, and may acquire the lock
    /// before that. Bind the ticket to a variable, or use `let else`. Under a [`ManualClock`](crate::ManualClock),
    /// time passes only if another thread moves the clock. In a test with one thread, move the clock and call
    /// [`try_wait`](Self::try_wait).
    ///
    /// # Errors
    ///
    /// - [`Stopped`](crate::Error::Stopped) if the store was closed during the wait.
    /// - [`LeaseNotFound`](crate::Error::LeaseNotFound), [`SessionExpired`](crate::Error::SessionExpired) or
    ///   [`NotLeader`](crate::Error::NotLeader) if the session of the lock or candidacy has ended, or its queue key was
    ///   deleted.
    /// - Another error with which the backend answered a request of the wait: see [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// Panics if the result was returned before, except for a ticket for the loss of a session, lock or leadership.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        let at = self.mailbox.now() + timeout;
        let state = &mut self.state;
        self.mailbox.block_until(at, |mailbox, waker| state.poll(mailbox, waker)).transpose()
    }

    /// Returns the result if it is ready, and otherwise `None`, without blocking.
    ///
    /// # Errors
    ///
    /// - [`Stopped`](crate::Error::Stopped) if the store was closed before the result was ready.
    /// - [`LeaseNotFound`](crate::Error::LeaseNotFound), [`SessionExpired`](crate::Error::SessionExpired) or
    ///   [`NotLeader`](crate::Error::NotLeader) if the session of the lock or candidacy has ended, or its queue key was
    ///   deleted.
    /// - Another error with which the backend answered a request of the wait: see [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// Panics if the result was returned before, except for a ticket for the loss of a session, lock or leadership.
    #[track_caller]
    pub fn try_wait(&mut self) -> Result<Option<T>> {
        match self.state.poll(&mut self.mailbox, None) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Returns a channel for `select!` that holds a token while [`try_wait`](Self::try_wait) may return a result.
    ///
    /// After a token, `try_wait` may still return `None`, since a delivery may leave the result pending. Each later
    /// delivery sets the token again.
    pub fn ready_channel(&self) -> &ReadyChannel {
        self.mailbox.ready(matches!(self.state, State::Done(..) | State::Repeats(..)))
    }
}

impl<T> State<T> {
    #[track_caller]
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<T>> {
        if let Self::Repeats(result, wait) = self {
            return Poll::Ready(wait.repeat(result).expect("the result in `Repeats` is permanent"));
        }
        let result = match self {
            Self::Waiting(wait) => Some(ready!(wait.poll(mailbox, waker))),
            _ => None,
        };
        // The result is ready, so end the watches and the timer now: the ticket may be dropped much later.
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

/// A ticket may be moved after a poll, since `poll` pins no field.
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

/// The wait of [`Client::sleep`], which ends at the instant that the mailbox was set to.
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
    /// Returns a ticket that completes when `duration` of the backend's time has passed.
    ///
    /// Over a [`Store`](crate::Store), the leases that expire at the instant of completion are revoked before the
    /// ticket completes.
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

    /// Awaits a future, and returns `None` once `duration` of the backend's time has passed.
    ///
    /// The output of a future that is ready at the instant of the timeout is returned in `Some`. After a timeout the
    /// future is dropped: pass `&mut future` to keep the future.
    ///
    /// The method also returns `None`, without waiting, if the backend has ended and the future is pending: no clock
    /// would end the wait. A call or ticket of a closed [`Store`](crate::Store) is ready with
    /// [`Stopped`](crate::Error::Stopped), so the method returns that error in `Some`.
    ///
    /// In an async program, the output of a future that is ready in time is returned in `Some`:
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::{Client, Store};
    /// use std::time::Duration;
    ///
    /// async fn acquire(client: &Client) -> leasehold::Result<bool> {
    ///     let session = Session::open(client, Duration::from_secs(60)).await?;
    ///     let mutex = Mutex::new(&session, "disk");
    ///     let guard = client.timeout(Duration::from_secs(1), mutex.lock()).await.transpose()?;
    ///     Ok(guard.is_some())
    /// }
    ///
    /// let client = Store::new().client();
    /// assert!(client.block_on(acquire(&client))?);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// Under a [`ManualClock`](crate::ManualClock), another thread moves the clock. The example borrows the ticket, so
    /// the ticket keeps its place after the timeout:
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
    /// assert!(waiting.join().expect("the thread does not panic"), "the lock was not held");
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
                // The timer failed, so the backend has ended. Poll the future again, since the end may have completed
                // it.
                Err(_) => Poll::Ready(match future.as_mut().poll(context) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                }),
            }
        })
        .await
    }
}
