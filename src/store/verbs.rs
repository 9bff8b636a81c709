//! What a store can be asked.

use std::sync::Arc;

use super::builder::StoreBuilder;
use super::pages::RangePages;
use super::shell::{Shell, Time};
use crate::Result;
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, Event, Get, GetResponse,
    Grant, GrantResponse, HashKvResponse, KeepAliveResponse, KeyRange, KeyValue, LeaseId, LeasesResponse,
    Put, PutResponse, Revision, RevokeResponse, Status, TimeToLiveResponse, Timestamp, Txn, TxnResponse,
};

/// An etcd inside your process: keys with revisions and history, transactions, and leases.
///
/// A handle is cheap to clone and can be used from any thread; when the last is dropped, the store is gone. No call
/// waits for anything but other calls.
///
/// ```
/// use leasehold::{Get, Put, Store};
///
/// let store = Store::new();
/// let blue = store.put(("config/mode", "blue"))?.header().revision();
/// store.put(("config/mode", "green"))?;
///
/// assert_eq!(store.get("config/mode")?.kvs()[0].value(), b"green");
/// assert_eq!(store.get(Get::key("config/mode").at(blue))?.kvs()[0].value(), b"blue");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    shell: Arc<Shell>,
}

impl Store {
    /// An empty store at revision 1, with real time, etcd's limits, and no thread until the first lease.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Makes a store with a clock or limits of your choice.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::new()
    }

    pub(super) fn from_shell(shell: Arc<Shell>) -> Self {
        Self { shell }
    }

    /// Reads keys. The errors are those of [`Engine::get`](crate::Engine::get).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error), here and in every other method, if the store was closed.
    pub fn get(&self, get: impl Into<Get>) -> Result<GetResponse> {
        let get = get.into();
        self.shell.read(|engine| engine.get(&get))
    }

    /// Reads a long range a page of up to `page_size` pairs at a time, each page in one call, all of one revision:
    /// that of the read, or the latest as of now. So writers wait for a page at the most, and memory is needed for one.
    ///
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// for n in 0..5 {
    ///     store.put((format!("job/{n}"), "queued"))?;
    /// }
    /// for page in store.range_pages(Get::prefix("job/"), 2)? {
    ///     assert!(page?.len() <= 2);
    /// }
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), [`Error::PagesUnsorted`](crate::Error) for a sort that is not by ascending key, and
    /// [`Error::PagesUnfiltered`](crate::Error) for a revision filter (R-RNG-12).
    pub fn range_pages(&self, get: impl Into<Get>, page_size: usize) -> Result<RangePages> {
        RangePages::new(self.clone(), get.into(), page_size)
    }

    pub(super) fn page(&self, range: &KeyRange, at: Revision, limit: usize) -> Result<(Vec<KeyValue>, bool)> {
        self.shell.read(|engine| engine.page(range, at, limit))
    }

    /// Gives a key a value. The errors are those of [`Engine::put`](crate::Engine::put).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn put(&self, put: impl Into<Put>) -> Result<PutResponse> {
        let put = put.into();
        // The record is made, which may take fresh memory, before anybody has to wait for it.
        let draft = KeyValue::draft(&put.key, &put.value);
        self.shell.command(Time::IsNoMatter, |engine| engine.put_draft(&put, draft))
    }

    /// Deletes keys. The errors are those of [`Engine::delete`](crate::Engine::delete).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn delete(&self, delete: impl Into<Delete>) -> Result<DeleteResponse> {
        let delete = delete.into();
        self.shell.command(Time::IsNoMatter, |engine| engine.delete(&delete))
    }

    /// Runs a transaction. The errors are those of [`Engine::txn`](crate::Engine::txn).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.shell.command(Time::IsNoMatter, |engine| engine.txn(&txn))
    }

    /// Makes the history before a revision unreadable, at once; its memory is given back afterwards, a piece at a
    /// time, by later commands and the clock's timer; if [`Compact::physical`] was asked for, before this returns. The
    /// errors are those of [`Engine::compact`](crate::Engine::compact).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn compact(&self, compact: impl Into<Compact>) -> Result<CompactResponse> {
        let compact = compact.into();
        let response = self.shell.command(Time::IsNoMatter, |engine| engine.compact(&compact))?;
        if compact.physical {
            self.shell.tick()?;
        }
        Ok(response)
    }

    /// What happened to keys from a revision on, in order. The errors are those of
    /// [`Engine::events`](crate::Engine::events).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn events(&self, from: impl Into<Revision>) -> Result<Vec<Event>> {
        self.shell.read(|engine| Ok(engine.events(from.into())?.collect()))
    }

    /// etcd's hash of what is held up to a revision; 0 means the current one. The errors are those of
    /// [`Engine::hash_kv`](crate::Engine::hash_kv).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn hash_kv(&self, revision: impl Into<Revision>) -> Result<HashKvResponse> {
        self.shell.read(|engine| engine.hash_kv(revision))
    }

    /// What the store holds: revisions, keys, versions, leases, bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error).
    pub fn status(&self) -> Result<Status> {
        self.shell.read(|engine| Ok(engine.status()))
    }

    /// Lists, raises or ends alarms (R-MNT-7).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error).
    pub fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        self.shell.command(Time::IsNoMatter, |engine| Ok(engine.alarm(&request)))
    }

    /// Grants a lease. The errors are those of [`Engine::grant`](crate::Engine::grant).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn grant(&self, grant: Grant) -> Result<GrantResponse> {
        self.shell.command(Time::Matters, |engine| engine.grant(&grant))
    }

    /// Ends a lease and deletes its keys. The errors are those of [`Engine::revoke`](crate::Engine::revoke).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn revoke(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        self.shell.command(Time::Matters, |engine| engine.revoke(id.into()))
    }

    /// Ends a lease now as if its deadline had passed, kept alive or not: for tests of what follows. The errors are
    /// those of [`Engine::expire`](crate::Engine::expire).
    ///
    /// # Errors
    ///
    /// See there.
    pub fn expire(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        self.shell.command(Time::Matters, |engine| engine.expire(id.into()))
    }

    /// Renews a lease. That there is no such lease is an answer, not an error (R-LSE-7).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error).
    pub fn keep_alive(&self, id: impl Into<LeaseId>) -> Result<KeepAliveResponse> {
        self.shell.command(Time::Matters, |engine| Ok(engine.keep_alive(id.into())))
    }

    /// Ends a lease's standing keep-alive, as when its client hangs: see
    /// [`Engine::pause_keep_alive`](crate::Engine::pause_keep_alive).
    ///
    /// # Errors
    ///
    /// [`Error::LeaseNotFound`](crate::Error).
    pub fn pause_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        self.shell.command(Time::Matters, |engine| engine.pause_keep_alive(id.into()))
    }

    /// Begins a standing keep-alive: see [`Engine::resume_keep_alive`](crate::Engine::resume_keep_alive).
    ///
    /// # Errors
    ///
    /// [`Error::LeaseNotFound`](crate::Error).
    pub fn resume_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        self.shell.command(Time::Matters, |engine| engine.resume_keep_alive(id.into()))
    }

    /// How long a lease still lives, and, if `keys` is set, which keys it has. That there is no such lease is an
    /// answer, not an error (R-LSE-10).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error).
    pub fn time_to_live(&self, id: impl Into<LeaseId>, keys: bool) -> Result<TimeToLiveResponse> {
        self.shell.command(Time::Matters, |engine| Ok(engine.time_to_live(id.into(), keys)))
    }

    /// All leases, the one with the least time left first (R-LSE-11).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error).
    pub fn leases(&self) -> Result<LeasesResponse> {
        self.shell.command(Time::Matters, |engine| Ok(engine.leases()))
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.shell.clock().now()
    }

    /// Does what is due by now: ends leases, compacts, gives memory back. Every write does what is due first, and the
    /// clocks of this crate call it in time; a clock of your own calls it at [`next_deadline`](Self::next_deadline). Does
    /// nothing to a closed store.
    pub fn tick(&self) {
        // A closed store has nothing to do any more, which is all that the error would say.
        self.shell.tick().unwrap_or_default();
    }

    /// When something happens by itself next; `None` if never, or if the store is closed.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.shell.read(|engine| Ok(engine.next_deadline())).unwrap_or_default()
    }

    /// Closes the store for all its handles: every later call fails with [`Error::Stopped`](crate::Error).
    pub fn close(&self) {
        // That it is closed already is what was asked for.
        self.shell.close().unwrap_or_default();
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
