use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::session::Session;
use crate::api::{
    Compare, CompareOp, Delivery, EventType, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse, Watch,
    WatchRequest,
};
use crate::client::{Mailbox, Step, Ticket, Wait};
use crate::{Error, Result};

/// A held lock. Dropping it gives the lock back, and never anybody else's.
///
/// It can be lost: if the session's lease ends, or if somebody deletes the key. What must not happen then goes through
/// [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](super::Fence).
#[must_use = "dropping a guard gives the lock back"]
pub struct MutexGuard {
    session: Session,
    hold: u64,
    key: Bytes,
    token: Revision,
    /// The store's revision when the lock was got.
    since: Revision,
    is_released: AtomicBool,
}

impl MutexGuard {
    pub(super) fn new(session: &Session, hold: u64, key: Bytes, token: Revision, since: Revision) -> Self {
        Self { session: session.clone(), hold, key, token, since, is_released: AtomicBool::new(false) }
    }

    /// The fencing token: higher than that of every earlier hold of the lock.
    pub fn token(&self) -> Revision {
        self.token
    }

    /// The key that exists as long as the lock is held.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// That the lock is still held, for txns of one's own.
    pub fn is_owner(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, self.token)
    }

    /// A txn that is run only if the lock is still held.
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn { guard: self, txn: Txn::new() }
    }

    /// Sees whether the lock is still held. It may be lost right afterwards: see [`txn`](Self::txn).
    ///
    /// # Errors
    ///
    /// [`SessionExpired`](Error::SessionExpired) if it is lost.
    pub fn check(&self) -> Result<()> {
        self.txn().commit().map(drop)
    }

    /// A ticket that is there once the lock is lost, or given back.
    pub fn lost(&self) -> Ticket<()> {
        let watch = Watch::key(self.key.clone()).from(self.since.next()).no_put();
        Ticket::new(self.session.client(), Losing { watch: Some(watch) })
    }

    /// Gives the lock back. If the result is doubtful, it can be tried again: only this hold's own key is ever deleted. That the
    /// lock was lost before is no error.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn unlock(&self) -> Result<()> {
        let done = self.session.client().txn(self.release()).wait()?;
        self.is_released.store(true, Ordering::Release);
        if done.succeeded() {
            self.session.end_hold(self.hold);
        }
        Ok(())
    }

    fn release(&self) -> Txn {
        Txn::new().when([self.is_owner()]).and_then([TxnOp::delete(self.key.clone())])
    }
}

impl Drop for MutexGuard {
    fn drop(&mut self) {
        if !self.is_released.load(Ordering::Acquire) {
            let (session, hold, release) = (self.session.clone(), self.hold, self.release());
            self.session.client().detach(async move {
                if session.client().txn(release).await.is_ok_and(|done| done.succeeded()) {
                    session.end_hold(hold);
                }
            });
        }
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = format_args!("\"{}\"", self.key.escape_ascii());
        f.debug_struct("MutexGuard").field("key", &key).field("token", &self.token).finish_non_exhaustive()
    }
}

/// A transaction with the ownership of a lock already among its conditions: see [`MutexGuard::txn`].
#[derive(Debug)]
#[must_use = "a txn does nothing until it is committed"]
pub struct GuardedTxn<'a> {
    guard: &'a MutexGuard,
    txn: Txn,
}

impl GuardedTxn<'_> {
    /// Adds compares: see [`Txn::when`].
    pub fn when(self, compares: impl IntoIterator<Item = Compare>) -> Self {
        Self { txn: self.txn.when(compares), ..self }
    }

    /// Adds operations to run if all compares hold: see [`Txn::and_then`].
    pub fn and_then(self, operations: impl IntoIterator<Item = TxnOp>) -> Self {
        Self { txn: self.txn.and_then(operations), ..self }
    }

    /// Adds operations to run if not: see [`Txn::or_else`].
    pub fn or_else(self, operations: impl IntoIterator<Item = TxnOp>) -> Self {
        Self { txn: self.txn.or_else(operations), ..self }
    }

    /// Runs it. [`TxnResponse::succeeded`] speaks of the compares that were added.
    ///
    /// # Errors
    ///
    /// [`SessionExpired`](Error::SessionExpired) if the lock is lost: then nothing was run. And those of
    /// [`Engine::txn`](crate::Engine::txn).
    pub fn commit(self) -> Result<TxnResponse> {
        let guarded = Txn::new().when([self.guard.is_owner()]).and_then([TxnOp::Txn(self.txn)]);
        let done = self.guard.session.client().txn(guarded).wait()?;
        match done.responses {
            mut responses if done.succeeded => match responses.pop() {
                Some(TxnOpResponse::Txn(inner)) => Ok(TxnResponse { header: done.header, ..inner }),
                other => panic!("a txn is answered as a txn, not with {other:?}"),
            },
            _ => Err(Error::SessionExpired),
        }
    }
}

/// Waits until a key is gone.
struct Losing {
    /// Until it is asked for.
    watch: Option<Watch>,
}

impl Wait<()> for Losing {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<()>> {
        if let Some(watch) = self.watch.take() {
            mailbox.watch(&[WatchRequest::Create(watch)]);
        }
        loop {
            let response = match ready!(mailbox.poll(waker)) {
                Ok(Delivery::Watch(response)) => response,
                Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                Err(error) => return Poll::Ready(Step::Done(Err(error))),
            };
            let is_gone = response.events().iter().any(|event| event.event_type() == EventType::Delete);
            // Of what was compacted nobody can say that the key was not deleted in it.
            if is_gone || response.canceled() {
                return Poll::Ready(Step::Done(Ok(())));
            }
        }
    }
}
