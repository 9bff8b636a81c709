//! The receiving side of streams from clients: a message acts when it is sent, although no task polls the stream.

use std::cell::Cell;
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
/// to the service; the next poll of the stream. A call waits for a poll that another thread has begun. So a call sees the effects of
/// all messages that were sent before it.
#[derive(Default)]
pub(crate) struct Pumps {
    /// Each pump that is marked or being polled, and others until the next call.
    listed: Mutex<Vec<Arc<Pump>>>,
    /// The length of `listed`, changed under its lock, so that a call without listed pumps takes no lock.
    count: AtomicUsize,
}

/// A task that receives the messages of one stream.
struct Pump {
    pumps: Weak<Pumps>,
    /// `None` once the task has completed or its stream was dropped.
    task: Mutex<Option<Task>>,
    /// Whether the task must be polled, or dropped because its stream was.
    is_marked: AtomicBool,
    /// Whether `Pumps` lists the pump. Set under the list's lock.
    is_listed: AtomicBool,
    /// Whether a thread polls the task. The mark is cleared then.
    is_polled: AtomicBool,
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
            is_listed: AtomicBool::new(false),
            is_polled: AtomicBool::new(false),
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

    /// Polls the marked pumps, and waits for polls of other threads.
    pub(crate) fn run(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let pumps = lock(&self.listed).clone();
        for pump in &pumps {
            // A task may make calls. A thread that polls a task never waits, so no two threads wait for each other.
            if !IS_POLLING.get() {
                pump.poll_locked(lock(&pump.task));
            }
            pump.run();
        }
        let mut listed = lock(&self.listed);
        listed.retain(|pump| {
            // Cleared before the check. A waker marks before it reads `is_listed`, so either sees the other.
            pump.is_listed.store(false, Ordering::SeqCst);
            let is_busy = pump.is_marked.load(Ordering::SeqCst) || pump.is_polled.load(Ordering::SeqCst);
            pump.is_listed.store(is_busy, Ordering::SeqCst);
            is_busy
        });
        self.count.store(listed.len(), Ordering::SeqCst);
    }

    fn list(&self, pump: &Arc<Pump>) {
        let mut listed = lock(&self.listed);
        if !pump.is_listed.swap(true, Ordering::SeqCst) {
            listed.push(Arc::clone(pump));
            self.count.store(listed.len(), Ordering::SeqCst);
        }
    }
}

thread_local! {
    /// Whether this thread polls or drops a task of a pump.
    static IS_POLLING: Cell<bool> = const { Cell::new(false) };
}

impl Pump {
    /// Polls the task while it is marked. Returns at once if another thread polls it, and that thread sees the mark.
    fn run(self: &Arc<Self>) {
        while self.is_marked.load(Ordering::SeqCst) {
            match self.task.try_lock() {
                Ok(task) => self.poll_locked(task),
                Err(TryLockError::Poisoned(poisoned)) => self.poll_locked(poisoned.into_inner()),
                // The other thread checks the mark after it has unlocked.
                Err(TryLockError::WouldBlock) => return,
            }
        }
    }

    /// Polls the locked task once if it is marked.
    fn poll_locked(self: &Arc<Self>, mut task: MutexGuard<'_, Option<Task>>) {
        let _poll = PollGuard::new(self);
        // Cleared before the poll, so a wake-up during the poll is kept.
        if self.is_marked.swap(false, Ordering::SeqCst) {
            // Taken, so that a task whose poll panics is dropped and never polled again.
            let polled = task.take();
            *task = polled.and_then(|polled| self.poll(polled));
        }
    }

    /// Returns the task unless it has completed or must be dropped.
    fn poll(self: &Arc<Self>, mut task: Task) -> Option<Task> {
        if self.is_stream_dropped.load(Ordering::SeqCst) {
            return None;
        }
        let waker = Waker::from(Arc::clone(self));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        polled.is_pending().then_some(task)
    }
}

/// Marks a pump and this thread as polling, until it is dropped before the task is unlocked.
struct PollGuard<'a> {
    pump: &'a Pump,
    was_polling: bool,
}

impl<'a> PollGuard<'a> {
    fn new(pump: &'a Pump) -> Self {
        // Set before the mark is cleared, so a call finds one of both until the poll is over.
        pump.is_polled.store(true, Ordering::SeqCst);
        Self { pump, was_polling: IS_POLLING.replace(true) }
    }
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        IS_POLLING.set(self.was_polling);
        self.pump.is_polled.store(false, Ordering::SeqCst);
    }
}

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        let was_marked = self.is_marked.swap(true, Ordering::SeqCst);
        // Also for a marked pump: another thread may have marked it and not listed it yet.
        if !self.is_listed.load(Ordering::SeqCst)
            && let Some(pumps) = self.pumps.upgrade()
        {
            pumps.list(&self);
        }
        if !was_marked {
            self.runner.wake();
        }
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
