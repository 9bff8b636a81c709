//! What is not a whole and sound save is refused, and never loaded in part: pieces missing, moved, changed, or too many.

mod shorthand;
mod support;

use std::io::{self, Read};

use leasehold::{Alarm, AlarmRequest, AlarmType, Engine, EngineConfig, Grant, LoadError, Store, Timestamp};
use shorthand::{delete, grant, manual, put, put_leased, secs};
use support::save_format::{crc, framed, payload};

fn load(save: &[u8]) -> Result<Engine, LoadError> {
    Engine::load(EngineConfig::default(), Timestamp::from_nanos(5), save)
}

/// What the save is said to be corrupt by.
fn corrupt(save: &[u8]) -> &'static str {
    match load(save) {
        Err(LoadError::Corrupt { what }) => what,
        other => panic!("not corrupt: {other:?}"),
    }
}

/// A store with something of everything in it.
fn example() -> Vec<u8> {
    let (store, clock) = manual();
    put(&store, "a", "1");
    grant(&store, 7, secs(9));
    store.grant(Grant::new(secs(60)).standing()).expect("the store is open");
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
fn the_format_is_as_written_down() {
    let save = example();
    load(&save).unwrap().check_invariants();
    assert_eq!(framed(1, &payload(&save), 65_536), save);
    load(&framed(1, &payload(&save), 1)).unwrap();
    assert_eq!(crc(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
}

#[test]
fn every_truncated_save_is_refused() {
    let save = example();
    for length in 0..save.len() {
        assert!(matches!(load(&save[..length]), Err(LoadError::Truncated)), "{length} bytes");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let mut save = example();
    for bit in 0..save.len() * 8 {
        save[bit / 8] ^= 1 << (bit % 8);
        match load(&save) {
            Err(LoadError::NotASave) => assert!(bit / 8 < 12, "bit {bit}"),
            Err(LoadError::Corrupt { .. } | LoadError::Truncated) => assert!(bit / 8 >= 12, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
        save[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn newer_saves_and_other_files_are_refused() {
    let newer = framed(2, b"whatever it is", 100);
    let refused = load(&newer).unwrap_err();
    assert!(matches!(refused, LoadError::NewerVersion { found: 2, known: 1 }));
    assert_eq!(refused.to_string(), "saved in format 2, which is newer than format 1, the newest known");
    assert_eq!(corrupt(&framed(0, b"", 1)), "the version of the format");
    for other in [&b"x"[..], b"#!/bin/sh\nexit 0\n", &[0; 100], b"\x89leasehold\n", b"\x89PNG\r\n\x1a\n"] {
        assert!(matches!(load(other), Err(LoadError::NotASave)), "{other:?}");
    }
    assert!(matches!(load(b""), Err(LoadError::Truncated)));
}

/// A part that is checked by itself, but is not where it was, or from elsewhere.
#[test]
fn chunks_are_bound_to_their_place() {
    let payload = payload(&example());
    let save = framed(1, &payload, 64);
    let chunk = |n: usize| &save[20 + n * 72..20 + (n + 1) * 72];
    let without = [&save[..20], &save[20 + 72..]].concat();
    assert_eq!(corrupt(&without), "a checksum");
    let twice = [&save[..20 + 72], &save[20..]].concat();
    assert_eq!(corrupt(&twice), "a checksum");
    let swapped = [&save[..20], chunk(1), chunk(0), &save[20 + 144..]].concat();
    assert_eq!(corrupt(&swapped), "a checksum");
    assert_eq!(corrupt(&framed(1, &payload[..payload.len() - 1], 64)), "it ends before its last version");
    assert_eq!(corrupt(&framed(1, &[&payload[..], b"x"].concat(), 64)), "it goes on after its last version");
    assert_eq!(
        corrupt(&framed(1, &[&payload[..], b"x"].concat(), payload.len())),
        "it goes on after its last version"
    );
    let mut long = save.clone();
    long[20..24].copy_from_slice(&65_537_u32.to_le_bytes());
    assert_eq!(corrupt(&long), "the length of a chunk");
}

#[test]
fn errors_of_the_reader_are_passed_on() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(into)?;
            if read == 0 { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(read) }
        }
    }
    let save = example();
    for length in [0, 3, 12, 14, 20, 22, 30, save.len() - 1] {
        let refused = Store::builder().load(Broken(&save[..length])).unwrap_err();
        assert!(matches!(&refused, LoadError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset));
    }
    Store::builder().load(Broken(&save)).expect("nothing is read beyond the end");
}
