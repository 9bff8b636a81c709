//! Sessions that hang and end, holds and waits that are given up at any time, and strangers among their keys, all by lot, over
//! a backend whose calls overlap; and what holds of it at every moment.

mod history;
mod outside;
mod party;

use std::pin::Pin;
use std::sync::{self, Arc};
use std::task::{Context, Poll, Waker};

use leasehold::concurrency::{Fence, Mutex, MutexGuard, Session};
use leasehold::{Call, Client, Error, LeaseId, Revision, Txn, TxnResponse};

use crate::shorthand::{Random, millis, secs};
use crate::stepped::{Manners, Stepped};
use history::{History, is_own, queue};
use outside::Outside;
use party::{Held, Looks, Waiter, poll, raised};

/// The second is inside of the first: R-LCK-13.
const LOCKS: [&str; 3] = ["a", "a/b", "c"];

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
    waiting: Vec<Waiter>,
    held: Vec<Held>,
    locks: [Lock; LOCKS.len()],
    /// Writes under the condition that a guard holds its lock, which are under way.
    writes: Vec<(usize, Call<TxnResponse>)>,
}

/// What is known of a lock.
#[derive(Default)]
struct Lock {
    fence: Fence,
    /// The newest token that the fence admitted.
    admitted: Revision,
    /// The newest token that was got while its key was there.
    got: Revision,
    /// How many writes through guards are known to have been run.
    written: u64,
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let stepped = Stepped::new(!seed);
        let client = stepped.client();
        let sessions =
            (0..SESSIONS).map(|_| Session::open(&client, secs(5)).expect("it is granted")).collect();
        stepped.set_manners(rules.manners);
        let outside = Arc::new(sync::Mutex::new(Outside::new(stepped.store(), stepped.clock(), seed ^ 1)));
        let meanwhile = Arc::clone(&outside);
        stepped.meanwhile(move || lock(&meanwhile).act_by_chance());
        Self {
            rules,
            stepped,
            client,
            outside,
            random: Random::new(seed),
            history: History::default(),
            sessions,
            waiting: Vec::new(),
            held: Vec::new(),
            locks: Default::default(),
            writes: Vec::new(),
        }
    }

    pub(crate) fn act(&mut self) {
        match self.random.below(56) {
            0..=9 => self.enqueue(),
            10 => self.try_lock(),
            11..=12 => drop(pick(&mut self.waiting, &mut self.random)),
            13..=14 => drop(pick(&mut self.held, &mut self.random)),
            17 => self.unlock(),
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
            _ => drop(self.stepped.step()),
        }
        self.check();
    }

    /// Gives everything up, and sees that nothing is left.
    pub(crate) fn end(mut self) {
        while !(self.waiting.is_empty() && self.held.is_empty()) {
            drop(pick(&mut self.waiting, &mut self.random));
            drop(pick(&mut self.held, &mut self.random));
            self.stepped.step();
        }
        self.rest();
        self.sessions.clear();
        self.stepped.settle();
        self.check();
        let store = self.stepped.store();
        if self.rules.has_faults() {
            for &lease in store.leases().expect("the store is open").leases() {
                store.expire(lease).expect("it was there");
            }
        }
        assert_eq!(store.leases().expect("the store is open").leases(), [], "leases are left over");
        for (name, lock) in LOCKS.iter().zip(&self.locks) {
            assert!(!queue(store, name).iter().any(|kv| is_own(name, kv)), "keys are left over");
            let (known, run) = (lock.written, self.history.writes(name));
            assert!(
                known == run || known < run && self.rules.has_faults(),
                "{known} writes of {run} are known"
            );
        }
    }

    fn is_alive(&self, session: &Session) -> bool {
        let store = self.stepped.store();
        store.time_to_live(session.lease(), false).expect("the store is open").ttl().is_some()
    }

    fn session(&mut self) -> Session {
        self.sessions[self.random.below(SESSIONS as u64) as usize].clone()
    }

    /// A lock, and one of the many handles to it.
    fn any_lock(&mut self) -> (usize, Mutex, LeaseId) {
        let lock = self.random.below(LOCKS.len() as u64) as usize;
        let session = self.session();
        (lock, Mutex::new(&session, LOCKS[lock]), session.lease())
    }

    fn enqueue(&mut self) {
        if self.waiting.len() == WAITING_MAX {
            return;
        }
        let (lock, mutex, lease) = self.any_lock();
        let looks = self.random.pick(&[Looks::AtAnyTime, Looks::WhenWoken, Looks::WhenReady]);
        self.waiting.push(Waiter { lock, lease, ticket: mutex.enqueue(), looks, is_woken: raised() });
    }

    fn try_lock(&mut self) {
        let (lock, mutex, lease) = self.any_lock();
        match mutex.try_lock() {
            Ok(Some(guard)) => self.got(lock, lease, guard),
            Ok(None) => {}
            Err(error) => self.expect(error, &[Error::LeaseNotFound]),
        }
    }

    fn wait_for_a_time(&mut self) {
        let Some(mut waiter) = pick(&mut self.waiting, &mut self.random) else {
            return;
        };
        let time = millis(self.random.below(3_000));
        match waiter.ticket.wait_timeout(time) {
            Ok(Some(guard)) => self.got(waiter.lock, waiter.lease, guard),
            Ok(None) => {
                // Its waker was another one meanwhile.
                waiter.is_woken = raised();
                self.waiting.push(waiter);
            }
            Err(error) => self.expect_end_of_waiting(error),
        }
    }

    /// Somebody looks.
    fn look(&mut self) {
        if let Some(waiter) = pick(&mut self.waiting, &mut self.random) {
            self.look_of(waiter);
        }
    }

    fn look_of(&mut self, mut waiter: Waiter) {
        match waiter.look() {
            Ok(Some(guard)) => self.got(waiter.lock, waiter.lease, guard),
            Ok(None) => self.waiting.push(waiter),
            Err(error) => self.expect_end_of_waiting(error),
        }
    }

    /// R-LCK-10. A guard may be lost already when it is got, if its answer was late; but it was the first.
    fn got(&mut self, lock: usize, lease: LeaseId, guard: MutexGuard) {
        let (name, token) = (LOCKS[lock], guard.token());
        self.history.read(self.stepped.store(), &LOCKS);
        assert!(self.history.was_first(name, token), "a lock that was not free was got");
        let lost = self.random.one_in(2).then(|| guard.lost());
        let asked = lost.is_some();
        let held = Held { lock, lease, guard, asked, lost, is_woken: raised() };
        if held.is_live(self.stepped.store()) {
            let before = std::mem::replace(&mut self.locks[lock].got, token);
            assert!(before < token, "tokens rise");
        }
        self.held.push(held);
    }

    fn unlock(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.guard.unlock() {
            Ok(()) => assert!(!held.is_live(self.stepped.store()), "its key is gone when this returns"),
            Err(error) => self.expect(error, &[]),
        }
        if self.random.one_in(2) {
            self.held.push(held);
        }
    }

    fn pause_or_resume(&mut self) {
        let (session, store) = (self.session(), self.stepped.store());
        let result = match self.random.below(4) {
            0 => session.pause(),
            1 => session.resume(),
            2 => store.pause_keep_alive(session.lease()),
            _ => store.resume_keep_alive(session.lease()),
        };
        if let Err(error) = result {
            self.expect(error, &[Error::LeaseNotFound]);
        }
    }

    /// Mostly one that is over. Its holds and waits may live on.
    fn replace_session(&mut self) {
        let is_over = |session: &Session| !self.is_alive(session);
        let over = self.sessions.iter().position(is_over);
        let place = over.unwrap_or_else(|| self.random.below(SESSIONS as u64) as usize);
        if over.is_none() && self.random.one_in(2) {
            return;
        }
        if self.random.one_in(3)
            && let Err(error) = self.sessions[place].close()
        {
            self.expect(error, &[Error::LeaseNotFound]);
        }
        match Session::open(&self.client, secs(5)) {
            Ok(session) => self.sessions[place] = session,
            Err(error) => self.expect(error, &[]),
        }
    }

    /// The resource that only a fence protects admits who has the lock, and after him nobody who had it before.
    fn write_fenced(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        let (lock, token) = (&mut self.locks[held.lock], held.guard.token());
        let is_admitted = lock.fence.admit(token).is_ok();
        assert_eq!(is_admitted, token >= lock.admitted, "an older token after a newer one");
        assert!(is_admitted || !held.is_live(self.stepped.store()), "the holder is refused");
        lock.admitted = lock.admitted.max(token);
        self.held.push(held);
    }

    /// History tells whether such a write was run while the lock was held.
    fn write_guarded(&mut self) {
        let Some(held) = pick(&mut self.held, &mut self.random) else {
            return;
        };
        match held.guard.txn().and_then([held.write()]).commit() {
            Ok(_) => self.locks[held.lock].written += 1,
            Err(Error::SessionExpired) => {
                assert!(!held.is_live(self.stepped.store()), "what is lost does not come back");
            }
            Err(error) => self.expect(error, &[]),
        }
        self.held.push(held);
    }

    /// The same, and meanwhile goes on.
    fn write_later(&mut self) {
        if let Some(held) = pick(&mut self.held, &mut self.random) {
            let txn = Txn::new().when([held.guard.is_owner()]).and_then([held.write()]);
            self.writes.push((held.lock, self.client.txn(txn)));
            self.held.push(held);
        }
    }

    fn compact(&mut self) {
        let store = self.stepped.store();
        if self.rules.compacts {
            self.history.read(store, &LOCKS);
            let newest = store.status().expect("the store is open").header().revision();
            // What was compacted already is refused.
            drop(store.compact(newest));
        }
    }

    /// Lets everything come to rest: all calls are answered, and whoever is woken has looked.
    fn rest(&mut self) {
        loop {
            self.stepped.settle();
            for waiter in std::mem::take(&mut self.waiting) {
                self.look_of(waiter);
            }
            self.see_losses();
            if self.stepped.is_settled() {
                break;
            }
        }
        let mut context = Context::from_waker(Waker::noop());
        for (lock, mut call) in std::mem::take(&mut self.writes) {
            match Pin::new(&mut call).poll(&mut context) {
                Poll::Ready(Ok(done)) => self.locks[lock].written += u64::from(done.succeeded()),
                Poll::Ready(Err(error)) => self.expect(error, &[]),
                Poll::Pending => panic!("all calls are answered"),
            }
        }
        for held in &self.held {
            let is_told = held.asked && held.lost.is_none();
            assert_eq!(
                is_told,
                held.asked && !held.is_live(self.stepped.store()),
                "who asked is told of his loss"
            );
        }
        if !self.rules.has_faults() {
            (0..LOCKS.len()).for_each(|lock| self.check_at_rest(lock));
        }
    }

    /// Those who asked to be told of the loss of their locks look, if they are woken.
    fn see_losses(&mut self) {
        for held in &mut self.held {
            if let Some(ticket) = held.lost.as_mut().filter(|_| held.is_woken.take())
                && poll(ticket, &held.is_woken).expect("it goes on").is_some()
            {
                held.lost = None;
            }
        }
    }

    /// The keys of a lock are those of its holder and of those who wait; and if it is free, nobody waits.
    fn check_at_rest(&self, lock: usize) {
        let (store, name) = (self.stepped.store(), LOCKS[lock]);
        let queue = queue(store, name);
        let live = self.held.iter().filter(|held| held.lock == lock && held.is_live(store));
        let waiting = self.waiting.iter().filter(|waiter| waiter.lock == lock);
        let mut holds: Vec<_> =
            live.clone().map(|held| held.lease).chain(waiting.map(|waiter| waiter.lease)).collect();
        let mut keys: Vec<_> = queue.iter().filter(|kv| is_own(name, kv)).map(|kv| kv.lease()).collect();
        holds.sort();
        keys.sort();
        assert_eq!(holds, keys, "the leases of holds and waits, and of the keys of {name}");
        if let Some(first) = queue.first().filter(|kv| is_own(name, kv)) {
            let tokens: Vec<_> = live.map(|held| held.guard.token()).collect();
            assert_eq!(tokens, [first.create_revision()], "the first in the queue of {name} has it");
        }
    }

    /// What holds at every moment.
    fn check(&mut self) {
        let store = self.stepped.store();
        self.history.read(store, &LOCKS);
        for (lock, name) in LOCKS.iter().enumerate() {
            let held = self.held.iter().filter(|held| held.lock == lock && held.is_live(store)).count();
            assert!(held <= 1, "{held} hold {name}");
        }
        let removed = lock(&self.outside).removed;
        assert_eq!(self.history.foreign_removed(), removed, "strangers' keys are deleted by strangers alone");
    }

    fn expect_end_of_waiting(&self, error: Error) {
        match error {
            Error::Compacted { .. } => assert!(self.rules.compacts, "{error}"),
            error => self.expect(error, &[Error::SessionExpired, Error::LeaseNotFound]),
        }
    }

    fn expect(&self, error: Error, expected: &[Error]) {
        let is_fault = error == Error::Stopped && self.rules.has_faults();
        assert!(is_fault || expected.contains(&error), "{error}");
    }
}

fn lock(outside: &sync::Mutex<Outside>) -> sync::MutexGuard<'_, Outside> {
    outside.lock().expect("nobody panicked with it")
}

fn pick<T>(of: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if of.is_empty() { None } else { Some(of.swap_remove(random.below(of.len() as u64) as usize)) }
}
