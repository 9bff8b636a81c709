//! The key of an owner, a leader or a waiter in the queue of a lock or an election.

use std::fmt;
use std::fmt::DebugStruct;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::late_put::LatePut;
use super::lost::{AlreadyLost, KeyLost, LeaseEnd};
use super::retry::{INTERVAL, is_transient};
use super::shared_key::KeyVersion;
use super::{Entry, Predecessors, create_revisions};
use crate::api::{
    Compare, CompareOp, GetResponse, KeyRange, KeyValues, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use crate::client::{Call, Ticket, finish};
use crate::concurrency::session::Session;
use crate::sync::Mutex;
use crate::{Error, Result};

/// A handle to the queue key of an owner, a leader or a waiter. Dropping the hold deletes the key, if the key's create
/// revision is unchanged and no other hold needs the key.
pub(in crate::concurrency) struct Hold {
    session: Session,
    entry: Entry,
    kind: KeyKind,
    /// The key's create revision, or 0 until the response to the put is received.
    token: Revision,
    state: Mutex<KeyState>,
    /// Whether a release that was not answered at once has succeeded. Created by the first such release.
    released: OnceLock<Arc<AtomicBool>>,
}

/// States whether the hold alone uses its key, and which client has put the key.
#[derive(Clone, Copy)]
enum KeyKind {
    /// The hold has put the key `name/<lease>-<n>`, and no other hold uses the key. `number` is `n`.
    Exclusive { number: u64 },
    /// The hold has taken over a key that another client or session has put. No other hold of this session uses the
    /// key.
    Resumed,
    /// The session's re-entrant holds share the key `name/<lease>` (R-LCK-1). A hold joins the key if another hold has
    /// put the key.
    Shared,
}

/// The progress of a hold, from the put of the hold's key to the deletion.
#[derive(Clone, Copy)]
enum KeyState {
    /// The hold has no key yet: the put is not sent, is pending, or has failed without an effect. A hold that has tried
    /// to join a key that is not the oldest also stays in this state.
    Putting,
    /// The put failed with an ambiguous error, so the key may exist now or later.
    Unknown,
    /// The hold has put the key, has joined the key of another re-entrant hold, or has resumed the key.
    Held,
    /// The hold was released, and the deletion of the key has not succeeded yet.
    Releasing(DeleteIf),
    /// The hold was released. Its key is deleted, was not put, or is needed by other holds.
    Released,
}

/// The result of putting a key into a queue.
pub(in crate::concurrency) enum PutResult {
    /// The hold has put the key or has joined the key of another re-entrant hold, and the key's turn has come.
    First,
    /// The key's turn has not come. Contains the nearest predecessors if the txn has read them.
    Behind(Option<KeyValues>),
    /// The key was not put, because another client or session has put a key with this name.
    NameTaken,
}

impl Hold {
    /// Creates a hold whose own key waits for all earlier keys of a queue. The key is not put yet.
    pub(in crate::concurrency) fn new(session: &Session, queue: &KeyRange, value: Bytes) -> Self {
        Self::queued(session, queue.start(), Predecessors::all(queue.clone()), value)
    }

    /// Creates a hold whose own key begins with `prefix` and waits by the rule `before`. The key is not put yet.
    pub(in crate::concurrency) fn queued(
        session: &Session,
        prefix: &[u8],
        before: Predecessors,
        value: Bytes,
    ) -> Self {
        let number = session.take_number();
        let key = key_of(prefix, session, Some(number));
        Self::make(session, before, key, value, KeyKind::Exclusive { number })
    }

    /// Creates a hold of the key that the session's re-entrant holds share. The hold has not put or joined the key yet.
    pub(in crate::concurrency) fn shared(session: &Session, queue: &KeyRange) -> Self {
        let key = key_of(queue.start(), session, None);
        session.shared_keys().add_pending(&key);
        let before = Predecessors::all(queue.clone());
        Self::make(session, before, key, session.name().clone(), KeyKind::Shared)
    }

    /// Creates a hold of a key that another client or session has put, at the create revision `token`.
    pub(in crate::concurrency) fn resumed(
        session: &Session,
        queue: &KeyRange,
        key: Bytes,
        token: Revision,
    ) -> Self {
        let before = Predecessors::all(queue.clone());
        let mut resumed = Self::make(session, before, key, Bytes::new(), KeyKind::Resumed);
        resumed.token = token;
        *resumed.state.get_mut() = KeyState::Held;
        resumed
    }

    /// Creates a hold with another number in its key, in the queue of this hold. Used if another client's key has the
    /// name of this hold's key.
    pub(in crate::concurrency) fn renumbered(&self) -> Self {
        let key = &self.entry.key;
        // The last part of the key, `<lease>-<n>`, has no slash, so the prefix ends at the last slash.
        let prefix = key.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (before, value) = (self.entry.before.clone(), self.entry.value.clone());
        Self::queued(&self.session, &key[..prefix], before, value)
    }

    fn make(session: &Session, before: Predecessors, key: Bytes, value: Bytes, kind: KeyKind) -> Self {
        let entry = Entry { before, key, value, lease: session.lease() };
        let (token, state) = (Revision::new(0), Mutex::new(KeyState::Putting));
        Self { session: session.clone(), entry, kind, token, state, released: OnceLock::new() }
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

    /// Returns a compare that holds while the hold's key exists and has the create revision `token`.
    pub(in crate::concurrency) fn key_unchanged(&self) -> Compare {
        created_at(&self.entry.key, self.token)
    }

    /// Returns a txn that puts the key. If the hold is re-entrant and its key exists, the txn joins the key: puts the
    /// key again, unchanged.
    pub(in crate::concurrency) fn put_txn(&self) -> Txn {
        let txn = self.entry.guard_txn();
        if let KeyKind::Shared = self.kind { txn.or_else(self.entry.touch_ops()) } else { txn }
    }

    /// Returns whether `response` to [`put_txn`](Self::put_txn) shows that the key was put and its turn has come.
    pub(in crate::concurrency) fn is_first(&self, response: &TxnResponse) -> bool {
        let admits = |newest: &GetResponse| self.entry.before.admits(newest.kvs().len());
        matches!(response.responses(), [TxnOpResponse::Get(newest), _] if admits(newest))
            && response.succeeded()
    }

    /// Records whether the hold has put or joined the key by [`put_txn`](Self::put_txn), and returns whether the key's
    /// turn has come.
    pub(in crate::concurrency) fn on_put(&mut self, response: &TxnResponse) -> PutResult {
        let at = response.header().revision();
        match (response.responses(), self.kind) {
            ([TxnOpResponse::Get(newest), _], _) => {
                self.on_found(at, at);
                if self.entry.before.admits(newest.kvs().len()) {
                    return PutResult::First;
                }
                PutResult::Behind(Some(newest.kvs.clone()))
            }
            (_, KeyKind::Shared) => {
                let (own, oldest) = create_revisions(response);
                self.on_found(own, at);
                // Keys with an equal create revision are ordered by key (R-RNG-8).
                if (own, &*self.entry.key) == oldest { PutResult::First } else { PutResult::Behind(None) }
            }
            _ => PutResult::NameTaken,
        }
    }

    /// Records the create and mod revision of the key that the hold has put or joined.
    pub(in crate::concurrency) fn on_found(&mut self, token: Revision, modified: Revision) {
        self.token = token;
        *self.state.get_mut() = KeyState::Held;
        if let KeyKind::Shared = self.kind {
            // The key may have been deleted and created again. If this put joined the earlier key, and the holds of the
            // later key were released before this response, no hold needs the later key.
            let unneeded = self.session.shared_keys().on_put(&self.entry.key, token, modified);
            self.detach(unneeded.map(DeleteIf::Unmodified));
        }
    }

    /// Returns a txn that puts the key if the queue is empty. If the hold is re-entrant and its key exists, the txn
    /// joins the key.
    pub(in crate::concurrency) fn try_put_txn(&self) -> Txn {
        // A compare of a create revision with 0 holds for a range exactly if the range is empty (R-TXN-7).
        let is_empty = Compare::create_revision(self.entry.before.range().clone(), CompareOp::Equal, 0);
        let first = Txn::new().when([is_empty]).and_then([self.entry.put()]);
        let KeyKind::Shared = self.kind else {
            return first;
        };
        let exists = Compare::create_revision(self.entry.key.clone(), CompareOp::Greater, 0);
        first.or_else([TxnOp::Txn(Txn::new().when([exists]).and_then(self.entry.touch_ops()))])
    }

    /// Processes the response to [`try_put_txn`](Self::try_put_txn). Returns whether the key is the oldest of the
    /// queue, so that its turn has come.
    pub(in crate::concurrency) fn on_try_put(&mut self, response: &TxnResponse) -> bool {
        let at = response.header().revision();
        if response.succeeded() {
            self.on_found(at, at);
            return true;
        }
        match (response.responses(), self.kind) {
            ([TxnOpResponse::Txn(joined)], KeyKind::Shared) if joined.succeeded() => {
                let (own, oldest) = create_revisions(joined);
                let is_oldest = (own, &*self.entry.key) == oldest;
                // If the key is not the oldest, this hold counts as pending until it is dropped. The key is left to the
                // holds that wait with the key.
                if is_oldest {
                    self.on_found(own, at);
                }
                is_oldest
            }
            _ => {
                self.not_put();
                false
            }
        }
    }

    /// Returns the number of an exclusive hold to the session. Called if the key was not put.
    pub(in crate::concurrency) fn not_put(&self) {
        if let KeyKind::Exclusive { number } = self.kind {
            self.session.return_number(number);
        }
    }

    /// Processes an error of the txn that puts the key. After an ambiguous error, the key may exist now or later.
    pub(in crate::concurrency) fn on_put_error(&mut self, error: &Error) {
        if error.is_ambiguous() {
            *self.state.get_mut() = KeyState::Unknown;
        }
    }

    /// Returns whether a release of the hold has succeeded.
    pub(in crate::concurrency) fn is_released(&self) -> bool {
        self.is_release_answered() || matches!(*self.state.lock(), KeyState::Released)
    }

    /// Returns a ticket that completes once the key is deleted, or at once if the hold was released. The end of the
    /// session's lease also completes the ticket, except while a resumed key may have another lease.
    pub(in crate::concurrency) fn lost(&self) -> Ticket<()> {
        let (client, end) = (self.session.client(), self.session.end());
        let is_resumed = matches!(self.kind, KeyKind::Resumed);
        // A resumed key may have another lease than the session, so the end of the session's lease does not prove that
        // the key is lost.
        if self.is_released() || end.is_known() && !is_resumed {
            return Ticket::new(client, AlreadyLost);
        }
        let key = self.entry.key.clone();
        Ticket::new(client, KeyLost::new(client, key, self.token, end.clone(), !is_resumed))
    }

    /// Returns the [`LeaseEnd`] of the session, also while the lease exists. Returns `None` for a resumed key, which
    /// may have another lease than the session's.
    pub(in crate::concurrency) fn end(&self) -> Option<LeaseEnd> {
        (!matches!(self.kind, KeyKind::Resumed)).then(|| self.session.end().clone())
    }

    /// Writes the key and the token into the `Debug` text of a guard or leadership.
    pub(in crate::concurrency) fn describe(&self, shown: &mut DebugStruct<'_, '_>) -> fmt::Result {
        shown.field("key", &format_args!("\"{}\"", self.entry.key.escape_ascii()));
        shown.field("token", &self.token).finish_non_exhaustive()
    }

    /// Releases the hold, and deletes the key unless other holds need the key. A failed call can be repeated.
    pub(in crate::concurrency) fn release(&self) -> Call<()> {
        let Some(delete_if) = self.begin_release() else {
            return Call::from_result(Ok(()));
        };
        let client = self.session.client();
        let DeleteIf::CreateRevision(created) = delete_if else {
            let (released, release) = (self.released(), self.release_of(delete_if));
            return client.call_async(async move {
                release.run().await?;
                released.store(true, Ordering::Release);
                Ok(())
            });
        };
        let call = client.txn(delete_created(&self.entry.key, created));
        if call.is_answered() {
            // Fast path: the response is ready, so no session or flag is cloned for a later response.
            return Call::from_result(call.wait().map(|done| {
                return_number(&self.session, self.kind, &done);
                *self.state.lock() = KeyState::Released;
            }));
        }
        let (session, kind, released) = (self.session.clone(), self.kind, self.released());
        client.map(call, move |done| {
            return_number(&session, kind, &done?);
            released.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn released(&self) -> Arc<AtomicBool> {
        Arc::clone(self.released.get_or_init(Arc::default))
    }

    fn is_release_answered(&self) -> bool {
        self.released.get().is_some_and(|released| released.load(Ordering::Acquire))
    }

    /// Marks the hold as released, or as releasing if its key must be deleted. Returns the condition of the deletion,
    /// or `None` if the key is deleted, was not put, or is needed by other holds.
    fn begin_release(&self) -> Option<DeleteIf> {
        if self.is_release_answered() {
            return None;
        }
        let mut state = self.state.lock();
        let key = &self.entry.key;
        let is_shared = matches!(self.kind, KeyKind::Shared);
        let shared_keys = || self.session.shared_keys();
        let delete_if = match (*state, is_shared) {
            // An earlier release failed or is not answered, so repeat its deletion.
            (KeyState::Releasing(delete_if), _) => Some(delete_if),
            (KeyState::Released, _) | (KeyState::Putting, false) => None,
            (KeyState::Unknown, false) => Some(DeleteIf::OwnLease),
            (KeyState::Held, false) => Some(DeleteIf::CreateRevision(self.token)),
            (KeyState::Held, true) => shared_keys().remove_holder(key, self.token).map(DeleteIf::Unmodified),
            (KeyState::Putting, true) => shared_keys().remove_pending(key).map(DeleteIf::Unmodified),
            (KeyState::Unknown, true) => {
                // `OwnLease` reads and deletes the current key, also a key that an earlier hold has left to this hold.
                shared_keys().remove_pending(key);
                Some(DeleteIf::OwnLease)
            }
        };
        *state = delete_if.map_or(KeyState::Released, KeyState::Releasing);
        delete_if
    }

    fn release_of(&self, delete_if: DeleteIf) -> Release {
        // After an ambiguous error, a late put may still use the number, so the number is not returned.
        let number = match (self.kind, delete_if) {
            (KeyKind::Exclusive { number }, DeleteIf::CreateRevision(_)) => Some(number),
            _ => None,
        };
        Release { session: self.session.clone(), key: self.entry.key.clone(), delete_if, number }
    }

    /// Deletes the key in the background, if there is a key to delete.
    fn detach(&self, delete_if: Option<DeleteIf>) {
        if let Some(delete_if) = delete_if {
            let release = self.release_of(delete_if);
            self.session.client().detach(release.persist());
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Most holds are released before the drop, and a released hold has no key to delete.
        if !matches!(self.state.get_mut(), KeyState::Released) {
            finish(&mut [&mut || self.detach(self.begin_release())]);
        }
    }
}

/// Returns the number of an exclusive hold to its session if the txn `done` has deleted the hold's key.
fn return_number(session: &Session, kind: KeyKind, done: &TxnResponse) {
    if let KeyKind::Exclusive { number } = kind
        && done.succeeded()
    {
        session.return_number(number);
    }
}

/// Returns the key of a session in a queue: `name/<lease>`, or `name/<lease>-<n>` with a number.
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

/// The number of decimal digits of `u64::MAX`.
const DIGITS: usize = 20;

/// Appends a number in decimal. Each lock request calls this function, and `write!` is several times slower.
fn push_decimal(key: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        push_decimal(key, number / 10);
    }
    key.push(b"0123456789"[(number % 10) as usize]);
}

/// The condition under which a key is deleted.
#[derive(Clone, Copy)]
pub(in crate::concurrency) enum DeleteIf {
    /// The key has this create revision.
    CreateRevision(Revision),
    /// The key has this create revision, and no hold needs the key. The mod revision is compared, so that a hold that
    /// joins concurrently keeps the key.
    Unmodified(KeyVersion),
    /// The key is attached to the session's lease, and no hold needs the key.
    OwnLease,
}

/// The deletion of the key of a released hold.
pub(in crate::concurrency) struct Release {
    pub(in crate::concurrency) session: Session,
    pub(in crate::concurrency) key: Bytes,
    pub(in crate::concurrency) delete_if: DeleteIf,
    /// The hold's number, to be returned to the session after the deletion. `None` if the key is shared, resumed, or
    /// may be put late.
    pub(in crate::concurrency) number: Option<u64>,
}

/// The event after which a release tries again.
enum Pause {
    /// The time `INTERVAL` has passed.
    Interval,
    /// A put of the key after this revision. The outcome of the hold's put is unknown, and no key was deleted at this
    /// revision.
    UntilPut(Revision),
}

impl Release {
    /// Deletes the key, and retries after [transient](is_transient) errors until the session ends. A retry is safe,
    /// since each deletion compares the create revision.
    ///
    /// If the outcome of the hold's put is unknown and no key was deleted, the backend may still execute the put. The
    /// release then waits until the key is put, and deletes the key. The wait ends with the session's lease. A release
    /// does not wait if other sessions may have the lease.
    pub(in crate::concurrency) async fn persist(self) {
        let mut next = Some(self);
        while let Some(release) = next {
            let pause = match release.run().await {
                // If other sessions have the lease, a late key with this name may be another session's key.
                Ok(Some(seen_at)) if release.session.is_lease_own() => Pause::UntilPut(seen_at),
                Err(error) if is_transient(&error) && !release.session.is_ending() => Pause::Interval,
                Ok(_) | Err(_) => return,
            };
            // Boxed to keep the task small, since most releases succeed at once.
            next = Box::pin(release.pause(pause)).await;
        }
    }

    /// Waits until the next attempt to delete the key is due. Returns `None` if the session's handles are dropped, its
    /// lease has ended, or the backend is closed.
    async fn pause(self, pause: Pause) -> Option<Self> {
        let client = self.session.client().clone();
        let end = self.session.end().clone();
        let Self { session, key, delete_if, number } = self;
        // Weak, so that the waiting task does not keep the session alive.
        let waiting = session.downgrade();
        drop(session);
        let awake = || Some(Self { session: waiting.upgrade()?, key: key.clone(), delete_if, number });
        let mut seen_at = match pause {
            Pause::Interval => return client.sleep(INTERVAL).await.ok().and_then(|()| awake()),
            Pause::UntilPut(seen_at) => seen_at,
        };
        loop {
            let put = LatePut::new(&client, key.clone(), end.clone(), seen_at);
            let put = Ticket::new(&client, put).await.ok()??;
            let release = awake()?;
            if !release.session.shared_keys().is_needed(&key, put) {
                return Some(release);
            }
            // A hold of this session needs the key, so wait for a later put.
            seen_at = put.mod_revision;
        }
    }

    /// Makes one attempt to delete the key, and succeeds if the key is already deleted.
    ///
    /// Returns the revision at which the key was read, if the condition is [`DeleteIf::OwnLease`] and no key was
    /// deleted. Returns `None` in all other cases.
    pub(in crate::concurrency) async fn run(&self) -> Result<Option<Revision>> {
        let client = self.session.client();
        match self.delete_if {
            DeleteIf::CreateRevision(created) => {
                let done = client.txn(delete_created(&self.key, created)).await?;
                if let Some(number) = self.number.filter(|_| done.succeeded()) {
                    self.session.return_number(number);
                }
                Ok(None)
            }
            DeleteIf::Unmodified(version) => self.delete(version).await.map(|_| None),
            DeleteIf::OwnLease => {
                let found = client.get(self.key.clone()).await?;
                let is_deleted = match self.unneeded(&found, None) {
                    Some(version) => self.delete(version).await?,
                    None => false,
                };
                Ok((!is_deleted).then(|| found.header().revision()))
            }
        }
    }

    /// Deletes the key if it has the revisions `version`. If only the mod revision has changed, deletes the newer
    /// version, unless a hold needs the key. Returns whether the key was deleted.
    async fn delete(&self, version: KeyVersion) -> Result<bool> {
        let client = self.session.client();
        let mut next = Some(version);
        while let Some(KeyVersion { create_revision: created, mod_revision }) = next {
            let is_unmodified = Compare::mod_revision(self.key.clone(), CompareOp::Equal, mod_revision);
            let delete = delete_created(&self.key, created).when([is_unmodified]);
            let done = client.txn(delete.or_else([TxnOp::get(self.key.clone())])).await?;
            next = match done.responses() {
                // The key is gone or has a newer version: another hold may have joined, which put the key again.
                [TxnOpResponse::Get(found)] => self.unneeded(found, Some(created)),
                _ => return Ok(true),
            };
        }
        Ok(false)
    }

    /// Returns the version of the key in `found` if the key is to be deleted, and otherwise `None`. The key is deleted
    /// only if it has the create revision `created`, or, if `created` is `None`, is attached to the session's lease. A
    /// key that a hold needs is not deleted.
    fn unneeded(&self, found: &GetResponse, created: Option<Revision>) -> Option<KeyVersion> {
        let kv = found.kvs().first()?;
        let is_meant = match created {
            Some(created) => kv.create_revision() == created,
            None => kv.lease() == self.session.lease(),
        };
        let version = KeyVersion::of(kv);
        (is_meant && !self.session.shared_keys().is_needed(&self.key, version)).then_some(version)
    }
}

/// Returns a txn that deletes a key if the key has the create revision `created`.
pub(in crate::concurrency) fn delete_created(key: &Bytes, created: Revision) -> Txn {
    Txn::new().when([created_at(key, created)]).and_then([TxnOp::delete(key.clone())])
}

/// Returns a compare that holds while a key exists and has the create revision `at`.
pub(in crate::concurrency) fn created_at(key: &Bytes, at: Revision) -> Compare {
    Compare::create_revision(key.clone(), CompareOp::Equal, at)
}
