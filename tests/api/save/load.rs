//! Incomplete and damaged snapshots: they are refused as a whole and never loaded in part.

use std::io::{self, Read};

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::snapshot::{LoadError, LoadOptions};
use leasehold::{Error, Grant, ManualClock, Store};
use leasehold_testkit::helpers::{at, delete, events, grant, manual, put, put_leased, revision, secs};
use leasehold_testkit::save_format::{CURRENT_LEN, FORMAT, crc, framed, payload};

fn load(save: &[u8]) -> Result<Engine, LoadError> {
    leasehold::snapshot::load(EngineConfig::default(), LoadOptions::new(), Timestamp::from_nanos(5), save)
}

/// Returns what the error names as corrupt.
fn corrupt(save: &[u8]) -> &'static str {
    match load(save) {
        Err(LoadError::Corrupt { what }) => what,
        other => panic!("the load returns `LoadError::Corrupt`: {other:?}"),
    }
}

/// Returns a snapshot with versions, tombstones, leases of both kinds, a compacted revision and an alarm.
fn example() -> Vec<u8> {
    let (store, clock) = manual();
    put(&store, "a", "1");
    grant(&store, 7, secs(9));
    store.grant(Grant::new(secs(60)).keep_alive()).expect("the store is open");
    put_leased(&store, &["b", "c"], 7);
    put(&store, "a", "2");
    store.compact(4).expect("the store is open");
    delete(&store, "c");
    clock.advance(secs(2));
    store
        .alarm(AlarmRequest::activate(Alarm { member_id: 1, alarm: AlarmType::NoSpace }))
        .expect("the store is open");
    let mut saved = Vec::new();
    store.save(&mut saved).expect("the store is open");
    saved
}

#[test]
fn snapshot_has_the_documented_format() {
    let save = example();
    load(&save).unwrap().check_invariants();
    assert_eq!(framed(FORMAT, &payload(&save), 65_536), save);
    load(&framed(FORMAT, &payload(&save), 1)).unwrap();
    assert_eq!(crc(b"123456789"), 0xe306_9283, "0xe3069283 is the check value of CRC-32C");
}

/// The file was written when format 1 was the newest format.
#[test]
fn snapshot_of_format_1_is_loaded() {
    let save = include_bytes!("format-1.leasehold");
    let builder = Store::builder().clock(ManualClock::new()).load_options(LoadOptions::new().keep_standing());
    let store = builder.load(&save[..]).expect("the snapshot is valid");
    assert_eq!(
        events(&store, 4),
        [
            "put a=1 4/4/1",
            "delete old 4",
            "put b=2 4/4/1",
            "put old=2 5/5/1",
            "put c=leased 6/6/1 #7",
            "put d=standing 7/7/1 #1",
            "put a=2 4/8/2",
            "delete b 9"
        ]
    );
    assert_eq!(store.hash_kv(0).unwrap().hash(), 517_254_341);
    let status = store.status().unwrap();
    assert_eq!((status.header().revision(), status.compact_revision()), (at(9), Some(at(4))));
    assert_eq!((status.keys(), status.versions(), status.leases()), (4, 8, 2));
    for (lease, left) in [(7, 7), (1, 58)] {
        assert_eq!(store.time_to_live(lease, false).unwrap().ttl(), Some(secs(left)));
    }
    assert_eq!(store.grant(secs(5)).err(), Some(Error::Corrupt), "both alarms are active");

    let mut again = Vec::new();
    store.save(&mut again).unwrap();
    let in_format_1 = framed(1, &payload(&again)[CURRENT_LEN..], 65_536);
    assert!(in_format_1 == save, "format 2 adds the current revision");

    let bumped = Store::builder().load_options(LoadOptions::new().bump_revision(3)).load(&save[..]).unwrap();
    assert_eq!(revision(&bumped), 12);
}

#[test]
fn truncated_snapshot_is_refused() {
    let save = example();
    for length in 0..save.len() {
        assert!(matches!(load(&save[..length]), Err(LoadError::Truncated)), "{length} bytes");
    }
}

#[test]
fn snapshot_with_a_flipped_bit_is_refused() {
    let mut save = example();
    for bit in 0..save.len() * 8 {
        save[bit / 8] ^= 1 << (bit % 8);
        match load(&save) {
            // The first 12 bytes are the magic bytes.
            Err(LoadError::BadMagic) => assert!(bit / 8 < 12, "bit {bit}"),
            Err(LoadError::Corrupt { .. } | LoadError::Truncated) => assert!(bit / 8 >= 12, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
        save[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn newer_snapshots_and_other_files_are_refused() {
    let newer = framed(3, b"of a later version", 100);
    let refused = load(&newer).unwrap_err();
    assert!(matches!(refused, LoadError::NewerVersion { found: 3, known: 2 }));
    assert_eq!(refused.to_string(), "saved in format 3, which is newer than format 2, the newest known");
    assert_eq!(corrupt(&framed(0, b"", 1)), "the version of the format");
    for other in [&b"x"[..], b"#!/bin/sh\nexit 0\n", &[0; 100], b"\x89leasehold\n", b"\x89PNG\r\n\x1a\n"] {
        assert!(matches!(load(other), Err(LoadError::BadMagic)), "{other:?}");
    }
    assert!(matches!(load(b""), Err(LoadError::Truncated)));
}

/// A chunk with a valid checksum is refused at another place, missing or repeated.
#[test]
fn chunks_out_of_place_are_refused() {
    let payload = payload(&example());
    let save = framed(FORMAT, &payload, 64);
    // The header has 20 bytes. A chunk of 64 bytes has 4 bytes of length before it and 4 of checksum after it.
    let chunk = |n: usize| &save[20 + n * 72..20 + (n + 1) * 72];
    let without = [&save[..20], &save[20 + 72..]].concat();
    assert_eq!(corrupt(&without), "a checksum");
    let twice = [&save[..20 + 72], &save[20..]].concat();
    assert_eq!(corrupt(&twice), "a checksum");
    let swapped = [&save[..20], chunk(1), chunk(0), &save[20 + 144..]].concat();
    assert_eq!(corrupt(&swapped), "a checksum");
    assert_eq!(
        corrupt(&framed(FORMAT, &payload[..payload.len() - 1], 64)),
        "the input ends before the last version"
    );
    assert_eq!(
        corrupt(&framed(FORMAT, &[&payload[..], b"x"].concat(), 64)),
        "the input continues after the last version"
    );
    assert_eq!(
        corrupt(&framed(FORMAT, &[&payload[..], b"x"].concat(), payload.len())),
        "the input continues after the last version"
    );
    let mut long = save.clone();
    long[20..24].copy_from_slice(&65_537_u32.to_le_bytes());
    assert_eq!(corrupt(&long), "the length of a chunk");
}

#[test]
fn load_returns_errors_of_the_reader() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(into)?;
            if read == 0 { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(read) }
        }
    }
    let save = example();
    // Within and after the magic bytes, the version with its checksum, and the first chunk.
    for length in [0, 3, 12, 14, 20, 22, 30, save.len() - 1] {
        let refused = Store::builder().load(Broken(&save[..length])).unwrap_err();
        assert!(matches!(&refused, LoadError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset));
    }
    Store::builder().load(Broken(&save)).expect("a load reads nothing beyond the end of the snapshot");
}
