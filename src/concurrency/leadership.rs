use std::fmt;

use super::acquire::Acquired;
use super::guarded_txn::GuardedTxn;
use super::hold::Hold;
use crate::api::{Compare, IntoBytes, Put, Revision, TxnOp};
use crate::client::Ticket;
use crate::{Error, Result};

/// An election that was won. Dropping it resigns, and never from anybody else's. Over a backend that may lose requests,
/// [`resign`](Self::resign) instead, which can be repeated: a drop that is lost leaves the key until the session ends.
///
/// It can be lost: if the session's lease ends, or if somebody deletes the key. What must not happen then goes through
/// [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](super::Fence).
#[must_use = "dropping a leadership resigns"]
pub struct Leadership {
    hold: Hold,
}

impl Acquired for Leadership {
    const LOST: Error = Error::NotLeader;

    fn acquired(hold: Hold) -> Self {
        Self { hold }
    }
}

impl Leadership {
    /// The fencing token: higher than that of every earlier leader. It is the create revision of the [`key`](Self::key): etcd's
    /// `LeaderKey.rev`.
    ///
    /// A store that is loaded from an older save assigns the tokens of lost leaderships again. Load it with
    /// [`LoadOptions::bump_revision_above`](crate::LoadOptions::bump_revision_above) if a fence may have seen one of them.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// The key that exists as long as the leader leads.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// That the leader still leads, for txns of one's own.
    pub fn is_leader(&self) -> Compare {
        self.hold.is_there()
    }

    /// A txn that is run only if the leader still leads: commit it, or `.await` it.
    ///
    /// Its error when it does not is [`NotLeader`](Error::NotLeader).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Self::LOST)
    }

    /// Sees whether the leader still leads. It may have ended right afterwards: see [`txn`](Self::txn).
    ///
    /// # Errors
    ///
    /// [`NotLeader`](Error::NotLeader) if it does not.
    pub fn check(&self) -> Result<()> {
        self.txn().commit().map(drop)
    }

    /// Changes the value that observers see; the place is kept (R-ELC-7).
    ///
    /// # Errors
    ///
    /// [`NotLeader`](Error::NotLeader) if the leader does not lead any more: then nothing was changed.
    pub fn proclaim(&self, value: impl IntoBytes) -> Result<()> {
        let put = Put::new(self.hold.key().clone(), value).lease(self.hold.session().lease());
        self.txn().and_then([TxnOp::Put(put)]).commit().map(drop)
    }

    /// A ticket that is there once the leader does not lead any more; at once, if that is so already.
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }

    /// Ends the leadership, so that the next candidate leads. If that fails, it can be tried again, though it may have been done: only its own key
    /// is ever deleted. That it was over before is no error. The lease lives on (R-ELC-9).
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn resign(&self) -> Result<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("Leadership"))
    }
}
