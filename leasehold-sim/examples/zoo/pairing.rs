//! A program and its fix on equal seeds.

use std::collections::BTreeSet;
use std::ops::Range;

use leasehold_sim::{Explorer, Failure, Report};

use super::programs::Program;

/// The number of seeds without faults, at most.
const CALM: u64 = 200;

/// The seeds on which a program and its fix fail.
pub(crate) struct Pairing {
    name: &'static str,
    count: u64,
    bug: BTreeSet<u64>,
    fix: BTreeSet<u64>,
    calm: usize,
    classes: usize,
    pub(crate) failures: Vec<Failure>,
}

fn seeds(report: &Report) -> BTreeSet<u64> {
    report.failures().iter().flat_map(Failure::seeds).copied().collect()
}

impl Pairing {
    pub(crate) fn run(program: &Program, range: Range<u64>) -> Self {
        let explorer = Explorer::new(range.clone()).gather().faults((program.faults)());
        let scenario = program.scenario;
        let bug = explorer.run(move |sim| scenario(sim, false));
        let fix = explorer.run(move |sim| scenario(sim, true));
        let calm = Explorer::new(0..CALM.min(range.end - range.start)).gather().calm();
        let calm = seeds(&calm.run(move |sim| scenario(sim, false))).len()
            + seeds(&calm.run(move |sim| scenario(sim, true))).len();
        Self {
            name: program.name,
            count: range.end - range.start,
            bug: seeds(&bug),
            fix: seeds(&fix),
            calm,
            classes: bug.failures().len(),
            failures: fix.into_failures().into_iter().chain(bug.into_failures()).collect(),
        }
    }

    /// Returns the row of the table.
    pub(crate) fn row(&self) -> String {
        let both = self.bug.intersection(&self.fix).count();
        let (bug, fix) = (self.bug.len() - both, self.fix.len() - both);
        let rate = self.count.checked_div(bug as u64).map_or_else(|| "-".to_owned(), |rate| rate.to_string());
        format!("| {} | {bug} | {both} | {fix} | {rate} | {} | {} |", self.name, self.calm, self.classes)
    }

    /// Fails if the fix fails, or a run without faults.
    #[cfg(test)]
    fn check(&self) {
        let row = self.row();
        assert!(self.fix.is_empty(), "the fix fails: {row}\n{}", self.failures[0]);
        assert_eq!(self.calm, 0, "a run without faults fails: {row}");
    }

    /// Fails unless the bug is found in one of 200 seeds, and at least a third of the seeds pass.
    #[cfg(test)]
    fn check_rate(&self) {
        let row = self.row();
        assert!(self.bug.len() as u64 * 200 >= self.count, "the bug is found too rarely: {row}");
        assert!(self.bug.len() as u64 * 3 <= self.count * 2, "the bug is found too often: {row}");
    }
}

/// The first seed of the gate. No seed from here on was run while the programs and the simulator were written.
#[cfg(test)]
const GATE: u64 = 70_000_000;

#[test]
fn fixes_pass() {
    for program in &super::programs::PROGRAMS {
        Pairing::run(program, 0..12).check();
    }
}

#[test]
#[ignore = "slow: 10,000 seeds of each program; .ci/run runs it"]
fn pairing() {
    for program in &super::programs::PROGRAMS {
        let pairing = Pairing::run(program, GATE..GATE + 10_000);
        println!("{}", pairing.row());
        pairing.check();
        pairing.check_rate();
    }
}
