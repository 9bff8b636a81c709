//! Locks and elections are deterministic.
//!
//! Equal steps cause equal guards, losses, events and wake-ups in equal order, in any process and with any hash seed.

use std::env;

use leasehold::concurrency::{Election, LeaderWatcher, Leadership, Mutex, MutexGuard, Session};
use leasehold::{Store, Ticket};
use leasehold_testkit::helpers::{Random, events, manual, millis, secs};
use leasehold_testkit::wakers::{Log, on_wake, poll_with};

use super::subprocess::{print_trace, run_elsewhere};

const SEEDS: u64 = 10;
const STEPS: usize = 300;

/// Set in a process that runs the steps.
const VARIABLE: &str = "LEASEHOLD_TEST_STEPS";

const RUN_HERE: &str = "concurrency_determinism::run_here";

#[test]
fn two_processes_print_equal_traces() {
    let [one, other] = ["one", "other"].map(|name| run_elsewhere(RUN_HERE, &[(VARIABLE, name)]));
    assert!(one.len() > 100_000, "the trace has many events: {} bytes", one.len());
    assert!(one == other, "two processes print equal traces");
    let here: String = (0..SEEDS).map(trace).collect();
    assert!(one == here, "this process has the trace of the others");
}

/// Runs in the processes that the other test starts.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn run_here() {
    assert!(env::var(VARIABLE).is_ok(), "the starting process sets the variable");
    print_trace(&(0..SEEDS).map(trace).collect::<String>());
}

/// The sessions, tickets and guards of one run.
struct Run {
    store: Store,
    sessions: Vec<Session>,
    leaders: LeaderWatcher,
    locking: Vec<(usize, Ticket<MutexGuard>)>,
    campaigns: Vec<(usize, Ticket<Leadership>)>,
    losing: Vec<(usize, Ticket<()>)>,
    guards: Vec<MutexGuard>,
    leaderships: Vec<Leadership>,
    notes: Log,
    made: usize,
}

/// Makes random steps, and returns their results as text.
fn trace(seed: u64) -> String {
    let (store, clock) = manual();
    let sessions =
        (0..4).map(|_| Session::open(&store, secs(5)).wait().expect("a lease is granted")).collect();
    let leaders = LeaderWatcher::new(&store, "b");
    let mut run = Run {
        store: store.clone(),
        sessions,
        leaders,
        locking: Vec::new(),
        campaigns: Vec::new(),
        losing: Vec::new(),
        guards: Vec::new(),
        leaderships: Vec::new(),
        notes: Log::default(),
        made: 0,
    };
    let mut random = Random::new(seed);
    for _ in 0..STEPS {
        match random.below(4) {
            0 => clock.advance(millis(random.below(2_000))),
            _ => run.step(&mut random),
        }
        run.poll_all();
    }
    let waiters: Vec<String> =
        store.waiters().expect("the store is open").iter().map(ToString::to_string).collect();
    let notes = run.notes.take().join("\n");
    format!("{notes}\n{}\n{}\n", waiters.join("\n"), events(&store, 2).join("\n"))
}

impl Run {
    fn step(&mut self, random: &mut Random) {
        let at = random.below(self.sessions.len() as u64) as usize;
        let session = self.sessions[at].clone();
        self.made += 1;
        match random.below(10) {
            0 | 1 => self.locking.push((self.made, Mutex::new(&session, "a").lock())),
            2 => self.locking.push((self.made, Mutex::reentrant(&session, "a").lock())),
            3 | 4 => {
                self.campaigns.push((self.made, Election::new(&session, "b").campaign(self.made.to_string())))
            }
            5 if !self.guards.is_empty() => drop(self.guards.remove(0)),
            6 if !self.leaderships.is_empty() => drop(self.leaderships.remove(0)),
            7 => drop(session.pause().wait()),
            8 => drop(session.resume().wait()),
            _ if !self.locking.is_empty() => {
                drop(self.locking.remove(random.below(self.locking.len() as u64) as usize));
            }
            _ => self.losing.push((self.made, session.lost())),
        }
        if !self.sessions[at].is_alive().wait().expect("the store is open") {
            self.sessions[at] = Session::open(&self.store, secs(5)).wait().expect("a lease is granted");
        }
    }

    fn poll_all(&mut self) {
        let Self { notes, locking, campaigns, losing, guards, leaderships, .. } = self;
        poll_tickets(notes, locking, |number, guard| {
            losing.push((number, guard.lost()));
            guards.push(guard);
        });
        poll_tickets(notes, campaigns, |_, leadership| leaderships.push(leadership));
        poll_tickets(notes, losing, |_, ()| ());
        while let Some(event) = self.leaders.try_recv().expect("the store is open") {
            self.notes.note(format!("{event:?}"));
        }
    }
}

/// Polls each ticket and logs its result. A ticket that waits logs when it is woken.
fn poll_tickets<T: std::fmt::Debug>(
    notes: &Log,
    tickets: &mut Vec<(usize, Ticket<T>)>,
    mut take: impl FnMut(usize, T),
) {
    tickets.retain_mut(|(number, ticket)| {
        let (wake_notes, woken) = (notes.clone(), *number);
        let waker = on_wake(move || wake_notes.note(format!("wakes {woken}")));
        let polled = poll_with(ticket, &waker);
        if polled.is_ready() {
            notes.note(format!("{number} {polled:?}"));
        }
        match polled {
            std::task::Poll::Ready(Ok(got)) => take(*number, got),
            std::task::Poll::Ready(Err(_)) => {}
            std::task::Poll::Pending => return true,
        }
        false
    });
}
