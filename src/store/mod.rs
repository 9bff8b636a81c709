//! The thread-safe shell: one engine behind one lock, with a clock.

mod backend;
mod builder;
mod clock;
mod handle;
mod manual_clock;
mod pages;
mod shell;
mod system_clock;
mod task;

pub use builder::StoreBuilder;
pub use clock::{Clock, Timer, WeakStore};
pub use handle::Store;
pub use manual_clock::ManualClock;
pub use pages::RangePages;
pub use system_clock::SystemClock;
