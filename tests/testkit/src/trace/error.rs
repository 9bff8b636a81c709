//! The errors of a trace file.

use std::path::PathBuf;

use thiserror::Error;

/// An invalid trace file, with the line of the error (0 for the file as a whole).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}: {problem}", file.display())]
pub struct TraceError {
    pub file: PathBuf,
    pub line: usize,
    pub problem: Problem,
}

/// An error in a trace. Field names are paths from the top of the line, such as `req.compare[0].key`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("the trace has no steps")]
    Empty,
    #[error("format {0} is unknown; the only format is 1")]
    UnknownFormat(i64),
    #[error("step {found} instead of step {wanted}")]
    WrongNumber { wanted: usize, found: i64 },
    #[error("operation {0} is unknown")]
    UnknownOperation(String),
    #[error("field {0} is unknown")]
    UnknownField(String),
    #[error("field {0} is missing")]
    MissingField(String),
    #[error("`{0}` is not allowed here, or is missing")]
    Misplaced(&'static str),
    #[error("{0} has more than one member")]
    TooMany(String),
    #[error("a step must have one of resp, err and async")]
    NotOneOutcome,
    #[error("no call was started under the handle {0}")]
    UnknownHandle(String),
    #[error("{field} is not {wanted}: {found}")]
    NotA { field: String, wanted: &'static str, found: String },
    #[error("{field} contains {symbol}, which no earlier answer contains")]
    UnboundSymbol { field: String, symbol: String },
}
