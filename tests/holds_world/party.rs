//! Those who wait for a lock, and those who have it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use leasehold::concurrency::MutexGuard;
use leasehold::{LeaseId, Result, Store, Ticket, TxnOp};

use super::LOCKS;
use super::history::written_by;
use crate::stepped::Flag;

pub(super) struct Waiter {
    pub(super) lock: usize,
    pub(super) lease: LeaseId,
    pub(super) ticket: Ticket<MutexGuard>,
    pub(super) looks: Looks,
    pub(super) is_woken: Arc<Flag>,
}

/// When a waiter looks whether it is its turn.
#[derive(Clone, Copy)]
pub(super) enum Looks {
    AtAnyTime,
    WhenWoken,
    WhenReady,
}

pub(super) struct Held {
    pub(super) lock: usize,
    pub(super) lease: LeaseId,
    pub(super) guard: MutexGuard,
    /// Whether it asked to be told when it is lost.
    pub(super) asked: bool,
    /// Its ticket, until it says that the lock is lost, and what wakes it.
    pub(super) lost: Option<Ticket<()>>,
    pub(super) is_woken: Arc<Flag>,
}

impl Waiter {
    pub(super) fn look(&mut self) -> Result<Option<MutexGuard>> {
        match self.looks {
            Looks::AtAnyTime => self.ticket.try_take(),
            Looks::WhenWoken if self.is_woken.take() => poll(&mut self.ticket, &self.is_woken),
            Looks::WhenReady if self.ticket.ready().try_recv().is_ok() => self.ticket.try_take(),
            Looks::WhenWoken | Looks::WhenReady => Ok(None),
        }
    }
}

impl Held {
    /// Whether the store says so.
    pub(super) fn is_live(&self, store: &Store) -> bool {
        let found = store.get(self.guard.key()).expect("the store is open");
        found.kvs().first().is_some_and(|kv| kv.create_revision() == self.guard.token())
    }

    /// Puts the guard's token, so that history tells whose write it was.
    pub(super) fn write(&self) -> TxnOp {
        TxnOp::put(written_by(LOCKS[self.lock]), self.guard.token().to_string())
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
