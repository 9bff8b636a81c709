//! Waking many, whatever one of them does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Waker;

use super::inbox::Inbox;

/// Wakers to be called in their order, once no lock is held: they run code of others. Each is called, even if another panics or
/// the holder of the list unwinds before it gets to it. The inboxes are kept until then, for dropping one may run code of
/// others too.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    wakers: Vec<Waker>,
    inboxes: Vec<Arc<Inbox>>,
}

impl WakeList {
    pub(crate) fn extend(&mut self, waker: Option<Waker>, inbox: Arc<Inbox>) {
        self.wakers.extend(waker);
        self.inboxes.push(inbox);
    }

    /// Calls all. The first panic goes on afterwards.
    pub(crate) fn wake(mut self) {
        if let Some(panic) = self.wake_all() {
            resume_unwind(panic);
        }
    }

    fn wake_all(&mut self) -> Option<Box<dyn Any + Send>> {
        let mut first = None;
        for waker in self.wakers.drain(..) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                first.get_or_insert(panic);
            }
        }
        first
    }
}

impl Drop for WakeList {
    /// Only where the holder unwinds is any left. One panic is enough then.
    fn drop(&mut self) {
        drop(self.wake_all());
    }
}
