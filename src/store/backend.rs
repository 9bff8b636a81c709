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

/// Each call has its response when it returns, so most detached tasks complete at their first poll.
impl Backend for Store {
    fn call(&self, request: Request) -> Call<Response> {
        Call::from_result(self.answer(request))
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.close_on_error(inbox, self.shell().watch(requests, inbox));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.close_on_error(inbox, self.shell().set_timer(at, inbox));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        let renewed = if is_on { self.resume_keep_alive(lease) } else { self.pause_keep_alive(lease) };
        // A lease that has ended and a closed store need no renewal, so ignore the error.
        renewed.unwrap_or_default();
    }

    fn pull(&self, inbox: &Inbox) {
        self.shell().pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        // A closed store has already ended the stream, so ignore `Stopped`.
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
    fn answer(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::Get(get) => Response::Get(self.get(get)?),
            Request::Put(put) => Response::Put(self.put(put)?),
            Request::Delete(delete) => Response::Delete(self.delete(delete)?),
            Request::Txn(txn) => Response::Txn(self.txn(txn)?),
            Request::Compact(compact) => Response::Compact(self.compact(compact)?),
            // A keep-alive starts with `renew`, so a lost response leaves no lease that is kept alive for ever.
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

    /// Closes the inbox and wakes its receiver if a request failed. The request fails if the store is closed, or if the inbox was
    /// cancelled or belongs to another store.
    fn close_on_error(&self, inbox: &Inbox, done: Result<()>) {
        if done.is_err()
            && let Some(waker) = inbox.close()
        {
            wake(waker);
        }
    }
}

/// A detached future without a thread: each thread that wakes the future polls it, with no lock of the store held.
///
/// Only wakers own the future, and the inboxes that it waits for hold the wakers. So the future is dropped with the store at the
/// latest.
pub(super) struct Task {
    state: Mutex<State>,
}

struct State {
    /// `None` while a thread polls the future, and after it has completed.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether the future was woken during a poll. The polling thread then polls again.
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
            // Another thread polls the future, and finds `is_woken` when its poll returns.
            let Some(future) = state.future.take() else {
                return;
            };
            future
        };
        let waker = Waker::from(Arc::clone(&self));
        loop {
            // Clear the mark before the poll, so that a wake-up during the poll is not lost.
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
