//! [`Store`] as a [`Backend`] of clients.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use super::handle::Store;
use crate::Result;
use crate::api::{Grant, Lag, LeaseId, Timestamp, WatchId, WatchRequest};
use crate::client::{Backend, Call, Client, Inbox, Request, Response, wake};
use crate::sync::Mutex;

/// Creates a client of the store.
impl From<&Store> for Client {
    fn from(store: &Store) -> Self {
        store.client()
    }
}

/// Creates a client of the store.
impl From<&Arc<Store>> for Client {
    fn from(store: &Arc<Store>) -> Self {
        store.client()
    }
}

/// Creates a client of the store.
impl From<Store> for Client {
    fn from(store: Store) -> Self {
        Self::new(store)
    }
}

/// `call` returns a [`Call`] that already has its response, so most detached tasks complete at their first poll.
impl Backend for Store {
    fn call(&self, request: Request) -> Call<Response> {
        Call::from_result(self.execute(request))
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.close_on_error(inbox, self.shell().watch(requests, inbox));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.close_on_error(inbox, self.shell().set_timer(at, inbox));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        let renewed = if is_on { self.resume_keep_alive(lease) } else { self.pause_keep_alive(lease) };
        // The call fails if the lease has ended or the store is closed. Neither needs a renewal, so ignore the error.
        renewed.unwrap_or_default();
    }

    fn pull(&self, inbox: &Inbox) {
        self.shell().pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        // `Stopped` means that the store is closed, which has already ended the stream, so ignore the error.
        self.shell().cancel(inbox).unwrap_or_default();
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        self.shell().lag(inbox, id)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        Task::spawn(task);
    }
}

impl Store {
    /// Executes a request and returns its response.
    fn execute(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::Get(get) => Response::Get(self.get(get)?),
            Request::Put(put) => Response::Put(self.put(put)?),
            Request::Delete(delete) => Response::Delete(self.delete(delete)?),
            Request::Txn(txn) => Response::Txn(self.txn(txn)?),
            Request::Compact(compact) => Response::Compact(self.compact(compact)?),
            // Grant the lease without a standing keep-alive, which the client starts by `renew` once it has the
            // response. So a response that is lost on the way leaves no lease that is kept alive for ever.
            Request::Grant(grant) => Response::Grant(self.grant(Grant { standing: false, ..grant })?),
            Request::Revoke(id) => Response::Revoke(self.revoke(id)?),
            Request::KeepAlive(id) => Response::KeepAlive(self.keep_alive(id)?),
            Request::TimeToLive { id, keys } => Response::TimeToLive(self.time_to_live(id, keys)?),
            Request::Leases => Response::Leases(self.leases()?),
            Request::Status => Response::Status(self.status()?),
            Request::HashKv(revision) => Response::HashKv(self.hash_kv(revision)?),
            Request::Alarm(alarm) => Response::Alarm(self.alarm(alarm)?),
            Request::Page(page) => Response::Page(self.page(page)?),
            Request::Snapshot => Response::Snapshot(self.snapshot()?),
        })
    }

    /// Closes the inbox and wakes its receiver if `done` is an error. A request for an inbox fails if the store is
    /// closed, or if the inbox was cancelled or belongs to another store.
    fn close_on_error(&self, inbox: &Inbox, done: Result<()>) {
        if done.is_err()
            && let Some(waker) = inbox.close()
        {
            wake(waker);
        }
    }
}

/// A detached future that has no thread of its own. A thread that wakes the future also polls it, without holding the
/// store's lock, unless another thread is polling.
///
/// Only wakers own the task. While the future waits, it owns an inbox that holds a waker of the task, so the future
/// lives until it completes. A future that uses a client also keeps the store alive, until the future completes or the
/// store is closed.
pub(super) struct Task {
    state: Mutex<State>,
}

struct State {
    /// `None` while a thread polls the future, and after the future has completed.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether the future was woken since the last poll began. If so, the polling thread polls again.
    is_woken: bool,
}

impl Task {
    /// Polls a future once on this thread. Later wake-ups poll the future until it completes.
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
            // The future has completed, or a poll of the future is running. After that poll, its thread checks
            // `is_woken`.
            let Some(future) = state.future.take() else {
                return;
            };
            future
        };
        // Poll without the lock: the poll may wake this task again.
        let waker = Waker::from(Arc::clone(&self));
        loop {
            // Clear the mark before the poll, so that a wake-up during the poll is not lost.
            self.state.lock().is_woken = false;
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return;
            }
            let mut state = self.state.lock();
            // Check `is_woken` and store the future under one lock, so that a wake-up either finds the future or sets
            // the mark that this thread sees.
            if !state.is_woken {
                state.future = Some(future);
                return;
            }
        }
    }
}
