//! Whether the model would find a bug: each of a list of bugs is planted in a copy of the crate, and has to be found.

mod bugs;
#[cfg(not(planted_bugs))]
mod copy;
#[cfg(planted_bugs)]
mod explore;
