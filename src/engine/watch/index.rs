//! The index from a key to the synced watchers whose range contains the key. The synced watchers of one range form a
//! topic.

use crate::api::{KeyRange, StreamId, WatchId};
use crate::engine::Diagnostics;
use crate::engine::tables::hash_index::{HashIndex, KeyHasher};
use crate::engine::tables::interval_tree::IntervalTree;
use crate::engine::tables::shrink;
use crate::engine::tables::slab::Slab;

#[derive(Clone, Debug)]
pub(super) struct WatchIndex {
    hasher: KeyHasher,
    /// The slots in `singles`, by the hash of the topic's key.
    by_hash: HashIndex<()>,
    /// The topics of ranges that are a single key.
    singles: Slab<Single>,
    /// The topics of ranges that are intervals.
    intervals: IntervalTree<Members>,
}

/// The topic of a single key.
#[derive(Clone, Debug)]
struct Single {
    key: Box<[u8]>,
    members: Members,
}

/// The watchers of a topic in the order of delivery, each with its slot in `WatchHub::watchers`.
type Members = Vec<(WatcherKey, u32)>;

/// The stream and id of a watcher. The events of a revision are delivered in ascending order of this key (R-WCH-15).
pub(super) type WatcherKey = (StreamId, WatchId);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TopicId {
    Single(u32),
    Interval(u32),
}

impl WatchIndex {
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self {
            by_hash: HashIndex::new(),
            singles: Slab::new(),
            intervals: IntervalTree::new(hasher.clone()),
            hasher,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.singles.len() + self.intervals.len() == 0
    }

    /// Calls `found` with each topic whose range contains a key.
    pub(super) fn of_key(&self, key: &[u8], mut found: impl FnMut(TopicId)) {
        // Do not hash the key if no synced watcher watches a single key.
        if self.singles.len() > 0
            && let Some(single) = self.find_single(self.hasher.bytes(key), key)
        {
            found(TopicId::Single(single));
        }
        self.intervals.containing(key, &mut |interval| found(TopicId::Interval(interval)));
    }

    pub(super) fn members(&self, topic: TopicId) -> &[(WatcherKey, u32)] {
        match topic {
            TopicId::Single(single) => &self.singles.at(single).members,
            TopicId::Interval(interval) => self.intervals.at(interval),
        }
    }

    fn find_single(&self, hash: u32, key: &[u8]) -> Option<u32> {
        let (single, ()) = self.by_hash.find(hash, |single, ()| *self.singles.at(single).key == *key)?;
        Some(single)
    }

    /// Adds a watcher to the topic of a range, and returns the topic.
    pub(super) fn join(&mut self, range: &KeyRange, member: WatcherKey, watcher: u32) -> TopicId {
        let topic = if range.is_single() {
            let hash = self.hasher.bytes(range.start());
            let found = self.find_single(hash, range.start());
            TopicId::Single(found.unwrap_or_else(|| self.insert_single(hash, range.start())))
        } else {
            TopicId::Interval(self.intervals.find_or_insert(range))
        };
        let members = self.members_mut(topic);
        if members.is_empty() {
            // Most topics have one watcher, and `Vec` would reserve room for four.
            members.reserve_exact(1);
        }
        let at = members.partition_point(|(earlier, _)| *earlier < member);
        members.insert(at, (member, watcher));
        topic
    }

    fn insert_single(&mut self, hash: u32, key: &[u8]) -> u32 {
        let single = self.singles.insert(Single { key: key.into(), members: Vec::new() });
        self.by_hash.insert(hash, single, ());
        single
    }

    /// Removes a watcher from a topic, and the topic from the index if the topic is then empty.
    pub(super) fn leave(&mut self, topic: TopicId, member: WatcherKey) {
        let members = self.members_mut(topic);
        let at = members.binary_search_by_key(&member, |(member, _)| *member);
        members.remove(at.expect("a synced watcher is in its topic"));
        shrink(members);
        self.remove_if_empty(topic);
    }

    /// Removes several watchers from a topic in one pass, and the topic from the index if the topic is then empty.
    /// `leaving` must be in ascending order.
    pub(super) fn leave_all(&mut self, topic: TopicId, leaving: &[WatcherKey]) {
        let members = self.members_mut(topic);
        members.retain(|(member, _)| leaving.binary_search(member).is_err());
        shrink(members);
        self.remove_if_empty(topic);
    }

    fn remove_if_empty(&mut self, topic: TopicId) {
        if !self.members(topic).is_empty() {
            return;
        }
        match topic {
            TopicId::Single(single) => {
                let key = self.singles.remove(single).key;
                self.by_hash.remove(self.hasher.bytes(&key), single);
            }
            TopicId::Interval(interval) => self.intervals.remove(interval),
        }
    }

    fn members_mut(&mut self, topic: TopicId) -> &mut Members {
        match topic {
            TopicId::Single(single) => &mut self.singles.at_mut(single).members,
            TopicId::Interval(interval) => self.intervals.at_mut(interval),
        }
    }

    /// Sets the number of topics and of their slots in `diagnostics`. Adds the capacity of the lists of watchers, and
    /// raises the longest probe if a probe of this index is longer.
    pub(super) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.topics = self.singles.len() + self.intervals.len();
        diagnostics.topic_slots = self.singles.slots() + self.intervals.slots();
        let singles = self.singles.iter().map(|(_, single)| &single.members);
        let members = singles.chain(self.intervals.values());
        diagnostics.list_slots += members.map(Vec::capacity).sum::<usize>();
        diagnostics.longest_probe = diagnostics.longest_probe.max(self.by_hash.longest_probe());
    }

    /// Returns the number of watchers in all topics, or `None` if the tables are inconsistent, for tests.
    pub(super) fn recount(&self) -> Option<usize> {
        let singles: usize = self.singles.iter().map(|(_, single)| single.members.len()).sum();
        let intervals: usize = self.intervals.values().map(Vec::len).sum();
        let is_consistent = self.by_hash.len() == self.singles.len() && self.intervals.is_consistent();
        is_consistent.then_some(singles + intervals)
    }
}
