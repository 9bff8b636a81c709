//! Keys and values from a fixed seed.

use std::sync::Arc;

use bytes::Bytes;

const VALUE_LEN: usize = 64;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The random number generator SplitMix64.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // The upper half of the product, which needs no division.
        ((u128::from(self.word()) * end as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        // Fisher-Yates.
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The keys of a workload, and a source of arguments for its calls.
#[derive(Clone)]
pub struct Stock {
    /// Distinct keys in random order.
    keys: Arc<[Vec<u8>]>,
    rng: Rng,
}

impl Stock {
    /// Creates keys of 8 to 32 bytes.
    pub fn new(count: usize) -> Self {
        Self::build(count, |rng, key| {
            for _ in 0..8 + rng.below(25) {
                key.push(ALPHABET[rng.below(ALPHABET.len())]);
            }
        })
    }

    /// Creates keys of `/registry/pods/namespace-NNN/` and 8 to 32 bytes.
    pub fn with_common_prefix(count: usize) -> Self {
        Self::build(count, |rng, key| {
            key.extend_from_slice(format!("/registry/pods/namespace-{:03}/", rng.below(1000)).as_bytes());
            for _ in 0..8 + rng.below(25) {
                key.push(ALPHABET[rng.below(ALPHABET.len())]);
            }
        })
    }

    /// Creates keys that lie between the prefixes `{stem}00000/`, `{stem}00001/` and so on, and under none of them.
    pub fn between_prefixes(count: usize, stem: &str, prefixes: usize) -> Self {
        Self::build(count, |rng, key| {
            key.extend_from_slice(format!("{stem}{:05}.", rng.below(prefixes)).as_bytes());
            for _ in 0..8 + rng.below(9) {
                key.push(ALPHABET[rng.below(ALPHABET.len())]);
            }
        })
    }

    fn build(count: usize, extend: impl Fn(&mut Rng, &mut Vec<u8>)) -> Self {
        let mut rng = Rng::new(1);
        let mut keys = Vec::with_capacity(count);
        // Removing duplicates may leave too few keys. Then add the missing ones.
        while keys.len() < count {
            for _ in keys.len()..count {
                let mut key = Vec::new();
                extend(&mut rng, &mut key);
                keys.push(key);
            }
            keys.sort_unstable();
            keys.dedup();
        }
        rng.shuffle(&mut keys);
        Self { keys: keys.into(), rng }
    }

    /// Removes `count` keys and returns them.
    pub fn split_off(&mut self, count: usize) -> Vec<Bytes> {
        let (taken, left) = self.keys.split_at(count);
        let taken = taken.iter().map(|key| Bytes::copy_from_slice(key)).collect();
        self.keys = left.into();
        taken
    }

    /// Returns every key once, in random order.
    pub fn all(&self) -> Vec<Bytes> {
        self.keys.iter().map(|key| Bytes::copy_from_slice(key)).collect()
    }

    /// Returns every key in ascending order.
    pub fn sorted(&self) -> Vec<Bytes> {
        let mut keys = self.all();
        keys.sort_unstable();
        keys
    }

    /// Returns every key once, in random order, with a value.
    pub fn pairs(&mut self) -> Vec<(Bytes, Bytes)> {
        self.all().into_iter().map(|key| (key, self.value())).collect()
    }

    /// Returns a random key.
    pub fn key(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.keys[self.rng.below(self.keys.len())])
    }

    pub fn value(&mut self) -> Bytes {
        let mut value = [0; VALUE_LEN];
        for word in value.chunks_exact_mut(8) {
            word.copy_from_slice(&self.rng.word().to_le_bytes());
        }
        Bytes::copy_from_slice(&value)
    }

    /// Returns random keys with values.
    pub fn puts(&mut self, calls: usize) -> Vec<(Bytes, Bytes)> {
        (0..calls).map(|_| (self.key(), self.value())).collect()
    }

    /// Returns random keys.
    pub fn gets(&mut self, calls: usize) -> Vec<Bytes> {
        (0..calls).map(|_| self.key()).collect()
    }

    /// Returns random keys. One in ten has a value to put.
    pub fn mixed(&mut self, calls: usize) -> Vec<(Bytes, Option<Bytes>)> {
        (0..calls).map(|_| (self.key(), (self.rng.below(10) == 0).then(|| self.value()))).collect()
    }
}
