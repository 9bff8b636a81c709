use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, degrade, grant, key_of};
use crate::api::{GetResponse, GrantResponse, LeaseId, ResponseHeader, TxnResponse};
use crate::client::{Call, Client, Mailbox, Ticket, Waiting, finish};
use crate::concurrency::{Entry, Predecessors, Turn, create_revisions, queue_range};
use crate::{Error, Result};

/// etcd's lock service, `v3lockpb.Lock`, for code that uses etcd's messages. It behaves like etcd, oddities included
/// (R-LCK-1 to R-LCK-14).
///
/// ```
/// use leasehold::Store;
/// use leasehold::service::{LockRequest, LockService, UnlockRequest};
///
/// let store = Store::new();
/// let locks = LockService::new(store.client());
/// let held = locks.lock(LockRequest { name: "backup".into(), ..LockRequest::default() }).wait()?;
/// assert_eq!(held.key, "backup/1", "the name and the lease in hexadecimal");
/// locks.unlock(UnlockRequest { key: held.key }).wait()?;
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LockService {
    client: Client,
}

impl LockService {
    /// Creates the service for a store or another backend.
    pub fn new(client: impl Into<Client>) -> Self {
        Self { client: client.into() }
    }

    /// Acquires a lock, first come, first served. Dropping the ticket leaves the queue and deletes its key.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::service::{LockRequest, LockService, UnlockRequest};
    ///
    /// let locks = LockService::new(Store::new().client());
    /// let request = LockRequest { name: "backup".into(), ..LockRequest::default() };
    /// let held = locks.lock(request.clone()).wait()?;
    /// let mut queued = locks.lock(request);
    /// assert!(queued.try_wait()?.is_none());
    /// locks.unlock(UnlockRequest { key: held.key }).wait()?;
    /// assert!(queued.try_wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The ticket reports, with the code Unknown:
    ///
    /// - [`SessionExpired`](Error::SessionExpired) if the key no longer exists when every earlier key is deleted. A key
    ///   that is deleted earlier is not noticed earlier (R-LCK-7).
    /// - [`Unknown`](Error::Service) with the error of a grant, put, read or watch that failed (R-LCK-8).
    pub fn lock(&self, request: LockRequest) -> Ticket<LockResponse> {
        let LockRequest { name, lease } = request;
        let phase = if lease == LeaseId::NONE {
            Phase::Granting(grant(&self.client))
        } else {
            enter(&self.client, &name, lease)
        };
        let lock = LockTask { client: self.client.clone(), name, phase };
        Ticket::new(&self.client, lock)
    }

    /// Releases a lock by deleting its key. Any key is deleted, also one of another client (R-LCK-12).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::service::{LockService, UnlockRequest};
    ///
    /// let locks = LockService::new(Store::new().client());
    /// locks.unlock(UnlockRequest { key: "backup/1".into() }).wait()?; // a missing key is no error
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call reports [`Unknown`](Error::Service) with [`EmptyKey`](Error::EmptyKey) if the key is empty, or with
    /// another error of the delete.
    pub fn unlock(&self, request: UnlockRequest) -> Call<UnlockResponse> {
        self.client.map(self.client.delete(request.key), |deleted| match deleted {
            Ok(deleted) => Ok(UnlockResponse { header: *deleted.header() }),
            Err(error) => Err(degrade(error)),
        })
    }
}

/// State machine that acquires a lock.
struct LockTask {
    client: Client,
    name: Bytes,
    phase: Phase,
}

enum Phase {
    Granting(Call<GrantResponse>),
    /// The key is being put.
    Putting {
        key: Bytes,
        call: Call<TxnResponse>,
    },
    /// The key exists and waits for the deletion of the keys before it.
    Waiting {
        key: Bytes,
        turn: Turn,
    },
    /// Every earlier key is deleted. Reads whether the key still exists.
    Checking {
        key: Bytes,
        call: Call<GetResponse>,
    },
    /// The lock is held, and the response is not taken yet.
    Acquired {
        key: Bytes,
    },
    Over,
}

/// Returns the keys that a lock waits for: every earlier key of its queue (R-LCK-4).
fn before(name: &[u8]) -> Predecessors {
    Predecessors::all(queue_range(name))
}

/// Sends the transaction that puts the key and reads the oldest key of the queue (R-LCK-3).
fn enter(client: &Client, name: &Bytes, lease: LeaseId) -> Phase {
    let key = key_of(name, lease);
    let entry = Entry { before: before(name), key: key.clone(), value: Bytes::new(), lease };
    Phase::Putting { key, call: client.txn(entry.service_txn()) }
}

impl LockTask {
    /// Runs one phase. Returns the response after the last phase.
    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LockResponse>>> {
        let next = match &mut self.phase {
            Phase::Granting(call) => match ready!(mailbox.poll_call(call, waker)) {
                Ok(granted) => enter(&self.client, &self.name, granted.id()),
                Err(error) => return self.fail(error),
            },
            Phase::Putting { key, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(response) => {
                    let (own, (oldest, _)) = create_revisions(&response);
                    // The oldest key holds the lock. The response has the header of this transaction (R-LCK-3).
                    if own == oldest {
                        let (header, key) = (*response.header(), key.clone());
                        return self.done(header, key);
                    }
                    Phase::Waiting {
                        key: key.clone(),
                        turn: Turn::for_service(&self.client, before(&self.name), key.clone(), own),
                    }
                }
                Err(error) => return self.fail(error),
            },
            Phase::Waiting { key, turn } => match ready!(turn.poll(&self.client, mailbox, waker)) {
                // Only existence is checked: a key that a third party deleted and created again counts (R-LCK-5).
                Ok(()) => Phase::Checking { key: key.clone(), call: self.client.get(key.clone()) },
                Err(error) => {
                    self.withdraw();
                    return self.fail(error);
                }
            },
            Phase::Checking { key, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(found) if found.count() > 0 => {
                    let (header, key) = (*found.header(), key.clone());
                    return self.done(header, key);
                }
                Ok(_) => return self.fail(Error::SessionExpired),
                Err(error) => {
                    self.withdraw();
                    return self.fail(error);
                }
            },
            Phase::Acquired { .. } | Phase::Over => panic!("the result of a ticket is taken once"),
        };
        self.phase = next;
        Poll::Ready(Ok(None))
    }

    fn done(&mut self, header: ResponseHeader, key: Bytes) -> Poll<Result<Option<LockResponse>>> {
        self.phase = Phase::Acquired { key: key.clone() };
        Poll::Ready(Ok(Some(LockResponse { header, key })))
    }

    fn fail(&mut self, error: Error) -> Poll<Result<Option<LockResponse>>> {
        self.phase = Phase::Over;
        Poll::Ready(Err(degrade(error)))
    }

    /// Deletes the key unconditionally, even if another client created it again (R-LCK-9).
    fn withdraw(&mut self) {
        let client = self.client.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Granting(_) | Phase::Over => {}
            Phase::Putting { key, call } => self.client.detach(async move {
                // The put may still be pending: deleting before its response could delete nothing.
                if call.await.is_ok() {
                    drop(client.delete(key).await);
                }
            }),
            Phase::Waiting { key, .. } | Phase::Checking { key, .. } | Phase::Acquired { key } => {
                self.client.detach(async move { drop(client.delete(key).await) });
            }
        }
    }
}

impl Waiting<LockResponse> for LockTask {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<LockResponse>> {
        loop {
            if let Some(response) = ready!(self.step(mailbox, waker))? {
                return Poll::Ready(Ok(response));
            }
        }
    }

    /// Returns true: a drop before the response is received deletes the waiting key. No caller has the key that an unlock request
    /// needs.
    fn withdraws(&self) -> bool {
        true
    }

    fn taken(&mut self) {
        self.phase = Phase::Over;
    }
}

impl Drop for LockTask {
    fn drop(&mut self) {
        finish(&mut [&mut || self.withdraw()]);
    }
}
