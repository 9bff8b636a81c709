//! Replays a recorded conversation: makes every request to a [`Subject`] and compares every field of every answer.

pub mod answer;
pub mod compare;
pub mod show;
pub mod streams;

use std::collections::BTreeSet;
use std::time::Duration;

use self::answer::Answer;
use self::compare::{Comparison, Difference};
use self::streams::Streams;
use super::trace::watch::{self, WatchStep};
use super::trace::{Case, Expected, Feature, Kind, Step, Symbols, request, service};
use super::wire::{Failure, Request, Response, Services, Subject};

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed {
        /// Steps done. Every field of each step's answer was compared.
        steps: usize,
        /// Key-value pairs and events in the answers.
        events: usize,
        /// The time by which `advance` moved the clock.
        virtual_time: Duration,
    },
    /// The first step whose answer differs from the recorded one.
    Failed(Box<Mismatch>),
    /// No step was done, since the case needs services that the subject does not have.
    Skipped { needs: BTreeSet<Feature> },
}

/// A step whose outcome differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub step: usize,
    pub op: String,
    /// The first field that differs, as a path from the top of the line: `resp.kvs[0].version`.
    pub field: String,
    /// The difference in a few words.
    pub what: String,
    /// The recorded outcome in the trace's form, with long values shortened.
    pub expected: String,
    /// The actual outcome in the trace's form.
    pub got: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, op, field, what, expected, got } = self;
        write!(f, "step {step} ({op}): {field}: {what}; expected {expected}, got {got}")
    }
}

/// Replays `case` with `subject`, which must be new: empty, at revision 1, with a real server's settings.
pub fn replay(case: &Case, subject: &mut dyn Subject) -> Outcome {
    let needs = case.needs();
    if !needs.is_empty() && subject.services().is_none() {
        return Outcome::Skipped { needs };
    }
    let mut player = Player {
        subject,
        symbols: Symbols::default(),
        streams: Streams::default(),
        events: 0,
        virtual_time: Duration::ZERO,
    };
    for step in &case.steps {
        if let Err(mismatch) = player.play(step) {
            return Outcome::Failed(mismatch);
        }
    }
    Outcome::Passed { steps: case.steps.len(), events: player.events, virtual_time: player.virtual_time }
}

/// A replay in progress.
struct Player<'a> {
    subject: &'a mut dyn Subject,
    symbols: Symbols,
    streams: Streams,
    events: usize,
    virtual_time: Duration,
}

impl Player<'_> {
    fn play(&mut self, step: &Step) -> Result<(), Box<Mismatch>> {
        let outcome = self.perform(step);
        let compared = match &outcome {
            Ok(outcome) => self.compare(step, outcome),
            Err(problem) => Err(Difference::new("req", problem)),
        };
        compared.map_err(|Difference { field, what }| {
            let expected = show::expected(&step.expected);
            let got = outcome.map_or_else(|_| "nothing".to_owned(), |got| show::outcome(&got, &self.symbols));
            Box::new(Mismatch { step: step.number, op: step.op.clone(), field, what, expected, got })
        })
    }

    fn compare(&mut self, step: &Step, outcome: &Result<Answer, Failure>) -> Result<(), Difference> {
        match (&step.expected, outcome) {
            (Expected::Answer(pattern), Ok(answer)) => {
                let mut comparison = Comparison::new(&mut self.symbols);
                let compared = comparison.answer(pattern, answer, step.unordered);
                self.events += comparison.events();
                compared
            }
            (Expected::Error(wanted), Err(failure)) => {
                compare_text("err.code", &wanted.code, &failure.code)?;
                compare_text("err.message", &wanted.message, &failure.message)
            }
            (Expected::Error(_), Ok(_)) => Err(Difference::new("err", "should have failed")),
            (_, Err(_)) => Err(Difference::new("resp", "should not have failed")),
            (Expected::Later, Ok(Answer::Unset)) => Ok(()),
            (Expected::Later, Ok(_)) => Err(Difference::new("async", "was answered at once")),
        }
    }

    /// Performs a step. A step that cannot be performed returns an error text.
    ///
    /// Before the next step, everything that this step woke runs as far as it can.
    fn perform(&mut self, step: &Step) -> Result<Result<Answer, Failure>, String> {
        let outcome = match step.kind {
            Kind::Call => self.perform_call(step)?,
            Kind::Watch => Ok(self.perform_watch(step)?),
            Kind::Service(_) => self.perform_service(step)?,
            Kind::Handle(_) => self.perform_handle(step)?,
        };
        self.settle()?;
        self.streams.stray().map_or(Ok(outcome), Err)
    }

    fn perform_call(&mut self, step: &Step) -> Result<Result<Answer, Failure>, String> {
        let request =
            request::build(&step.op, &step.request, &self.symbols).map_err(|problem| problem.to_string())?;
        if let Request::Advance { nanos } = request {
            self.virtual_time += Duration::from_nanos(nanos);
        }
        match self.subject.call(&request) {
            Ok(response) => Answer::new(&request, &response).map(Ok).ok_or_else(|| wrong_kind(&response)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn perform_watch(&mut self, step: &Step) -> Result<Answer, String> {
        let name = step.stream.as_deref().unwrap_or_default();
        let number = self.streams.number(name);
        let watch = watch::build(&step.op, number, &step.request, &self.symbols);
        let request = match watch.map_err(|problem| problem.to_string())? {
            WatchStep::Ask(request) => request,
            WatchStep::Expect { id } => return self.streams.take(name, id),
        };
        match self.subject.call(&request) {
            Ok(Response::Watch) => {}
            Ok(response) => return Err(wrong_kind(&response)),
            Err(Failure { code, message }) => return Err(format!("was refused: {code}: {message}")),
        }
        if let Request::WatchClose { .. } = request {
            self.streams.close(name);
            return Ok(Answer::Message(Vec::new()));
        }
        self.settle()?;
        self.streams.answer_to(name, &request)
    }

    fn services(&mut self) -> Result<&mut dyn Services, String> {
        self.subject.services().ok_or_else(|| "the subject has no such service".to_owned())
    }

    /// Performs a request to a service. Without a handle in the trace, the call has the empty handle until it is answered.
    fn perform_service(&mut self, step: &Step) -> Result<Result<Answer, Failure>, String> {
        let request =
            service::build(&step.op, &step.request, &self.symbols).map_err(|problem| problem.to_string())?;
        let services = self.services()?;
        if let Some(handle) = &step.handle {
            services.start(handle, &request);
            return Ok(Ok(Answer::Unset));
        }
        services.start("", &request);
        services.settle();
        let outcome = services.take("").ok_or_else(|| "is still pending".to_owned())?;
        Ok(outcome.map(|response| Answer::of_service(&response)))
    }

    fn perform_handle(&mut self, step: &Step) -> Result<Result<Answer, Failure>, String> {
        let handle = step.handle.as_deref().unwrap_or_default();
        let services = self.services()?;
        services.settle();
        Ok(Ok(match step.op.as_str() {
            "await" => {
                let outcome = services.take(handle).ok_or_else(|| "is still pending".to_owned())?;
                return Ok(outcome.map(|response| Answer::of_service(&response)));
            }
            "pending" => {
                let is_pending = services.take(handle).is_none();
                Answer::Message(vec![("pending", Answer::Flag(is_pending))])
            }
            "cancel" => {
                services.cancel(handle);
                Answer::Message(Vec::new())
            }
            _ => {
                let (values, has_ended) = services.observed(handle);
                Answer::of_observer(&values, has_ended)
            }
        }))
    }

    /// Receives everything available on the open streams, and lets calls of services run as far as they can.
    fn settle(&mut self) -> Result<(), String> {
        if let Some(services) = self.subject.services() {
            services.settle();
        }
        for stream in self.streams.numbers() {
            match self.subject.call(&Request::WatchReceive { stream }) {
                Ok(Response::Watched(responses)) => self.streams.receive(stream, responses),
                Ok(response) => return Err(wrong_kind(&response)),
                Err(Failure { code, message }) => {
                    return Err(format!("was not received from: {code}: {message}"));
                }
            }
        }
        Ok(())
    }
}

fn wrong_kind(response: &Response) -> String {
    let shown: String = format!("{response:?}").chars().take(100).collect();
    format!("was answered as another operation is: {shown}")
}

fn compare_text(field: &str, wanted: &str, got: &str) -> Result<(), Difference> {
    if got == wanted {
        return Ok(());
    }
    Err(Difference::new(field, format!("{got:?} instead of {wanted:?}")))
}
