//! The invariants of an engine, checked by recomputing all derived state.

use std::collections::BTreeMap;

use super::Engine;
use super::keys::history::follows;
use super::keys::key_index::SlotId;
use crate::api::{LeaseId, Revision, Timestamp};

impl Engine {
    /// Checks the invariants by recomputing all derived state, for tests. Visits every version, key, lease and watcher.
    ///
    /// 1. The hash index and the ordered index map each key to the same slot.
    /// 2. The versions of a key ascend by revision, and each version continues or ends the generation of the version
    ///    before it, or begins a generation.
    /// 3. The changes in history ascend by revision, and by position in a revision, without gaps. Only a revision that
    ///    was the compacted revision at a save may lack positions, since the save omits the changes that the compaction
    ///    dropped. Above the compacted revision, history and the keys have the same versions. The current revision is
    ///    the highest revision in history, or the compacted revision if that is higher.
    /// 4. The counts of keys, versions and bytes equal a recount.
    /// 5. Between two calls, no transaction is open.
    /// 6. The list of keys of a lease has exactly the existing keys attached to the lease, each once and at the
    ///    position that the key stores.
    /// 7. The table of deadlines has the deadline of each lease without a standing keep-alive, and no other deadline.
    /// 8. No lease outlives its deadline.
    /// 9. The watch index has all synced watchers and no other watchers. Each stream lists its unsynced watchers.
    /// 10. The number of a watcher's queued responses with events is at most the watcher's capacity.
    /// 11. The queue of a stream is empty if its last `receive` returned false and the stream got no delivery since. A
    ///     ready stream is in the list of ready streams once.
    /// 12. The tables of timers, progress ticks and awaited start revisions have the entries that the open streams
    ///     store, and no others. Each stream counts its watchers that requested progress notifications and that no
    ///     compaction has cancelled.
    /// 13. An index by create revision has the keys of its range that exist, and no other keys.
    /// 14. The streams listed under a lease are the streams that requested a notification of the lease's end.
    ///
    /// ```
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&("config/mode", "blue").into())?;
    /// engine.check_invariants();
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If an invariant does not hold. The message contains the number of the invariant.
    pub fn check_invariants(&self) {
        self.check_index();
        self.check_create_orders();
        self.check_versions();
        self.check_history();
        self.check_counters();
        self.check_attachments();
        self.check_leases();
        self.hub.check();
    }

    fn check_index(&self) {
        assert!(self.keys.index.is_consistent(), "invariant 1: both indexes map each key to its slot");
    }

    fn check_create_orders(&self) {
        for (range, kept) in self.keys.create_order.iter() {
            let live = self.keys.index.range(range).filter_map(|slot| self.keys.slot(slot).live());
            let keys = live.map(|kv| (kv.create_revision(), kv.key().into())).collect();
            assert_eq!(*kept, keys, "invariant 13: a create order has the keys of its range that exist");
        }
    }

    fn check_versions(&self) {
        for (key, slot) in self.keys.index.iter() {
            let versions: Vec<_> = self.keys.slot(slot).versions().collect();
            for pair in versions.windows(2) {
                let (earlier, later) = (pair[0], pair[1]);
                let ordered = (earlier.mod_revision(), earlier.sub()) < (later.mod_revision(), later.sub());
                assert!(ordered, "invariant 2: versions of a key ascend by revision");
                assert!(
                    follows(earlier, &later.fields()),
                    "invariant 2: a version continues its generation or begins one"
                );
            }
            for kv in versions {
                assert_eq!(kv.key(), key, "invariant 2: a version has the key of its slot");
                assert!(
                    kv.mod_revision() <= self.keys.current(),
                    "invariant 2: no version is above the current revision"
                );
                let created = kv.create_revision() == kv.mod_revision();
                assert!(
                    kv.is_tombstone() || created == (kv.version() == 1),
                    "invariant 2: version 1 is the version at the create revision"
                );
            }
        }
    }

    fn check_history(&self) {
        let history = &self.keys.history;
        let compacted = self.keys.compacted_or_minus_one();
        let mut before: Option<(Revision, u32)> = None;
        let mut count = 0;
        for kv in history.iter_from(history.start()) {
            let at = (kv.mod_revision(), kv.sub());
            let follows = match before {
                // The oldest change in history is at or below the compacted revision, or is the first change of the
                // next revision. `LoadOptions::bump_revision` compacts to a revision that has no change.
                None => at.0 <= compacted || at == (compacted.max(Revision::new(1)).next(), 0),
                // A save omits the changes that a compaction dropped from the compacted revision, so a loaded history
                // may skip positions in the compacted revision.
                Some((revision, sub)) if at.0 <= compacted => {
                    at.0 == revision && at.1 > sub || at.0 == revision.next()
                }
                Some((revision, sub)) => at == (revision, sub + 1) || at == (revision.next(), 0),
            };
            assert!(follows, "invariant 3: history ascends without gaps");
            before = Some(at);
            count += 1;
            if kv.mod_revision() > compacted {
                let slot = self.keys.index.find(kv.key()).map(|slot| self.keys.slot(slot));
                let held = slot.is_some_and(|slot| slot.versions().any(|version| version.same_record(kv)));
                assert!(
                    held,
                    "invariant 3: each change above the compacted revision is a version of its key"
                );
            }
        }
        assert_eq!(count, history.end() - history.start(), "invariant 3: history holds each position");
        let newest = before.map_or(Revision::new(1), |(revision, _)| revision);
        assert_eq!(
            self.keys.current(),
            newest.max(compacted),
            "invariant 3: the current revision is the newest in history or the compacted one"
        );
        for (_, slot) in self.keys.index.iter() {
            for kv in self.keys.slot(slot).versions().filter(|kv| kv.mod_revision() > compacted) {
                // Above the compacted revision no change is missing, so `sub` is the offset from the first change of
                // the revision.
                let position = history.position_of(kv.mod_revision()) + u64::from(kv.sub());
                let found = history.get(position).is_some_and(|change| change.same_record(kv));
                assert!(found, "invariant 3: each version above the compacted revision is in history");
            }
        }
    }

    fn check_counters(&self) {
        let (counted, recounted) = self.keys.recount();
        assert_eq!(counted, recounted, "invariant 4: the counters equal a recount");
        assert_eq!(
            self.keys.header_revision(),
            self.keys.current(),
            "invariant 5: no transaction is open between calls"
        );
    }

    fn check_attachments(&self) {
        let mut attached: BTreeMap<LeaseId, Vec<SlotId>> = BTreeMap::new();
        for (_, slot) in self.keys.index.iter() {
            let Some(kv) = self.keys.slot(slot).live().filter(|kv| kv.lease() != LeaseId::NONE) else {
                continue;
            };
            let keys = self.lessor.get(kv.lease()).map(|lease| lease.keys());
            let place = self.keys.slot(slot).attachment() as usize;
            let named = keys.is_some_and(|keys| keys.get(place) == Some(&slot));
            assert!(
                named,
                "invariant 6: a key with a lease is in the lease's list at the position that the key stores"
            );
            attached.entry(kv.lease()).or_default().push(slot);
        }
        for lease in self.lessor.iter() {
            let count = attached.get(&lease.id).map_or(0, Vec::len);
            assert_eq!(lease.keys().len(), count, "invariant 6: a lease lists only the keys attached to it");
        }
    }

    fn check_leases(&self) {
        assert!(
            self.lessor.is_consistent(),
            "invariant 7: the table of deadlines has the deadline of each lease that has one, and no other"
        );
        // A deadline beyond `Timestamp::MAX` was clamped to `MAX`, so a lease may outlive the clamped deadline.
        let is_overdue = |deadline| deadline <= self.now && deadline != Timestamp::MAX;
        let overdue = self.lessor.next_deadline().is_some_and(is_overdue);
        assert!(!overdue, "invariant 8: no lease outlives its deadline");
    }
}
