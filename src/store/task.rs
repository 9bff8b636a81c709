//! Detached tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::sync::Mutex;

/// A detached future. It has no thread of its own: the thread that wakes it polls it, with no lock of the store held.
///
/// Its only owner is its waker, which it leaves with whatever it waits for. So it ends with the store at the latest.
pub(super) struct Task {
    state: Mutex<State>,
}

struct State {
    /// `None` while a thread polls it, and once it has completed.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Woken since the poll began: the thread that polls it then polls it again.
    is_woken: bool,
}

impl Task {
    /// Runs a future to completion, starting now.
    pub(super) fn spawn(future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let state = Mutex::new(State { future: Some(future), is_woken: false });
        Arc::new(Self { state }).wake();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let mut future = {
            let mut state = self.state.lock();
            state.is_woken = true;
            let Some(future) = state.future.take() else {
                return;
            };
            future
        };
        let waker = Waker::from(Arc::clone(&self));
        loop {
            self.state.lock().is_woken = false;
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return;
            }
            let mut state = self.state.lock();
            if !state.is_woken {
                state.future = Some(future);
                return;
            }
        }
    }
}
