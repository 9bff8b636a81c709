//! A naive model of `LeaseRenewer`: a list of all facts about a lease, from which each answer is computed.

use std::collections::{BTreeMap, BTreeSet};

use leasehold::LeaseId;
use leasehold::backend::InboxId;

const RETRY: u64 = 500_000_000;

/// A fact about a lease. Instants and durations are in nanoseconds.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Noted { sent: u64, ttl: u64 },
    Renewing { is_on: bool, at: u64 },
    Watched { inbox: InboxId, at: u64 },
    Cancelled { inbox: InboxId },
    Sent { number: usize, at: u64, is_renewal: bool },
    Answered { number: usize, ttl: u64 },
}

/// A step that is due: the lease, and its inboxes if the lease is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Renewal(LeaseId),
    Check(LeaseId),
    Over(LeaseId, Vec<InboxId>),
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The facts about each lease since its state was last removed.
    facts: BTreeMap<LeaseId, Vec<Fact>>,
    gone: Vec<(LeaseId, BTreeSet<InboxId>)>,
}

/// The state that follows from the facts about a lease.
struct View {
    is_renewed: bool,
    inboxes: BTreeSet<InboxId>,
    deadline: Option<u64>,
    /// The position and instant of the first fact whose responses are accepted.
    since: Option<(usize, u64)>,
}

impl View {
    fn new(facts: &[Fact]) -> Self {
        let mut view = Self { is_renewed: false, inboxes: BTreeSet::new(), deadline: None, since: None };
        for (position, fact) in facts.iter().enumerate() {
            let is_active = view.is_active();
            match *fact {
                Fact::Noted { sent, ttl } => view.deadline = view.deadline.max(Some(sent + ttl)),
                Fact::Renewing { is_on, at } => {
                    view.is_renewed = is_on;
                    view.since = Some((position, at));
                }
                Fact::Watched { inbox, at } => {
                    view.inboxes.insert(inbox);
                    if !is_active {
                        view.since = Some((position, at));
                    }
                }
                Fact::Cancelled { inbox } => drop(view.inboxes.remove(&inbox)),
                Fact::Sent { .. } => {}
                Fact::Answered { number, ttl } => {
                    if let Some((at, is_renewal)) = view.counting(facts, number)
                        && (is_renewal || view.deadline.is_some())
                    {
                        view.deadline = view.deadline.max(Some(at + ttl));
                    }
                }
            }
        }
        view
    }

    fn is_active(&self) -> bool {
        self.is_renewed || !self.inboxes.is_empty()
    }

    /// Returns when a request was sent and whether it was a renewal, if its response is accepted.
    fn counting(&self, facts: &[Fact], wanted: usize) -> Option<(u64, bool)> {
        let since = self.since.map_or(0, |(position, _)| position);
        facts[since..].iter().find_map(|fact| match *fact {
            Fact::Sent { number, at, is_renewal } if number == wanted => Some((at, is_renewal)),
            _ => None,
        })
    }

    fn due(&self, facts: &[Fact]) -> Option<u64> {
        let (since, begun) = self.since.filter(|_| self.is_active())?;
        let answers = facts.iter().filter_map(|fact| match *fact {
            Fact::Answered { number, ttl } => Some((ttl, self.counting(facts, number)?.0)),
            _ => None,
        });
        let pauses = answers.map(|(ttl, at)| at + ttl / 3);
        let newest = facts[since..].iter().rev().find_map(|fact| match *fact {
            Fact::Sent { at, .. } => Some(at),
            _ => None,
        });
        let retry = newest.map(|at| at + self.retry_interval(facts));
        // All facts before `since` are older than `begun`.
        pauses.chain(retry).chain([begun]).max()
    }

    fn retry_interval(&self, facts: &[Fact]) -> u64 {
        let ttls = facts.iter().enumerate().rev().find_map(|(position, fact)| match *fact {
            Fact::Noted { ttl, .. } => Some(ttl),
            Fact::Answered { number, ttl } => {
                let (_, is_renewal) = Self::new(&facts[..position]).counting(facts, number)?;
                is_renewal.then_some(ttl)
            }
            _ => None,
        });
        ttls.filter(|_| self.is_renewed).map_or(RETRY, |ttl| ttl.div_ceil(6).min(RETRY))
    }
}

impl Model {
    fn view(&self, lease: LeaseId) -> View {
        View::new(self.facts.get(&lease).map_or(&[], |facts| facts))
    }

    fn add(&mut self, lease: LeaseId, fact: Fact) {
        self.facts.entry(lease).or_default().push(fact);
        let view = self.view(lease);
        if !view.is_active() && view.deadline.is_none() {
            self.facts.remove(&lease);
        }
    }

    fn end(&mut self, lease: LeaseId) {
        let view = self.view(lease);
        self.facts.remove(&lease);
        if view.is_active() {
            self.gone.push((lease, view.inboxes));
        }
    }

    fn forget_expired(&mut self, lease: LeaseId, now: u64) {
        let view = self.view(lease);
        if !view.is_active() && view.deadline.is_some_and(|deadline| deadline <= now) {
            self.facts.remove(&lease);
        }
    }

    pub(crate) fn renew(&mut self, lease: LeaseId, is_on: bool, at: u64) {
        if self.view(lease).is_renewed != is_on {
            self.forget_expired(lease, at);
            self.add(lease, Fact::Renewing { is_on, at });
        }
    }

    pub(crate) fn watch(&mut self, lease: LeaseId, inbox: InboxId, at: u64) {
        self.forget_expired(lease, at);
        self.add(lease, Fact::Watched { inbox, at });
    }

    pub(crate) fn cancel(&mut self, inbox: InboxId) {
        let leases: Vec<LeaseId> = self.facts.keys().copied().collect();
        leases.into_iter().for_each(|lease| self.add(lease, Fact::Cancelled { inbox }));
        for (_, inboxes) in &mut self.gone {
            inboxes.remove(&inbox);
        }
    }

    pub(crate) fn note(&mut self, lease: LeaseId, ttl: Option<u64>, sent: u64) {
        match ttl {
            Some(ttl) => self.add(lease, Fact::Noted { sent, ttl }),
            None => self.end(lease),
        }
    }

    /// Returns whether the response is accepted.
    pub(crate) fn answer(&mut self, lease: LeaseId, number: usize, ttl: Option<u64>) -> bool {
        let Some(facts) = self.facts.get(&lease) else { return false };
        let Some((_, is_renewal)) = self.view(lease).counting(facts, number) else { return false };
        match ttl.filter(|&ttl| ttl > 0 || !is_renewal) {
            Some(ttl) => self.add(lease, Fact::Answered { number, ttl }),
            None => self.end(lease),
        }
        true
    }

    /// Returns the steps that are due, in order. The next request has the number `first`.
    pub(crate) fn poll(&mut self, now: u64, first: usize) -> Vec<Due> {
        let mut steps: Vec<Due> = Vec::new();
        for (lease, inboxes) in self.gone.drain(..) {
            steps.push(Due::Over(lease, inboxes.into_iter().collect()));
        }
        let mut instants: Vec<(u64, LeaseId)> =
            self.facts.keys().filter_map(|&lease| Some((self.next(lease)?, lease))).collect();
        instants.retain(|&(at, _)| at <= now);
        instants.sort();
        let mut number = first;
        for (_, lease) in instants {
            let view = self.view(lease);
            let is_over = view.deadline.is_some_and(|deadline| deadline <= now);
            if is_over {
                self.facts.remove(&lease);
                steps.extend(view.is_active().then(|| Due::Over(lease, view.inboxes.into_iter().collect())));
            } else {
                self.add(lease, Fact::Sent { number, at: now, is_renewal: view.is_renewed });
                number += 1;
                steps.push(if view.is_renewed { Due::Renewal(lease) } else { Due::Check(lease) });
            }
        }
        steps
    }

    fn next(&self, lease: LeaseId) -> Option<u64> {
        let view = self.view(lease);
        view.due(&self.facts[&lease]).into_iter().chain(view.deadline).min()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let next = self.facts.keys().filter_map(|&lease| self.next(lease)).min();
        if self.gone.is_empty() { next } else { Some(0) }
    }

    /// Returns the deadline of each lease that has one.
    pub(crate) fn deadlines(&self) -> Vec<(LeaseId, u64)> {
        self.facts.keys().filter_map(|&lease| Some((lease, self.view(lease).deadline?))).collect()
    }
}
