//! The invariants that are checked after each action, and the invariants that are checked once all calls are answered.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use leasehold::concurrency::LeaderEvent;
use leasehold::{Error, KeyValue, LeaseId, Result};

use super::follower::Follower;
use super::history::{is_of_lease, is_own, queue};
use super::hold::{Kind, key_of_lease};
use super::participants::{Held, PollMode, ReleaseState, Waiter, poll};
use super::{HoldsHarness, NAMES, lock, millis, pick};

impl HoldsHarness {
    /// Drops all waits and holds, and asserts that no key is left.
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
        for &lease in store.leases().expect("the store is open").leases() {
            let is_expected = self.rules.has_faults() || self.served.contains(&lease);
            assert!(is_expected, "lease {lease} is left after its session");
            store.expire(lease).expect("the lease exists");
        }
        for (place, (name, known)) in NAMES.iter().zip(&self.queues).enumerate() {
            let left = queue(store, name).into_iter().find(|kv| is_own(name, kv));
            assert_eq!(left, None, "a key is left over");
            let (known, run) = (known.written, self.history.writes(place));
            assert!(
                known == run || known < run && self.rules.has_faults(),
                "{known} writes of {run} are known"
            );
        }
    }

    /// Receives from a random follower.
    pub(super) fn follow(&mut self) {
        let place = self.random.below(NAMES.len() as u64) as usize;
        let received = if self.random.one_in(8) {
            let time = millis(self.random.below(1_000));
            self.followers[place].wait(time)
        } else {
            self.followers[place].poll_by_mode()
        };
        self.received(place, received);
    }

    /// Handles the result of a receive. Returns whether there was an event or error.
    fn received(&mut self, place: usize, received: Result<Option<LeaderEvent>>) -> bool {
        self.history.read(self.stepped.store());
        match received {
            Ok(None) => return false,
            Ok(Some(event)) => {
                let is_gap = matches!(event, LeaderEvent::Gap { .. });
                assert!(!is_gap || self.rules.compacts, "a gap requires a compaction");
                self.followers[place].take_in(event, &self.history);
            }
            Err(error) => {
                self.expect(error, &[]);
                self.replace_follower(place);
            }
        }
        true
    }

    pub(super) fn follow_again(&mut self) {
        let place = self.random.below(NAMES.len() as u64) as usize;
        self.replace_follower(place);
    }

    fn replace_follower(&mut self, place: usize) {
        let (since, poll_mode) = (self.revision(), self.random.pick(&PollMode::ALL));
        let queue = self.followers[place].queue;
        self.followers[place] = Follower::new(&self.client, queue, since, poll_mode);
    }

    /// Settles the run, and checks the invariants of a settled run.
    pub(super) fn rest(&mut self) {
        self.settle();
        // A wait for a loss whose reads have failed twice reads again after 100 ms.
        if self.held.iter().any(|held| held.lost.is_some() && !held.is_there(self.stepped.store())) {
            self.stepped.clock().advance(millis(100));
            self.settle();
        }
        self.check_rest();
    }

    /// Answers all calls and polls all woken waiters.
    fn settle(&mut self) {
        loop {
            self.stepped.settle();
            let before = self.stepped.steps_taken();
            for waiter in std::mem::take(&mut self.waiting) {
                self.poll_waiter(waiter);
            }
            self.see_losses();
            for place in 0..self.followers.len() {
                while {
                    let received = self.followers[place].poll_by_mode();
                    self.received(place, received)
                } {}
            }
            // A poll that blocks takes steps itself, which may wake a waiter that was polled before.
            if self.stepped.is_settled() && self.stepped.steps_taken() == before {
                break;
            }
        }
    }

    fn check_rest(&mut self) {
        // The run is settled, so each write has its response, and no waker is needed.
        let mut context = Context::from_waker(Waker::noop());
        for (queue, mut call) in std::mem::take(&mut self.writes) {
            match Pin::new(&mut call).poll(&mut context) {
                Poll::Ready(Ok(done)) => self.queues[queue].written += u64::from(done.succeeded()),
                Poll::Ready(Err(error)) => self.expect(error, &[]),
                Poll::Pending => panic!("all calls are answered"),
            }
        }
        for held in &self.held {
            let is_told = held.asked && held.lost.is_none();
            let is_lost = !held.is_there(self.stepped.store());
            assert_eq!(
                is_told,
                held.asked && is_lost,
                "a requested loss is reported exactly when the key is deleted"
            );
        }
        for follower in &self.followers {
            let name = NAMES[follower.queue];
            assert!(follower.is_up_to_date(&self.history), "the follower of {name} has received every event");
        }
        (0..NAMES.len()).for_each(|place| self.check_at_rest(place));
    }

    /// Polls the loss tickets that were woken.
    fn see_losses(&mut self) {
        for held in &mut self.held {
            if let Some(ticket) = held.lost.as_mut().filter(|_| held.is_woken.take())
                && poll(ticket, &held.is_woken).expect("the store is open").is_some()
            {
                held.lost = None;
            }
        }
    }

    /// Asserts that each key of a queue belongs to a hold or wait, and that a wait has a key before its own.
    fn check_at_rest(&self, place: usize) {
        let (store, name) = (self.stepped.store(), NAMES[place]);
        let keys = queue(store, name);
        let live = self.held.iter().filter(|held| held.owner.queue == place && held.is_live(store));
        let needed =
            live.clone().filter(|held| held.release_state == ReleaseState::Held).map(|held| &held.owner);
        let waiting = self.waiting.iter().filter(|waiter| waiter.owner.queue == place);
        // A service's wait may continue after its key is deleted (R-LCK-7).
        let waiting = waiting.map(|waiter| &waiter.owner).filter(|owner| {
            let key = key_of_lease(name, owner.lease);
            owner.kind != Kind::Service || keys.iter().any(|kv| kv.key() == key.as_bytes())
        });
        let mut needs: Vec<(LeaseId, bool)> =
            needed.chain(waiting).map(|owner| (owner.lease, owner.kind.is_of_lease())).collect();
        needs.sort();
        // Holds and waits that share their lease's key need one key.
        needs.dedup_by(|one, other| one == other && one.1);
        let mut own: Vec<&KeyValue> = keys.iter().filter(|kv| is_own(name, kv)).collect();
        // Keys that may be left come last, so that holds and waits are matched with the other keys first.
        own.sort_by_key(|kv| self.may_be_left(kv));
        for need in needs {
            let found = own.iter().position(|kv| (kv.lease(), is_of_lease(kv)) == need);
            own.remove(found.unwrap_or_else(|| panic!("{need:?} has no key in {keys:?}")));
        }
        let orphan = own.iter().find(|kv| !self.may_be_left(kv));
        assert_eq!(orphan, None, "a key of {name} has no hold or wait");
        if let Some(first) = keys.first().filter(|kv| is_own(name, kv) && !self.may_be_left(kv)) {
            let has_it = live.clone().any(|held| held.is_of(first));
            assert!(has_it, "the first key in the queue of {name} is held: {keys:?}");
        }
        let is_waited_for = self.waiting.iter().any(|waiter| waiter.owner.queue == place);
        assert!(!keys.is_empty() || !is_waited_for, "the free queue {name} has a waiter");
    }

    /// Returns whether a key may be left over: its release failed and may not be tried again. A failed put of the service may
    /// leave a key too.
    fn may_be_left(&self, kv: &KeyValue) -> bool {
        let is_of_service = self.rules.has_faults() && self.served.contains(&kv.lease());
        is_of_service || self.stepped.has_kept(kv.key())
    }

    /// Asserts the invariants that hold after each action.
    pub(super) fn check(&mut self) {
        let store = self.stepped.store();
        self.history.read(store);
        for (place, name) in NAMES.iter().enumerate() {
            let mut live = self.held.iter().filter(|held| held.owner.queue == place && held.is_live(store));
            if let Some(first) = live.next() {
                let shares = |held: &Held| {
                    let is_same = held.token == first.token && held.owner.lease == first.owner.lease;
                    is_same && held.owner.kind == Kind::Reentrant && first.owner.kind == Kind::Reentrant
                };
                assert!(live.all(shares), "two holds share {name}");
            }
        }
        let environment = lock(&self.environment);
        let removed = environment.removed;
        assert_eq!(self.history.foreign_removed(), removed, "foreign keys are deleted only by their owners");
        for deleted in self.history.take_deleted() {
            if environment.has_taken(deleted.create_revision()) || !self.is_alive(deleted.lease()) {
                continue;
            }
            let robbed = self
                .held
                .iter()
                .find(|held| held.release_state == ReleaseState::Held && held.is_of(&deleted));
            assert!(robbed.is_none(), "{deleted:?} was deleted while it was held");
        }
    }

    /// Asserts that the error of a wait has a cause: its session has ended, or another client deleted its key.
    pub(super) fn expect_end_of_waiting(&self, waiter: &Waiter, error: Error) {
        let owner = waiter.owner;
        // The services replace the error's code (R-LCK-8).
        let error = match error {
            Error::Service(inner) if owner.kind == Kind::Service => *inner,
            error => error,
        };
        if let Error::Compacted { .. } = error {
            assert!(self.rules.compacts, "{error}");
            return;
        }
        let is_over = !self.is_alive(owner.lease);
        let is_taken = lock(&self.environment).has_taken_one(NAMES[owner.queue], owner.lease, waiter.since);
        let is_right = is_over || is_taken && error == owner.kind.lost();
        assert!(is_right || matches!(error, Error::Unavailable { .. }), "{:?} received {error}", owner.kind);
        self.expect(error, &[owner.kind.lost(), Error::LeaseNotFound]);
    }

    /// Asserts that a reported loss is final.
    pub(super) fn expect_loss(&self, held: &Held, error: Error) {
        let is_live = held.is_live(self.stepped.store());
        assert!(error != held.owner.kind.lost() || !is_live, "a live hold reported its loss: {error}");
        self.expect(error, &[held.owner.kind.lost()]);
    }

    pub(super) fn expect(&self, error: Error, expected: &[Error]) {
        let is_fault = matches!(error, Error::Unavailable { .. }) && self.rules.has_faults();
        assert!(is_fault || expected.contains(&error), "{error}");
    }
}
