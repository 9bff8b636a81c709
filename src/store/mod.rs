//! The thread-safe store: one engine behind one lock, with a clock.

mod backend;
mod builder;
mod clock;
mod handle;
mod pages;
mod shell;

pub use builder::StoreBuilder;
pub use clock::{Clock, ManualClock, SystemClock, Timer};
pub use handle::{Store, WeakStore};
pub use pages::RangePages;
