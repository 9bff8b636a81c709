//! Random numbers that are keyed by their purpose, so that one draw more or less changes no other draw.

use std::time::Duration;

/// The purposes of draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    Request = 1,
    Answer,
    Delivery,
    WatchRequest,
    Renewal,
    RenewalAnswer,
    Turn,
    Start,
    User,
    Profile,
    Fault,
    FaultDetail,
    Reconnect,
    HashSeed,
}

/// The source of all random numbers of a simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    seed: u64,
}

impl Draws {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the number of a purpose: the `nth` of the process, client or fault `who`.
    pub(crate) const fn number(&self, who: u64, purpose: Purpose, nth: u64) -> u64 {
        let seeded = mix(self.seed.wrapping_add(STEP));
        let of_purpose = mix(seeded ^ (purpose as u64).wrapping_mul(STEP));
        let of_who = mix(of_purpose.wrapping_add(who.wrapping_mul(STEP)));
        mix(of_who.wrapping_add(nth.wrapping_mul(STEP)))
    }

    /// Returns a number below `end`.
    pub(crate) const fn below(&self, who: u64, purpose: Purpose, nth: u64, end: u64) -> u64 {
        scale(self.number(who, purpose, nth), end)
    }

    /// Returns the time that a message takes: up to a millisecond, and for one message in 16 up to 20 ms.
    pub(crate) const fn latency(&self, who: u64, purpose: Purpose, nth: u64) -> Duration {
        let number = self.number(who, purpose, nth);
        let longest = if number.is_multiple_of(16) { 20_000_000 } else { 1_000_000 };
        Duration::from_nanos(50_000 + scale(mix(number), longest))
    }

    /// Returns a duration between two others, evenly distributed by its order of magnitude.
    pub(crate) fn span(
        &self,
        who: u64,
        purpose: Purpose,
        nth: u64,
        from: Duration,
        to: Duration,
    ) -> Duration {
        let number = self.number(who, purpose, nth);
        // Integers alone, since the result of `powf` may differ between platforms.
        let doublings = u64::from((to.as_nanos() / from.as_nanos().max(1)).max(1).ilog2()) + 1;
        let low = from.as_nanos() as u64;
        let magnitude = low << scale(number, doublings);
        let nanos = magnitude + scale(mix(number), magnitude);
        Duration::from_nanos(nanos).min(to)
    }
}

/// The increment of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64, by Guy Steele, Doug Lea and Christine Flood.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Maps a number of 64 random bits to a number below `end`.
pub(crate) const fn scale(number: u64, end: u64) -> u64 {
    ((number as u128 * end as u128) >> 64) as u64
}
