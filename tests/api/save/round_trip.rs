//! Saving and loading: the loaded store equals the saved one, before and after later requests.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::snapshot::{LoadOptions, SaveError};
use leasehold::{
    AutoCompaction, Delete, Error, Get, Grant, KeyRange, LeaseId, Limits, ManualClock, Store, Txn, TxnOp,
};
use leasehold_testkit::helpers::{
    self, all_keys, at, delete, events, grant, manual, manual_with, put, put_leased, revision, secs, value,
};

fn save(store: &Store) -> Vec<u8> {
    let mut saved = Vec::new();
    store.save(&mut saved).expect("a write to memory succeeds");
    saved
}

/// Loads a store with a new clock.
fn load(saved: &[u8]) -> (Store, ManualClock) {
    load_with(LoadOptions::new(), saved)
}

fn load_with(options: LoadOptions, saved: &[u8]) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let builder = Store::builder().clock(clock.clone()).load_options(options);
    (builder.load(saved).expect("the snapshot is valid"), clock)
}

#[test]
fn empty_store_is_saved_and_loaded() {
    let (store, _clock) = manual();
    let (loaded, _other) = load(&save(&store));
    assert_eq!(loaded.status(), store.status());
    assert_eq!(put(&loaded, "a", "1"), 2);
    assert_eq!(loaded.grant(secs(5)).unwrap().id(), LeaseId::new(1));
}

/// Reads at every revision, events and hashes of the loaded store equal those before the save.
#[test]
fn history_is_loaded_from_the_compacted_revision_on() {
    let (store, _clock) = manual();
    put(&store, "old", "1");
    put(&store, "a", "1");
    put(&store, "gone", "1");
    delete(&store, "gone");
    put(&store, "a", "2");
    store.txn(Txn::new().and_then([TxnOp::put("a", "3"), TxnOp::put("b", "1")])).unwrap();
    delete(&store, "b");
    store.compact(6).unwrap();
    let (loaded, _other) = load(&save(&store));
    assert_eq!(events(&loaded, 6), ["put a=2 3/6/2", "put a=3 3/7/3", "put b=1 7/7/1", "delete b 8"]);
    for revision in 6..=8 {
        assert_eq!(loaded.get(Get::all().at(revision)), store.get(Get::all().at(revision)));
        assert_eq!(loaded.hash_kv(revision), store.hash_kv(revision));
    }
    let compacted = Some(Error::Compacted { requested: at(5), compacted: Some(at(6)) });
    assert_eq!(loaded.get(Get::all().at(5)).err(), compacted);
    assert_eq!(loaded.events(5).err(), compacted);
    assert_eq!(save(&loaded), save(&store), "equal states have equal snapshots");
}

/// R-CMP-2: compacted versions that are not reclaimed yet are not saved, and a later compaction does not need them.
#[test]
fn unreclaimed_versions_are_not_saved() {
    let (store, _clock) = manual();
    for _ in 0..1000 {
        put(&store, "a", "1");
        put(&store, "b", "1");
        delete(&store, "b");
    }
    store.compact(3001).unwrap();
    assert!(store.status().unwrap().versions() > 2000, "most compacted versions are not reclaimed yet");
    let (loaded, _other) = load(&save(&store));
    assert_eq!(loaded.status().unwrap().versions(), 2, "key a and the last tombstone are loaded");
    assert_eq!(events(&loaded, 3001), ["delete b 3001"]);
    put(&loaded, "a", "2");
    loaded.compact(helpers::physical(3002)).unwrap();
    assert_eq!(loaded.status().unwrap().versions(), 1);
    assert_eq!(all_keys(&loaded), ["a"]);
}

/// One transaction deletes and puts a key (R-TXN-16). A compaction at its revision drops the tombstone, which leaves a gap.
#[test]
fn gap_in_the_compacted_revision_is_kept() {
    let (store, _clock) = manual();
    put(&store, "b", "1");
    let nest = |op: TxnOp| TxnOp::from(Txn::new().and_then([op]));
    let all = Delete::range(KeyRange::from_key("b"));
    store
        .txn(Txn::new().and_then([TxnOp::put("a", "1"), nest(all.into()), nest(TxnOp::put("b", "2"))]))
        .unwrap();
    store.compact(3).unwrap();
    let (loaded, _other) = load(&save(&store));
    assert_eq!(events(&loaded, 3), ["put a=1 3/3/1", "put b=2 3/3/1"]);
    assert_eq!(events(&loaded, 3), events(&store, 3));
    assert_eq!(loaded.hash_kv(0), store.hash_kv(0));
    assert_eq!(save(&loaded), save(&store));
}

/// R-LSE-12, for leases with and without automatic keep-alive.
#[test]
fn loaded_leases_keep_the_time_left() {
    let (store, clock) = manual();
    clock.advance(secs(1000));
    grant(&store, 7, secs(10));
    store.grant(Grant::new(secs(90)).id(8).keep_alive()).unwrap();
    put_leased(&store, &["a", "b"], 7);
    put_leased(&store, &["c"], 8);
    clock.advance(secs(4));
    let (loaded, other) = load_with(LoadOptions::new().keep_standing(), &save(&store));
    let left = |store: &Store, id: i64| store.time_to_live(id, true).unwrap();
    for id in [7, 8] {
        assert_eq!(left(&loaded, id), left(&store, id));
    }
    assert_eq!(loaded.next_deadline(), Some(Timestamp::from_nanos(6_000_000_000)));
    other.advance(secs(5));
    assert_eq!(all_keys(&loaded), ["a", "b", "c"]);
    other.advance(secs(1));
    assert_eq!(all_keys(&loaded), ["c"]);
    clock.advance(secs(6));
    assert_eq!(events(&loaded, 2), events(&store, 2));

    // Lease 8 is ten seconds into its interval of thirty, on a clock that is at six.
    loaded.pause_keep_alive(8).unwrap();
    store.pause_keep_alive(8).unwrap();
    assert_eq!(left(&store, 8).ttl(), Some(secs(80)));
    assert_eq!(left(&loaded, 8).ttl(), Some(secs(80)));
}

/// Due leases expire before the save. Time until the end of the load does not count.
#[test]
fn save_expires_due_leases_and_load_ignores_elapsed_time() {
    /// A clock that never ticks its stores.
    struct Unticked(std::sync::atomic::AtomicU64);
    impl leasehold::clock::Clock for Unticked {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.load(SeqCst))
        }
    }
    let clock = std::sync::Arc::new(Unticked(5.into()));
    let store = Store::builder().clock(clock.clone()).limits(brief()).build();
    for (id, ttl) in [(7, 10), (8, 30)] {
        grant(&store, id, Duration::from_nanos(ttl));
    }
    put_leased(&store, &["due"], 7);
    put_leased(&store, &["left"], 8);
    clock.0.store(20, SeqCst);
    let saved = save(&store);
    assert_eq!(events(&store, 4), ["delete due 4"]);

    let slow = ManualClock::new();
    let reader = SlowReader { saved: &saved, clock: slow.clone() };
    let loaded = Store::builder().clock(slow.clone()).limits(brief()).load(reader).unwrap();
    assert!(slow.now() > Timestamp::from_nanos(1_000_000_000));
    assert_eq!(loaded.time_to_live(8, true).unwrap().ttl(), Some(Duration::from_nanos(15)));
    assert_eq!(loaded.time_to_live(7, true).unwrap().ttl(), None);
    slow.advance(Duration::from_nanos(15));
    assert_eq!(all_keys(&loaded), [""; 0]);
}

fn brief() -> Limits {
    Limits { min_lease_ttl: Duration::ZERO, ..Limits::default() }
}

/// A reader that returns one byte per read and advances the clock by a second.
struct SlowReader<'a> {
    saved: &'a [u8],
    clock: ManualClock,
}

impl Read for SlowReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.clock.advance(secs(1));
        let most = into.len().min(1);
        self.saved.read(&mut into[..most])
    }
}

/// A lease whose deadline is beyond the end of time is loaded with its TTL.
#[test]
fn leases_beyond_the_end_of_time_are_saved() {
    let limits = Limits { max_lease_ttl: Duration::MAX, ..Limits::default() };
    let (store, clock) = manual_with(limits);
    clock.advance(secs(1 << 33));
    grant(&store, 7, Duration::MAX);
    store.grant(Grant::new(Duration::MAX).id(8).keep_alive()).unwrap();
    let (loaded, other) = load_with(LoadOptions::new().keep_standing(), &save(&store));
    assert_eq!(loaded.next_deadline(), Some(Timestamp::MAX));
    for id in [7, 8] {
        assert_eq!(loaded.time_to_live(id, false).unwrap().granted_ttl(), Some(Duration::MAX));
    }
    other.advance(secs(1 << 32));
    loaded.pause_keep_alive(8).unwrap();
    assert_eq!(loaded.leases().unwrap().leases().len(), 2);
}

/// The next lease ids and the order of leases with equal deadlines depend on the earlier grants.
#[test]
fn loaded_store_continues_lease_ids() {
    let (store, _clock) = manual();
    grant(&store, 2, secs(5));
    for expected in [1, 3] {
        assert_eq!(store.grant(secs(5)).unwrap().id(), LeaseId::new(expected));
    }
    store.revoke(3).unwrap();
    let (loaded, _other) = load(&save(&store));
    assert_eq!(loaded.leases().unwrap().leases(), [LeaseId::new(2), LeaseId::new(1)]);
    assert_eq!(loaded.grant(secs(5)).unwrap().id(), LeaseId::new(4));
}

#[test]
fn alarms_are_saved_and_configuration_is_not() {
    let (store, _clock) = manual();
    let alarms = [
        Alarm { member_id: 1, alarm: AlarmType::NoSpace },
        Alarm { member_id: u64::MAX, alarm: AlarmType::Corrupt },
    ];
    for alarm in alarms {
        store.alarm(AlarmRequest::activate(alarm)).unwrap();
    }
    let builder = Store::builder().member_id(3).auto_compaction(AutoCompaction::Periodic(secs(60)));
    let loaded = builder.clock(ManualClock::new()).load(&save(&store)[..]).unwrap();
    assert_eq!(loaded.alarm(AlarmRequest::list()).unwrap().alarms(), alarms);
    assert_eq!(loaded.put(("a", "1")), Err(Error::Corrupt));
    assert_eq!(loaded.status().unwrap().header().member_id(), 3);
    assert_eq!(loaded.next_deadline(), None, "a corrupt store is not compacted");
    loaded.alarm(AlarmRequest::deactivate(alarms[1])).unwrap();
    assert_eq!(loaded.next_deadline(), Some(Timestamp::ORIGIN + secs(60)));
}

/// The compactor's samples are not saved: the compactor starts at the loaded revision.
#[test]
fn loaded_store_restarts_automatic_compaction() {
    let (store, _clock) = manual();
    for _ in 0..9 {
        put(&store, "a", "1");
    }
    let clock = ManualClock::new();
    let builder = Store::builder().clock(clock.clone());
    let loaded = builder.auto_compaction(AutoCompaction::Periodic(secs(60))).load(&save(&store)[..]).unwrap();
    put(&loaded, "a", "1");
    clock.advance(secs(60));
    assert_eq!(loaded.status().unwrap().compact_revision(), Some(at(10)));
}

/// Values are longer than several chunks, and chunks end within values.
#[test]
fn large_values_are_saved() {
    let (store, _clock) = manual_with(Limits { max_request_bytes: 1 << 24, ..Limits::default() });
    // Lengths around a chunk's, so that chunks end within values and between them.
    for length in [65_535, 65_536, 65_537, 1_000_003, 0, 65_391, 65_392, 65_393] {
        let text: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        store.put((format!("key/{length}"), text)).unwrap();
    }
    let saved = save(&store);
    let (loaded, _other) = load(&saved);
    assert_eq!(loaded.get(Get::all()), store.get(Get::all()));
    for piece in [1, 7, 65_536, 65_544] {
        assert_eq!(loaded.hash_kv(0), load_in_pieces(&saved, piece).hash_kv(0));
    }
}

fn load_in_pieces(saved: &[u8], most: usize) -> Store {
    struct Pieces<'a>(&'a [u8], usize);
    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(&mut into[..most])
        }
    }
    Store::builder().load(Pieces(saved, most)).expect("the snapshot is valid")
}

/// A load reads to the end of the snapshot and no further, so one file can contain several snapshots.
#[test]
fn load_stops_at_the_end_of_the_snapshot() {
    let (store, _clock) = manual();
    let mut saved = Vec::new();
    for text in ["1", "2"] {
        put(&store, "a", text);
        store.save(&mut saved).unwrap();
    }
    saved.extend_from_slice(b"rest");
    let mut from = &saved[..];
    for text in ["1", "2"] {
        assert_eq!(value(&Store::builder().load(&mut from).unwrap(), "a").as_deref(), Some(text));
    }
    assert_eq!(from, b"rest");
}

/// A writer that accepts `room` bytes and then fails.
struct LimitedWriter {
    room: usize,
    flushed: bool,
}

impl Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(self.room);
        self.room -= written;
        if written == 0 { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = true;
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// etcd#9037: the summary describes the saved state even if the writer changes the store.
#[test]
fn save_under_writes_returns_summary_of_saved_state() {
    struct Putting<'a>(&'a Store, Vec<u8>);
    impl Write for Putting<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            put(self.0, "later", "1");
            self.0.compact(revision(self.0)).map_err(io::Error::other)?;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (store, _clock) = manual();
    put(&store, "gone", "1");
    put(&store, "a", "1");
    put(&store, "a", "2");
    delete(&store, "gone");
    store.compact(4).unwrap();
    grant(&store, 7, secs(10));
    put_leased(&store, &["b"], 7);
    let mut writer = Putting(&store, Vec::new());
    let summary = store.save(&mut writer).unwrap();
    let saved = writer.1;
    assert!(revision(&store) > 6, "the writer changed the store");
    assert_eq!((summary.revision(), summary.compact_revision()), (at(6), Some(at(4))));
    // `gone` has its put and its tombstone, `a` its second version, `b` its put.
    assert_eq!((summary.keys(), summary.versions(), summary.leases()), (2, 4, 1));
    assert_eq!(summary.bytes(), saved.len() as u64);
    let last = saved.last_chunk().expect("a save ends with a checksum");
    assert_eq!(summary.checksum(), u32::from_le_bytes(*last));
    let (loaded, _other) = load(&saved);
    let status = loaded.status().unwrap();
    assert_eq!(status.header().revision(), summary.revision());
    assert_eq!(status.compact_revision(), summary.compact_revision());
    assert_eq!((status.keys(), status.versions(), status.leases()), (2, 4, 1));
}

/// etcd#9037, with a concurrent writer: a revision that was read before the save can differ from the saved one.
#[test]
fn save_under_concurrent_writes_returns_saved_revision() {
    let (store, _clock) = manual();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let revision = put(&store, "a", "1");
                store.compact(revision).unwrap();
            }
        });
        for _ in 0..50 {
            let mut saved = Vec::new();
            let summary = store.save(&mut saved).unwrap();
            let (loaded, _other) = load(&saved);
            assert_eq!(loaded.status().unwrap().header().revision(), summary.revision());
        }
        done.store(true, SeqCst);
    });
}

/// Equal states have equal checksums.
#[test]
fn saves_of_equal_states_return_equal_summaries() {
    let (store, clock) = manual();
    put(&store, "a", "1");
    let summarise = |store: &Store| store.save(io::sink()).unwrap();
    let before = summarise(&store);
    clock.advance(secs(5));
    assert_eq!(summarise(&store), before);
    assert_eq!(summarise(&load(&save(&store)).0), before);
    put(&store, "a", "1");
    assert_ne!(summarise(&store).checksum(), before.checksum());
}

#[test]
fn save_returns_errors_of_the_writer() {
    let (store, _clock) = manual();
    put(&store, "a", "1");
    let length = save(&store).len();
    for room in [0, 1, 12, 19, 20, 21, length - 1] {
        let refused = store.save(LimitedWriter { room, flushed: false }).unwrap_err();
        assert!(matches!(&refused, SaveError::Io(error) if error.kind() == io::ErrorKind::StorageFull));
        assert_eq!(put(&store, "b", "2"), revision(&store), "a failed save does not affect the store");
        delete(&store, "b");
        store.compact(revision(&store)).unwrap();
    }
    let mut full = LimitedWriter { room: usize::MAX, flushed: false };
    let refused = store.save(&mut full).unwrap_err();
    assert!(matches!(&refused, SaveError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe));
    assert!(full.flushed);
}

#[test]
fn save_of_closed_store_returns_stopped() {
    let (store, _clock) = manual();
    store.close();
    let mut saved = Vec::new();
    let refused = store.save(&mut saved).unwrap_err();
    assert!(matches!(refused, SaveError::Closed(Error::Stopped)));
    assert_eq!(refused.to_string(), "etcdserver: server stopped");
    assert_eq!(saved, b"");
}

/// The writer runs without the store's lock. Its calls of the store do not change the snapshot.
#[test]
fn writer_can_call_the_store() {
    struct ReentrantWriter<'a>(&'a Store, Vec<u8>, &'a Cell<u32>);
    impl Write for ReentrantWriter<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.2.set(self.2.get() + 1);
            put(self.0, "a", "later");
            self.0.compact(revision(self.0)).map_err(io::Error::other)?;
            let nested = save(self.0);
            assert!(nested.len() > 20);
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.close();
            Ok(())
        }
    }
    let (store, _clock) = manual();
    put(&store, "a", "1");
    put(&store, "a", "2");
    let (expected, calls) = (save(&store), Cell::new(0));
    let mut busy = ReentrantWriter(&store, Vec::new(), &calls);
    store.save(&mut busy).unwrap();
    assert_eq!(busy.1, expected);
    assert!(calls.get() >= 3);
}
