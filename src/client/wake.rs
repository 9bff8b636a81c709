//! Parking a thread until a future completes, and calling wakers without letting their panics do harm.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::{mem, thread};

/// Wakes a parked thread, and remembers that it did.
struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls until there is an answer, and parks the thread between polls. The first poll is free: most need no second.
///
/// The flag, not the thread's token, says whether to poll again. So a token that was left over only makes another round;
/// and one that another `park_until` below this one on the same thread consumed is not missed, because the flag was set
/// before it.
///
/// It parks without spinning first. To spin and yield gives the core to others that are busy on it: with one such on each
/// core, a lock went from thread to thread in 700 us instead of 12 if both were on one core, and in 2 to 4 ms instead of 18 us
/// on two. To spin without yielding gains only if it outlasts the other's whole turn, and costs as much where it does not:
/// with 20 us of it a lock was handed over in 5 us instead of 10 on two cores, and in 21 us instead of 3 on one.
pub(super) fn park_until(poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
    if poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    let unpark = Arc::new(Unpark { thread: thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    while poll(&mut context).is_pending() {
        while !unpark.is_woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Runs the steps of a destructor, each though an earlier one panics. The first panic goes on, unless the thread is unwinding
/// already: a second one would abort the process.
pub(crate) fn finish(steps: &mut [&mut dyn FnMut()]) {
    let mut first = None;
    for step in steps {
        match catch_unwind(AssertUnwindSafe(step)) {
            Err(payload) if first.is_none() && !thread::panicking() => first = Some(payload),
            Err(payload) => contain(|| drop(payload)),
            Ok(()) => {}
        }
    }
    if let Some(payload) = first {
        resume_unwind(payload);
    }
}

/// Calls a waker. A panic of it ends here.
pub(crate) fn wake(waker: Waker) {
    contain(|| waker.wake());
}

/// Runs user code that nothing of ours depends on. A panic of it ends here.
pub(crate) fn contain(user_code: impl FnOnce()) {
    let caught = catch_unwind(AssertUnwindSafe(user_code));
    if let Err(payload) = caught
        && let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        // The payload's destructor panicked as well. Leak the payload of that, or this could go on for ever.
        mem::forget::<Box<dyn Any + Send>>(second);
    }
}
