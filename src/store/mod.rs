//! The thread-safe shell: one engine behind one lock, with a clock.

mod builder;
mod clock;
mod manual_clock;
mod pages;
mod shell;
mod system_clock;
mod verbs;

pub use builder::StoreBuilder;
pub use clock::{Clock, NoTimer, Timer, WeakStore};
pub use manual_clock::ManualClock;
pub use pages::RangePages;
pub use system_clock::SystemClock;
pub use verbs::Store;
