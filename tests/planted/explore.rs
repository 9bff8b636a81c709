//! The tests in the copy: the model is compared with the engine for each bug.

use std::collections::BTreeSet;

use leasehold::planted::plant;
use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::lockstep::Driver;

use super::bugs::BUGS;

/// The number of lists of commands per bug, half of a long run without bugs.
const CASES: u32 = 1_000;

#[test]
fn every_planted_bug_is_found() {
    let driver = Driver {
        make: EngineSubject::new,
        check: |engine: &mut EngineSubject| engine.check_invariants(),
        drain: EngineSubject::drain,
    };
    // A bug can panic, and shrinking would print each of the panics.
    let print_panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    plant(None);
    driver.explore_from(1, CASES).expect("an engine without a bug answers as the model does");
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
