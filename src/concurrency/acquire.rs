//! The phases of getting a lock.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::call::poll_call;
use super::enter::{entering, places};
use super::guard::MutexGuard;
use super::session::Session;
use super::turn::Turn;
use crate::api::{Compare, CompareOp, KeyRange, Revision, Txn, TxnOp, TxnResponse};
use crate::client::{Call, Mailbox, Step, Wait};

/// A hold on its way.
pub(super) struct Acquiring {
    session: Session,
    range: KeyRange,
    hold: u64,
    key: Bytes,
    phase: Phase,
}

enum Phase {
    /// The key is being put.
    Entering(Call<TxnResponse>),
    /// The key is there, and waits for its turn.
    Waiting {
        token: Revision,
        turn: Turn,
    },
    Over,
}

impl Acquiring {
    pub(super) fn new(session: &Session, range: KeyRange, hold: u64, key: Bytes) -> Self {
        let txn = entering(range.clone(), key.clone(), session.lease());
        let phase = Phase::Entering(session.client().txn(txn));
        Self { session: session.clone(), range, hold, key, phase }
    }

    fn guard(&mut self, token: Revision, since: Revision) -> Poll<Step<MutexGuard>> {
        self.phase = Phase::Over;
        Poll::Ready(Step::Done(Ok(MutexGuard::new(&self.session, self.hold, self.key.clone(), token, since))))
    }

    /// Deletes the key, if it is this hold's.
    fn withdraw(&mut self) {
        let (session, hold, key) = (self.session.clone(), self.hold, self.key.clone());
        // Only a key that was deleted here may be used again: one that somebody else deleted he may have made anew.
        let withdraw = async move |token| {
            let is_own = Compare::create_revision(key.clone(), CompareOp::Equal, token);
            let delete = Txn::new().when([is_own]).and_then([TxnOp::delete(key)]);
            if session.client().txn(delete).await.is_ok_and(|done| done.succeeded()) {
                session.end_hold(hold);
            }
        };
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => {}
            Phase::Waiting { token, .. } => self.session.client().detach(withdraw(token)),
            Phase::Entering(call) => self.session.client().detach(async move {
                if let Ok(entered) = call.await {
                    let (token, _) = places(&entered);
                    withdraw(token).await;
                }
            }),
        }
    }
}

impl Wait<MutexGuard> for Acquiring {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<MutexGuard>> {
        loop {
            match &mut self.phase {
                Phase::Entering(call) => match ready!(poll_call(call, mailbox, waker)) {
                    None => return Poll::Ready(Step::TimedOut),
                    Some(Ok(entered)) => {
                        let (token, oldest) = places(&entered);
                        if token == oldest {
                            return self.guard(token, entered.header().revision());
                        }
                        let client = self.session.client();
                        let turn = Turn::of_own(client, self.range.clone(), self.key.clone(), token);
                        self.phase = Phase::Waiting { token, turn };
                    }
                    Some(Err(error)) => {
                        // Refused, so there is no key.
                        self.phase = Phase::Over;
                        return Poll::Ready(Step::Done(Err(error)));
                    }
                },
                Phase::Waiting { token, turn } => {
                    let token = *token;
                    match ready!(turn.poll(self.session.client(), mailbox, waker)) {
                        Step::Done(Ok(since)) => return self.guard(token, since),
                        Step::Done(Err(error)) => {
                            self.withdraw();
                            return Poll::Ready(Step::Done(Err(error)));
                        }
                        Step::TimedOut => return Poll::Ready(Step::TimedOut),
                    }
                }
                Phase::Over => panic!("a ticket is taken once"),
            }
        }
    }
}

impl Drop for Acquiring {
    fn drop(&mut self) {
        self.withdraw();
    }
}
