//! Load options: leases of a process that has ended, and revision bumps for an older snapshot.

use leasehold::clock::Timestamp;
use leasehold::concurrency::{Election, Fence, Mutex, Session};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::snapshot::{LoadError, LoadOptions};
use leasehold::{
    AutoCompaction, Compact, Compare, CompareOp, Delete, Error, Get, Grant, LeaseId, ManualClock, Put,
    Revision, Store, Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{
    all_keys, at, delete, engine, events, grant, manual, put, put_leased, revision, secs, session, taken,
    value,
};
use leasehold_testkit::save_format::State;

fn save(store: &Store) -> Vec<u8> {
    let mut saved = Vec::new();
    store.save(&mut saved).expect("a write to memory succeeds");
    saved
}

/// Loads a store with a new clock.
fn load(options: LoadOptions, saved: &[u8]) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let builder = Store::builder().clock(clock.clone()).load_options(options);
    (builder.load(saved).expect("the snapshot is valid"), clock)
}

/// R-LSE-12, CURATOR-396: the loaded store does not renew the lease of an ended process, so the lock is released after the TTL.
#[test]
fn lock_of_ended_process_is_released_after_remaining_ttl() {
    let (store, clock) = manual();
    let ended = session(&store, 12);
    let _guard = Mutex::new(&ended, "disk").lock().wait().unwrap();
    // The automatic keep-alive renews every 4 s. After 7 s, the last renewal is 3 s old, so 9 s of its 12 s are left.
    clock.advance(secs(7));
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    let mine = session(&loaded, 60);
    let mut waiting = Mutex::new(&mine, "disk").lock();
    clock.advance(secs(8));
    assert!(waiting.try_wait().unwrap().is_none(), "the lease of the ended process has a second left");
    clock.advance(secs(1));
    assert_eq!(taken(&mut waiting).key(), b"disk/2-0");
}

#[test]
fn loaded_lease_is_kept_by_returning_process() {
    let (store, _clock) = manual();
    let ended = session(&store, 10);
    let leadership = Election::new(&ended, "db").campaign("node-1").wait().unwrap();
    let (key, token) = (leadership.key().to_vec(), leadership.token());
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    clock.advance(secs(9));
    let returned = Session::open_with_lease(&loaded, ended.lease()).wait().unwrap();
    let resumed = Election::new(&returned, "db").resume(key, token).wait().unwrap();
    clock.advance(secs(3600));
    resumed.proclaim("node-1, returned").wait().unwrap();
    let other = session(&loaded, 10);
    let mut candidate = Election::new(&other, "db").campaign("node-2");
    assert!(candidate.try_wait().unwrap().is_none(), "the resumed leadership keeps node-2 waiting");
    drop(resumed);
    drop(returned);
    assert!(taken(&mut candidate).token() > token);
}

#[test]
fn open_with_expired_lease_returns_lease_not_found() {
    let (store, _clock) = manual();
    let ended = session(&store, 10);
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    clock.advance(secs(10));
    assert_eq!(Session::open_with_lease(&loaded, ended.lease()).wait().err(), Some(Error::LeaseNotFound));
}

#[test]
fn keep_standing_restores_automatic_keep_alive() {
    let (store, _clock) = manual();
    store.grant(Grant::new(secs(12)).id(7).keep_alive()).unwrap();
    put_leased(&store, &["a"], 7);
    let (loaded, clock) = load(LoadOptions::new().keep_standing(), &save(&store));
    assert_eq!(loaded.next_deadline(), None);
    clock.advance(secs(3600));
    assert_eq!(all_keys(&loaded), ["a"]);
    let (loaded, clock) = load(LoadOptions::new(), &save(&loaded));
    assert_eq!(loaded.next_deadline(), Some(Timestamp::ORIGIN + secs(12)));
    clock.advance(secs(12));
    assert_eq!(all_keys(&loaded), [""; 0]);
}

/// etcd#16028: the loaded store refuses tokens, compares, reads and watches at lost revisions.
#[test]
fn older_snapshot_with_bump_refuses_lost_revisions() {
    let (store, _clock) = manual();
    put(&store, "cfg", "0");
    let saved = save(&store);
    let fence = Fence::new();
    let old = session(&store, 10);
    let guard = Mutex::new(&old, "disk").lock().wait().unwrap();
    let old_token = guard.token();
    fence.admit(old_token).unwrap();
    let lost = at(put(&store, "cfg", "mine"));
    let lost_count = (lost.get() - 2) as u64;
    let cases =
        [LoadOptions::new().bump_revision_above(lost), LoadOptions::new().bump_revision(lost_count + 2)];
    for options in cases {
        let (loaded, _clock) = load(options, &saved);
        let new = session(&loaded, 10);
        let held = Mutex::new(&new, "disk").lock().wait().unwrap();
        assert!(held.token() > lost);
        let fence = Fence::new();
        fence.admit(old_token).unwrap();
        fence.admit(held.token()).unwrap();
        assert!(matches!(fence.admit(old_token), Err(Error::StaleToken { .. })));
        put(&loaded, "cfg", "theirs");
        for from in 1..=lost.next().get() {
            let mut cache = loaded.watch(Watch::key("cfg").start_revision(from)).unwrap();
            assert!(matches!(cache.try_recv(), Err(Error::Compacted { .. })), "from {from}");
        }
        for revision in 1..=lost.get() {
            let read = loaded.get(Get::all().at(revision));
            assert!(matches!(read, Err(Error::Compacted { .. })), "at {revision}");
        }
        let unchanged = Compare::mod_revision("cfg", CompareOp::Equal, lost);
        let swap = Txn::new().when([unchanged]).and_then([TxnOp::put("cfg", "lost update")]);
        assert!(!loaded.txn(swap).unwrap().succeeded());
        assert_eq!(value(&loaded, "cfg").as_deref(), Some("theirs"));
    }
}

/// Returns a store at revision 6 with a superseded version, a tombstone, a lease and an alarm, and its snapshot.
///
/// The store is compacted at 4.
fn example() -> (Store, Vec<u8>) {
    let (store, _) = example_without_alarm();
    store
        .alarm(AlarmRequest::activate(Alarm { member_id: 1, alarm: AlarmType::NoSpace }))
        .expect("the store is open");
    let saved = save(&store);
    (store, saved)
}

fn example_without_alarm() -> (Store, Vec<u8>) {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    put(&store, "gone", "1");
    put(&store, "a", "2");
    store.compact(4).expect("revision 4 is not compacted");
    grant(&store, 7, secs(10));
    put_leased(&store, &["b"], 7);
    delete(&store, "gone");
    let saved = save(&store);
    (store, saved)
}

fn load_engine(options: LoadOptions, saved: &[u8]) -> Result<Engine, LoadError> {
    let engine = leasehold::snapshot::load(EngineConfig::default(), options, Timestamp::ORIGIN, saved)?;
    engine.check_invariants();
    Ok(engine)
}

#[test]
fn bumped_store_is_compacted_at_current_revision() {
    let (store, saved) = example();
    let (loaded, clock) = load(LoadOptions::new().bump_revision(94), &saved);
    let status = loaded.status().unwrap();
    assert_eq!((status.header().revision(), status.compact_revision()), (at(100), Some(at(100))));
    assert_eq!(
        (status.keys(), status.versions(), status.leases()),
        (2, 2, 1),
        "the bump reclaims the history"
    );
    assert_eq!(loaded.get(Get::all()).unwrap().kvs(), store.get(Get::all()).unwrap().kvs());
    assert_eq!(loaded.get(Get::all().at(100)).unwrap().kvs().len(), 2);
    let compacted = |requested| Some(Error::Compacted { requested: at(requested), compacted: Some(at(100)) });
    assert_eq!(loaded.get(Get::all().at(99)).err(), compacted(99));
    assert_eq!(loaded.events(99).err(), compacted(99));
    assert_eq!(loaded.events(100).unwrap(), []);
    assert_eq!(loaded.compact(100).err(), compacted(100));
    let future = Some(Error::FutureRevision { requested: at(101), current: at(100) });
    assert_eq!(loaded.get(Get::all().at(101)).err(), future);
    assert_eq!(loaded.hash_kv(100).err(), compacted(100));
    assert_eq!(loaded.hash_kv(0).unwrap().hash_revision(), at(100));
    assert_eq!(loaded.alarm(AlarmRequest::list()).unwrap().alarms().len(), 1);
    let mut watcher = loaded.watch(Watch::key("b").start_revision(100).prev_kv()).unwrap();
    clock.advance(secs(10));
    assert_eq!(events(&loaded, 100), ["delete b 101"]);
    let expired = watcher.try_recv().unwrap().expect("the expiry of the key's lease is delivered");
    assert_eq!(expired.events()[0].prev_kv().map(|kv| kv.mod_revision()), Some(at(5)));
}

/// A bumped revision has no version, so the snapshot must contain the current revision. Invariants hold in each state.
#[test]
fn bumped_engine_is_saved_and_loaded() {
    let steps: [fn(&mut Engine); 5] = [
        |_engine| {},
        |engine| assert!(engine.put(&Put::new("a", "3")).is_ok()),
        |engine| assert!(engine.delete(&Delete::prefix("a")).is_ok()),
        |engine| assert!(engine.compact(&Compact::new(102)).is_ok()),
        |engine| assert!(engine.put(&Put::new("a", "4")).is_ok()),
    ];
    let mut engine = engine();
    engine.put(&Put::new("a", "1")).unwrap();
    engine.put(&Put::new("a", "2")).unwrap();
    let mut engine = reload(&engine, LoadOptions::new().bump_revision_above(98));
    assert_eq!(engine.status().header().revision(), at(100));
    for (step, change) in steps.into_iter().enumerate() {
        change(&mut engine);
        engine.check_invariants();
        let loaded = reload(&engine, LoadOptions::new());
        assert_eq!(loaded.state_hash(), engine.state_hash(), "step {step}");
        let bumped = reload(&engine, LoadOptions::new().bump_revision(7));
        let revision = engine.status().header().revision().get() + 7;
        assert_eq!(bumped.status().header().revision(), at(revision), "step {step}");
    }
    assert_eq!(engine.status().header().revision(), at(103));
}

fn reload(engine: &Engine, options: LoadOptions) -> Engine {
    let mut saved = Vec::new();
    leasehold::snapshot::save(engine, &mut saved).expect("a write to memory succeeds");
    load_engine(options, &saved).expect("the snapshot is valid")
}

#[test]
fn snapshot_above_the_bump_is_loaded_unchanged() {
    let (_store, saved) = example();
    for below in [i64::MIN, -1, 0, 5] {
        let (loaded, _clock) = load(LoadOptions::new().bump_revision_above(below), &saved);
        assert_eq!(save(&loaded), saved, "above {below}");
    }
    let (loaded, _clock) = load(LoadOptions::new().bump_revision(0), &saved);
    assert_eq!(save(&loaded), saved);
    let (loaded, _clock) = load(LoadOptions::new().bump_revision_above(6), &saved);
    assert_eq!(revision(&loaded), 8, "revision 6 itself may be of another timeline");
    let replaced = LoadOptions::new().bump_revision(9).bump_revision_above(3);
    assert_eq!(revision(&load(replaced, &saved).0), 6, "the last bump counts");
}

/// A client of the lost timeline that revokes its lease does not revoke a lease of the loaded store.
#[test]
fn bump_skips_lost_lease_ids() {
    let (store, _clock) = manual();
    let kept = store.grant(secs(60)).unwrap().id();
    let saved = save(&store);
    let lost = store.grant(secs(60)).unwrap().id();
    assert_eq!(
        load(LoadOptions::new(), &saved).0.grant(secs(60)).unwrap().id(),
        lost,
        "without a bump, the lost id is granted again"
    );
    let (loaded, _clock) = load(LoadOptions::new().bump_revision(1), &saved);
    let new = loaded.grant(secs(60)).unwrap().id();
    assert!(new.get() > 1 << 32, "a bump skips lease ids: {new:?}");
    assert_eq!(loaded.revoke(lost).err(), Some(Error::LeaseNotFound));
    assert_eq!(loaded.leases().unwrap().leases(), [kept, new], "leases are in the order of their grants");
    let (again, _clock) = load(LoadOptions::new(), &save(&loaded));
    assert_eq!(again.grant(secs(60)).unwrap().id(), LeaseId::new(new.get() + 1));
}

/// An owner that returns after a bump keeps its token, which is lower than the lost owner's token.
#[test]
fn returning_owner_is_refused_by_the_lost_owners_fence() {
    let (store, clock) = manual();
    let first = session(&store, 10);
    let leadership = Election::new(&first, "db").campaign("node-1").wait().unwrap();
    let (key, token) = (leadership.key().to_vec(), leadership.token());
    let saved = save(&store);
    let second = session(&store, 60);
    let mut candidate = Election::new(&second, "db").campaign("node-2");
    drop(first.pause().wait());
    clock.advance(secs(10));
    let lost = taken(&mut candidate).token();
    let fence = Fence::new();
    fence.admit(lost).unwrap();

    let (loaded, _clock) = load(LoadOptions::new().bump_revision_above(lost), &saved);
    let returned = Session::open_with_lease(&loaded, first.lease()).wait().unwrap();
    let resumed = Election::new(&returned, "db").resume(key, token).wait().unwrap();
    assert!(matches!(fence.admit(resumed.token()), Err(Error::StaleToken { .. })));
    resumed.resign().wait().unwrap();
    let again = Election::new(&returned, "db").campaign("node-1").wait().unwrap();
    fence.admit(again.token()).unwrap();
}

/// R-CMP-7, R-CMP-8: the compactor starts at the bumped revision.
#[test]
fn auto_compaction_after_bump_compacts_above_bumped_revision() {
    let (_store, saved) = example_without_alarm();
    for (mode, after) in
        [(AutoCompaction::Periodic(secs(60)), secs(60)), (AutoCompaction::Revision(2), secs(300))]
    {
        let clock = ManualClock::new();
        let builder = Store::builder().clock(clock.clone()).auto_compaction(mode);
        let options = LoadOptions::new().bump_revision_above(98);
        let loaded = builder.load_options(options).load(&saved[..]).unwrap();
        clock.advance(after);
        assert_eq!(compacted(&loaded), Some(at(100)), "{mode:?}");
        for _ in 0..5 {
            put(&loaded, "a", "3");
        }
        clock.advance(after * 2);
        // The expiry of the lease deleted a key at 101.
        let expected = if mode == AutoCompaction::Revision(2) { 104 } else { 106 };
        assert_eq!(compacted(&loaded), Some(at(expected)), "{mode:?}");
        assert_eq!(value(&loaded, "a").as_deref(), Some("3"));
    }
}

fn compacted(store: &Store) -> Option<Revision> {
    store.status().expect("the store is open").compact_revision()
}

/// A refused bump loads nothing. At the highest revision after a bump, the store can still be used and saved.
#[test]
fn bump_out_of_range_is_refused() {
    const HIGHEST: i64 = 1 << 61;
    let (_store, saved) = example_without_alarm();
    let current = load_engine(LoadOptions::new(), &saved).unwrap().status().header().revision().get();
    let too_large = HIGHEST.cast_unsigned() - current.cast_unsigned() + 1;
    for by in [too_large, i64::MAX.cast_unsigned(), u64::MAX] {
        let refused = load_engine(LoadOptions::new().bump_revision(by), &saved).unwrap_err();
        assert!(matches!(refused, LoadError::BumpOutOfRange), "by {by}");
        assert_eq!(refused.to_string(), "the bump leaves the range of revisions or lease ids");
    }
    for above in [HIGHEST - 1, i64::MAX - 1, i64::MAX] {
        let refused =
            Store::builder().load_options(LoadOptions::new().bump_revision_above(above)).load(&saved[..]);
        assert!(matches!(refused, Err(LoadError::BumpOutOfRange)), "above {above}");
    }
    for options in
        [LoadOptions::new().bump_revision(too_large - 1), LoadOptions::new().bump_revision_above(HIGHEST - 2)]
    {
        let mut engine = load_engine(options, &saved).unwrap();
        assert_eq!(engine.status().header().revision(), at(HIGHEST));
        for _ in 0..3 {
            engine.put(&Put::new("a", "4")).unwrap();
        }
        engine.compact(&Compact::new(HIGHEST + 2)).unwrap();
        engine.check_invariants();
        assert_eq!(reload(&engine, LoadOptions::new()).state_hash(), engine.state_hash());
    }
}

/// The number of leases is bounded too, since a bump skips lease ids.
#[test]
fn bump_of_highest_lease_count_is_refused() {
    let skipped = 1 << 32;
    let highest = (1 << 61) - skipped;
    let bump = || LoadOptions::new().bump_revision(1);
    let state = State { next_sequence: highest, ..State::good() };
    load_engine(bump(), &state.save()).unwrap();
    for next_sequence in [highest + 1, (1 << 62) - 1] {
        let state = State { next_sequence, ..State::good() };
        load_engine(LoadOptions::new(), &state.save()).unwrap();
        assert!(matches!(load_engine(bump(), &state.save()), Err(LoadError::BumpOutOfRange)));
    }
}
