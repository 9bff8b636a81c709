//! The hash of point lookups: fast and seeded.
//!
//! Two 64-bit words at a time are mixed with secrets derived from the seed, multiplied to 128 bits, and folded. No keys
//! are known that collide under most seeds. Nothing more is promised: the hash is not cryptographic, its 32 bits collide
//! by chance, and a client that knows the seed, or finds it by timing lookups, can compute keys that collide. std's
//! hasher resists that, but costs several times as much for the short keys of a coordination store.

/// Hashes keys and lease ids under one seed.
#[derive(Clone, Debug)]
pub(super) struct KeyHasher {
    secrets: [u64; 3],
}

impl KeyHasher {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self { secrets: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    pub(super) fn bytes(&self, key: &[u8]) -> u32 {
        let [start, left, right] = self.secrets;
        let mut state = start;
        let mut chunks = key.chunks_exact(16);
        for chunk in &mut chunks {
            state = fold(state ^ left ^ word(chunk), right ^ word(&chunk[8..]));
        }
        let tail = chunks.remainder();
        if !tail.is_empty() {
            let (low, high) = if tail.len() > 8 { tail.split_at(8) } else { (tail, &[][..]) };
            state = fold(state ^ left ^ padded(low), right ^ padded(high));
        }
        // Mix the length into the folded state, which depends on the seed. Mixed into a word of the key, it could be
        // cancelled by the bytes of that word under every seed.
        (fold(state ^ key.len() as u64, right) >> 32) as u32
    }

    pub(super) fn number(&self, number: i64) -> u32 {
        let [start, left, right] = self.secrets;
        let state = fold(start ^ number.cast_unsigned(), left);
        (fold(state, right) >> 32) as u32
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The first eight bytes, of at least as many.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes were taken"))
}

/// Up to eight bytes, filled up with zeros.
fn padded(bytes: &[u8]) -> u64 {
    let mut filled = [0; 8];
    filled[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(filled)
}

/// SplitMix64, Steele, Lea and Flood 2014: spreads a seed into independent words.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
