//! The engine against the model, command by command.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Remove the hook that aborts at once, so that a panic of the engine is reported with the commands that led to it.
fuzz_target!(init: drop(std::panic::take_hook()), |data: &[u8]| leasehold_fuzz::commands::run(data));
