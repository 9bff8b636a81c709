//! The workloads of the benchmarks. The store and its rival run each of them.
//!
//! Both sides of a [`Duel`] do equal work: the same calls in the same order, from the same seed. Each call gets a key
//! and a value of its own, allocated before the clock starts, and its response is used and dropped.

#![expect(missing_docs, missing_debug_implementations, reason = "no other package depends on this one")]

pub mod keys;
pub mod leases;
pub mod lifecycle;
pub mod locks;
pub mod pieces;
pub mod points;
pub mod ranges;
pub mod seam;
pub mod subjects;
pub mod table;
pub mod watching;

pub use pieces::{Side, in_pieces, timed};

/// A workload, ready to run on either side.
pub struct Duel {
    pub store: Side,
    pub rival: Side,
}
