//! Locks and elections are deterministic: the same moves give the same guards, the same losses, the same events and the same
//! wake-ups in the same order, in any process, whatever the hash seed.

use std::env;

use leasehold::concurrency::{Election, LeaderWatcher, Leadership, Mutex, MutexGuard, Session};
use leasehold::{Store, Ticket};
use leasehold_testkit::helpers::{Random, events, manual, millis, secs};
use leasehold_testkit::wakers::{Notes, on_wake, poll_with};

use super::subprocess::{print_trace, run_elsewhere};

const SEEDS: u64 = 10;
const STEPS: usize = 300;

/// What tells a process that it is the one to make the moves.
const VARIABLE: &str = "LEASEHOLD_TEST_MOVES";

const RUN_HERE: &str = "concurrency_determinism::run_here";

#[test]
fn two_processes_give_the_same_bytes() {
    let [one, other] = ["one", "other"].map(|who| run_elsewhere(RUN_HERE, &[(VARIABLE, who)]));
    assert!(one.len() > 100_000, "something happens: {}", one.len());
    assert!(one == other, "two processes differ");
    let here: String = (0..SEEDS).map(trace).collect();
    assert!(one == here, "this process differs");
}

/// Not a test by itself: what the process started by the other does.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn run_here() {
    assert!(env::var(VARIABLE).is_ok(), "the one who starts this says so");
    print_trace(&(0..SEEDS).map(trace).collect::<String>());
}

/// All that is held and waited for.
struct World {
    store: Store,
    sessions: Vec<Session>,
    leaders: LeaderWatcher,
    locking: Vec<(usize, Ticket<MutexGuard>)>,
    standing: Vec<(usize, Ticket<Leadership>)>,
    losing: Vec<(usize, Ticket<()>)>,
    guards: Vec<MutexGuard>,
    leaderships: Vec<Leadership>,
    notes: Notes,
    made: usize,
}

/// Makes moves by chance, and writes down what comes of them.
fn trace(seed: u64) -> String {
    let (store, clock) = manual();
    let sessions =
        (0..4).map(|_| Session::open(&store, secs(5)).wait().expect("a lease is granted")).collect();
    let leaders = LeaderWatcher::new(&store, "b");
    let mut world = World {
        store: store.clone(),
        sessions,
        leaders,
        locking: Vec::new(),
        standing: Vec::new(),
        losing: Vec::new(),
        guards: Vec::new(),
        leaderships: Vec::new(),
        notes: Notes::default(),
        made: 0,
    };
    let mut random = Random::new(seed);
    for _ in 0..STEPS {
        match random.below(4) {
            0 => clock.advance(millis(random.below(2_000))),
            _ => world.step(&mut random),
        }
        world.look();
    }
    let waiters: Vec<String> =
        store.waiters().expect("the store is open").iter().map(ToString::to_string).collect();
    let told = world.notes.take().join("\n");
    format!("{told}\n{}\n{}\n", waiters.join("\n"), events(&store, 2).join("\n"))
}

impl World {
    fn step(&mut self, random: &mut Random) {
        let at = random.below(self.sessions.len() as u64) as usize;
        let session = self.sessions[at].clone();
        self.made += 1;
        match random.below(10) {
            0 | 1 => self.locking.push((self.made, Mutex::new(&session, "a").lock())),
            2 => self.locking.push((self.made, Mutex::reentrant(&session, "a").lock())),
            3 | 4 => {
                self.standing.push((self.made, Election::new(&session, "b").campaign(self.made.to_string())))
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

    fn look(&mut self) {
        let Self { notes, locking, standing, losing, guards, leaderships, .. } = self;
        look_at(notes, locking, |number, guard| {
            losing.push((number, guard.lost()));
            guards.push(guard);
        });
        look_at(notes, standing, |_, leadership| leaderships.push(leadership));
        look_at(notes, losing, |_, ()| ());
        while let Some(event) = self.leaders.try_recv().expect("the store is open") {
            self.notes.note(format!("{event:?}"));
        }
    }
}

/// Looks at each, and notes what came of it; those that wait note when they are woken.
fn look_at<T: std::fmt::Debug>(
    notes: &Notes,
    tickets: &mut Vec<(usize, Ticket<T>)>,
    mut take: impl FnMut(usize, T),
) {
    tickets.retain_mut(|(number, ticket)| {
        let (told, woken) = (notes.clone(), *number);
        let waker = on_wake(move || told.note(format!("wakes {woken}")));
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
