//! Waking many, whatever one of them does.

use std::task::Waker;

/// Wakers to be called in their order, once no lock is held. If one panics, the others are called all the same, and the
/// panic goes on.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    /// In the reverse order.
    wakers: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn wake(wakers: impl DoubleEndedIterator<Item = Waker>) {
        let mut list = Self { wakers: wakers.rev().collect() };
        list.wake_rest();
    }

    fn wake_rest(&mut self) {
        while let Some(waker) = self.wakers.pop() {
            waker.wake();
        }
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        if !self.wakers.is_empty() {
            // A waker has panicked, and its unwinding brought us here. The next one to panic ends the process.
            self.wake_rest();
        }
    }
}
