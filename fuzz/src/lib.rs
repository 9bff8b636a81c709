//! What is fuzzed: one function a target, which panics where something is wrong. The fuzzer calls it, and so does
//! `examples/rerun.rs`.

mod choices;
pub mod commands;
pub mod key_range;
pub mod load;
mod totals;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its binary and of its corpus.
pub const TARGETS: [(&str, Target); 3] =
    [("commands", commands::run), ("key_range", key_range::run), ("load", load::run)];
