//! What the tests and examples share: the wire's words, whoever answers them, and what judges the answers.

#![expect(dead_code, unreachable_pub, reason = "each test and example uses a part of it")]

pub mod adapter;
pub mod lockstep;
pub mod mistaken;
pub mod model;
pub mod replay;
pub mod save_format;
pub mod strategy;
pub mod trace;
pub mod wire;
