//! Recorded conversations with a real etcd, in the `.jsonl` files of `tests/conformance/cases`.
//!
//! [`Case::load`] reads a file and refuses everything that `tests/conformance/README.md` does not allow, with file and line. A
//! misread trace would compare wrongly without an error. Answers stay JSON, since they are patterns (an id can be a name, a
//! TTL a range) that [`super::replay`] compares with actual answers.

pub mod error;
pub mod fields;
pub mod request;
pub mod service;
pub mod values;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use serde_json::Value as Json;

pub use self::error::{Problem, TraceError};
use self::fields::Fields;
pub use self::values::Symbols;
use super::wire::Failure;

/// One recorded conversation. It starts with an empty store at revision 1.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub title: String,
    pub tags: Vec<String>,
    pub steps: Vec<Step>,
}

/// One request of a client, and the recorded outcome.
#[derive(Clone, Debug)]
pub struct Step {
    /// The number of the step, from 1 without gaps.
    pub number: usize,
    /// The client that makes the request. Steps run one after the other, whichever client makes them.
    pub client: String,
    pub op: String,
    pub kind: Kind,
    /// The watch stream of the request.
    pub stream: Option<String>,
    /// The handle under which a call is started, or to which the step refers.
    pub handle: Option<String>,
    pub request: Json,
    pub expected: Expected,
    /// Whether the order of the leases in the answer is ignored.
    pub unordered: bool,
}

/// How a replay performs an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request with its answer.
    Call,
    /// A request on a watch stream, whose answers come on the stream.
    Watch,
    /// A request to the lock or the election service.
    Service(Feature),
    /// An operation on such a request that was started under a handle.
    Handle(Feature),
}

/// A service that not every subject has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Lock,
    Election,
}

impl Feature {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Election => "election",
        }
    }
}

/// The recorded outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Answer(Json),
    Error(Failure),
    /// The call was started under a handle, and a later step has its outcome.
    Later,
}

impl Case {
    /// Reads the trace in `path`.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let fail = |line, problem| TraceError { file: path.to_owned(), line, problem };
        let text =
            fs::read_to_string(path).map_err(|error| fail(0, Problem::Unreadable(error.to_string())))?;
        Self::parse(&text).map_err(|(line, problem)| fail(line, problem))
    }

    /// Reads the lines of a trace. An error has the number of its line.
    pub fn parse(text: &str) -> Result<Self, (usize, Problem)> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let (_, header) = lines.next().ok_or((1, Problem::Empty))?;
        let mut case = read_header(header).map_err(|problem| (1, problem))?;
        let mut known = Known::default();
        for (line, text) in lines {
            let step =
                read_step(case.steps.len() + 1, text, &mut known).map_err(|problem| (line, problem))?;
            case.steps.push(step);
        }
        if case.steps.is_empty() {
            return Err((1, Problem::Empty));
        }
        Ok(case)
    }

    /// Returns the features that the case needs besides keys, leases and watches.
    pub fn needs(&self) -> BTreeSet<Feature> {
        let features = self.steps.iter().filter_map(|step| match step.kind {
            Kind::Service(feature) | Kind::Handle(feature) => Some(feature),
            Kind::Watch | Kind::Call => None,
        });
        features.collect()
    }
}

/// Returns every `.jsonl` file at or below `path`, in the order of the paths.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let unreadable = |error: io::Error| {
        let problem = Problem::Unreadable(error.to_string());
        TraceError { file: path.to_owned(), line: 0, problem }
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let mut entries: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if entry.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The names that earlier lines have introduced.
#[derive(Default)]
struct Known {
    /// The ids that the server chose. While a file is read, their values are placeholders.
    symbols: Symbols,
    /// The feature of each call that was started under a handle.
    handles: BTreeMap<String, Feature>,
}

fn read_header(text: &str) -> Result<Case, Problem> {
    let json = read_json(text)?;
    let symbols = Symbols::default();
    let mut header = Fields::new("header", &json, &symbols)?;
    let name = header.required_text("case")?;
    let title = header.required_text("title")?;
    header.required_text("source")?;
    let format = header.integer("format")?;
    let tags =
        header.list("tags")?.iter().map(|tag| values::text("header.tags", tag)).collect::<Result<_, _>>()?;
    header.finish()?;
    if format != 1 {
        return Err(Problem::UnknownFormat(format));
    }
    Ok(Case { name, title, tags, steps: Vec::new() })
}

fn read_step(number: usize, text: &str, known: &mut Known) -> Result<Step, Problem> {
    let json = read_json(text)?;
    let mut line = Fields::new("", &json, &known.symbols)?;
    let found = line.integer("step")?;
    if usize::try_from(found) != Ok(number) {
        return Err(Problem::WrongNumber { wanted: number, found });
    }
    let client = line.required_text("client")?;
    let op = line.required_text("op")?;
    let started = line.optional_text("async")?;
    let handle = line.optional_text("handle")?;
    let stream = line.optional_text("stream")?;
    let unordered = line.flag("unordered")?;
    let request = line.any("req").cloned();
    let expected = read_outcome(&mut line, started.is_some())?;
    line.finish()?;

    let kind = kind_of(&op, handle.as_deref(), known)?;
    if stream.is_some() != (kind == Kind::Watch) {
        return Err(Problem::Misplaced("stream"));
    }
    if unordered && op != "lease_leases" {
        return Err(Problem::Misplaced("unordered"));
    }
    if request.is_none() == handle.is_none() {
        return Err(Problem::Misplaced("req"));
    }
    if started.is_some() && !matches!(op.as_str(), "lock" | "campaign" | "observe") {
        return Err(Problem::Misplaced("async"));
    }
    if let (Some(handle), Kind::Service(feature)) = (&started, kind) {
        known.handles.insert(handle.clone(), feature);
    }
    let request = request.unwrap_or_default();
    match kind {
        Kind::Call => drop(request::build(&op, &request, &known.symbols)?),
        Kind::Watch => drop(watch::build(&op, 0, &request, &known.symbols)?),
        Kind::Service(_) => drop(service::build(&op, &request, &known.symbols)?),
        Kind::Handle(_) => {}
    }
    if let Expected::Answer(answer) = &expected {
        known.symbols.declare(answer);
    }
    let handle = started.or(handle);
    Ok(Step { number, client, op, kind, stream, handle, request, expected, unordered })
}

fn read_outcome(line: &mut Fields<'_>, later: bool) -> Result<Expected, Problem> {
    let answer = line.any("resp").cloned();
    let error = line.child("err")?;
    match (answer, error, later) {
        (Some(answer), None, false) => Ok(Expected::Answer(answer)),
        (None, Some(mut error), false) => {
            let (code, message) = (error.required_text("code")?, error.required_text("message")?);
            error.finish()?;
            Ok(Expected::Error(Failure { code, message }))
        }
        (None, None, true) => Ok(Expected::Later),
        _ => Err(Problem::NotOneOutcome),
    }
}

/// Returns the kind of an operation. A new feature starts here.
fn kind_of(op: &str, handle: Option<&str>, known: &Known) -> Result<Kind, Problem> {
    if matches!(op, "await" | "pending" | "cancel" | "observe_expect") != handle.is_some() {
        return Err(Problem::Misplaced("handle"));
    }
    Ok(match op {
        "range" | "put" | "delete_range" | "txn" | "compact" => Kind::Call,
        "lease_grant" | "lease_revoke" | "lease_keep_alive" | "lease_time_to_live" | "lease_leases" => {
            Kind::Call
        }
        "advance" => Kind::Call,
        "watch_create" | "watch_cancel" | "watch_progress" | "watch_expect" | "watch_close" => Kind::Watch,
        "lock" | "unlock" => Kind::Service(Feature::Lock),
        "campaign" | "proclaim" | "leader" | "resign" | "observe" => Kind::Service(Feature::Election),
        "await" | "pending" | "cancel" | "observe_expect" => {
            let handle = handle.unwrap_or_default();
            let feature =
                known.handles.get(handle).ok_or_else(|| Problem::UnknownHandle(handle.to_owned()))?;
            Kind::Handle(*feature)
        }
        _ => return Err(Problem::UnknownOperation(op.to_owned())),
    })
}

fn read_json(text: &str) -> Result<Json, Problem> {
    // A txn can be nested 128 deep, which is several times as many levels of JSON.
    let mut source = serde_json::Deserializer::from_str(text);
    source.disable_recursion_limit();
    let json = Json::deserialize(&mut source).and_then(|json| source.end().map(|()| json));
    json.map_err(|error| Problem::NotJson(error.to_string()))
}
