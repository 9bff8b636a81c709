use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::backend::Backend;
use super::mailbox::Mailbox;
use super::namespace::Namespace;
use super::park::park_until;
use crate::Result;
use crate::sync::Mutex;

/// A request that was sent, and a future of its answer.
///
/// The request is executed whether or not the call is polled; dropping the call abandons the answer only. A
/// [`Store`](crate::Store) answers at once, without an allocation.
///
/// Wait for the answer by [`wait`](Self::wait), for a limited time by [`wait_timeout`](Self::wait_timeout), check for it by
/// [`try_wait`](Self::try_wait), or `.await` it.
///
/// ```
/// use leasehold::Store;
///
/// let client = Store::new().client();
/// client.put(("config/mode", "blue")).wait()?;
/// let call = client.get("config/mode");
/// assert_eq!(call.wait()?.kvs()[0].value(), b"blue");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "the request is executed, but its answer is seen only by waiting for the call"]
pub struct Call<T> {
    state: State<T>,
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

enum State<T> {
    Ready(Result<T>),
    /// The mutex is never locked: it makes a future `Sync` that is reached through `&mut` alone.
    Pending {
        future: Mutex<Answering<T>>,
        backend: Option<Arc<dyn Backend>>,
    },
    Taken,
}

/// Nothing here is pinned in place.
impl<T> Unpin for Call<T> {}

impl<T> Call<T> {
    /// A call that is answered already.
    pub fn ready(answer: Result<T>) -> Self {
        Self { state: State::Ready(answer) }
    }

    /// A call that a future answers. The request must be executed even if the future is not polled.
    pub fn pending(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self { state: State::Pending { future: Mutex::new(Box::pin(future)), backend: None } }
    }

    /// Blocks the thread until the call is answered.
    ///
    /// # Errors
    ///
    /// The errors of the request.
    ///
    /// # Panics
    ///
    /// If the answer was taken before.
    #[track_caller]
    pub fn wait(mut self) -> Result<T> {
        let (mut future, backend) = match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => return answer,
            State::Pending { future, backend } => (future.into_inner(), backend),
            State::Taken => panic!("{TAKEN}"),
        };
        let mut answer = None;
        let mut poll =
            |context: &mut Context<'_>| future.as_mut().poll(context).map(|got| answer = Some(got));
        match backend {
            Some(backend) => backend.drive(&mut poll),
            None => park_until(&mut poll),
        }
        answer.expect("a backend drives a call until it is answered")
    }

    /// Blocks the thread until the call is answered, or until this much of the backend's time has passed: then returns `None`,
    /// and the call can be waited for again. A timeout of zero does not block.
    ///
    /// # Errors
    ///
    /// The errors of the request.
    ///
    /// # Panics
    ///
    /// If the answer was taken before, or if the call is pending and was made by [`pending`](Self::pending) rather than by a
    /// [`Client`](crate::Client): it has no clock.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        let State::Pending { backend, .. } = &self.state else {
            return self.try_wait();
        };
        let backend = backend.as_ref().expect("a call with a timeout is a client's");
        let mut mailbox = Mailbox::new(Arc::clone(backend), Namespace::default());
        let at = mailbox.now() + timeout;
        mailbox.block_until(at, |mailbox, waker| mailbox.poll_call(self, waker)).transpose()
    }

    /// Returns the answer if it is there, without blocking.
    ///
    /// # Errors
    ///
    /// The errors of the request.
    ///
    /// # Panics
    ///
    /// If the answer was taken before.
    #[track_caller]
    pub fn try_wait(&mut self) -> Result<Option<T>> {
        match self.poll_answer(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    #[track_caller]
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let State::Pending { future, .. } = &mut self.state {
            let answer = std::task::ready!(future.get_mut().as_mut().poll(context));
            self.state = State::Taken;
            return Poll::Ready(answer);
        }
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => Poll::Ready(answer),
            State::Pending { .. } | State::Taken => panic!("{TAKEN}"),
        }
    }

    /// Returns whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Returns whether the answer is still to come.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending { .. })
    }

    /// Changes the answer once it is there.
    pub(super) fn map<U>(
        self,
        backend: &Arc<dyn Backend>,
        change: impl FnOnce(T) -> U + Send + 'static,
    ) -> Call<U>
    where
        T: 'static,
    {
        self.map_result(backend, |answer| answer.map(change))
    }

    /// Changes the answer or the error once it is there.
    pub(super) fn map_result<U>(
        self,
        backend: &Arc<dyn Backend>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U>
    where
        T: 'static,
    {
        match self.state {
            State::Ready(answer) => Call::ready(change(answer)),
            State::Pending { future, .. } => {
                Call::pending(async move { change(future.into_inner().await) }).of(backend)
            }
            State::Taken => Call { state: State::Taken },
        }
    }

    /// Makes this backend's clock and way to block those of the call.
    pub(super) fn of(mut self, of: &Arc<dyn Backend>) -> Self {
        if let State::Pending { backend, .. } = &mut self.state {
            *backend = Some(Arc::clone(of));
        }
        self
    }
}

const TAKEN: &str = "the answer of a call is taken once";

impl<T> Future for Call<T> {
    type Output = Result<T>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.poll_answer(context)
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ready(_) => "answered",
            State::Pending { .. } => "pending",
            State::Taken => "taken",
        };
        f.debug_tuple("Call").field(&state).finish()
    }
}
