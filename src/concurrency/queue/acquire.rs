//! The state machine that acquires a lock or a leadership.

use std::marker::PhantomData;
use std::task::{Poll, Waker, ready};

use super::Entry;
use super::key::{Hold, PutResult};
use super::turn::Turn;
use crate::api::{Compare, CompareOp, KeyValues, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse};
use crate::client::{Call, Mailbox, Ticket, Waiting};
use crate::concurrency::session::Session;
use crate::{Error, Result};

/// A guard or leadership, created from a hold when its key's turn comes.
pub(in crate::concurrency) trait Acquired: Send + 'static {
    /// The error of a wait whose hold is lost.
    const LOST: Error;

    fn acquired(hold: Hold) -> Self;
}

/// Acquires the lock if it is free. Otherwise the call returns `None` and leaves no key.
pub(in crate::concurrency) fn try_acquire<A: Acquired>(mut hold: Hold) -> Call<Option<A>> {
    let client = hold.session().client().clone();
    if !hold.entry().has_exclusive_range() {
        return client.call_async(enter_if_admitted(hold));
    }
    let call = client.txn(hold.try_put_txn());
    client.complete(call, move |response| {
        let response = response.inspect_err(|error| hold.on_put_error(error))?;
        Ok(hold.on_try_put(&response).then(|| A::acquired(hold)))
    })
}

/// State machine that puts a hold's key and waits for its turn.
pub(in crate::concurrency) struct AcquireTask<A> {
    session: Session,
    phase: Phase,
    acquired: PhantomData<fn() -> A>,
}

enum Phase {
    /// The key is being put.
    Putting {
        hold: Hold,
        call: Call<TxnResponse>,
    },
    /// The key exists and waits for its turn.
    Waiting {
        hold: Hold,
        turn: Turn,
    },
    /// The key is not in the queue of the election.
    Refused,
    Over,
}

impl Phase {
    fn enter(hold: Hold) -> Self {
        let call = hold.session().client().txn(hold.put_txn());
        Self::Putting { hold, call }
    }

    fn wait(hold: Hold) -> Self {
        let (before, key) = (hold.entry().before.clone(), hold.key().clone());
        let turn = Turn::for_guard(hold.session().client(), before, key, hold.token(), hold.end());
        Self::Waiting { hold, turn }
    }

    fn wait_behind(hold: Hold, nearest: KeyValues) -> Self {
        let (before, key) = (hold.entry().before.clone(), hold.key().clone());
        let turn = Turn::for_guard_behind(before, key, hold.token(), hold.end(), nearest);
        Self::Waiting { hold, turn }
    }
}

impl<A: Acquired> AcquireTask<A> {
    /// Puts the key and waits for its turn.
    pub(in crate::concurrency) fn enter(mut hold: Hold) -> Ticket<A> {
        let client = hold.session().client();
        let mut call = client.txn(hold.put_txn());
        if !call.is_answered() {
            return Self::begin(hold, |hold| Phase::Putting { hold, call });
        }
        let mailbox = client.mailbox();
        // Fast path: the lock is free, and no state machine is needed.
        match call.try_wait() {
            Ok(Some(response)) if hold.is_first(&response) => {
                hold.on_put(&response);
                Ticket::completed(mailbox, Ok(A::acquired(hold)))
            }
            Ok(response) => {
                let call = Call::from_result(Ok(response.expect("an answered call returns its response")));
                Self::begin(hold, |hold| Phase::Putting { hold, call })
            }
            Err(error) => {
                hold.on_put_error(&error);
                Ticket::completed(mailbox, Err(error))
            }
        }
    }

    /// Waits for the turn of an existing key.
    pub(in crate::concurrency) fn wait(hold: Hold) -> Ticket<A> {
        Self::begin(hold, Phase::wait)
    }

    /// Returns a ticket that fails with `A::LOST`.
    pub(in crate::concurrency) fn refuse(session: &Session) -> Ticket<A> {
        let refused = Self { session: session.clone(), phase: Phase::Refused, acquired: PhantomData };
        Ticket::new(session.client(), refused)
    }

    fn begin(hold: Hold, first: impl FnOnce(Hold) -> Phase) -> Ticket<A> {
        let session = hold.session().clone();
        let task = Self { session: session.clone(), phase: first(hold), acquired: PhantomData };
        Ticket::new(session.client(), task)
    }

    /// Completes the current phase. Returns the hold after the last phase.
    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<Hold>>> {
        let result = match &mut self.phase {
            Phase::Putting { call, .. } => {
                ready!(mailbox.poll_call(call, waker)).map(|response| self.on_put(&response))
            }
            Phase::Waiting { turn, .. } => match ready!(turn.poll(self.session.client(), mailbox, waker)) {
                Err(Error::SessionExpired) => Err(A::LOST),
                done => done.map(|()| self.take_hold()),
            },
            Phase::Refused => Err(A::LOST),
            Phase::Over => panic!("the result of a ticket is taken once"),
        };
        if let Err(error) = &result {
            self.fail(error);
        }
        Poll::Ready(result)
    }

    /// Processes the response to the put. Returns the hold if it is the key's turn.
    fn on_put(&mut self, response: &TxnResponse) -> Option<Hold> {
        let mut hold = self.take_hold()?;
        self.phase = match hold.on_put(response) {
            PutResult::First => return Some(hold),
            PutResult::Behind(Some(nearest)) => Phase::wait_behind(hold, nearest),
            PutResult::Behind(None) => Phase::wait(hold),
            PutResult::NameTaken => Phase::enter(hold.renumbered()),
        };
        None
    }

    /// Ends the wait after an error.
    ///
    /// In `Waiting`, dropping the hold deletes its key. In `Putting`, the outcome of the put must be known first.
    fn fail(&mut self, error: &Error) {
        if let Phase::Putting { mut hold, call } = std::mem::replace(&mut self.phase, Phase::Over) {
            if call.is_pending() {
                release_after_put(&self.session, hold, call);
            } else {
                hold.on_put_error(error);
            }
        }
    }

    fn take_hold(&mut self) -> Option<Hold> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Putting { hold, .. } | Phase::Waiting { hold, .. } => Some(hold),
            Phase::Refused | Phase::Over => None,
        }
    }
}

impl<A: Acquired> Waiting<A> for AcquireTask<A> {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<A>> {
        loop {
            if let Some(hold) = ready!(self.step(mailbox, waker))? {
                return Poll::Ready(Ok(A::acquired(hold)));
            }
        }
    }
}

impl<A> Drop for AcquireTask<A> {
    fn drop(&mut self) {
        if let Phase::Putting { hold, call } = std::mem::replace(&mut self.phase, Phase::Over) {
            release_after_put(&self.session, hold, call);
        }
    }
}

/// Waits in the background for the outcome of a put, and then releases the key.
fn release_after_put(session: &Session, mut hold: Hold, call: Call<TxnResponse>) {
    session.client().detach(async move {
        // The hold is dropped after this, which deletes the key.
        match call.await {
            Ok(response) => drop(hold.on_put(&response)),
            Err(error) => hold.on_put_error(&error),
        }
    });
}

/// Puts the key if its turn comes at once. Otherwise returns `None` and leaves no key.
///
/// A txn compares keys, but cannot count them. So one txn reads the predecessors, and the next one puts the key unless another
/// predecessor was created after that read. A third attempt happens only if another client creates such a key, or if the name of
/// this key is taken.
pub(in crate::concurrency) async fn enter_if_admitted<A: Acquired>(mut hold: Hold) -> Result<Option<A>> {
    let client = hold.session().client().clone();
    // No key is created at revision 0, so the first attempt puts the key if there are no predecessors.
    let mut read_at = Revision::new(0);
    loop {
        let response = client.txn(put_unless_created_after(read_at, hold.entry())).await;
        let response = response.inspect_err(|error| hold.on_put_error(error))?;
        read_at = response.header().revision();
        if response.succeeded() {
            hold.on_found(read_at, read_at);
            return Ok(Some(A::acquired(hold)));
        }
        let [TxnOpResponse::Get(own), TxnOpResponse::Get(nearest)] = response.responses() else {
            panic!("the responses to two gets are get responses, not {response:?}");
        };
        if !hold.entry().before.admits(nearest.kvs().len()) {
            hold.not_put();
            return Ok(None);
        }
        if !own.kvs().is_empty() {
            hold = hold.renumbered();
        }
    }
}

/// Returns a txn that puts the key, unless the key exists or a predecessor was created after `read_at`. Otherwise the txn reads
/// the key and the predecessors.
fn put_unless_created_after(read_at: Revision, entry: &Entry) -> Txn {
    let are_known = Compare::create_revision(entry.before.range().clone(), CompareOp::Less, read_at.next());
    Txn::new()
        .when([are_known, entry.key_absent()])
        .and_then([entry.put()])
        .or_else([TxnOp::get(entry.key.clone()), TxnOp::Get(entry.before.newest())])
}
