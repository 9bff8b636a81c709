//! The extremes of every number in a request: revisions, ids, limits and durations.
//!
//! Each call has a defined result and no arithmetic overflows: tests are built with overflow checks.

use std::time::Duration;

use leasehold::backend::WatchRequest;
use leasehold::clock::Timestamp;
use leasehold::concurrency::{Election, Fence, LeaderWatcher, Mutex, Session};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::service::{
    ElectionService, LeaderKey, LockRequest, LockService, ProclaimRequest, ResignRequest,
};
use leasehold::snapshot::LoadOptions;
use leasehold::{
    AutoCompaction, Client, Compact, Compare, CompareOp, Delete, Get, Grant, KeyRange, LeaseId, Limits,
    ManualClock, Put, Revision, SortOrder, SortTarget, Store, Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{manual, manual_with, put, secs, session};

const NUMBERS: [i64; 9] = [i64::MIN, i64::MIN + 1, -2, -1, 0, 1, 2, i64::MAX - 1, i64::MAX];

const DURATIONS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_secs(1 << 33),
    Duration::from_nanos(u64::MAX),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

/// Makes four puts in a store and compacts it at revision 3.
fn filled(store: &Store) {
    for value in ["1", "2", "3"] {
        put(store, "a", value);
    }
    put(store, "b", "1");
    store.compact(3).expect("the revision exists");
}

fn gets(number: i64) -> Vec<Get> {
    let all = || Get::all().sort(SortTarget::CreateRevision, SortOrder::Descend);
    vec![
        all().at(number),
        all().limit(number),
        all().min_mod_revision(number),
        all().max_mod_revision(number),
        all().min_create_revision(number),
        all().max_create_revision(number),
        all().max_create_revision(number).limit(1),
        Get::key("a").at(number).max_mod_revision(number),
    ]
}

#[test]
fn reads_with_extreme_numbers_do_not_overflow() {
    let (store, _clock) = manual();
    filled(&store);
    for number in NUMBERS {
        for get in gets(number) {
            drop(store.get(get.clone()));
            drop(store.txn(Txn::new().and_then([TxnOp::Get(get)])));
        }
        drop(store.events(number));
        drop(store.hash_kv(number));
        for page_size in [0, 1, usize::MAX] {
            if let Ok(pages) = store.range_pages(Get::all().at(number).limit(number), page_size) {
                pages.for_each(drop);
            }
        }
        let revision = Revision::new(number);
        assert!(revision.next() >= revision);
    }
}

#[test]
fn writes_and_compares_with_extreme_numbers_do_not_overflow() {
    let (store, _clock) = manual();
    filled(&store);
    for number in NUMBERS {
        for op in [CompareOp::Equal, CompareOp::Less, CompareOp::from_wire(number as i32)] {
            let compares = [
                Compare::version("a", op, number),
                Compare::create_revision("a", op, number),
                Compare::mod_revision(KeyRange::all(), op, number),
                Compare::lease("a", op, number),
                Compare::from_wire("a".into(), number as i32, number as i32, number, "v"),
            ];
            store.txn(Txn::new().when(compares).or_else([TxnOp::get("a")])).unwrap();
        }
        drop(store.put(Put::new("c", "v").lease(number)));
        drop(store.compact(Compact::new(number)));
        drop(store.delete(Delete::prefix("c")));
        assert_eq!(store.get("a").unwrap().count(), 1);
    }
}

#[test]
fn leases_with_extreme_ids_and_ttls_do_not_overflow() {
    for ttl in DURATIONS {
        let limits =
            Limits { min_lease_ttl: Duration::ZERO, max_lease_ttl: Duration::MAX, ..Limits::default() };
        let (store, clock) = manual_with(limits);
        for number in NUMBERS {
            // For id 0, the store chooses the id, which may be one of the others.
            let granted = store.grant(Grant::new(ttl).id(number));
            let lease = granted.map_or_else(|_| LeaseId::new(number), |granted| granted.id());
            drop(store.grant(Grant::from_wire(number, number.wrapping_add(7))));
            store.put(Put::new(format!("k{number}"), "v").lease(lease)).unwrap();
            store.keep_alive(lease).unwrap();
            store.resume_keep_alive(lease).unwrap();
            store.time_to_live(lease, true).unwrap();
            store.pause_keep_alive(lease).unwrap();
            store.leases().unwrap();
            store.client().renew(lease, true);
            assert!(!format!("{lease:x} {lease} {lease:?}").is_empty());
            store.revoke(number.wrapping_add(7)).map(drop).unwrap_or_default();
        }
        for step in DURATIONS {
            clock.advance(step);
        }
        let mut saved = Vec::new();
        store.save(&mut saved).unwrap();
        for now in [Timestamp::ORIGIN, Timestamp::MAX] {
            let loaded =
                leasehold::snapshot::load(EngineConfig::default(), LoadOptions::new(), now, &saved[..]);
            loaded.expect("a save of a store is valid").check_invariants();
            for number in NUMBERS {
                for options in [
                    LoadOptions::new().bump_revision(number.cast_unsigned()),
                    LoadOptions::new().bump_revision_above(number).keep_standing(),
                ] {
                    if let Ok(engine) =
                        leasehold::snapshot::load(EngineConfig::default(), options, now, &saved[..])
                    {
                        engine.check_invariants();
                    }
                }
            }
        }
        let one = Session::open(&store, ttl).wait().unwrap();
        one.pause().wait().unwrap_or_default();
        one.resume().wait().unwrap_or_default();
    }
}

#[test]
fn watches_with_extreme_numbers_do_not_overflow() {
    let (store, clock) = manual();
    filled(&store);
    for number in NUMBERS {
        let mut stream = store.client().watch_stream();
        for capacity in [0, usize::MAX] {
            stream
                .create(Watch::all().start_revision(number).capacity(capacity).progress_notify().fragment());
            stream.create(Watch::key("a").id(number).prev_kv().capacity(capacity));
        }
        stream.request_progress();
        put(&store, "a", "again");
        let _ = stream.lag(number);
        stream.cancel(number);
        clock.advance(secs(600));
        while stream.try_recv().unwrap().is_some() {}
    }
}

#[test]
fn waits_with_extreme_durations_do_not_overflow() {
    for duration in DURATIONS {
        let (store, clock) = manual();
        let client: Client = store.client();
        let mut watcher = client.watch("a");
        put(&store, "a", "v");
        assert!(watcher.recv_timeout(duration).unwrap().is_some());
        let one = session(&store, 10);
        let held = Mutex::new(&one, "m").lock().wait().unwrap();
        assert!(Mutex::new(&one, "m").lock().wait_timeout(Duration::ZERO).unwrap().is_none());
        assert!(Mutex::reentrant(&one, "n").lock().wait_timeout(duration).unwrap().is_some());
        drop(held);
        let mut nap = client.sleep(duration);
        drop(nap.try_wait());
        assert_eq!(client.sleep(Duration::ZERO).wait_timeout(duration), Ok(Some(())));
        clock.advance(duration);
        clock.advance(duration);
        let timer = WatchRequest::Progress;
        let mut engine = Engine::new(EngineConfig::default(), clock.now());
        let stream = engine.open_stream();
        engine.watch(stream, &timer);
        engine.set_timer(stream, Some(clock.now() + duration));
        engine.advance(Timestamp::MAX);
        engine.check_invariants();
        assert!(LeaderWatcher::new(&store, "e").recv_timeout(duration).unwrap().is_some());
    }
}

#[test]
fn locks_and_elections_with_extreme_numbers_do_not_overflow() {
    let (store, _clock) = manual();
    let one = session(&store, 10);
    let (locks, elections) = (LockService::new(store.client()), ElectionService::new(store.client()));
    for number in NUMBERS {
        let lease = LeaseId::new(number);
        drop(locks.lock(LockRequest { name: "l".into(), lease }).try_wait());
        let leader = LeaderKey { name: "e".into(), key: "e/1".into(), rev: number.into(), lease };
        drop(elections.proclaim(ProclaimRequest { leader: Some(leader.clone()), value: "v".into() }).wait());
        drop(elections.resign(ResignRequest { leader: Some(leader) }).wait());
        drop(Election::new(&one, "e").resume("e/1", number).try_wait());
        drop(Session::open_with_lease(&store, number).wait().map(|session| session.orphan().wait()));
        drop(Fence::new().admit(number));
    }
}

#[test]
fn configurations_with_extreme_numbers_do_not_overflow() {
    let modes = DURATIONS.map(AutoCompaction::Periodic);
    let modes = modes.into_iter().chain([0, 1, u64::MAX].map(AutoCompaction::Revision));
    for mode in modes {
        for interval in [Duration::ZERO, Duration::MAX] {
            let clock = ManualClock::new();
            let store = Store::builder()
                .clock(clock.clone())
                .auto_compaction(mode)
                .progress_interval(interval)
                .cluster_id(u64::MAX)
                .member_id(u64::MAX)
                .build();
            let _watcher = store.watch(Watch::all().progress_notify()).unwrap();
            put(&store, "a", "v");
            clock.advance(secs(3));
            put(&store, "a", "w");
        }
    }
    for number in [0, 1, usize::MAX] {
        let limits = Limits {
            max_request_bytes: number,
            max_txn_ops: number,
            quota_bytes: Some(number as u64),
            min_lease_ttl: Duration::MAX,
            ..Limits::default()
        };
        let (store, _clock) = manual_with(limits);
        let _watcher = store.watch(Watch::all().fragment()).unwrap();
        drop(store.put(("a", "v")));
        drop(store.txn(Txn::new().and_then([TxnOp::Txn(Txn::new().and_then([TxnOp::put("a", "v")]))])));
        drop(store.grant(secs(5)));
        store.status().unwrap();
    }
}
