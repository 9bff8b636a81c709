//! The fuzz targets: functions that panic on a fault. The fuzzer and `examples/rerun.rs` call them.

mod choices;
pub mod commands;
pub mod key_range;
pub mod load;
mod totals;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name. The binary and the corpus of a target have its name.
pub const TARGETS: [(&str, Target); 3] =
    [("commands", commands::run), ("key_range", key_range::run), ("load", load::run)];
