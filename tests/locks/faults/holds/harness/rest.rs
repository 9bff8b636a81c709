//! What holds at every moment, and what holds once everything has come to rest.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use leasehold::concurrency::LeaderEvent;
use leasehold::{Error, KeyValue, LeaseId, Result};

use super::follower::Follower;
use super::history::{is_of_lease, is_own, queue};
use super::hold::{Kind, key_of_lease};
use super::party::{Held, Is, Looks, Waiter, poll};
use super::{NAMES, World, lock, millis, pick};

impl World {
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
        for &lease in store.leases().expect("the store is open").leases() {
            let is_expected = self.rules.has_faults() || self.served.contains(&lease);
            assert!(is_expected, "lease {lease} is left over");
            store.expire(lease).expect("it was there");
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

    /// Somebody who follows receives.
    pub(super) fn follow(&mut self) {
        let place = self.random.below(NAMES.len() as u64) as usize;
        let received = if self.random.one_in(8) {
            let time = millis(self.random.below(1_000));
            self.followers[place].wait(time)
        } else {
            self.followers[place].look()
        };
        self.received(place, received);
    }

    /// Gives whether there was something.
    fn received(&mut self, place: usize, received: Result<Option<LeaderEvent>>) -> bool {
        self.history.read(self.stepped.store());
        match received {
            Ok(None) => return false,
            Ok(Some(event)) => {
                let is_gap = matches!(event, LeaderEvent::Gap { .. });
                assert!(!is_gap || self.rules.compacts, "nothing was compacted");
                self.followers[place].take_in(event, &self.history);
            }
            Err(error) => {
                self.expect(error, &[]);
                self.replace_follower(place);
            }
        }
        true
    }

    pub(super) fn follow_anew(&mut self) {
        let place = self.random.below(NAMES.len() as u64) as usize;
        self.replace_follower(place);
    }

    fn replace_follower(&mut self, place: usize) {
        let (since, looks) = (self.revision(), self.random.pick(&Looks::ALL));
        let queue = self.followers[place].queue;
        self.followers[place] = Follower::new(&self.client, queue, since, looks);
    }

    /// Lets everything come to rest: all calls are answered, and whoever is woken has looked.
    pub(super) fn rest(&mut self) {
        loop {
            self.stepped.settle();
            let before = self.stepped.steps_taken();
            for waiter in std::mem::take(&mut self.waiting) {
                self.look_of(waiter);
            }
            self.see_losses();
            for place in 0..self.followers.len() {
                while {
                    let received = self.followers[place].look();
                    self.received(place, received)
                } {}
            }
            // A poll that blocks takes steps itself, which may wake a waiter that was polled before.
            if self.stepped.is_settled() && self.stepped.steps_taken() == before {
                break;
            }
        }
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
            assert_eq!(is_told, held.asked && is_lost, "who asked is told of his loss");
        }
        for follower in &self.followers {
            let name = NAMES[follower.queue];
            assert!(follower.is_up_to_date(&self.history), "who follows {name} was told all");
        }
        (0..NAMES.len()).for_each(|place| self.check_at_rest(place));
    }

    /// Those who asked to be told of the loss of their holds look, if they are woken.
    fn see_losses(&mut self) {
        for held in &mut self.held {
            if let Some(ticket) = held.lost.as_mut().filter(|_| held.is_woken.take())
                && poll(ticket, &held.is_woken).expect("it goes on").is_some()
            {
                held.lost = None;
            }
        }
    }

    /// The keys of a queue are those of its holder and of those who wait; and if it is free, nobody waits.
    fn check_at_rest(&self, place: usize) {
        let (store, name) = (self.stepped.store(), NAMES[place]);
        let keys = queue(store, name);
        let live = self.held.iter().filter(|held| held.whose.queue == place && held.is_live(store));
        let needed = live.clone().filter(|held| held.is == Is::Needed).map(|held| &held.whose);
        let waiting = self.waiting.iter().filter(|waiter| waiter.whose.queue == place);
        // That of a service may wait though its key is gone (R-LCK-7).
        let waiting = waiting.map(|waiter| &waiter.whose).filter(|whose| {
            let key = key_of_lease(name, whose.lease);
            whose.kind != Kind::Service || keys.iter().any(|kv| kv.key() == key.as_bytes())
        });
        let mut needs: Vec<(LeaseId, bool)> =
            needed.chain(waiting).map(|whose| (whose.lease, whose.kind.is_of_lease())).collect();
        needs.sort();
        needs.dedup_by(|one, other| one == other && one.1);
        let mut own: Vec<&KeyValue> = keys.iter().filter(|kv| is_own(name, kv)).collect();
        own.sort_by_key(|kv| self.may_be_left(kv));
        for need in needs {
            let found = own.iter().position(|kv| (kv.lease(), is_of_lease(kv)) == need);
            own.remove(found.unwrap_or_else(|| panic!("{need:?} has no key in {keys:?}")));
        }
        let orphan = own.iter().find(|kv| !self.may_be_left(kv));
        assert_eq!(orphan, None, "a key of {name} that nobody needs");
        if let Some(first) = keys.first().filter(|kv| is_own(name, kv) && !self.may_be_left(kv)) {
            let has_it = live.clone().any(|held| held.is_of(first));
            assert!(has_it, "the first in the queue of {name} has it: {keys:?}");
        }
        let is_waited_for = self.waiting.iter().any(|waiter| waiter.whose.queue == place);
        assert!(!keys.is_empty() || !is_waited_for, "somebody waits for {name}, which is free");
    }

    /// Giving it back has failed, and maybe nobody tries again. A service leaves a key also if putting it fails.
    fn may_be_left(&self, kv: &KeyValue) -> bool {
        let is_of_service = self.rules.has_faults() && self.served.contains(&kv.lease());
        is_of_service || self.stepped.has_kept(kv.key())
    }

    /// What holds at every moment.
    pub(super) fn check(&mut self) {
        let store = self.stepped.store();
        self.history.read(store);
        for (place, name) in NAMES.iter().enumerate() {
            let mut live = self.held.iter().filter(|held| held.whose.queue == place && held.is_live(store));
            if let Some(first) = live.next() {
                let shares = |held: &Held| {
                    let is_same = held.token == first.token && held.whose.lease == first.whose.lease;
                    is_same && held.whose.kind == Kind::Reentrant && first.whose.kind == Kind::Reentrant
                };
                assert!(live.all(shares), "two hold {name}");
            }
        }
        let outside = lock(&self.outside);
        let removed = outside.removed;
        assert_eq!(self.history.foreign_removed(), removed, "strangers' keys are deleted by strangers alone");
        for deleted in self.history.take_deleted() {
            if outside.has_taken(deleted.create_revision()) || !self.is_alive(deleted.lease()) {
                continue;
            }
            let robbed = self.held.iter().find(|held| held.is == Is::Needed && held.is_of(&deleted));
            assert!(robbed.is_none(), "{deleted:?} was given back by another than its holder");
        }
    }

    /// Nobody is told that he lost his place who did not.
    pub(super) fn expect_end_of_waiting(&self, waiter: &Waiter, error: Error) {
        let whose = waiter.whose;
        // Services lose the code (R-LCK-8).
        let error = match error {
            Error::Unknown(inner) if whose.kind == Kind::Service => *inner,
            error => error,
        };
        if let Error::Compacted { .. } = error {
            assert!(self.rules.compacts, "{error}");
            return;
        }
        let is_over = !self.is_alive(whose.lease);
        let is_taken = lock(&self.outside).has_taken_one(NAMES[whose.queue], whose.lease, waiter.since);
        let is_right = is_over || is_taken && error == whose.kind.lost();
        assert!(is_right || matches!(error, Error::Unavailable { .. }), "{:?} received {error}", whose.kind);
        self.expect(error, &[whose.kind.lost(), Error::LeaseNotFound]);
    }

    /// What is lost does not come back.
    pub(super) fn expect_loss(&self, held: &Held, error: Error) {
        let is_live = held.is_live(self.stepped.store());
        assert!(error != held.whose.kind.lost() || !is_live, "it is not lost: {error}");
        self.expect(error, &[held.whose.kind.lost()]);
    }

    pub(super) fn expect(&self, error: Error, expected: &[Error]) {
        let is_fault = matches!(error, Error::Unavailable { .. }) && self.rules.has_faults();
        assert!(is_fault || expected.contains(&error), "{error}");
    }
}
