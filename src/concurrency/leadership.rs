use std::fmt;

use super::acquire::Acquired;
use super::guarded_txn::GuardedTxn;
use super::hold::Hold;
use crate::Error;
use crate::api::{Compare, IntoBytes, Put, Revision, TxnOp};
use crate::client::{Call, Ticket};

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

    /// A txn that is executed only if the leader still leads when it is committed.
    ///
    /// Its error when it does not is [`NotLeader`](Error::NotLeader).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Self::LOST)
    }

    /// Checks that the leader still leads: that its key exists, with the token as create revision. The leadership may be lost
    /// right afterwards: see [`txn`](Self::txn).
    ///
    /// The call's errors: [`NotLeader`](Error::NotLeader) if it is lost, and those of the backend.
    pub fn check(&self) -> Call<()> {
        self.txn().check()
    }

    /// Changes the value that observers see; the place is kept (R-ELC-7).
    ///
    /// The call's errors: [`NotLeader`](Error::NotLeader) if the leadership is lost, and then nothing was changed; and those of
    /// the backend.
    pub fn proclaim(&self, value: impl IntoBytes) -> Call<()> {
        let put = Put::new(self.hold.key().clone(), value).lease(self.hold.session().lease());
        self.txn().and_then([TxnOp::Put(put)]).check()
    }

    /// Completes when the leadership is lost or resigned, immediately if it already was, and may be asked again then.
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }

    /// Resigns, so that the next candidate leads. If that fails, it can be repeated, even if it was done: only this
    /// leadership's own key is ever deleted. Succeeds if the leadership was lost already. The lease lives on (R-ELC-9).
    ///
    /// The call's errors are those of the backend.
    pub fn resign(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("Leadership"))
    }
}
