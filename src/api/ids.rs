use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

/// The store-wide number of a transaction: etcd's main revision.
///
/// A fresh store is at revision 1; each transaction that changes something is one higher (R-REV-1, R-REV-2).
/// Any `i64` can be said, as on etcd's wire: see [`Get::at`](crate::Get::at).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// The revision of that number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// What the number in a request's revision field asks for: `None`, the latest, for 0, and else that revision.
    pub const fn from_wire(number: i64) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<i64> for Revision {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<Revision> for i64 {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

/// Compares with a number.
impl PartialEq<i64> for Revision {
    fn eq(&self, number: &i64) -> bool {
        self.0 == *number
    }
}

/// Parses the decimal number that `Display` writes.
impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of a lease: any `i64` but 0, negative ones included (R-LSE-2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// The id 0: no lease, and in a [`Grant`](crate::Grant), an id of the store's choice.
    pub const NONE: Self = Self(0);

    /// The id of that number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl From<i64> for LeaseId {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<LeaseId> for i64 {
    fn from(id: LeaseId) -> Self {
        id.0
    }
}

/// Parses the decimal number that `Display` writes. For the hexadecimal of a key, call `i64::from_str_radix`.
impl FromStr for LeaseId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// The number; `{:x}` gives the lower-case hexadecimal of etcd's lock keys, a negative id with its sign (R-LCK-1).
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        fmt::LowerHex::fmt(&self.0.unsigned_abs(), f)
    }
}

/// The id of a watcher among those of its stream (R-WCH-3).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i64);

impl WatchId {
    /// The id 0 in a request: one of the store's choice. Each stream counts from 0, skips ids in use, and assigns no id twice
    /// (R-WCH-3).
    pub const AUTO: Self = Self(0);

    /// The id -1: of a watcher that was refused, and of all watchers of a stream in the answer to a progress request (R-WCH-4,
    /// R-WCH-21).
    ///
    /// A watcher may ask for it too, as in every etcd; do not. A progress notification with this id may then be the watcher's
    /// own, which promises nothing for the other watchers of the stream, and nothing in the response shows which it is.
    pub const INVALID: Self = Self(-1);

    /// The id of that number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl From<i64> for WatchId {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<WatchId> for i64 {
    fn from(id: WatchId) -> Self {
        id.0
    }
}

impl fmt::Debug for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W{}", self.0)
    }
}

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Names a watch stream of an engine: see [`Engine::open_stream`](crate::engine::Engine::open_stream).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// A stream's slot is its own while it is open; the generation tells it from those that had the slot before.
    pub(crate) const fn new(generation: u32, slot: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    pub(crate) const fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

impl Revision {
    /// Returns the number of a request's revision field, the inverse of [`from_wire`](Self::from_wire): 0 for `None`, the latest.
    pub const fn to_wire(revision: Option<Self>) -> i64 {
        match revision {
            Some(revision) => revision.get(),
            None => 0,
        }
    }
}

/// An instant of a store's time: nanoseconds since its clock's origin.
///
/// It comes from a [`Clock`](crate::clock::Clock) and is monotonic; it says nothing of the time of day. Arithmetic stops
/// at the last instant, 584 years after the origin.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(0);

    /// The last instant, at which arithmetic stops.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant so many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`, zero if it is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// The time from the second instant to the first, zero if that is negative: [`since`](Timestamp::since).
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The time since the clock's origin, as `Duration` is shown in `Debug`: `1.5s`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Duration::from_nanos(self.0), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{:?}", Duration::from_nanos(self.0))
    }
}
