//! Faults between the `etcd-client` crate and a store.

mod calls;
mod delays;
mod frames;
mod outages;
mod streams;

use std::panic::{AssertUnwindSafe, catch_unwind};

use leasehold::Store;
use leasehold_etcd::etcd_client::{Client, Error};
use leasehold_etcd::faults::{Faults, Outage};
use leasehold_etcd::{client_over, service as etcd_service};
use tonic::{Code, Status};

/// Returns a store with a client that faults can be added for.
fn faulty() -> (Store, Faults, Client) {
    over(Store::new())
}

fn over(store: Store) -> (Store, Faults, Client) {
    let faults = Faults::new(&store);
    let client = client_over(faults.layer(etcd_service(&store)));
    (store, faults, client)
}

/// Returns the status that a call failed with.
#[track_caller]
fn status<T>(result: Result<T, Error>) -> Status {
    match result {
        Err(Error::GRpcStatus(status)) => status,
        Err(error) => panic!("the error has no status: {error}"),
        Ok(_) => panic!("the call has succeeded"),
    }
}

/// An outage like one of a proxy.
fn proxy_outage() -> Outage {
    Outage::Other { code: Code::Internal, message: "100 % of upstreams are down\n".to_owned() }
}

/// Returns whether a call panics.
fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}
