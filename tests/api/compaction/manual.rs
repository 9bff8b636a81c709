//! Compaction: which reads remain, which versions are kept, which memory is released (R-CMP-1 to R-CMP-6).

use leasehold::clock::Timestamp;
use leasehold::engine::EngineConfig;
use leasehold::snapshot::LoadOptions;
use leasehold::{Compact, Error, Get, KeyRange, Put, Revision, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{
    self, Random, all_keys, at, delete, events, grant, keys, manual, physical, put, put_leased, revision,
    secs, show_all, show_events, value,
};

fn compacted(requested: i64, compacted: i64) -> Error {
    Error::Compacted { requested: at(requested), compacted: Some(at(compacted)) }
}

fn future(requested: i64, current: i64) -> Error {
    Error::FutureRevision { requested: at(requested), current: at(current) }
}

/// The ways to compact. Both must have equal results, except for memory.
const WAYS: [fn(&Store, i64) -> leasehold::Result<leasehold::response::CompactResponse>; 2] =
    [|store, revision| store.compact(revision), |store, revision| store.compact(physical(revision))];

/// R-CMP-1: revision 0 can be compacted once, a negative or future one never, and the current one always.
#[test]
fn compact_accepts_zero_to_the_current_revision() {
    for compact in WAYS {
        let store = Store::new();
        for _ in 0..3 {
            put(&store, "foo", "bar");
        }
        let none_yet = Error::Compacted { requested: at(-1), compacted: None };
        assert_eq!(compact(&store, -1).unwrap_err(), none_yet);
        assert_eq!(compact(&store, 0).unwrap().header().revision(), at(4));
        assert_eq!(store.status().unwrap().compact_revision(), Some(at(0)));
        assert_eq!(compact(&store, 0).unwrap_err(), compacted(0, 0));
        assert_eq!(compact(&store, 1).unwrap().header().revision(), at(4));
        assert_eq!(compact(&store, 1).unwrap_err(), compacted(1, 1));
        assert_eq!(compact(&store, 5).unwrap_err(), future(5, 4));
        assert_eq!(compact(&store, 4).unwrap().header().revision(), at(4));
        assert_eq!(compact(&store, 3).unwrap_err(), compacted(3, 4));
        assert_eq!(compact(&store, 100).unwrap_err(), future(100, 4));
        assert_eq!(compact(&store, i64::MIN).unwrap_err(), compacted(i64::MIN, 4));
        assert_eq!(store.status().unwrap().compact_revision(), Some(at(4)));
    }
}

#[test]
fn compacted_revision_can_no_longer_be_read() {
    for compact in WAYS {
        let store = Store::new();
        for value in ["one", "two", "three"] {
            put(&store, "key", value);
        }
        assert_eq!(show_all(store.get(Get::key("key").at(3)).unwrap().kvs()), ["key=two 2/3/2"]);
        compact(&store, 4).unwrap();
        assert_eq!(store.get(Get::key("key").at(3)).unwrap_err(), compacted(3, 4));
        assert_eq!(store.get(Get::key("unrelated").at(3)).unwrap_err(), compacted(3, 4));
        assert_eq!(show_all(store.get(Get::key("key").at(4)).unwrap().kvs()), ["key=three 2/4/3"]);
        assert_eq!(value(&store, "key").as_deref(), Some("three"));
        assert_eq!(store.get(Get::key("key").serializable()).unwrap().count(), 1);
        assert_eq!(
            store.get(Get::key("key").at(-3)).unwrap().count(),
            1,
            "a revision below 0 reads the latest state"
        );
        assert_eq!(revision(&store), 4);
    }
}

/// R-CMP-3: put, put, delete, put, put of one key, compacted at each revision.
#[test]
fn last_version_survives_compaction() {
    for r in 1..=6 {
        let store = Store::new();
        put(&store, "foo", "bar0");
        put(&store, "foo", "bar1");
        delete(&store, "foo");
        put(&store, "foo", "bar2");
        put(&store, "foo", "bar3");
        let seen = [None, Some("foo=bar0 2/2/1"), Some("foo=bar1 2/3/2"), None, Some("foo=bar2 5/5/1")];
        let seen = seen.into_iter().chain([Some("foo=bar3 5/6/2")]);
        store.compact(physical(r)).unwrap();
        for (at, expected) in (1..).zip(seen).filter(|&(at, _)| at >= r) {
            let response = store.get(Get::key("foo").at(at)).unwrap();
            assert_eq!(show_all(response.kvs()), expected.into_iter().collect::<Vec<_>>(), "{at} after {r}");
        }
    }
}

/// Returns a store with three keys that change at the revisions 2 to 11.
fn three_keys() -> Store {
    let store = Store::new();
    for key in ["foo", "foo1", "foo2", "foo2", "foo", "foo1"] {
        put(&store, key, "v");
    }
    for key in ["foo1", "foo2", "foo"] {
        delete(&store, key);
    }
    let both = Txn::new().and_then([TxnOp::put("foo", "v"), TxnOp::put("foo1", "v")]);
    store.txn(both).expect("the txn is valid");
    store
}

/// The versions of [`three_keys`] that a compaction at each revision keeps, counted by hand (R-CMP-2).
const KEPT: [(i64, u64, u64); 10] = [
    // (compacted revision, versions kept, keys with at least one version kept)
    (1, 11, 3),
    (2, 11, 3),
    (3, 11, 3),
    (4, 11, 3),
    (5, 10, 3), // foo2 at 4 is superseded
    (6, 9, 3),  // foo at 2
    (7, 8, 3),  // foo1 at 3
    (8, 7, 3),  // foo1 at 7; its tombstone at 8 stays
    (9, 5, 3),  // foo1's tombstone, foo2 at 5; foo2's tombstone at 9 stays
    (10, 3, 2), // foo2's tombstone and with it the key, foo at 6; foo's tombstone at 10 stays
];

/// R-CMP-2: each compaction runs on a new store, and after the earlier ones on one store.
#[test]
fn compaction_keeps_the_expected_versions() {
    let successive = three_keys();
    for (r, versions, _) in KEPT {
        let once = three_keys();
        once.compact(physical(r)).unwrap();
        successive.compact(physical(r)).unwrap();
        assert_eq!(once.status().unwrap().versions(), versions, "once at {r}");
        assert_eq!(successive.status().unwrap(), once.status().unwrap(), "successively at {r}");
        assert_eq!(successive.events(r).unwrap(), once.events(r).unwrap(), "at {r}");
    }
    successive.compact(physical(11)).unwrap();
    assert_eq!(successive.status().unwrap().versions(), 2);
    assert_eq!(show_all(successive.get(Get::all()).unwrap().kvs()), ["foo=v 11/11/1", "foo1=v 11/11/1"]);
}

/// R-CMP-2: the bytes of a version are released with it, and the bytes of a key with its last version.
#[test]
fn bytes_held_follow_the_kept_versions() {
    for (r, versions, key_count) in KEPT {
        let store = three_keys();
        store.compact(physical(r)).unwrap();
        // As documented at `Status::bytes_held`. A kept record has a key of 3 or 4 bytes and a value of 0 or 1.
        let held = store.status().unwrap().bytes_held();
        let (fewest, most) =
            (versions * (96 + 3) + key_count * (112 + 3), versions * (96 + 5) + key_count * (112 + 4));
        assert!((fewest..=most).contains(&held), "{held} bytes after {r}, between {fewest} and {most}");
    }
    let store = Store::new();
    put(&store, "foo", "bar");
    assert_eq!(store.status().unwrap().bytes_held(), 96 + 3 + 3 + 112 + 3);
}

/// R-CMP-2: a tombstone at exactly the compacted revision is kept, so the events from there on are complete.
#[test]
fn tombstone_at_the_compacted_revision_is_kept() {
    let store = Store::new();
    put(&store, "foo", "bar");
    put(&store, "other", "x");
    delete(&store, "foo");
    put(&store, "other", "y");
    store.compact(physical(4)).unwrap();
    assert_eq!(events(&store, 4), ["delete foo 4", "put other=y 3/5/2"]);
    assert_eq!(keys(store.get(Get::all().at(4)).unwrap().kvs()), ["other"]);
    assert_eq!(store.status().unwrap().versions(), 3);
    store.compact(physical(5)).unwrap();
    assert_eq!(store.status().unwrap().versions(), 1);
    assert_eq!(events(&store, 5), ["put other=y 3/5/2"]);
}

#[test]
fn compaction_of_deleted_keys_leaves_nothing() {
    for compact in WAYS {
        let store = Store::new();
        for _ in 0..3 {
            put(&store, "foo", "bar");
        }
        delete(&store, "foo");
        compact(&store, 5).unwrap();
        assert_eq!((revision(&store), store.get("foo").unwrap().count()), (5, 0));
        put(&store, "x", "y");
        compact(&store, 6).unwrap();
        let status = store.status().unwrap();
        assert_eq!((status.versions(), status.keys(), status.bytes_held()), (1, 1, 96 + 1 + 1 + 112 + 1));
        assert_eq!(put(&store, "foo", "again"), 7);
        assert_eq!(show_all(store.get("foo").unwrap().kvs()), ["foo=again 7/7/1"]);
    }
}

/// R-CMP-1: a physical compaction releases all memory before it returns, even if the first changes free nothing.
#[test]
fn physical_compaction_returns_after_memory_is_released() {
    let (store, _clock) = manual();
    for n in 0..1000 {
        store.put((format!("once/{n}"), "v")).unwrap();
    }
    for _ in 0..500 {
        put(&store, "hot", "v");
    }
    assert_eq!(store.status().unwrap().versions(), 1500);
    store.compact(physical(revision(&store))).unwrap();
    assert_eq!(store.status().unwrap().versions(), 1001);
}

/// The memory that `compact` does not release at once is released when the clock advances.
#[test]
fn tick_releases_all_memory() {
    let (store, clock) = manual();
    for n in 0..1000 {
        store.put((format!("once/{n}"), "v")).unwrap();
    }
    for _ in 0..500 {
        put(&store, "hot", "v");
    }
    store.compact(revision(&store)).unwrap();
    clock.advance(secs(1));
    assert_eq!(store.status().unwrap().versions(), 1001);
}

/// R-CMP-6.
#[test]
fn compaction_keeps_leases_and_the_revision() {
    let (store, clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a", "b"], 7);
    store.compact(physical(3)).unwrap();
    assert_eq!(store.time_to_live(7, true).unwrap().keys(), [b"a", b"b"]);
    clock.advance(secs(10));
    assert_eq!(
        (events(&store, 3), revision(&store)),
        (vec!["put b=v 3/3/1 #7".into(), "delete a 4".into(), "delete b 4".into()], 4)
    );
    store.compact(physical(4)).unwrap();
    assert_eq!(all_keys(&store), Vec::<String>::new());
}

/// R-TXN-1, R-CMP-3: a txn that reads a compacted revision is refused, its put included.
#[test]
fn txn_that_reads_a_compacted_revision_is_refused() {
    let store = Store::new();
    for value in ["1", "2", "3"] {
        put(&store, "foo", value);
    }
    store.compact(3).unwrap();
    let txn = |revision| Txn::new().and_then([Get::key("foo").at(revision).into(), TxnOp::put("bar", "x")]);
    assert_eq!(store.txn(txn(2)).unwrap_err(), compacted(2, 3));
    assert_eq!(store.txn(txn(6)).unwrap_err(), future(6, 4));
    assert_eq!((revision(&store), all_keys(&store)), (4, vec!["foo".into()]));
    assert!(store.txn(txn(3)).unwrap().succeeded());
}

/// Returns everything that can be read: the state at every revision from the compacted one on, and the events.
fn readable(store: &Store, from: i64) -> Vec<Vec<String>> {
    let read = |at| {
        show_all(store.get(Get::all().at(at)).expect("revisions from `from` on are not compacted").kvs())
    };
    let reads = (from.max(1)..=revision(store)).map(read);
    reads.chain([events(store, from + 1)]).collect()
}

/// R-CMP-3: over random histories, a compaction changes no readable revision, before and after its memory is released.
#[test]
fn compaction_does_not_change_readable_revisions() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    for seed in 0..40 {
        let ((store, _clock), mut random) = (manual(), Random::new(seed));
        let mut last = 0;
        for _ in 0..6 {
            for _ in 0..60 {
                change(&store, &mut random, &KEYS);
            }
            // Any revision above the compacted one, up to the current one.
            let next = last + 1 + random.below((revision(&store) - last) as u64) as i64;
            let expected = readable(&store, next);
            store.compact(next).unwrap();
            assert_eq!(readable(&store, next), expected, "compacted at {next}, seed {seed}");
            store.tick();
            assert_eq!(readable(&store, next), expected, "reclaimed at {next}, seed {seed}");
            // Revision 0 means the latest state, which can always be read.
            assert_eq!(store.get(Get::all().at(next - 1)).is_ok(), next == 1, "seed {seed}");
            last = next;
        }
    }
}

fn change(store: &Store, random: &mut Random, keys: &[&'static str]) {
    let (one, other) = (random.pick(keys), random.pick(keys));
    match random.below(5) {
        0 => drop(delete(store, one)),
        1 => drop(store.delete(KeyRange::between(one.min(other), "z")).expect("the delete is valid")),
        2 => drop(store.txn(twice(one)).expect("the txn is valid")),
        _ => drop(put(store, one, "v")),
    }
}

/// Returns a txn that changes a key twice: a delete of all keys from this one on, then a put.
fn twice(key: &'static str) -> Txn {
    Txn::new().and_then([TxnOp::delete(KeyRange::from_key(key)), TxnOp::put(key, "new")])
}

/// R-CMP-2: of two changes of a key at the compacted revision, the last one survives.
#[test]
fn compaction_keeps_the_last_of_two_changes() {
    let store = Store::new();
    put(&store, "a", "old");
    store.txn(twice("a")).unwrap();
    put(&store, "b", "x");
    assert_eq!(events(&store, 3), ["delete a 3", "put a=new 3/3/1", "put b=x 4/4/1"]);
    for r in [3, 4] {
        store.compact(r).unwrap();
        let expected = ["put a=new 3/3/1", "put b=x 4/4/1"];
        assert_eq!(events(&store, r), expected[r as usize - 3..]);
        assert_eq!(store.events(Revision::new(r - 1)).unwrap_err(), compacted(r - 1, r));
        store.tick();
        assert_eq!(events(&store, r), expected[r as usize - 3..]);
    }
    assert_eq!(show_all(store.get("a").unwrap().kvs()), ["a=new 3/3/1"]);
}

/// Invariant 3: of two changes of a key at the compacted revision, the history keeps both and the key keeps the last one.
///
/// A snapshot contains only the last one.
#[test]
fn invariants_hold_after_compaction_of_a_double_change() {
    let mut engine = helpers::engine();
    engine.put(&Put::new("a", "old")).unwrap();
    engine.txn(&twice("a")).unwrap();
    engine.compact(&Compact::new(3)).unwrap();
    engine.check_invariants();
    while engine.is_reclaiming() {
        engine.reclaim();
        engine.check_invariants();
    }
    let mut saved = Vec::new();
    leasehold::snapshot::save(&engine, &mut saved).unwrap();
    let mut loaded =
        leasehold::snapshot::load(EngineConfig::default(), LoadOptions::new(), Timestamp::ORIGIN, &saved[..])
            .unwrap();
    for engine in [&mut engine, &mut loaded] {
        engine.check_invariants();
        engine.put(&Put::new("b", "x")).unwrap();
        engine.check_invariants();
        assert_eq!(
            show_events(&engine.events(3.into()).unwrap().collect::<Vec<_>>()),
            ["put a=new 3/3/1", "put b=x 4/4/1"]
        );
    }
}
