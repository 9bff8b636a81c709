//! Foreign code for the seam to run: wakers and owners of bytes that call back, and a guard for what may hang.

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

/// A waker that runs the test's code when it is woken and when it is dropped.
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
        self.on_drop.take().expect("it is dropped once")();
    }
}

pub fn waker(
    on_wake: impl Fn() + Send + Sync + 'static,
    on_drop: impl FnOnce() + Send + Sync + 'static,
) -> Waker {
    Waker::from(Arc::new(Hook { on_wake: Box::new(on_wake), on_drop: Some(Box::new(on_drop)) }))
}

/// A waker that runs this when it is woken.
pub fn on_wake(on_wake: impl Fn() + Send + Sync + 'static) -> Waker {
    waker(on_wake, || ())
}

/// A waker that runs this when nobody has it any more.
pub fn on_drop(on_drop: impl FnOnce() + Send + Sync + 'static) -> Waker {
    waker(|| (), on_drop)
}

/// A number that closures share.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A waker that counts its wake-ups here.
    pub fn waker(&self) -> Waker {
        let count = self.clone();
        on_wake(move || count.add())
    }
}

/// A list that closures share.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panicked while noting").push(what.into());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked while noting"))
    }
}

/// Bytes whose owner runs the test's code when it is freed.
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
        self.on_free.take().expect("it is freed once")();
    }
}

/// Polls a future once.
pub fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Sleeps on real time with this waker, for at least so long: longer if the thread is too slow to be pending before the time has
/// passed. Returns the ticket and the time.
pub fn pending_nap(client: &Client, waker: &Waker, mut time: Duration) -> (Ticket<()>, Duration) {
    loop {
        let mut nap = client.sleep(time);
        if poll_with(&mut nap, waker).is_pending() {
            return (nap, time);
        }
        time *= 2;
    }
}

/// Looks once for a watcher's next response.
pub fn receive_with(watcher: &mut Watcher, waker: &Waker) -> Poll<Result<Option<WatchResponse>>> {
    watcher.poll_recv(&mut Context::from_waker(waker))
}

/// Where an answer is awaited.
#[derive(Clone, Default)]
pub struct Reply(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    answer: Option<Result<Response>>,
    waker: Option<Waker>,
}

impl Reply {
    pub fn give(&self, answer: Result<Response>) {
        let waker = {
            let mut slot = self.0.lock().expect("nobody panics with it");
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
        let mut slot = self.0.lock().expect("nobody panics with it");
        let Some(answer) = slot.answer.take() else {
            let displaced = slot.waker.replace(waker);
            drop(slot);
            drop(displaced);
            return Poll::Pending;
        };
        Poll::Ready(answer)
    }
}
