//! Tests that need their own process: they compare processes, or measure the state of a whole process.

mod allocations;
mod concurrency_determinism;
mod determinism;
mod guard;
mod subprocess;
mod threads;
mod timer_thread;
