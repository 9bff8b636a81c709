//! Mutation tests of the model: each of a list of bugs is planted in a copy of the crate, and the model must find it.

mod bugs;
#[cfg(not(planted_bugs))]
mod copy;
#[cfg(planted_bugs)]
mod explore;
