use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::backend::Backend;
use super::park::park_until;
use crate::Result;

/// A request under way: a future of its answer.
///
/// It is under way whether or not it is polled, and dropping it abandons the answer, not the request. In front of a
/// [`Store`](crate::Store) it is answered already, without an allocation.
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
#[must_use = "the request is under way, but only who waits sees its answer"]
pub struct Call<T> {
    state: State<T>,
}

enum State<T> {
    Ready(Result<T>),
    Pending { future: Pin<Box<dyn Future<Output = Result<T>> + Send>>, backend: Option<Arc<dyn Backend>> },
    Taken,
}

/// Nothing here is pinned in place.
impl<T> Unpin for Call<T> {}

impl<T> Call<T> {
    /// A call that is answered already.
    pub fn ready(answer: Result<T>) -> Self {
        Self { state: State::Ready(answer) }
    }

    /// A call whose answer a future will give. The request must be under way without its being polled.
    pub fn pending(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self { state: State::Pending { future: Box::pin(future), backend: None } }
    }

    /// Waits for the answer, blocking the thread as the backend does.
    ///
    /// # Errors
    ///
    /// Those of the request.
    ///
    /// # Panics
    ///
    /// If the answer was taken before, by polling.
    pub fn wait(mut self) -> Result<T> {
        let state = std::mem::replace(&mut self.state, State::Taken);
        let (mut future, backend) = match state {
            State::Ready(answer) => return answer,
            State::Pending { future, backend } => (future, backend),
            State::Taken => panic!("a call is answered once"),
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

    /// Whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Whether the answer is still to come.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.state, State::Pending { .. })
    }

    /// The same call with its answer changed once it is there.
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

    /// The same call with its answer or its error changed once it is there.
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
            State::Pending { future, .. } => Call::pending(async move { change(future.await) }).of(backend),
            State::Taken => Call { state: State::Taken },
        }
    }

    /// The same call, waited for as that backend does.
    pub(super) fn of(mut self, of: &Arc<dyn Backend>) -> Self {
        if let State::Pending { backend, .. } = &mut self.state {
            *backend = Some(Arc::clone(of));
        }
        self
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let State::Pending { future, .. } = &mut self.state {
            let answer = std::task::ready!(future.as_mut().poll(context));
            self.state = State::Taken;
            return Poll::Ready(answer);
        }
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => Poll::Ready(answer),
            State::Pending { .. } | State::Taken => panic!("a call is answered once"),
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ready(_) => "answered",
            State::Pending { .. } => "under way",
            State::Taken => "taken",
        };
        f.debug_tuple("Call").field(&state).finish()
    }
}
