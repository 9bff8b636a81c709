//! Equal seeds in two processes, with different hash seeds and environments, have equal stories and states.

use std::env;
use std::process::Command;
use std::time::Duration;

use leasehold::concurrency::{Election, LeaderWatcher, Mutex, Session};
use leasehold::{Error, Result};
use leasehold_sim::{Faults, Me, Simulation};

const TTL: Duration = Duration::from_secs(4);

async fn lock(me: Me) -> Result<()> {
    for _ in 0..3 {
        let session = Session::open(&*me, TTL).await?;
        let guard = Mutex::new(&session, "disk").lock().await?;
        me.sleep(Duration::from_millis(me.random(3000))).await?;
        guard.unlock().await?;
    }
    Ok(())
}

fn lead(me: &Me) -> Result<()> {
    let session = Session::open(me, TTL).wait()?;
    for _ in 0..3 {
        let leadership = Election::new(&session, "db").campaign(me.name()).wait()?;
        me.sleep(Duration::from_millis(me.random(3000))).wait()?;
        leadership.resign().wait()?;
    }
    Ok(())
}

async fn follow(me: Me) -> Result<()> {
    let mut leaders = LeaderWatcher::new(&*me, "db");
    while leaders.next().await?.is_some() {}
    Ok(())
}

fn story(seed: u64) -> String {
    let mut sim = Simulation::new(seed);
    sim.draw_faults(Faults::swarm());
    for name in ["a", "b"] {
        sim.spawn(name, lock);
        sim.spawn_thread(name, |me| lead(&me));
    }
    sim.spawn("follower", follow);
    sim.spawn("c", |me| async move { me.put(("k", me.random(100).to_string())).await.map(drop) });
    let verdict = sim.run_for(Duration::from_secs(200));
    let hash = sim.read(leasehold::engine::Engine::state_hash);
    format!("{}\n{verdict:?} {hash:016x}\n{}", sim.replay(), sim.story())
}

fn seeds() -> u64 {
    let cases: u64 = env::var("LEASEHOLD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1);
    20 * cases
}

/// Prints the stories, for the test below.
#[test]
#[ignore = "prints: run by `stories_are_equal_in_two_processes`"]
fn print_stories() {
    for seed in 0..seeds() {
        println!("{}", story(seed));
    }
}

#[test]
fn stories_are_equal_in_two_processes() {
    let run = |marker: &str| {
        let mut command = Command::new(env::current_exe().expect("the path of the test is known"));
        let arguments = ["--exact", "determinism::print_stories", "--ignored", "--nocapture"];
        let output = command.args(arguments).env("MARKER", marker).output().expect("the test can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The runner of the tests prints the time that they took.
        let text = String::from_utf8(output.stdout).expect("a story is text");
        let end = text.rfind("test result").expect("the runner prints a result");
        text[..end].to_owned()
    };
    let (first, second) = (run("one"), run(&"another".repeat(100)));
    assert!(first.len() > 100_000, "{} bytes", first.len());
    assert!(first == second, "the stories differ");
    println!("{} seeds, {} bytes of stories", seeds(), first.len());
}

/// A shrunk run is equal to the run of its replay.
#[test]
fn left_out_fault_changes_no_other_draw() {
    let mut sim = Simulation::new(3);
    let mut other = Simulation::new(3);
    for sim in [&mut sim, &mut other] {
        sim.spawn("a", |me| async move {
            for _ in 0..20 {
                drop(me.put(("k", "")).await);
            }
            Ok::<(), Error>(())
        });
    }
    other.at_request("a", 20).lose_answer();
    sim.run().unwrap();
    other.run().unwrap();
    let (sim, other) = (sim.story(), other.story());
    let lines = sim.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    assert!(lines >= 19 * 3, "{lines} lines are equal:\n{sim}\n{other}");
}
