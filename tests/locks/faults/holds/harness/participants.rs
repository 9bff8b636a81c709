//! Waiters and owners of locks and leaderships.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use leasehold::{KeyValue, LeaseId, Result, Revision, Store, Ticket, TxnOp};

use super::NAMES;
use super::history::written_by;
use super::hold::{Acquired, Kind, Pending};
use crate::scheduled_backend::Flag;

/// The owner of a wait or hold: its queue, its kind and its lease.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// The index of the name of the lock or election.
    pub(super) queue: usize,
    pub(super) kind: Kind,
    pub(super) lease: LeaseId,
}

pub(super) struct Waiter {
    pub(super) owner: Owner,
    pub(super) pending: Pending,
    /// The store's revision when the wait started.
    pub(super) since: Revision,
    pub(super) poll_mode: PollMode,
    pub(super) is_woken: Arc<Flag>,
}

/// When a wait or a follower is polled.
#[derive(Clone, Copy, Debug)]
pub(super) enum PollMode {
    AtAnyTime,
    WhenWoken,
    WhenReady,
}

impl PollMode {
    pub(super) const ALL: [Self; 3] = [Self::AtAnyTime, Self::WhenWoken, Self::WhenReady];
}

pub(super) struct Held {
    pub(super) owner: Owner,
    pub(super) acquired: Acquired,
    pub(super) token: Revision,
    pub(super) release_state: ReleaseState,
    /// Whether it has requested a ticket for its loss.
    pub(super) asked: bool,
    /// The ticket, until it reports the loss, and its flag.
    pub(super) lost: Option<Ticket<()>>,
    pub(super) is_woken: Arc<Flag>,
}

/// How far the release of a hold has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReleaseState {
    Held,
    Released,
    /// The release failed, and may have been applied.
    Unknown,
}

impl Waiter {
    pub(super) fn poll_by_mode(&mut self, store: &Store) -> Result<Option<Acquired>> {
        self.pending.poll_by_mode(self.poll_mode, &self.is_woken, store)
    }
}

impl Held {
    /// Returns whether its key exists.
    pub(super) fn is_there(&self, store: &Store) -> bool {
        let found = store.get(self.acquired.key()).expect("the store is open");
        found.kvs().first().is_some_and(|kv| self.is_of(kv))
    }

    /// Returns whether its key exists and was not released. After a release, another hold of the session may have the key.
    pub(super) fn is_live(&self, store: &Store) -> bool {
        self.release_state != ReleaseState::Released && self.is_there(store)
    }

    /// Returns whether a key is the hold's key.
    pub(super) fn is_of(&self, kv: &KeyValue) -> bool {
        kv.key() == self.acquired.key() && kv.create_revision() == self.token
    }

    /// Returns a put of the token, so that the history shows which hold wrote it.
    pub(super) fn write(&self) -> TxnOp {
        TxnOp::put(written_by(NAMES[self.owner.queue]), self.token.to_string())
    }
}

pub(super) fn poll_by_mode<T>(
    ticket: &mut Ticket<T>,
    poll_mode: PollMode,
    is_woken: &Arc<Flag>,
) -> Result<Option<T>> {
    match poll_mode {
        PollMode::AtAnyTime => ticket.try_wait(),
        PollMode::WhenWoken if is_woken.take() => poll(ticket, is_woken),
        PollMode::WhenReady if ticket.ready_channel().try_recv().is_ok() => ticket.try_wait(),
        PollMode::WhenWoken | PollMode::WhenReady => Ok(None),
    }
}

/// Polls a ticket with a waker that raises the flag.
pub(super) fn poll<T>(ticket: &mut Ticket<T>, flag: &Arc<Flag>) -> Result<Option<T>> {
    let waker = Waker::from(Arc::clone(flag));
    match Pin::new(ticket).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(result) => result.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Returns a raised flag, so that its waiter polls once.
pub(super) fn raised() -> Arc<Flag> {
    let flag = Arc::new(Flag::default());
    Wake::wake(Arc::clone(&flag));
    flag
}
