//! Who stands in an election, as far as it was told.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Event, EventType, KeyValue, Revision};

/// The keys of an election.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_key: BTreeMap<Vec<u8>, KeyValue>,
    /// By rank: those of one txn by their keys (R-RNG-8).
    ranked: BTreeSet<(Revision, Vec<u8>)>,
}

impl Candidates {
    pub(super) fn new(kvs: &[KeyValue]) -> Self {
        let mut candidates = Self::default();
        kvs.iter().for_each(|kv| candidates.put(kv));
        candidates
    }

    pub(super) fn leader(&self) -> Option<&KeyValue> {
        self.ranked.first().and_then(|(_, key)| self.by_key.get(key))
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event.event_type() {
            EventType::Put => self.put(event.kv()),
            EventType::Delete => self.remove(event.kv().key()),
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        if let Some(known) = self.by_key.get_mut(kv.key())
            && known.create_revision() == kv.create_revision()
        {
            *known = kv.clone();
            return;
        }
        // One that was deleted and put again has another rank.
        self.remove(kv.key());
        self.by_key.insert(kv.key().to_vec(), kv.clone());
        self.ranked.insert((kv.create_revision(), kv.key().to_vec()));
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, kv)) = self.by_key.remove_entry(key) {
            self.ranked.remove(&(kv.create_revision(), key));
        }
    }
}
