//! Replays recorded conversations with a real etcd, and reports whether the store behind a client responds like etcd. A
//! `ClientSubject` of another backend checks that backend.
//!
//! ```text
//! cargo run --release --example replay -- tests/conformance
//! ```
//!
//! The arguments are trace files, or folders whose `.jsonl` files are traces. `tests/conformance/README.md` describes
//! traces. The last line is always `N passed, M failed, K skipped`. The exit code is 1 if a trace failed, if a file is
//! no trace, or if there was no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use leasehold_testkit::adapter::seam::ClientSubject;
use leasehold_testkit::replay::{Outcome, replay};
use leasehold_testkit::trace::{self, Case, Feature};
use leasehold_testkit::wire::Settings;

fn main() -> ExitCode {
    let mut report = Report::default();
    let started = now();
    for argument in std::env::args_os().skip(1) {
        match trace::files(Path::new(&argument)) {
            Ok(files) => files.iter().for_each(|file| report.replay(file)),
            Err(error) => report.fail(error.to_string()),
        }
    }
    report.print(now().duration_since(started));
    if report.failed > 0 || report.files == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "the summary compares virtual time with wall time")]
fn now() -> Instant {
    Instant::now()
}

/// The results of all replays.
#[derive(Default)]
struct Report {
    files: usize,
    passed: usize,
    failed: usize,
    /// The names of the skipped cases, by the features that they need.
    skipped: BTreeMap<BTreeSet<Feature>, Vec<String>>,
    steps: usize,
    events: usize,
    virtual_time: Duration,
}

impl Report {
    fn replay(&mut self, file: &Path) {
        self.files += 1;
        let case = match Case::load(file) {
            Ok(case) => case,
            Err(error) => return self.fail(error.to_string()),
        };
        let replayed = catch_unwind(AssertUnwindSafe(|| {
            let mut client = ClientSubject::of_store(&Settings::default());
            replay(&case, &mut client)
        }));
        match replayed {
            Ok(Outcome::Passed { steps, events, virtual_time }) => {
                self.passed += 1;
                self.steps += steps;
                self.events += events;
                self.virtual_time += virtual_time;
            }
            Ok(Outcome::Skipped { needs }) => self.skipped.entry(needs).or_default().push(case.name),
            Ok(Outcome::Failed(mismatch)) => self.fail(format!("{}: {mismatch}", case.name)),
            Err(_) => self.fail(format!("{}: the store panicked", case.name)),
        }
    }

    fn fail(&mut self, why: String) {
        println!("FAILED {why}");
        self.failed += 1;
    }

    fn print(&self, wall_time: Duration) {
        let Self { passed, failed, steps, events, virtual_time, .. } = self;
        if self.files == 0 {
            println!("nothing to replay: pass trace files, or folders with .jsonl files");
        }
        println!(
            "replayed {steps} steps and compared every field of their responses, {events} key-value pairs among them \
             (in the cases that passed)"
        );
        println!(
            "{virtual_time:?} of virtual time in {wall_time:.1?} of wall time, including reading the files"
        );
        for (needs, names) in &self.skipped {
            let needs: Vec<_> = needs.iter().map(|feature| feature.name()).collect();
            let cases = if names.len() == 1 { "case that needs" } else { "cases that need" };
            println!("skipped {} {cases} {}: {}", names.len(), needs.join(" and "), names.join(", "));
        }
        let skipped: usize = self.skipped.values().map(Vec::len).sum();
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}
