use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, degrade, grant, key_of};
use crate::api::{GetResponse, GrantResponse, LeaseId, ResponseHeader, TxnResponse};
use crate::client::{Call, Client, Mailbox, Ticket, Waiting, finish};
use crate::concurrency::{Entry, Predecessors, Turn, create_revisions, queue_range};
use crate::{Error, Result};

/// etcd's lock service, `v3lockpb.Lock`, for code that uses etcd's messages. The service behaves like etcd, oddities
/// included (R-LCK-1 to R-LCK-14).
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

    /// Acquires a lock. Each request has the key `name/<lease>`, and the requests for one lock acquire it in the order
    /// in which their keys were created. Dropping the ticket before the caller has received the response withdraws the
    /// request: its key is deleted.
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
    /// The ticket returns an error with the code Unknown:
    ///
    /// - [`SessionExpired`](Error::SessionExpired) if the waiting key no longer exists when every earlier key is
    ///   deleted. The deletion of the waiting key alone does not end the wait (R-LCK-7).
    /// - [`Service`](Error::Service), which contains the error of a grant, put, read or watch that failed (R-LCK-8).
    ///
    /// [`Stopped`](Error::Stopped) and [`Unavailable`](Error::Unavailable) keep their code.
    pub fn lock(&self, request: LockRequest) -> Ticket<LockResponse> {
        let LockRequest { name, lease } = request;
        // Grant the lease first, as etcd does. A request that fails or is dropped leaves this lease without a key until
        // the lease expires (R-LCK-2).
        let phase = if lease == LeaseId::NONE {
            Phase::Granting(grant(&self.client))
        } else {
            enter(&self.client, &name, lease)
        };
        let lock = LockTask { client: self.client.clone(), name, phase };
        Ticket::new(&self.client, lock)
    }

    /// Releases a lock by deleting its key. The call deletes whatever key the request names, without a check of the
    /// key's owner (R-LCK-12).
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
    /// The call returns [`Service`](Error::Service), which contains [`EmptyKey`](Error::EmptyKey) if the key is empty,
    /// or another error of the deletion. [`Stopped`](Error::Stopped) and [`Unavailable`](Error::Unavailable) are
    /// returned as they are.
    pub fn unlock(&self, request: UnlockRequest) -> Call<UnlockResponse> {
        self.client.map(self.client.delete(request.key), |deleted| match deleted {
            Ok(deleted) => Ok(UnlockResponse { header: *deleted.header() }),
            Err(error) => Err(degrade(error)),
        })
    }
}

/// The state machine that acquires a lock.
struct LockTask {
    client: Client,
    name: Bytes,
    phase: Phase,
}

enum Phase {
    /// The request has no lease, and the grant of a lease is pending.
    Granting(Call<GrantResponse>),
    /// The response to the txn that puts the key is pending.
    Putting { key: Bytes, call: Call<TxnResponse> },
    /// The key was put or found, and waits for the deletion of the earlier keys.
    Waiting { key: Bytes, turn: Turn },
    /// Every earlier key is deleted, and the read of the waiting key is pending.
    Checking { key: Bytes, call: Call<GetResponse> },
    /// The lock is held, and the caller has not received the response yet.
    Acquired { key: Bytes },
    /// The wait has failed, or the caller has received the response.
    Over,
}

/// Returns the rule of a lock: a key waits for the deletion of every earlier key of the queue (R-LCK-4).
fn before(name: &[u8]) -> Predecessors {
    Predecessors::all(queue_range(name))
}

/// Sends the txn that puts the key, or reads the key if it exists, and reads the oldest key of the queue (R-LCK-3).
fn enter(client: &Client, name: &Bytes, lease: LeaseId) -> Phase {
    let key = key_of(name, lease);
    let entry = Entry { before: before(name), key: key.clone(), value: Bytes::new(), lease };
    Phase::Putting { key, call: client.txn(entry.service_txn()) }
}

impl LockTask {
    /// Polls the current phase. Returns the response if the lock is acquired, and `None` after a change to another
    /// phase.
    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LockResponse>>> {
        let next = match &mut self.phase {
            Phase::Granting(call) => match ready!(mailbox.poll_call(call, waker)) {
                Ok(granted) => enter(&self.client, &self.name, granted.id()),
                Err(error) => return self.fail(error),
            },
            Phase::Putting { key, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(response) => {
                    let (own, (oldest, _)) = create_revisions(&response);
                    // The oldest key holds the lock, and the `LockResponse` has the header of this txn. Several keys
                    // are the oldest if one txn created them, and each of them then holds the lock (R-LCK-3).
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
                // etcd deletes the key if the wait fails, for example because its watch was compacted (R-LCK-14).
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
                // The key was deleted during the wait, which is noticed only now (R-LCK-7).
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

    /// Withdraws the request: deletes its key, if it has put one, even if another client has created the key again
    /// (R-LCK-9).
    fn withdraw(&mut self) {
        let client = self.client.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Granting(_) | Phase::Over => {}
            Phase::Putting { key, call } => self.client.detach(async move {
                // The put may still be pending, so wait for its response: an earlier deletion could find no key.
                if call.await.is_ok() {
                    drop(client.delete(key).await);
                }
            }),
            // Delete the key without a compare of the create revision, as etcd's lock service does (R-LCK-9).
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

    /// Returns true, so that a drop before the response is received deletes the waiting key. Without the response, no
    /// caller has the key that an unlock request needs.
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
