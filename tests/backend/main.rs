//! The interface between a client and a backend: the contract of `Backend`, layers, inboxes, and user code that runs in between.

mod closing;
mod contract;
mod delivery_layers;
mod determinism;
mod foreign_panics;
mod foreign_wakers;
mod inbox;
mod layer;
mod layer_cuts;
mod layer_deliveries;
mod namespace;
mod order;
mod owners;
mod panicking_backends;
mod races;
mod renewal {
    mod harness;
    mod helpers;
    mod random;
    mod schedule;
    mod watched;
}
mod resume {
    mod harness;
    mod helpers;
    mod random;
    mod requests;
    mod watchers;
}
mod scripted;
