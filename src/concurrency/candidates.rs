//! Who stands in an election, as far as it was told.

use std::collections::BTreeMap;

use crate::api::{Event, EventType, KeyValue, Revision};

/// The keys of an election.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    created: BTreeMap<Vec<u8>, Revision>,
    /// By rank: those of one txn by their keys (R-RNG-8).
    ranked: BTreeMap<(Revision, Vec<u8>), KeyValue>,
}

impl Candidates {
    pub(super) fn new(kvs: &[KeyValue]) -> Self {
        let mut candidates = Self::default();
        kvs.iter().for_each(|kv| candidates.put(kv));
        candidates
    }

    pub(super) fn leader(&self) -> Option<&KeyValue> {
        self.ranked.first_key_value().map(|(_, kv)| kv)
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event.event_type() {
            EventType::Put => self.put(event.kv()),
            EventType::Delete => self.remove(event.kv().key()),
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        // One that was deleted and put again has another rank.
        self.remove(kv.key());
        self.created.insert(kv.key().to_vec(), kv.create_revision());
        self.ranked.insert((kv.create_revision(), kv.key().to_vec()), kv.clone());
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, created)) = self.created.remove_entry(key) {
            self.ranked.remove(&(created, key));
        }
    }
}
