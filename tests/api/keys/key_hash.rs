//! The hash of point lookups: a client cannot choose keys that make long probe sequences.

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{Put, Store};

fn engine_of(config: EngineConfig) -> Engine {
    Engine::new(config, Timestamp::ORIGIN)
}

/// An engine with a known seed, as an attacker would run it.
fn seeded(hash_seed: u64) -> Engine {
    engine_of(EngineConfig { hash_seed, ..EngineConfig::default() })
}

fn put_all(engine: &mut Engine, keys: &[Vec<u8>]) {
    for key in keys {
        engine.put(&Put::new(key.clone(), "v")).expect("a put of a key that is not empty succeeds");
    }
}

/// Returns 64 keys of eight bytes that share a table and a slot in it under a seed.
///
/// A client that knows the seed and `src/engine/key_hash.rs` can compute such keys.
fn colliding_keys(hash_seed: u64) -> Vec<Vec<u8>> {
    let mut state = hash_seed;
    let [start, left, right] = std::array::from_fn(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    });
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    let hash = |key: u64| (fold(fold(start ^ left ^ key, right) ^ 8, right) >> 32) as u32;
    // The upper six bits choose the table, and the lower seven the slot.
    let collides = |key: &u64| hash(*key) & 0xfc00_007f == 0;
    (0..).filter(collides).take(64).map(|key| key.to_le_bytes().to_vec()).collect()
}

#[test]
fn default_configs_have_different_hash_seeds() {
    assert_ne!(EngineConfig::default().hash_seed, EngineConfig::default().hash_seed);
}

/// Under a seed that the client does not know, the keys are spread over 64 tables. More than 20 keys in one table have a
/// probability below 1e-20.
#[test]
fn keys_that_collide_under_a_known_seed_spread_under_the_default() {
    for seed in [0, 1] {
        let keys = colliding_keys(seed);
        let mut engine = seeded(seed);
        put_all(&mut engine, &keys);
        assert_eq!(
            engine.diagnostics().longest_probe,
            keys.len(),
            "the test computes the hash as the engine does"
        );

        let mut engine = engine_of(EngineConfig::default());
        put_all(&mut engine, &keys);
        assert!(engine.diagnostics().longest_probe < 20, "{:?}", engine.diagnostics());
        let store = Store::new();
        for key in keys {
            store.put((key, "v")).expect("the store is open");
        }
        let counts = store.diagnostics().expect("the store is open");
        assert!(counts.longest_probe < 20, "{counts:?}");
    }
}

/// Keys whose words, xored with their lengths, are equal. When the length was mixed into the first word, these keys shared
/// a hash under every seed.
#[test]
fn keys_equal_after_xor_with_their_lengths_do_not_collide() {
    let families: [fn(u8) -> Vec<u8>; 3] = [
        // 1 to 16 bytes: the first byte differs as the length does, the rest are zeros.
        |n| std::iter::once(0x80 ^ (n + 1)).chain(std::iter::repeat_n(0, n.into())).collect(),
        // Keys of this kind behind 16 equal bytes.
        |n| [&[b'k'; 15][..], &[0x80 ^ (n + 17)], &vec![0; n.into()]].concat(),
        // 1 to 16 zeros: equal once padded.
        |n| vec![0; usize::from(n) + 1],
    ];
    for (family, key) in families.into_iter().enumerate() {
        let keys: Vec<Vec<u8>> = (0..16).map(key).collect();
        for seed in 0..100 {
            let mut engine = seeded(seed);
            put_all(&mut engine, &keys);
            let longest = engine.diagnostics().longest_probe;
            assert!(longest < 8, "family {family}, seed {seed}: a probe sequence of {longest}");
        }
    }
}
