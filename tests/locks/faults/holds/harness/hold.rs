//! The kinds of holds, and of waits for them, in the words that all have in common.

use std::sync::Arc;

use leasehold::concurrency::{Election, Leadership, Mutex, MutexGuard, Session};
use leasehold::service::{LockRequest, LockResponse, LockService, UnlockRequest};
use leasehold::{
    Client, Compare, CompareOp, Error, KeyValue, LeaseId, Result, Revision, Store, Ticket, Txn, TxnOp,
};

use super::party::{Looks, look};
use crate::scheduled_backend::Flag;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lock,
    Reentrant,
    Leadership,
    /// A lock by etcd's messages, of a lease that nobody renews.
    Service,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Lock, Kind::Reentrant, Kind::Leadership, Kind::Service];

/// What candidates stand with.
pub(super) const STOOD: &str = "stood";

impl Kind {
    /// Whether its key is `name/<lease>`, and not a hold's alone.
    pub(super) fn is_of_lease(self) -> bool {
        matches!(self, Self::Reentrant | Self::Service)
    }

    /// What is said when it is lost.
    pub(super) fn lost(self) -> Error {
        if self == Self::Leadership { Error::NotLeader } else { Error::SessionExpired }
    }

    /// The lock of that name, if it is one.
    pub(super) fn mutex(self, session: &Session, name: &'static str) -> Option<Mutex> {
        match self {
            Self::Lock => Some(Mutex::new(session, name)),
            Self::Reentrant => Some(Mutex::reentrant(session, name)),
            Self::Leadership | Self::Service => None,
        }
    }
}

/// The key of whoever has no more than one of a lease (R-LCK-1).
pub(super) fn key_of_lease(name: &str, lease: LeaseId) -> String {
    format!("{name}/{lease:x}")
}

/// A wait.
pub(super) enum Wanted {
    Lock(Ticket<MutexGuard>),
    Leadership(Ticket<Leadership>),
    Service(Client, Ticket<LockResponse>),
}

impl Wanted {
    pub(super) fn new(kind: Kind, session: &Session, name: &'static str) -> Self {
        let election = Election::new(session, name);
        kind.mutex(session, name)
            .map_or_else(|| Self::Leadership(election.campaign(STOOD)), |mutex| Self::Lock(mutex.lock()))
    }

    pub(super) fn of_service(client: &Client, name: &'static str, lease: LeaseId) -> Self {
        let ticket = LockService::new(client.clone()).lock(LockRequest { name: name.into(), lease });
        Self::Service(client.clone(), ticket)
    }

    pub(super) fn look(&mut self, looks: Looks, is_woken: &Arc<Flag>, store: &Store) -> Result<Option<Had>> {
        Ok(match self {
            Self::Lock(ticket) => look(ticket, looks, is_woken)?.map(Had::Lock),
            Self::Leadership(ticket) => look(ticket, looks, is_woken)?.map(Had::Leadership),
            Self::Service(client, ticket) => {
                look(ticket, looks, is_woken)?.map(|got| Had::of_service(client, &got, store))
            }
        })
    }

    pub(super) fn wait(&mut self, time: std::time::Duration, store: &Store) -> Result<Option<Had>> {
        Ok(match self {
            Self::Lock(ticket) => ticket.wait_timeout(time)?.map(Had::Lock),
            Self::Leadership(ticket) => ticket.wait_timeout(time)?.map(Had::Leadership),
            Self::Service(client, ticket) => {
                ticket.wait_timeout(time)?.map(|got| Had::of_service(client, &got, store))
            }
        })
    }
}

/// A hold.
pub(super) enum Had {
    Lock(MutexGuard),
    Leadership(Leadership),
    Service(Served),
}

impl Had {
    fn of_service(client: &Client, got: &LockResponse, store: &Store) -> Self {
        let found = store.get(&got.key[..]).expect("the store is open");
        let token = found.kvs().first().map(KeyValue::create_revision);
        Self::Service(Served { client: client.clone(), key: got.key.to_vec(), token })
    }

    /// `None` if the lock was lost before its service's answer was looked at.
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

    /// That it is still there.
    pub(super) fn is_there(&self) -> Compare {
        match self {
            Self::Lock(guard) => guard.is_owner(),
            Self::Leadership(leadership) => leadership.is_leader(),
            Self::Service(served) => served.is_there(),
        }
    }

    /// Does that if it is still there.
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

    /// Services tell nobody (R-LCK-11).
    pub(super) fn lost(&self) -> Option<Ticket<()>> {
        match self {
            Self::Lock(guard) => Some(guard.lost()),
            Self::Leadership(leadership) => Some(leadership.lost()),
            Self::Service(_) => None,
        }
    }

    pub(super) fn give_back(&self) -> Result<()> {
        match self {
            Self::Lock(guard) => guard.unlock().wait(),
            Self::Leadership(leadership) => leadership.resign().wait(),
            Self::Service(served) => served.unlock().wait().map(drop),
        }
    }
}

/// A lock that was got of a service. It is given back when it is dropped.
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
