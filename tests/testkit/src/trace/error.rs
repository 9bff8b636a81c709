//! What can be wrong with a trace file.

use std::path::PathBuf;

use thiserror::Error;

/// A file that is no trace, with the line that says so (0: the file as a whole).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}: {problem}", file.display())]
pub struct TraceError {
    pub file: PathBuf,
    pub line: usize,
    pub problem: Problem,
}

/// Field names are paths from the top of the line, such as `req.compare[0].key`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("there are no steps")]
    Empty,
    #[error("format {0} is not known, only 1 is")]
    UnknownFormat(i64),
    #[error("step {found} where step {wanted} comes next")]
    WrongNumber { wanted: usize, found: i64 },
    #[error("there is no operation {0}")]
    UnknownOperation(String),
    #[error("{0} is not a field")]
    UnknownField(String),
    #[error("{0} is left out")]
    MissingField(String),
    #[error("`{0}` stands where it cannot, or is left out where it must be")]
    Misplaced(&'static str),
    #[error("{0} has more than one of what it may have one of")]
    TooMany(String),
    #[error("a step has one of resp, err and async")]
    NotOneOutcome,
    #[error("no call was started under the handle {0}")]
    UnknownHandle(String),
    #[error("{field} is not {wanted}: {found}")]
    NotA { field: String, wanted: &'static str, found: String },
    #[error("{field} names {symbol}, which no answer has introduced")]
    UnboundSymbol { field: String, symbol: String },
}
