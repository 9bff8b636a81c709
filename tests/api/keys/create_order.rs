//! Reads of the oldest and the newest keys of a range, which long queues answer from an order that they keep, against the same
//! reads at the current revision, which go through the keys.

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

/// Both ends, up to any revision, with and without values: the same as found key by key.
fn assert_same(engine: &mut Engine, random: &mut Random) {
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
            let scanned = engine.get(&get.clone().at(current)).expect("it is accepted");
            assert_eq!(engine.get(&get).expect("it is accepted"), scanned, "{get:?}");
        }
    }
    let kvs = engine.get(&Get::prefix("q/")).expect("it is accepted").kvs().to_vec();
    for op in [CompareOp::Equal, CompareOp::NotEqual, CompareOp::Greater, CompareOp::Less] {
        let to = random.below(3) as i64 * random.below(current.get() as u64 + 2) as i64;
        let holds = |created: i64| match op {
            CompareOp::Equal => created == to,
            CompareOp::NotEqual => created != to,
            CompareOp::Greater => created > to,
            _ => created < to,
        };
        let naive =
            if kvs.is_empty() { holds(0) } else { kvs.iter().all(|kv| holds(kv.create_revision().get())) };
        let compare = Compare::create_revision(KeyRange::prefix("q/"), op, to);
        let compared = engine.txn(&Txn::new().when([compare])).expect("it is accepted");
        assert_eq!(compared.succeeded(), naive, "{op:?} {to} (R-TXN-7)");
    }
}

/// Stands in the queue as a lock does.
fn enter(engine: &mut Engine, key: &str, lease: i64) {
    let txn = Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::Put(Put::new(key, "").lease(lease)), TxnOp::Get(one_end(SortOrder::Ascend))])
        .or_else([TxnOp::Get(one_end(SortOrder::Descend))]);
    engine.txn(&txn).expect("it is accepted");
}

fn step(engine: &mut Engine, random: &mut Random) {
    let key = format!("q/{}", random.below(200));
    match random.below(12) {
        0..=5 => enter(engine, &key, random.below(3) as i64),
        6 => drop(engine.put(&Put::new(key, "v")).expect("it is accepted")),
        7 => drop(engine.delete(&Delete::key(key)).expect("it is accepted")),
        8 => drop(engine.delete(&Delete::prefix(format!("q/{}", random.below(20)))).expect("it is accepted")),
        9 => {
            // Several of one revision, and one that is deleted and made again.
            let [x, y] = ["x", "y"].map(|ending| TxnOp::put(format!("{key}/{ending}"), "v"));
            let again = [TxnOp::delete(key.clone()), x, y];
            let made = Txn::new().and_then([TxnOp::Txn(Txn::new().and_then([TxnOp::put(key, "v")]))]);
            let txn = Txn::new().and_then(again.into_iter().chain([TxnOp::put("other", "v")]));
            engine.txn(&txn).expect("it is accepted");
            engine.txn(&made).expect("it is accepted");
        }
        10 => {
            // Taken back in the midst: the second put keeps the value of a key that the delete has taken away.
            let kept = Put::new(key.clone(), "").ignore_value();
            let nested = Txn::new().and_then([TxnOp::Put(kept)]);
            let txn = Txn::new().and_then([TxnOp::put("q/new", "v"), TxnOp::delete(key), TxnOp::Txn(nested)]);
            assert!(engine.txn(&txn).is_err(), "a txn that changes a key twice, or a key that is not there");
        }
        _ => {
            let lease = random.below(3) as i64;
            if engine.expire(lease.into()).is_ok() {
                engine.grant(&Grant::new(secs(60)).id(lease)).expect("it is accepted");
            }
        }
    }
}

#[test]
fn one_end_of_a_queue_is_what_a_scan_finds() {
    for seed in 1..=u64::from(cases(1)) {
        let mut random = Random::new(seed);
        let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
        for lease in 1..3 {
            engine.grant(&Grant::new(secs(60)).id(lease)).expect("it is accepted");
        }
        for n in 0..600 {
            step(&mut engine, &mut random);
            assert_same(&mut engine, &mut random);
            engine.check_invariants();
            if n % 100 == 99 {
                let revision = engine.status().header().revision();
                engine.compact(&Compact::new(Revision::new(revision.get() - 1))).expect("it is accepted");
            }
        }
        engine.delete(&Delete::all()).expect("it is accepted");
        assert_same(&mut engine, &mut random);
        engine.check_invariants();
    }
}

/// A queue that many were in before is one of keys that are gone, until a compaction. It has its order nevertheless.
#[test]
fn keys_that_are_gone_are_in_nobodys_way() {
    let mut random = Random::new(1);
    let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    for round in 0..3 {
        for n in 0..100 {
            enter(&mut engine, &format!("q/{round}.{n}"), 0);
            if n % 2 == 0 {
                engine.delete(&Delete::all()).expect("it is accepted");
            }
            assert_same(&mut engine, &mut random);
        }
        engine.delete(&Delete::all()).expect("it is accepted");
        assert_same(&mut engine, &mut random);
        engine.check_invariants();
        let revision = engine.status().header().revision();
        engine.compact(&Compact::new(Revision::new(revision.get() - 20))).expect("it is accepted");
        while engine.is_reclaiming() {
            engine.reclaim();
            assert_same(&mut engine, &mut random);
            engine.check_invariants();
        }
    }
}

/// The read that a waiter makes of its queue.
fn newest(range: KeyRange) -> TxnOp {
    TxnOp::Get(Get::range(range).sort(SortTarget::CreateRevision, SortOrder::Descend).limit(1))
}

fn with_keys(count: usize) -> Engine {
    let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    for n in 0..count {
        engine.put(&Put::new(format!("q/{n:03}"), "v")).expect("the put is good");
    }
    engine
}

fn read_in_txn(engine: &mut Engine, range: KeyRange) {
    engine.txn(&Txn::new().and_then([newest(range)])).expect("the txn is good");
}

/// A queue gets its order by a read of one end or by a compare of create revisions, both in a txn, and by nothing else.
#[test]
fn create_order_is_kept_for_the_queues_of_txns() {
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
        assert_eq!(engine.diagnostics().create_orders, 0, "{case}: a read outside of a txn keeps no order");
        for _ in 0..3 {
            engine.txn(&txn).unwrap();
        }
        let counts = engine.diagnostics();
        assert_eq!((counts.create_orders, counts.create_order_keys), (orders, 100 * orders), "{case}");
    }
}

/// A scan of 63 keys is as fast, deleted ones included. Compaction takes the order of a range with fewer again.
#[test]
fn create_order_is_kept_for_64_keys_and_not_for_fewer() {
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

/// Each order costs every creation in its range: no more than 1,024 are kept, and other queues are answered by scans.
#[test]
fn create_orders_are_kept_for_1024_ranges_at_most() {
    let mut engine = with_keys(200);
    let ends = || (0..50).flat_map(|start| (150..175).map(move |end| (start, end)));
    let range =
        |(start, end): (usize, usize)| KeyRange::between(format!("q/{start:03}"), format!("q/{end:03}"));
    for (count, ends) in ends().enumerate() {
        read_in_txn(&mut engine, range(ends));
        assert_eq!(engine.diagnostics().create_orders, 1024.min(count + 1));
    }
    let read = engine.txn(&Txn::new().and_then([newest(range((49, 174)))])).unwrap();
    let [TxnOpResponse::Get(found)] = read.responses() else { panic!("a get is answered as one: {read:?}") };
    assert_eq!((found.kvs()[0].key(), found.count()), (&b"q/173"[..], 125));
}
