//! A small deterministic simulation on the engine: `cargo run --example simulation -- 7`.
//!
//! Workers hold leases, renew them or hang, and take over each other's jobs. Time jumps from deadline to deadline. The
//! seed is the only input: equal seeds print equal lines, in any process.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::backend::{Delivery, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{Compare, CompareOp, Grant, LeaseId, Put, Result, Txn, Watch};

const WORKERS: i64 = 3;
const TTL: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let mut seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    let mut engine =
        Engine::new(EngineConfig { hash_seed: seed, ..EngineConfig::default() }, Timestamp::ORIGIN);
    let stream = engine.open_stream();
    engine.watch(stream, &WatchRequest::Create(Watch::key("job").no_put()));
    let mut received = VecDeque::new();
    for worker in 1..=WORKERS {
        engine.grant(&Grant::new(TTL).id(worker).keep_alive())?;
    }
    for _ in 0..12 {
        let worker = 1 + (random(&mut seed) % WORKERS as u64) as i64;
        if random(&mut seed).is_multiple_of(3) {
            println!("{:?}: worker {worker} hangs", engine.now());
            // The lease may have expired already.
            let _ = engine.pause_keep_alive(worker.into());
        } else if take_job(&mut engine, worker)? {
            println!("{:?}: worker {worker} takes the job", engine.now());
        }
        // Advance by a second, or to the next deadline if that is earlier.
        let next = engine.now() + Duration::from_secs(1);
        engine.advance(engine.next_deadline().map_or(next, |deadline| deadline.min(next)));
        while engine.receive(stream, &mut received) {}
        for delivery in received.drain(..) {
            if let Delivery::Watch(response) = delivery {
                for event in response.events() {
                    println!("{:?}: the job is free at revision {}", engine.now(), event.kv().mod_revision());
                }
            }
        }
    }
    println!("state {:016x}", engine.state_hash());
    Ok(())
}

/// Returns whether the worker took the job. The job's key has the worker's lease, which is granted again if it has
/// expired.
fn take_job(engine: &mut Engine, worker: i64) -> Result<bool> {
    if engine.time_to_live(LeaseId::new(worker), false).ttl().is_none() {
        engine.grant(&Grant::new(TTL).id(worker).keep_alive())?;
    }
    let free = Compare::create_revision("job", CompareOp::Equal, 0);
    let take = Put::new("job", format!("worker {worker}")).lease(worker);
    Ok(engine.txn(&Txn::new().when([free]).and_then([take]))?.succeeded())
}

/// Returns the next number of a Xorshift generator. Any generator would do whose only input is the seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
