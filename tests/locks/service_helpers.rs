//! Helpers for the tests of the lock and election services.

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

/// Returns a store with leases of 100 s under the ids 1 to 9, and its clock.
pub(crate) fn leased() -> (Store, ManualClock) {
    let (store, clock) = manual();
    (1..10).for_each(|id| grant(&store, id, secs(100)));
    (store, clock)
}

/// Returns a store with leases, its clock, and its lock service.
pub(crate) fn locking() -> (Store, ManualClock, LockService) {
    let (store, clock) = leased();
    let locks = LockService::new(store.client());
    (store, clock, locks)
}

/// Returns a store with leases, its clock, and its election service.
pub(crate) fn electing() -> (Store, ManualClock, ElectionService) {
    let (store, clock) = leased();
    let elections = ElectionService::new(store.client());
    (store, clock, elections)
}

pub(crate) fn lock(locks: &LockService, name: impl Into<Bytes>, lease: i64) -> Ticket<LockResponse> {
    locks.lock(LockRequest { name: name.into(), lease: LeaseId::new(lease) })
}

/// Acquires a free lock.
pub(crate) fn hold(locks: &LockService, name: impl Into<Bytes>, lease: i64) -> LockResponse {
    take(&mut lock(locks, name, lease))
}

/// Deletes a key. Returns the revision of the header.
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

/// Wins an election without a leader.
pub(crate) fn win(
    elections: &ElectionService,
    name: impl Into<Bytes>,
    lease: i64,
    value: impl Into<Bytes>,
) -> LeaderKey {
    take(&mut campaign(elections, name, lease, value)).leader
}

/// Proclaims a value. Returns the revision of the header.
pub(crate) fn proclaim(
    elections: &ElectionService,
    leader: &LeaderKey,
    value: impl Into<Bytes>,
) -> Result<i64> {
    let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
    elections.proclaim(request).wait().map(|done| done.header.revision().get())
}

/// Resigns. Returns the revision of the header.
pub(crate) fn resign(elections: &ElectionService, leader: &LeaderKey) -> Result<i64> {
    let request = ResignRequest { leader: Some(leader.clone()) };
    elections.resign(request).wait().map(|done| done.header.revision().get())
}

/// Returns the candidacy of a key that a request has put.
pub(crate) fn candidacy(name: &'static str, key: &'static str, rev: i64, lease: i64) -> LeaderKey {
    LeaderKey { name: name.into(), key: key.into(), rev: at(rev), lease: LeaseId::new(lease) }
}

pub(crate) fn observe(elections: &ElectionService, name: impl Into<Bytes>) -> Observer {
    elections.observe(LeaderRequest { name: name.into() })
}

/// Returns the new responses of an observer: the header's revision after `@`, and the leader's key.
pub(crate) fn seen(observer: &mut Observer) -> Vec<String> {
    std::iter::from_fn(|| observer.try_recv().expect("the store is open")).map(|seen| say(&seen)).collect()
}

pub(crate) fn say(response: &LeaderResponse) -> String {
    format!("@{} {}", response.header.revision(), show(&response.kv))
}

/// Asserts that a ticket is pending.
#[track_caller]
pub(crate) fn assert_waits<T: Debug + PartialEq>(ticket: &mut Ticket<T>) {
    assert_eq!(ticket.try_wait(), Ok(None));
}

/// Asserts that a ticket was not woken and is pending.
#[track_caller]
pub(crate) fn assert_sleeps<T: Debug + PartialEq>(ticket: &mut Ticket<T>) {
    assert_eq!(ticket.ready_channel().len(), 0, "the ticket was not woken");
    assert_waits(ticket);
}

/// Asserts that a call was refused with a message and the code `Unknown`.
#[track_caller]
pub(crate) fn assert_refused<T: Debug>(result: Result<T>, message: &str) {
    let error = result.expect_err("the call is refused");
    assert_eq!((error.to_string().as_str(), error.code(), error.code() as i32), (message, Code::Unknown, 2));
}

pub(crate) const EXPIRED: &str = "mutex: session is expired";
pub(crate) const NO_LEASE: &str = "etcdserver: requested lease not found";
pub(crate) const NO_KEY: &str = "etcdserver: key is not provided";
pub(crate) const NOT_LEADER: &str = "election: not leader";
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A use of the backend.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    Call(&'a Request),
    Watch,
}

/// Runs `meddle` before requests, until it returns true.
struct Meddler<F> {
    store: Store,
    meddle: F,
    is_done: AtomicBool,
}

/// Returns a client with a backend that runs `meddle` before each request, until that returns true.
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

/// Asserts that a call failed because the store was closed.
#[track_caller]
pub(crate) fn assert_stopped<T: Debug>(result: Result<T>) {
    assert_eq!(result.err(), Some(Error::Stopped));
}

/// Returns a txn that deletes the keys from `key` on, and puts `key` again.
pub(crate) fn replace_last(key: &'static str, value: &'static str) -> Txn {
    Txn::new().and_then([TxnOp::delete(KeyRange::from_key(key)), TxnOp::put(key, value)])
}

/// Returns a txn that puts a key and deletes it.
pub(crate) fn come_and_go(key: &'static str, value: &'static str) -> Txn {
    let nested = |operation| TxnOp::Txn(Txn::new().and_then([operation]));
    Txn::new().and_then([nested(TxnOp::put(key, value)), nested(TxnOp::delete(key))])
}

/// Returns a client of a store that is compacted to its newest revision just before the first watch.
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
