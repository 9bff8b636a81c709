//! Compaction: taking effect at once, and giving back the memory of what became unreadable, a bounded piece at a time.
//!
//! The history is walked in the order in which it happened. At each change up to the compacted revision, the version
//! that it superseded goes; a tombstone below the compacted revision goes itself, and its key with it if nothing came
//! after; and changes below the compacted revision leave the history (R-CMP-2). So the work is proportional to what
//! was written since the last compaction, not to how many keys there are.

use super::Engine;
use super::key_space::KeySpace;
use super::planted::{Bug, planted};
use crate::Result;
use crate::api::{KeyValue, Revision};

/// No call reclaims more versions than this.
pub(super) const RECLAIM_MAX: usize = 256;

impl Engine {
    /// Does a bounded piece of reclaiming what a compaction made unreadable, and gives the number of versions reclaimed:
    /// 256 at the most, and 0 where the piece had none. Each command that succeeds does the same, so calling it while
    /// [`is_reclaiming`](Self::is_reclaiming) is for those who want the memory back sooner.
    pub fn reclaim(&mut self) -> usize {
        self.garbage.clear();
        self.keys.reclaim(&mut self.garbage)
    }

    /// Whether a compaction may have left something to reclaim.
    #[must_use]
    pub fn is_reclaiming(&self) -> bool {
        self.keys.reclaiming
    }

    /// The records that the last call reclaimed, to be dropped where that disturbs nobody: outside of a lock. What is
    /// not taken is dropped by the next call that reclaims.
    #[must_use]
    pub fn take_garbage(&mut self) -> Vec<KeyValue> {
        std::mem::take(&mut self.garbage)
    }

    /// Does the part of a compaction's reclaiming that falls to each command.
    pub(super) fn reclaim_some(&mut self) {
        if self.keys.reclaiming {
            self.reclaim();
        }
    }
}

impl KeySpace {
    /// Makes `revision` the compacted one. Only what can be read changes here; memory is reclaimed later (R-CMP-1).
    pub(super) fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.floor() {
            return Err(self.compacted_error(revision));
        }
        self.check_not_future(revision)?;
        self.compacted = Some(revision);
        self.reclaiming = true;
        Ok(())
    }

    /// Reclaims up to [`RECLAIM_MAX`] versions. What is freed goes into `garbage`, to be dropped by the caller when it
    /// likes; so does the history's handle to it. Gives the number of versions.
    pub(super) fn reclaim(&mut self, garbage: &mut Vec<KeyValue>) -> usize {
        let Some(compacted) = self.compacted().filter(|_| self.reclaiming) else {
            return 0;
        };
        let before = self.versions();
        let mut walked = 0;
        while walked < RECLAIM_MAX / 2 && self.reclaim_next(compacted, garbage) {
            walked += 1;
        }
        self.reclaiming = walked == RECLAIM_MAX / 2;
        let reclaimed = (before - self.versions()) as usize;
        assert!(
            reclaimed <= RECLAIM_MAX,
            "a change supersedes one version of its key, so two go at the most"
        );
        reclaimed
    }

    /// Walks over one change. Gives false when there is none left.
    fn reclaim_next(&mut self, compacted: Revision, garbage: &mut Vec<KeyValue>) -> bool {
        let start = self.history.start();
        debug_assert!(
            self.reclaimed >= start,
            "a change leaves history only after what it superseded is reclaimed"
        );
        let below = self.history.get(start).is_some_and(|kv| kv.mod_revision() < compacted);
        let position = if below { start } else { self.reclaimed };
        let Some(kv) = self.history.get(position).filter(|kv| kv.mod_revision() <= compacted).cloned() else {
            return false;
        };
        if position == self.reclaimed {
            self.reclaim_superseded(&kv, garbage);
            self.reclaimed += 1;
        }
        if below {
            self.reclaim_tombstone(&kv, garbage);
            garbage.extend(self.history.pop_front());
        } else if planted(Bug::CompactionDropsTombstone) {
            self.reclaim_tombstone(&kv, garbage);
        }
        true
    }

    /// Drops the versions of the change's key that came before it.
    fn reclaim_superseded(&mut self, kv: &KeyValue, garbage: &mut Vec<KeyValue>) {
        let slot = self.index.find(kv.key()).expect("a change not yet reclaimed is among its key's versions");
        while let Some(version) = self.index.pop_oldest(slot, |oldest| !oldest.same_record(kv)) {
            self.uncount_version(&version);
            garbage.push(version);
        }
        if planted(Bug::CompactionDropsLatest)
            && let Some(version) = self.index.pop_oldest(slot, |_| true)
        {
            self.uncount_version(&version);
        }
    }

    /// Drops the change from its key's versions if it is a tombstone, of which it is then the first.
    fn reclaim_tombstone(&mut self, kv: &KeyValue, garbage: &mut Vec<KeyValue>) {
        if !kv.is_tombstone() {
            return;
        }
        let Some(slot) = self.index.find(kv.key()) else {
            return;
        };
        if self.slot(slot).newest().same_record(kv) {
            self.uncount_version(kv);
            garbage.push(self.purge(slot));
        } else if let Some(version) = self.index.pop_oldest(slot, |oldest| oldest.same_record(kv)) {
            self.uncount_version(kv);
            garbage.push(version);
        }
    }
}
