//! Faults of chosen requests, for scenarios that are written by hand.

use std::time::Duration;

use leasehold::backend::{Request, RequestKind};

use crate::fault::Fault;
use crate::simulation::Simulation;

/// A fault that happens at one request of a process.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    process: usize,
    kind: Option<RequestKind>,
    key: Option<Vec<u8>>,
    /// The number of matching requests before the one that fails.
    before: u64,
    fault: Fault,
    amount: Option<Duration>,
    is_done: bool,
}

impl Rule {
    /// Counts a request. Returns the fault if this is the request that it is for.
    pub(crate) fn matches(&mut self, process: usize, request: &Request) -> Option<(Fault, Option<Duration>)> {
        let has_key = |key: &Vec<u8>| request.ranges().iter().any(|range| range.contains(key));
        if self.is_done
            || self.process != process
            || self.kind.is_some_and(|kind| kind != request.kind())
            || !self.key.as_ref().is_none_or(has_key)
        {
            return None;
        }
        if self.before > 0 {
            self.before -= 1;
            return None;
        }
        self.is_done = true;
        Some((self.fault, self.amount))
    }
}

/// Chooses a request of a process and its fault: see [`Simulation::at_request`].
///
/// ```
/// use leasehold::backend::RequestKind;
/// use leasehold::{Client, Error};
/// use leasehold_sim::Simulation;
///
/// let mut sim = Simulation::new(1);
/// sim.spawn("a", |me| async move {
///     let lost = me.put(("counter", "1")).await.unwrap_err();
///     assert!(lost.is_ambiguous());
///     assert_eq!(me.get("counter").await?.count(), 1, "the put was applied");
///     Ok::<(), Error>(())
/// });
/// sim.at_request("a", 1).of_kind(RequestKind::Put).lose_answer();
/// sim.run().unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the fault is chosen by another method"]
pub struct RequestFault<'a> {
    simulation: &'a mut Simulation,
    rule: Rule,
}

impl<'a> RequestFault<'a> {
    pub(crate) fn new(simulation: &'a mut Simulation, process: usize, nth: u64) -> Self {
        assert!(nth > 0, "the first request has number 1");
        let rule = Rule {
            process,
            kind: None,
            key: None,
            before: nth - 1,
            fault: Fault::Refuse,
            amount: None,
            is_done: false,
        };
        Self { simulation, rule }
    }

    /// Counts only requests of a kind.
    pub fn of_kind(mut self, kind: RequestKind) -> Self {
        self.rule.kind = Some(kind);
        self
    }

    /// Counts only requests that read, compare or write a key.
    pub fn about(mut self, key: impl AsRef<[u8]>) -> Self {
        self.rule.key = Some(key.as_ref().to_owned());
        self
    }

    /// Refuses the request: it fails with `Unavailable { maybe_applied: false }`.
    pub fn refuse(self) {
        self.add(Fault::Refuse, None);
    }

    /// Loses the request: it fails with `Unavailable { maybe_applied: true }`, and is not applied.
    pub fn lose(self) {
        self.add(Fault::LoseRequest, None);
    }

    /// Loses the answer: the request is applied, and fails with `Unavailable { maybe_applied: true }`.
    pub fn lose_answer(self) {
        self.add(Fault::LoseAnswer, None);
    }

    /// Loses the answer, and delays the next request of the process about the same key.
    pub fn lose_answer_and_delay_next(self) {
        self.add(Fault::Aimed, None);
    }

    /// Delays the request. If the delay is longer than the call's timeout, the request is applied after the call has failed.
    pub fn delay(self, delay: Duration) {
        self.add(Fault::DelayRequest, Some(delay));
    }

    /// Delays the answer.
    pub fn delay_answer(self, delay: Duration) {
        self.add(Fault::DelayAnswer, Some(delay));
    }

    /// Pauses the process when the answer arrives, before the client takes the next step.
    pub fn then_pause(self, lasts: Duration) {
        self.add(Fault::Pause, Some(lasts));
    }

    /// Cuts the process off from the store when the answer arrives.
    pub fn then_partition(self, lasts: Duration) {
        self.add(Fault::Partition, Some(lasts));
    }

    /// Crashes the process when the answer arrives. It starts again after `lasts`.
    pub fn then_crash(self, lasts: Duration) {
        self.add(Fault::Crash, Some(lasts));
    }

    fn add(self, fault: Fault, amount: Option<Duration>) {
        self.simulation.add_rule(Rule { fault, amount, ..self.rule });
    }
}
