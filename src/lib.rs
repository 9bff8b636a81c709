//! draft
#![deny(missing_docs)]

mod api;
mod engine;
mod error;
mod store;
mod sync;

pub use api::*;
pub use engine::{Engine, EngineConfig};
pub use error::{Code, Error, Result};
pub use store::*;
