//! Mutation tests of the checkers: bugs are planted in a copy of the engine, and the checkers must find each of them.
//!
//! The bug is switched on while a simulation runs, and off while its history is checked. So the checkers do not share it.

mod bugs;
#[cfg(not(planted_bugs))]
mod copy;
#[cfg(planted_bugs)]
mod explore;
