//! The locks that the crate uses. No other file names parking_lot, so that the locks of a model checker can replace it
//! here.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
