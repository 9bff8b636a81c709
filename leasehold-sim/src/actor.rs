//! Clients and detached tasks: the identity of the one that runs, wakers, and the baton that threads pass on.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::world::Shared;

/// The number of a client or a detached task in its simulation. A client that is started again has a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ActorId(pub(crate) u64);

/// The code that this thread runs for a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    /// No client, but possibly the scenario.
    Outside,
    /// A client or a detached task that is a future.
    Task(ActorId),
    /// A client that is a blocking closure.
    Thread(ActorId),
}

thread_local! {
    static CURRENT: Cell<Current> = const { Cell::new(Current::Outside) };
    /// The number of commands to the backend in the turn of the current code.
    static COMMANDS: Cell<u32> = const { Cell::new(0) };
}

/// The number of commands in one turn that shows a client in a loop without an end.
const MOST_COMMANDS: u32 = 200_000;

/// Counts a command of the current client to its backend.
///
/// # Panics
///
/// Panics if the client has sent too many commands in its turn: no time passes until the turn ends.
pub(crate) fn count_command() {
    let commands = COMMANDS.get() + 1;
    COMMANDS.set(commands);
    // A second panic would abort the process.
    if commands > MOST_COMMANDS && !std::thread::panicking() {
        COMMANDS.set(0);
        panic!("a loop without an end: {MOST_COMMANDS} calls in one turn, in which no time passes");
    }
}

/// Begins a turn of the current client.
pub(crate) fn begin_turn() {
    COMMANDS.set(0);
}

impl Current {
    pub(crate) fn get() -> Self {
        CURRENT.get()
    }

    /// Returns the client or detached task that runs, if one does.
    pub(crate) fn actor(self) -> Option<ActorId> {
        match self {
            Self::Outside => None,
            Self::Task(actor) | Self::Thread(actor) => Some(actor),
        }
    }

    /// Makes this the current code of the thread until the guard is dropped.
    pub(crate) fn enter(self) -> CurrentGuard {
        CurrentGuard { current: CURRENT.replace(self), commands: COMMANDS.replace(0) }
    }
}

/// Restores the earlier code of the thread when it is dropped.
pub(crate) struct CurrentGuard {
    current: Current,
    commands: u32,
}

impl Drop for CurrentGuard {
    fn drop(&mut self) {
        CURRENT.set(self.current);
        COMMANDS.set(self.commands);
    }
}

/// Wakes a client or a detached task.
struct ActorWaker {
    shared: Weak<Shared>,
    actor: ActorId,
}

impl Wake for ActorWaker {
    fn wake(self: Arc<Self>) {
        // A dropped simulation runs nothing.
        if let Some(shared) = self.shared.upgrade() {
            shared.with(|world| world.wake(self.actor));
        }
    }
}

pub(crate) fn waker(shared: &Arc<Shared>, actor: ActorId) -> Waker {
    Waker::from(Arc::new(ActorWaker { shared: Arc::downgrade(shared), actor }))
}

/// The right to run, which exactly one thread of a simulation has.
#[derive(Debug, Default)]
pub(crate) struct Baton {
    is_here: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Baton {
    /// Passes the right to run to the thread that waits for this baton, or will wait for it.
    pub(crate) fn pass(&self) {
        self.is_here.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        // A thread that has not waited yet finds the mark.
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Parks the thread until the baton is passed to it.
    pub(crate) fn wait(&self) {
        *self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(std::thread::current());
        while !self.is_here.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }

    /// Parks the thread until the baton is passed to it, and calls `remind` after each interval of real time.
    #[expect(clippy::disallowed_methods, reason = "only a reminder depends on real time")]
    pub(crate) fn wait_and(&self, interval: Duration, mut remind: impl FnMut()) {
        *self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(std::thread::current());
        let mut begin = Instant::now();
        while !self.is_here.swap(false, Ordering::Acquire) {
            std::thread::park_timeout(interval);
            // A thread may be unparked without the baton.
            if begin.elapsed() >= interval {
                remind();
                begin = Instant::now();
            }
        }
    }
}
