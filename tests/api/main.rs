//! Requests and responses of a store and of an engine, one module per topic.

mod client {
    mod call;
    mod namespace;
    mod ticket;
    mod verbs;
}
mod clock;
mod clock_idle;
mod compaction {
    mod auto;
    mod manual;
}
mod conversions;
mod debug_output;
mod diagnostics;
mod engine;
mod errors;
mod extremes;
mod keys {
    mod create_order;
    mod delete;
    mod event;
    mod get;
    mod hash_kv;
    mod key_hash;
    mod key_range;
    mod put;
    mod range_pages;
}
mod lease {
    mod lifecycle;
    mod standing;
}
mod limits;
mod regressions;
mod requests;
mod responses;
mod save {
    mod load;
    mod load_options;
    mod load_states;
    mod round_trip;
}
mod store;
mod txn {
    mod checks;
    mod depth;
    mod execution;
    mod overlap;
}
