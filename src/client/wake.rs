//! Parks a thread until a future completes, and calls wakers and other user code with their panics contained.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::{mem, thread};

/// Unparks a thread, and records that the thread was woken.
struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // `is_woken` is set before `unpark`, so that the thread finds the mark when it continues. `Release` pairs
        // with the `Acquire` in `park_until`: the next poll sees the writes before the wake-up.
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls until `poll` is ready, and parks the thread between polls. The first poll passes a waker that does nothing,
/// since most calls are ready.
///
/// `is_woken`, not the park token of the thread, decides whether to poll again. A stale park token causes only another
/// check of `is_woken`. A nested `park_until` on the same thread may consume the park token, but the `is_woken` of the
/// outer call is still set.
///
/// The function parks without spinning. A thread that spins and yields waits for the other busy threads of its core.
/// With yields and a busy thread on each core, a lock handover took 700 us instead of 12 us on one core. On two cores,
/// the handover took 2 to 4 ms instead of 18 us.
///
/// Spinning without yields helps only if the other thread runs at the same time on another core. With 20 us of
/// spinning, a lock handover took 5 us instead of 10 us on two cores. On one core, the handover took 21 us instead of 3
/// us.
pub(super) fn park_until(poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
    if poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    let unpark = Arc::new(Unpark { thread: thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    while poll(&mut context).is_pending() {
        // `is_woken` is cleared before the poll, so a wake-up during the poll causes another poll.
        while !unpark.is_woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Runs each step of a destructor, even if an earlier step panics.
///
/// Resumes the first panic after the last step, unless the thread is already unwinding: a second panic would abort the
/// process.
pub(crate) fn finish(steps: &mut [&mut dyn FnMut()]) {
    let mut first = None;
    for step in steps {
        match catch_unwind(AssertUnwindSafe(step)) {
            // Only the first panic is resumed. Dropping the payload of another panic runs user code, so that drop is
            // contained.
            Err(payload) if first.is_none() && !thread::panicking() => first = Some(payload),
            Err(payload) => contain(|| drop(payload)),
            Ok(()) => {}
        }
    }
    if let Some(payload) = first {
        resume_unwind(payload);
    }
}

/// Calls a waker. A panic of the waker does not reach the caller.
pub(crate) fn wake(waker: Waker) {
    contain(|| waker.wake());
}

/// Runs user code whose result the crate does not need. A panic of the code does not reach the caller.
pub(crate) fn contain(user_code: impl FnOnce()) {
    let caught = catch_unwind(AssertUnwindSafe(user_code));
    if let Err(payload) = caught
        && let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        // The destructor of the payload panicked. Leak the payload of this second panic, since its destructor may
        // panic too, without end.
        mem::forget::<Box<dyn Any + Send>>(second);
    }
}
