//! The crate against the naive model and against recorded conversations with a real etcd.

mod conformance;
mod lockstep;
mod save_engine;
