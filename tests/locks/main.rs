//! Sessions, locks and elections, and etcd's lock and election services, over a store and over backends with faults.

mod election;
mod etcd_concurrency;
mod faults {
    mod cut_off;
    mod cut_watches;
    mod holds;
    mod late_answers;
    mod lost_answers;
    mod shared_holds;
    mod threads;
}
mod futures;
mod handoff;
mod leader_watcher;
mod mutex;
mod reentrant;
mod regressions;
mod rw_lock;
mod same_revision;
mod scheduled_backend;
mod semaphore;
mod service_helpers;
mod services {
    mod cancel;
    mod election;
    mod far;
    mod lock;
    mod observer;
}
mod session;
mod usage;
mod waiters;
