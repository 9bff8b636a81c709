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

/// A guard or leadership, created from a [`Hold`] when the turn of the hold's key comes.
pub(in crate::concurrency) trait Acquired: Send + 'static {
    /// The error of a wait if the key is deleted, or its lease ends, before the key's turn comes.
    const LOST: Error;

    fn acquired(hold: Hold) -> Self;
}

/// Acquires the lock, permit or leadership of `hold` if no wait is needed. If the caller would have to wait, the call
/// returns `None` and leaves no key in the queue.
pub(in crate::concurrency) fn try_acquire<A: Acquired>(mut hold: Hold) -> Call<Option<A>> {
    let client = hold.session().client().clone();
    // A txn cannot count keys, so a permit or a read lock may need several txns.
    if !hold.entry().has_exclusive_range() {
        return client.call_async(enter_if_admitted(hold));
    }
    let call = client.txn(hold.try_put_txn());
    // `complete` processes the response even if the call is dropped, so a key that was put is not leaked.
    client.complete(call, move |response| {
        let response = response.inspect_err(|error| hold.on_put_error(error))?;
        Ok(hold.on_try_put(&response).then(|| A::acquired(hold)))
    })
}

/// The state machine of an acquisition: puts the key of a hold, and waits for the key's turn.
pub(in crate::concurrency) struct AcquireTask<A> {
    session: Session,
    phase: Phase,
    acquired: PhantomData<fn() -> A>,
}

enum Phase {
    /// The response to the txn that puts the key is pending.
    Putting { hold: Hold, call: Call<TxnResponse> },
    /// The key is put, or is a key to resume, and `turn` waits for the turn of the key.
    Waiting { hold: Hold, turn: Turn },
    /// The key to resume is outside of the election's queue, so the wait fails.
    Refused,
    /// The wait has returned its hold or failed.
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
    /// Puts the key of `hold`. The ticket completes when the key's turn comes.
    pub(in crate::concurrency) fn enter(mut hold: Hold) -> Ticket<A> {
        let client = hold.session().client();
        let mut call = client.txn(hold.put_txn());
        if !call.is_answered() {
            return Self::begin(hold, |hold| Phase::Putting { hold, call });
        }
        let mailbox = client.mailbox();
        // Fast path: the key has no predecessors to wait for, so the ticket completes without a boxed state machine.
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

    /// Returns a ticket that completes when the turn of the hold's existing key comes.
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

    /// Polls the current phase and changes to the next phase. Returns the hold once the turn of its key has come.
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

    /// Processes the response to the txn that puts the key. Returns the hold if the key's turn has come at once.
    fn on_put(&mut self, response: &TxnResponse) -> Option<Hold> {
        let mut hold = self.take_hold()?;
        self.phase = match hold.on_put(response) {
            PutResult::First => return Some(hold),
            PutResult::Behind(Some(nearest)) => Phase::wait_behind(hold, nearest),
            PutResult::Behind(None) => Phase::wait(hold),
            // Another client's key has this name, so put a key with another number.
            PutResult::NameTaken => Phase::enter(hold.renumbered()),
        };
        None
    }

    /// Ends the wait after an error, and deletes the key.
    ///
    /// In `Waiting`, dropping the hold deletes the hold's key. In `Putting`, the response to the put must be received
    /// before the deletion.
    fn fail(&mut self, error: &Error) {
        if let Phase::Putting { mut hold, call } = std::mem::replace(&mut self.phase, Phase::Over) {
            // If the call is pending, the error came from the mailbox, such as `Stopped`, and the put may still be
            // executed.
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
        // In `Waiting`, the drop of the hold deletes the key.
        if let Phase::Putting { hold, call } = std::mem::replace(&mut self.phase, Phase::Over) {
            release_after_put(&self.session, hold, call);
        }
    }
}

/// Waits in the background for the response to the txn that puts the hold's key, and then releases the hold.
fn release_after_put(session: &Session, mut hold: Hold, call: Call<TxnResponse>) {
    session.client().detach(async move {
        // The hold is dropped at the end of this task, which deletes the key.
        match call.await {
            Ok(response) => drop(hold.on_put(&response)),
            Err(error) => hold.on_put_error(&error),
        }
    });
}

/// Puts the key of `hold` if the key's turn comes at once. If the key would have to wait, returns `None` and leaves no
/// key in the queue.
///
/// A txn can compare keys but cannot count keys. If the key has predecessors, one txn reads them, and the next txn puts
/// the key unless a predecessor was created after the read. Further txns are needed if a predecessor is created between
/// two txns, also by this session. Further txns are also needed if another client's key has the name of this key.
pub(in crate::concurrency) async fn enter_if_admitted<A: Acquired>(mut hold: Hold) -> Result<Option<A>> {
    let client = hold.session().client().clone();
    // Every key is created after revision 0, so the first txn puts the key only if the key has no predecessors.
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
        // Another client's key has this name. The hold's number is not returned to the session, since the name stays
        // taken.
        if !own.kvs().is_empty() {
            hold = hold.renumbered();
        }
    }
}

/// Returns a txn that puts the key, unless the key exists or a predecessor was created after `read_at`. If the key is
/// not put, the txn reads the key and the nearest predecessors.
fn put_unless_created_after(read_at: Revision, entry: &Entry) -> Txn {
    // A compare of a range holds if it holds for every key of the range (R-TXN-7).
    let are_known = Compare::create_revision(entry.before.range().clone(), CompareOp::Less, read_at.next());
    Txn::new()
        .when([are_known, entry.key_absent()])
        .and_then([entry.put()])
        .or_else([TxnOp::get(entry.key.clone()), TxnOp::Get(entry.before.newest())])
}
