//! Each operation of `concurrency` as a future, on a single-threaded executor. The backend answers later, and panics where a
//! thread would block.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex as Slot};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{
    Election, Fence, LeaderEvent, LeaderWatcher, Leadership, Mutex, MutexGuard, Permit, ReadGuard, RwLock,
    Semaphore, Session, WriteGuard,
};
use leasehold::service::{ElectionService, LockRequest, LockService, Observer};
use leasehold::watch::{Receiver, WatchRequests, WatchStream};
use leasehold::{Call, Client, Error, ManualClock, Result, Store, Ticket, TxnOp, Watcher};
use leasehold_testkit::helpers::{all_keys, manual, secs};
use leasehold_testkit::wakers::Reply;

/// Keeps each call until the executor has no other work.
#[derive(Clone)]
struct Late {
    store: Store,
    clock: ManualClock,
    calls: Arc<Slot<VecDeque<(Request, Reply)>>>,
}

impl Layer for Late {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let reply = Reply::default();
        self.calls
            .lock()
            .expect("no test panicked while it held the calls")
            .push_back((request, reply.clone()));
        Call::pending(reply)
    }

    fn drive(&self, _: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        panic!("an operation blocks its thread");
    }
}

impl Late {
    fn new() -> Self {
        let (store, clock) = manual();
        Self { store, clock, calls: Arc::default() }
    }

    fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Polls the future to its end. Between two polls it answers the oldest call, or else advances the clock.
    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..10_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            if !self.answer() {
                let deadline = self.store.next_deadline().expect("the future waits for a call or for time");
                self.clock.advance(deadline.duration_since(self.clock.now()));
            }
        }
        panic!("the future does not complete");
    }

    fn answer(&self) -> bool {
        let call = self.calls.lock().expect("no test panicked while it held the calls").pop_front();
        call.map(|(request, reply)| reply.complete(self.store.call(request).wait())).is_some()
    }

    /// Answers all pending calls, including calls of background tasks.
    fn settle(&self) {
        while self.answer() {}
    }
}

async fn open(client: &Client) -> Session {
    Session::open(client, secs(5)).await.expect("a lease is granted")
}

/// Runs an async block with a late backend and its client.
fn run<F: Future<Output = Result<()>>>(test: impl FnOnce(Late, Client) -> F) {
    let late = Late::new();
    let future = test(late.clone(), late.client());
    late.run(future).expect("the operation succeeds");
}

#[test]
fn session_open_is_alive_and_close() {
    run(async |_, client| {
        let one = open(&client).await;
        assert!(one.is_alive().await?);
        one.close().await?;
        assert!(!one.is_alive().await?);
        assert_eq!(one.close().await, Err(Error::LeaseNotFound));
        Ok(())
    });
}

#[test]
fn session_pause_resume_and_lost() {
    run(async |late: Late, client| {
        let one = open(&client).await;
        late.clock.advance(secs(100));
        one.pause().await?;
        late.clock.advance(secs(3));
        one.resume().await?;
        late.clock.advance(secs(100));
        let mut lost = one.lost();
        assert_eq!(lost.try_wait()?, None);
        one.pause().await?;
        (&mut lost).await?;
        lost.await?;
        assert_eq!(one.resume().await, Err(Error::LeaseNotFound));
        Ok(())
    });
}

#[test]
fn session_orphan_and_open_with_lease() {
    run(async |late: Late, client| {
        let one = open(&client).await;
        one.orphan().await?;
        let lease = one.lease();
        drop(one);
        let again = Session::open_with_lease(&client, lease).await?;
        late.clock.advance(secs(100));
        assert!(again.is_alive().await?);
        assert!(matches!(Session::open_with_lease(&client, 99).await, Err(Error::LeaseNotFound)));
        Ok(())
    });
}

#[test]
fn mutex_lock_check_txn_and_unlock() {
    run(async |late: Late, client| {
        let (one, two) = (open(&client).await, open(&client).await);
        for kind in [Mutex::new as fn(&Session, &'static str) -> Mutex, Mutex::reentrant] {
            let guard = kind(&one, "m").lock().await?;
            guard.check().await?;
            guard.txn().and_then([TxnOp::put("r", "v")]).commit().await?;
            let mut waiting = kind(&two, "m").lock();
            assert!(waiting.try_wait()?.is_none());
            guard.unlock().await?;
            guard.unlock().await?;
            assert_eq!(guard.check().await, Err(Error::SessionExpired));
            waiting.await?.unlock().await?;
        }
        assert_eq!(all_keys(&late.store), ["r"]);
        Ok(())
    });
}

#[test]
fn mutex_try_lock_and_queue() {
    run(async |_, client| {
        let one = open(&client).await.with_name("one");
        let mutex = Mutex::new(&one, "m");
        let guard = mutex.try_lock().await?.expect("the lock is free");
        assert!(mutex.try_lock().await?.is_none());
        let _waiting = mutex.lock();
        assert_eq!(mutex.queue().await?.holder().map(|place| place.token()), Some(guard.token()));
        Ok(())
    });
}

#[test]
fn mutex_lock_ends_with_its_session() {
    run(async |_, client| {
        let (one, two) = (open(&client).await, open(&client).await);
        let _guard = Mutex::new(&one, "m").lock().await?;
        let mut waiting = Mutex::new(&two, "m").lock();
        assert!(waiting.try_wait()?.is_none());
        two.close().await?;
        assert!(matches!(waiting.await, Err(Error::SessionExpired)));
        Ok(())
    });
}

#[test]
fn semaphore_acquire_try_acquire_queue_and_release() {
    run(async |late: Late, client| {
        let one = open(&client).await;
        let semaphore = Semaphore::new(&one, "s", 2);
        let first = semaphore.acquire().await?;
        first.check().await?;
        let second = semaphore.try_acquire().await?.expect("one of two is free");
        assert!(semaphore.try_acquire().await?.is_none());
        let mut waiting = semaphore.acquire();
        assert!(waiting.try_wait()?.is_none());
        first.release().await?;
        let third = waiting.await?;
        assert_eq!(semaphore.queue().await?.holders().len(), 2);
        second.release().await?;
        third.release().await?;
        assert_eq!(all_keys(&late.store), [""; 0]);
        Ok(())
    });
}

#[test]
fn rw_lock_read_write_and_unlock() {
    run(async |late: Late, client| {
        let one = open(&client).await;
        let lock = RwLock::new(&one, "l");
        let readers = [lock.read().await?, lock.try_read().await?.expect("no writer waits")];
        let mut writer = lock.write();
        assert!(writer.try_wait()?.is_none());
        assert!(lock.try_write().await?.is_none());
        for reader in &readers {
            reader.unlock().await?;
        }
        writer.await?.unlock().await?;
        lock.try_write().await?.expect("the lock is free").unlock().await?;
        assert_eq!(all_keys(&late.store), [""; 0]);
        Ok(())
    });
}

#[test]
fn election_campaign_leader_proclaim_and_resign() {
    run(async |_, client| {
        let (one, two) = (open(&client).await, open(&client).await);
        let election = Election::new(&one, "e");
        assert_eq!(election.leader().await?, None);
        let leadership = election.campaign("a").await?;
        leadership.check().await?;
        leadership.proclaim("b").await?;
        assert_eq!(election.leader().await?.expect("the election has a leader").value(), b"b");
        leadership.txn().and_then([TxnOp::put("plan", "b")]).commit().await?;
        let waiting = Election::new(&two, "e").campaign("c");
        assert!(Election::new(&two, "e").try_campaign("d").await?.is_none());
        let candidates = election.candidates().await?;
        assert_eq!((candidates.holder().is_some(), candidates.waiters().len()), (true, 1));
        leadership.resign().await?;
        let next = waiting.await?;
        assert_eq!(leadership.proclaim("late").await, Err(Error::NotLeader));
        next.resign().await?;
        let alone = Election::new(&two, "e").try_campaign("d").await?.expect("no client campaigns");
        alone.resign().await
    });
}

#[test]
fn election_resume_and_loss() {
    run(async |_, client| {
        let one = open(&client).await;
        let leadership = Election::new(&one, "e").campaign("a").await?;
        let (key, token) = (leadership.key().to_vec(), leadership.token());
        one.orphan().await?;
        std::mem::forget(leadership);
        let again = Session::open_with_lease(&client, one.lease()).await?;
        let resumed = Election::new(&again, "e").resume(key, token).await?;
        resumed.proclaim("again").await?;
        let lost = resumed.lost();
        again.close().await?;
        lost.await
    });
}

#[test]
fn leader_watcher_next() {
    run(async |_, client| {
        let mut leaders = LeaderWatcher::new(&client, "e");
        assert!(matches!(leaders.next().await?, Some(LeaderEvent::NoLeader { .. })));
        let one = open(&client).await;
        let leadership = Election::new(&one, "e").campaign("a").await?;
        assert!(matches!(leaders.next().await?, Some(LeaderEvent::Elected { .. })));
        leadership.resign().await?;
        assert!(matches!(leaders.next().await?, Some(LeaderEvent::NoLeader { .. })));
        Ok(())
    });
}

#[test]
fn services_lock_and_observe() {
    run(async |_, client| {
        let one = open(&client).await;
        let request = LockRequest { name: "m".into(), lease: one.lease() };
        let held = LockService::new(client.clone()).lock(request).await?;
        let mut observer =
            ElectionService::new(client).observe(leasehold::service::LeaderRequest { name: "m".into() });
        let leader = observer.next().await?.expect("the stream has not ended");
        assert_eq!(leader.kv.key(), held.key);
        Ok(())
    });
}

/// Dropped values release their keys by background tasks, which do not block.
#[test]
fn dropped_values_release_their_keys() {
    let late = Late::new();
    let client = late.client();
    let one = late.run(open(&client));
    let guard = late.run(Mutex::new(&one, "m").lock()).unwrap();
    let waiting = Mutex::new(&one, "m").lock();
    let mut trying = Mutex::new(&one, "n").try_lock();
    assert!(trying.try_wait().unwrap().is_none());
    let permit = late.run(Semaphore::new(&one, "s", 3).acquire()).unwrap();
    let mut counting = Semaphore::new(&one, "s", 3).try_acquire();
    assert!(counting.try_wait().unwrap().is_none());
    drop((guard, waiting, trying, permit, counting));
    late.settle();
    assert_eq!(all_keys(&late.store), [""; 0]);
    drop(one);
    late.settle();
    assert_eq!(late.store.leases().unwrap().leases(), []);
}

#[test]
fn timeout_of_call_ticket_and_future() {
    let late = Late::new();
    let client = late.client();
    late.run(async {
        let one = open(&client).await;
        let held = Mutex::new(&one, "m").lock().await.expect("the lock is free");
        let mut ticket = Mutex::new(&one, "m").lock();
        assert!(client.timeout(secs(1), &mut ticket).await.is_none());
        held.unlock().await.expect("the session is alive");
        assert!(client.timeout(secs(1), ticket).await.expect("the lock is free").is_ok());
        assert!(client.timeout(secs(1), client.get("k")).await.expect("the call is answered").is_ok());
        assert!(client.timeout(secs(1), std::future::pending::<()>()).await.is_none());
        assert_eq!(client.timeout(Duration::ZERO, async { 7 }).await, Some(7));
    });
    late.store.close();
    assert!(late.run(client.timeout(secs(1), client.get("k"))).is_none(), "the clock ends before the call");
}

/// Handles can be shared between threads.
#[test]
fn public_handles_are_send_and_sync() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Call<Session>>();
    is_shared::<Ticket<MutexGuard>>();
    is_shared::<(Client, Store, Session, Mutex, Election, MutexGuard, Leadership, Fence)>();
    is_shared::<(Semaphore, RwLock, Permit, ReadGuard, WriteGuard)>();
    is_shared::<(Watcher, WatchStream, WatchRequests, LeaderWatcher, Observer)>();
    is_shared::<(Receiver<LeaderEvent>, LockService, ElectionService)>();
}

/// A backend that answers its calls every 3 s. A blocked thread advances the clock.
struct Slow(Late);

impl Layer for Slow {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        while poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.0.clock.advance(secs(1));
            if self.0.clock.now().as_nanos().is_multiple_of(3_000_000_000) {
                self.0.settle();
            }
        }
    }
}

#[test]
fn call_after_wait_timeout_can_be_waited_for_again() {
    let late = Late::new();
    let client = Client::new(Slow(late.clone()));
    let mut call = client.put(("k", "v"));
    assert_eq!(call.try_wait().map(drop), Ok(()));
    assert!(call.wait_timeout(secs(0)).unwrap().is_none());
    assert!(call.wait_timeout(secs(2)).unwrap().is_none());
    assert_eq!(late.clock.now().as_nanos(), 2_000_000_000);
    assert!(call.wait_timeout(secs(2)).unwrap().is_some());
    assert_eq!(late.clock.now().as_nanos(), 3_000_000_000);
    let mut answered = Store::new().client().get("k");
    assert_eq!(answered.wait_timeout(secs(0)).unwrap().map(|found| found.count()), Some(0));
    let mut answered = Store::new().client().get("k");
    assert!(answered.try_wait().unwrap().is_some());
}

#[test]
fn completed_loss_ticket_stays_ready() {
    let (store, _clock) = manual();
    let one = Session::open(&store, secs(5)).wait().unwrap();
    let guard = Mutex::new(&one, "m").lock().wait().unwrap();
    let mut losses = [one.lost(), guard.lost()];
    assert!(losses.iter_mut().all(|lost| lost.try_wait() == Ok(None) && lost.ready_channel().is_empty()));
    one.close().wait().unwrap();
    // Tickets made after the loss complete too.
    for mut lost in losses.into_iter().chain([one.lost(), guard.lost()]) {
        for _ in 0..3 {
            assert_eq!((lost.try_wait(), lost.wait_timeout(secs(0))), (Ok(Some(())), Ok(Some(()))));
            assert!(lost.ready_channel().try_recv().is_ok());
            assert_eq!(store.client().block_on(&mut lost), Ok(()));
        }
        assert_eq!(lost.wait(), Ok(()));
    }
}
