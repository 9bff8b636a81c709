//! Calling user code, wakers above all, without letting its panics do harm.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// Runs the steps of a destructor, each though an earlier one panics. The first panic goes on, unless the thread is unwinding
/// already: a second one would abort the process.
pub(crate) fn finish(steps: &mut [&mut dyn FnMut()]) {
    let mut first = None;
    for step in steps {
        match catch_unwind(AssertUnwindSafe(step)) {
            Err(payload) if first.is_none() && !std::thread::panicking() => first = Some(payload),
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
