//! A hash of all state that a later response or delivery can depend on.

use super::Engine;
use super::lease::Renewal;

impl Engine {
    /// Returns a hash of the state, to compare engines within one version of this crate. Visits the whole state.
    ///
    /// The hash covers time, revisions, all readable versions, leases, alarms, watch streams with their unreceived
    /// deliveries, and pending deadlines. The hash is equal in two engines that ran equal calls at equal times, if
    /// their configurations are equal except for the hash seed. Without a quota, the hash does not depend on how much
    /// of a compaction is reclaimed. A command that fails for a reason other than the quota leaves the hash unchanged.
    ///
    /// In an engine with a quota, the number of bytes held affects results, so this number is hashed too, unreclaimed
    /// versions included. A command that the quota rejects activates the NOSPACE alarm, which changes the hash.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Put;
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let mut other = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// assert_eq!(engine.state_hash(), other.state_hash());
    /// engine.put(&Put::new("mode", "blue"))?;
    /// assert_ne!(engine.state_hash(), other.state_hash());
    /// other.put(&Put::new("mode", "blue"))?;
    /// assert_eq!(engine.state_hash(), other.state_hash());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn state_hash(&self) -> u64 {
        let mut hash = Fnv1a::new();
        hash.number(self.now.as_nanos());
        hash.number(self.keys.current().get().cast_unsigned());
        hash.number(self.keys.compacted_or_minus_one().get().cast_unsigned());
        if self.limits.quota_bytes.is_some() {
            hash.number(self.bytes_held_for_quota());
        }
        self.hash_keys(&mut hash);
        self.hash_leases(&mut hash);
        for alarm in self.alarms.iter() {
            hash.number(alarm.member_id);
            hash.number(alarm.alarm as u64);
        }
        self.hub.hash_into(self.now, |text| hash.bytes(text.as_bytes()));
        if let Some(compactor) = &self.auto_compactor {
            hash.bytes(format!("{compactor:?}").as_bytes());
        }
        hash.0
    }

    fn hash_keys(&self, hash: &mut Fnv1a) {
        for (key, slot) in self.keys.index.iter() {
            // Hash only the versions that the compaction retains, so that the hash does not depend on how many other
            // versions are reclaimed.
            for kv in self.keys.slot(slot).retained(self.keys.compacted_or_minus_one()) {
                hash.bytes(key);
                hash.bytes(kv.value());
                hash.number(kv.create_revision().get().cast_unsigned());
                hash.number(kv.mod_revision().get().cast_unsigned());
                hash.number(u64::from(kv.sub()));
                hash.number(kv.version().cast_unsigned());
                hash.number(kv.lease().get().cast_unsigned());
            }
        }
    }

    fn hash_leases(&self, hash: &mut Fnv1a) {
        let (next_id, next_sequence) = self.lessor.counters();
        hash.number(next_id.cast_unsigned());
        hash.number(next_sequence);
        // The order of the slots depends on leases that no longer exist, so sort by id.
        let mut leases: Vec<_> = self.lessor.iter().collect();
        leases.sort_by_key(|lease| lease.id);
        for lease in leases {
            hash.number(lease.id.get().cast_unsigned());
            hash.number(lease.ttl.as_nanos() as u64);
            hash.number(lease.sequence);
            let (kind, at) = match lease.renewal {
                Renewal::ByHand { deadline } => (0, deadline),
                // A save and a load change `since` and `elapsed`, but not the deadline that pausing the keep-alive
                // would set, so hash this deadline.
                Renewal::Standing { .. } => (1, lease.deadline(self.now)),
            };
            hash.number(kind);
            hash.number(at.as_nanos());
        }
    }
}

/// The 64-bit FNV-1a hash. Unlike a hash of std's `RandomState`, an FNV-1a hash is equal in every process.
struct Fnv1a(u64);

impl Fnv1a {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // The length separates adjacent fields: "ab" and "c" must not hash like "a" and "bc".
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
