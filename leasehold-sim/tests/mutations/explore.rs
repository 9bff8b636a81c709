//! The tests in the copy: simulations with each bug, judged by the checkers alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::planted::plant;
use leasehold::{Get, Grant, Put, Result, Watch};
use leasehold_sim::{Faults, Me, Simulation};

use super::bugs::BUGS;

/// The number of seeds per bug.
const SEEDS: u64 = 500;

/// Writes, reads and deletes keys, also with leases and at earlier revisions.
async fn use_keys(me: Me) -> Result<()> {
    let mut lease = None;
    let mut newest = 1;
    for _ in 0..40 {
        let key = format!("keys/{}", me.random(4));
        match me.random(8) {
            0 => drop(me.delete(key).await),
            1 => {
                lease = me.grant(Grant::new(Duration::from_secs(3))).await.ok().map(|granted| granted.id());
            }
            2 => drop(me.get(Get::prefix("keys/").limit(2)).await),
            3 => drop(me.get(Get::prefix("keys/").at(newest)).await),
            4 => drop(me.get(Get::prefix("keys/").max_mod_revision(newest)).await),
            _ => {
                let put = Put::new(key, "");
                let put = match lease {
                    Some(lease) if me.random(2) == 0 => put.lease(lease),
                    _ => put,
                };
                if let Ok(answer) = me.put(put).await {
                    newest = answer.header().revision().get();
                }
            }
        }
        me.sleep(Duration::from_millis(me.random(400))).await?;
    }
    Ok(())
}

/// Watches the keys, again and again from an earlier revision.
async fn watch(me: Me) -> Result<()> {
    loop {
        let start = me.get("keys/0").await.map_or(1, |got| got.header().revision().get() - 5).max(1);
        let mut watcher = me.watch(Watch::prefix("keys/").start_revision(start));
        while let Some(Ok(Some(_))) = me.timeout(Duration::from_secs(3), watcher.next()).await {}
        me.sleep(Duration::from_secs(1)).await?;
    }
}

async fn lock(me: Me) -> Result<()> {
    for _ in 0..6 {
        let Ok(session) = Session::open(&*me, Duration::from_secs(4)).await else { continue };
        for _ in 0..2 {
            let Ok(guard) = Mutex::new(&session, "disk").lock().await else { break };
            let mark = me.acts_as_owner("disk", session.lease());
            me.sleep(Duration::from_millis(me.random(2000))).await?;
            drop(mark);
            drop(guard.unlock().await);
        }
    }
    Ok(())
}

/// Runs a simulation with a bug, and returns the violation that the checkers find without it.
fn run(seed: u64, bug: Option<&'static str>) -> Option<String> {
    plant(bug);
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut sim = Simulation::new(seed);
        sim.draw_faults(Faults::swarm().until(Duration::from_secs(20)));
        for name in ["a", "b"] {
            sim.spawn(name, use_keys);
            sim.spawn(name, lock);
        }
        sim.spawn("watcher", watch);
        // A panic of a client is no finding of the checkers.
        drop(sim.run_for(Duration::from_secs(60)));
        sim.history(Clone::clone)
    }));
    plant(None);
    run.ok()?.check().err().map(|violation| violation.to_string())
}

#[test]
fn every_planted_bug_is_found() {
    for seed in 0..SEEDS {
        assert_eq!(run(seed, None), None, "seed {seed} without a bug");
    }
    // A bug can panic inside the engine.
    let print_panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in &BUGS {
        match (0..SEEDS).find_map(|seed| Some((seed, run(seed, Some(bug.name))?))) {
            Some((seed, violation)) => {
                let short: String = violation.chars().take(120).collect();
                println!("{}: found at seed {seed}: {short}", bug.name);
            }
            None => missed.push(bug.name),
        }
    }
    std::panic::set_hook(print_panics);
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
    println!("{} planted bugs, all found", BUGS.len());
}
