//! The receiving side of streams from clients: a message of a stream acts when it is sent, although no task polls.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::task::unconstrained;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The pumps of a service that have been woken and not polled since.
///
/// A waker only marks its pump: over HTTP/2, a waker is called while the connection is locked, and a poll would lock it again. Three
/// places poll a marked pump, whichever comes first: a task of the runtime in which the stream began, if there is one; the next call
/// to the service; the next poll of the stream. So a call sees the effects of all messages that were sent before it.
#[derive(Default)]
pub(crate) struct Pumps {
    marked: Mutex<VecDeque<Arc<Pump>>>,
    /// The length of `marked`, changed under its lock, so that a call without marked pumps takes no lock.
    count: AtomicUsize,
}

/// A task that receives the messages of one stream.
struct Pump {
    pumps: Weak<Pumps>,
    /// `None` once the task has completed or its stream was dropped.
    task: Mutex<Option<Task>>,
    /// Whether the task must be polled, or dropped because its stream was.
    is_marked: AtomicBool,
    is_stream_dropped: AtomicBool,
    /// The waker of the runtime's task.
    runner: AtomicWaker,
}

/// Drops the task of a pump together with its stream.
pub(crate) struct PumpGuard(Arc<Pump>);

impl Pumps {
    /// Starts a pump and polls it once.
    pub(crate) fn start(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) -> PumpGuard {
        let pump = Arc::new(Pump {
            pumps: Arc::downgrade(self),
            // `run` polls a woken task again. Tokio wakes a task at once that has used up its budget, so `run` would never return.
            task: Mutex::new(Some(Box::pin(unconstrained(task)))),
            is_marked: AtomicBool::new(true),
            is_stream_dropped: AtomicBool::new(false),
            runner: AtomicWaker::new(),
        });
        pump.run();
        if let Ok(runtime) = Handle::try_current() {
            let runner = Arc::clone(&pump);
            runtime.spawn(poll_fn(move |context| {
                runner.runner.register(context.waker());
                runner.run();
                if lock(&runner.task).is_some() { Poll::Pending } else { Poll::Ready(()) }
            }));
        }
        PumpGuard(pump)
    }

    /// Polls the marked pumps.
    pub(crate) fn run(&self) {
        while self.count.load(Ordering::SeqCst) > 0 {
            let mut marked = lock(&self.marked);
            let Some(pump) = marked.pop_front() else { return };
            self.count.store(marked.len(), Ordering::SeqCst);
            drop(marked);
            pump.run();
        }
    }
}

impl Pump {
    /// Polls the task while it is marked. Returns at once if another thread polls it, which then sees the mark.
    fn run(self: &Arc<Self>) {
        while self.is_marked.load(Ordering::SeqCst) {
            let mut task = match self.task.try_lock() {
                Ok(task) => task,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The other thread checks the mark after it has unlocked.
                Err(TryLockError::WouldBlock) => return,
            };
            // Cleared before the poll, so a wake-up during the poll is kept.
            self.is_marked.store(false, Ordering::SeqCst);
            // Taken, so that a task whose poll panics is dropped and never polled again.
            let Some(mut polled) = task.take() else { return };
            let waker = Waker::from(Arc::clone(self));
            let is_over = self.is_stream_dropped.load(Ordering::SeqCst)
                || polled.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            if !is_over {
                *task = Some(polled);
            }
        }
    }
}

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        if self.is_marked.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(pumps) = self.pumps.upgrade() {
            let mut marked = lock(&pumps.marked);
            marked.push_back(Arc::clone(&self));
            pumps.count.store(marked.len(), Ordering::SeqCst);
        }
        self.runner.wake();
    }
}

impl PumpGuard {
    /// Polls the pump if it is marked.
    pub(crate) fn run(&self) {
        self.0.run();
    }
}

impl Drop for PumpGuard {
    fn drop(&mut self) {
        // `run` drops the task. If a poll is in progress, perhaps on this thread, `run` returns and the poll's loop drops the task.
        self.0.is_stream_dropped.store(true, Ordering::SeqCst);
        self.0.is_marked.store(true, Ordering::SeqCst);
        self.0.run();
        self.0.runner.wake();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
