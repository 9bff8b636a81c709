//! One number for everything that an engine's answers can depend on.

use super::Engine;
use super::lease::Renewal;

impl Engine {
    /// A hash of the state: time, revisions, every version that can be read, leases, alarms, watch streams with what they have
    /// not received, and what is to come by itself. Equal in two engines that were given the same commands, whatever their hash
    /// seeds and however much of a compaction either has reclaimed; a refused command leaves it unchanged. Not so with a quota:
    /// what is held then decides answers, so what is yet to be reclaimed counts, and a command that the quota refuses raises its
    /// alarm.
    ///
    /// For comparing within one version of this crate; it visits all that is held.
    pub fn state_hash(&self) -> u64 {
        let mut hash = Fnv1a::new();
        hash.number(self.now.as_nanos());
        hash.number(self.keys.current().get().cast_unsigned());
        hash.number(self.keys.floor().get().cast_unsigned());
        if self.limits.quota_bytes.is_some() {
            hash.number(self.bytes_held_for_quota());
        }
        self.hash_keys(&mut hash);
        self.hash_leases(&mut hash);
        for alarm in self.alarms.iter() {
            hash.number(alarm.member_id);
            hash.number(alarm.alarm as u64);
        }
        self.hub.describe(self.now, |text| hash.bytes(text.as_bytes()));
        if let Some(compactor) = &self.auto_compactor {
            hash.bytes(format!("{compactor:?}").as_bytes());
        }
        hash.0
    }

    fn hash_keys(&self, hash: &mut Fnv1a) {
        for (key, slot) in self.keys.index.iter() {
            for kv in self.keys.slot(slot).retained(self.keys.floor()) {
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
        let mut leases: Vec<_> = self.lessor.iter().collect();
        leases.sort_by_key(|lease| lease.id);
        for lease in leases {
            hash.number(lease.id.get().cast_unsigned());
            hash.number(lease.ttl.as_nanos() as u64);
            hash.number(lease.sequence);
            let (kind, at) = match lease.renewal {
                Renewal::ByHand { deadline } => (0, deadline),
                Renewal::Standing { .. } => (1, lease.deadline(self.now)),
            };
            hash.number(kind);
            hash.number(at.as_nanos());
        }
    }
}

/// The 64-bit FNV-1a hash: the same everywhere, and good enough to tell two states apart.
struct Fnv1a(u64);

impl Fnv1a {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
