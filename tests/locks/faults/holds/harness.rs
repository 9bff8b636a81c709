//! A random run over a backend with overlapping calls, and the invariants that are checked after each action. Sessions hang and
//! end, holds and waits are dropped at any time, followers receive, and other clients change keys in the queues.

mod environment;
mod follower;
mod history;
mod hold;
mod participants;
mod rest;

use std::sync::{self, Arc};

use leasehold::concurrency::{Election, Fence, LeaderEvent, Session};
use leasehold::response::TxnResponse;
use leasehold::{Call, Client, Error, Grant, LeaseId, Revision, Txn};

use environment::Environment;
use follower::{Follower, proclaimed};
use history::{History, queue};
use hold::{Acquired, KINDS, Kind, Pending, STOOD};
use leasehold_testkit::helpers::{Random, millis, secs};
use participants::{Held, Owner, PollMode, ReleaseState, Waiter, raised};

use crate::scheduled_backend::{FaultRates, Stepped};

/// The names of locks and elections; each name is one queue. The keys of the second name begin with the first name (R-LCK-13).
const NAMES: [&str; 3] = ["a", "a/b", "c"];

const SESSIONS: usize = 4;
const WAITING_MAX: usize = 12;

/// Optional events of a run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) fault_rates: FaultRates,
    /// Whether history is compacted at times.
    pub(crate) compacts: bool,
}

impl Rules {
    fn has_faults(self) -> bool {
        let FaultRates { refused, lost, late, .. } = self.fault_rates;
        refused + lost + late != 0
    }
}

pub(crate) struct HoldsHarness {
    rules: Rules,
    stepped: Stepped,
    client: Client,
    environment: Arc<sync::Mutex<Environment>>,
    random: Random,
    history: History,
    sessions: Vec<Session>,
    /// The leases of the callers of the service.
    served: Vec<LeaseId>,
    waiting: Vec<Waiter>,
    held: Vec<Held>,
    followers: Vec<Follower>,
    queues: [Queue; NAMES.len()],
    /// The number of queues and of sessions in use. Few of them lead to more contention.
    used: (u64, u64),
    /// Pending writes that are conditional on a hold, with their queues.
    writes: Vec<(usize, Call<TxnResponse>)>,
    /// The number of proclaimed values.
    proclaimed: u64,
}

/// The state that is known about one lock or election.
struct Queue {
    /// The kinds of holds that use the queue.
    company: Vec<Kind>,
    fence: Fence,
    /// The newest token that the fence admitted.
    admitted: Revision,
    /// The newest token of a hold, if its key still existed when the hold was returned.
    newest_acquired: Revision,
    /// The number of writes through guards that succeeded.
    written: u64,
}

impl Queue {
    /// Returns a queue for a random set of kinds.
    fn new(random: &mut Random) -> Self {
        let drawn = 1 + random.below((1 << KINDS.len()) - 1);
        let company = KINDS.into_iter().enumerate().filter(|(n, _)| drawn >> n & 1 == 1);
        let company = company.map(|(_, kind)| kind).collect();
        let [admitted, newest_acquired] = Default::default();
        Self { company, fence: Fence::new(), admitted, newest_acquired, written: 0 }
    }
}

impl HoldsHarness {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let stepped = Stepped::new(!seed);
        let client = stepped.client();
        let sessions = (0..SESSIONS)
            .map(|_| Session::open(&client, secs(5)).wait().expect("a lease is granted"))
            .collect();
        stepped.set_fault_rates(rules.fault_rates);
        let environment =
            Arc::new(sync::Mutex::new(Environment::new(stepped.store(), stepped.clock(), seed ^ 1)));
        let shared = Arc::clone(&environment);
        stepped.before_step(move || lock(&shared).act_by_chance());
        let mut random = Random::new(seed);
        let follow =
            |n| Follower::new(&client, n, Revision::default(), PollMode::ALL[n % PollMode::ALL.len()]);
        let followers = (0..NAMES.len()).map(follow).collect();
        let queues = NAMES.map(|_| Queue::new(&mut random));
        let used = (1 + random.below(NAMES.len() as u64), 1 + random.below(SESSIONS as u64));
        let (history, proclaimed) = (History::default(), 0);
        Self {
            rules,
            stepped,
            client,
            environment,
            random,
            history,
            sessions,
            served: Vec::new(),
            waiting: Vec::new(),
            held: Vec::new(),
            followers,
            queues,
            used,
            writes: Vec::new(),
            proclaimed,
        }
    }

    pub(crate) fn act(&mut self) {
        match self.random.below(64) {
            0..=9 => self.enqueue(),
            10 | 51..=52 => self.try_lock(),
            11..=12 => drop(pick(&mut self.waiting, &mut self.random)),
            13..=14 => drop(pick(&mut self.held, &mut self.random)),
            17 => self.release(),
            18 => self.wait_for_a_time(),
            19 => self.pause_or_resume(),
            20..=21 => self.replace_session(),
            15..=16 | 22 => lock(&self.environment).act(),
            23..=24 => self.write_fenced(),
            25 => self.write_guarded(),
            26..=28 => self.write_later(),
            29 => self.compact(),
            30..=41 => self.poll_any(),
            42 => self.rest(),
            43 => self.lock_if_free(),
            44..=45 => self.proclaim(),
            46..=49 => self.follow(),
            50 => self.follow_again(),
            _ => drop(self.stepped.step()),
        }
        self.check();
    }

    fn is_alive(&self, lease: LeaseId) -> bool {
        let store = self.stepped.store();
        store.time_to_live(lease, false).expect("the store is open").ttl().is_some()
    }

    fn session(&mut self) -> Session {
        self.sessions[self.random.below(self.used.1) as usize].clone()
    }

    /// Returns a random queue, with a kind and a session that may use it.
    fn random_owner(&mut self) -> (Owner, Session) {
        let queue = self.random.below(self.used.0) as usize;
        let kind = self.random.pick(&self.queues[queue].company);
        let session = self.session();
        (Owner { queue, kind, lease: session.lease() }, session)
    }

    fn enqueue(&mut self) {
        if self.waiting.len() == WAITING_MAX {
            return;
        }
        let (mut owner, session) = self.random_owner();
        let name = NAMES[owner.queue];
        let pending = if owner.kind == Kind::Service {
            owner.lease = self.grant();
            Pending::of_service(&self.client, name, owner.lease)
        } else {
            Pending::new(owner.kind, &session, name)
        };
        let (since, poll_mode) = (self.revision(), self.random.pick(&PollMode::ALL));
        self.waiting.push(Waiter { owner, pending, since, poll_mode, is_woken: raised() });
    }

    /// Grants a lease that is not renewed.
    fn grant(&mut self) -> LeaseId {
        let ttl = secs(2 + self.random.below(8));
        let lease = self.stepped.store().grant(Grant::new(ttl)).expect("a lease is granted").id();
        self.served.push(lease);
        lease
    }

    fn revision(&self) -> Revision {
        self.stepped.store().status().expect("the store is open").header().revision()
    }

    fn try_lock(&mut self) {
        let (owner, session) = self.random_owner();
        match owner.kind.mutex(&session, NAMES[owner.queue]).map(|mutex| mutex.try_lock().wait()) {
            Some(Ok(Some(guard))) => self.on_acquired(owner, Acquired::Lock(guard)),
            Some(Ok(None)) | None => {}
            Some(Err(error)) => self.expect(error, &[Error::LeaseNotFound]),
        }
    }

    /// Blocks until the lock is acquired, which happens at once if its queue is empty.
    fn lock_if_free(&mut self) {
        let (owner, session) = self.random_owner();
        let name = NAMES[owner.queue];
        self.stepped.settle();
        if !queue(self.stepped.store(), name).is_empty() || owner.kind == Kind::Service {
            return;
        }
        lock(&self.environment).is_quiet = true;
        let got = match owner.kind.mutex(&session, name) {
            Some(mutex) => mutex.lock().wait().map(Acquired::Lock),
            None => Election::new(&session, name).campaign(STOOD).wait().map(Acquired::Leadership),
        };
        lock(&self.environment).is_quiet = false;
        match got {
            Ok(acquired) => self.on_acquired(owner, acquired),
            Err(error) => self.expect(error, &[Error::LeaseNotFound]),
        }
    }

    fn wait_for_a_time(&mut self) {
        let Some(mut waiter) = pick(&mut self.waiting, &mut self.random) else {
            return;
        };
        let time = millis(self.random.below(3_000));
        match waiter.pending.wait(time, self.stepped.store()) {
            Ok(Some(acquired)) => self.on_acquired(waiter.owner, acquired),
            Ok(None) => {
                // The wait replaced the waiter's waker.
                waiter.is_woken = raised();
                self.waiting.push(waiter);
            }
            Err(error) => self.expect_end_of_waiting(&waiter, error),
        }
    }

    /// Polls a random waiter.
    fn poll_any(&mut self) {
        if let Some(waiter) = pick(&mut self.waiting, &mut self.random) {
            self.poll_waiter(waiter);
        }
    }

    fn poll_waiter(&mut self, mut waiter: Waiter) {
        match waiter.poll_by_mode(self.stepped.store()) {
            Ok(Some(acquired)) => self.on_acquired(waiter.owner, acquired),
            Ok(None) => self.waiting.push(waiter),
            Err(error) => self.expect_end_of_waiting(&waiter, error),
        }
    }

    /// R-LCK-10: a hold may be lost when it is returned, if its response was late. It was the first of its queue at some time.
    fn on_acquired(&mut self, owner: Owner, acquired: Acquired) {
        let Some(token) = acquired.token() else {
            return;
        };
        self.history.read(self.stepped.store());
        assert!(self.history.was_first(owner.queue, token), "an acquired key was the first of its queue");
        let lost = if self.random.one_in(2) { acquired.lost() } else { None };
        let (asked, is_woken) = (lost.is_some(), raised());
        let held = Held { owner, acquired, token, release_state: ReleaseState::Held, asked, lost, is_woken };
        if held.is_live(self.stepped.store()) {
            let before = std::mem::replace(&mut self.queues[owner.queue].newest_acquired, token);
            let is_again = before == token && owner.kind == Kind::Reentrant;
            assert!(before < token || is_again, "tokens ascend");
        }
        self.held.push(held);
    }

    fn release(&mut self) {
        let Some(mut held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.acquired.release() {
            Ok(()) => {
                held.release_state = ReleaseState::Released;
                let is_over = held.acquired.check() == Err(held.owner.kind.lost());
                assert!(
                    is_over || held.owner.kind == Kind::Service || self.rules.has_faults(),
                    "a released hold is lost"
                );
                let may_be_there = held.owner.kind == Kind::Reentrant;
                let is_there = held.is_there(self.stepped.store());
                assert!(may_be_there || !is_there, "the key of a released hold is deleted");
            }
            Err(error) => {
                held.release_state = ReleaseState::Unknown;
                self.expect(error, &[]);
            }
        }
        if self.random.one_in(2) {
            self.held.push(held);
        }
    }

    fn pause_or_resume(&mut self) {
        let (session, store) = (self.session(), self.stepped.store());
        let result = match self.random.below(4) {
            0 => session.pause().wait(),
            1 => session.resume().wait(),
            2 => store.pause_keep_alive(session.lease()),
            _ => store.resume_keep_alive(session.lease()),
        };
        if let Err(error) = result {
            self.expect(error, &[Error::LeaseNotFound]);
        }
    }

    /// Replaces a session, mostly an expired one. Its holds and waits may continue.
    fn replace_session(&mut self) {
        let is_over = |session: &Session| !self.is_alive(session.lease());
        let over = self.sessions.iter().position(is_over);
        let place = over.unwrap_or_else(|| self.random.below(SESSIONS as u64) as usize);
        if over.is_none() && self.random.one_in(2) {
            return;
        }
        if self.random.one_in(3)
            && let Err(error) = self.sessions[place].close().wait()
        {
            self.expect(error, &[Error::LeaseNotFound]);
        }
        match Session::open(&self.client, secs(5)).wait() {
            Ok(session) => self.sessions[place] = session,
            Err(error) => self.expect(error, &[]),
        }
    }

    /// A resource protected only by a fence admits the owner, and refuses every earlier owner after that.
    fn write_fenced(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        let (queue, token) = (&mut self.queues[held.owner.queue], held.token);
        let is_admitted = queue.fence.admit(token).is_ok();
        assert_eq!(
            is_admitted,
            token >= queue.admitted,
            "the fence admits exactly tokens that are not stale"
        );
        assert!(is_admitted || !held.is_live(self.stepped.store()), "the fence admits the owner");
        queue.admitted = queue.admitted.max(token);
        self.held.push(held);
    }

    /// Writes through a guard. The history shows whether the key existed then.
    fn write_guarded(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.acquired.act(held.write()) {
            Ok(()) => self.queues[held.owner.queue].written += 1,
            Err(error) => self.expect_loss(&held, error),
        }
        self.held.push(held);
    }

    /// Writes through a guard without waiting for the response.
    fn write_later(&mut self) {
        if let Some(held) = pick(&mut self.held, &mut self.random) {
            let txn = Txn::new().when([held.acquired.is_there()]).and_then([held.write()]);
            self.writes.push((held.owner.queue, self.client.txn(txn)));
            self.held.push(held);
        }
    }

    /// R-ELC-7: each follower receives the proclaimed value.
    fn proclaim(&mut self) {
        let leader_compare = |held: &Held| held.owner.kind == Kind::Leadership;
        let Some(place) = self.held.iter().position(leader_compare) else {
            return;
        };
        let held = self.held.swap_remove(place);
        self.proclaimed += 1;
        let value = format!("{}{}", proclaimed(held.token), self.proclaimed);
        let Acquired::Leadership(leadership) = &held.acquired else { panic!("a leadership was selected") };
        match leadership.proclaim(value.clone()).wait() {
            Ok(()) => {
                self.history.read(self.stepped.store());
                let mut events = self.history.events(held.owner.queue).iter();
                let is_it = |event: &LeaderEvent| event.kv().is_some_and(|kv| kv.value() == value.as_bytes());
                assert!(events.any(is_it), "the proclaimed {value} has no event");
            }
            Err(error) => self.expect_loss(&held, error),
        }
        self.held.push(held);
    }

    fn compact(&mut self) {
        let store = self.stepped.store();
        if self.rules.compacts {
            self.history.read(store);
            let newest = store.status().expect("the store is open").header().revision();
            // A compacted revision is refused, which is no error here.
            drop(store.compact(newest));
        }
    }
}

fn lock(environment: &sync::Mutex<Environment>) -> sync::MutexGuard<'_, Environment> {
    environment.lock().expect("no thread panicked while it held the lock")
}

fn pick<T>(of: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if of.is_empty() { None } else { Some(of.swap_remove(random.below(of.len() as u64) as usize)) }
}
