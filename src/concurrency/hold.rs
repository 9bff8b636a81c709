//! A key in a queue: of whoever holds a lock or leads, and of whoever waits for that.

use std::fmt::{self, DebugStruct};

use bytes::Bytes;

use super::enter::{Entry, oldest, places};
use super::lost::KeyLost;
use super::session::Session;
use crate::Result;
use crate::api::{Compare, CompareOp, KeyRange, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse};
use crate::client::Ticket;
use crate::sync::Mutex;

/// The queue of keys that a lock or an election of that name is.
pub(super) fn queue_of(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat())
}

/// The need of a key. When it is dropped, the key is deleted, if it is still the same and nobody else needs it.
pub(super) struct Hold {
    session: Session,
    entry: Entry,
    of: Of,
    /// The key's create revision, once it is known.
    token: Revision,
    state: Mutex<State>,
}

/// Whose key it is.
#[derive(Clone, Copy)]
enum Of {
    /// This hold's alone: `name/<lease>-<n>`.
    One { number: u64 },
    /// This hold's alone, but made by another.
    Resumed,
    /// That of the session's re-entrant holds: `name/<lease>` (R-LCK-1).
    Many {
        /// Whether another of them had found it when this one began to ask for it.
        is_known: bool,
    },
}

#[derive(Clone, Copy)]
enum State {
    /// It is not known to be there.
    Entering,
    Needed,
    /// It is to be deleted: one of many only if this is still its mod revision.
    Leaving {
        modified: Option<Revision>,
    },
    Gone,
}

impl Hold {
    /// A key of its own, to be put.
    pub(super) fn new(session: &Session, queue: &KeyRange, value: Bytes) -> Self {
        let number = session.next_hold();
        let own = format!("{:x}-{number}", session.lease());
        let key = [queue.start(), own.as_bytes()].concat();
        Self::make(session, queue, key.into(), value, Of::One { number })
    }

    /// The key that the session's re-entrant holds share, to be put or joined.
    pub(super) fn shared(session: &Session, queue: &KeyRange) -> Self {
        let own = format!("{:x}", session.lease());
        let key = Bytes::from([queue.start(), own.as_bytes()].concat());
        let is_known = session.shares().enter(&key);
        Self::make(session, queue, key, session.name().clone(), Of::Many { is_known })
    }

    /// A key that is there already, or was.
    pub(super) fn resumed(session: &Session, queue: &KeyRange, key: Bytes, token: Revision) -> Self {
        let mut resumed = Self::make(session, queue, key, Bytes::new(), Of::Resumed);
        (resumed.token, *resumed.state.get_mut()) = (token, State::Needed);
        resumed
    }

    /// Another of the same, if the key of this one is somebody else's.
    pub(super) fn another(&self) -> Self {
        Self::new(&self.session, &self.entry.range, self.entry.value.clone())
    }

    fn make(session: &Session, queue: &KeyRange, key: Bytes, value: Bytes, of: Of) -> Self {
        let entry = Entry { range: queue.clone(), key, value, lease: session.lease() };
        let (token, state) = (Revision::new(0), Mutex::new(State::Entering));
        Self { session: session.clone(), entry, of, token, state }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn range(&self) -> &KeyRange {
        &self.entry.range
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.entry.key
    }

    pub(super) fn token(&self) -> Revision {
        self.token
    }

    /// That the key is still the same.
    pub(super) fn is_there(&self) -> Compare {
        is_created(&self.entry.key, self.token)
    }

    /// Puts the key, or finds it there.
    pub(super) fn entering(&self) -> Txn {
        match self.of {
            // Whoever was the last to need it may be about to delete it.
            Of::Many { is_known: false } => self.entry.touching_txn(),
            _ => self.entry.txn(),
        }
    }

    /// Takes in what came of that. Gives the create revision of the oldest key; `None` if the key is another's.
    pub(super) fn entered(&mut self, entered: &TxnResponse) -> Option<Revision> {
        if !entered.succeeded() && !matches!(self.of, Of::Many { .. }) {
            return None;
        }
        let (own, oldest) = places(entered);
        let modified = match entered.responses() {
            [TxnOpResponse::Get(found), _] => found.kvs()[0].mod_revision(),
            _ => entered.header().revision(),
        };
        self.found(own, modified);
        Some(oldest)
    }

    fn found(&mut self, token: Revision, modified: Revision) {
        self.token = token;
        *self.state.get_mut() = State::Needed;
        if let Of::Many { .. } = self.of {
            self.session.shares().entered(&self.entry.key, token, modified);
        }
    }

    /// Puts the key if that makes it the only one, or joins the oldest.
    pub(super) fn entering_first(&self) -> Txn {
        // Of an empty range, every revision is 0 (R-TXN-7).
        let is_empty = Compare::create_revision(self.entry.range.clone(), CompareOp::Equal, 0);
        let first = Txn::new().when([is_empty]).and_then([self.entry.put()]);
        if !matches!(self.of, Of::Many { .. }) {
            return first;
        }
        let is_there = Compare::create_revision(self.entry.key.clone(), CompareOp::Greater, 0);
        let join = [TxnOp::Put(self.entry.touch()), TxnOp::Get(oldest(&self.entry.range))];
        first.or_else([TxnOp::Txn(Txn::new().when([is_there]).and_then(join))])
    }

    /// Takes in what came of that. Gives whether the key is the oldest; if not, this hold has put none.
    pub(super) fn entered_first(&mut self, entered: &TxnResponse) -> bool {
        let at = entered.header().revision();
        if entered.succeeded() {
            self.found(at, at);
            return true;
        }
        match (entered.responses(), self.of) {
            ([TxnOpResponse::Txn(joined)], Of::Many { .. }) if joined.succeeded() => {
                let (own, oldest) = places(joined);
                self.found(own, at);
                return own == oldest;
            }
            (_, Of::One { number }) => self.session.end_hold(number),
            _ => {}
        }
        false
    }

    /// A ticket that is there once the key is gone.
    pub(super) fn lost(&self) -> Ticket<()> {
        let client = self.session.client();
        Ticket::new(client, KeyLost::new(client, self.entry.key.clone(), self.token))
    }

    pub(super) fn describe(&self, shown: &mut DebugStruct<'_, '_>) -> fmt::Result {
        let key = format_args!("\"{}\"", self.entry.key.escape_ascii());
        shown.field("key", &key).field("token", &self.token).finish_non_exhaustive()
    }

    /// Gives the key up, and waits until that is done. It can be repeated if it fails.
    pub(super) fn release(&self) -> Result<()> {
        if let Some(release) = self.leave() {
            self.session.client().block_on(release.run())?;
            *self.state.lock() = State::Gone;
        }
        Ok(())
    }

    /// Gives up the need of the key. Gives what is to be done about the key, unless that is done, or others need it.
    fn leave(&self) -> Option<Release> {
        let mut state = self.state.lock();
        let needless = match (*state, self.of) {
            (State::Gone, _) | (State::Entering, Of::One { .. } | Of::Resumed) => None,
            (State::Leaving { modified }, _) => Some((self.token, modified)),
            (State::Needed, Of::One { .. } | Of::Resumed) => Some((self.token, None)),
            (State::Needed, Of::Many { .. }) => self.session.shares().leave(&self.entry.key, self.token),
            (State::Entering, Of::Many { .. }) => self.session.shares().refused(&self.entry.key),
        };
        *state = match needless {
            Some((_, modified)) => State::Leaving { modified },
            None => State::Gone,
        };
        let (created, modified) = needless?;
        let number = if let Of::One { number } = self.of { Some(number) } else { None };
        let (session, key) = (self.session.clone(), self.entry.key.clone());
        Some(Release { session, key, created, modified, number })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(release) = self.leave() {
            self.session.client().detach(async move { drop(release.run().await) });
        }
    }
}

/// A key that is to be deleted.
struct Release {
    session: Session,
    key: Bytes,
    created: Revision,
    modified: Option<Revision>,
    number: Option<u64>,
}

impl Release {
    /// Deletes the key, if it is still the same. That it is gone already is what was wanted.
    async fn run(mut self) -> Result<()> {
        loop {
            let mut txn = Txn::new().when([is_created(&self.key, self.created)]);
            if let Some(modified) = self.modified {
                let is_untouched = Compare::mod_revision(self.key.clone(), CompareOp::Equal, modified);
                txn = txn.when([is_untouched]).or_else([TxnOp::get(self.key.clone())]);
            }
            let delete = TxnOp::delete(self.key.clone());
            let done = self.session.client().txn(txn.and_then([delete])).await?;
            if done.succeeded() {
                // Only a key that was deleted here is put again: one that somebody else deleted he may have made anew.
                self.number.into_iter().for_each(|number| self.session.end_hold(number));
                return Ok(());
            }
            let Some(modified) = self.touched(&done) else {
                return Ok(());
            };
            self.modified = Some(modified);
        }
    }

    /// The mod revision of a key that is the same, was written to, and is nevertheless not needed.
    fn touched(&self, done: &TxnResponse) -> Option<Revision> {
        let [TxnOpResponse::Get(found)] = done.responses() else {
            return None;
        };
        let kv = found.kvs().first().filter(|kv| kv.create_revision() == self.created)?;
        (!self.session.shares().is_needed(&self.key)).then(|| kv.mod_revision())
    }
}

fn is_created(key: &Bytes, at: Revision) -> Compare {
    Compare::create_revision(key.clone(), CompareOp::Equal, at)
}
