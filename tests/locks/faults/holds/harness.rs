//! Sessions that hang and end, holds and waits that are given up at any time, those who follow, and strangers among the keys, all
//! by lot, over a backend whose calls overlap; and what holds of it at every moment.

mod follower;
mod history;
mod hold;
mod outside;
mod party;
mod rest;

use std::sync::{self, Arc};

use leasehold::concurrency::{Election, Fence, LeaderEvent, Session};
use leasehold::response::TxnResponse;
use leasehold::{Call, Client, Error, Grant, LeaseId, Revision, Txn};

use follower::{Follower, proclaimed};
use history::{History, queue};
use hold::{Had, KINDS, Kind, STOOD, Wanted};
use leasehold_testkit::helpers::{Random, millis, secs};
use outside::Outside;
use party::{Held, Is, Looks, Waiter, Whose, raised};

use crate::scheduled_backend::{Manners, Stepped};

/// Of locks, of elections, and of both at once: one queue. The second is inside of the first: R-LCK-13.
const NAMES: [&str; 3] = ["a", "a/b", "c"];

const SESSIONS: usize = 4;
const WAITING_MAX: usize = 12;

/// What may happen in a world, beside what always may.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) manners: Manners,
    /// History is compacted now and then.
    pub(crate) compacts: bool,
}

impl Rules {
    fn has_faults(self) -> bool {
        self.manners.refused != 0 || self.manners.lost != 0
    }
}

pub(crate) struct World {
    rules: Rules,
    stepped: Stepped,
    client: Client,
    outside: Arc<sync::Mutex<Outside>>,
    random: Random,
    history: History,
    sessions: Vec<Session>,
    /// The leases of those who use the service.
    served: Vec<LeaseId>,
    waiting: Vec<Waiter>,
    held: Vec<Held>,
    followers: Vec<Follower>,
    queues: [Queue; NAMES.len()],
    /// Of how many of the queues and sessions there is use: where all meet, they meet often.
    used: (u64, u64),
    /// Writes under the condition that a hold is there, which are under way.
    writes: Vec<(usize, Call<TxnResponse>)>,
    /// How many values were proclaimed.
    proclaimed: u64,
}

/// What is known of a lock or an election.
struct Queue {
    /// Who is in it.
    company: Vec<Kind>,
    fence: Fence,
    /// The newest token that the fence admitted.
    admitted: Revision,
    /// The newest token that was got while its key was there.
    got: Revision,
    /// How many writes through guards are known to have been run.
    written: u64,
}

impl Queue {
    /// One of some company, drawn by lot.
    fn new(random: &mut Random) -> Self {
        let drawn = 1 + random.below((1 << KINDS.len()) - 1);
        let company = KINDS.into_iter().enumerate().filter(|(n, _)| drawn >> n & 1 == 1);
        let company = company.map(|(_, kind)| kind).collect();
        let [admitted, got] = Default::default();
        Self { company, fence: Fence::new(), admitted, got, written: 0 }
    }
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let stepped = Stepped::new(!seed);
        let client = stepped.client();
        let sessions =
            (0..SESSIONS).map(|_| Session::open(&client, secs(5)).wait().expect("it is granted")).collect();
        stepped.set_manners(rules.manners);
        let outside = Arc::new(sync::Mutex::new(Outside::new(stepped.store(), stepped.clock(), seed ^ 1)));
        let meanwhile = Arc::clone(&outside);
        stepped.meanwhile(move || lock(&meanwhile).act_by_chance());
        let mut random = Random::new(seed);
        let follow = |n| Follower::new(&client, n, Revision::default(), Looks::ALL[n % Looks::ALL.len()]);
        let followers = (0..NAMES.len()).map(follow).collect();
        let queues = NAMES.map(|_| Queue::new(&mut random));
        let used = (1 + random.below(NAMES.len() as u64), 1 + random.below(SESSIONS as u64));
        let (history, proclaimed) = (History::default(), 0);
        Self {
            rules,
            stepped,
            client,
            outside,
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
            17 => self.give_back(),
            18 => self.wait_for_a_time(),
            19 => self.pause_or_resume(),
            20..=21 => self.replace_session(),
            15..=16 | 22 => lock(&self.outside).act(),
            23..=24 => self.write_fenced(),
            25 => self.write_guarded(),
            26..=28 => self.write_later(),
            29 => self.compact(),
            30..=41 => self.look(),
            42 => self.rest(),
            43 => self.lock_if_free(),
            44..=45 => self.proclaim(),
            46..=49 => self.follow(),
            50 => self.follow_anew(),
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

    /// A queue, and somebody who may be in it.
    fn anybody(&mut self) -> (Whose, Session) {
        let queue = self.random.below(self.used.0) as usize;
        let kind = self.random.pick(&self.queues[queue].company);
        let session = self.session();
        (Whose { queue, kind, lease: session.lease() }, session)
    }

    fn enqueue(&mut self) {
        if self.waiting.len() == WAITING_MAX {
            return;
        }
        let (mut whose, session) = self.anybody();
        let name = NAMES[whose.queue];
        let wanted = if whose.kind == Kind::Service {
            whose.lease = self.grant();
            Wanted::of_service(&self.client, name, whose.lease)
        } else {
            Wanted::new(whose.kind, &session, name)
        };
        let (since, looks) = (self.revision(), self.random.pick(&Looks::ALL));
        self.waiting.push(Waiter { whose, wanted, since, looks, is_woken: raised() });
    }

    /// A lease that nobody renews.
    fn grant(&mut self) -> LeaseId {
        let ttl = secs(2 + self.random.below(8));
        let lease = self.stepped.store().grant(Grant::new(ttl)).expect("it is granted").id();
        self.served.push(lease);
        lease
    }

    fn revision(&self) -> Revision {
        self.stepped.store().status().expect("the store is open").header().revision()
    }

    fn try_lock(&mut self) {
        let (whose, session) = self.anybody();
        match whose.kind.mutex(&session, NAMES[whose.queue]).map(|mutex| mutex.try_lock().wait()) {
            Some(Ok(Some(guard))) => self.got(whose, Had::Lock(guard)),
            Some(Ok(None)) | None => {}
            Some(Err(error)) => self.expect(error, &[Error::LeaseNotFound]),
        }
    }

    /// Blocks until it has it, which it has at once if nobody else has.
    fn lock_if_free(&mut self) {
        let (whose, session) = self.anybody();
        let name = NAMES[whose.queue];
        self.stepped.settle();
        if !queue(self.stepped.store(), name).is_empty() || whose.kind == Kind::Service {
            return;
        }
        lock(&self.outside).is_quiet = true;
        let got = match whose.kind.mutex(&session, name) {
            Some(mutex) => mutex.lock().wait().map(Had::Lock),
            None => Election::new(&session, name).campaign(STOOD).wait().map(Had::Leadership),
        };
        lock(&self.outside).is_quiet = false;
        match got {
            Ok(had) => self.got(whose, had),
            Err(error) => self.expect(error, &[Error::LeaseNotFound]),
        }
    }

    fn wait_for_a_time(&mut self) {
        let Some(mut waiter) = pick(&mut self.waiting, &mut self.random) else {
            return;
        };
        let time = millis(self.random.below(3_000));
        match waiter.wanted.wait(time, self.stepped.store()) {
            Ok(Some(had)) => self.got(waiter.whose, had),
            Ok(None) => {
                // Its waker was another one meanwhile.
                waiter.is_woken = raised();
                self.waiting.push(waiter);
            }
            Err(error) => self.expect_end_of_waiting(&waiter, error),
        }
    }

    /// Somebody looks.
    fn look(&mut self) {
        if let Some(waiter) = pick(&mut self.waiting, &mut self.random) {
            self.look_of(waiter);
        }
    }

    fn look_of(&mut self, mut waiter: Waiter) {
        match waiter.look(self.stepped.store()) {
            Ok(Some(had)) => self.got(waiter.whose, had),
            Ok(None) => self.waiting.push(waiter),
            Err(error) => self.expect_end_of_waiting(&waiter, error),
        }
    }

    /// R-LCK-10. A hold may be lost already when it is got, if its answer was late; but it was the first.
    fn got(&mut self, whose: Whose, had: Had) {
        let Some(token) = had.token() else {
            return;
        };
        self.history.read(self.stepped.store());
        assert!(self.history.was_first(whose.queue, token), "what was not free was got");
        let lost = if self.random.one_in(2) { had.lost() } else { None };
        let (asked, is_woken) = (lost.is_some(), raised());
        let held = Held { whose, had, token, is: Is::Needed, asked, lost, is_woken };
        if held.is_live(self.stepped.store()) {
            let before = std::mem::replace(&mut self.queues[whose.queue].got, token);
            let is_again = before == token && whose.kind == Kind::Reentrant;
            assert!(before < token || is_again, "tokens rise");
        }
        self.held.push(held);
    }

    fn give_back(&mut self) {
        let Some(mut held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.had.give_back() {
            Ok(()) => {
                held.is = Is::GivenBack;
                let is_over = held.had.check() == Err(held.whose.kind.lost());
                assert!(is_over || held.whose.kind == Kind::Service || self.rules.has_faults(), "it is over");
                let may_be_there = held.whose.kind == Kind::Reentrant;
                let is_there = held.is_there(self.stepped.store());
                assert!(may_be_there || !is_there, "its key is gone when this returns");
            }
            Err(error) => {
                held.is = Is::Doubtful;
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

    /// Mostly one that is over. Its holds and waits may live on.
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

    /// The resource that only a fence protects admits who has the lock, and after him nobody who had it before.
    fn write_fenced(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        let (queue, token) = (&mut self.queues[held.whose.queue], held.token);
        let is_admitted = queue.fence.admit(token).is_ok();
        assert_eq!(is_admitted, token >= queue.admitted, "an older token after a newer one");
        assert!(is_admitted || !held.is_live(self.stepped.store()), "the holder is refused");
        queue.admitted = queue.admitted.max(token);
        self.held.push(held);
    }

    /// History tells whether such a write was run while the lock was held.
    fn write_guarded(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.had.act(held.write()) {
            Ok(()) => self.queues[held.whose.queue].written += 1,
            Err(error) => self.expect_loss(&held, error),
        }
        self.held.push(held);
    }

    /// The same, and meanwhile goes on.
    fn write_later(&mut self) {
        if let Some(held) = pick(&mut self.held, &mut self.random) {
            let txn = Txn::new().when([held.had.is_there()]).and_then([held.write()]);
            self.writes.push((held.whose.queue, self.client.txn(txn)));
            self.held.push(held);
        }
    }

    /// R-ELC-7: whoever follows is told of the value.
    fn proclaim(&mut self) {
        let is_leader = |held: &Held| held.whose.kind == Kind::Leadership;
        let Some(place) = self.held.iter().position(is_leader) else {
            return;
        };
        let held = self.held.swap_remove(place);
        self.proclaimed += 1;
        let value = format!("{}{}", proclaimed(held.token), self.proclaimed);
        let Had::Leadership(leadership) = &held.had else { panic!("it was looked for") };
        match leadership.proclaim(value.clone()).wait() {
            Ok(()) => {
                self.history.read(self.stepped.store());
                let mut events = self.history.events(held.whose.queue).iter();
                let is_it = |event: &LeaderEvent| event.kv().is_some_and(|kv| kv.value() == value.as_bytes());
                assert!(events.any(is_it), "{value} was not said");
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
            // What was compacted already is refused.
            drop(store.compact(newest));
        }
    }
}

fn lock(outside: &sync::Mutex<Outside>) -> sync::MutexGuard<'_, Outside> {
    outside.lock().expect("nobody panicked with it")
}

fn pick<T>(of: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if of.is_empty() { None } else { Some(of.swap_remove(random.below(of.len() as u64) as usize)) }
}
