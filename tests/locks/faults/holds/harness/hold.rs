//! The kinds of holds and waits, with one interface for all.

use std::sync::Arc;

use leasehold::concurrency::{Election, Leadership, Mutex, MutexGuard, Session};
use leasehold::service::{LockRequest, LockResponse, LockService, UnlockRequest};
use leasehold::{
    Client, Compare, CompareOp, Error, KeyValue, LeaseId, Result, Revision, Store, Ticket, Txn, TxnOp,
};

use super::participants::{PollMode, poll_by_mode};
use crate::scheduled_backend::Flag;

/// A kind of hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lock,
    Reentrant,
    Leadership,
    /// A lock of etcd's service, with a lease that is not renewed.
    Service,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Lock, Kind::Reentrant, Kind::Leadership, Kind::Service];

/// The value of a new candidacy.
pub(super) const STOOD: &str = "stood";

impl Kind {
    /// Returns whether its key is `name/<lease>`, and not the key of a single hold.
    pub(super) fn is_of_lease(self) -> bool {
        matches!(self, Self::Reentrant | Self::Service)
    }

    /// Returns the error of a lost hold.
    pub(super) fn lost(self) -> Error {
        if self == Self::Leadership { Error::NotLeader } else { Error::SessionExpired }
    }

    /// Returns the lock of that name, if the kind is a lock.
    pub(super) fn mutex(self, session: &Session, name: &'static str) -> Option<Mutex> {
        match self {
            Self::Lock => Some(Mutex::new(session, name)),
            Self::Reentrant => Some(Mutex::reentrant(session, name)),
            Self::Leadership | Self::Service => None,
        }
    }
}

/// Returns the one key of a lease in a queue (R-LCK-1).
pub(super) fn key_of_lease(name: &str, lease: LeaseId) -> String {
    format!("{name}/{lease:x}")
}

/// A pending acquisition.
pub(super) enum Pending {
    Lock(Ticket<MutexGuard>),
    Leadership(Ticket<Leadership>),
    Service(Client, Ticket<LockResponse>),
}

impl Pending {
    pub(super) fn new(kind: Kind, session: &Session, name: &'static str) -> Self {
        let election = Election::new(session, name);
        kind.mutex(session, name)
            .map_or_else(|| Self::Leadership(election.campaign(STOOD)), |mutex| Self::Lock(mutex.lock()))
    }

    pub(super) fn of_service(client: &Client, name: &'static str, lease: LeaseId) -> Self {
        let ticket = LockService::new(client.clone()).lock(LockRequest { name: name.into(), lease });
        Self::Service(client.clone(), ticket)
    }

    pub(super) fn poll_by_mode(
        &mut self,
        poll_mode: PollMode,
        is_woken: &Arc<Flag>,
        store: &Store,
    ) -> Result<Option<Acquired>> {
        Ok(match self {
            Self::Lock(ticket) => poll_by_mode(ticket, poll_mode, is_woken)?.map(Acquired::Lock),
            Self::Leadership(ticket) => poll_by_mode(ticket, poll_mode, is_woken)?.map(Acquired::Leadership),
            Self::Service(client, ticket) => poll_by_mode(ticket, poll_mode, is_woken)?
                .map(|got| Acquired::of_service(client, &got, store)),
        })
    }

    pub(super) fn wait(&mut self, time: std::time::Duration, store: &Store) -> Result<Option<Acquired>> {
        Ok(match self {
            Self::Lock(ticket) => ticket.wait_timeout(time)?.map(Acquired::Lock),
            Self::Leadership(ticket) => ticket.wait_timeout(time)?.map(Acquired::Leadership),
            Self::Service(client, ticket) => {
                ticket.wait_timeout(time)?.map(|got| Acquired::of_service(client, &got, store))
            }
        })
    }
}

/// An acquired lock or leadership.
pub(super) enum Acquired {
    Lock(MutexGuard),
    Leadership(Leadership),
    Service(Served),
}

impl Acquired {
    fn of_service(client: &Client, got: &LockResponse, store: &Store) -> Self {
        let found = store.get(&got.key[..]).expect("the store is open");
        let token = found.kvs().first().map(KeyValue::create_revision);
        Self::Service(Served { client: client.clone(), key: got.key.to_vec(), token })
    }

    /// Returns the token; `None` if the key was deleted before the service's response was received.
    pub(super) fn token(&self) -> Option<Revision> {
        match self {
            Self::Lock(guard) => Some(guard.token()),
            Self::Leadership(leadership) => Some(leadership.token()),
            Self::Service(served) => served.token,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Lock(guard) => guard.key(),
            Self::Leadership(leadership) => leadership.key(),
            Self::Service(served) => &served.key,
        }
    }

    /// Returns the compare that the key exists unchanged.
    pub(super) fn is_there(&self) -> Compare {
        match self {
            Self::Lock(guard) => guard.owner_compare(),
            Self::Leadership(leadership) => leadership.leader_compare(),
            Self::Service(served) => served.is_there(),
        }
    }

    /// Runs an operation if the key exists unchanged.
    pub(super) fn act(&self, op: TxnOp) -> Result<()> {
        match self {
            Self::Lock(guard) => guard.txn().and_then([op]).commit().wait().map(drop),
            Self::Leadership(leadership) => leadership.txn().and_then([op]).commit().wait().map(drop),
            Self::Service(served) => {
                let txn = Txn::new().when([served.is_there()]).and_then([op]);
                let is_done = served.client.txn(txn).wait()?.succeeded();
                if is_done { Ok(()) } else { Err(Error::SessionExpired) }
            }
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Lock(guard) => guard.check().wait(),
            Self::Leadership(leadership) => leadership.check().wait(),
            Self::Service(_) => Ok(()),
        }
    }

    /// Returns a ticket for the loss. The services report no losses (R-LCK-11).
    pub(super) fn lost(&self) -> Option<Ticket<()>> {
        match self {
            Self::Lock(guard) => Some(guard.lost()),
            Self::Leadership(leadership) => Some(leadership.lost()),
            Self::Service(_) => None,
        }
    }

    pub(super) fn release(&self) -> Result<()> {
        match self {
            Self::Lock(guard) => guard.unlock().wait(),
            Self::Leadership(leadership) => leadership.resign().wait(),
            Self::Service(served) => served.unlock().wait().map(drop),
        }
    }
}

/// A lock acquired from the service. Dropping it unlocks.
pub(super) struct Served {
    client: Client,
    key: Vec<u8>,
    token: Option<Revision>,
}

impl Served {
    fn is_there(&self) -> Compare {
        Compare::create_revision(&self.key[..], CompareOp::Equal, self.token.unwrap_or_default())
    }

    fn unlock(&self) -> leasehold::Call<leasehold::service::UnlockResponse> {
        LockService::new(self.client.clone()).unlock(UnlockRequest { key: self.key.clone().into() })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.unlock().wait());
    }
}
