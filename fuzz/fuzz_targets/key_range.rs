//! Ranges of keys, compared with their meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| leasehold_fuzz::key_range::run(data));
