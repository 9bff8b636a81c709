//! The part that runs in the copy: the model meets each bug in turn.

use std::collections::BTreeSet;

use leasehold::planted::plant;
use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::lockstep::Driver;

use super::bugs::BUGS;

/// Lists of commands for each bug at the most: half of what a long run without bugs has.
const CASES: u32 = 1_000;

#[test]
fn every_planted_bug_is_found() {
    let driver = Driver {
        make: EngineSubject::new,
        check: |engine: &mut EngineSubject| engine.check_invariants(),
        drain: EngineSubject::drain,
    };
    // A bug may show as a panic, of which each that shrinking meets would be printed.
    let print_panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    plant(None);
    driver.explore_from(1, CASES).expect("without a bug the engine answers as the model does");
    let bugs: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
    let mut missed = Vec::new();
    for &bug in &bugs {
        plant(Some(bug));
        match driver.explore_from(1, CASES) {
            Ok(_) => missed.push(bug),
            Err(divergence) => println!("{bug}: found, and shrunk to {} commands", divergence.requests.len()),
        }
    }
    plant(None);
    std::panic::set_hook(print_panics);
    assert!(missed.is_empty(), "not found in {CASES} lists: {missed:?}");
    println!("{} planted bugs, all found", bugs.len());
}
