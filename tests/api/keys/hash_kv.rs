//! etcd's hash of the key space, compared with values from etcd itself (R-MNT-1 to R-MNT-3, SEMANTICS.md appendix A).

use leasehold::{Error, Store, Txn, TxnOp};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{Random, at, delete, grant, manual, put, put_leased, revision, secs};

/// Returns the hash and the compacted revision, which is -1 if there is none, as on the wire.
fn hash(store: &Store, revision: i64) -> (u32, i64) {
    let response = store.hash_kv(revision).unwrap_or_else(|error| panic!("hash at {revision}: {error}"));
    (response.hash(), response.compact_revision().map_or(-1, i64::from))
}

/// Appendix A1: values observed on a live etcd.
#[test]
fn hash_equals_that_of_a_live_etcd() {
    let store = Store::new();
    assert_eq!(hash(&store, 0), (1_084_519_789, -1));
    put(&store, "a", "1");
    store.txn(Txn::new().and_then([TxnOp::put("a", "2"), TxnOp::put("b", "x"), TxnOp::delete("c")])).unwrap();
    delete(&store, "a");
    put(&store, "b", "");
    let figures = [1_084_519_789, 2_587_454_935, 2_274_636_671, 1_640_732_524, 3_245_022_065];
    for (revision, figure) in (1..).zip(figures) {
        assert_eq!(hash(&store, revision), (figure, -1), "at {revision}");
    }
    assert_eq!(hash(&store, 0), (3_245_022_065, -1));
    for (compacted, at, figure) in [(3, 4, 1_104_304_264), (3, 5, 4_146_372_551), (4, 5, 2_478_532_398)] {
        // Two rows have compacted revision 3, which can be compacted only once.
        if store.status().unwrap().compact_revision().map(i64::from) != Some(compacted) {
            store.compact(compacted).unwrap();
        }
        assert_eq!(hash(&store, at), (figure, compacted), "at {at}");
        store.tick();
        assert_eq!(hash(&store, at), (figure, compacted), "at {at}, after all garbage is reclaimed");
    }
}

const CYCLE: i64 = 71;
const TOTAL: i64 = 1210;

fn key(n: i64) -> &'static str {
    match n {
        _ if n % (2 * CYCLE) == 30 => "zenek",
        _ if n % CYCLE == 30 => "xavery",
        _ => ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"][(n % 7) as usize],
    }
}

/// Puts a batch of keys, then hashes and compacts at one of its revisions.
fn hash_batch(store: &Store, from: i64, count: i64, revision_of: impl Fn(i64) -> i64) -> (u32, i64, i64) {
    for n in from..=from + count {
        store.put((key(n), n.to_string())).expect("the put is valid");
    }
    let revision = revision_of(from + count / 2);
    let (hash, compacted) = hash(store, revision);
    store.compact(revision).expect("the revision is not compacted yet");
    (hash, compacted, revision)
}

fn hash_batches(store: &Store, revision_of: impl Fn(i64) -> i64) -> Vec<(u32, i64, i64)> {
    let cycles = (TOTAL + CYCLE - 1) / CYCLE;
    let batches = (0..cycles).map(|cycle| (cycle * CYCLE, CYCLE)).chain([(cycles * CYCLE, TOTAL)]);
    batches.map(|(from, count)| hash_batch(store, from, count, &revision_of)).collect()
}

/// Appendix A2: hashed and compacted in the middle of each batch.
#[test]
fn hash_equals_that_of_etcds_test() {
    let expected = [
        (4_082_599_214, -1, 35),
        (2_279_933_401, 35, 106),
        (3_284_231_217, 106, 177),
        (126_286_495, 177, 248),
        (900_108_730, 248, 319),
        (2_475_485_232, 319, 390),
        (1_226_296_507, 390, 461),
        (2_503_661_030, 461, 532),
        (4_155_130_747, 532, 603),
        (106_915_399, 603, 674),
        (406_914_006, 674, 745),
        (1_882_211_381, 745, 816),
        (806_177_088, 816, 887),
        (664_311_366, 887, 958),
        (1_496_914_449, 958, 1029),
        (2_434_525_091, 1029, 1100),
        (3_988_652_253, 1100, 1171),
        (1_122_462_288, 1171, 1242),
        (724_436_716, 1242, 1883),
    ];
    assert_eq!(hash_batches(&Store::new(), |middle| middle), expected);
}

/// Appendix A2: hashed and compacted at the current revision.
#[test]
fn hash_at_the_last_revision_equals_that_of_etcds_test() {
    let expected = [
        (1_913_897_190, -1, 73),
        (224_860_069, 73, 145),
        (1_565_167_519, 145, 217),
        (1_566_261_620, 217, 289),
        (2_037_173_024, 289, 361),
        (691_659_396, 361, 433),
        (2_713_730_748, 433, 505),
        (3_919_322_507, 505, 577),
        (769_967_540, 577, 649),
        (2_909_194_793, 649, 721),
        (1_576_921_157, 721, 793),
        (4_067_701_532, 793, 865),
        (2_226_384_237, 865, 937),
        (2_923_408_134, 937, 1009),
        (2_680_329_256, 1009, 1081),
        (1_546_717_673, 1081, 1153),
        (2_713_657_846, 1153, 1225),
        (1_046_575_299, 1225, 1297),
        (2_017_735_779, 1297, 2508),
    ];
    let store = Store::new();
    assert_eq!(hash_batches(&store, |_| revision(&store)), expected);
}

/// R-MNT-1, R-MNT-3: a revision of 0 or below means the current one. The response contains the hashed revision.
#[test]
fn hash_without_a_revision_is_of_the_current_one() {
    let store = Store::new();
    for n in 0..10 {
        let expected = n + 2;
        assert_eq!(put(&store, "foo", "bar"), expected);
        for asked in [0, -1, i64::MIN, expected] {
            let response = store.hash_kv(asked).unwrap();
            assert_eq!(response, store.hash_kv(expected).unwrap(), "asked for {asked}");
            assert_eq!(
                (response.hash_revision(), response.header().revision()),
                (at(expected), at(expected))
            );
        }
        let at_two = store.hash_kv(2).unwrap();
        assert_eq!((at_two.hash_revision(), at_two.header().revision()), (at(2), at(expected)));
    }
}

/// R-MNT-1: the compacted revision itself cannot be hashed either.
#[test]
fn hash_at_compacted_or_future_revision_is_refused() {
    let store = Store::new();
    for _ in 0..9 {
        put(&store, "foo", "bar");
    }
    assert_eq!(store.hash_kv(11).unwrap_err(), Error::FutureRevision { requested: at(11), current: at(10) });
    store.compact(4).unwrap();
    for requested in 1..=4 {
        let refused = Error::Compacted { requested: at(requested), compacted: Some(at(4)) };
        assert_eq!(store.hash_kv(requested).unwrap_err(), refused);
    }
    let response = store.hash_kv(5).unwrap();
    assert_eq!((response.compact_revision(), response.hash_revision()), (Some(at(4)), at(5)));
}

/// R-MNT-1: the current revision, requested as 0, can be hashed even when it is compacted. With one key, the hash covers
/// only its last record, and so does the hash after the records before it are compacted.
#[test]
fn compacted_current_revision_can_be_hashed() {
    let store = Store::new();
    for _ in 0..9 {
        put(&store, "foo", "bar");
    }
    store.compact(9).unwrap();
    let (before, _) = hash(&store, 10);
    store.compact(10).unwrap();
    assert_eq!([hash(&store, 0), hash(&store, -1)], [(before, 10); 2]);
    assert_eq!(store.hash_kv(0).unwrap().hash_revision(), at(10));
    let refused = Error::Compacted { requested: at(10), compacted: Some(at(10)) };
    assert_eq!(store.hash_kv(10).unwrap_err(), refused);
}

/// Makes 200 random changes.
fn random_history(store: &Store, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..200 {
        let key = random.pick(&["a", "b", "c", "d"]);
        if random.one_in(4) {
            delete(store, key)
        } else {
            put(store, key, random.pick(&["", "x", "y"]))
        };
    }
}

#[test]
fn equal_histories_have_equal_hashes() {
    let (one, other) = (Store::new(), Store::new());
    random_history(&one, 1);
    random_history(&other, 1);
    let current = revision(&one);
    for revision in 1..=current {
        assert_eq!(hash(&one, revision), hash(&other, revision), "at {revision}");
    }
    assert_ne!(hash(&one, current), hash(&one, current - 1));
    put(&one, "e", "1");
    put(&other, "e", "2");
    assert_ne!(hash(&one, 0), hash(&other, 0));
}

/// A hash depends only on its revision and the compacted revision, not on later changes or on how much is reclaimed. This
/// includes a compacted revision that deleted a key.
#[test]
fn hash_does_not_depend_on_reclaiming() {
    for seed in 0..u64::from(cases(1)) {
        let (store, _clock) = manual();
        random_history(&store, seed);
        let before: Vec<_> = (1..=revision(&store)).map(|at| hash(&store, at)).collect();
        let last = revision(&store);
        random_history(&store, seed + 100);
        let after: Vec<_> = (1..=last).map(|at| hash(&store, at)).collect();
        assert_eq!(after, before, "seed {seed}");
        for compacted in [last / 2, last / 2 + 1, last] {
            store.compact(compacted).unwrap();
            let at_once: Vec<_> = (compacted + 1..=revision(&store)).map(|at| hash(&store, at)).collect();
            store.tick();
            let reclaimed: Vec<_> = (compacted + 1..=revision(&store)).map(|at| hash(&store, at)).collect();
            assert_eq!(reclaimed, at_once, "compacted at {compacted}, seed {seed}");
        }
    }
}

/// R-MNT-2: if no key is alive, the tombstone that a compaction keeps at its revision is not hashed. So the tombstone's
/// key does not change the hash.
#[test]
fn tombstone_at_the_compacted_revision_is_not_hashed() {
    let hashes_of = |key: &'static str| {
        let (store, _clock) = manual();
        put(&store, key, "v");
        delete(&store, key);
        put(&store, "b", "v");
        delete(&store, "b");
        let before = hash(&store, 5).0;
        store.compact(3).unwrap();
        store.tick();
        (before, hash(&store, 5).0)
    };
    let (one, other) = (hashes_of("a"), hashes_of("zz"));
    assert_ne!(one.0, other.0);
    assert_eq!(one.1, other.1);
}

/// The hash covers the lease of a pair, a negative lease id too.
#[test]
fn hash_covers_lease_ids() {
    let hash_with = |lease: i64| {
        let (store, _clock) = manual();
        grant(&store, lease, secs(10));
        put_leased(&store, &["a"], lease);
        hash(&store, 0).0
    };
    assert_eq!(hash_with(7), hash_with(7));
    assert_ne!(hash_with(7), hash_with(8));
    assert_ne!(hash_with(7), hash_with(-7));
}

/// Hashes at one revision and one compacted revision are equal while another thread compacts.
#[test]
fn concurrent_hashes_equal_per_compacted_revision() {
    let store = Store::new();
    for n in 0..1000 {
        store.put((key(n), n.to_string())).unwrap();
    }
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while store.status().unwrap().compact_revision() != Some(at(100)) {
                    let response = store.hash_kv(1000).unwrap();
                    let compacted = response.compact_revision();
                    let first = *seen.lock().unwrap().entry(compacted).or_insert_with(|| response.hash());
                    assert_eq!(first, response.hash(), "compacted at {compacted:?}");
                }
            });
        }
        scope.spawn(|| {
            for revision in 1..=100 {
                store.compact(revision).unwrap();
            }
        });
    });
    assert_eq!(hash(&store, 1000).1, 100);
}
