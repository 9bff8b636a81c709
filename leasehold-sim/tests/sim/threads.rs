//! Clients that block on threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leasehold::Result;
use leasehold::concurrency::{Mutex, Session};
use leasehold_sim::{Me, Simulation};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn work(me: &Me) -> Result<()> {
    let session = Session::open(me, secs(5)).wait()?;
    for _ in 0..3 {
        let guard = Mutex::new(&session, "disk").lock().wait()?;
        let mark = me.acts_as_owner("disk", session.lease());
        let count = me.get("count").wait()?.kv().map_or(0, |kv| kv.version());
        me.sleep(Duration::from_millis(me.random(100))).wait()?;
        assert_eq!(me.get("count").wait()?.kv().map_or(0, |kv| kv.version()), count);
        me.put(("count", "")).wait()?;
        drop(mark);
        guard.unlock().wait()?;
    }
    session.close().wait()
}

#[test]
fn threads_and_futures_share_a_lock() {
    for seed in 0..50 {
        let mut sim = Simulation::new(seed);
        for name in ["a", "b", "c"] {
            sim.spawn_thread(name, |me| work(&me));
        }
        sim.spawn("d", |me| async move {
            let session = Session::open(&*me, secs(5)).await?;
            let guard = Mutex::new(&session, "disk").lock().await?;
            guard.unlock().await
        });
        sim.run().unwrap();
        let count = sim.read(|engine| engine.get(&"count".into()).unwrap().kvs()[0].version());
        assert_eq!(count, 9);
    }
}

#[test]
fn threads_are_deterministic() {
    let run = || {
        let mut sim = Simulation::new(5);
        for name in ["a", "b", "c"] {
            sim.spawn_thread(name, |me| work(&me));
        }
        sim.run().unwrap();
        sim.story()
    };
    let first = run();
    (0..5).for_each(|_| assert_eq!(run(), first));
}

/// The number of threads of this process that a simulation has started.
fn threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("sim-left")).count()
}

#[test]
fn dropped_simulation_leaves_no_thread() {
    let ends = Arc::new(AtomicUsize::new(0));
    struct End(Arc<AtomicUsize>);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for run in 0..40 {
        let mut sim = Simulation::new(run);
        for _ in 0..4 {
            let ends = Arc::clone(&ends);
            sim.spawn_thread("left", move |me| {
                let _end = End(Arc::clone(&ends));
                let session = Session::open(&me, secs(5)).wait()?;
                let _guard = Mutex::new(&session, "disk").lock().wait()?;
                me.sleep(secs(1000)).wait()
            });
        }
        if run % 2 == 0 {
            sim.run_for(secs(10)).unwrap();
        }
    }
    if cfg!(target_os = "linux") {
        assert_eq!(threads(), 0);
    }
    assert_eq!(ends.load(Ordering::Relaxed), 80, "every started client has unwound");
}

#[test]
fn two_threads_of_a_process_share_a_session() {
    let mut sim = Simulation::new(2);
    let slot: Arc<std::sync::Mutex<Option<Session>>> = Arc::default();
    let filled = Arc::clone(&slot);
    sim.spawn_thread("a", move |me| {
        let session = Session::open(&me, secs(5)).wait()?;
        *filled.lock().unwrap() = Some(session.clone());
        let guard = Mutex::new(&session, "disk").lock().wait()?;
        me.sleep(secs(3)).wait()?;
        guard.unlock().wait()
    });
    sim.spawn_thread("a", move |me| {
        me.sleep(secs(1)).wait()?;
        let session = slot.lock().unwrap().take().unwrap();
        let guard = Mutex::new(&session, "disk").lock().wait()?;
        assert!(me.now().as_nanos() > 3_000_000_000, "the first thread has the lock until then");
        guard.unlock().wait()
    });
    sim.run().unwrap();
    assert!(sim.story().contains("a.2"), "{}", sim.story());
}

#[test]
fn crash_unwinds_thread_and_starts_it_again() {
    let mut sim = Simulation::new(1);
    sim.spawn_thread("a", |me| {
        let session = Session::open(&me, secs(5)).wait()?;
        let guard = Mutex::new(&session, "disk").lock().wait()?;
        me.put(("life", me.life().to_string())).wait()?;
        if me.life() == 0 {
            me.sleep(secs(1000)).wait()?;
        }
        guard.unlock().wait()
    });
    sim.run_for(secs(1)).unwrap();
    sim.crash("a");
    sim.run_for(secs(1)).unwrap();
    // The destructors of the guard and the session have reached no store.
    assert_eq!(sim.read(|engine| engine.leases().leases().len()), 1);
    sim.restart("a");
    sim.run().unwrap();
    let life = sim.read(|engine| engine.get(&"life".into()).unwrap().kvs()[0].value().to_vec());
    assert_eq!(life, b"1");
    assert!(sim.now().as_nanos() > 5_000_000_000, "the second life waits for the end of the lease");
}

#[test]
fn blocking_in_a_future_panics_with_advice() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move { me.get("k").wait().map(drop) });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().contains("`call.await`, not `call.wait()`"), "{verdict}");
}

#[test]
fn nested_waits_lose_no_wake_up() {
    let mut sim = Simulation::new(1);
    sim.spawn_thread("a", |me| {
        let first = me.put(("a", ""));
        me.block_on(async {
            me.get("b").wait()?;
            me.get("c").wait()?;
            first.await?;
            me.get("a").await
        })
        .map(|got| assert_eq!(got.count(), 1))
    });
    sim.run().unwrap();
}

#[test]
fn panic_of_thread_is_its_verdict() {
    let mut sim = Simulation::new(1);
    sim.spawn_thread("a", |me| -> Result<()> {
        let session = Session::open(&me, secs(5)).wait()?;
        let _guard = Mutex::new(&session, "disk").lock().wait()?;
        panic!("while it has the lock");
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().starts_with("a panicked at"), "{verdict}");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a destructor panics");
    }
}

#[test]
fn panic_of_a_destructor_leaves_no_thread() {
    let ends = Arc::new(AtomicUsize::new(0));
    for place in 0..3 {
        let mut sim = Simulation::new(1);
        let bomb = (place == 0).then(|| Bomb);
        sim.spawn("a", move |me| {
            let _in_the_closure = &bomb;
            let bombs = [(place == 1).then(|| Bomb), (place == 2).then(|| Bomb)];
            async move {
                let [mine, detached] = bombs;
                let other = me.clone();
                me.detach(async move {
                    let _bomb = detached;
                    other.sleep(secs(9)).await.unwrap_or_default();
                });
                me.sleep(secs(9)).await?;
                drop(mine);
                Ok::<(), leasehold::Error>(())
            }
        });
        let ends = Arc::clone(&ends);
        sim.spawn_thread("b", move |me| {
            let slept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| me.sleep(secs(9)).wait()));
            ends.fetch_add(1, Ordering::Relaxed);
            slept.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        });
        sim.run_for(secs(1)).unwrap();
    }
    assert_eq!(ends.load(Ordering::Relaxed), 3, "every thread has unwound");
}

#[test]
fn panic_of_a_detached_task_is_the_verdict_of_its_process() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let other = me.clone();
        me.detach(async move {
            other.sleep(secs(2)).await.unwrap_or_default();
            panic!("in a detached task");
        });
        me.sleep(secs(9)).await
    });
    // The world takes its steps on this thread.
    sim.spawn_thread("b", |me| me.sleep(secs(9)).wait());
    let verdict = sim.run().unwrap_err();
    assert!(verdict.is_panic() && verdict.to_string().starts_with("a panicked at"), "{verdict}");
}

#[test]
fn crash_ends_a_detached_task_whose_destructor_panics() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let other = me.clone();
        me.detach(async move {
            let _bomb = Bomb;
            other.sleep(secs(9)).await.unwrap_or_default();
        });
        me.sleep(secs(9)).await
    });
    sim.run_for(secs(1)).unwrap();
    sim.crash("a");
    sim.restart("a");
    sim.run_for(secs(1)).unwrap();
}

/// Runs with a size of stacks that no thread can have, for the test below.
#[test]
#[ignore = "run by `thread_that_cannot_be_started_is_a_verdict`"]
fn client_without_a_thread() {
    let mut sim = Simulation::new(1);
    sim.spawn_thread("a", |me| me.get("k").wait().map(drop));
    sim.spawn("b", |me| async move { me.sleep(secs(9)).await });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().starts_with("a has no thread"), "{verdict}");
}

#[test]
fn thread_that_cannot_be_started_is_a_verdict() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    // With one thread, the harness runs the test on the main thread.
    command.args(["--exact", "threads::client_without_a_thread", "--ignored", "--test-threads=1"]);
    let output = command.env("RUST_MIN_STACK", (1_u64 << 46).to_string()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
