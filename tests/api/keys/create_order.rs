//! Reads of the oldest and newest keys of a range. The engine answers them from a create-order index for long queues.
//!
//! Each read is compared with a read at the current revision, which scans the keys.

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::response::TxnOpResponse;
use leasehold::{
    Compact, Compare, CompareOp, Delete, Get, Grant, KeyRange, Put, Revision, SortOrder, SortTarget, Txn,
    TxnOp,
};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{Random, secs};

fn one_end(order: SortOrder) -> Get {
    Get::prefix("q/").sort(SortTarget::CreateRevision, order).limit(1)
}

/// Compares reads at both ends, up to any revision, with and without values, with scans of the keys.
fn assert_equals_scan(engine: &mut Engine, random: &mut Random) {
    let current = engine.status().header().revision();
    for order in [SortOrder::Ascend, SortOrder::Descend] {
        let up_to = random.below(current.get() as u64 + 3) as i64 - 1;
        for get in [
            one_end(order),
            one_end(order).max_create_revision(up_to),
            one_end(order).max_create_revision(current.get()).keys_only(),
            one_end(order).limit(2),
            one_end(order).limit(3).max_create_revision(up_to),
            one_end(order).limit(40).max_create_revision(up_to).keys_only(),
            one_end(order).limit(1000),
            Get::prefix("q/1").sort(SortTarget::CreateRevision, order).limit(1),
        ] {
            // A read at an explicit revision never uses the index.
            let scanned = engine.get(&get.clone().at(current)).expect("the request is valid");
            assert_eq!(engine.get(&get).expect("the request is valid"), scanned, "{get:?}");
        }
    }
    let kvs = engine.get(&Get::prefix("q/")).expect("the request is valid").kvs().to_vec();
    for op in [CompareOp::Equal, CompareOp::NotEqual, CompareOp::Greater, CompareOp::Less] {
        let to = random.below(3) as i64 * random.below(current.get() as u64 + 2) as i64;
        let holds = |created: i64| match op {
            CompareOp::Equal => created == to,
            CompareOp::NotEqual => created != to,
            CompareOp::Greater => created > to,
            _ => created < to,
        };
        // A range without keys compares as create revision 0 (R-TXN-8).
        let naive =
            if kvs.is_empty() { holds(0) } else { kvs.iter().all(|kv| holds(kv.create_revision().get())) };
        let compare = Compare::create_revision(KeyRange::prefix("q/"), op, to);
        let compared = engine.txn(&Txn::new().when([compare])).expect("the request is valid");
        assert_eq!(compared.succeeded(), naive, "{op:?} {to} (R-TXN-7)");
    }
}

/// Puts a queue key as a lock does.
fn enter(engine: &mut Engine, key: &str, lease: i64) {
    let txn = Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::Put(Put::new(key, "").lease(lease)), TxnOp::Get(one_end(SortOrder::Ascend))])
        .or_else([TxnOp::Get(one_end(SortOrder::Descend))]);
    engine.txn(&txn).expect("the request is valid");
}

fn step(engine: &mut Engine, random: &mut Random) {
    let key = format!("q/{}", random.below(200));
    match random.below(12) {
        0..=5 => enter(engine, &key, random.below(3) as i64),
        6 => drop(engine.put(&Put::new(key, "v")).expect("the request is valid")),
        7 => drop(engine.delete(&Delete::key(key)).expect("the request is valid")),
        8 => drop(
            engine.delete(&Delete::prefix(format!("q/{}", random.below(20)))).expect("the request is valid"),
        ),
        9 => {
            // Two keys created at one revision, and one that is deleted and created again.
            let [x, y] = ["x", "y"].map(|ending| TxnOp::put(format!("{key}/{ending}"), "v"));
            let again = [TxnOp::delete(key.clone()), x, y];
            let made = Txn::new().and_then([TxnOp::Txn(Txn::new().and_then([TxnOp::put(key, "v")]))]);
            let txn = Txn::new().and_then(again.into_iter().chain([TxnOp::put("other", "v")]));
            engine.txn(&txn).expect("the request is valid");
            engine.txn(&made).expect("the request is valid");
        }
        10 => {
            // Rolled back halfway: the second put keeps the value of a key that the delete has removed.
            let kept = Put::new(key.clone(), "").ignore_value();
            let nested = Txn::new().and_then([TxnOp::Put(kept)]);
            let txn = Txn::new().and_then([TxnOp::put("q/new", "v"), TxnOp::delete(key), TxnOp::Txn(nested)]);
            assert!(engine.txn(&txn).is_err(), "a put with `ignore_value` of a deleted key fails");
        }
        _ => {
            let lease = random.below(3) as i64;
            if engine.expire(lease.into()).is_ok() {
                engine.grant(&Grant::new(secs(60)).id(lease)).expect("the request is valid");
            }
        }
    }
}

#[test]
fn reads_of_oldest_and_newest_keys_equal_a_scan() {
    for seed in 1..=u64::from(cases(1)) {
        let mut random = Random::new(seed);
        let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
        for lease in 1..3 {
            engine.grant(&Grant::new(secs(60)).id(lease)).expect("the request is valid");
        }
        for n in 0..600 {
            step(&mut engine, &mut random);
            assert_equals_scan(&mut engine, &mut random);
            engine.check_invariants();
            if n % 100 == 99 {
                let revision = engine.status().header().revision();
                engine
                    .compact(&Compact::new(Revision::new(revision.get() - 1)))
                    .expect("the request is valid");
            }
        }
        engine.delete(&Delete::all()).expect("the request is valid");
        assert_equals_scan(&mut engine, &mut random);
        engine.check_invariants();
    }
}

/// Deleted keys stay in the range until a compaction. The range has a create-order index nevertheless.
#[test]
fn reads_of_oldest_and_newest_keys_skip_deleted_keys() {
    let mut random = Random::new(1);
    let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    for round in 0..3 {
        for n in 0..100 {
            enter(&mut engine, &format!("q/{round}.{n}"), 0);
            // Delete all keys after every second entry, so that most keys of the range are deleted ones.
            if n % 2 == 0 {
                engine.delete(&Delete::all()).expect("the request is valid");
            }
            assert_equals_scan(&mut engine, &mut random);
        }
        engine.delete(&Delete::all()).expect("the request is valid");
        assert_equals_scan(&mut engine, &mut random);
        engine.check_invariants();
        let revision = engine.status().header().revision();
        engine.compact(&Compact::new(Revision::new(revision.get() - 20))).expect("the request is valid");
        while engine.is_reclaiming() {
            engine.reclaim();
            assert_equals_scan(&mut engine, &mut random);
            engine.check_invariants();
        }
    }
}

/// Returns the read that a waiter makes of its queue.
fn newest(range: KeyRange) -> TxnOp {
    TxnOp::Get(Get::range(range).sort(SortTarget::CreateRevision, SortOrder::Descend).limit(1))
}

fn with_keys(count: usize) -> Engine {
    let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    for n in 0..count {
        engine.put(&Put::new(format!("q/{n:03}"), "v")).expect("the put is valid");
    }
    engine
}

fn read_in_txn(engine: &mut Engine, range: KeyRange) {
    engine.txn(&Txn::new().and_then([newest(range)])).expect("the txn is valid");
}

/// Only a read of the oldest or newest keys or a compare of create revisions, in a txn, creates the index.
#[test]
fn create_order_is_indexed_only_for_queue_reads_in_txns() {
    let all = || KeyRange::prefix("q/");
    let compare = || Compare::create_revision(all(), CompareOp::Less, 5);
    let cases = [
        ("read", Txn::new().and_then([newest(all())]), 1),
        ("read of several", Txn::new().and_then([TxnOp::Get(one_end(SortOrder::Descend).limit(3))]), 1),
        ("read without a limit", Txn::new().and_then([TxnOp::Get(one_end(SortOrder::Descend).limit(0))]), 0),
        ("compare", Txn::new().when([compare()]), 1),
        ("read in the branch not taken", Txn::new().or_else([newest(all())]), 0),
        ("read in key order", Txn::new().and_then([TxnOp::Get(Get::prefix("q/").limit(1))]), 0),
        ("compare of versions", Txn::new().when([Compare::version(all(), CompareOp::Less, 5)]), 0),
        ("read of one key", Txn::new().and_then([newest(KeyRange::key("q/000"))]), 0),
    ];
    for (case, txn, orders) in cases {
        let mut engine = with_keys(100);
        engine.get(&one_end(SortOrder::Ascend)).unwrap();
        assert_eq!(engine.diagnostics().create_orders, 0, "{case}: a read outside of a txn creates no index");
        for _ in 0..3 {
            engine.txn(&txn).unwrap();
        }
        let counts = engine.diagnostics();
        assert_eq!((counts.create_orders, counts.create_order_keys), (orders, 100 * orders), "{case}");
    }
}

/// A scan of up to 63 keys, deleted ones included, is as fast. Compaction drops the index of a range with fewer keys.
#[test]
fn create_order_is_indexed_from_64_keys() {
    for (keys, orders) in [(0, 0), (1, 0), (63, 0), (64, 1), (65, 1)] {
        for deleted in [0, keys] {
            let mut engine = with_keys(keys);
            engine.put(&Put::new("other", "v")).unwrap();
            if deleted > 0 {
                engine.delete(&Delete::prefix("q/")).unwrap();
            }
            read_in_txn(&mut engine, KeyRange::prefix("q/"));
            let counts = engine.diagnostics();
            assert_eq!(counts.create_orders, orders, "{keys} keys, {deleted} deleted");
            assert_eq!(counts.create_order_keys, orders * (keys - deleted));
            engine.delete(&Delete::all()).unwrap();
            engine.put(&Put::new("other", "v")).unwrap();
            engine.compact(&Compact::new(engine.status().header().revision())).unwrap();
            while engine.is_reclaiming() {
                engine.reclaim();
            }
            assert_eq!(engine.diagnostics().create_orders, 0, "{keys} keys, all compacted");
        }
    }
}

/// Each index makes every creation in its range slower, so at most 1,024 are kept. Other queues are scanned.
#[test]
fn create_order_is_indexed_for_at_most_1024_ranges() {
    let mut engine = with_keys(200);
    let ends = || (0..50).flat_map(|start| (150..175).map(move |end| (start, end)));
    let range =
        |(start, end): (usize, usize)| KeyRange::between(format!("q/{start:03}"), format!("q/{end:03}"));
    for (count, ends) in ends().enumerate() {
        read_in_txn(&mut engine, range(ends));
        assert_eq!(engine.diagnostics().create_orders, 1024.min(count + 1));
    }
    let read = engine.txn(&Txn::new().and_then([newest(range((49, 174)))])).unwrap();
    let [TxnOpResponse::Get(found)] = read.responses() else {
        panic!("the response to a get is a get: {read:?}")
    };
    assert_eq!((found.kvs()[0].key(), found.count()), (&b"q/173"[..], 125));
}
