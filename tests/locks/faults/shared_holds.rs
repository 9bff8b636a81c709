//! Semaphores and read-write locks over a backend with overlapping calls, cut watches and lost responses. The
//! model is the order of the store's keys by creation. Under any interleaving each held guard is in turn, each key in turn is
//! held, and no key is left behind.

use std::any::Any;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex as Slot, Weak};
use std::task::{Poll, Wake, Waker};

use crate::scheduled_backend::{FaultRates, Flag, Stepped};
use leasehold::backend::{Backend, Inbox, Layer, WatchRequest};
use leasehold::concurrency::{Guard, RwLock, Semaphore, Session};
use leasehold::{
    Call, Client, Error, Get, KeyValue, LeaseId, Result, Revision, SortOrder, SortTarget, Ticket,
};
use leasehold_testkit::helpers::{Random, millis, secs};
use leasehold_testkit::wakers::poll_with;
use proptest::prelude::*;

const SESSIONS: usize = 3;
const WAITING_MAX: usize = 12;

/// A stepped backend with watches that can be cut.
#[derive(Clone)]
struct Cutting {
    stepped: Stepped,
    inboxes: Arc<Slot<Vec<Weak<Inbox>>>>,
    /// The highest id of a watch.
    newest: Arc<AtomicI64>,
}

impl Cutting {
    fn cut(&self) {
        let inboxes = self.inboxes.lock().expect("no test panicked while it held the list").clone();
        let newest = self.newest.load(Ordering::SeqCst);
        let cancels: Vec<_> = (0..=newest).map(|id| WatchRequest::Cancel(id.into())).collect();
        for inbox in inboxes.iter().filter_map(Weak::upgrade) {
            Backend::watch(&self.stepped, &cancels, &inbox);
        }
    }
}

impl Layer for Cutting {
    fn inner(&self) -> &dyn Backend {
        &self.stepped
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        for request in requests {
            if let WatchRequest::Create(watch) = request {
                let id = watch.get_id().get();
                self.newest.fetch_max(id, Ordering::SeqCst);
            }
        }
        self.inboxes.lock().expect("no test panicked while it held the list").push(Arc::downgrade(inbox));
        Backend::watch(&self.stepped, requests, inbox);
    }
}

/// The rule of a queue.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Semaphore { permits: u32 },
    RwLock,
}

const NAME: &str = "q";

fn is_writer(kv: &KeyValue) -> bool {
    kv.key().starts_with(b"q/write/")
}

impl Rule {
    /// Returns whether the key at a position of the queue is in turn.
    fn is_turn(self, kvs: &[KeyValue], place: usize) -> bool {
        match self {
            Self::Semaphore { permits } => place < permits as usize,
            Self::RwLock if is_writer(&kvs[place]) => place == 0,
            Self::RwLock => !kvs[..place].iter().any(is_writer),
        }
    }
}

/// A guard of any kind.
struct Held {
    key: Vec<u8>,
    token: Revision,
    _guard: Box<dyn Any>,
}

impl Held {
    fn new<Of: 'static>(guard: Guard<Of>) -> Self {
        Self { key: guard.key().to_vec(), token: guard.token(), _guard: Box::new(guard) }
    }

    fn place_in(&self, kvs: &[KeyValue]) -> Option<usize> {
        kvs.iter().position(|kv| kv.key() == self.key && kv.create_revision() == self.token)
    }
}

type Polled = Poll<Result<Option<Held>>>;

/// A ticket or a try call of any kind.
struct Waiter {
    lease: LeaseId,
    is_try: bool,
    poll: Box<dyn FnMut(&Waker) -> Polled>,
    is_woken: Arc<Flag>,
}

impl Waiter {
    fn queued<Of: 'static>(session: &Session, mut ticket: Ticket<Guard<Of>>) -> Self {
        let poll = move |waker: &Waker| poll_with(&mut ticket, waker).map_ok(|guard| Some(Held::new(guard)));
        Self::new(session, false, Box::new(poll))
    }

    fn trying<Of: 'static>(session: &Session, mut call: Call<Option<Guard<Of>>>) -> Self {
        let poll = move |waker: &Waker| poll_with(&mut call, waker).map_ok(|guard| guard.map(Held::new));
        Self::new(session, true, Box::new(poll))
    }

    fn new(session: &Session, is_try: bool, poll: Box<dyn FnMut(&Waker) -> Polled>) -> Self {
        let is_woken = Arc::new(Flag::default());
        Wake::wake(Arc::clone(&is_woken));
        Self { lease: session.lease(), is_try, poll, is_woken }
    }
}

/// Counts of the situations that a run reached.
#[derive(Default)]
struct Tally {
    acquired: usize,
    tries_that_acquired: usize,
    tries_that_did_not: usize,
    expired: usize,
    most_held: usize,
}

struct SharedHarness {
    rule: Rule,
    has_faults: bool,
    cutting: Cutting,
    client: Client,
    random: Random,
    sessions: Vec<Session>,
    waiting: Vec<Waiter>,
    held: Vec<Held>,
    tally: Tally,
}

impl SharedHarness {
    fn new(seed: u64, rule: Rule, fault_rates: FaultRates) -> Self {
        let stepped = Stepped::new(!seed);
        let cutting = Cutting { stepped, inboxes: Arc::default(), newest: Arc::default() };
        let client = Client::new(cutting.clone());
        let sessions = (0..SESSIONS).map(|_| open(&client)).collect();
        cutting.stepped.set_fault_rates(fault_rates);
        let has_faults = fault_rates.refused + fault_rates.lost > 0;
        let (random, tally) = (Random::new(seed), Tally::default());
        let (waiting, held) = (Vec::new(), Vec::new());
        Self { rule, has_faults, cutting, client, random, sessions, waiting, held, tally }
    }

    /// Returns the keys of the queue, by create revision.
    fn keys(&self) -> Vec<KeyValue> {
        let all = Get::prefix("q/").sort(SortTarget::CreateRevision, SortOrder::Ascend);
        self.cutting.stepped.store().get(all).expect("the store is open").kvs().to_vec()
    }

    fn act(&mut self) {
        match self.random.below(32) {
            0..=5 if self.waiting.len() < WAITING_MAX => self.enter(),
            6 => drop(pick(&mut self.waiting, &mut self.random)),
            7..=8 => drop(pick(&mut self.held, &mut self.random)),
            9 => self.cutting.cut(),
            10 => self.cutting.stepped.clock().advance(millis(50)),
            11 => self.expire(),
            12..=18 => self.poll_one(),
            19 => self.rest(),
            _ => drop(self.cutting.stepped.step()),
        }
        self.check();
    }

    fn enter(&mut self) {
        let session = &self.sessions[self.random.below(SESSIONS as u64) as usize];
        let tries = self.random.one_in(4);
        let lock = RwLock::new(session, NAME);
        let waiter = match self.rule {
            Rule::Semaphore { permits } => {
                let semaphore = Semaphore::new(session, NAME, permits);
                match tries {
                    true => Waiter::trying(session, semaphore.try_acquire()),
                    false => Waiter::queued(session, semaphore.acquire()),
                }
            }
            Rule::RwLock if self.random.one_in(3) => match tries {
                true => Waiter::trying(session, lock.try_write()),
                false => Waiter::queued(session, lock.write()),
            },
            Rule::RwLock => match tries {
                true => Waiter::trying(session, lock.try_read()),
                false => Waiter::queued(session, lock.read()),
            },
        };
        self.waiting.push(waiter);
    }

    /// Expires a lease, and opens another session in place of its session.
    fn expire(&mut self) {
        let place = self.random.below(SESSIONS as u64) as usize;
        // The lease does not exist if an earlier revocation was applied and its response was lost.
        drop(self.cutting.stepped.store().expire(self.sessions[place].lease()));
        self.tally.expired += 1;
        loop {
            match Session::open(&self.client, secs(60)).wait() {
                Ok(session) => break self.sessions[place] = session,
                Err(error) => self.expect_fault(&error),
            }
        }
    }

    fn poll_one(&mut self) {
        if let Some(waiter) = pick(&mut self.waiting, &mut self.random) {
            self.poll(waiter);
        }
    }

    /// Polls a waiter only if it was woken, so that a lost wake-up leaves it waiting.
    fn poll(&mut self, mut waiter: Waiter) {
        if !waiter.is_woken.take() {
            return self.waiting.push(waiter);
        }
        match (waiter.poll)(&Waker::from(Arc::clone(&waiter.is_woken))) {
            Poll::Pending => self.waiting.push(waiter),
            Poll::Ready(Ok(Some(held))) => {
                self.tally.acquired += 1;
                self.tally.tries_that_acquired += usize::from(waiter.is_try);
                self.held.push(held);
            }
            Poll::Ready(Ok(None)) => self.tally.tries_that_did_not += 1,
            Poll::Ready(Err(Error::SessionExpired | Error::LeaseNotFound)) => {
                let is_alive = self.sessions.iter().any(|session| session.lease() == waiter.lease);
                assert!(!is_alive, "a waiter of a live session lost its key");
            }
            Poll::Ready(Err(error)) => self.expect_fault(&error),
        }
    }

    fn expect_fault(&self, error: &Error) {
        assert!(self.has_faults && matches!(error, Error::Unavailable { .. }), "{error}");
    }

    /// Asserts, after each action, that a guard with an existing key is in turn.
    fn check(&mut self) {
        let keys = self.keys();
        let places = self.held.iter().filter_map(|held| held.place_in(&keys));
        let turns: Vec<_> = places.map(|place| self.rule.is_turn(&keys, place)).collect();
        assert!(
            turns.iter().all(|is_turn| *is_turn),
            "a guard is held out of turn: {:?} {keys:?}",
            self.rule
        );
        self.tally.most_held = self.tally.most_held.max(turns.len());
    }

    /// Settles the run, and asserts that each key in turn is held and each other key belongs to a waiter.
    fn rest(&mut self) {
        // Watches and releases are tried again 100 ms after a failure.
        for _ in 0..5 {
            while self.settle() {}
            self.cutting.stepped.clock().advance(millis(100));
        }
        while self.settle() {}
        let keys = self.keys();
        let is_kept = |kv: &KeyValue| self.has_faults && self.cutting.stepped.has_kept(kv.key());
        let is_held = |place: usize| self.held.iter().any(|held| held.place_in(&keys) == Some(place));
        let is_waiting =
            |kv: &KeyValue| self.waiting.iter().filter(|waiter| waiter.lease == kv.lease()).count();
        for (place, kv) in keys.iter().enumerate().filter(|(_, kv)| !is_kept(kv)) {
            let is_turn = self.rule.is_turn(&keys, place);
            assert_eq!(is_held(place), is_turn, "{kv:?} in {:?} {keys:?}", self.rule);
            assert!(is_turn || is_waiting(kv) > 0, "{kv:?} has no waiter");
        }
        assert!(self.waiting.iter().all(|waiter| !waiter.is_try), "a try completes without waiting");
        // Without faults, each key that is not held belongs to exactly one waiter.
        let waiting = (0..keys.len()).filter(|place| !is_held(*place) && !is_kept(&keys[*place])).count();
        assert!(self.has_faults || waiting == self.waiting.len(), "each waiter has a key: {waiting}");
    }

    /// Takes all steps and polls all woken waiters. Returns whether any was woken.
    fn settle(&mut self) -> bool {
        self.cutting.stepped.settle();
        let (woken, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiter| waiter.is_woken.is_up());
        self.waiting = rest;
        let is_any = !woken.is_empty();
        woken.into_iter().for_each(|waiter| self.poll(waiter));
        is_any || !self.cutting.stepped.is_settled()
    }

    /// Drops all waits and holds, and asserts that no key is left.
    fn end(mut self) -> Tally {
        self.rest();
        while !(self.waiting.is_empty() && self.held.is_empty()) {
            drop(pick(&mut self.waiting, &mut self.random));
            drop(pick(&mut self.held, &mut self.random));
            self.cutting.stepped.step();
        }
        self.cutting.stepped.set_fault_rates(FaultRates::default());
        self.rest();
        let is_left = |kv: &KeyValue| !(self.has_faults && self.cutting.stepped.has_kept(kv.key()));
        assert_eq!(self.keys().into_iter().find(is_left), None, "each key is deleted at the end");
        self.tally
    }
}

fn open(client: &Client) -> Session {
    Session::open(client, secs(60)).wait().expect("a lease is granted")
}

fn pick<T>(of: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if of.is_empty() { None } else { Some(of.swap_remove(random.below(of.len() as u64) as usize)) }
}

fn run(seed: u64, rule: Rule, fault_rates: FaultRates) -> Tally {
    let mut harness = SharedHarness::new(seed, rule, fault_rates);
    for _ in 0..200 {
        harness.act();
    }
    harness.end()
}

const RULES: [Rule; 4] = [
    Rule::Semaphore { permits: 1 },
    Rule::Semaphore { permits: 2 },
    Rule::Semaphore { permits: 4 },
    Rule::RwLock,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn guards_are_held_in_turn_with_overlapping_calls(seed: u64) {
        for rule in RULES {
            run(seed, rule, FaultRates::default());
        }
    }

    #[test]
    fn guards_are_held_in_turn_with_immediate_responses(seed: u64) {
        for rule in RULES {
            run(seed, rule, FaultRates { at_once: 2, ..FaultRates::default() });
        }
    }

    #[test]
    fn guards_are_held_in_turn_with_failing_calls(seed: u64) {
        for rule in RULES {
            run(seed, rule, FaultRates { at_once: 8, refused: 24, lost: 24, late: 24 });
        }
    }
}

/// Random runs acquire, try, expire and reach the capacity.
#[test]
fn random_runs_reach_the_capacity() {
    for rule in RULES {
        let tallies: Vec<Tally> =
            (0..20).map(|seed| run(seed, rule, FaultRates { at_once: 2, ..FaultRates::default() })).collect();
        let most = |of: fn(&Tally) -> usize| tallies.iter().map(of).max().unwrap_or_default();
        let total = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
        let capacity = match rule {
            Rule::Semaphore { permits } => permits as usize,
            Rule::RwLock => 3,
        };
        assert!(most(|tally| tally.most_held) >= capacity, "{rule:?}");
        assert!(total(|tally| tally.acquired) > 100, "{rule:?}");
        assert!(total(|tally| tally.tries_that_acquired) > 5, "{rule:?}");
        assert!(total(|tally| tally.tries_that_did_not) > 5, "{rule:?}");
        assert!(total(|tally| tally.expired) > 50, "{rule:?}");
    }
}
