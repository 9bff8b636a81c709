//! Three workers elect a leader. It hangs, another worker takes over, and late writes of the first leader fail: `cargo
//! run --example leader_election`.
//!
//! Each worker is a thread with its own session. The clock is moved by hand, so a TTL of ten seconds takes no real
//! time.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use leasehold::concurrency::{Election, Fence, LeaderEvent, LeaderWatcher, Leadership, Session};
use leasehold::{ManualClock, Result, Store, TxnOp};

const TTL: Duration = Duration::from_secs(10);

type Elected = (Session, Leadership);

fn main() -> Result<()> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let mut leaders = LeaderWatcher::new(&store, "scheduler");
    let (elected, leaderships) = channel();
    thread::scope(|scope| {
        for n in 1..=3 {
            let (store, elected) = (&store, elected.clone());
            scope.spawn(move || work(store, n, &elected).expect("the store is open"));
        }
        drop(elected);
        fail_over(&store, &clock, &leaderships)
    })?;
    println!("an observer received:");
    while let Some(event) = leaders.try_recv()? {
        match event {
            LeaderEvent::Elected { kv, .. } => {
                println!("  {} leads with token {}", kv.value().escape_ascii(), kv.create_revision());
            }
            LeaderEvent::NoLeader { .. } => println!("  there is no leader"),
            other => println!("  {other:?}"),
        }
    }
    Ok(())
}

/// Waits for the election and sends the leadership to the main thread.
fn work(store: &Store, n: usize, elected: &Sender<Elected>) -> Result<()> {
    let session = Session::open(store, TTL).wait()?;
    let leadership = Election::new(&session, "scheduler").campaign(format!("worker {n}")).wait()?;
    elected.send((session, leadership)).expect("the main thread receives");
    Ok(())
}

fn fail_over(store: &Store, clock: &ManualClock, leaderships: &Receiver<Elected>) -> Result<()> {
    let printer = Fence::new();
    let (session, first) = leaderships.recv().expect("a worker is elected");
    first.txn().and_then([TxnOp::put("plan", "by the first leader")]).commit().wait()?;
    printer.admit(first.token())?;

    println!("the leader hangs, and its lease is not renewed");
    session.pause().wait()?;
    clock.advance(TTL);
    let (_session, second) = leaderships.recv().expect("another worker is elected");
    printer.admit(second.token())?;

    println!("it wakes up, and its late requests fail:");
    let late = first.txn().and_then([TxnOp::put("plan", "too late")]).commit().wait();
    println!("  write:    {}", late.expect_err("the store rejects a former leader"));
    println!(
        "  proclaim: {}",
        first.proclaim("still here").wait().expect_err("the store rejects a former leader")
    );
    println!("  print:    {}", printer.admit(first.token()).expect_err("the fence rejects an older token"));
    assert_eq!(store.get("plan")?.kvs()[0].value(), b"by the first leader");

    second.resign().wait()?;
    let (_session, last) = leaderships.recv().expect("the last worker is elected");
    last.check().wait()
}
