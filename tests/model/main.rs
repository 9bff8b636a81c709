//! The crate against the naive model and against recorded conversations with a real etcd.

mod conformance;
mod lockstep;
mod planted;
mod save_engine;
