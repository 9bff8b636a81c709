//! The engine with more entries than fit into one segment of any of its tables.

mod engine;
mod memory;
