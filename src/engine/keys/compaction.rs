//! Compaction, which takes effect at once. The memory of compacted versions is reclaimed later, in bounded pieces.
//!
//! Reclaiming walks through history in order. At each change up to the compacted revision, the version that the change
//! superseded is dropped. A change below the compacted revision leaves history. A tombstone below the compacted
//! revision also leaves the versions of its key (R-CMP-2). A key without versions is removed.
//!
//! The work of a compaction is proportional to the number of changes between the previous and the new compacted
//! revision. The number of keys does not matter.

use std::collections::VecDeque;
use std::time::Duration;

use super::key_space::KeySpace;
use crate::Result;
use crate::api::{AutoCompaction, KeyValue, Revision, Timestamp};

/// The maximum number of versions that one call of `reclaim` reclaims.
pub(in crate::engine) const RECLAIM_MAX: usize = 256;

impl KeySpace {
    /// Sets the compacted revision, below which reads fail from now on (R-CMP-1). Later calls of `reclaim` free the
    /// memory.
    pub(in crate::engine) fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted_or_minus_one() {
            return Err(self.compacted_error(revision));
        }
        self.check_not_future(revision)?;
        self.compacted = Some(revision);
        self.reclaiming = true;
        Ok(())
    }

    /// Reclaims up to [`RECLAIM_MAX`] versions, and returns how many. Moves the removed versions and changes into
    /// `garbage`, so that the caller chooses when to drop the records.
    pub(in crate::engine) fn reclaim(&mut self, garbage: &mut Vec<KeyValue>) -> usize {
        let Some(compacted) = self.compacted().filter(|_| self.reclaiming) else {
            return 0;
        };
        let before = self.versions();
        let mut walked = 0;
        // Each step drops at most two versions: a superseded version and a tombstone.
        while walked < RECLAIM_MAX / 2 && self.reclaim_next(compacted, garbage) {
            walked += 1;
        }
        // The loop ends early only after a step that found no change, and then nothing is left to reclaim.
        self.reclaiming = walked == RECLAIM_MAX / 2;
        let reclaimed = (before - self.versions()) as usize;
        assert!(
            reclaimed <= RECLAIM_MAX,
            "a step reclaims two versions at most: a superseded version and a tombstone"
        );
        reclaimed
    }

    /// Processes one change of history. Returns false if no change up to the compacted revision is left to process.
    fn reclaim_next(&mut self, compacted: Revision, garbage: &mut Vec<KeyValue>) -> bool {
        let start = self.history.start();
        debug_assert!(self.reclaimed >= start, "`reclaimed` is at or after the start of history");
        // Two positions advance through history. `start` is the oldest change, which leaves history if it is below the
        // compacted revision. `reclaimed` is the first change whose superseded versions are still held. The position
        // `reclaimed` runs ahead of `start`, because the changes of the compacted revision itself stay in history.
        let below = self.history.get(start).is_some_and(|kv| kv.mod_revision() < compacted);
        let position = if below { start } else { self.reclaimed };
        let Some(kv) = self.history.get(position).filter(|kv| kv.mod_revision() <= compacted).cloned() else {
            return false;
        };
        // Drop the superseded versions only at the first visit of a change. A change at an earlier compacted revision
        // was visited by the compaction to that revision, and stayed in history.
        if position == self.reclaimed {
            self.reclaim_superseded(&kv, garbage);
            self.reclaimed += 1;
        }
        if below {
            self.reclaim_tombstone(&kv, garbage);
            garbage.extend(self.history.pop_front());
        }
        true
    }

    /// Moves the versions of a change's key that are older than the change into `garbage`.
    fn reclaim_superseded(&mut self, kv: &KeyValue, garbage: &mut Vec<KeyValue>) {
        let slot =
            self.index.find(kv.key()).expect("a change at or after `reclaimed` is a version of its key");
        while let Some(version) = self.index.pop_oldest(slot, |oldest| !oldest.same_record(kv)) {
            self.uncount_version(&version);
            garbage.push(version);
        }
    }

    /// Drops the change from its key's versions if the change is a tombstone. The tombstone must be the oldest version
    /// of the key.
    fn reclaim_tombstone(&mut self, kv: &KeyValue, garbage: &mut Vec<KeyValue>) {
        if !kv.is_tombstone() {
            return;
        }
        let Some(slot) = self.index.find(kv.key()) else {
            return;
        };
        // The tombstone is the only version of the key, so remove the key too.
        if self.slot(slot).newest().same_record(kv) {
            self.uncount_version(kv);
            garbage.push(self.purge(slot));
        } else if let Some(version) = self.index.pop_oldest(slot, |oldest| oldest.same_record(kv)) {
            self.uncount_version(kv);
            garbage.push(version);
        }
    }
}

/// The shortest period of periodic compaction, to which a shorter period is raised. A busy machine could not run the
/// ticks of a shorter period in time.
const PERIOD_MIN: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The interval between the compactor's ticks in revision mode (R-CMP-7).
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Decides when an engine compacts automatically, and to which revision (R-CMP-7, R-CMP-8).
///
/// etcd's compactor ticks at fixed intervals. A tick compacts if a compaction is due and, in periodic mode, samples the
/// current revision. Most ticks do not compact.
///
/// While the revision does not change, the samples of the following ticks are known in advance. Only the next tick that
/// compacts is therefore a deadline, and `Engine::advance` takes the samples of all ticks before that tick in one step.
#[derive(Clone, Debug)]
pub(in crate::engine) struct AutoCompactor {
    mode: Mode,
    /// The interval between ticks, in nanoseconds.
    step: u64,
    /// The next tick, or `None` if that tick would be at or after `Timestamp::MAX`.
    next_tick: Option<Timestamp>,
    /// The revision of the last compaction by this compactor.
    compacted: Revision,
}

#[derive(Clone, Debug)]
enum Mode {
    Periodic {
        /// The interval between compactions after the first one.
        interval: Duration,
        samples: Samples,
        next_compaction: Timestamp,
    },
    Revision {
        retention: u64,
    },
}

/// The last `len_max` samples of the revision, oldest first. Consecutive equal samples are stored as one run.
#[derive(Clone, Debug)]
struct Samples {
    /// The sampled revisions in ascending order, each with the number of samples that have this revision.
    runs: VecDeque<(Revision, u64)>,
    len: u64,
    len_max: u64,
}

impl AutoCompactor {
    /// Returns a compactor that starts at `now`, when the store's revision is `current`. Returns `None` if the period
    /// or the retention of `mode` is 0.
    pub(in crate::engine) fn new(mode: AutoCompaction, current: Revision, now: Timestamp) -> Option<Self> {
        let (mode, step) = match mode {
            AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revision(0) => return None,
            AutoCompaction::Periodic(period) => {
                let period = period.max(PERIOD_MIN);
                let interval = period.min(HOUR);
                let step = interval / 10;
                // Keep one sample more than the period has steps, so that the oldest sample is a whole period old
                // (R-CMP-8).
                let len_max = period.as_nanos() / step.as_nanos() + 1;
                let len_max = u64::try_from(len_max)
                    .expect("a period has fewer than 2^64 steps of at least a millisecond");
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
    pub(in crate::engine) fn next_compaction(&self, current: Revision) -> Option<Timestamp> {
        let next = self.next_tick?;
        let ticks = match &self.mode {
            Mode::Periodic { samples, next_compaction, .. } => {
                // The number of ticks until `next_compaction`, rounded up. The oldest sample must also differ from the
                // last compacted revision.
                let until_due =
                    next_compaction.as_nanos().saturating_sub(next.as_nanos()).div_ceil(self.step);
                until_due.max(samples.pushes_until_oldest_is_not(self.compacted, current)?)
            }
            Mode::Revision { .. } => self.due(current, next).map(|_| 0)?,
        };
        self.tick_after(ticks)
    }

    /// Returns the revision to compact to at the tick `now`, or `None` if no compaction is due.
    pub(in crate::engine) fn due(&self, current: Revision, now: Timestamp) -> Option<Revision> {
        let revision = match &self.mode {
            Mode::Periodic { samples, next_compaction, .. } => {
                samples.oldest().filter(|_| now >= *next_compaction)?
            }
            Mode::Revision { retention } => Revision::new(current.get().saturating_sub_unsigned(*retention)),
        };
        Some(revision).filter(|revision| revision.get() > 0 && *revision != self.compacted)
    }

    /// Records that the engine compacted to `revision`, the result of `due`, at the time `now`.
    pub(in crate::engine) fn compacted(&mut self, revision: Revision, now: Timestamp) {
        self.compacted = revision;
        if let Mode::Periodic { interval, next_compaction, .. } = &mut self.mode {
            *next_compaction = now + *interval;
        }
    }

    /// Passes all ticks at or before `now`. In periodic mode, samples the revision `current` once for each of these
    /// ticks.
    pub(in crate::engine) fn sample_until(&mut self, current: Revision, now: Timestamp) {
        let Some(next) = self.next_tick.filter(|&next| next <= now) else {
            return;
        };
        let ticks = (now.as_nanos() - next.as_nanos()) / self.step + 1;
        if let Mode::Periodic { samples, .. } = &mut self.mode {
            samples.push(current, ticks);
        }
        self.next_tick = self.tick_after(ticks);
    }

    /// Returns the tick that is `ticks` ticks after the next tick, or `None` if it would be at or after
    /// `Timestamp::MAX`.
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

    /// Adds `count` samples of a revision, and drops the oldest samples beyond `len_max`. The revision must not be
    /// below the newest sample.
    fn push(&mut self, revision: Revision, count: u64) {
        // More samples than the window holds would only push each other out.
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

    /// Returns how many samples of `current` must be added until the oldest sample differs from `revision`, or `None`
    /// if no number of samples suffices.
    fn pushes_until_oldest_is_not(&self, revision: Revision, current: Revision) -> Option<u64> {
        let &(oldest, run) = self.runs.front()?;
        if oldest != revision {
            return Some(0);
        }
        let is_last = self.runs.len() == 1 && current == revision;
        // The window must first fill up. In a full window, each new sample pushes out one sample of the oldest run.
        (!is_last).then(|| self.len_max - self.len + run)
    }
}
