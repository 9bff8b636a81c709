//! The report of a disagreement.

use std::fmt;

use super::super::wire::{Request, Settings};

/// The first request on which the two disagreed, and the requests before it.
#[derive(Clone, Debug)]
pub struct Divergence {
    pub settings: Settings,
    /// The requests with relative revisions resolved. The last one was answered differently.
    pub requests: Vec<Request>,
    pub expected: String,
    pub got: String,
}

impl Divergence {
    pub(super) fn new(settings: &Settings, requests: Vec<Request>, expected: String, got: String) -> Self {
        Self { settings: settings.clone(), requests, expected, got }
    }

    /// Creates the report of a list that failed once and did not fail again.
    pub(super) fn unstable(settings: &Settings, requests: &[Request], reason: impl fmt::Display) -> Self {
        let expected = format!("an equal failure in the second run; the first was:\n{reason}");
        Self::new(settings, requests.to_vec(), expected, "no failure the second time".to_owned())
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.settings)?;
        for (index, request) in self.requests.iter().enumerate() {
            writeln!(f, "{:>4}  {request:?}", index + 1)?;
        }
        writeln!(f, "expected  {}", self.expected)?;
        write!(f, "got       {}", self.got)
    }
}

impl std::error::Error for Divergence {}
