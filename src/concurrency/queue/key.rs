//! A key in a queue: of whoever holds a lock or leads, and of whoever waits for that.

use std::fmt;
use std::fmt::DebugStruct;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::late_put::LatePut;
use super::lost::{KeyLost, LeaseEnd, Lost};
use super::retry::{INTERVAL, may_pass};
use super::shared_key::Needless;
use super::{Entry, Predecessors, places};
use crate::api::{
    Compare, CompareOp, GetResponse, KeyRange, KeyValues, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use crate::client::{Call, Ticket, finish};
use crate::concurrency::session::Session;
use crate::sync::Mutex;
use crate::{Error, Result};

/// The need of a key. When it is dropped, the key is deleted, if it is still the same and nobody else needs it.
pub(in crate::concurrency) struct Hold {
    session: Session,
    entry: Entry,
    of: Of,
    /// The key's create revision, once it is known.
    token: Revision,
    state: Mutex<State>,
    /// Set by a release whose answer comes later.
    released: OnceLock<Arc<AtomicBool>>,
}

/// Whose key it is.
#[derive(Clone, Copy)]
enum Of {
    /// This hold's alone: `name/<lease>-<n>`.
    One { number: u64 },
    /// This hold's alone, but made by another.
    Resumed,
    /// That of the session's re-entrant holds: `name/<lease>` (R-LCK-1).
    Many,
}

#[derive(Clone, Copy)]
enum State {
    /// It is not known to be there.
    Entering,
    /// Nor will it be.
    Doubtful,
    Needed,
    /// It is to be deleted.
    Leaving(Is),
    Gone,
}

/// What came of entering.
pub(in crate::concurrency) enum Entered {
    /// It is the key's turn.
    First,
    /// It is not: the nearest predecessors, if they were read.
    Behind(Option<KeyValues>),
    /// There was one of that name, which is somebody else's.
    NameTaken,
}

impl Hold {
    /// A key of its own in a queue, to be put behind every key there.
    pub(in crate::concurrency) fn new(session: &Session, queue: &KeyRange, value: Bytes) -> Self {
        Self::queued(session, queue.start(), Predecessors::all(queue.clone()), value)
    }

    /// A key of its own with a prefix, which waits by a rule.
    pub(in crate::concurrency) fn queued(
        session: &Session,
        prefix: &[u8],
        before: Predecessors,
        value: Bytes,
    ) -> Self {
        let number = session.next_hold();
        let key = key_of(prefix, session, Some(number));
        Self::make(session, before, key, value, Of::One { number })
    }

    /// The key that the session's re-entrant holds share, to be put or joined.
    pub(in crate::concurrency) fn shared(session: &Session, queue: &KeyRange) -> Self {
        let key = key_of(queue.start(), session, None);
        session.shares().enter(&key);
        let before = Predecessors::all(queue.clone());
        Self::make(session, before, key, session.name().clone(), Of::Many)
    }

    /// A key that is there already, or was.
    pub(in crate::concurrency) fn resumed(
        session: &Session,
        queue: &KeyRange,
        key: Bytes,
        token: Revision,
    ) -> Self {
        let before = Predecessors::all(queue.clone());
        let mut resumed = Self::make(session, before, key, Bytes::new(), Of::Resumed);
        resumed.token = token;
        *resumed.state.get_mut() = State::Needed;
        resumed
    }

    /// Another of the same, if the key of this one is somebody else's.
    pub(in crate::concurrency) fn another(&self) -> Self {
        let key = &self.entry.key;
        // The ending, `<lease>-<n>`, has no slash.
        let prefix = key.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (before, value) = (self.entry.before.clone(), self.entry.value.clone());
        Self::queued(&self.session, &key[..prefix], before, value)
    }

    fn make(session: &Session, before: Predecessors, key: Bytes, value: Bytes, of: Of) -> Self {
        let entry = Entry { before, key, value, lease: session.lease() };
        let (token, state) = (Revision::new(0), Mutex::new(State::Entering));
        Self { session: session.clone(), entry, of, token, state, released: OnceLock::new() }
    }

    pub(in crate::concurrency) fn session(&self) -> &Session {
        &self.session
    }

    pub(in crate::concurrency) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(in crate::concurrency) fn key(&self) -> &Bytes {
        &self.entry.key
    }

    pub(in crate::concurrency) fn token(&self) -> Revision {
        self.token
    }

    /// That the key is still the same.
    pub(in crate::concurrency) fn is_there(&self) -> Compare {
        is_created(&self.entry.key, self.token)
    }

    /// Puts the key, or joins the one that is there.
    pub(in crate::concurrency) fn entering(&self) -> Txn {
        let entering = self.entry.behind_newest();
        if let Of::Many = self.of { entering.or_else(self.entry.joining()) } else { entering }
    }

    /// Returns whether that put the key and it is the key's turn.
    pub(in crate::concurrency) fn is_first(&self, entered: &TxnResponse) -> bool {
        let admits = |newest: &GetResponse| self.entry.before.admit(newest.kvs().len());
        matches!(entered.responses(), [TxnOpResponse::Get(newest), _] if admits(newest))
            && entered.succeeded()
    }

    /// Takes in what came of that.
    pub(in crate::concurrency) fn entered(&mut self, entered: &TxnResponse) -> Entered {
        let at = entered.header().revision();
        match (entered.responses(), self.of) {
            ([TxnOpResponse::Get(newest), _], _) => {
                self.found(at, at);
                if self.entry.before.admit(newest.kvs().len()) {
                    return Entered::First;
                }
                Entered::Behind(Some(newest.kvs.clone()))
            }
            (_, Of::Many) => {
                let (own, oldest) = places(entered);
                self.found(own, at);
                if (own, &*self.entry.key) == oldest { Entered::First } else { Entered::Behind(None) }
            }
            _ => Entered::NameTaken,
        }
    }

    pub(in crate::concurrency) fn found(&mut self, token: Revision, modified: Revision) {
        self.token = token;
        *self.state.get_mut() = State::Needed;
        if let Of::Many = self.of {
            let needless = self.session.shares().entered(&self.entry.key, token, modified);
            self.detach(needless.map(Is::Untouched));
        }
    }

    /// Puts the key if that makes it the only one, or joins the oldest.
    pub(in crate::concurrency) fn entering_first(&self) -> Txn {
        // Of an empty range, every revision is 0 (R-TXN-7).
        let is_empty = Compare::create_revision(self.entry.before.range().clone(), CompareOp::Equal, 0);
        let first = Txn::new().when([is_empty]).and_then([self.entry.put()]);
        let Of::Many = self.of else {
            return first;
        };
        let is_there = Compare::create_revision(self.entry.key.clone(), CompareOp::Greater, 0);
        first.or_else([TxnOp::Txn(Txn::new().when([is_there]).and_then(self.entry.joining()))])
    }

    /// Takes in what came of that. Gives whether the key is the oldest; if not, nothing is left of this hold.
    pub(in crate::concurrency) fn entered_first(&mut self, entered: &TxnResponse) -> bool {
        let at = entered.header().revision();
        if entered.succeeded() {
            self.found(at, at);
            return true;
        }
        match (entered.responses(), self.of) {
            ([TxnOpResponse::Txn(joined)], Of::Many) if joined.succeeded() => {
                let (own, oldest) = places(joined);
                let is_oldest = (own, &*self.entry.key) == oldest;
                if is_oldest {
                    self.found(own, at);
                }
                is_oldest
            }
            _ => {
                self.not_put();
                false
            }
        }
    }

    /// Returns the hold's number to the session, since its key was not put.
    pub(in crate::concurrency) fn not_put(&self) {
        if let Of::One { number } = self.of {
            self.session.end_hold(number);
        }
    }

    /// Takes in that entering has failed. Unless it was refused, the key may nevertheless be there, or come to be.
    pub(in crate::concurrency) fn failed(&mut self, error: &Error) {
        if error.is_ambiguous() {
            *self.state.get_mut() = State::Doubtful;
        }
    }

    /// Whether it was given up. While that has failed, it was not.
    pub(in crate::concurrency) fn is_given_up(&self) -> bool {
        self.is_released() || matches!(*self.state.lock(), State::Gone)
    }

    /// Returns a ticket that completes once the key is gone or the session's lease has ended.
    pub(in crate::concurrency) fn lost(&self) -> Ticket<()> {
        let (client, end) = (self.session.client(), self.session.end());
        let is_resumed = matches!(self.of, Of::Resumed);
        if self.is_given_up() || end.is_known() && !is_resumed {
            return Ticket::new(client, Lost);
        }
        let key = self.entry.key.clone();
        Ticket::new(client, KeyLost::new(client, key, self.token, end.clone(), !is_resumed))
    }

    /// Returns the end of the lease that the key is attached to, if that is the session's.
    pub(in crate::concurrency) fn end(&self) -> Option<LeaseEnd> {
        (!matches!(self.of, Of::Resumed)).then(|| self.session.end().clone())
    }

    pub(in crate::concurrency) fn describe(&self, shown: &mut DebugStruct<'_, '_>) -> fmt::Result {
        shown.field("key", &format_args!("\"{}\"", self.entry.key.escape_ascii()));
        shown.field("token", &self.token).finish_non_exhaustive()
    }

    /// Releases the key. It can be repeated if it fails.
    pub(in crate::concurrency) fn release(&self) -> Call<()> {
        let Some(is) = self.leave() else {
            return Call::from_result(Ok(()));
        };
        let client = self.session.client();
        let Is::Created(created) = is else {
            let (released, release) = (self.released(), self.release_of(is));
            return client.call_async(async move {
                release.run().await?;
                released.store(true, Ordering::Release);
                Ok(())
            });
        };
        let call = client.txn(delete_created(&self.entry.key, created));
        if call.is_answered() {
            // Fast path: nothing is cloned for a future.
            return Call::from_result(call.wait().map(|done| {
                end_number(&self.session, self.of, &done);
                *self.state.lock() = State::Gone;
            }));
        }
        let (session, of, released) = (self.session.clone(), self.of, self.released());
        client.map(call, move |done| {
            end_number(&session, of, &done?);
            released.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn released(&self) -> Arc<AtomicBool> {
        Arc::clone(self.released.get_or_init(Arc::default))
    }

    fn is_released(&self) -> bool {
        self.released.get().is_some_and(|released| released.load(Ordering::Acquire))
    }

    /// Gives up the need of the key. Returns what is to be done about the key, unless that is done, or other holds need it.
    fn leave(&self) -> Option<Is> {
        if self.is_released() {
            return None;
        }
        let mut state = self.state.lock();
        let key = &self.entry.key;
        let is = match (*state, self.of) {
            (State::Leaving(is), _) => Some(is),
            (State::Gone, _) | (State::Entering, Of::One { .. } | Of::Resumed) => None,
            (State::Doubtful, Of::One { .. } | Of::Resumed) => Some(Is::Unknown),
            (State::Needed, Of::One { .. } | Of::Resumed) => Some(Is::Created(self.token)),
            (State::Needed, Of::Many) => self.session.shares().leave(key, self.token).map(Is::Untouched),
            (State::Entering, Of::Many) => self.session.shares().refused(key).map(Is::Untouched),
            (State::Doubtful, Of::Many) => {
                // Whichever is there is looked for, that of others who are gone too.
                self.session.shares().refused(key);
                Some(Is::Unknown)
            }
        };
        *state = is.map_or(State::Gone, State::Leaving);
        is
    }

    fn release_of(&self, is: Is) -> Release {
        let number = match (self.of, is) {
            (Of::One { number }, Is::Created(_)) => Some(number),
            _ => None,
        };
        Release { session: self.session.clone(), key: self.entry.key.clone(), is, number }
    }

    fn detach(&self, is: Option<Is>) {
        if let Some(is) = is {
            let release = self.release_of(is);
            self.session.client().detach(release.persist());
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The usual case: released, with nothing left to do.
        if !matches!(self.state.get_mut(), State::Gone) {
            finish(&mut [&mut || self.detach(self.leave())]);
        }
    }
}

/// Gives back the number of a hold, if the txn has deleted its key.
fn end_number(session: &Session, of: Of, done: &TxnResponse) {
    if let Of::One { number } = of
        && done.succeeded()
    {
        session.end_hold(number);
    }
}

/// Returns the key of a session in a queue: `name/<lease>`, or `name/<lease>-<n>` for a hold's own.
fn key_of(prefix: &[u8], session: &Session, number: Option<u64>) -> Bytes {
    let lease = session.lease_text().as_bytes();
    let mut key = Vec::with_capacity(prefix.len() + lease.len() + 1 + DIGITS);
    key.extend_from_slice(prefix);
    key.extend_from_slice(lease);
    if let Some(number) = number {
        key.push(b'-');
        push_decimal(&mut key, number);
    }
    key.into()
}

/// The most digits of a number.
const DIGITS: usize = 20;

/// Appends a number in decimal. Each lock does, and `write!` is several times as slow.
fn push_decimal(key: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        push_decimal(key, number / 10);
    }
    key.push(b"0123456789"[(number % 10) as usize]);
}

/// Which key is to be deleted.
#[derive(Clone, Copy)]
pub(in crate::concurrency) enum Is {
    /// The one of this create revision.
    Created(Revision),
    /// The one of these create and mod revisions.
    Untouched(Needless),
    /// Whichever is there on the session's lease and not needed.
    Unknown,
}

/// A key that is to be deleted.
pub(in crate::concurrency) struct Release {
    pub(in crate::concurrency) session: Session,
    pub(in crate::concurrency) key: Bytes,
    pub(in crate::concurrency) is: Is,
    /// Its number, if it is a hold's own.
    pub(in crate::concurrency) number: Option<u64>,
}

/// What a release waits for before it tries again.
enum Pause {
    Interval,
    /// A put after this revision: it is not known whether the key was put, and it was not there.
    UntilPut(Revision),
}

impl Release {
    /// Deletes the key, and tries again while the store cannot be reached, until the session ends. Trying again is safe, since
    /// the create revision is compared.
    ///
    /// If it is not known whether the key was put, and it is not there, waits for it until the session's lease ends: the backend
    /// may still execute the put.
    pub(in crate::concurrency) async fn persist(self) {
        let mut next = Some(self);
        while let Some(release) = next {
            let pause = match release.run().await {
                // Of several sessions with one lease, another one may put a key of that name.
                Ok(Some(seen_at)) if release.session.is_lease_own() => Pause::UntilPut(seen_at),
                Err(error) if may_pass(&error) && !release.session.is_ending() => Pause::Interval,
                Ok(_) | Err(_) => return,
            };
            // Boxed, since most releases succeed at once, and their task needs no room for a wait.
            next = Box::pin(release.pause(pause)).await;
        }
    }

    /// Waits. Returns `None` if the session or the backend has ended.
    async fn pause(self, pause: Pause) -> Option<Self> {
        let client = self.session.client().clone();
        let end = self.session.end().clone();
        let Self { session, key, is, number } = self;
        // A task that waits does not keep the session alive.
        let waiting = session.downgrade();
        drop(session);
        let awake = || Some(Self { session: waiting.upgrade()?, key: key.clone(), is, number });
        let mut seen_at = match pause {
            Pause::Interval => return client.sleep(INTERVAL).await.ok().and_then(|()| awake()),
            Pause::UntilPut(seen_at) => seen_at,
        };
        loop {
            let put = LatePut::new(&client, key.clone(), end.clone(), seen_at);
            let put = Ticket::new(&client, put).await.ok()??;
            let release = awake()?;
            if !release.session.shares().is_needed(&key, put) {
                return Some(release);
            }
            seen_at = put.1;
        }
    }

    /// Deletes the key if its create revision is unchanged. Succeeds if the key is gone.
    ///
    /// Returns the revision of its read if it is not known whether the key was put, and no key was deleted.
    pub(in crate::concurrency) async fn run(&self) -> Result<Option<Revision>> {
        let client = self.session.client();
        match self.is {
            Is::Created(created) => {
                let done = client.txn(delete_created(&self.key, created)).await?;
                if let Some(number) = self.number.filter(|_| done.succeeded()) {
                    self.session.end_hold(number);
                }
                Ok(None)
            }
            Is::Untouched(untouched) => self.delete(untouched).await.map(|_| None),
            Is::Unknown => {
                let found = client.get(self.key.clone()).await?;
                let is_deleted = match self.needless(&found, None) {
                    Some(untouched) => self.delete(untouched).await?,
                    None => false,
                };
                Ok((!is_deleted).then(|| found.header().revision()))
            }
        }
    }

    /// Deletes the key of these revisions, or of later mod revisions if it is not needed then either. Returns whether it did.
    async fn delete(&self, untouched: Needless) -> Result<bool> {
        let client = self.session.client();
        let mut next = Some(untouched);
        while let Some((created, modified)) = next {
            let is_untouched = Compare::mod_revision(self.key.clone(), CompareOp::Equal, modified);
            let delete = delete_created(&self.key, created).when([is_untouched]);
            let done = client.txn(delete.or_else([TxnOp::get(self.key.clone())])).await?;
            next = match done.responses() {
                // Another hold has written to it.
                [TxnOpResponse::Get(found)] => self.needless(found, Some(created)),
                _ => return Ok(true),
            };
        }
        Ok(false)
    }

    /// The key that was found, if it is the session's, and of that create revision, and not needed.
    fn needless(&self, found: &GetResponse, created: Option<Revision>) -> Option<Needless> {
        let kv = found.kvs().first()?;
        let is_meant = match created {
            Some(created) => kv.create_revision() == created,
            None => kv.lease() == self.session.lease(),
        };
        let found = (kv.create_revision(), kv.mod_revision());
        (is_meant && !self.session.shares().is_needed(&self.key, found)).then_some(found)
    }
}

/// Deletes a key if it is still the one of that create revision.
pub(in crate::concurrency) fn delete_created(key: &Bytes, created: Revision) -> Txn {
    Txn::new().when([is_created(key, created)]).and_then([TxnOp::delete(key.clone())])
}

pub(in crate::concurrency) fn is_created(key: &Bytes, at: Revision) -> Compare {
    Compare::create_revision(key.clone(), CompareOp::Equal, at)
}
