//! The reasons for which a run fails.

use std::fmt;

/// The reason for which a run has failed: see [`explore`](crate::explore).
///
/// A verdict has a class. Exploration gathers failures by their class, and shrinking keeps it. The class of a panic is its place
/// in the code; otherwise it is the kind, and the first line of the text, without a leading number, up to its first digit.
///
/// Any error converts into a verdict by `?`, and [`Verdict::new`] makes one of a text.
///
/// ```
/// use leasehold_sim::Verdict;
///
/// fn check(count: u32) -> Result<(), Verdict> {
///     if count == 3 { Ok(()) } else { Err(Verdict::new(format!("{count} of 3 jobs were run"))) }
/// }
/// assert!(check(3).is_ok());
/// assert_eq!(check(2).unwrap_err().to_string(), "2 of 3 jobs were run");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Verdict {
    kind: Kind,
    text: String,
    class: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Panic,
    Stuck,
    Limit,
    Restless,
    Error,
    Unsafe,
}

impl Verdict {
    /// Creates a verdict of a text, which describes the wrong outcome of the run.
    pub fn new(text: impl Into<String>) -> Self {
        Self::of(Kind::Text, text.into())
    }

    fn of(kind: Kind, text: String) -> Self {
        let first_line = text.lines().next().unwrap_or_default();
        let is_digit = |letter: char| letter.is_ascii_digit();
        let before_number =
            first_line.trim_start_matches(is_digit).split(is_digit).next().unwrap_or_default();
        let class = format!("{kind:?}: {before_number}");
        Self { kind, text, class }
    }

    pub(crate) fn panic(client: &str, message: &str, place: &str) -> Self {
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        let text = format!("{client} panicked{at}: {message}");
        Self { kind: Kind::Panic, text, class: format!("Panic: {place}") }
    }

    pub(crate) fn stuck(report: String) -> Self {
        let text = format!("no client can continue\n{report}");
        Self::of(Kind::Stuck, text)
    }

    pub(crate) fn limit(report: String) -> Self {
        Self::of(Kind::Limit, format!("the clients are not done at the time limit\n{report}"))
    }

    pub(crate) fn restless(client: &str, turns: u32) -> Self {
        let text =
            format!("{client} continues without a rest: a loop whose awaits are ready, for {turns} turns");
        Self::of(Kind::Restless, text)
    }

    pub(crate) fn error(client: &str, error: &str) -> Self {
        Self::of(Kind::Error, format!("{client} failed without a fault: {error}"))
    }

    pub(crate) fn unsafe_history(text: String) -> Self {
        Self::of(Kind::Unsafe, text)
    }

    /// Returns whether a client or the scenario has panicked.
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panic
    }

    /// Returns whether no client could continue.
    pub fn is_stuck(&self) -> bool {
        self.kind == Kind::Stuck
    }

    /// Returns the class: failures with one cause should have equal classes.
    pub fn class(&self) -> &str {
        &self.class
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Writes the text of `Display`, for `unwrap` and for a test that returns a verdict.
impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: std::error::Error> From<E> for Verdict {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}
