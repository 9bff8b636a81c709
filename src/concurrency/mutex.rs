use bytes::Bytes;

use super::acquire::Acquiring;
use super::guard::MutexGuard;
use super::queue::LockQueue;
use super::session::Session;
use crate::Result;
use crate::api::{Compare, CompareOp, Get, IntoBytes, KeyRange, Put, SortOrder, SortTarget, Txn, TxnOp};
use crate::client::Ticket;

/// A lock that whole processes can hold: first come, first served, and gone with its session.
///
/// Each hold has a key of its own, `name/<lease>-<n>`, so that threads that share a session exclude each other. Whoever uses
/// etcd's own keys, [`LockService`](crate::service::LockService) among them, queues with it.
///
/// ```
/// use leasehold::concurrency::{Mutex, Session};
/// use leasehold::{Store, TxnOp};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10))?;
/// let mutex = Mutex::new(&session, "jobs/nightly");
///
/// let guard = mutex.lock()?;
/// guard.txn().and_then([TxnOp::put("jobs/last", "ran")]).commit()?; // refused if the lock was lost meanwhile
/// assert!(mutex.try_lock()?.is_none());
/// let mut waiting = mutex.enqueue();
/// guard.unlock()?;
/// let next = waiting.try_take()?.expect("it is its turn");
/// assert!(next.token() > guard.token());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mutex {
    session: Session,
    name: Bytes,
}

impl Mutex {
    /// The lock of that name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        Self { session: session.clone(), name: name.into_bytes() }
    }

    /// Waits for one's turn.
    ///
    /// # Errors
    ///
    /// Those of the ticket of [`enqueue`](Self::enqueue).
    pub fn lock(&self) -> Result<MutexGuard> {
        // If nobody has it and nobody waits, there is no queue to stand in.
        match self.try_lock()? {
            Some(guard) => Ok(guard),
            None => self.enqueue().wait(),
        }
    }

    /// Takes the lock if nobody has it and nobody waits for it. Nothing is left behind if not.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session is over.
    pub fn try_lock(&self) -> Result<Option<MutexGuard>> {
        let hold = self.session.next_hold();
        let key = self.key_of(hold);
        // Of an empty range, every revision is 0 (R-TXN-7).
        let is_free = Compare::create_revision(self.range(), CompareOp::Equal, 0);
        let put = TxnOp::Put(Put::new(key.clone(), "").lease(self.session.lease()));
        let done = self.session.client().txn(Txn::new().when([is_free]).and_then([put])).wait()?;
        if !done.succeeded() {
            self.session.end_hold(hold);
            return Ok(None);
        }
        let token = done.header().revision();
        Ok(Some(MutexGuard::new(&self.session, hold, key, token, token)))
    }

    /// Queues for the lock. The ticket keeps its place until it is dropped, which gives it up at once.
    ///
    /// The ticket's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session is over at the beginning, and
    /// [`SessionExpired`](crate::Error::SessionExpired) at once when it is later, or somebody deletes the key.
    pub fn enqueue(&self) -> Ticket<MutexGuard> {
        let hold = self.session.next_hold();
        Ticket::new(
            self.session.client(),
            Acquiring::new(&self.session, self.range(), hold, self.key_of(hold)),
        )
    }

    /// Who holds the lock, and who waits for it, in their order.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn queue(&self) -> Result<LockQueue> {
        let all = Get::range(self.range()).sort(SortTarget::CreateRevision, SortOrder::Ascend);
        let found = self.session.client().get(all).wait()?;
        Ok(LockQueue::new(&self.name, found.kvs()))
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix([&self.name, &b"/"[..]].concat())
    }

    fn key_of(&self, hold: u64) -> Bytes {
        let own = format!("/{:x}-{hold}", self.session.lease());
        [&self.name, own.as_bytes()].concat().into()
    }
}
