//! Compares the engine with plain maps, with more keys, versions and changes than fit into one segment of any of its tables.

use std::collections::BTreeMap;

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{Compact, Delete, Error, Get, Grant, KeyRange, Limits, Put, Revision, Txn, TxnOp};
use leasehold_testkit::helpers::secs;

/// The state of every key at every revision: the value that was put, or `None` for a delete.
#[derive(Default)]
struct Reference {
    keys: BTreeMap<Vec<u8>, Vec<(i64, Option<u64>)>>,
    revision: i64,
}

impl Reference {
    fn at(&self, key: &[u8], revision: i64) -> Option<u64> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|(at, _)| *at <= revision)?.1
    }

    fn record(&mut self, key: Vec<u8>, value: Option<u64>) {
        self.keys.entry(key).or_default().push((self.revision, value));
    }

    fn range(&self, start: &[u8], end: &[u8], revision: i64) -> Vec<(Vec<u8>, u64)> {
        let keys = self.keys.range(start.to_vec()..end.to_vec());
        keys.filter_map(|(key, _)| Some((key.clone(), self.at(key, revision)?))).collect()
    }
}

/// A SplitMix64 generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % end
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:05}").into_bytes()
}

fn engine() -> Engine {
    let limits = Limits { max_txn_ops: 100_000, ..Limits::default() };
    Engine::new(EngineConfig { limits, hash_seed: 42, ..EngineConfig::default() }, Timestamp::ORIGIN)
}

/// R-REV-2 to R-REV-6, R-RNG-4, R-DEL-3, R-CMP-2 and R-CMP-3.
#[test]
fn reads_of_many_keys_and_versions_equal_a_reference() {
    const KEYS: u64 = 6_000;
    let (mut engine, mut reference, mut random) = (engine(), Reference::default(), Random(1));
    reference.revision = 1;
    for step in 0..60_000 {
        let number = random.below(KEYS);
        match random.below(20) {
            0..=14 => {
                engine.put(&Put::new(key(number), step.to_string())).expect("the put is valid");
                reference.revision += 1;
                reference.record(key(number), Some(step));
            }
            15..=17 => delete(&mut engine, &mut reference, number, number + 1 + random.below(3)),
            18 => compare_ranges(&engine, &reference, &mut random, number),
            _ if random.below(100) == 0 => {
                let revision =
                    reference.revision - random.below(2_000).cast_signed().min(reference.revision - 1);
                // An error means that the revision is compacted already.
                let _ = engine.compact(&Compact::new(revision));
            }
            _ => compare_gets(&engine, &reference, &mut random, number),
        }
        if step % 10_000 == 0 {
            engine.check_invariants();
        }
    }
    engine.compact(&Compact::new(reference.revision)).expect("the current revision is not compacted");
    while engine.is_reclaiming() {
        assert!(engine.reclaim() <= 256);
    }
    engine.check_invariants();
    let status = engine.status();
    let live = reference.range(b"key/", b"key0", reference.revision).len() as u64;
    assert_eq!(status.keys(), live);
    // Each live key has one version. A delete at the current revision adds at most three tombstones.
    assert!((live..=live + 3).contains(&status.versions()), "{} versions of {live} keys", status.versions());
}

fn delete(engine: &mut Engine, reference: &mut Reference, from: u64, to: u64) {
    let (start, end) = (key(from), key(to));
    let expected = reference.range(&start, &end, reference.revision);
    let answer = engine.delete(&Delete::range(KeyRange::between(start, end))).expect("the delete is valid");
    assert_eq!(answer.deleted(), expected.len() as i64);
    if !expected.is_empty() {
        reference.revision += 1;
    }
    for (key, _) in expected {
        reference.record(key, None);
    }
    assert_eq!(answer.header().revision().get(), reference.revision);
}

/// Returns a readable revision, a recent one more often.
fn readable(engine: &Engine, random: &mut Random) -> i64 {
    let status = engine.status();
    let (oldest, newest) =
        (status.compact_revision().map_or(1, Revision::get), status.header().revision().get());
    let span = (newest - oldest).cast_unsigned() + 1;
    // The smaller of two distances favours recent revisions.
    newest - random.below(span).min(random.below(span)).cast_signed()
}

fn compare_gets(engine: &Engine, reference: &Reference, random: &mut Random, number: u64) {
    let revision = readable(engine, random);
    let answer = engine.get(&Get::key(key(number)).at(revision)).expect("the revision is readable");
    let found = answer.kvs().first().map(|kv| kv.value().to_vec());
    let expected = reference.at(&key(number), revision).map(|value| value.to_string().into_bytes());
    assert_eq!(found, expected, "key {number} at revision {revision}");
}

fn compare_ranges(engine: &Engine, reference: &Reference, random: &mut Random, number: u64) {
    let revision = readable(engine, random);
    let (start, end) = (key(number), key(number + random.below(200) + 1));
    let expected = reference.range(&start, &end, revision);
    let get = Get::range(KeyRange::between(start, end)).at(revision);
    let answer = engine.get(&get).expect("the revision is readable");
    let found: Vec<_> = answer.kvs().iter().map(|kv| (kv.key().to_vec(), kv.value().to_vec())).collect();
    let expected: Vec<_> =
        expected.into_iter().map(|(key, value)| (key, value.to_string().into_bytes())).collect();
    assert_eq!(found, expected);
    assert_eq!(answer.count(), expected.len() as i64);
}

/// R-TXN-5: a txn that fails after thousands of changes leaves none of them in a table or at a lease.
#[test]
fn long_txn_that_fails_is_rolled_back() {
    let mut engine = engine();
    let lease = engine.grant(&Grant::new(secs(60))).expect("the grant is valid").id();
    for number in 0..9_000 {
        let put = Put::new(key(number), "value");
        let put = if number % 3 == 0 { put.lease(lease) } else { put };
        engine.put(&put).expect("the put is valid");
    }
    engine.delete(&Delete::range(KeyRange::between(key(4_000), key(5_000)))).expect("the delete is valid");
    let (hash, status) = (engine.state_hash(), engine.status());
    // A delete without an upper end overlaps nothing, so the static checks accept the puts beside it (R-TXN-20).
    let creations = (9_000..13_500).map(|number| TxnOp::put(key(number), "new"));
    let moves = (0..2_000).map(|number| Put::new(key(number), "moved").lease(lease).into());
    let everything = Delete::range(KeyRange::from_key("key/")).into();
    let impossible = Put::new(key(8_999), "").ignore_value().into();
    let operations = creations.chain(moves).chain([everything, impossible]);
    assert_eq!(engine.txn(&Txn::new().and_then(operations)), Err(Error::KeyNotFound));
    assert_eq!(engine.state_hash(), hash);
    assert_eq!(engine.status(), status);
    engine.check_invariants();
    assert_eq!(engine.time_to_live(lease, true).keys().len(), 2_667);
    engine.revoke(lease).expect("the lease was not revoked before");
    assert_eq!(engine.status().keys(), 8_000 - 2_667);
    engine.check_invariants();
}
