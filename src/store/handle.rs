//! The handle to a store, with a method for each request.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Weak};

use super::shell::{Advance, Shell};
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

/// The maximum length of key and value together for which `put` allocates the record before it takes the lock.
const DRAFT_MAX: usize = 64 * 1024;

/// An etcd inside your process: keys with revisions and history, transactions, leases, and watches.
///
/// A handle is cheap to clone and can be used from any thread. The store is dropped with its last handle. Clients,
/// watchers, tickets and sessions also hold handles. A call blocks only while other calls hold the store's lock. After
/// [`close`](Self::close), every method with a [`Result`] fails with [`Error::Stopped`](crate::Error::Stopped).
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
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// store.put(("config/mode", "blue"))?;
    /// assert_eq!(store.get("config/mode")?.kvs()[0].value(), b"blue");
    /// assert!(store.get("config/color")?.kvs().is_empty()); // an absent key is no error
    /// assert_eq!(store.get(Get::prefix("config/").keys_only())?.count(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`EmptyKey`](crate::Error::EmptyKey): the start of the range is empty.
    /// - [`InvalidSort`](crate::Error::InvalidSort): etcd does not know the sort order or target.
    /// - [`FutureRevision`](crate::Error::FutureRevision): the requested revision is above the current one.
    /// - [`Compacted`](crate::Error::Compacted): the requested revision is below the compacted one.
    pub fn get(&self, get: impl Into<Get>) -> Result<GetResponse> {
        let get = get.into();
        self.shell.read(|engine| engine.get(&get))
    }

    /// Reads one page of a long range. [`range_pages`](Self::range_pages) returns an iterator over all pages.
    ///
    /// ```
    /// use leasehold::{KeyRange, Page, Store};
    ///
    /// let store = Store::new();
    /// for key in ["job/1", "job/2", "job/3"] {
    ///     store.put((key, "queued"))?;
    /// }
    /// let request = Page::new(KeyRange::prefix("job/"), 2);
    /// let first = store.page(request.clone())?;
    /// let second = store.page(request.after(&first).expect("the range has a third key"))?;
    /// assert_eq!((first.kvs().len(), second.kvs().len(), second.more()), (2, 1, false));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`EmptyKey`](crate::Error::EmptyKey): the start of the range is empty.
    /// - [`FutureRevision`](crate::Error::FutureRevision): the requested revision is above the current one.
    /// - [`Compacted`](crate::Error::Compacted): the requested revision is below the compacted one.
    pub fn page(&self, page: Page) -> Result<PageResponse> {
        // Read whole pairs under the lock, which copies handles only.
        let keys_only = page.keys_only;
        let page = Page { keys_only: false, ..page };
        let mut response = self.shell.read(|engine| engine.page(&page))?;
        if keys_only {
            // Copy the keys without the lock, so that a writer does not wait for the copies.
            response.kvs.iter_mut().for_each(|kv| *kv = kv.without_value());
        }
        Ok(response)
    }

    /// Sets the value of a key.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    ///
    /// let store = Store::new();
    /// let blue = store.put(("config/mode", "blue"))?.header().revision();
    /// let green = store.put(Put::new("config/mode", "green").prev_kv())?;
    /// assert_eq!(green.header().revision(), blue.next()); // each put has its own revision
    /// assert_eq!(green.prev_kv().map(|kv| kv.mod_revision()), Some(blue));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`NoSpace`](crate::Error::NoSpace): the put would reach the [quota](crate::Limits::quota_bytes).
    /// - [`EmptyKey`](crate::Error::EmptyKey): the key is empty.
    /// - [`ValueProvided`](crate::Error::ValueProvided): `ignore_value` is set together with a value.
    /// - [`LeaseProvided`](crate::Error::LeaseProvided): `ignore_lease` is set together with a lease.
    /// - [`RequestTooLarge`](crate::Error::RequestTooLarge): the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits::max_request_bytes).
    /// - [`Corrupt`](crate::Error::Corrupt) or [`NoSpace`](crate::Error::NoSpace): the CORRUPT or NOSPACE alarm is
    ///   active.
    /// - [`LeaseNotFound`](crate::Error::LeaseNotFound): the lease does not exist.
    /// - [`KeyNotFound`](crate::Error::KeyNotFound): `ignore_value` or `ignore_lease` is set, and the key is absent.
    pub fn put(&self, put: impl Into<Put>) -> Result<PutResponse> {
        let put = put.into();
        // Allocate the record before the lock is taken, so that no other call waits for the allocation. A large record
        // is allocated later, after the engine has checked the size of the request.
        let is_small = put.key.len() + put.value.len() <= DRAFT_MAX;
        let draft = is_small.then(|| KeyValue::draft(&put.key, &put.value));
        self.shell.command(Advance::IfDue, |engine| engine.put_draft(&put, draft))
    }

    /// Deletes keys. All deletes of the call have one revision.
    ///
    /// ```
    /// use leasehold::{Delete, Store};
    ///
    /// let store = Store::new();
    /// store.put(("jobs/1", "queued"))?;
    /// assert_eq!(store.delete("jobs/1")?.deleted(), 1);
    /// assert_eq!(store.delete(Delete::prefix("jobs/"))?.deleted(), 0); // deletes nothing, and is no error
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`EmptyKey`](crate::Error::EmptyKey): the start of the range is empty.
    /// - [`RequestTooLarge`](crate::Error::RequestTooLarge): the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits::max_request_bytes).
    /// - [`Corrupt`](crate::Error::Corrupt): the CORRUPT alarm is active.
    pub fn delete(&self, delete: impl Into<Delete>) -> Result<DeleteResponse> {
        let delete = delete.into();
        self.shell.command(Advance::IfDue, |engine| engine.delete(&delete))
    }

    /// Runs a transaction: evaluates the compares, and runs all operations of one branch, or none if the call fails.
    ///
    /// ```
    /// use leasehold::{Compare, Store, Txn, TxnOp};
    ///
    /// let store = Store::new();
    /// store.put(("jobs/queued/1", "backup"))?;
    /// let claim = Txn::new()
    ///     .when([Compare::present("jobs/queued/1")])
    ///     .and_then([TxnOp::delete("jobs/queued/1"), TxnOp::put("jobs/running/1", "backup")]);
    /// assert!(store.txn(claim.clone())?.succeeded());
    /// assert!(!store.txn(claim)?.succeeded()); // another worker was first
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`TooManyOps`](crate::Error::TooManyOps): the txn has more than [`Txn::MAX_DEPTH`] levels.
    /// - [`NoSpace`](crate::Error::NoSpace): the txn would reach the [quota](crate::Limits::quota_bytes).
    /// - [`TooManyOps`](crate::Error::TooManyOps): a list is longer than
    ///   [`Limits::max_txn_ops`](crate::Limits::max_txn_ops) allows. [`EmptyKey`](crate::Error::EmptyKey): the key of a
    ///   compare is empty. [`KeyNotFound`](crate::Error::KeyNotFound): an operation has no request.
    ///   [`EmptyKey`](crate::Error::EmptyKey), [`InvalidSort`](crate::Error::InvalidSort),
    ///   [`ValueProvided`](crate::Error::ValueProvided) or [`LeaseProvided`](crate::Error::LeaseProvided): an operation
    ///   of any branch is invalid by itself, as in [`get`](Self::get), [`put`](Self::put) and [`delete`](Self::delete).
    /// - [`DuplicateKey`](crate::Error::DuplicateKey): a branch puts one key twice, or both puts and deletes one key.
    /// - [`RequestTooLarge`](crate::Error::RequestTooLarge): the txn is not a list of reads, and is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits::max_request_bytes).
    /// - [`Corrupt`](crate::Error::Corrupt): the CORRUPT alarm is active, and the txn is not a list of reads.
    /// - [`NoSpace`](crate::Error::NoSpace): the NOSPACE alarm is active, and a branch has a put.
    /// - [`FutureRevision`](crate::Error::FutureRevision), [`Compacted`](crate::Error::Compacted),
    ///   [`LeaseNotFound`](crate::Error::LeaseNotFound) or [`KeyNotFound`](crate::Error::KeyNotFound): an operation
    ///   that would run fails in the current state, as in [`get`](Self::get) and [`put`](Self::put).
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.shell.command(Advance::IfDue, |engine| engine.txn(&txn))
    }

    /// Makes the history before a revision unreadable.
    ///
    /// This call reclaims one piece of the history's memory, and later commands and the clock's timer reclaim the other
    /// pieces. With [`Compact::physical`], the memory is reclaimed before `compact` returns.
    ///
    /// ```
    /// use leasehold::{Error, Get, Store};
    ///
    /// let store = Store::new();
    /// let blue = store.put(("config/mode", "blue"))?.header().revision();
    /// let green = store.put(("config/mode", "green"))?.header().revision();
    /// store.compact(green)?;
    /// assert_eq!(store.get(Get::key("config/mode").at(green))?.kvs()[0].value(), b"green");
    /// let refused = store.get(Get::key("config/mode").at(blue));
    /// assert_eq!(refused, Err(Error::Compacted { requested: blue, compacted: Some(green) }));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`RequestTooLarge`](crate::Error::RequestTooLarge): the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits::max_request_bytes).
    /// - [`Corrupt`](crate::Error::Corrupt): the CORRUPT alarm is active.
    /// - [`Compacted`](crate::Error::Compacted): the revision is the compacted one or below it.
    /// - [`FutureRevision`](crate::Error::FutureRevision): the revision is above the current one.
    pub fn compact(&self, compact: impl Into<Compact>) -> Result<CompactResponse> {
        let compact = compact.into();
        let response = self.shell.command(Advance::IfDue, |engine| engine.compact(&compact))?;
        // Reclaim after the command, in pieces with the lock released between them, so that other calls run.
        if compact.physical {
            self.shell.tick()?;
        }
        Ok(response)
    }

    /// Returns all changes of keys from a revision on, in order. The list is empty if the revision is in the future.
    /// Before the first compaction, pass revision 1 to get all changes. After a compaction, pass
    /// [`Status::compact_revision`] to get all changes that remain.
    ///
    /// The read lock is held until the list is complete, so other calls can read but not write. For a long history,
    /// pass a late revision or compact first.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// let first = store.put(("jobs/1", "queued"))?.header().revision();
    /// store.delete("jobs/1")?;
    /// let history: Vec<String> = store.events(first)?.iter().map(|event| event.to_string()).collect();
    /// assert_eq!(history, [r#"PUT "jobs/1" = "queued" (revision 2)"#, r#"DELETE "jobs/1" (revision 3)"#]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and [`Compacted`](crate::Error::Compacted) if the
    /// revision is below the compacted one, which counts as -1 before the first compaction.
    pub fn events(&self, from: impl Into<Revision>) -> Result<Vec<Event>> {
        let from = from.into();
        self.shell.read(|engine| Ok(engine.events(from)?.collect()))
    }

    /// Returns etcd's hash of the versions that the store retains, up to a revision. 0 and negative numbers mean the
    /// current revision.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// let first = store.put(("config/mode", "blue"))?.header().revision();
    /// let hash = store.hash_kv(0)?.hash();
    /// store.put(("config/mode", "green"))?;
    /// assert_ne!(store.hash_kv(0)?.hash(), hash);
    /// assert_eq!(store.hash_kv(first)?.hash(), hash);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`FutureRevision`](crate::Error::FutureRevision): the revision is above the current one.
    /// - [`Compacted`](crate::Error::Compacted): the revision is positive, and is the compacted one or below it.
    pub fn hash_kv(&self, revision: impl Into<Revision>) -> Result<HashKvResponse> {
        let revision = revision.into();
        self.shell.read(|engine| engine.hash_kv(revision))
    }

    /// Watches keys.
    ///
    /// An empty key is accepted, unlike in a read, and means the single key `"\0"` (R-WCH-2). [`Watch::all`] watches
    /// every key.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch(Watch::prefix("jobs/"))?;
    /// store.put(("jobs/nightly", "ran"))?;
    /// let response = watcher.recv()?.expect("the watch has not ended");
    /// assert_eq!(response.events()[0].kv().key(), b"jobs/nightly");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`Compacted`](crate::Error::Compacted): the start revision is negative. A compacted start revision is reported
    ///   by the first receive instead (R-WCH-6).
    /// - [`WatchRangeEmpty`](crate::Error::WatchRangeEmpty): the range ends at or before its start.
    pub fn watch(&self, watch: impl Into<Watch>) -> Result<Watcher> {
        Watcher::confirmed(&self.client(), watch.into())
    }

    /// Returns a client of the store, for code that also runs over other backends. The client keeps the store alive.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::new();
    /// store.client().put(("config/mode", "blue")).wait()?; // or `.await`
    /// assert_eq!(store.get("config/mode")?.count(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Returns the current revision.
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn revision(&self) -> Result<Revision> {
        self.shell.read(|engine| Ok(engine.status().header().revision()))
    }

    /// Returns the revisions, counts and size of the store.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("worker", "idle").lease(lease))?;
    /// store.put(Put::new("worker", "busy").lease(lease))?;
    /// let status = store.status()?;
    /// assert_eq!((status.keys(), status.versions(), status.leases()), (1, 2, 1));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn status(&self) -> Result<Status> {
        self.shell.read(|engine| Ok(engine.status()))
    }

    /// Returns counts of internal objects, for tests and monitoring. The call visits all tables of the store, and
    /// blocks all other calls while it does.
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn diagnostics(&self) -> Result<Diagnostics> {
        self.shell.diagnostics()
    }

    /// Returns the pending waits for locks, permits and elections, sorted by the create revision of the waiting key.
    /// Waits in `concurrency` and in `service` are included.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let held = Mutex::new(&session.with_name("the importer"), "disk").lock().wait()?;
    /// let waiting = Mutex::new(&session.with_name("a backup"), "disk").lock();
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
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn waiters(&self) -> Result<Vec<Wait>> {
        self.shell.read(|engine| {
            let entry = |key: &[u8]| {
                let found = engine.get(&Get::key(key))?;
                // A key may be deleted although the waiter has not yet received the event.
                Ok(found.kvs().first().map_or_else(|| QueueEntry::gone(key), QueueEntry::new))
            };
            let waits = engine.labels().map(|(key, watched)| Ok(Wait::new(entry(key)?, entry(watched)?)));
            let mut waits: Vec<Wait> = waits.collect::<Result<_>>()?;
            // `labels` returns the labels in no particular order. A waiter for several keys has several waits, so
            // compare the awaited key too.
            waits.sort_by_cached_key(|wait| {
                [wait.waiting(), wait.blocked_on()].map(|entry| (entry.token(), entry.key().to_vec()))
            });
            Ok(waits)
        })
    }

    /// Lists, raises or ends alarms (R-MNT-7).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
    ///
    /// let store = Store::new();
    /// let corrupt = Alarm { member_id: 1, alarm: AlarmType::Corrupt };
    /// store.alarm(AlarmRequest::activate(corrupt))?;
    /// assert_eq!(store.alarm(AlarmRequest::list())?.alarms(), [corrupt]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        self.shell.command(Advance::IfDue, |engine| Ok(engine.alarm(&request)))
    }

    /// Grants a lease. When the lease ends, the store deletes the keys that are attached to the lease.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("workers/7", "alive").lease(lease))?;
    /// assert_eq!(store.get("workers/7")?.kvs()[0].lease(), lease);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`NoSpace`](crate::Error::NoSpace): the grant would reach the [quota](crate::Limits::quota_bytes).
    /// - [`RequestTooLarge`](crate::Error::RequestTooLarge): the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits::max_request_bytes).
    /// - [`Corrupt`](crate::Error::Corrupt) or [`NoSpace`](crate::Error::NoSpace): the CORRUPT or NOSPACE alarm is
    ///   active.
    /// - [`LeaseTtlTooLarge`](crate::Error::LeaseTtlTooLarge): the TTL is above
    ///   [`Limits::max_lease_ttl`](crate::Limits::max_lease_ttl).
    /// - [`LeaseExists`](crate::Error::LeaseExists): the requested id is in use.
    pub fn grant(&self, grant: impl Into<Grant>) -> Result<GrantResponse> {
        let grant = grant.into();
        // The deadline counts from the present time, and an expired lease must not keep its id (R-LSE-3, R-LSE-9).
        self.shell.command(Advance::Always, |engine| engine.grant(&grant))
    }

    /// Revokes a lease and deletes its keys. All deletes have one revision (R-LSE-5).
    ///
    /// ```
    /// use leasehold::{Error, Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("workers/7", "alive").lease(lease))?;
    /// store.revoke(lease)?;
    /// assert_eq!(store.get("workers/7")?.count(), 0);
    /// assert_eq!(store.revoke(lease), Err(Error::LeaseNotFound));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns the first of these errors that applies:
    ///
    /// - [`Stopped`](crate::Error::Stopped): the store is closed.
    /// - [`Corrupt`](crate::Error::Corrupt): the CORRUPT alarm is active.
    /// - [`LeaseNotFound`](crate::Error::LeaseNotFound): the lease does not exist.
    pub fn revoke(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        let id = id.into();
        // A lease whose deadline has passed must be reported as not found (R-LSE-9).
        self.shell.command(Advance::Always, |engine| engine.revoke(id))
    }

    /// Expires a lease now, as if its deadline had passed, even if it is kept alive.
    ///
    /// This method is for tests of code that loses its lease. Unlike [`revoke`](Self::revoke), `expire` works while the
    /// CORRUPT alarm is active.
    ///
    /// ```
    /// use leasehold::{Grant, Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let lease = store.grant(Grant::new(Duration::from_secs(10)).keep_alive())?.id();
    /// store.put(Put::new("workers/7", "alive").lease(lease))?;
    /// store.expire(lease)?; // no clock has to move
    /// assert_eq!(store.get("workers/7")?.count(), 0);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and [`LeaseNotFound`](crate::Error::LeaseNotFound) if
    /// the lease does not exist.
    pub fn expire(&self, id: impl Into<LeaseId>) -> Result<RevokeResponse> {
        let id = id.into();
        self.shell.command(Advance::Always, |engine| engine.expire(id))
    }

    /// Renews a lease once, so that its full TTL remains. If the lease does not exist, the response has no TTL
    /// (R-LSE-7).
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let ttl = Duration::from_secs(10);
    /// let lease = store.grant(ttl)?.id();
    /// clock.advance(Duration::from_secs(9));
    /// assert_eq!(store.keep_alive(lease)?.ttl(), Some(ttl));
    /// clock.advance(ttl);
    /// assert_eq!(store.keep_alive(lease)?.ttl(), None); // it has expired
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn keep_alive(&self, id: impl Into<LeaseId>) -> Result<KeepAliveResponse> {
        let id = id.into();
        // Expire a lease whose deadline has passed first: a late renewal must not revive the lease (R-LSE-8).
        self.shell.command(Advance::Always, |engine| Ok(engine.keep_alive(id)))
    }

    /// Ends the standing keep-alive of a lease, as if the lease's client hung. Does nothing to a lease without a
    /// standing keep-alive.
    ///
    /// The standing keep-alive has renewed the lease every third of the TTL. The lease expires one TTL after the last
    /// of these renewals.
    ///
    /// ```
    /// use leasehold::{Grant, ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Grant::new(Duration::from_secs(9)).keep_alive())?.id();
    /// clock.advance(Duration::from_secs(4)); // the last renewal was after 3 s
    /// store.pause_keep_alive(lease)?;
    /// assert_eq!(store.time_to_live(lease, false)?.ttl(), Some(Duration::from_secs(8)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and [`LeaseNotFound`](crate::Error::LeaseNotFound) if
    /// the lease does not exist.
    pub fn pause_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        let id = id.into();
        self.shell.command(Advance::Always, |engine| engine.pause_keep_alive(id))
    }

    /// Renews a lease, and starts a standing keep-alive, which continues to renew the lease without requests. Does
    /// nothing to a lease that has a standing keep-alive.
    ///
    /// The lease has no deadline until [`pause_keep_alive`](Self::pause_keep_alive) is called.
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.resume_keep_alive(lease)?;
    /// assert_eq!(store.next_deadline(), None);
    /// clock.advance(Duration::from_secs(3600));
    /// assert_eq!(store.leases()?.leases(), [lease]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and [`LeaseNotFound`](crate::Error::LeaseNotFound) if
    /// the lease does not exist.
    pub fn resume_keep_alive(&self, id: impl Into<LeaseId>) -> Result<()> {
        let id = id.into();
        self.shell.command(Advance::Always, |engine| engine.resume_keep_alive(id))
    }

    /// Returns the remaining time of a lease and, if `keys` is `true`, its keys.
    ///
    /// If the lease does not exist, the response has no TTL (R-LSE-10).
    ///
    /// ```
    /// use leasehold::{ManualClock, Put, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Duration::from_secs(10))?.id();
    /// store.put(Put::new("workers/7", "alive").lease(lease))?;
    /// clock.advance(Duration::from_secs(4));
    /// let left = store.time_to_live(lease, true)?;
    /// assert_eq!((left.ttl(), left.keys()), (Some(Duration::from_secs(6)), &[b"workers/7".to_vec()][..]));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn time_to_live(&self, id: impl Into<LeaseId>, keys: bool) -> Result<TimeToLiveResponse> {
        let id = id.into();
        self.shell.read_now(|engine| engine.time_to_live(id, keys))
    }

    /// Returns the ids of all leases, in ascending order of the remaining time (R-LSE-11).
    ///
    /// ```
    /// use leasehold::Store;
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let late = store.grant(Duration::from_secs(60))?.id();
    /// let early = store.grant(Duration::from_secs(10))?.id();
    /// assert_eq!(store.leases()?.leases(), [early, late]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`](crate::Error::Stopped) if the store is closed.
    pub fn leases(&self) -> Result<LeasesResponse> {
        self.shell.read_now(Engine::leases)
    }

    /// Returns the current time of the store's clock.
    pub fn now(&self) -> Timestamp {
        self.shell.now()
    }

    /// Runs the work that is due: expires leases, compacts, sends progress notifications, fires timers and reclaims
    /// memory.
    ///
    /// The clocks of this crate call `tick` at the store's deadlines. With another [`Clock`](crate::clock::Clock), the
    /// program or the clock's [`Timer`](crate::clock::Timer) calls `tick` at [`next_deadline`](Self::next_deadline). A
    /// closed store ignores the call.
    ///
    /// Every request that changes the store runs due work first, and so do [`time_to_live`](Self::time_to_live),
    /// [`leases`](Self::leases) and [`save`](Self::save). Other reads run no due work, and return the present state
    /// even if work is due.
    ///
    /// ```
    /// use leasehold::{Put, Store};
    /// use leasehold::clock::{Clock, Timestamp};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::time::Duration;
    ///
    /// struct Simulated(AtomicU64);
    /// impl Clock for Simulated {
    ///     fn now(&self) -> Timestamp {
    ///         Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    ///     }
    /// }
    ///
    /// let clock = Arc::new(Simulated(AtomicU64::new(0)));
    /// let store = Store::builder().clock(Arc::clone(&clock)).build();
    /// let lease = store.grant(Duration::from_secs(5))?.id();
    /// store.put(Put::new("worker", "alive").lease(lease))?;
    /// clock.0.store(5_000_000_000, Ordering::Relaxed);
    /// assert_eq!(store.get("worker")?.count(), 1); // a read runs no due work
    /// store.tick();
    /// assert_eq!(store.get("worker")?.count(), 0);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn tick(&self) {
        // `Stopped` means that the store is closed and has no due work, so ignore the error.
        self.try_tick().unwrap_or_default();
    }

    /// Runs the work that is due, as [`tick`](Self::tick) does, but returns an error if the store is closed.
    pub(super) fn try_tick(&self) -> Result<()> {
        self.shell.tick()
    }

    /// Returns whether `self` and `other` are handles to one store.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shell, &other.shell)
    }

    /// Returns the time of the next scheduled work, or `None` if no work is scheduled or the store is closed.
    ///
    /// Scheduled work is the end of a lease, an automatic compaction, a progress notification or the end of a timed
    /// wait. An automatic compaction is scheduled only if it has a new revision to compact to, so a write can add a
    /// deadline.
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let store = Store::builder().clock(ManualClock::new()).build();
    /// assert_eq!(store.next_deadline(), None);
    /// store.grant(Duration::from_secs(10))?;
    /// assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + Duration::from_secs(10)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // A closed store has no deadline, so ignore `Stopped`.
        self.shell.read(|engine| Ok(engine.next_deadline())).unwrap_or_default()
    }

    /// Saves the current state and returns a summary of the save. [`StoreBuilder::load`](crate::StoreBuilder::load)
    /// restores the state.
    ///
    /// A save contains the keys with their history from the compacted revision on, leases with their remaining time,
    /// and alarms. A save contains neither the clock, the configuration nor the samples of automatic compaction.
    ///
    /// The store collects the state under the read lock, without copying keys or values. The store writes pieces of
    /// about 64 KiB without the lock, so the writer may be slow and may call the store. At the end, the store flushes
    /// the writer. A save has checksums. A file of a save survives a crash only if it is synced and then renamed into
    /// place, as in the example `save`.
    ///
    /// A store that loads the save does not have later changes, and assigns their revisions and fencing tokens again.
    /// If a client, a cache or a [`Fence`](crate::concurrency::Fence) may have seen one of these revisions or tokens,
    /// load the save with a bump: see [`LoadOptions`](crate::snapshot::LoadOptions).
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
    /// [`SaveError::Io`] if the writer fails, and [`SaveError::Closed`] with [`Stopped`](crate::Error::Stopped) if the
    /// store is closed. A `SaveError` converts to `Box<dyn std::error::Error>`, not to this crate's `Error`.
    pub fn save(&self, mut into: impl Write) -> std::result::Result<Saved, SaveError> {
        let snapshot = self.shell.read_now(Engine::snapshot)?;
        Ok(write_snapshot(snapshot, &mut into)?)
    }

    /// Saves the current state into memory. The header has the revision of the saved state.
    pub(super) fn snapshot(&self) -> Result<SnapshotResponse> {
        let (snapshot, status) = self.shell.read_now(|engine| (engine.snapshot(), engine.status()))?;
        let mut blob = Vec::new();
        let saved = write_snapshot(snapshot, &mut blob).expect("a `Vec` accepts every write");
        let header = ResponseHeader { revision: saved.revision(), ..status.header };
        Ok(SnapshotResponse { header, blob: blob.into() })
    }

    /// Closes the store for all its handles: frees its memory and ends all watchers and waits.
    ///
    /// Every later call with a [`Result`] fails with [`Error::Stopped`](crate::Error::Stopped), and a second `close`
    /// does nothing.
    ///
    /// ```
    /// use leasehold::{Error, Store, Watch};
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch(Watch::all())?;
    /// store.close();
    /// assert_eq!(watcher.recv(), Err(Error::Stopped)); // a blocked `recv` is woken too
    /// assert_eq!(store.put(("config/mode", "blue")), Err(Error::Stopped));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn close(&self) {
        // `Stopped` means that the store was closed before, so ignore the error.
        self.shell.close().unwrap_or_default();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A handle to a store that does not keep the store alive.
#[derive(Clone)]
pub struct WeakStore(Weak<Shell>);

impl WeakStore {
    /// Returns whether the store still exists.
    pub(super) fn is_left(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Returns a handle to the store, or `None` if the store was dropped.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store::from_shell)
    }
}

impl fmt::Debug for WeakStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakStore")
    }
}
