//! Exploration: a scenario is run with many seeds, and a failure is shrunk and replayed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, available_parallelism, scope};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::fault::FaultId;
use crate::panics::capture;
use crate::profile::{Faults, Plan};
use crate::replay;
use crate::simulation::Simulation;
use crate::verdict::Verdict;

/// Runs a scenario with the seeds from 0 on, with faults, and panics at the first failure.
///
/// The scenario adds clients, runs the simulation, and checks the outcome. The panic has the verdict, the shortest list of faults
/// with which the run still fails in this way, the command that replays it, and its story.
///
/// If the variable `LEASEHOLD_SEED` is set, only that run is made, and its story is printed: `LEASEHOLD_SEED=7` for the faults
/// that the seed draws, `LEASEHOLD_SEED=7:a3L+b9P` for chosen ones. The letters are those of [`Fault`](crate::Fault). A chosen
/// fault that does not happen is reported too. Each exploration of the process makes this run, so name one test.
///
/// ```
/// use leasehold_sim::{Simulation, Verdict, explore};
///
/// fn count(sim: &mut Simulation) -> Result<(), Verdict> {
///     for name in ["a", "b"] {
///         sim.spawn(name, |me| async move { me.put((me.name(), "done")).await.map(drop) });
///     }
///     sim.run()
/// }
/// explore(100, count);
/// ```
///
/// # Panics
///
/// Panics if a run fails, or if `LEASEHOLD_SEED` is no seed.
pub fn explore(seeds: u64, scenario: impl Fn(&mut Simulation) -> Result<(), Verdict> + Sync) {
    let report = Explorer::new(0..seeds).run(scenario);
    if let Some(failure) = report.failures.first() {
        panic!("{failure}");
    }
}

/// Runs a scenario with a range of seeds: [`explore`] with more options.
///
/// ```
/// use leasehold_sim::{Explorer, Fault, Faults};
///
/// let faults = Faults::only(&[Fault::LoseAnswer]);
/// let report = Explorer::new(0..200).faults(faults).gather().run(|sim| {
///     sim.spawn("a", |me| async move {
///         let put = me.put(("k", "v")).await;
///         assert!(put.is_ok(), "no answer is lost");
///         put.map(drop)
///     });
///     sim.run()
/// });
/// assert_eq!(report.seeds(), 200);
/// let failure = &report.failures()[0];
/// assert!(failure.verdict().to_string().contains("no answer is lost"));
/// assert!(failure.replay().ends_with(":a1L"), "one fault is left: {}", failure.replay());
/// ```
#[derive(Clone, Debug)]
pub struct Explorer {
    seeds: Range<u64>,
    faults: Option<Faults>,
    gathers: bool,
    threads: usize,
}

/// The result of an exploration.
#[derive(Debug)]
pub struct Report {
    seeds: u64,
    failures: Vec<Failure>,
}

/// A failure, with the shortest list of faults that was found to cause it.
#[derive(Debug)]
pub struct Failure {
    verdict: Verdict,
    seed: u64,
    replay: String,
    story: String,
    seeds: Vec<u64>,
    test: Option<String>,
}

/// One run of a scenario.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) verdict: Option<Verdict>,
    pub(crate) happened: Vec<FaultId>,
    pub(crate) replay: String,
    pub(crate) story: String,
}

impl Explorer {
    /// Creates an explorer of these seeds, with a [swarm](Faults::swarm) of faults, that stops at the first failure.
    pub fn new(seeds: Range<u64>) -> Self {
        let threads = available_parallelism().map_or(1, NonZero::get);
        Self { seeds, faults: Some(Faults::swarm()), gathers: false, threads }
    }

    /// Sets the faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Runs without faults, so that seeds differ only in latencies and in the order of turns.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.faults = None;
        self
    }

    /// Runs all seeds, and gathers failures by the [class](Verdict::class) of their verdicts.
    #[must_use]
    pub fn gather(mut self) -> Self {
        self.gathers = true;
        self
    }

    /// Sets the number of seeds that run at one time: as many as there are cores by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs the scenario with the seeds.
    ///
    /// The report does not depend on the number of threads: the first failure is the one of the lowest seed.
    ///
    /// If the variable `LEASEHOLD_SEED` is set, only that run is made, as by [`explore`]. A seed without faults draws those of
    /// this explorer. The report has that one run.
    ///
    /// # Panics
    ///
    /// Panics if a thread cannot be started, or if `LEASEHOLD_SEED` is no seed.
    pub fn run(&self, scenario: impl Fn(&mut Simulation) -> Result<(), Verdict> + Sync) -> Report {
        let test = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
        if let Ok(text) = std::env::var("LEASEHOLD_SEED") {
            return self
                .replay(&text, &scenario, test)
                .unwrap_or_else(|error| panic!("LEASEHOLD_SEED: {error}"));
        }
        let search = Search {
            next: AtomicU64::new(self.seeds.start),
            end: AtomicU64::new(self.seeds.end),
            done: AtomicU64::new(0),
            found: Mutex::new(BTreeMap::new()),
        };
        let progress = Progress::new();
        scope(|scope| {
            for worker in 0..self.threads {
                let (search, scenario, progress) = (&search, &scenario, &progress);
                let work = move || self.work(search, scenario, (worker == 0).then_some(progress));
                Builder::new().spawn_scoped(scope, work).expect("a thread can be started");
            }
        });
        progress.end();
        let mut by_class: Vec<Failure> = Vec::new();
        for (seed, (verdict, happened)) in search.found.into_inner() {
            // The workers had seeds in hand when the first failure was found.
            if !self.gathers && !by_class.is_empty() {
                break;
            }
            let known = by_class.iter().position(|failure| failure.verdict.class() == verdict.class());
            match known {
                Some(known) => by_class[known].seeds.push(seed),
                None => by_class.push(self.shrink(seed, verdict, happened, &scenario, test.clone())),
            }
        }
        let seeds = match by_class.first() {
            Some(first) if !self.gathers => first.seed - self.seeds.start + 1,
            _ => search.done.into_inner(),
        };
        Report { seeds, failures: by_class }
    }

    fn work(
        &self,
        search: &Search,
        scenario: &(impl Fn(&mut Simulation) -> Result<(), Verdict> + Sync),
        progress: Option<&Progress>,
    ) {
        loop {
            let end = search.end.load(Ordering::Relaxed);
            // No seed follows the end, also if that is the last number.
            let next = |seed: u64| (seed < end).then(|| seed + 1);
            let Ok(seed) = search.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) else {
                return;
            };
            let run = self.run_seed(seed, None, scenario, false);
            search.done.fetch_add(1, Ordering::Relaxed);
            if let Some(verdict) = run.verdict {
                search.found.lock().insert(seed, (verdict, run.happened));
                if !self.gathers {
                    search.end.fetch_min(seed, Ordering::Relaxed);
                }
            }
            if let Some(progress) = progress {
                progress.show(search);
            }
        }
    }

    /// Runs the scenario once.
    fn run_seed(
        &self,
        seed: u64,
        only: Option<&[FaultId]>,
        scenario: &impl Fn(&mut Simulation) -> Result<(), Verdict>,
        with_story: bool,
    ) -> Run {
        let mut sim = Simulation::new(seed);
        match (only, &self.faults) {
            (Some(faults), _) => sim.set_plan(Plan::Only(faults.iter().copied().collect())),
            (None, Some(faults)) => sim.draw_faults(faults.clone()),
            (None, None) => {}
        }
        let verdict = match capture(|| scenario(&mut sim)) {
            Ok(outcome) => outcome.err(),
            Err(panic) => Some(Verdict::panic("the scenario", &panic.message, &panic.place)),
        };
        let story = if with_story { sim.story() } else { String::new() };
        Run { verdict, happened: sim.happened(), replay: sim.replay(), story }
    }

    /// Runs the scenario once, as a text names it, and prints the story.
    fn replay(
        &self,
        text: &str,
        scenario: &impl Fn(&mut Simulation) -> Result<(), Verdict>,
        test: Option<String>,
    ) -> Result<Report, String> {
        let replay = replay::parse(text)?;
        let faults: Vec<FaultId> = replay.faults.iter().flatten().copied().collect();
        let run = self.run_seed(replay.seed, replay.faults.is_some().then_some(&faults), scenario, true);
        eprintln!("{}", run.story);
        let absent: Vec<_> = faults.iter().filter(|fault| !run.happened.contains(fault)).collect();
        if !absent.is_empty() {
            let absent: Vec<String> = absent.into_iter().map(ToString::to_string).collect();
            eprintln!("faults that did not happen: {}", absent.join("+"));
        }
        match &run.verdict {
            Some(verdict) => eprintln!("run `{}` fails: {verdict}", run.replay),
            None => eprintln!("run `{}` passes", run.replay),
        }
        let failure = run.verdict.map(|verdict| Failure {
            verdict,
            seed: replay.seed,
            replay: run.replay,
            story: run.story,
            seeds: vec![replay.seed],
            test,
        });
        Ok(Report { seeds: 1, failures: failure.into_iter().collect() })
    }

    /// Removes faults from a failing run, as long as its verdict stays in its class.
    fn shrink(
        &self,
        seed: u64,
        verdict: Verdict,
        happened: Vec<FaultId>,
        scenario: &impl Fn(&mut Simulation) -> Result<(), Verdict>,
        test: Option<String>,
    ) -> Failure {
        let fails = |faults: &[FaultId]| {
            let run = self.run_seed(seed, Some(faults), scenario, false);
            run.verdict.is_some_and(|other| other.class() == verdict.class())
        };
        let mut left = happened;
        let mut size = left.len();
        while size > 0 {
            let mut at = 0;
            while at < left.len() {
                let without: Vec<FaultId> = [&left[..at], &left[(at + size).min(left.len())..]].concat();
                if fails(&without) {
                    left = without;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        let run = self.run_seed(seed, Some(&left), scenario, true);
        // A scenario that depends on more than the simulation may pass here. Then only the original verdict is known.
        let (verdict, story) = (run.verdict.unwrap_or(verdict), run.story);
        Failure { verdict, seed, replay: replay::text(seed, &left), story, seeds: vec![seed], test }
    }
}

/// The state that the threads of an exploration share.
struct Search {
    next: AtomicU64,
    end: AtomicU64,
    done: AtomicU64,
    found: Mutex<BTreeMap<u64, (Verdict, Vec<FaultId>)>>,
}

/// Shows how far an exploration is, if the standard error is a terminal.
struct Progress {
    is_shown: bool,
    begin: Instant,
    last: Mutex<Instant>,
}

#[expect(clippy::disallowed_methods, reason = "only the display of the progress depends on real time")]
impl Progress {
    fn new() -> Self {
        let begin = Instant::now();
        Self { is_shown: std::io::stderr().is_terminal(), begin, last: Mutex::new(begin) }
    }

    fn show(&self, search: &Search) {
        let mut last = self.last.lock();
        if !self.is_shown || last.elapsed() < Duration::from_millis(200) {
            return;
        }
        *last = Instant::now();
        let done = search.done.load(Ordering::Relaxed);
        let rate = done as f64 / self.begin.elapsed().as_secs_f64();
        let found = search.found.lock().len();
        // A terminal that is gone is no reason to fail.
        let _shown = write!(std::io::stderr(), "\r{done} seeds, {rate:.0} a second, {found} failures   ");
    }

    fn end(&self) {
        if self.is_shown {
            let _shown = write!(std::io::stderr(), "\r{:60}\r", "");
        }
    }
}

impl Report {
    /// Returns the number of seeds that were run, up to the first failure unless the explorer gathers.
    pub fn seeds(&self) -> u64 {
        self.seeds
    }

    /// Returns the failures, one for each class of verdicts, in the order of their lowest seeds.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Returns the failures by value.
    pub fn into_failures(self) -> Vec<Failure> {
        self.failures
    }
}

impl Failure {
    /// Returns the verdict of the shrunk run.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Returns the lowest seed that fails in this way.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the seeds that fail in this way, in ascending order.
    pub fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// Returns the seed and the remaining faults, for `LEASEHOLD_SEED`.
    pub fn replay(&self) -> &str {
        &self.replay
    }

    /// Returns the story of the shrunk run.
    pub fn story(&self) -> &str {
        &self.story
    }
}

/// The number of lines of a story that a panic shows.
const LINES: usize = 200;

/// Writes the verdict, the command that replays the run, and the end of its story.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = self.test.as_deref().unwrap_or_default();
        writeln!(f, "seed {}: {}", self.seed, self.verdict)?;
        writeln!(f, "replay: LEASEHOLD_SEED={} cargo test {test}", self.replay)?;
        let lines: Vec<&str> = self.story.lines().collect();
        let skipped = lines.len().saturating_sub(LINES);
        if skipped > 0 {
            writeln!(f, "({skipped} earlier lines: see the replay)")?;
        }
        lines[skipped..].iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
