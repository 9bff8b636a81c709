//! Hand-overs of a lock from one thread to another, which sleeps until then.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use leasehold::Store;
use leasehold::concurrency::{Mutex, Session};

use crate::rounds::compare;
use workloads::Duel;
use workloads::table::{Table, Target};

const ROUNDS: usize = 15;
const HAND_OVERS: usize = 10_000;

/// Adds the figures with both threads on one core, and on two cores.
pub(crate) fn figures(table: &mut Table) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let target = |workload, must, aim| Target { name: "T15", workload, unit: "x", must, aim };
    let mut add = |target, cores, part| compare(table, target, ROUNDS, HAND_OVERS, duel(cores, part));
    let Some(&core) = cores.last() else {
        return eprintln!("T15 is left out: the system does not report its cores");
    };
    let judged = target("hand-over of a lock / unpark, one core", Some(2.0), Some(1.2));
    add(judged, [core, core], Part::HandOver);
    add(target("the whole turn / unpark, one core", None, None), [core, core], Part::All);
    let [core, .., other] = cores[..] else {
        return eprintln!("T15 on two cores is left out: the machine has one core");
    };
    let judged = target("hand-over of a lock / unpark, two cores", Some(2.0), Some(0.5));
    add(judged, [core, other], Part::HandOver);
    add(target("the whole turn / unpark, two cores", None, None), [core, other], Part::All);
}

/// The measured part of a turn.
#[derive(Clone, Copy)]
enum Part {
    /// From before the release by one thread until the other holds the lock.
    HandOver,
    /// The whole turn, queueing for the next one included.
    All,
}

/// Two threads that hold a lock in turn, compared with two threads that unpark each other. The owner queues again
/// before it releases the lock, so each release hands the lock over, and each turn is waited for.
fn duel(cores: [CoreId; 2], part: Part) -> Duel {
    let store = Store::new();
    let mutexes = [(); 2].map(|()| {
        let session = Session::open(&store, Duration::from_secs(60)).wait().expect("a lease is granted");
        Mutex::new(&session, "lock")
    });
    Duel {
        store: Box::new(move |times| {
            by_two(cores, part, |me, pair| take_in_turns(&mutexes[me], me, pair, times))
        }),
        rival: Box::new(move |times| by_two(cores, part, |me, pair| unpark_in_turns(me, pair, times))),
    }
}

/// The state that both threads share.
struct Pair {
    start: Barrier,
    threads: [OnceLock<Thread>; 2],
    turn: AtomicUsize,
    part: Part,
    origin: Instant,
    /// The start of the running measurement, and the measured total, in nanoseconds.
    since: AtomicU64,
    passed: AtomicU64,
}

/// Runs two threads, each on its core.
fn by_two(cores: [CoreId; 2], part: Part, work: impl Fn(usize, &Pair) + Sync) -> Duration {
    let pair = Pair::new(part);
    let run = |me: usize| {
        assert!(core_affinity::set_for_current(cores[me]), "a thread can be bound to its core");
        pair.threads[me].get_or_init(thread::current);
        work(me, &pair);
    };
    thread::scope(|scope| {
        scope.spawn(|| run(0));
        scope.spawn(|| run(1));
    });
    Duration::from_nanos(pair.passed.into_inner())
}

fn take_in_turns(mutex: &Mutex, me: usize, pair: &Pair, times: usize) {
    if me == 1 {
        pair.start.wait();
    }
    let mut place = mutex.lock();
    if me == 0 {
        pair.start.wait();
    }
    pair.start.wait();
    for _ in 0..times / 2 {
        let held = place.wait().expect("the session is alive");
        pair.acquired();
        place = mutex.lock();
        pair.start_hand_over();
        held.unlock().wait().expect("the store is open");
    }
}

fn unpark_in_turns(me: usize, pair: &Pair, times: usize) {
    pair.start.wait();
    let other = pair.threads[1 - me].get().expect("both threads are registered before the start");
    for _ in 0..times / 2 {
        while pair.turn.load(Ordering::Acquire) != me {
            thread::park();
        }
        pair.acquired();
        pair.start_hand_over();
        pair.turn.store(1 - me, Ordering::Release);
        other.unpark();
    }
}

/// One thread at a time has the turn, and with it the clock. Passing the turn on orders the accesses to the clock, so
/// they can be relaxed.
impl Pair {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn new(part: Part) -> Self {
        Self {
            start: Barrier::new(2),
            threads: [const { OnceLock::new() }; 2],
            turn: AtomicUsize::new(0),
            part,
            origin: Instant::now(),
            since: AtomicU64::new(u64::MAX),
            passed: AtomicU64::new(0),
        }
    }

    fn start_hand_over(&self) {
        if let Part::HandOver = self.part {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn acquired(&self) {
        let now = self.now();
        // `since` is `u64::MAX` before the first turn, so nothing is counted for it.
        let passed = now.saturating_sub(self.since.swap(now, Ordering::Relaxed));
        self.passed.fetch_add(passed, Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}
