//! Keys of locks that once were left behind, and looks that once were missed: what broke, and why it does no more.

use std::pin::Pin;
use std::sync::{Arc, Mutex as Slot};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{LeaderEvent, LeaderWatcher, Mutex, Session};
use leasehold::service::{ElectionService, LeaderRequest, LockRequest, LockService};
use leasehold::{Call, Client, Error, Put, Store};
use leasehold_testkit::helpers::{all_keys, manual, secs, session, text};
use leasehold_testkit::wakers::guarded;

use crate::scheduled_backend::{Manners, Stepped};

/// A session over a stepped backend, and its re-entrant lock.
fn reentrant(seed: u64) -> (Stepped, Session, Mutex) {
    let stepped = Stepped::new(seed);
    let session = Session::open(stepped.client(), secs(5)).wait().expect("a lease is granted");
    let mutex = Mutex::reentrant(&session, "l");
    (stepped, session, mutex)
}

/// Loses the answers of what is applied until it is told otherwise.
fn lose(stepped: &Stepped, lost: u64) {
    stepped.set_manners(Manners { lost, ..Manners::default() });
}

/// Who tries writes to the key that he joins. A release that was on its way then found it changed and somebody asking for it, and
/// left it to him, who had never counted it as his.
#[test]
fn a_try_beside_a_release_leaves_no_key() {
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

/// The same over a store, with a guard of a key that is gone: whether a key of that name was needed was asked, not which.
#[test]
fn a_guard_of_a_lost_key_keeps_no_other() {
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
    // And one that a stranger has written to.
    let held = mutex.lock().wait().unwrap();
    store.put(Put::new("l/1", "touched").ignore_lease()).unwrap();
    drop(held);
    drop(lost);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// The release of a lost guard went for the old key alone, and the one that was doubtful stayed.
#[test]
fn a_doubtful_key_beside_a_lost_one_is_looked_for() {
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

/// The release of a doubtful key stopped because somebody was entering, who then was told of an older key.
#[test]
fn a_doubtful_key_beside_an_answer_not_yet_seen_is_looked_for() {
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

/// A store whose answers come just after they were looked for, a few times: the future wakes, and is pending.
struct Hesitant(Store);

struct Hesitating {
    answer: Option<leasehold::Result<Response>>,
    times: usize,
}

impl Future for Hesitating {
    type Output = leasehold::Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.times -= 1;
        if self.times == 0 {
            return Poll::Ready(self.answer.take().expect("it is given once"));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Layer for Hesitant {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        Call::pending(Hesitating { answer: Some(self.0.call(request).wait()), times: 5 })
    }

    fn detach(&self, mut task: Task) {
        while task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }
}

/// The answer had come between the look at the call and the look into the mailbox, which took the notice of it for one of its own:
/// whoever waited was not woken any more.
#[test]
fn an_answer_between_two_looks_wakes() {
    guarded(|| {
        let client = Client::new(Hesitant(manual().0));
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

/// A store where what is detached runs after the next call, before its answer is seen.
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
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("nobody panics with it"));
        for mut task in tasks {
            assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        answer
    }

    fn detach(&self, task: Task) {
        self.tasks.lock().expect("nobody panics with it").push(task);
    }
}

/// A wait is given up, and its key joined meanwhile by somebody who only tries.
#[test]
fn giving_up_and_trying_may_meet() {
    let (store, _clock) = manual();
    let client = Client::new(Later { store: store.clone(), tasks: Arc::default() });
    let (one, two) = (Session::open(client.clone(), secs(60)).wait().unwrap(), session(&store, 60));
    let held = Mutex::new(&two, "l").lock().wait().unwrap();
    let mutex = Mutex::reentrant(&one, "l");
    drop(mutex.lock());
    assert!(mutex.try_lock().wait().unwrap().is_none());
    client.get("l").wait().unwrap();
    client.get("l").wait().unwrap();
    assert_eq!(all_keys(&store), [text(held.key())]);
}

/// The new read after a gap was never polled, so that its answer woke nobody who waits by the token.
#[test]
fn after_a_gap_there_is_a_token() {
    let stepped = Stepped::new(0);
    let mut leaders = LeaderWatcher::new(stepped.client(), "e");
    stepped.settle();
    stepped.store().put(("e/1", "v")).unwrap();
    stepped.store().put(("e/1", "w")).unwrap();
    stepped.store().compact(3).unwrap();
    assert!(leaders.ready().try_recv().is_ok());
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::NoLeader { .. }))));
    assert!(leaders.ready().try_recv().is_ok());
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Gap { .. }))));
    stepped.settle();
    assert!(leaders.ready().try_recv().is_ok(), "who leads now is there");
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Elected { .. }))));
}

/// The same for who asks for the token only then, and whose read was answered at once.
#[test]
fn after_a_gap_there_is_a_token_for_who_asks_late() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    assert!(matches!(leaders.recv(), Ok(Some(LeaderEvent::NoLeader { .. }))));
    for _ in 0..300 {
        store.put(("e/1", "v")).unwrap();
    }
    store.compact(301).unwrap();
    while !matches!(leaders.recv(), Ok(Some(LeaderEvent::Gap { .. }))) {}
    assert!(leaders.ready().try_recv().is_ok(), "who leads now is there");
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Elected { .. }))));
}

/// The same when puts and a delete come in one delivery.
#[test]
fn an_observer_has_a_token_for_the_next_leader() {
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
    while leaders.ready().try_recv().is_ok() {
        seen += usize::from(leaders.try_recv().unwrap().is_some());
        stepped.settle();
    }
    assert_eq!(seen, 3, "v, w, x");
}
