//! A nightly job that exactly one of many workers runs: `cargo run --example job_lock`.
//!
//! Each worker waits for the lock for up to five seconds. The owner runs the job and records it in a transaction, which
//! fails if the lock was lost or the job was recorded before. The other workers find the record, or print the queue of
//! the lock.

use std::thread;
use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::{Compare, CompareOp, Result, Store, TxnOp};

const NIGHT: &str = "2026-11-23";

fn main() -> Result<()> {
    let store = Store::new();
    let ran = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                scope.spawn({
                    let store = &store;
                    move || work(store, worker)
                })
            })
            .collect();
        let outcomes = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        outcomes.collect::<Result<Vec<bool>>>()
    })?;
    assert_eq!(ran.iter().filter(|&&ran| ran).count(), 1, "exactly one worker runs the job");
    println!("{}", store.get("jobs/nightly/done")?.kvs()[0].value().escape_ascii());
    Ok(())
}

/// Returns whether this worker ran the job.
fn work(store: &Store, worker: usize) -> Result<bool> {
    let session = Session::open(store, Duration::from_secs(10)).wait()?;
    let mutex = Mutex::new(&session, "jobs/nightly/lock");
    let Some(guard) = mutex.lock().wait_timeout(Duration::from_secs(5))? else {
        println!("worker {worker}: busy: {}", mutex.queue().wait()?);
        return Ok(false);
    };
    let is_new = Compare::version("jobs/nightly/done", CompareOp::Equal, 0);
    let done = TxnOp::put("jobs/nightly/done", format!("worker {worker} ran the job of {NIGHT}"));
    let written = guard.txn().when([is_new]).and_then([done]).commit().wait()?;
    guard.unlock().wait()?;
    Ok(written.succeeded())
}
