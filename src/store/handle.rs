//! The handle, and what it can be asked.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Weak};

use super::shell::{Shell, Time};
use crate::Result;
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, Event, Get, GetResponse,
    Grant, GrantResponse, HashKvResponse, KeepAliveResponse, KeyValue, LeaseId, LeasesResponse, Page,
    PageResponse, Put, PutResponse, ResponseHeader, Revision, RevokeResponse, SnapshotResponse, Status,
    TimeToLiveResponse, Timestamp, Txn, TxnResponse, Watch,
};
use crate::client::{Client, QueueEntry, Wait, Watcher};
use crate::engine::{Diagnostics, Engine};
use crate::snapshot::{SaveError, Saved, write_snapshot};

/// The longest key and value together whose record is made before the lock is taken.
const DRAFT_MAX: usize = 64 * 1024;

/// An etcd inside your process: keys with revisions and history, transactions, leases, and watches.
///
/// A handle is cheap to clone and can be used from any thread; when the last is dropped, and with it the
/// clients, watchers and tickets, the store is gone. No call waits for anything but other calls.
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
#[derive(Clone)]
pub struct Store {
    shell: Arc<Shell>,
}

impl Store {
    pub(super) fn shell(&self) -> &Shell {
        &self.shell
    }

    pub(super) fn from_shell(shell: Arc<Shell>) -> Self {
        Self { shell }
    }

    pub(super) fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.shell))
    }

    /// Reads keys.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::get`](crate::engine::Engine::get); and here and in every other method,
    /// [`Error::Stopped`](crate::Error::Stopped) if the store was closed.
    pub fn get(&self, get: impl Into<Get>) -> Result<GetResponse> {
        let get = get.into();
        self.shell.read(|engine| engine.get(&get))
    }

    /// Reads one page of a long range. [`range_pages`](Self::range_pages) is an iterator over all of them.
    ///
    /// # Errors
    ///
    /// [`EmptyKey`](crate::Error::EmptyKey), [`FutureRevision`](crate::Error::FutureRevision),
    /// [`Compacted`](crate::Error::Compacted), [`Stopped`](crate::Error::Stopped).
    pub fn page(&self, page: Page) -> Result<PageResponse> {
        let keys_only = page.keys_only;
        let page = Page { keys_only: false, ..page };
        let mut response = self.shell.read(|engine| engine.page(&page))?;
        if keys_only {
            // Copying the keys needs no lock.
            response.kvs.iter_mut().for_each(|kv| *kv = kv.without_value());
        }
        Ok(response)
    }

    /// Gives a key a value.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::put`](crate::engine::Engine::put).
    pub fn put(&self, put: impl Into<Put>) -> Result<PutResponse> {
        let put = put.into();
        // The record is made, which may take fresh memory, before anybody has to wait for it; a large one only once
        // it is known to be within the limits.
        let is_small = put.key.len() + put.value.len() <= DRAFT_MAX;
        let draft = is_small.then(|| KeyValue::draft(&put.key, &put.value));
        self.shell.command(Time::IsNoMatter, |engine| engine.put_draft(&put, draft))
    }

    /// Deletes keys.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::delete`](crate::engine::Engine::delete).
    pub fn delete(&self, delete: impl Into<Delete>) -> Result<DeleteResponse> {
        let delete = delete.into();
        self.shell.command(Time::IsNoMatter, |engine| engine.delete(&delete))
    }

    /// Runs a transaction.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::txn`](crate::engine::Engine::txn).
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.shell.command(Time::IsNoMatter, |engine| engine.txn(&txn))
    }

    /// Makes the history before a revision unreadable, at once; its memory is given back afterwards, a piece at a
    /// time, by later commands and the clock's timer; if [`Compact::physical`] was asked for, before this returns.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::compact`](crate::engine::Engine::compact).
    pub fn compact(&self, compact: impl Into<Compact>) -> Result<CompactResponse> {
        let compact = compact.into();
        let response = self.shell.command(Time::IsNoMatter, |engine| engine.compact(&compact))?;
        if compact.physical {
            self.shell.tick()?;
        }
        Ok(response)
    }

    /// What happened to keys from a revision on, in order: all of it in one list, gathered while others may read but not
    /// write. Of a long history, start late or compact first.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::events`](crate::engine::Engine::events).
    pub fn events(&self, from: impl Into<Revision>) -> Result<Vec<Event>> {
        let from = from.into();
        self.shell.read(|engine| Ok(engine.events(from)?.collect()))
    }

    /// etcd's hash of what is held up to a revision; 0 and below mean the current one.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::hash_kv`](crate::engine::Engine::hash_kv).
    pub fn hash_kv(&self, revision: impl Into<Revision>) -> Result<HashKvResponse> {
        let revision = revision.into();
        self.shell.read(|engine| engine.hash_kv(revision))
    }

    /// Watches keys.
    ///
    /// An empty key is accepted, where a read refuses it: it means the key `"\0"` (R-WCH-2). [`Watch::all`] watches every
    /// key.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch(Watch::prefix("jobs/"))?;
    /// store.put(("jobs/nightly", "ran"))?;
    /// let response = watcher.recv()?.expect("the watch goes on");
    /// assert_eq!(response.events()[0].kv().key(), b"jobs/nightly");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`WatchRangeEmpty`](crate::Error::WatchRangeEmpty), and [`Compacted`](crate::Error::Compacted) for a negative start
    /// revision. A compacted start revision is reported by the first receive (R-WCH-6).
    pub fn watch(&self, watch: impl Into<Watch>) -> Result<Watcher> {
        Watcher::confirmed(&self.client(), watch.into())
    }

    /// The store as code sees it that is to run elsewhere too: see [`Client`]. It keeps the store alive.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Returns the current revision.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn revision(&self) -> Result<Revision> {
        self.shell.read(|engine| Ok(engine.status().header().revision()))
    }

    /// What the store holds: revisions, keys, versions, leases, bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn status(&self) -> Result<Status> {
        self.shell.read(|engine| Ok(engine.status()))
    }

    /// Returns counts of internal objects, for tests and monitoring. Visits all tables while the store is locked.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn diagnostics(&self) -> Result<Diagnostics> {
        self.shell.diagnostics()
    }

    /// Returns the waits for locks and elections, of guards and of the services, in the order of their create revisions.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let held = Mutex::new(&session.named("the importer"), "disk").lock().wait()?;
    /// let waiting = Mutex::new(&session.named("a backup"), "disk").lock();
    /// assert_eq!(
    ///     store.waiters()?[0].to_string(),
    ///     "a backup (disk/1-1, token 3, lease 1) waits for the importer (disk/1-0, token 2, lease 1)"
    /// );
    /// # drop((waiting, held));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn waiters(&self) -> Result<Vec<Wait>> {
        self.shell.read(|engine| {
            let entry = |key: &[u8]| {
                let found = engine.get(&Get::key(key))?;
                Ok(found.kvs().first().map_or_else(|| QueueEntry::gone(key), QueueEntry::new))
            };
            let waits = engine.labels().map(|(key, watched)| Ok(Wait::new(entry(key)?, entry(watched)?)));
            let mut waits: Vec<Wait> = waits.collect::<Result<_>>()?;
            // Labels come in no particular order.
            waits.sort_by_cached_key(|wait| {
                [wait.waiting(), wait.blocked_on()].map(|entry| (entry.token(), entry.key().to_vec()))
            });
            Ok(waits)
        })
    }

    /// Lists, raises or ends alarms (R-MNT-7).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        self.shell.command(Time::IsNoMatter, |engine| Ok(engine.alarm(&request)))
    }

    /// Grants a lease.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::grant`](crate::engine::Engine::grant).
    pub fn grant(&self, grant: impl Into<Grant>) -> Result<GrantResponse> {
        let grant = grant.into();
        self.shell.command(Time::Matters, |engine| engine.grant(&grant))
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::revoke`](crate::engine::Engine::revoke).
    pub fn revoke(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        let id = id.into();
        self.shell.command(Time::Matters, |engine| engine.revoke(id))
    }

    /// Ends a lease now as if its deadline had passed, kept alive or not: for tests of what follows.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::expire`](crate::engine::Engine::expire).
    pub fn expire(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        let id = id.into();
        self.shell.command(Time::Matters, |engine| engine.expire(id))
    }

    /// Renews a lease. That there is no such lease is an answer, not an error (R-LSE-7).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn keep_alive(&self, id: impl Into<LeaseId>) -> Result<KeepAliveResponse> {
        let id = id.into();
        self.shell.command(Time::Matters, |engine| Ok(engine.keep_alive(id)))
    }

    /// Ends a lease's standing keep-alive, as when its client hangs: see
    /// [`Engine::pause_keep_alive`](crate::engine::Engine::pause_keep_alive).
    ///
    /// # Errors
    ///
    /// [`Error::LeaseNotFound`](crate::Error::LeaseNotFound).
    pub fn pause_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        let id = id.into();
        self.shell.command(Time::Matters, |engine| engine.pause_keep_alive(id))
    }

    /// Begins a standing keep-alive: see [`Engine::resume_keep_alive`](crate::engine::Engine::resume_keep_alive).
    ///
    /// # Errors
    ///
    /// [`Error::LeaseNotFound`](crate::Error::LeaseNotFound).
    pub fn resume_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        let id = id.into();
        self.shell.command(Time::Matters, |engine| engine.resume_keep_alive(id))
    }

    /// How long a lease still lives, and, if `keys` is set, which keys it has. That there is no such lease is an
    /// answer, not an error (R-LSE-10).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn time_to_live(&self, id: impl Into<LeaseId>, keys: bool) -> Result<TimeToLiveResponse> {
        let id = id.into();
        self.shell.read_now(|engine| engine.time_to_live(id, keys))
    }

    /// All leases, the one with the least time left first (R-LSE-11).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn leases(&self) -> Result<LeasesResponse> {
        self.shell.read_now(Engine::leases)
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.shell.now()
    }

    /// Does what is due by now: ends leases, compacts, gives memory back. The clocks of this crate call it in time; with a
    /// clock of your own, call it at [`next_deadline`](Self::next_deadline).
    ///
    /// Every command does what is due first, and so do [`time_to_live`](Self::time_to_live) and
    /// [`leases`](Self::leases); the other reads show the state as last told. Does nothing to a closed store.
    pub fn tick(&self) {
        // That the store is closed is no failure here: then nothing is due.
        self.try_tick().unwrap_or_default();
    }

    /// The same, but says whether the store is closed.
    pub(super) fn try_tick(&self) -> Result<()> {
        self.shell.tick()
    }

    /// Whether both are handles to one store.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shell, &other.shell)
    }

    /// When something happens by itself next; `None` if never, or if the store is closed.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.shell.read(|engine| Ok(engine.next_deadline())).unwrap_or_default()
    }

    /// Saves the current state and returns a summary of it. [`StoreBuilder::load`](crate::StoreBuilder::load) restores it.
    ///
    /// A save has the keys with their history from the compacted revision on, leases with their remaining time, and alarms.
    /// It has neither the clock and the configuration nor the samples of automatic compaction.
    ///
    /// The state is collected under the read lock without copying keys or values. Then it is written in pieces of 64 KiB
    /// without a lock, so the writer may be slow and may call the store. The writer is flushed at the end. A save has a
    /// checksum, but a file needs more to survive a crash: see the example `save`.
    ///
    /// Changes after the save are lost to a store that loads it, and their revisions and fencing tokens are assigned again.
    /// If a client, a cache or a [`Fence`](crate::concurrency::Fence) may have seen one of them, load the save with a bump:
    /// see [`LoadOptions`](crate::snapshot::LoadOptions).
    ///
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// let blue = store.put(("config/mode", "blue"))?.header().revision();
    /// store.put(("config/mode", "green"))?;
    /// let mut saved = Vec::new();
    /// let summary = store.save(&mut saved)?;
    /// assert_eq!(summary.revision(), blue.next());
    ///
    /// let loaded = Store::builder().load(&saved[..])?;
    /// assert_eq!(loaded.get("config/mode")?, store.get("config/mode")?);
    /// assert_eq!(loaded.get(Get::key("config/mode").at(blue))?.kvs()[0].value(), b"blue");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SaveError::Io`] if the writer fails. [`SaveError::Store`] with [`Error::Stopped`](crate::Error::Stopped) if the
    /// store is closed.
    pub fn save(&self, mut into: impl Write) -> std::result::Result<Saved, SaveError> {
        let snapshot = self.shell.read_now(Engine::snapshot)?;
        Ok(write_snapshot(snapshot, &mut into)?)
    }

    /// Saves the current state into memory, with a header of its revision.
    pub(super) fn snapshot(&self) -> Result<SnapshotResponse> {
        let (snapshot, status) = self.shell.read_now(|engine| (engine.snapshot(), engine.status()))?;
        let mut blob = Vec::new();
        let saved = write_snapshot(snapshot, &mut blob).expect("a `Vec` accepts every write");
        let header = ResponseHeader { revision: saved.revision(), ..status.header };
        Ok(SnapshotResponse { header, blob: blob.into() })
    }

    /// Closes the store for all its handles: what it holds is freed, and every later call fails with
    /// [`Error::Stopped`](crate::Error::Stopped).
    pub fn close(&self) {
        // That it is closed already is what was asked for.
        self.shell.close().unwrap_or_default();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A handle to a store that does not keep it alive.
#[derive(Clone)]
pub struct WeakStore(Weak<Shell>);

impl WeakStore {
    pub(super) fn is_left(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// The store, if a handle to it is left.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store::from_shell)
    }
}

impl fmt::Debug for WeakStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakStore")
    }
}
