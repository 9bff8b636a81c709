//! The engine with more entries than fit into one piece of any of its tables.

mod engine;
mod memory;
