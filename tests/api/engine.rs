//! The engine without a store: time, clones, state hashes, and memory that is reclaimed in pieces.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::maintenance::{Alarm, AlarmAction, AlarmRequest, AlarmType};
use leasehold::{
    AutoCompaction, Compact, Delete, Error, Get, Grant, KeyRange, KeyValue, LeaseId, Page, Put, Txn, TxnOp,
};
use leasehold_testkit::helpers::{Random, at, engine, keys, millis, secs, show, show_all};

/// The largest number of versions that one call reclaims.
const RECLAIM_MAX: u64 = 256;

fn origin_plus(seconds: u64) -> Timestamp {
    Timestamp::ORIGIN + secs(seconds)
}

fn put(engine: &mut Engine, key: &'static str, value: &'static str) {
    engine.put(&Put::new(key, value)).expect("the put is valid");
}

#[test]
fn advance_to_an_earlier_time_panics() {
    let mut engine = Engine::new(EngineConfig::default(), origin_plus(10));
    assert_eq!(engine.now(), origin_plus(10));
    engine.advance(origin_plus(10));
    engine.advance(origin_plus(11));
    let refused = catch_unwind(AssertUnwindSafe(|| engine.advance(origin_plus(11 - 1)))).unwrap_err();
    let message = refused.downcast_ref::<String>().unwrap();
    assert_eq!(message, "time never runs backwards: T10s follows T11s");
    assert_eq!(engine.now(), origin_plus(11));
}

#[test]
fn next_deadline_is_the_earliest_lease_or_compaction() {
    let auto_compaction = Some(AutoCompaction::Revision(10));
    let mut engine =
        Engine::new(EngineConfig { auto_compaction, ..EngineConfig::default() }, Timestamp::ORIGIN);
    assert_eq!(engine.next_deadline(), None, "a retention of 10 revisions compacts nothing at revision 1");
    for _ in 0..10 {
        put(&mut engine, "k", "v");
    }
    assert_eq!(engine.next_deadline(), Some(origin_plus(300)));
    engine.grant(&Grant::new(secs(400))).unwrap();
    assert_eq!(engine.next_deadline(), Some(origin_plus(300)));
    engine.grant(&Grant::new(secs(20)).id(7)).unwrap();
    assert_eq!(engine.next_deadline(), Some(origin_plus(20)));
    engine.keep_alive(LeaseId::new(7));
    engine.revoke(LeaseId::new(7)).unwrap();
    engine.advance(origin_plus(300));
    assert_eq!(engine.next_deadline(), Some(origin_plus(400)));
    engine.advance(origin_plus(1000));
    assert_eq!(engine.next_deadline(), None);
    put(&mut engine, "k", "v");
    assert_eq!(engine.next_deadline(), Some(origin_plus(1200)));
}

/// A command between two advances runs at the time of the earlier one.
#[test]
fn command_runs_at_the_time_of_the_last_advance() {
    let mut engine = engine();
    engine.advance(origin_plus(5));
    engine.grant(&Grant::new(secs(10)).id(7)).unwrap();
    engine.advance(origin_plus(8));
    assert_eq!(engine.time_to_live(LeaseId::new(7), false).ttl(), Some(secs(7)));
    assert_eq!(engine.keep_alive(LeaseId::new(7)).ttl(), Some(secs(10)));
    assert_eq!(engine.next_deadline(), Some(origin_plus(18)));
}

/// R-MNT-8: alarms do not prevent expiry, neither by time nor by `expire`.
#[test]
fn leases_expire_under_alarms() {
    let mut engine = engine();
    for id in [1, 2, 3] {
        engine.grant(&Grant::new(secs(5)).id(id)).unwrap();
        engine.put(&Put::new(format!("k{id}"), "v").lease(id)).unwrap();
    }
    for alarm in [AlarmType::Corrupt, AlarmType::NoSpace] {
        engine.alarm(&AlarmRequest { action: AlarmAction::Activate, member_id: 1, alarm });
    }
    assert_eq!(engine.revoke(LeaseId::new(1)).unwrap_err(), Error::Corrupt);
    assert_eq!(engine.expire(LeaseId::new(1)).unwrap().header().revision(), at(5));
    assert_eq!(engine.expire(LeaseId::new(1)).unwrap_err(), Error::LeaseNotFound);
    engine.advance(origin_plus(5));
    assert_eq!((engine.status().leases(), engine.status().keys()), (0, 0));
    assert_eq!(engine.status().header().revision(), at(7));
}

/// Keys, leases, alarms, time and garbage of a clone change independently of the original.
#[test]
fn clone_is_independent() {
    let mut one = engine();
    one.grant(&Grant::new(secs(5)).id(7)).unwrap();
    one.put(&Put::new("leased", "v").lease(7)).unwrap();
    for _ in 0..1000 {
        put(&mut one, "k", "v");
    }
    one.compact(&Compact::new(1002)).unwrap();
    let mut other = one.clone();
    assert_eq!(other.state_hash(), one.state_hash());
    let before = (other.state_hash(), other.status());
    one.advance(origin_plus(10));
    one.delete(&Delete::range(KeyRange::all())).unwrap();
    while one.is_reclaiming() {
        one.reclaim();
    }
    one.alarm(&AlarmRequest { action: AlarmAction::Activate, member_id: 1, alarm: AlarmType::NoSpace });
    assert_eq!((other.state_hash(), other.status()), before);
    assert_ne!(other.state_hash(), one.state_hash());
    assert_eq!(keys(other.get(&Get::all()).unwrap().kvs()), ["k", "leased"]);
    assert_eq!(other.next_deadline(), Some(origin_plus(5)));
    put(&mut other, "only here", "v");
    assert_eq!(one.get(&"only here".into()).unwrap().count(), 0);
    one.check_invariants();
    other.check_invariants();
}

/// Clones that run equal commands stay equal.
#[test]
fn clones_with_equal_commands_stay_equal() {
    let mut one = engine();
    workload(&mut one, 1, 300);
    let mut other = one.clone();
    workload(&mut one, 2, 300);
    workload(&mut other, 2, 300);
    assert_eq!((one.state_hash(), one.status()), (other.state_hash(), other.status()));
}

/// Runs random commands of all kinds.
fn workload(engine: &mut Engine, seed: u64, commands: u64) {
    const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut random = Random::new(seed);
    for _ in 0..commands {
        let (key, id) = (random.pick(&KEYS), 1 + random.below(6) as i64);
        let lease = LeaseId::new(id);
        match random.below(10) {
            0 => drop(engine.grant(&Grant::new(secs(2 + random.below(20))).id(id))),
            1 => drop(engine.delete(&Delete::range(KeyRange::between(key, "z")))),
            2 => drop(engine.txn(&Txn::new().and_then([TxnOp::put(key, "x"), TxnOp::put("z", "y")]))),
            3 => drop(engine.put(&Put::new(key, "leased").lease(lease))),
            4 => assert_eq!(engine.keep_alive(lease).id(), lease),
            5 => drop(engine.revoke(lease)),
            6 => engine.advance(engine.now() + millis(random.below(3000))),
            7 if random.one_in(4) => {
                let current = engine.status().header().revision().get();
                drop(engine.compact(&Compact::new(current - random.below(40) as i64)));
            }
            _ => put(engine, key, "v"),
        }
    }
}

#[test]
fn hash_seed_does_not_change_results() {
    let run = |hash_seed| {
        let mut engine =
            Engine::new(EngineConfig { hash_seed, ..EngineConfig::default() }, Timestamp::ORIGIN);
        workload(&mut engine, 7, 3000);
        engine.check_invariants();
        let compacted = engine.status().compact_revision().unwrap();
        let events: Vec<_> = engine.events(compacted).unwrap().collect();
        (engine.state_hash(), engine.status(), show_all(engine.get(&Get::all()).unwrap().kvs()), events)
    };
    let expected = run(0);
    for seed in [1, 0xdead_beef, u64::MAX] {
        assert_eq!(run(seed), expected, "hash seed {seed}");
    }
}

/// The progress of reclaiming is not a part of the state.
#[test]
fn state_hash_ignores_reclaiming() {
    let mut engine = long_history();
    let current = engine.status().header().revision();
    engine.compact(&current.into()).unwrap();
    let hash = engine.state_hash();
    let versions = engine.status().versions();
    assert!(engine.is_reclaiming(), "the compaction leaves garbage to reclaim");
    while engine.is_reclaiming() {
        engine.reclaim();
        assert_eq!(engine.state_hash(), hash);
        engine.check_invariants();
    }
    assert!(engine.status().versions() < versions);
}

/// Each command that changes the state changes the hash.
#[test]
fn state_hash_covers_every_change() {
    let changes: [fn(&mut Engine); 14] = [
        |engine| put(engine, "a", "v"),
        |engine| put(engine, "a", "v"),
        |engine| drop(engine.grant(&Grant::new(secs(10)).id(7))),
        |engine| drop(engine.put(&Put::new("a", "v").lease(7))),
        |engine| engine.advance(origin_plus(1)),
        |engine| assert_eq!(engine.keep_alive(LeaseId::new(7)).ttl(), Some(secs(10))),
        |engine| drop(engine.resume_keep_alive(LeaseId::new(7))),
        |engine| drop(engine.pause_keep_alive(LeaseId::new(7))),
        |engine| drop(engine.compact(&Compact::new(2))),
        |engine| drop(engine.compact(&Compact::new(4))),
        |engine| drop(engine.delete(&"a".into())),
        |engine| drop(engine.revoke(LeaseId::new(7))),
        |engine| {
            let alarm = AlarmType::NoSpace;
            drop(engine.alarm(&AlarmRequest { action: AlarmAction::Activate, member_id: 1, alarm }));
        },
        |engine| {
            let (alarm, member_id) = (AlarmType::NoSpace, 1);
            let ended = engine.alarm(&AlarmRequest { action: AlarmAction::Deactivate, member_id, alarm });
            assert_eq!(ended.alarms(), [Alarm { member_id, alarm }]);
        },
    ];
    let mut engine = engine();
    let mut hash = engine.state_hash();
    for (n, change) in changes.into_iter().enumerate() {
        let no_alarm = hash;
        change(&mut engine);
        assert_ne!(engine.state_hash(), no_alarm, "change {n}");
        hash = engine.state_hash();
    }
}

/// Two states with equal status but different later answers have different hashes. Here the order of leases differs.
#[test]
fn state_hash_covers_the_order_of_leases() {
    let granted = |ids: [i64; 2]| {
        let mut engine = engine();
        for id in ids {
            engine.grant(&Grant::new(secs(5)).id(id)).unwrap();
        }
        engine
    };
    let (one, other) = (granted([1, 2]), granted([2, 1]));
    assert_eq!(one.status(), other.status());
    assert_ne!(one.leases(), other.leases());
    assert_ne!(one.state_hash(), other.state_hash());
}

/// Reads do not change the state.
#[test]
fn state_hash_ignores_reads() {
    let mut engine = engine();
    workload(&mut engine, 5, 500);
    let hash = engine.state_hash();
    engine.get(&Get::all()).unwrap();
    engine.hash_kv(at(0)).unwrap();
    engine.time_to_live(LeaseId::new(1), true);
    engine.leases();
    engine.status();
    engine.alarm(&AlarmRequest { action: AlarmAction::Get, member_id: 0, alarm: AlarmType::None });
    engine.txn(&Txn::new().and_then([TxnOp::get("a")])).unwrap();
    engine.delete(&"absent".into()).unwrap();
    assert_eq!(engine.state_hash(), hash);
}

/// Runs a command that adds `adds` versions, and asserts that it reclaims at most the bound.
fn assert_bounded(engine: &mut Engine, adds: u64, command: impl FnOnce(&mut Engine)) {
    let before = engine.status().versions();
    command(engine);
    let reclaimed = before + adds - engine.status().versions();
    assert!(reclaimed <= RECLAIM_MAX, "one command reclaimed {reclaimed} versions");
}

/// Returns an engine with keys put once, keys put often, and deleted keys: the three kinds of garbage.
fn long_history() -> Engine {
    let mut engine = engine();
    for n in 0..700 {
        engine.put(&Put::new(format!("once/{n}"), "v")).expect("the put is valid");
    }
    for n in 0..4000 {
        let key = format!("often/{}", n % 50);
        engine.put(&Put::new(key.clone(), "v")).expect("the put is valid");
        if n % 3 == 0 {
            engine.delete(&Delete::key(key)).expect("the delete is valid");
        }
    }
    engine
}

#[test]
fn command_reclaims_at_most_its_bound() {
    let mut engine = long_history();
    let current = engine.status().header().revision();
    engine.grant(&Grant::new(secs(1000)).id(7)).unwrap();
    assert_bounded(&mut engine, 0, |engine| {
        assert_eq!(engine.compact(&current.into()).unwrap().header().revision(), current);
    });
    let mut seconds = 0;
    while engine.is_reclaiming() {
        seconds += 1;
        assert_bounded(&mut engine, 1, |engine| put(engine, "new", "v"));
        assert_bounded(&mut engine, 0, |engine| engine.advance(origin_plus(seconds)));
        assert_bounded(&mut engine, 2, |engine| {
            let two = [TxnOp::put("new", "1"), TxnOp::put("newer", "2")];
            drop(engine.txn(&Txn::new().and_then(two)).unwrap());
        });
        assert_bounded(&mut engine, 1, |engine| drop(engine.delete(&"new".into()).unwrap()));
        assert_bounded(&mut engine, 0, |engine| drop(engine.grant(&Grant::new(secs(60)))));
        assert_bounded(&mut engine, 0, |engine| {
            engine.reclaim();
        });
    }
    engine.check_invariants();
    assert!(seconds > 3, "reclaiming takes several rounds");
}

/// `reclaim` returns the number of versions that it removed, which can be zero. When it is done, only readable versions are
/// held.
#[test]
fn reclaim_returns_the_number_of_removed_versions() {
    let mut engine = long_history();
    let current = engine.status().header().revision();
    engine.compact(&current.into()).unwrap();
    let mut pieces = Vec::new();
    while engine.is_reclaiming() {
        let before = engine.status().versions();
        pieces.push(engine.reclaim() as u64);
        assert_eq!(before - engine.status().versions(), pieces[pieces.len() - 1]);
    }
    assert!(pieces.iter().all(|&reclaimed| reclaimed <= RECLAIM_MAX), "{pieces:?}");
    assert!(pieces.len() > 20 && pieces[0] == 0, "the first piece walks keys that were put once: {pieces:?}");
    assert_eq!(engine.reclaim(), 0);
    // Each live key has one version, and a tombstone at the compacted revision is kept (R-CMP-2).
    assert_eq!(engine.status().versions(), engine.status().keys() + u64::from(last_is_tombstone(&engine)));
}

/// Returns whether the newest change is a delete. It is at the compacted revision, so its tombstone is kept.
fn last_is_tombstone(engine: &Engine) -> bool {
    let current = engine.status().header().revision();
    let mut events = engine.events(current).expect("the events of the current revision can always be read");
    events.any(|event| event.event_type() == leasehold::EventType::Delete)
}

/// `take_garbage` returns every reclaimed record, and no record that can still be read.
#[test]
fn garbage_contains_the_superseded_records() {
    let mut engine = engine();
    assert_eq!(engine.take_garbage(), []);
    for _ in 0..300 {
        put(&mut engine, "k", "v");
    }
    put(&mut engine, "gone", "v");
    engine.delete(&"gone".into()).unwrap();
    put(&mut engine, "k", "last");
    assert_eq!(engine.take_garbage(), [], "there is no garbage before a compaction");
    engine.compact(&Compact::new(304)).unwrap();
    let mut garbage: Vec<KeyValue> = engine.take_garbage();
    assert!(!garbage.is_empty());
    assert_eq!(engine.take_garbage(), []);
    while engine.is_reclaiming() {
        engine.reclaim();
        garbage.extend(engine.take_garbage());
    }
    let shown: BTreeSet<String> = garbage.iter().map(show).collect();
    let expected = (2..=301)
        .map(|n| format!("k=v 2/{n}/{}", n - 1))
        .chain(["gone=v 302/302/1", "gone= 0/303/0"].map(String::from));
    assert_eq!(shown, expected.collect());
    assert_eq!(engine.status().versions(), 1);
}

/// Garbage that is not taken does not accumulate: each piece drops the garbage of the piece before.
///
/// A piece walks over 128 changes. Each releases at most three handles: the version before it, itself, and its place in history.
#[test]
fn untaken_garbage_is_dropped_by_the_next_piece() {
    let mut engine = long_history();
    let current = engine.status().header().revision();
    engine.compact(&current.into()).unwrap();
    for _ in 0..20 {
        engine.reclaim();
    }
    let left = engine.take_garbage().len();
    assert!((128..=3 * 128).contains(&left), "{left} records");
}

#[test]
fn page_returns_a_part_of_a_range_at_a_revision() {
    let mut engine = engine();
    for key in ["a", "b", "c", "d"] {
        put(&mut engine, key, "1");
    }
    put(&mut engine, "b", "2");
    let page = |engine: &Engine, range: KeyRange, revision, limit| {
        let page = engine.page(&Page::new(range, limit).at(revision));
        page.map(|page| (show_all(page.kvs()).join(", "), page.more()))
    };
    let whole = "a=1 2/2/1, b=2 3/6/2, c=1 4/4/1, d=1 5/5/1";
    assert_eq!(page(&engine, KeyRange::all(), 6, 4), Ok((whole.into(), false)));
    assert_eq!(page(&engine, KeyRange::all(), 5, 2), Ok(("a=1 2/2/1, b=1 3/3/1".into(), true)));
    assert_eq!(page(&engine, KeyRange::from_key("c"), 4, 2), Ok(("c=1 4/4/1".into(), false)));
    assert_eq!(page(&engine, KeyRange::all(), 6, 0), Ok(("a=1 2/2/1".into(), true)));
    assert_eq!(page(&engine, KeyRange::all(), 6, usize::MAX), Ok((whole.into(), false)));
    engine.compact(&Compact::new(5)).unwrap();
    let compacted = Error::Compacted { requested: at(4), compacted: Some(at(5)) };
    assert_eq!(page(&engine, KeyRange::all(), 4, 2), Err(compacted));
    let future = Error::FutureRevision { requested: at(7), current: at(6) };
    assert_eq!(page(&engine, KeyRange::all(), 7, 2), Err(future));
}
