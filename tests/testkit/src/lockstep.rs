//! Runs one list of requests on the model and on a subject, and compares their answers.

mod divergence;
mod tally;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub use self::divergence::Divergence;
pub use self::tally::{Count, Tally};
use super::model::Model;
use super::strategy::{self, Present};
use super::wire::{Failure, Request, Response, Settings, Subject};

type Answer = Result<Response, Failure>;

/// The functions that create, check and drain a kind of subject.
#[derive(Clone, Copy, Debug)]
pub struct Driver<New, Check, Drain> {
    pub make: New,
    /// Called after every request. It panics if an invariant of the subject is broken.
    pub check: Check,
    /// Called after every compaction. It reclaims all garbage at once.
    pub drain: Drain,
}

impl<S, New, Check, Drain> Driver<New, Check, Drain>
where
    S: Subject,
    New: Fn(&Settings) -> S,
    Check: Fn(&mut S),
    Drain: Fn(&mut S),
{
    /// Makes every request of both subjects, and compares all that can be read at the end.
    pub fn run(&self, settings: &Settings, requests: &[Request]) -> Result<Tally, Box<Divergence>> {
        let mut pair = Pair {
            driver: self,
            model: Model::new(settings.clone()),
            subject: (self.make)(settings),
            settings,
            done: Vec::new(),
            tally: Tally::default(),
        };
        for request in requests {
            pair.step(request)?;
        }
        pair.audit()?;
        Ok(pair.tally)
    }

    /// Runs random lists, and panics with the smallest list found on which the two disagree.
    ///
    /// `LEASEHOLD_SEED` overrides the seed.
    pub fn explore(&self, cases: u32) -> Tally {
        let seed = from_env("LEASEHOLD_SEED").unwrap_or(DEFAULT_SEED);
        println!("{cases} lists, LEASEHOLD_SEED={seed}");
        self.explore_from(seed, cases).unwrap_or_else(|failure| panic!("LEASEHOLD_SEED={seed}\n{failure}"))
    }

    /// Runs random lists from a seed. Returns the sum of all tallies, or the smallest disagreement.
    pub fn explore_from(&self, seed: u64, cases: u32) -> Result<Tally, Box<Divergence>> {
        self.explore_lists(seed, cases, &strategy::requests())
    }

    /// Runs random lists of a strategy from a seed. Returns the sum of all tallies, or the smallest disagreement.
    pub fn explore_lists(
        &self,
        seed: u64,
        cases: u32,
        lists: &BoxedStrategy<Vec<Request>>,
    ) -> Result<Tally, Box<Divergence>> {
        let config =
            Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng(seed));
        let total = RefCell::new(Tally::default());
        let verdict = runner.run(&(strategy::settings(), lists), |(settings, requests)| {
            let tally = self
                .run(&settings, &requests)
                .map_err(|divergence| TestCaseError::fail(divergence.to_string()))?;
            *total.borrow_mut() += tally;
            Ok(())
        });
        match verdict {
            Ok(()) => Ok(total.into_inner()),
            Err(TestError::Fail(reason, (settings, requests))) => Err(self
                .minimize(&settings, requests.clone())
                .unwrap_or_else(|| Box::new(Divergence::unstable(&settings, &requests, &reason)))),
            Err(TestError::Abort(reason)) => panic!("the run was aborted: {reason}"),
        }
    }

    /// Removes requests from a failing list while it still fails.
    ///
    /// The runner tries each removal only once, before it has simplified the other requests.
    fn minimize(&self, settings: &Settings, mut requests: Vec<Request>) -> Option<Box<Divergence>> {
        let mut smallest = self.run(settings, &requests).err()?;
        let mut index = 0;
        while index < requests.len() {
            let mut fewer = requests.clone();
            fewer.remove(index);
            match self.run(settings, &fewer) {
                // Start over, since an earlier request can have become unnecessary.
                Err(divergence) => (smallest, requests, index) = (divergence, fewer, 0),
                Ok(_) => index += 1,
            }
        }
        Some(smallest)
    }
}

const DEFAULT_SEED: u64 = 20_260_801;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// The model and the subject in one run.
struct Pair<'a, S, New, Check, Drain> {
    driver: &'a Driver<New, Check, Drain>,
    model: Model,
    subject: S,
    settings: &'a Settings,
    done: Vec<Request>,
    tally: Tally,
}

impl<S, New, Check, Drain> Pair<'_, S, New, Check, Drain>
where
    S: Subject,
    Check: Fn(&mut S),
    Drain: Fn(&mut S),
{
    fn step(&mut self, request: &Request) -> Result<(), Box<Divergence>> {
        let present = Present::of(&self.model);
        let request = strategy::resolve(request, &present);
        let request = strategy::without_doubtful_size(request, self.settings.max_request_bytes);
        let expected = self.compare(&request)?;
        self.tally.count(&request, &expected, &self.model, present);
        Ok(())
    }

    /// Makes one request of both. Returns the model's answer if the subject's is equal and its invariants hold.
    fn compare(&mut self, request: &Request) -> Result<Answer, Box<Divergence>> {
        self.done.push(request.clone());
        let expected = self.model.call(request);
        let (driver, subject) = (self.driver, &mut self.subject);
        let got = guarded(|| {
            let answer = subject.call(request);
            if let (Request::Compact { .. }, Ok(_)) = (request, &answer) {
                (driver.drain)(subject);
            }
            answer
        });
        let got = match got {
            Ok(answer) if answer == expected => guarded(|| (driver.check)(subject)).err(),
            Ok(answer) => Some(format!("{answer:?}")),
            Err(panic) => Some(panic),
        };
        match got {
            None => Ok(expected),
            Some(got) => {
                let done = std::mem::take(&mut self.done);
                Err(Box::new(Divergence::new(self.settings, done, format!("{expected:?}"), got)))
            }
        }
    }

    /// Compares what a list of requests has not read: every readable revision, the history, every lease, and all streams.
    fn audit(&mut self) -> Result<(), Box<Divergence>> {
        let (compacted, current) = (self.model.compacted(), self.model.current());
        let mut questions = vec![
            Request::Status,
            Request::Events { from: compacted },
            Request::LeaseLeases,
            Request::HashKv { revision: 0 },
            Request::HashKv { revision: compacted.max(0) + 1 },
            Request::HashKv { revision: compacted.midpoint(current) },
        ];
        for revision in compacted.max(1)..=current {
            questions.push(Request::Range(strategy::everything_at(revision)));
        }
        for id in strategy::LEASES {
            questions.push(Request::LeaseTimeToLive { id, keys: true });
        }
        questions.extend(strategy::STREAMS.map(|stream| Request::WatchReceive { stream }));
        for question in questions {
            drop(self.compare(&question)?);
            // The questions of the audit are not part of the list.
            self.done.pop();
        }
        Ok(())
    }
}

/// Returns the result of an action, or the message of its panic.
fn guarded<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        format!("a panic: {}", text.unwrap_or("without a message"))
    })
}
