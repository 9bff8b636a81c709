//! The store behind the seam.

use std::pin::Pin;
use std::sync::Arc;

use super::handle::Store;
use super::task::Task;
use crate::Result;
use crate::api::{Grant, Lag, LeaseId, Timestamp, WatchId, WatchRequest};
use crate::client::{Backend, Call, Client, Inbox, Request, Response, wake};

/// The store's client.
impl From<&Store> for Client {
    fn from(store: &Store) -> Self {
        store.client()
    }
}

/// The store's client.
impl From<Store> for Client {
    fn from(store: Store) -> Self {
        Self::new(store)
    }
}

/// Every call is answered when it returns, so most detached tasks complete at their first poll.
impl Backend for Store {
    fn call(&self, request: Request) -> Call<Response> {
        Call::ready(self.answer(request))
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.unless_closed(inbox, self.shell().watch(requests, inbox));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.unless_closed(inbox, self.shell().set_timer(at, inbox));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        let renewed = if is_on { self.resume_keep_alive(lease) } else { self.pause_keep_alive(lease) };
        // A lease that has ended, or a store that is closed, needs no renewal.
        renewed.unwrap_or_default();
    }

    fn pull(&self, inbox: &Inbox) {
        self.shell().pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        // A store that is closed has ended the stream.
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
    fn answer(&self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::Get(get) => Response::Get(self.get(get)?),
            Request::Put(put) => Response::Put(self.put(put)?),
            Request::Delete(delete) => Response::Delete(self.delete(delete)?),
            Request::Txn(txn) => Response::Txn(self.txn(txn)?),
            Request::Compact(compact) => Response::Compact(self.compact(compact)?),
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

    /// Closes the inbox if its request failed: the store is closed, or the inbox was cancelled or belongs to another store.
    fn unless_closed(&self, inbox: &Inbox, done: Result<()>) {
        if done.is_err()
            && let Some(waker) = inbox.close()
        {
            wake(waker);
        }
    }
}
