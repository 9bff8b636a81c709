use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

/// The store-wide number of a transaction: etcd's main revision.
///
/// A new store has revision 1, and each transaction that changes a key increments the store's revision by one (R-REV-1,
/// R-REV-2). A `Revision` can contain any `i64`, as a revision on etcd's wire can. [`Get::at`](crate::Get::at) explains
/// 0 and negative numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// Creates the revision with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Converts the revision field of an etcd request: 0, which means the latest revision, to `None`, and any other
    /// number to the revision with this number.
    pub const fn from_wire(number: i64) -> Option<Self> {
        // protobuf does not distinguish 0 from an absent field.
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        // A caller may pass any `i64`, so the maximum must not overflow.
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

/// Compares the revision's number with an `i64`.
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

/// The id of a lease: any `i64` except 0, including negative numbers (R-LSE-2). A key without a lease has
/// [`NONE`](Self::NONE).
///
/// `Display` writes the decimal number. A lock's key contains the id in hexadecimal, and so does the `Display` of a
/// [`QueueEntry`](crate::concurrency::QueueEntry).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// The id 0, which means no lease. With this id in a [`Grant`](crate::Grant), the store chooses the id of the
    /// lease.
    pub const NONE: Self = Self(0);

    /// Creates the id with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number.
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

/// Parses the decimal number that `Display` writes. To parse the hexadecimal id in a lock's key, call
/// `i64::from_str_radix` with radix 16.
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

/// Formats the decimal number. `{:x}` formats the lower-case hexadecimal of etcd's lock keys, with the sign of a
/// negative id (R-LCK-1).
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `{:x}` of an `i64` is two's complement, but etcd writes sign and magnitude.
        if self.0 < 0 {
            f.write_str("-")?;
        }
        fmt::LowerHex::fmt(&self.0.unsigned_abs(), f)
    }
}

/// The id of a watcher in its watch stream (R-WCH-3).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i64);

impl WatchId {
    /// The id 0. With this id in a request, the store chooses the watcher's id (R-WCH-3). In each stream, the store
    /// counts from 0, skips ids in use, and never chooses an id twice.
    pub const AUTO: Self = Self(0);

    /// The id -1. A response that refuses a watcher has this id. The response to a progress request has this id too,
    /// since it is for all watchers of a stream (R-WCH-4, R-WCH-21).
    ///
    /// A request may choose -1 as the id of a watcher, as in etcd, but should not. In a stream with a watcher of the id
    /// -1, a progress notification with the id -1 does not show whether it is for this watcher alone or for all
    /// watchers.
    pub const INVALID: Self = Self(-1);

    /// Creates the id with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number.
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

/// The id of a watch stream of an engine, returned by [`Engine::open_stream`](crate::engine::Engine::open_stream).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// Creates the id of the stream in a slot of the engine's table. A slot belongs to one open stream at a time, and
    /// the generation distinguishes the streams that use the slot one after another.
    pub(crate) const fn new(generation: u32, slot: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    /// Returns the slot of the stream in the engine's table.
    pub(crate) const fn slot(self) -> usize {
        // The lower 32 bits of the id are the slot, so the cast drops the generation.
        self.0 as u32 as usize
    }
}

impl Revision {
    /// Converts a revision to the revision field of an etcd request: `None`, which means the latest revision, to 0.
    /// This function is the inverse of [`from_wire`](Self::from_wire).
    pub const fn to_wire(revision: Option<Self>) -> i64 {
        match revision {
            Some(revision) => revision.get(),
            None => 0,
        }
    }
}

/// An instant of a store's time: nanoseconds since its clock's origin.
///
/// A [`Clock`](crate::clock::Clock) returns timestamps, which never decrease and are unrelated to the time of day.
/// Adding a duration saturates at [`MAX`](Self::MAX), 584 years after the origin.
///
/// ```
/// use leasehold::clock::Timestamp;
/// use std::time::Duration;
///
/// let start = Timestamp::ORIGIN + Duration::from_secs(2);
/// let end = start + Duration::from_millis(500);
/// assert_eq!((end - start, start - end), (Duration::from_millis(500), Duration::ZERO));
/// assert_eq!(end.to_string(), "2.5s");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// The last instant. Adding a duration never exceeds this instant.
    pub const MAX: Self = Self(u64::MAX);

    /// Creates the instant that is `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the number of nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to this instant, or zero if `earlier` is later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        // A `Duration` can be longer than `u64::MAX` nanoseconds.
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// Subtracts an earlier instant, as [`duration_since`](Timestamp::duration_since) does. The result is zero if `earlier`
/// is the later instant.
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// Formats the time since the clock's origin as the `Debug` of `Duration` does, for example as `1.5s`.
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
