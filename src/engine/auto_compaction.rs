//! Deciding when a store compacts by itself, and to which revision (R-CMP-7, R-CMP-8).
//!
//! etcd's compactor ticks at fixed intervals. A tick compacts if a compaction is due, and samples the revision. Most
//! ticks only sample. While the revision is unchanged, their samples are known in advance, so only the next tick that
//! compacts is a deadline. `Engine::advance` takes the samples of all ticks before it in one step.

use std::collections::VecDeque;
use std::time::Duration;

use super::Engine;
use crate::Error;
use crate::api::{AutoCompaction, Revision, Timestamp};

/// With shorter ones, ticks would come faster than a busy machine can make them.
const PERIOD_MIN: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(60 * 60);
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The compactor's clockwork. Told the store's revision at each tick, it says what to compact.
#[derive(Clone, Debug)]
pub(super) struct AutoCompactor {
    mode: Mode,
    /// The nanoseconds between two ticks.
    step: u64,
    /// None once time has come to its end.
    next_tick: Option<Timestamp>,
    /// The revision last compacted from here.
    compacted: Revision,
}

#[derive(Clone, Debug)]
enum Mode {
    Periodic {
        /// Between compactions, once the first has been made.
        interval: Duration,
        samples: Samples,
        next_compaction: Timestamp,
    },
    Revision {
        retention: u64,
    },
}

/// The last `len_max` samples, oldest first. Equal samples are stored as one run.
#[derive(Clone, Debug)]
struct Samples {
    /// Revisions in ascending order, each with the number of its samples.
    runs: VecDeque<(Revision, u64)>,
    len: u64,
    len_max: u64,
}

impl AutoCompactor {
    /// `current` is the revision now. Nothing comes of a mode that is off.
    pub(super) fn new(mode: AutoCompaction, current: Revision, now: Timestamp) -> Option<Self> {
        let (mode, step) = match mode {
            AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revision(0) => return None,
            AutoCompaction::Periodic(period) => {
                let period = period.max(PERIOD_MIN);
                let interval = period.min(HOUR);
                let step = interval / 10;
                let len_max = period.as_nanos() / step.as_nanos() + 1;
                let len_max =
                    u64::try_from(len_max).expect("a period has fewer than 2^64 steps of a millisecond");
                let mut samples = Samples { runs: VecDeque::new(), len: 0, len_max };
                samples.push(current, 1);
                (Mode::Periodic { interval, samples, next_compaction: now + period }, step)
            }
            AutoCompaction::Revision(retention) => (Mode::Revision { retention }, REVISION_INTERVAL),
        };
        let step = step.as_nanos() as u64;
        let mut compactor = Self { mode, step, next_tick: Some(now), compacted: Revision::new(0) };
        compactor.next_tick = compactor.tick_after(1);
        Some(compactor)
    }

    /// Returns the next tick that compacts if the revision stays `current`.
    fn next_compaction(&self, current: Revision) -> Option<Timestamp> {
        let next = self.next_tick?;
        let ticks = match &self.mode {
            Mode::Periodic { samples, next_compaction, .. } => {
                let until_due =
                    next_compaction.as_nanos().saturating_sub(next.as_nanos()).div_ceil(self.step);
                until_due.max(samples.pushes_until_oldest_is_not(self.compacted, current)?)
            }
            Mode::Revision { .. } => self.due(current, next).map(|_| 0)?,
        };
        self.tick_after(ticks)
    }

    /// What to compact now, at a tick.
    fn due(&self, current: Revision, now: Timestamp) -> Option<Revision> {
        let revision = match &self.mode {
            Mode::Periodic { samples, next_compaction, .. } => {
                samples.oldest().filter(|_| now >= *next_compaction)?
            }
            Mode::Revision { retention } => Revision::new(current.get().saturating_sub_unsigned(*retention)),
        };
        Some(revision).filter(|revision| revision.get() > 0 && *revision != self.compacted)
    }

    /// Notes that the revision that was due is compacted.
    fn compacted(&mut self, revision: Revision, now: Timestamp) {
        self.compacted = revision;
        if let Mode::Periodic { interval, next_compaction, .. } = &mut self.mode {
            *next_compaction = now + *interval;
        }
    }

    /// Takes the samples of the ticks up to `now`.
    fn sample_until(&mut self, current: Revision, now: Timestamp) {
        let Some(next) = self.next_tick.filter(|&next| next <= now) else {
            return;
        };
        let ticks = (now.as_nanos() - next.as_nanos()) / self.step + 1;
        if let Mode::Periodic { samples, .. } = &mut self.mode {
            samples.push(current, ticks);
        }
        self.next_tick = self.tick_after(ticks);
    }

    /// Returns the tick that is `ticks` after the next one; `None` at the end of time.
    fn tick_after(&self, ticks: u64) -> Option<Timestamp> {
        let passed = ticks.checked_mul(self.step)?;
        let nanos = self.next_tick?.as_nanos().checked_add(passed)?;
        Some(Timestamp::from_nanos(nanos)).filter(|&tick| tick != Timestamp::MAX)
    }
}

impl Samples {
    fn oldest(&self) -> Option<Revision> {
        self.runs.front().map(|&(revision, _)| revision)
    }

    /// Adds `count` samples of a revision that is not below the newest, and drops the oldest above `len_max`.
    fn push(&mut self, revision: Revision, count: u64) {
        let count = count.min(self.len_max);
        match self.runs.back_mut().filter(|(newest, _)| *newest == revision) {
            Some((_, run)) => *run += count,
            None => self.runs.push_back((revision, count)),
        }
        self.len += count;
        while self.len > self.len_max {
            let (_, run) =
                self.runs.front_mut().expect("a window with more samples than `len_max` has a run");
            let dropped = (*run).min(self.len - self.len_max);
            *run -= dropped;
            self.len -= dropped;
            if *run == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Returns how many samples of `current` must be added until the oldest sample is not `revision`; `None` if no number
    /// suffices.
    fn pushes_until_oldest_is_not(&self, revision: Revision, current: Revision) -> Option<u64> {
        let &(oldest, run) = self.runs.front()?;
        if oldest != revision {
            return Some(0);
        }
        let is_last = self.runs.len() == 1 && current == revision;
        (!is_last).then(|| self.len_max - self.len + run)
    }
}

impl Engine {
    /// Returns the next deadline of the compactor. A command may change it.
    pub(super) fn next_auto_compaction(&self) -> Option<Timestamp> {
        let compactor = self.auto_compactor.as_ref()?;
        compactor.next_compaction(self.keys.current()).filter(|_| !self.is_corrupt())
    }

    /// Does what is due at a tick of the compactor.
    pub(super) fn auto_compact(&mut self) {
        let (now, current, is_corrupt) = (self.now, self.keys.current(), self.is_corrupt());
        let Some(compactor) = &mut self.auto_compactor else {
            return;
        };
        if let Some(revision) = compactor.due(current, now).filter(|_| !is_corrupt)
            && !matches!(self.keys.compact(revision), Err(Error::FutureRevision { .. }))
        {
            compactor.compacted(revision, now);
        }
        compactor.sample_until(current, now);
    }

    /// Takes the samples of the compactor's ticks up to `until`. None of these ticks compacts.
    pub(super) fn pass_idle_ticks(&mut self, until: Timestamp) {
        let current = self.keys.current();
        if let Some(compactor) = &mut self.auto_compactor {
            compactor.sample_until(current, until);
        }
    }

    /// Returns whether the CORRUPT alarm is active, which blocks compaction (R-MNT-8).
    fn is_corrupt(&self) -> bool {
        self.alarms.check(|| true, || false).is_err()
    }
}
