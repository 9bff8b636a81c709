//! Tests that need a process of their own: they compare processes, or measure the state of a whole process.

mod allocations;
mod concurrency_determinism;
mod determinism;
mod guard;
mod subprocess;
mod threads;
mod timer_thread;
