//! Lists of commands, run on the engine and on the naive model side by side.
//!
//! After each command, the responses are equal and the engine's invariants hold. After a compaction, everything is
//! reclaimed. At the end, every readable revision is read. The lockstep of `tests/testkit` checks all of this.

mod decode;
mod shrink;

use std::cell::RefCell;
use std::fmt;

use super::totals::AtExit;
use decode::Decoder;
use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::lockstep::{Divergence, Driver, Tally};
use leasehold_testkit::strategy::{Present, resolve};
use leasehold_testkit::wire::{Request, Settings};
pub use shrink::shrink;

/// The maximum number of requests. The model visits all of history for each response, so longer lists would be too
/// slow.
const REQUESTS_MAX: usize = 160;

thread_local! {
    static TOTALS: RefCell<AtExit<Totals>> = RefCell::new(AtExit(Totals::new()));
}

/// Runs an input. Panics with the commands and both responses if they differ.
pub fn run(data: &[u8]) {
    let (settings, requests) = decode(data);
    match lockstep(&settings, &requests) {
        Ok(tally) => TOTALS.with_borrow_mut(|totals| totals.0.add(tally)),
        Err(divergence) => panic!("the engine's response differs from the model's:\n{divergence}"),
    }
}

fn decode(data: &[u8]) -> (Settings, Vec<Request>) {
    let mut decoder = Decoder::new(data);
    let settings = decoder.settings();
    let mut requests = decoder.beginning();
    while !decoder.is_over() && requests.len() < REQUESTS_MAX {
        requests.push(decoder.request());
    }
    (settings, requests)
}

fn lockstep(settings: &Settings, requests: &[Request]) -> Result<Tally, Box<Divergence>> {
    let driver = Driver {
        make: EngineSubject::new,
        check: |engine: &mut EngineSubject| engine.check_invariants(),
        drain: EngineSubject::drain,
    };
    driver.run(settings, requests)
}

/// The counts of all inputs so far.
#[derive(Debug, Default)]
struct Totals {
    inputs: u64,
    tally: Tally,
}

impl Totals {
    fn new() -> Self {
        assert_relative_revisions();
        Self::default()
    }

    fn add(&mut self, tally: Tally) {
        self.inputs += 1;
        self.tally += tally;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.tally.operations.values();
        let commands: u64 = counts.map(|count| count.answered + count.refused).sum();
        write!(f, "{}\ntotal: {commands} commands in {} inputs", self.tally, self.inputs)
    }
}

/// Asserts that `strategy` resolves the decoder's relative revisions. Otherwise all of them would be in the far future,
/// and almost nothing would be tested.
fn assert_relative_revisions() {
    let present = Present { current: 30, compacted: 20, leases: 0, alarm: None };
    for (relative, real) in [(decode::CURRENT - 1, 29), (decode::COMPACTED + 1, 21)] {
        let resolved = resolve(&Request::HashKv { revision: relative }, &present);
        assert_eq!(resolved, Request::HashKv { revision: real }, "relative revisions are resolved");
    }
}
