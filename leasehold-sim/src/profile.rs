//! The faults that a simulation draws.

use std::collections::BTreeSet;
use std::time::Duration;

use leasehold::clock::Timestamp;

use crate::draw::{Draws, Purpose};
use crate::fault::{Fault, FaultId};

/// The faults that a simulation draws from its seed: see [`Simulation::draw_faults`](crate::Simulation::draw_faults).
///
/// A swarm draws a new profile for each seed: which kinds of faults happen, how often each, and how many at most. A few kinds
/// at a time reach states that all kinds together do not, because each kind ends what the others have begun.
///
/// ```
/// use leasehold_sim::{Fault, Faults, Simulation};
/// use std::time::Duration;
///
/// let faults = Faults::swarm().without(&[Fault::Crash, Fault::Skew]).until(Duration::from_secs(20));
/// let mut sim = Simulation::new(7);
/// sim.draw_faults(faults);
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    kinds: Vec<Fault>,
    until: Duration,
}

impl Faults {
    /// Creates a swarm of all kinds of faults during the first minute.
    pub fn swarm() -> Self {
        Self { kinds: Fault::ALL.to_vec(), until: Duration::from_secs(60) }
    }

    /// Creates a swarm of these kinds of faults during the first minute.
    pub fn only(kinds: &[Fault]) -> Self {
        Self { kinds: kinds.to_vec(), ..Self::swarm() }
    }

    /// Removes kinds of faults.
    #[must_use]
    pub fn without(mut self, kinds: &[Fault]) -> Self {
        self.kinds.retain(|kind| !kinds.contains(kind));
        self
    }

    /// Sets the time after which no fault begins.
    ///
    /// Faults that have begun end by themselves: a paused process resumes and a partition heals. So a scenario has two phases,
    /// and in the second one its clients must come to an end.
    #[must_use]
    pub fn until(mut self, until: Duration) -> Self {
        self.until = until;
        self
    }
}

/// The faults of one seed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Plan {
    #[default]
    None,
    Swarm {
        /// The kinds with their rates: one fault in so many requests, deliveries or processes.
        rates: Vec<(Fault, u64)>,
        most: usize,
        until: Timestamp,
    },
    /// The faults of a replay.
    Only(BTreeSet<FaultId>),
}

impl Plan {
    pub(crate) fn draw(faults: &Faults, draws: &Draws) -> Self {
        let draw = |nth, end| draws.below(0, Purpose::Profile, nth, end);
        let mut kinds = faults.kinds.clone();
        let mut rates = Vec::new();
        for nth in 0..=draw(0, 4) {
            if kinds.is_empty() {
                break;
            }
            let kind = kinds.remove(draw(10 + nth, kinds.len() as u64) as usize);
            let of_processes = kind == Fault::Skew;
            let rate = if of_processes { 1 + draw(30 + nth, 2) } else { 2 << draw(20 + nth, 5) };
            rates.push((kind, rate));
        }
        let most = 1 + draw(1, 16) as usize;
        Self::Swarm { rates, most, until: Timestamp::ORIGIN + faults.until }
    }

    /// Returns the kinds of faults that may happen, to be asked for one by one.
    pub(crate) fn kinds(&self) -> Vec<Fault> {
        match self {
            Self::None => Vec::new(),
            Self::Swarm { rates, .. } => rates.iter().map(|(kind, _)| *kind).collect(),
            Self::Only(ids) => ids.iter().map(|id| id.fault).collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }

    /// Returns whether a fault happens. `happened` is the number of earlier faults.
    pub(crate) fn decides(&self, id: FaultId, draws: &Draws, now: Timestamp, happened: usize) -> bool {
        match self {
            Self::None => false,
            Self::Only(ids) => ids.contains(&id),
            Self::Swarm { rates, most, until } => {
                let rate = rates.iter().find(|(kind, _)| *kind == id.fault).map(|(_, rate)| *rate);
                let nth = id.nth * 32 + id.fault as u64;
                happened < *most
                    && now < *until
                    && rate.is_some_and(|rate| draws.below(id.process as u64, Purpose::Fault, nth, rate) == 0)
            }
        }
    }
}
