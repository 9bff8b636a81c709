//! The kinds of faults, and the ids by which a replay names them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A kind of fault.
///
/// The letter of a kind is the last one of a fault's id in a replay: `a3L` is the lost answer of the third request of the
/// first process.
///
/// | letter | kind |
/// |---|---|
/// | `E` | [`Refuse`](Self::Refuse) |
/// | `N` | [`LoseRequest`](Self::LoseRequest) |
/// | `L` | [`LoseAnswer`](Self::LoseAnswer) |
/// | `Q` | [`DelayRequest`](Self::DelayRequest) |
/// | `D` | [`DelayAnswer`](Self::DelayAnswer) |
/// | `A` | [`Aimed`](Self::Aimed) |
/// | `P` | [`Pause`](Self::Pause) |
/// | `I` | [`Partition`](Self::Partition) |
/// | `C` | [`Crash`](Self::Crash) |
/// | `X` | [`ExpireLease`](Self::ExpireLease) |
/// | `K` | [`Compact`](Self::Compact) |
/// | `V` | [`DelayDelivery`](Self::DelayDelivery) |
/// | `G` | [`Lag`](Self::Lag) |
/// | `W` | [`CutWatch`](Self::CutWatch) |
/// | `S` | [`Skew`](Self::Skew) |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A request fails with `Unavailable { maybe_applied: false }` and does not reach the store.
    Refuse,
    /// A request does not reach the store, and fails with `Unavailable { maybe_applied: true }`.
    LoseRequest,
    /// A request is applied, and fails with `Unavailable { maybe_applied: true }`.
    LoseAnswer,
    /// A request arrives late, possibly after the call has timed out.
    DelayRequest,
    /// An answer arrives late, possibly after the call has timed out.
    DelayAnswer,
    /// The answer of a request is lost, and the next request of the process about the same key is delayed.
    Aimed,
    /// A process stops for a while: it takes no step, renews no lease and receives nothing. Its requests that were sent
    /// before arrive.
    Pause,
    /// No message between a process and the store arrives for a while.
    Partition,
    /// A process ends at once, and starts again later. Its requests that were sent before arrive.
    Crash,
    /// The store ends a lease of a process before its time.
    ExpireLease,
    /// The store compacts its history at the current revision.
    Compact,
    /// The deliveries of a watch stream arrive late.
    DelayDelivery,
    /// The store sends a watch stream nothing for a while. Its watchers fall behind, and may be compacted.
    Lag,
    /// A watch stream loses its connection, and connects again later.
    CutWatch,
    /// The clock of a process runs faster or slower, by at most a tenth.
    Skew,
}

impl Fault {
    /// All kinds of faults.
    pub const ALL: [Self; 15] = [
        Self::Refuse,
        Self::LoseRequest,
        Self::LoseAnswer,
        Self::DelayRequest,
        Self::DelayAnswer,
        Self::Aimed,
        Self::Pause,
        Self::Partition,
        Self::Crash,
        Self::ExpireLease,
        Self::Compact,
        Self::DelayDelivery,
        Self::Lag,
        Self::CutWatch,
        Self::Skew,
    ];

    const fn letter(self) -> char {
        match self {
            Self::Refuse => 'E',
            Self::LoseRequest => 'N',
            Self::LoseAnswer => 'L',
            Self::DelayRequest => 'Q',
            Self::DelayAnswer => 'D',
            Self::Aimed => 'A',
            Self::Pause => 'P',
            Self::Partition => 'I',
            Self::Crash => 'C',
            Self::ExpireLease => 'X',
            Self::Compact => 'K',
            Self::DelayDelivery => 'V',
            Self::Lag => 'G',
            Self::CutWatch => 'W',
            Self::Skew => 'S',
        }
    }

    /// Returns whether the `nth` of the fault's id counts requests, rather than deliveries or nothing.
    pub(crate) const fn is_of_request(self) -> bool {
        !matches!(self, Self::DelayDelivery | Self::Lag | Self::CutWatch | Self::Skew)
    }

    /// Returns the description of a fault for a story.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Refuse => "the request is refused",
            Self::LoseRequest => "the request is lost",
            Self::LoseAnswer => "the answer will be lost",
            Self::DelayRequest => "the request is delayed",
            Self::DelayAnswer => "the answer will be delayed",
            Self::Aimed => "the answer will be lost, and the next request about the key delayed",
            Self::Pause => "the process will be paused",
            Self::Partition => "the process will be partitioned",
            Self::Crash => "the process will crash",
            Self::ExpireLease => "a lease of the process will end",
            Self::Compact => "the store will compact",
            Self::DelayDelivery => "the delivery is delayed",
            Self::Lag => "the store sends the watch stream nothing",
            Self::CutWatch => "the watch stream is cut",
            Self::Skew => "the clock runs at another rate",
        }
    }
}

/// The id of a fault that was drawn: its process, the number of the request or delivery, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FaultId {
    pub(crate) process: usize,
    pub(crate) nth: u64,
    pub(crate) fault: Fault,
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", process_letters(self.process), self.nth, self.fault.letter())
    }
}

impl FromStr for FaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a fault: expected letters, a number and a kind, as in `a3L`");
        let digits = text.find(|letter: char| letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (process, rest) = text.split_at(digits);
        let kind = rest.chars().next_back().ok_or_else(wrong)?;
        let fault = Fault::ALL.into_iter().find(|fault| fault.letter() == kind).ok_or_else(wrong)?;
        let nth = rest[..rest.len() - kind.len_utf8()].parse().map_err(|_| wrong())?;
        Ok(Self { process: process_index(process).ok_or_else(wrong)?, nth, fault })
    }
}

/// Returns the letters of a process: `a` to `z`, then `aa` and so on.
pub(crate) fn process_letters(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'a' + (index % 26) as u8);
        index /= 26;
        if index == 0 {
            break;
        }
        index -= 1;
    }
    letters.iter().rev().map(|&letter| char::from(letter)).collect()
}

fn process_index(letters: &str) -> Option<usize> {
    let mut index = 0_usize;
    for letter in letters.bytes() {
        if !letter.is_ascii_lowercase() {
            return None;
        }
        index = index.checked_mul(26)?.checked_add(usize::from(letter - b'a') + 1)?;
    }
    index.checked_sub(1)
}

/// A change of a process or of the store that a fault makes at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pause { process: usize, lasts: Option<Duration> },
    Resume { process: usize, incident: u64 },
    Partition { process: usize, lasts: Option<Duration> },
    Heal { process: usize, incident: u64 },
    Crash { process: usize, lasts: Option<Duration> },
    Restart { process: usize, life: u32 },
    ExpireLease { process: usize },
    Compact,
    CutWatches { process: usize, lasts: Duration },
}

/// The moment of a call at which a fault of its process happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Sent,
    Applied,
    Answered,
}
