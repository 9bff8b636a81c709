//! The door to synchronisation: the only file that names parking_lot, so that a model checker can be swapped in.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
