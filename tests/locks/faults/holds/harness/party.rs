//! Those who wait for a lock or stand in an election, and those who have it or lead.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use leasehold::{KeyValue, LeaseId, Result, Revision, Store, Ticket, TxnOp};

use super::NAMES;
use super::history::written_by;
use super::hold::{Had, Kind, Wanted};
use crate::scheduled_backend::Flag;

/// Whose something is.
#[derive(Clone, Copy)]
pub(super) struct Whose {
    /// The place of the name of lock or election.
    pub(super) queue: usize,
    pub(super) kind: Kind,
    pub(super) lease: LeaseId,
}

pub(super) struct Waiter {
    pub(super) whose: Whose,
    pub(super) wanted: Wanted,
    /// The store's revision when it began.
    pub(super) since: Revision,
    pub(super) looks: Looks,
    pub(super) is_woken: Arc<Flag>,
}

/// When somebody looks whether there is something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looks {
    AtAnyTime,
    WhenWoken,
    WhenReady,
}

impl Looks {
    pub(super) const ALL: [Self; 3] = [Self::AtAnyTime, Self::WhenWoken, Self::WhenReady];
}

pub(super) struct Held {
    pub(super) whose: Whose,
    pub(super) had: Had,
    pub(super) token: Revision,
    pub(super) is: Is,
    /// Whether it asked to be told when it is lost.
    pub(super) asked: bool,
    /// Its ticket, until it says that the hold is lost, and what wakes it.
    pub(super) lost: Option<Ticket<()>>,
    pub(super) is_woken: Arc<Flag>,
}

/// What was done about a hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Needed,
    GivenBack,
    /// That has failed.
    Doubtful,
}

impl Waiter {
    pub(super) fn look(&mut self, store: &Store) -> Result<Option<Had>> {
        self.wanted.look(self.looks, &self.is_woken, store)
    }
}

impl Held {
    /// Whether the store says so.
    pub(super) fn is_there(&self, store: &Store) -> bool {
        let found = store.get(self.had.key()).expect("the store is open");
        found.kvs().first().is_some_and(|kv| self.is_of(kv))
    }

    /// Whether it is there, and was not given back: another of its session may have the key then.
    pub(super) fn is_live(&self, store: &Store) -> bool {
        self.is != Is::GivenBack && self.is_there(store)
    }

    /// Whether that is its key.
    pub(super) fn is_of(&self, kv: &KeyValue) -> bool {
        kv.key() == self.had.key() && kv.create_revision() == self.token
    }

    /// Puts the token, so that history tells whose write it was.
    pub(super) fn write(&self) -> TxnOp {
        TxnOp::put(written_by(NAMES[self.whose.queue]), self.token.to_string())
    }
}

pub(super) fn look<T>(ticket: &mut Ticket<T>, looks: Looks, is_woken: &Arc<Flag>) -> Result<Option<T>> {
    match looks {
        Looks::AtAnyTime => ticket.try_wait(),
        Looks::WhenWoken if is_woken.take() => poll(ticket, is_woken),
        Looks::WhenReady if ticket.ready().try_recv().is_ok() => ticket.try_wait(),
        Looks::WhenWoken | Looks::WhenReady => Ok(None),
    }
}

/// Polls a ticket, to have the flag put up when it is to be polled again.
pub(super) fn poll<T>(ticket: &mut Ticket<T>, flag: &Arc<Flag>) -> Result<Option<T>> {
    let waker = Waker::from(Arc::clone(flag));
    match Pin::new(ticket).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(result) => result.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// A flag that is up, so that who waits for it looks once.
pub(super) fn raised() -> Arc<Flag> {
    let flag = Arc::new(Flag::default());
    Wake::wake(Arc::clone(&flag));
    flag
}
