//! Regressions: keys of locks that were left behind, and wake-ups that were lost. Each doc comment describes the former bug.

use std::pin::Pin;
use std::sync::{Arc, Mutex as Slot};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{LeaderEvent, LeaderWatcher, Mutex, Session};
use leasehold::service::{ElectionService, LeaderRequest, LockRequest, LockService};
use leasehold::{Call, Client, Error, Put, Store};
use leasehold_testkit::helpers::{all_keys, manual, secs, session, text};
use leasehold_testkit::wakers::guarded;

use crate::scheduled_backend::{FaultRates, Stepped};

/// Returns a session over a stepped backend, and its re-entrant lock.
fn reentrant(seed: u64) -> (Stepped, Session, Mutex) {
    let stepped = Stepped::new(seed);
    let session = Session::open(stepped.client(), secs(5)).wait().expect("a lease is granted");
    let mutex = Mutex::reentrant(&session, "l");
    (stepped, session, mutex)
}

/// Loses one in `lost` responses from now on; 0 loses none.
fn lose(stepped: &Stepped, lost: u64) {
    stepped.set_fault_rates(FaultRates { lost, ..FaultRates::default() });
}

/// `try_lock` writes to the key that it joins. A concurrent release saw the key changed and a pending put, and left the key to
/// the `try_lock`, which did not own it.
#[test]
fn try_lock_during_release_leaves_no_key() {
    for seed in 0..200 {
        let (stepped, session, mutex) = reentrant(seed);
        let held = Mutex::new(&session, "l").lock().wait().unwrap();
        let mut waiting = mutex.lock();
        stepped.settle();
        assert!(waiting.try_wait().unwrap().is_none());
        drop(waiting);
        assert!(mutex.try_lock().wait().unwrap().is_none());
        stepped.settle();
        assert_eq!(all_keys(stepped.store()), [text(held.key())], "seed {seed}");
    }
}

/// A guard of a deleted key is left. A release checked only whether the key's name was in use, and not its create revision.
#[test]
fn guard_of_deleted_key_keeps_no_newer_key() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let mutex = Mutex::reentrant(&one, "l");
    let lost = mutex.lock().wait().unwrap();
    store.delete(lost.key()).unwrap();
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let waiting = mutex.lock();
    assert!(mutex.try_lock().wait().unwrap().is_none());
    drop(waiting);
    assert_eq!(all_keys(&store), [text(held.key())]);
    drop(held);
    // A key that another client has written to is released too.
    let held = mutex.lock().wait().unwrap();
    store.put(Put::new("l/1", "touched").ignore_lease()).unwrap();
    drop(held);
    drop(lost);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// The release of a lost guard deleted only its old key, and the key of a put with a lost response stayed.
#[test]
fn uncertain_key_is_released_with_lost_guard() {
    for tries in [false, true] {
        let (stepped, _session, mutex) = reentrant(0);
        let guard = mutex.lock().wait().unwrap();
        stepped.store().delete("l/1").unwrap();
        if tries {
            lose(&stepped, 1);
            assert_eq!(mutex.try_lock().wait().map(drop), Err(Error::Unavailable { maybe_applied: true }));
            lose(&stepped, 0);
            drop(guard);
        } else {
            let mut ticket = mutex.lock();
            lose(&stepped, 1);
            assert!(stepped.step_in_order());
            lose(&stepped, 0);
            drop(guard);
            stepped.settle();
            assert_eq!(ticket.try_wait().map(drop), Err(Error::Unavailable { maybe_applied: true }));
        }
        stepped.settle();
        assert_eq!(all_keys(stepped.store()), [""; 0]);
    }
}

/// The release of an uncertain key stopped because a put was pending, and its response was for an older key.
#[test]
fn uncertain_key_is_released_with_pending_response() {
    let (stepped, _session, mutex) = reentrant(0);
    let mut unseen = mutex.lock();
    stepped.settle();
    stepped.store().delete("l/1").unwrap();
    lose(&stepped, 1);
    assert_eq!(mutex.try_lock().wait().map(drop), Err(Error::Unavailable { maybe_applied: true }));
    lose(&stepped, 0);
    stepped.settle();
    let looked = unseen.try_wait();
    stepped.settle();
    drop((looked, unseen));
    stepped.settle();
    assert_eq!(all_keys(stepped.store()), [""; 0]);
}

/// A store with calls that wake and stay pending for a few polls before they return their response.
struct DelayedBackend(Store);

struct DelayedCall {
    answer: Option<leasehold::Result<Response>>,
    times: usize,
}

impl Future for DelayedCall {
    type Output = leasehold::Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.times -= 1;
        if self.times == 0 {
            return Poll::Ready(self.answer.take().expect("a ready future is not polled again"));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Layer for DelayedBackend {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        Call::pending(DelayedCall { answer: Some(self.0.call(request).wait()), times: 5 })
    }

    fn detach(&self, mut task: Task) {
        while task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }
}

/// The response came between the poll of the call and the poll of the inbox. The inbox took the wake-up for its own, so the
/// waiter was not woken again.
#[test]
fn response_between_two_polls_wakes() {
    guarded(|| {
        let client = Client::new(DelayedBackend(manual().0));
        let one = Session::open(client.clone(), secs(60)).wait().unwrap();
        for mutex in [Mutex::new(&one, "l"), Mutex::reentrant(&one, "l")] {
            let held = mutex.lock().wait().unwrap();
            let waiting = Mutex::new(&one, "l").lock();
            drop(held);
            drop(waiting.wait().unwrap());
        }
        let locks = LockService::new(client.clone());
        let lock = LockRequest { name: "l".into(), lease: one.lease() };
        client.block_on(locks.lock(lock)).unwrap();
        assert!(matches!(LeaderWatcher::new(&client, "l").recv(), Ok(Some(LeaderEvent::Elected { .. }))));
    });
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store that runs detached tasks after the next call, before the caller sees its response.
#[derive(Clone)]
struct Later {
    store: Store,
    tasks: Arc<Slot<Vec<Task>>>,
}

impl Layer for Later {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let answer = self.store.call(request);
        let tasks =
            std::mem::take(&mut *self.tasks.lock().expect("no thread panicked while it held the lock"));
        for mut task in tasks {
            assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        answer
    }

    fn detach(&self, task: Task) {
        self.tasks.lock().expect("no thread panicked while it held the lock").push(task);
    }
}

/// A waiter is dropped while a `try_lock` joins its key.
#[test]
fn dropped_wait_during_try_lock_leaves_no_key() {
    let (store, _clock) = manual();
    let client = Client::new(Later { store: store.clone(), tasks: Arc::default() });
    let (one, two) = (Session::open(client.clone(), secs(60)).wait().unwrap(), session(&store, 60));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let mutex = Mutex::reentrant(&one, "l");
    drop(mutex.lock());
    assert!(mutex.try_lock().wait().unwrap().is_none());
    // Each call runs the detached tasks that were queued before it.
    client.get("l").wait().unwrap();
    client.get("l").wait().unwrap();
    assert_eq!(all_keys(&store), [text(held.key())]);
}

/// The read after a gap was not polled, so its response did not set the ready token.
#[test]
fn ready_token_is_set_after_gap() {
    let stepped = Stepped::new(0);
    let mut leaders = LeaderWatcher::new(stepped.client(), "e");
    stepped.settle();
    stepped.store().put(("e/1", "v")).unwrap();
    stepped.store().put(("e/1", "w")).unwrap();
    stepped.store().compact(3).unwrap();
    assert!(leaders.ready_channel().try_recv().is_ok());
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::NoLeader { .. }))));
    assert!(leaders.ready_channel().try_recv().is_ok());
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Gap { .. }))));
    stepped.settle();
    assert!(leaders.ready_channel().try_recv().is_ok(), "the present leader is queued");
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Elected { .. }))));
}

/// The ready channel is requested after the gap, and the read was answered at once.
#[test]
fn ready_channel_requested_after_gap_has_token() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    assert!(matches!(leaders.recv(), Ok(Some(LeaderEvent::NoLeader { .. }))));
    // More changes than a watcher's buffer holds, so that the compaction causes a gap.
    for _ in 0..300 {
        store.put(("e/1", "v")).unwrap();
    }
    store.compact(301).unwrap();
    while !matches!(leaders.recv(), Ok(Some(LeaderEvent::Gap { .. }))) {}
    assert!(leaders.ready_channel().try_recv().is_ok(), "the present leader is queued");
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Elected { .. }))));
}

/// Puts and a delete arrive in one delivery.
#[test]
fn observer_token_is_set_for_next_leader() {
    let stepped = Stepped::new(0);
    stepped.store().put(("e/1", "v")).unwrap();
    let elections = ElectionService::new(stepped.client());
    let mut leaders = elections.observe(LeaderRequest { name: "e".into() });
    stepped.step_in_order();
    stepped.store().put(("e/1", "w")).unwrap();
    stepped.store().put(("e/2", "x")).unwrap();
    stepped.store().delete("e/1").unwrap();
    stepped.settle();
    let mut seen = 0;
    while leaders.ready_channel().try_recv().is_ok() {
        seen += usize::from(leaders.try_recv().unwrap().is_some());
        stepped.settle();
    }
    assert_eq!(seen, 3, "the leaders are v, w, x");
}
