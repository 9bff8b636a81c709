//! User code for tests: wakers and byte owners that call back.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use leasehold::backend::Response;
use leasehold::response::WatchResponse;
use leasehold::{Client, Result, Ticket, Watcher};

pub use crate::guard::guarded;

/// A timeout on real time that never passes while a test runs.
pub const LONG: Duration = Duration::from_secs(365 * 86_400);

/// A waker that runs a test's closures when it is woken and when it is dropped.
struct Hook {
    on_wake: Box<dyn Fn() + Send + Sync>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        (self.on_wake)();
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.on_drop.take().expect("a waker is dropped once")();
    }
}

pub fn waker(
    on_wake: impl Fn() + Send + Sync + 'static,
    on_drop: impl FnOnce() + Send + Sync + 'static,
) -> Waker {
    Waker::from(Arc::new(Hook { on_wake: Box::new(on_wake), on_drop: Some(Box::new(on_drop)) }))
}

/// Returns a waker that runs this closure when it is woken.
pub fn on_wake(on_wake: impl Fn() + Send + Sync + 'static) -> Waker {
    waker(on_wake, || ())
}

/// Returns a waker that runs this closure when its last clone is dropped.
pub fn on_drop(on_drop: impl FnOnce() + Send + Sync + 'static) -> Waker {
    waker(|| (), on_drop)
}

/// A counter that closures share.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns a waker that increments this counter.
    pub fn waker(&self) -> Waker {
        let count = self.clone();
        on_wake(move || count.add())
    }
}

/// A list of lines that closures share.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("the lock is not poisoned").push(what.into());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("the lock is not poisoned"))
    }
}

/// Returns bytes whose owner runs this closure when it is freed.
pub fn owned(bytes: impl AsRef<[u8]>, on_free: impl FnOnce() + Send + 'static) -> Bytes {
    Bytes::from_owner(Owner { bytes: bytes.as_ref().to_vec(), on_free: Some(Box::new(on_free)) })
}

struct Owner {
    bytes: Vec<u8>,
    on_free: Option<Box<dyn FnOnce() + Send>>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.on_free.take().expect("an owner of bytes is dropped once")();
    }
}

/// Polls a future once.
pub fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Sleeps on real time with this waker for at least `time`, and returns the ticket and the time.
///
/// The time is doubled until the ticket is pending after its first poll, since a slow thread can miss a short deadline.
pub fn pending_nap(client: &Client, waker: &Waker, mut time: Duration) -> (Ticket<()>, Duration) {
    loop {
        let mut nap = client.sleep(time);
        if poll_with(&mut nap, waker).is_pending() {
            return (nap, time);
        }
        time *= 2;
    }
}

/// Polls once for a watcher's next response.
pub fn receive_with(watcher: &mut Watcher, waker: &Waker) -> Poll<Result<Option<WatchResponse>>> {
    watcher.poll_recv(&mut Context::from_waker(waker))
}

/// A future that completes when another thread sets its answer.
#[derive(Clone, Default)]
pub struct Reply(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    answer: Option<Result<Response>>,
    waker: Option<Waker>,
}

impl Reply {
    pub fn complete(&self, answer: Result<Response>) {
        let waker = {
            let mut slot = self.0.lock().expect("the lock is not poisoned");
            slot.answer = Some(answer);
            slot.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for Reply {
    type Output = Result<Response>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker().clone();
        let mut slot = self.0.lock().expect("the lock is not poisoned");
        let Some(answer) = slot.answer.take() else {
            // Drop the displaced waker outside of the lock: its drop runs user code.
            let displaced = slot.waker.replace(waker);
            drop(slot);
            drop(displaced);
            return Poll::Pending;
        };
        Poll::Ready(answer)
    }
}
