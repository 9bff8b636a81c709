//! Loading of arbitrary bytes: the load fails, or its result is a valid store that can be used, saved and loaded again.

mod commands;

use std::alloc::System;
use std::cell::RefCell;

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::snapshot::{LoadError, LoadOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::choices::Choices;
use super::totals::{AtExit, Counts};
use leasehold_testkit::save_format::{CURRENT_LEN, FORMAT, framed, payload};

/// Counts allocations, to notice memory that is reserved for a length that the input claims.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allowance for an empty store.
const BYTES_AT_ONCE: usize = 1 << 20;

/// The allowance for each byte of a save, including growth of tables.
const BYTES_A_BYTE: usize = 100;

/// The maximum length of a chunk of a save.
const CHUNK_MAX: usize = 64 * 1024;

thread_local! {
    static TOTALS: RefCell<AtExit<Counts>> = RefCell::default();
}

/// Runs an input. Panics if loading panics, allocates too much, or returns an invalid store.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    TOTALS.with_borrow_mut(|AtExit(counts)| {
        counts.begin_input();
        match choices.below(4) {
            0 => try_save(&choices.rest(), &mut choices, counts),
            1 => {
                let (format, chunk) = (format(&mut choices), chunk(&mut choices));
                try_save(&framed(format, &choices.rest(), chunk), &mut choices, counts);
            }
            _ => try_changed(&mut choices, counts),
        }
    });
}

/// Returns a format that can be read.
fn format(choices: &mut Choices<'_>) -> u32 {
    1 + u32::from(choices.below(FORMAT as u8))
}

/// Returns the length of chunks. They are not so short that computing their checksums takes most of the time.
fn chunk(choices: &mut Choices<'_>) -> usize {
    16 + usize::from(choices.byte()) * 8
}

/// Saves a store and loads the save, once unchanged, and once changed in places with valid checksums.
fn try_changed(choices: &mut Choices<'_>, counts: &mut Counts) {
    let changes: Vec<[u8; 4]> = (0..choices.below(5)).map(|_| [0; 4].map(|_: u8| choices.byte())).collect();
    let (format, chunk) = (format(choices), chunk(choices));
    let mut engine = Engine::new(EngineConfig { hash_seed: 0, ..EngineConfig::default() }, Timestamp::ORIGIN);
    for _ in 0..choices.below(40) {
        commands::step(&mut engine, choices, counts);
    }
    let saved = save(&engine);
    let mut payload = payload(&saved);
    assert_eq!(framed(FORMAT, &payload, CHUNK_MAX), saved, "a save equals its payload framed again");
    if format == 1 {
        payload.drain(..CURRENT_LEN);
    }
    let saved = framed(format, &payload, CHUNK_MAX);
    let loaded = load(&saved, engine.now(), counts).expect("a save can be loaded");
    assert_eq!(loaded.state_hash(), engine.state_hash(), "a loaded engine equals the saved one");
    for change in changes {
        if !payload.is_empty() {
            alter(&mut payload, change);
        }
    }
    try_save(&framed(format, &payload, chunk), choices, counts);
}

/// Changes the payload, which is not empty, in one way at one place.
fn alter(payload: &mut Vec<u8>, [how, low, high, byte]: [u8; 4]) {
    let place = usize::from(u16::from_le_bytes([low, high])) % payload.len();
    let number = payload[place];
    match how % 8 {
        0 => payload[place] = byte,
        1 => payload[place] = number.wrapping_add(1),
        2 => payload[place] = number.wrapping_sub(1),
        3 => payload[place] = number ^ 1 << (byte % 8),
        4 => payload.insert(place, byte),
        5 => drop(payload.remove(place)),
        6 => payload.truncate(place),
        _ => payload.extend_from_within(place..),
    }
}

/// Loads a save, with a bump or without. If it loads, uses the engine.
fn try_save(save: &[u8], choices: &mut Choices<'_>, counts: &mut Counts) {
    let Some(engine) = load(save, Timestamp::ORIGIN, counts) else { return };
    let by = 1 + u64::from(choices.byte());
    let bumped = load_bumped(save, &engine, by, counts);
    let mut engine = bumped.filter(|_| by % 2 == 0).unwrap_or(engine);
    for _ in 0..choices.below(40) {
        commands::step(&mut engine, choices, counts);
        engine.check_invariants();
    }
    // Byte 0 names no lease, and byte 5 names lease 1.
    for byte in [0, 5] {
        commands::one_of_each(&mut engine, byte, counts);
        engine.check_invariants();
        check_again(&engine, counts);
    }
}

/// Loads a save and checks the engine, or returns `None` if the save is rejected.
fn load(save: &[u8], now: Timestamp, counts: &mut Counts) -> Option<Engine> {
    let region = Region::new(ALLOCATOR);
    let loaded = leasehold::snapshot::load(
        EngineConfig { hash_seed: 0, ..EngineConfig::default() },
        LoadOptions::new().keep_standing(),
        now,
        save,
    );
    let allocated = region.change().bytes_allocated;
    let allowed = BYTES_AT_ONCE + BYTES_A_BYTE * save.len();
    assert!(allocated <= allowed, "{allocated} bytes were allocated for {} bytes", save.len());
    counts.add(match &loaded {
        Ok(_) => "load",
        Err(LoadError::Corrupt { what }) => what,
        Err(LoadError::BadMagic) => "refused: not a save",
        Err(LoadError::NewerVersion { .. }) => "refused: newer",
        Err(LoadError::Truncated) => "refused: truncated",
        Err(other) => panic!("reading from memory does not fail: {other}"),
    });
    let engine = loaded.ok()?;
    engine.check_invariants();
    check_again(&engine, counts);
    Some(engine)
}

/// Loads a valid save with a bump. The engine is compacted at the bumped revision.
fn load_bumped(save: &[u8], engine: &Engine, by: u64, counts: &mut Counts) -> Option<Engine> {
    let options = LoadOptions::new().bump_revision(by);
    let bumped = match leasehold::snapshot::load(EngineConfig::default(), options, engine.now(), save) {
        Ok(bumped) => bumped,
        Err(LoadError::BumpOutOfRange) => {
            counts.add("refused: bump");
            return None;
        }
        Err(other) => panic!("a valid save can be bumped: {other}"),
    };
    counts.add("bump");
    bumped.check_invariants();
    let (status, before) = (bumped.status(), engine.status());
    let revision = status.header().revision();
    assert_eq!(revision.get(), before.header().revision().get() + by as i64, "a bump adds its number");
    assert_eq!(status.compact_revision(), Some(revision), "a bumped engine is compacted");
    assert_eq!(status.versions(), before.keys(), "a bumped engine has no history");
    assert_eq!(status.leases(), before.leases(), "a bump keeps the leases");
    check_again(&bumped, counts);
    Some(bumped)
}

/// Saves and loads an engine and asserts that its state hash is unchanged. Keep-alives are restored and time starts at
/// the engine's.
fn check_again(engine: &Engine, counts: &mut Counts) {
    counts.add("save and load");
    let options = LoadOptions::new().keep_standing();
    let again = leasehold::snapshot::load(
        EngineConfig { hash_seed: 0, ..EngineConfig::default() },
        options,
        engine.now(),
        &save(engine)[..],
    );
    let again = again.expect("a save can be loaded");
    again.check_invariants();
    assert_eq!(again.state_hash(), engine.state_hash(), "a loaded engine equals the saved one");
}

fn save(engine: &Engine) -> Vec<u8> {
    let mut saved = Vec::new();
    leasehold::snapshot::save(&engine, &mut saved).expect("writing to memory does not fail");
    saved
}
