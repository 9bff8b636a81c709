//! What tests of the lock and election services say, in few words.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use leasehold::backend::{Backend, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::service::{
    CampaignRequest, CampaignResponse, ElectionService, LeaderKey, LeaderRequest, LeaderResponse,
    LockRequest, LockResponse, LockService, Observer, ProclaimRequest, ResignRequest, UnlockRequest,
};
use leasehold::{
    Call, Client, Code, Error, KeyRange, LeaseId, ManualClock, Result, Store, Ticket, Txn, TxnOp,
};

pub(crate) use leasehold_testkit::helpers::taken as take;
use leasehold_testkit::helpers::{at, grant, manual, put, secs, show};

/// A store with leases of 100 s under the ids 1 to 9, and its clock.
pub(crate) fn leased() -> (Store, ManualClock) {
    let (store, clock) = manual();
    (1..10).for_each(|id| grant(&store, id, secs(100)));
    (store, clock)
}

/// A store with its leases, and its lock service.
pub(crate) fn locking() -> (Store, ManualClock, LockService) {
    let (store, clock) = leased();
    let locks = LockService::new(store.client());
    (store, clock, locks)
}

/// A store with its leases, and its election service.
pub(crate) fn electing() -> (Store, ManualClock, ElectionService) {
    let (store, clock) = leased();
    let elections = ElectionService::new(store.client());
    (store, clock, elections)
}

pub(crate) fn lock(locks: &LockService, name: impl Into<Bytes>, lease: i64) -> Ticket<LockResponse> {
    locks.lock(LockRequest { name: name.into(), lease: LeaseId::new(lease) })
}

/// Gets a lock that is free.
pub(crate) fn hold(locks: &LockService, name: impl Into<Bytes>, lease: i64) -> LockResponse {
    take(&mut lock(locks, name, lease))
}

/// Deletes a key, and gives the header's revision.
pub(crate) fn unlock(locks: &LockService, key: impl Into<Bytes>) -> i64 {
    let unlocked = locks.unlock(UnlockRequest { key: key.into() }).wait();
    unlocked.expect("a key can be deleted").header.revision().get()
}

pub(crate) fn campaign(
    elections: &ElectionService,
    name: impl Into<Bytes>,
    lease: i64,
    value: impl Into<Bytes>,
) -> Ticket<CampaignResponse> {
    let lease = LeaseId::new(lease);
    elections.campaign(CampaignRequest { name: name.into(), lease, value: value.into() })
}

/// Wins an election that nobody else leads.
pub(crate) fn win(
    elections: &ElectionService,
    name: impl Into<Bytes>,
    lease: i64,
    value: impl Into<Bytes>,
) -> LeaderKey {
    take(&mut campaign(elections, name, lease, value)).leader
}

/// Proclaims a value, and gives the header's revision.
pub(crate) fn proclaim(
    elections: &ElectionService,
    leader: &LeaderKey,
    value: impl Into<Bytes>,
) -> Result<i64> {
    let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
    elections.proclaim(request).wait().map(|done| done.header.revision().get())
}

/// Resigns, and gives the header's revision.
pub(crate) fn resign(elections: &ElectionService, leader: &LeaderKey) -> Result<i64> {
    let request = ResignRequest { leader: Some(leader.clone()) };
    elections.resign(request).wait().map(|done| done.header.revision().get())
}

/// The candidacy of a key that a request has put.
pub(crate) fn candidacy(name: &'static str, key: &'static str, rev: i64, lease: i64) -> LeaderKey {
    LeaderKey { name: name.into(), key: key.into(), rev: at(rev), lease: LeaseId::new(lease) }
}

pub(crate) fn observe(elections: &ElectionService, name: impl Into<Bytes>) -> Observer {
    elections.observe(LeaderRequest { name: name.into() })
}

/// What an observer has seen since: a leader's key after the header's revision and `@`.
pub(crate) fn seen(observer: &mut Observer) -> Vec<String> {
    std::iter::from_fn(|| observer.try_recv().expect("nothing is refused")).map(|seen| say(&seen)).collect()
}

pub(crate) fn say(response: &LeaderResponse) -> String {
    format!("@{} {}", response.header.revision(), show(&response.kv))
}

/// Asserts that a ticket still waits, and that nothing has happened to it.
#[track_caller]
pub(crate) fn assert_waits<T: Debug + PartialEq>(ticket: &mut Ticket<T>) {
    assert_eq!(ticket.try_wait(), Ok(None));
}

/// Asserts that nothing was delivered to a ticket, and that it still waits.
#[track_caller]
pub(crate) fn assert_sleeps<T: Debug + PartialEq>(ticket: &mut Ticket<T>) {
    assert_eq!(ticket.ready().len(), 0, "it was woken");
    assert_waits(ticket);
}

/// Asserts that something was refused with a message, and the code Unknown.
#[track_caller]
pub(crate) fn assert_refused<T: Debug>(result: Result<T>, message: &str) {
    let error = result.expect_err("it is refused");
    assert_eq!((error.to_string().as_str(), error.code(), error.code() as i32), (message, Code::Unknown, 2));
}

pub(crate) const EXPIRED: &str = "mutex: session is expired";
pub(crate) const NO_LEASE: &str = "etcdserver: requested lease not found";
pub(crate) const NO_KEY: &str = "etcdserver: key is not provided";
pub(crate) const NOT_LEADER: &str = "election: not leader";
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// What reaches a backend.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    Call(&'a Request),
    Watch,
}

/// Does something to the store, once, before the first request that it is meant for.
struct Meddler<F> {
    store: Store,
    meddle: F,
    is_done: AtomicBool,
}

/// A client whose requests somebody meddles with: before each, until it says that it has done so.
pub(crate) fn meddling(
    store: &Store,
    meddle: impl Fn(&Store, Moment<'_>) -> bool + Send + Sync + 'static,
) -> Client {
    Client::new(Meddler { store: store.clone(), meddle, is_done: AtomicBool::new(false) })
}

impl<F: Fn(&Store, Moment<'_>) -> bool> Meddler<F> {
    fn before(&self, moment: Moment<'_>) {
        if !self.is_done.load(Ordering::SeqCst) && (self.meddle)(&self.store, moment) {
            self.is_done.store(true, Ordering::SeqCst);
        }
    }
}

impl<F: Fn(&Store, Moment<'_>) -> bool + Send + Sync + 'static> Layer for Meddler<F> {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.before(Moment::Call(&request));
        self.store.call(request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.before(Moment::Watch);
        Backend::watch(&self.store, requests, inbox);
    }
}

/// Asserts that the store was closed under something.
#[track_caller]
pub(crate) fn assert_stopped<T: Debug>(result: Result<T>) {
    assert_eq!(result.err(), Some(Error::Stopped));
}

/// A txn that deletes the last key that there is, and puts it again.
pub(crate) fn replace_last(key: &'static str, value: &'static str) -> Txn {
    Txn::new().and_then([TxnOp::delete(KeyRange::from_key(key)), TxnOp::put(key, value)])
}

/// A txn that puts a key, and deletes it again.
pub(crate) fn come_and_go(key: &'static str, value: &'static str) -> Txn {
    let nested = |operation| TxnOp::Txn(Txn::new().and_then([operation]));
    Txn::new().and_then([nested(TxnOp::put(key, value)), nested(TxnOp::delete(key))])
}

/// A client of a store that is compacted to its newest revision just before the first watch is made.
pub(crate) fn compacting(store: &Store) -> Client {
    meddling(store, |store, moment| {
        if !matches!(moment, Moment::Watch) {
            return false;
        }
        put(store, "other", "1");
        let now = put(store, "other", "2");
        store.compact(now).is_ok()
    })
}
