use std::fmt;

use super::acquire::Acquired;
use super::guarded_txn::GuardedTxn;
use super::hold::Hold;
use crate::api::{Compare, Revision};
use crate::client::Ticket;
use crate::{Error, Result};

/// A held lock. Dropping it gives the lock back, and never anybody else's; in a panic too, so that locks are not poisoned. Over a
/// backend that may lose requests, [`unlock`](Self::unlock) instead, which can be repeated: a drop that is lost leaves the key until
/// the session ends.
///
/// It can be lost: if the session's lease ends, or if somebody deletes the key. What must not happen then goes through
/// [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](super::Fence).
#[must_use = "dropping a guard gives the lock back"]
pub struct MutexGuard {
    hold: Hold,
}

impl Acquired for MutexGuard {
    const LOST: Error = Error::SessionExpired;

    fn acquired(hold: Hold) -> Self {
        Self { hold }
    }
}

impl MutexGuard {
    /// The fencing token: higher than that of every earlier hold of the lock. It is the create revision of the
    /// [`key`](Self::key), by which etcd's locks rank, and so the same for all re-entrant guards that share it.
    ///
    /// A store that is loaded from an older save assigns the tokens of lost holds again. Load it with
    /// [`LoadOptions::bump_revision_above`](crate::LoadOptions::bump_revision_above) if a fence may have seen one of them. Keys
    /// that another client puts in one txn share a token: their guards are held one at a time, in key order.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// The key that exists as long as the lock is held.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// That the lock is still held, for txns of one's own (R-MTX-5).
    pub fn is_owner(&self) -> Compare {
        self.hold.is_there()
    }

    /// A txn that is run only if the lock is still held: commit it, or `.await` it.
    ///
    /// Its error when it is not is [`SessionExpired`](Error::SessionExpired).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Self::LOST)
    }

    /// Sees whether the lock is still held: the key is there, and is the same. It may be lost right afterwards: see
    /// [`txn`](Self::txn).
    ///
    /// # Errors
    ///
    /// [`SessionExpired`](Error::SessionExpired) if it is lost.
    pub fn check(&self) -> Result<()> {
        self.txn().commit().map(drop)
    }

    /// A ticket that is there once the lock is lost, or given back; at once, if it is already. Of re-entrant guards that share a
    /// key, giving back is that of the last.
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }

    /// Gives the lock back. If that fails, it can be tried again, though it may have been done: only this hold's own key is ever deleted. That the
    /// lock was lost before is no error. Of re-entrant guards that share a key, the last one deletes it.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn unlock(&self) -> Result<()> {
        self.hold.release()
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("MutexGuard"))
    }
}
