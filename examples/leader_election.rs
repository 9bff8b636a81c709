//! Three workers elect a leader; it hangs, another takes over, and what the old one does too late is refused:
//! `cargo run --example leader_election`.
//!
//! Each worker is a thread with a session of its own. Time is moved by hand, so a TTL of ten seconds takes none.

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
    println!("what an observer has seen:");
    while let Some(event) = leaders.try_recv()? {
        match event {
            LeaderEvent::Elected { kv, .. } => {
                println!("  {} leads, with token {}", kv.value().escape_ascii(), kv.create_revision());
            }
            LeaderEvent::NoLeader { .. } => println!("  nobody leads"),
            other => println!("  {other:?}"),
        }
    }
    Ok(())
}

/// Waits to be elected, and hands the leadership on.
fn work(store: &Store, n: usize, elected: &Sender<Elected>) -> Result<()> {
    let session = Session::open(store, TTL).wait()?;
    let leadership = Election::new(&session, "scheduler").campaign(format!("worker {n}")).wait()?;
    elected.send((session, leadership)).expect("somebody listens");
    Ok(())
}

fn fail_over(store: &Store, clock: &ManualClock, leaderships: &Receiver<Elected>) -> Result<()> {
    let printer = Fence::new();
    let (session, first) = leaderships.recv().expect("somebody is elected");
    first.txn().and_then([TxnOp::put("plan", "of the first")]).commit().wait()?;
    printer.admit(first.token())?;

    println!("the leader hangs: nobody renews its lease");
    session.pause().wait()?;
    clock.advance(TTL);
    let (_session, second) = leaderships.recv().expect("another one is elected");
    printer.admit(second.token())?;

    println!("it wakes up, and does not know:");
    let late = first.txn().and_then([TxnOp::put("plan", "too late")]).commit().wait();
    println!("  it writes:    {}", late.expect_err("the store refuses it"));
    println!("  it proclaims: {}", first.proclaim("still here").wait().expect_err("the store refuses it"));
    println!("  it prints:    {}", printer.admit(first.token()).expect_err("the fence refuses it"));
    assert_eq!(store.get("plan")?.kvs()[0].value(), b"of the first");

    second.resign().wait()?;
    let (_session, last) = leaderships.recv().expect("the last one is elected");
    last.check().wait()
}
