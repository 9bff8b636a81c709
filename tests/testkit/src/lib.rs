//! Shared code of the tests, benchmarks, examples and fuzz targets.
//!
//! It contains etcd's messages as plain values and a naive model that answers them. Adapters let the crate answer them too, and
//! `lockstep` and `replay` compare the answers.

#![expect(
    clippy::new_without_default,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "no other package depends on this one"
)]

pub mod adapter;
pub mod cases;
pub mod guard;
pub mod helpers;
pub mod lockstep;
pub mod mistaken;
pub mod model;
pub mod replay;
pub mod save_format;
pub mod strategy;
pub mod threaded_backend;
pub mod trace;
pub mod wakers;
pub mod watch_helpers;
pub mod wire;
