//! Requests that the backend executes or answers late: after another call of the session, or after the caller received an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{Election, Mutex, RwLock, Semaphore, Session};
use leasehold::{Call, Client, Code, Error, ManualClock, Put, Store};
use leasehold_testkit::helpers::{all_keys, manual, millis, secs};

use crate::scheduled_backend::{FaultRates, Stepped};

const AT_ONCE: FaultRates = FaultRates { at_once: 1, refused: 0, lost: 0, late: 0 };
const LATE: FaultRates = FaultRates { at_once: 0, refused: 0, lost: 0, late: 0 };

/// Returns a backend that answers at once, and a session with a TTL of 5 s.
fn begin() -> (Stepped, Session) {
    let backend = Stepped::new(1);
    backend.set_fault_rates(AT_ONCE);
    let session = Session::open(backend.client(), secs(5)).wait().expect("a lease is granted");
    (backend, session)
}

impl Stepped {
    /// Returns the number of leases one TTL after the late calls are answered.
    fn leases_after_a_ttl(&self) -> usize {
        self.settle();
        self.clock().advance(secs(5));
        self.store().leases().expect("the store is open").leases().len()
    }
}

/// Regression: the late answer to a resumption started renewals again, so the lease of a paused session never expired.
#[test]
fn resume_answered_after_a_pause_renews_nothing() {
    let (backend, one) = begin();
    backend.set_fault_rates(LATE);
    let mut resume = one.resume();
    backend.set_fault_rates(AT_ONCE);
    one.pause().wait().unwrap();
    backend.settle();
    assert_eq!(resume.try_wait(), Ok(Some(())));
    assert_eq!(backend.leases_after_a_ttl(), 0);
}

#[test]
fn resume_answered_after_a_close_without_revocation_renews_nothing() {
    let (backend, one) = begin();
    backend.set_fault_rates(LATE);
    let mut resume = one.resume();
    backend.set_fault_rates(FaultRates { refused: 1, ..AT_ONCE });
    assert_eq!(one.close().wait(), Err(Error::Unavailable { maybe_applied: false }));
    backend.set_fault_rates(LATE);
    backend.settle();
    assert_eq!(resume.try_wait(), Ok(Some(())));
    assert_eq!(backend.leases_after_a_ttl(), 0);
}

/// Regression: dropping the session revoked the lease after `orphan`, so the keys of the lease were deleted at once.
#[test]
fn resume_answered_after_orphan_revokes_and_renews_nothing() {
    for is_awaited in [false, true] {
        let (backend, one) = begin();
        backend.store().put(Put::new("k", "v").lease(one.lease())).unwrap();
        backend.set_fault_rates(LATE);
        let resume = one.resume();
        let resume = is_awaited.then_some(resume);
        backend.set_fault_rates(AT_ONCE);
        one.orphan().wait().unwrap();
        backend.settle();
        if let Some(mut resume) = resume {
            assert_eq!(resume.try_wait(), Ok(Some(())));
        }
        drop(one);
        backend.settle();
        assert_eq!(all_keys(backend.store()), ["k"]);
        assert_eq!(backend.leases_after_a_ttl(), 0);
    }
}

/// If `resume` is called after `pause` or `orphan`, the session renews its lease, in any order of the answers.
#[test]
fn resume_called_last_renews_despite_late_answers() {
    for ended in [Session::pause, Session::orphan] {
        let (backend, one) = begin();
        backend.set_fault_rates(LATE);
        let late = ended(&one);
        let resume = one.resume();
        backend.settle();
        assert_eq!((resume.wait(), late.wait()), (Ok(()), Ok(())));
        assert_eq!(backend.leases_after_a_ttl(), 1);
        drop(one);
        assert_eq!(backend.leases_after_a_ttl(), 0);
    }
}

/// Regression: a resumption started renewals only once its answer was polled.
#[test]
fn resume_without_a_poll_renews_at_once() {
    let (backend, one) = begin();
    one.pause().wait().unwrap();
    backend.set_fault_rates(LATE);
    let resume = one.resume();
    backend.clock().advance(secs(60));
    backend.settle();
    assert_eq!(resume.wait(), Ok(()));
    assert!(backend.store().time_to_live(one.lease(), false).unwrap().ttl().is_some());
}

/// Answers the next txn with an error once `fails` is set. The txn is executed or not, depending on the test.
struct Failing {
    store: Store,
    clock: ManualClock,
    error: Error,
    is_executed: bool,
    fails: AtomicBool,
}

impl Failing {
    fn new(error: &Error, is_executed: bool) -> (Arc<Self>, Session) {
        let (store, clock) = manual();
        let fails = AtomicBool::new(false);
        let failing = Arc::new(Self { store, clock, error: error.clone(), is_executed, fails });
        let client = Client::new(Arc::clone(&failing));
        (failing, Session::open(client, secs(5)).wait().expect("a lease is granted"))
    }

    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }
}

impl Layer for Failing {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        if !matches!(request, Request::Txn(_)) || !self.fails.swap(false, Ordering::SeqCst) {
            return self.store.call(request);
        }
        if self.is_executed {
            drop(self.store.call(request));
        }
        Call::from_result(Err(self.error.clone()))
    }
}

/// The errors that a network reports for a request that was executed.
fn ambiguous_errors() -> [Error; 4] {
    [
        Error::from_wire(Code::Unavailable, "etcdserver: server stopped"),
        Error::from_wire(Code::Unavailable, "etcdserver: request timed out"),
        Error::from_wire(Code::Internal, "stream terminated by RST_STREAM"),
        Error::from_wire(Code::ResourceExhausted, "grpc: received message larger than max"),
    ]
}

/// Regression: the key of a put that was executed and answered with an error blocked the lock until the session ended.
#[test]
fn lock_answered_with_an_ambiguous_error_leaves_no_key() {
    for error in ambiguous_errors() {
        let (failing, one) = Failing::new(&error, true);
        failing.fail();
        assert_eq!(Mutex::new(&one, "m").lock().wait().map(drop), Err(error));
        assert_eq!(all_keys(&failing.store), [""; 0]);
    }
}

/// Regression: the release of a dropped guard was retried only after `Unavailable`.
#[test]
fn dropped_guard_whose_release_fails_is_released_later() {
    let busy = Error::from_wire(Code::ResourceExhausted, "etcdserver: too many requests");
    for error in ambiguous_errors().into_iter().chain([busy]) {
        let (failing, one) = Failing::new(&error, false);
        let guard = Mutex::new(&one, "m").lock().wait().unwrap();
        failing.fail();
        drop(guard);
        assert_eq!(all_keys(&failing.store).len(), 1, "{error}");
        failing.clock.advance(millis(100));
        assert_eq!(all_keys(&failing.store), [""; 0], "{error}");
    }
}

/// The next request fails with an error, and a later step executes it.
const FAILS: FaultRates = FaultRates { at_once: 1, refused: 0, lost: 0, late: 1 };
const LOST: Error = Error::Unavailable { maybe_applied: true };

/// Runs `begin`, whose first request fails and is executed later.
fn fail<T>(backend: &Stepped, begin: impl FnOnce() -> T) -> T {
    backend.set_fault_rates(FAILS);
    let begun = begin();
    backend.set_fault_rates(AT_ONCE);
    begun
}

impl Stepped {
    fn streams(&self) -> usize {
        self.store().diagnostics().expect("the store is open").streams
    }
}

type Enter = fn(&Session) -> Result<(), Error>;

const WAYS: [Enter; 9] = [
    |one| Mutex::new(one, "m").lock().wait().map(drop),
    |one| Mutex::new(one, "m").try_lock().wait().map(drop),
    |one| Mutex::reentrant(one, "m").lock().wait().map(drop),
    |one| Mutex::reentrant(one, "m").try_lock().wait().map(drop),
    |one| Election::new(one, "m").campaign("v").wait().map(drop),
    |one| Election::new(one, "m").try_campaign("v").wait().map(drop),
    |one| Semaphore::new(one, "m", 2).acquire().wait().map(drop),
    |one| Semaphore::new(one, "m", 2).try_acquire().wait().map(drop),
    |one| RwLock::new(one, "m").write().wait().map(drop),
];

/// Regression: the cleanup read the key once. A put that was executed after the read blocked the lock until the session ended.
#[test]
fn put_executed_after_the_cleanup_leaves_no_key() {
    for way in WAYS {
        let (backend, one) = begin();
        assert_eq!(fail(&backend, || way(&one)), Err(LOST));
        backend.run_tasks();
        assert_eq!(backend.streams(), 1, "the cleanup waits for the put");
        backend.clock().advance(secs(3600));
        assert!(backend.step(), "the put is executed");
        assert_eq!(all_keys(backend.store()).len(), 1);
        backend.settle();
        assert_eq!((all_keys(backend.store()), backend.streams()), (vec![], 0));
    }
}

#[test]
fn put_executed_after_its_ticket_was_dropped_leaves_no_key() {
    let (backend, one) = begin();
    backend.set_fault_rates(FaultRates { at_once: 0, ..FAILS });
    drop(Mutex::new(&one, "m").lock());
    backend.run_tasks();
    while !backend.has_task() {
        assert!(backend.step_in_order(), "the put fails");
    }
    backend.set_fault_rates(AT_ONCE);
    backend.run_tasks();
    assert_eq!((all_keys(backend.store()), backend.streams()), (vec![], 1));
    backend.settle();
    assert_eq!((all_keys(backend.store()), backend.streams()), (vec![], 0));
}

/// A pending cleanup is not a handle to the session: dropping the last handle ends the session and the cleanup.
#[test]
fn cleanup_that_waits_ends_with_its_session() {
    type End = fn(&Stepped, Session);
    let ends: [End; 4] = [
        |_, one| drop(one),
        |_, one| drop(one.close()),
        |backend, one| drop(backend.store().revoke(one.lease())),
        |backend, one| {
            drop(one.orphan());
            backend.clock().advance(secs(5));
        },
    ];
    for end in ends {
        let (backend, one) = begin();
        assert_eq!(fail(&backend, || Mutex::new(&one, "m").lock().wait().map(drop)), Err(LOST));
        backend.run_tasks();
        end(&backend, one);
        backend.run_tasks();
        assert_eq!((backend.store().leases().unwrap().leases().len(), backend.streams()), (0, 0));
        backend.settle();
        assert_eq!(all_keys(backend.store()), [""; 0], "the late put has no lease");
    }
}

/// The number of a failed hold is not reused, since the cleanup could otherwise delete the key of a later hold.
#[test]
fn key_of_a_late_put_is_not_reused_by_a_later_hold() {
    let (backend, one) = begin();
    let mutex = Mutex::new(&one, "m");
    assert_eq!(fail(&backend, || mutex.lock().wait().map(drop)), Err(LOST));
    backend.run_tasks();
    let guard = mutex.lock().wait().unwrap();
    assert_eq!(guard.key(), b"m/1-1");
    backend.settle();
    assert_eq!((guard.check().wait(), all_keys(backend.store())), (Ok(()), vec!["m/1-1".into()]));
    guard.unlock().wait().unwrap();
    assert_eq!(mutex.lock().wait().unwrap().key(), b"m/1-1");
}

/// A re-entrant hold that has acquired the key of a late put keeps the key, and the last hold deletes it.
#[test]
fn shared_key_of_a_late_put_is_deleted_by_its_last_hold() {
    for is_executed_while_held in [true, false] {
        let (backend, one) = begin();
        let mutex = Mutex::reentrant(&one, "m");
        assert_eq!(fail(&backend, || mutex.lock().wait().map(drop)), Err(LOST));
        backend.run_tasks();
        let guard = mutex.lock().wait().unwrap();
        backend.run_tasks();
        if is_executed_while_held {
            backend.settle();
        }
        assert_eq!((guard.check().wait(), all_keys(backend.store())), (Ok(()), vec!["m/1".into()]));
        drop(guard);
        backend.settle();
        assert_eq!(all_keys(backend.store()), [""; 0]);
    }
}

/// Another session with this lease may put a key of this name, so the cleanup reads the key once and does not wait.
#[test]
fn cleanup_of_a_shared_lease_does_not_wait_for_the_put() {
    let (backend, one) = begin();
    let two = Session::open_with_lease(backend.client(), one.lease()).wait().unwrap();
    assert_eq!(fail(&backend, || Mutex::new(&two, "m").lock().wait().map(drop)), Err(LOST));
    backend.run_tasks();
    assert_eq!(backend.streams(), 0);
    let guard = Mutex::new(&one, "m").lock().wait().unwrap();
    backend.settle();
    assert_eq!((guard.key(), guard.check().wait()), (&b"m/1-0"[..], Ok(())));
}
