use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, degrade, grant, key_of};
use crate::api::{GetResponse, GrantResponse, LeaseId, ResponseHeader, TxnResponse};
use crate::client::{Call, Client, Mailbox, Ticket, Waiting, finish};
use crate::concurrency::{Entry, Predecessors, Turn, places, queue_of};
use crate::{Error, Result};

/// etcd's lock service, `v3lockpb.Lock`: for code that speaks etcd's messages. It does what etcd does, oddities included
/// (R-LCK-1 to R-LCK-14).
///
/// ```
/// use leasehold::Store;
/// use leasehold::service::{LockRequest, LockService, UnlockRequest};
///
/// let store = Store::new();
/// let locks = LockService::new(store.client());
/// let held = locks.lock(LockRequest { name: "backup".into(), ..LockRequest::default() }).wait()?;
/// assert_eq!(held.key, "backup/1", "the name, and the lease in hexadecimal");
/// locks.unlock(UnlockRequest { key: held.key }).wait()?;
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LockService {
    client: Client,
}

impl LockService {
    /// The service in front of a store or another backend.
    pub fn new(client: impl Into<Client>) -> Self {
        Self { client: client.into() }
    }

    /// Asks for a lock: first come, first served. Dropping the ticket gives the place up, and deletes the key of it.
    ///
    /// The ticket's errors, all with the code Unknown: [`SessionExpired`](Error::SessionExpired) if the key is gone when its
    /// turn comes, which is noticed no sooner (R-LCK-7); and what granting, putting, reading and watching were refused with.
    pub fn lock(&self, request: LockRequest) -> Ticket<LockResponse> {
        let LockRequest { name, lease } = request;
        let phase = if lease == LeaseId::NONE {
            Phase::Granting(grant(&self.client))
        } else {
            enter(&self.client, &name, lease)
        };
        let lock = Locking { client: self.client.clone(), name, phase };
        Ticket::new(&self.client, lock)
    }

    /// Deletes a key, whosever it is (R-LCK-12).
    ///
    /// The call's error: [`EmptyKey`](Error::EmptyKey), with the code Unknown.
    pub fn unlock(&self, request: UnlockRequest) -> Call<UnlockResponse> {
        self.client.map(self.client.delete(request.key), |deleted| match deleted {
            Ok(deleted) => Ok(UnlockResponse { header: *deleted.header() }),
            Err(error) => Err(degrade(error)),
        })
    }
}

/// A lock on its way.
struct Locking {
    client: Client,
    name: Bytes,
    phase: Phase,
}

enum Phase {
    Granting(Call<GrantResponse>),
    /// The key is being put.
    Entering {
        key: Bytes,
        call: Call<TxnResponse>,
    },
    /// The key is there, and waits for its turn.
    Waiting {
        key: Bytes,
        turn: Turn,
    },
    /// It is its turn, if the key is still there.
    Checking {
        key: Bytes,
        call: Call<GetResponse>,
    },
    /// The lock is held, and nobody has been told.
    Got {
        key: Bytes,
    },
    Over,
}

/// R-LCK-4: every earlier key of the lock.
fn before(name: &[u8]) -> Predecessors {
    Predecessors::all(queue_of(name))
}

/// R-LCK-3.
fn enter(client: &Client, name: &Bytes, lease: LeaseId) -> Phase {
    let key = key_of(name, lease);
    let entry = Entry { before: before(name), key: key.clone(), value: Bytes::new(), lease };
    Phase::Entering { key, call: client.txn(entry.txn()) }
}

impl Locking {
    /// Goes through one phase. Returns the response after the last one.
    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LockResponse>>> {
        let next = match &mut self.phase {
            Phase::Granting(call) => match ready!(mailbox.poll_call(call, waker)) {
                Ok(granted) => enter(&self.client, &self.name, granted.id()),
                Err(error) => return self.fail(error),
            },
            Phase::Entering { key, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(entered) => {
                    let (own, (oldest, _)) = places(&entered);
                    if own == oldest {
                        let (header, key) = (*entered.header(), key.clone());
                        return self.done(header, key);
                    }
                    Phase::Waiting {
                        key: key.clone(),
                        turn: Turn::new(&self.client, before(&self.name), key.clone(), own),
                    }
                }
                Err(error) => return self.fail(error),
            },
            Phase::Waiting { key, turn } => match ready!(turn.poll(&self.client, mailbox, waker)) {
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
            Phase::Got { .. } | Phase::Over => panic!("a ticket is taken once"),
        };
        self.phase = next;
        Poll::Ready(Ok(None))
    }

    fn done(&mut self, header: ResponseHeader, key: Bytes) -> Poll<Result<Option<LockResponse>>> {
        self.phase = Phase::Got { key: key.clone() };
        Poll::Ready(Ok(Some(LockResponse { header, key })))
    }

    fn fail(&mut self, error: Error) -> Poll<Result<Option<LockResponse>>> {
        self.phase = Phase::Over;
        Poll::Ready(Err(degrade(error)))
    }

    /// Deletes the key that was waited with, whoever made it (R-LCK-9).
    fn withdraw(&mut self) {
        let client = self.client.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Granting(_) | Phase::Over => {}
            Phase::Entering { key, call } => self.client.detach(async move {
                if call.await.is_ok() {
                    drop(client.delete(key).await);
                }
            }),
            Phase::Waiting { key, .. } | Phase::Checking { key, .. } | Phase::Got { key } => {
                self.client.detach(async move { drop(client.delete(key).await) });
            }
        }
    }
}

impl Waiting<LockResponse> for Locking {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<LockResponse>> {
        loop {
            if let Some(response) = ready!(self.step(mailbox, waker))? {
                return Poll::Ready(Ok(response));
            }
        }
    }

    /// The key was put, and no caller knows of it.
    fn withdraws(&self) -> bool {
        true
    }

    fn taken(&mut self) {
        self.phase = Phase::Over;
    }
}

impl Drop for Locking {
    fn drop(&mut self) {
        finish(&mut [&mut || self.withdraw()]);
    }
}
