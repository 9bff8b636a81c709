//! What is measured: each workload once, run by the store and by what it is measured against.
//!
//! Both sides of a [`Duel`] do equal work: the same calls in the same order, from the same seed. Each call is handed a
//! key and a value of its own, allocated before the clock starts, and what it answers is used and dropped.

pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod lifecycle;
pub(crate) mod locks;
pub(crate) mod pieces;
pub(crate) mod points;
pub(crate) mod ranges;
pub(crate) mod seam;
pub(crate) mod subjects;
pub(crate) mod watching;

pub(crate) use pieces::{Side, in_pieces, timed};

/// A workload, ready to be run on either side.
pub(crate) struct Duel {
    pub(crate) store: Side,
    pub(crate) rival: Side,
}
