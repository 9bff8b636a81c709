//! Deciding when a store compacts by itself, and to which revision (R-CMP-7, R-CMP-8).

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
    /// None once time has come to its end.
    pub(super) next_tick: Option<Timestamp>,
    /// The revision last compacted from here.
    compacted: Revision,
}

#[derive(Clone, Debug)]
enum Mode {
    Periodic {
        step: Duration,
        /// Between compactions, once the first has been made.
        interval: Duration,
        samples: VecDeque<Revision>,
        samples_max: usize,
        next_compaction: Timestamp,
    },
    Revision {
        retention: u64,
    },
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
                let samples_max =
                    usize::try_from(period.as_nanos() / step.as_nanos()).unwrap_or(usize::MAX - 1) + 1;
                let (samples, next_compaction) = (VecDeque::from([current]), now + period);
                (Mode::Periodic { step, interval, samples, samples_max, next_compaction }, step)
            }
            AutoCompaction::Revision(retention) => (Mode::Revision { retention }, REVISION_INTERVAL),
        };
        Some(Self { mode, next_tick: after(now, step), compacted: Revision::new(0) })
    }

    /// What to compact now, at a tick.
    pub(super) fn due(&self, current: Revision, now: Timestamp) -> Option<Revision> {
        let revision = match &self.mode {
            Mode::Periodic { samples, next_compaction, .. } => {
                *samples.front().filter(|_| now >= *next_compaction)?
            }
            Mode::Revision { retention } => Revision::new(current.get().saturating_sub_unsigned(*retention)),
        };
        Some(revision).filter(|revision| revision.get() > 0 && *revision != self.compacted)
    }

    /// Notes that the revision that was due is compacted.
    pub(super) fn compacted(&mut self, revision: Revision, now: Timestamp) {
        self.compacted = revision;
        if let Mode::Periodic { interval, next_compaction, .. } = &mut self.mode {
            *next_compaction = now + *interval;
        }
    }

    /// Ends a tick: samples the revision, and sets the next one.
    pub(super) fn tick(&mut self, current: Revision, now: Timestamp) {
        let step = match &mut self.mode {
            Mode::Periodic { step, samples, samples_max, .. } => {
                if samples.len() == *samples_max {
                    samples.pop_front();
                }
                samples.push_back(current);
                *step
            }
            Mode::Revision { .. } => REVISION_INTERVAL,
        };
        self.next_tick = after(now, step);
    }
}

fn after(now: Timestamp, step: Duration) -> Option<Timestamp> {
    Some(now + step).filter(|&next| next != Timestamp::MAX)
}

impl Engine {
    /// Does what is due at a tick of the compactor.
    pub(super) fn auto_compact(&mut self) {
        let (now, current) = (self.now, self.keys.current());
        let Some(compactor) = &mut self.auto_compactor else {
            return;
        };
        if let Some(revision) = compactor.due(current, now) {
            let corrupt = self.alarms.check(|| true, || false).is_err();
            if !corrupt && !matches!(self.keys.compact(revision), Err(Error::FutureRevision { .. })) {
                compactor.compacted(revision, now);
            }
        }
        compactor.tick(current, now);
    }
}
