//! Tests of the simulation through its public API.

mod checkers;
mod clients;
mod determinism;
mod explorer;
mod faults;
mod own;
mod threads;
