//! The number of cases, rounds and runs of the tests.

use std::env;

/// The environment variable that makes long tests longer: a factor, 1 by default. `.ci/run` sets it to 10.
pub const VARIABLE: &str = "LEASEHOLD_CASES";

/// Returns the number of cases, rounds or runs of a test: `default` times the factor in the environment.
///
/// # Panics
/// If the variable is set and is not a whole number from 1 to 1000.
pub fn cases(default: u32) -> u32 {
    let factor = env::var(VARIABLE).map_or(1, |text| match text.parse() {
        Ok(factor @ 1..=1_000) => factor,
        _ => panic!("{VARIABLE} must be a factor from 1 to 1000, not {text:?}"),
    });
    default * factor
}
