//! A small deterministic simulation on the pure engine: `cargo run --example simulation -- 7`.
//!
//! Workers hold leases, renew them or hang, and take over each other's jobs. Time jumps from deadline to deadline, and
//! the seed decides everything: the same seed prints the same lines, in any process.

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
        engine.grant(&Grant::new(TTL).id(worker).standing())?;
    }
    for _ in 0..12 {
        let worker = 1 + (random(&mut seed) % WORKERS as u64) as i64;
        if random(&mut seed).is_multiple_of(3) {
            println!("{:?}: worker {worker} hangs", engine.now());
            // Its lease may be over already.
            let _ = engine.pause_keep_alive(worker.into());
        } else if take_job(&mut engine, worker)? {
            println!("{:?}: worker {worker} takes the job", engine.now());
        }
        // A second passes, or whatever is due happens first.
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

/// Whether the worker got the job, under its lease: a new one, if the old is over.
fn take_job(engine: &mut Engine, worker: i64) -> Result<bool> {
    if engine.time_to_live(LeaseId::new(worker), false).ttl().is_none() {
        engine.grant(&Grant::new(TTL).id(worker).standing())?;
    }
    let free = Compare::create_revision("job", CompareOp::Equal, 0);
    let take = Put::new("job", format!("worker {worker}")).lease(worker);
    Ok(engine.txn(&Txn::new().when([free]).and_then([take]))?.succeeded())
}

/// Xorshift: any source of numbers will do, as long as the seed is its only input.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
