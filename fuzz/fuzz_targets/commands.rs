//! The engine against the model, command by command.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Without the hook that aborts at once: a panic of the engine is told together with the commands that led to it.
fuzz_target!(init: drop(std::panic::take_hook()), |data: &[u8]| leasehold_fuzz::commands::run(data));
