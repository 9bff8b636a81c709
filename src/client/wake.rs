//! Waking many, whatever one of them does.

use std::task::Waker;
use std::vec::IntoIter;

/// Wakers to be called in their order, once no lock is held. If one panics, the others are called all the same, and the
/// panic goes on.
#[derive(Debug)]
pub(crate) struct WakeList {
    wakers: IntoIter<Waker>,
}

impl WakeList {
    pub(crate) fn wake(wakers: Vec<Waker>) {
        Self { wakers: wakers.into_iter() }.wake_rest();
    }

    fn wake_rest(&mut self) {
        for waker in self.wakers.by_ref() {
            waker.wake();
        }
    }
}

impl Drop for WakeList {
    /// Only where a waker has panicked is any left. The next one to panic ends the process.
    fn drop(&mut self) {
        self.wake_rest();
    }
}
