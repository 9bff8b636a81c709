//! Locks and elections used by real threads in real time. Only these produce races between threads, and with the timer thread
//! that expires leases. The asserted invariants hold in every order and at any speed, and the threads work until enough has
//! happened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder};
use std::time::Duration;

use leasehold::concurrency::{self, Election, Fence, GuardedTxn, Leadership, MutexGuard, Session};
use leasehold::{Client, Error, Get, Limits, Result, Revision, Store, Ticket, TxnOp};
use leasehold_testkit::cases::cases;
use leasehold_testkit::guard::receive_unless_stuck;
use leasehold_testkit::helpers::{Random, millis, secs};

const THREADS: usize = 32;
const LOCKS: usize = 64;
const TTL: Duration = millis(100);
/// The least numbers of writes that the fences admit, that the store runs, and that are refused, over all locks.
const ENOUGH: [u32; 3] = [5_000, 2_500, 20];

/// The ways to acquire a lock, all in one queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lock,
    Reentrant,
    /// A leadership protects the resource.
    Leadership,
}

const KINDS: [Kind; 4] = [Kind::Lock, Kind::Lock, Kind::Reentrant, Kind::Leadership];

/// An acquired lock or leadership.
enum Guard {
    Lock(MutexGuard),
    Leadership(Leadership),
}

impl Guard {
    fn token(&self) -> Revision {
        match self {
            Self::Lock(guard) => guard.token(),
            Self::Leadership(leadership) => leadership.token(),
        }
    }

    fn txn(&self) -> GuardedTxn<'_> {
        match self {
            Self::Lock(guard) => guard.txn(),
            Self::Leadership(leadership) => leadership.txn(),
        }
    }

    fn give_back(&self) -> Result<()> {
        match self {
            Self::Lock(guard) => guard.unlock().wait(),
            Self::Leadership(leadership) => leadership.resign().wait(),
        }
    }

    /// Returns whether its check reports the loss.
    fn is_lost(&self) -> bool {
        let (checked, lost) = match self {
            Self::Lock(guard) => (guard.check().wait(), Error::SessionExpired),
            Self::Leadership(leadership) => (leadership.check().wait(), Error::NotLeader),
        };
        checked == Err(lost)
    }
}

/// A lock and its protected counters.
struct Lock {
    name: String,
    /// The counter that a fence protects.
    cell: Mutex<Cell>,
    /// How often the fence admitted a write.
    admitted: AtomicU64,
    /// How many writes of the counter in the store were successful.
    committed: AtomicU64,
    /// How many late writes were refused.
    refused: AtomicU64,
}

#[derive(Default)]
struct Cell {
    fence: Fence,
    counter: u64,
}

impl Lock {
    fn new(n: usize) -> Self {
        let [admitted, committed, refused] = Default::default();
        Self { name: format!("l/{n}"), cell: Mutex::default(), admitted, committed, refused }
    }

    /// Returns the key that guards write. It is outside the keys of the locks.
    fn written(&self) -> String {
        format!("written/{}", self.name)
    }

    /// Accesses the counter, if the fence admits the guard.
    fn access<T>(&self, guard: &Guard, act: impl FnOnce(&mut u64) -> T) -> Result<T> {
        let mut cell = self.cell.lock().expect("no thread panicked while it held the lock");
        cell.fence.admit(guard.token())?;
        Ok(act(&mut cell.counter))
    }

    /// Adds one to the counter in two accesses. An unnoticed access of another owner in between would lose a count.
    fn count(&self, guard: &Guard) {
        let read = self.access(guard, |counter| *counter);
        // Let other threads run between the read and the write.
        thread::yield_now();
        match read.and_then(|read| self.access(guard, |counter| *counter = read + 1)) {
            Ok(()) => self.admitted.fetch_add(1, Ordering::Relaxed),
            Err(Error::StaleToken { .. }) => {
                assert!(guard.is_lost(), "a refused guard is lost");
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => panic!("unexpected error of a fence: {error}"),
        };
    }

    /// Adds one to the counter in the store (R-MTX-5).
    fn count_in_store(&self, guard: &Guard, client: &Client) {
        let counted = self.counted(client);
        // Let other threads run between the read and the write.
        thread::yield_now();
        let put = TxnOp::put(self.written(), (counted + 1).to_string());
        match guard.txn().and_then([put]).commit().wait() {
            Ok(_) => self.committed.fetch_add(1, Ordering::Relaxed),
            Err(Error::SessionExpired | Error::NotLeader) => self.refused.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("unexpected error of a txn: {error}"),
        };
    }

    /// Returns the counter in the store.
    fn counted(&self, client: &Client) -> u64 {
        let found = client.get(self.written()).wait().expect("the store is open");
        let number = found.kvs().first().map(|kv| kv.value_str().expect("a number is text").parse());
        number.map_or(0, |number| number.expect("the counter is a number"))
    }
}

/// The work of one thread.
struct Worker {
    store: Store,
    session: Session,
    locks: Arc<Vec<Lock>>,
    random: Random,
}

impl Worker {
    fn new(store: &Store, locks: &Arc<Vec<Lock>>, n: usize) -> Self {
        let (session, random) = (open(store), Random::new(n as u64));
        Self { store: store.clone(), session, locks: Arc::clone(locks), random }
    }

    fn run(mut self) {
        let locks = Arc::clone(&self.locks);
        let enough = ENOUGH.map(|count| u64::from(cases(count)));
        while totals(&locks).iter().zip(enough).any(|(&total, enough)| total < enough) {
            // Four locks are used more than the others.
            let wanted = if self.random.one_in(2) { 4 } else { LOCKS as u64 };
            let lock = &locks[self.random.below(wanted) as usize];
            let kind = self.random.pick(&KINDS);
            match self.acquire(lock, kind) {
                Ok(Some(guard)) => {
                    let guard = if kind == Kind::Reentrant { self.get_again(lock, guard) } else { guard };
                    self.work(lock, guard);
                }
                Ok(None) => {}
                Err(Error::SessionExpired | Error::NotLeader | Error::LeaseNotFound) => {
                    self.session = open(&self.store);
                }
                Err(error) => panic!("unexpected error of a lock: {error}"),
            }
            match self.random.below(128) {
                0 => self.hang(),
                1 => self.expire_any(),
                2..=9 => self.nap(millis(5)),
                _ => {}
            }
        }
    }

    fn acquire(&mut self, lock: &Lock, kind: Kind) -> Result<Option<Guard>> {
        let mutex = match kind {
            Kind::Lock => concurrency::Mutex::new(&self.session, &lock.name),
            Kind::Reentrant => concurrency::Mutex::reentrant(&self.session, &lock.name),
            Kind::Leadership => return self.stand(lock),
        };
        let got = match self.random.below(8) {
            0..=2 => mutex.lock().wait().map(Some),
            3 => mutex.try_lock().wait(),
            way => self.wait(mutex.lock(), way == 7),
        };
        Ok(got?.map(Guard::Lock))
    }

    fn stand(&mut self, lock: &Lock) -> Result<Option<Guard>> {
        let election = Election::new(&self.session, &lock.name);
        let got = match self.random.below(8) {
            0..=3 => election.campaign("stood").wait().map(Some),
            way => self.wait(election.campaign("stood"), way == 7),
        };
        got?.map(|leadership| leadership.proclaim("leads").wait().map(|()| Guard::Leadership(leadership)))
            .transpose()
    }

    /// Waits for a limited time, or sleeps and drops the ticket.
    fn wait<T>(&mut self, mut ticket: Ticket<T>, is_distracted: bool) -> Result<Option<T>> {
        if is_distracted {
            self.nap(Duration::from_micros(500));
            return Ok(None);
        }
        ticket.wait_timeout(Duration::from_micros(self.random.below(5_000)))
    }

    /// Acquires a re-entrant lock again, and drops one of the two guards, so that the other one holds the lock (R-LCK-6).
    fn get_again(&mut self, lock: &Lock, guard: Guard) -> Guard {
        match concurrency::Mutex::reentrant(&self.session, &lock.name).lock().wait().map(Guard::Lock) {
            Ok(again) => {
                assert_eq!(again.token(), guard.token(), "the session is alive and has one key");
                if self.random.one_in(2) { again } else { guard }
            }
            // The lock is lost.
            Err(Error::SessionExpired | Error::LeaseNotFound) => guard,
            Err(error) => panic!("unexpected error of a lock: {error}"),
        }
    }

    fn work(&mut self, lock: &Lock, guard: Guard) {
        let client = self.store.client();
        lock.count(&guard);
        if self.random.one_in(64) {
            self.hang();
        }
        lock.count_in_store(&guard, &client);
        lock.count(&guard);
        if self.random.one_in(2) {
            guard.give_back().expect("the store is open");
            assert!(guard.is_lost(), "a released guard is lost");
        }
    }

    /// Stops renewing for a time, which is often longer than the session's TTL.
    fn hang(&mut self) {
        match self.session.pause().wait() {
            Ok(()) | Err(Error::LeaseNotFound) => self.nap(TTL * 2),
            Err(error) => panic!("unexpected error of a session: {error}"),
        }
        match self.session.resume().wait() {
            Ok(()) | Err(Error::LeaseNotFound) => {}
            Err(error) => panic!("unexpected error of a session: {error}"),
        }
    }

    /// Expires a random session.
    fn expire_any(&mut self) {
        let leases = self.store.leases().expect("the store is open").leases().to_vec();
        if !leases.is_empty() {
            // The lease may have ended since.
            drop(self.store.expire(self.random.pick(&leases)));
        }
    }

    /// Sleeps for a random part of `at_most`.
    fn nap(&mut self, at_most: Duration) {
        let time = at_most * self.random.below(101) as u32 / 100;
        self.store.client().sleep(time).wait().expect("the store is open");
    }
}

fn open(store: &Store) -> Session {
    Session::open(store, TTL).wait().expect("a lease is granted")
}

/// Starts a thread that sends a message when it is done.
fn start(worker: Worker, done: Sender<()>) -> thread::JoinHandle<()> {
    let run = move || {
        worker.run();
        done.send(()).expect("the test receives");
    };
    Builder::new().spawn(run).expect("a thread can be started")
}

#[test]
fn threads_with_expiring_sessions_count_exactly() {
    let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
    let store = Store::builder().limits(limits).build();
    let client = store.client();
    let locks = Arc::new((0..LOCKS).map(Lock::new).collect::<Vec<_>>());
    let (done, is_done) = channel();
    let threads: Vec<_> = (0..THREADS).map(|n| start(Worker::new(&store, &locks, n), done.clone())).collect();
    drop(done);
    for _ in 0..THREADS {
        match receive_unless_stuck(&is_done) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("every worker sleeps:\n{}", queues(&store, &locks)),
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("a worker does not panic"));

    check_counts(&locks, &client);
    assert_eq!(store.get(Get::prefix("l/").count_only()).unwrap().count(), 0, "all keys are deleted");
    assert_eq!(store.leases().unwrap().leases(), [], "all leases are revoked");
}

/// Returns the numbers of admitted, committed and refused writes, over all locks.
fn totals(locks: &[Lock]) -> [u64; 3] {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    locks.iter().fold([0; 3], |[admitted, committed, refused], lock| {
        [admitted + load(&lock.admitted), committed + load(&lock.committed), refused + load(&lock.refused)]
    })
}

/// Asserts that the counters are equal to the counted successes.
fn check_counts(locks: &[Lock], client: &Client) {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    for lock in locks {
        let counter = lock.cell.lock().expect("no thread panicked while it held the lock").counter;
        assert_eq!(counter, load(&lock.admitted), "the fenced counter has each admitted write");
        assert_eq!(
            lock.counted(client),
            load(&lock.committed),
            "the stored counter has each committed write"
        );
    }
}

/// Returns the holders and waiters of all locks.
fn queues(store: &Store, locks: &[Lock]) -> String {
    let session = Session::open(store, secs(60)).wait().expect("a lease is granted");
    let queue = |lock: &Lock| {
        concurrency::Mutex::new(&session, &lock.name).queue().wait().expect("the store is open")
    };
    let queues = locks.iter().map(queue).filter(|queue| queue.holder().is_some());
    queues.map(|queue| queue.to_string()).collect::<Vec<_>>().join("\n")
}
