//! Tests of the simulation through its public API.

mod clients;
mod explorer;
mod faults;
mod own;
mod threads;
