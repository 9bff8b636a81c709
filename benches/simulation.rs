//! The speed of the simulator: `cargo bench --bench simulation`, on a machine without other load.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use leasehold::concurrency::{Mutex, Session};
use leasehold::{Error, Put, Result};
use leasehold_sim::{Explorer, Faults, Me, Simulation, Verdict};

const HOUR: Duration = Duration::from_secs(3600);

/// Locks and writes once a second, for ever.
async fn lock_and_write(me: Me) -> Result<()> {
    let session = Session::open(&*me, Duration::from_secs(10)).await?;
    let mutex = Mutex::new(&session, format!("lock-{}", me.random(3)));
    loop {
        let guard = mutex.lock().await?;
        me.put(("written", me.name())).await?;
        guard.unlock().await?;
        me.sleep(Duration::from_secs(1)).await?;
    }
}

/// A simulated hour of ten clients.
fn hour(with_story: bool) -> usize {
    let mut sim = Simulation::new(1);
    for n in 0..10 {
        sim.spawn(&format!("client-{n}"), lock_and_write);
    }
    sim.run_for(HOUR).expect("no fault is drawn");
    if with_story { sim.story().len() } else { sim.history(|history| history.operations().len()) }
}

const CALLS: u64 = 10_000;

/// Calls of clients that are futures.
fn tasks(clients: u64) {
    let mut sim = Simulation::new(1);
    for n in 0..clients {
        sim.spawn(&format!("client-{n}"), move |me| async move {
            for _ in 0..CALLS / clients {
                black_box(me.get("k").await?);
            }
            Ok::<(), Error>(())
        });
    }
    sim.run_for(HOUR).expect("no fault is drawn");
}

/// Calls of clients that are threads.
fn threads(clients: u64) {
    let mut sim = Simulation::new(1);
    for n in 0..clients {
        sim.spawn_thread(&format!("client-{n}"), move |me| {
            for _ in 0..CALLS / clients {
                black_box(me.get("k").wait()?);
            }
            Ok::<(), Error>(())
        });
    }
    sim.run_for(HOUR).expect("no fault is drawn");
}

/// Three clients that take a lock twice each, and write.
fn small(sim: &mut Simulation) -> std::result::Result<(), Verdict> {
    for name in ["a", "b", "c"] {
        sim.spawn(name, |me| async move {
            let session = Session::open(&*me, Duration::from_secs(5)).await?;
            for _ in 0..2 {
                let guard = Mutex::new(&session, "disk").lock().await?;
                me.put(("written", me.name())).await?;
                guard.unlock().await?;
            }
            session.close().await
        });
    }
    sim.run()
}

/// A simulation with 10,000 calls on four keys.
fn calls() -> Simulation {
    let mut sim = Simulation::new(1);
    for n in 0..10 {
        sim.spawn(&format!("client-{n}"), |me| async move {
            for _ in 0..1_000 {
                let key = format!("k{}", me.random(4));
                if me.random(2) == 0 {
                    drop(me.put(Put::new(key, "v")).await);
                } else {
                    drop(me.get(key).await);
                }
            }
            Ok::<(), Error>(())
        });
    }
    sim.run_for(HOUR).expect("no fault is drawn");
    sim
}

fn simulation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulation");
    group.sample_size(10);
    group.bench_function("hour of ten clients", |bencher| bencher.iter(|| hour(false)));
    group.bench_function("hour of ten clients, story", |bencher| bencher.iter(|| hour(true)));
    group.throughput(Throughput::Elements(CALLS));
    for clients in [1, 10] {
        group
            .bench_function(format!("calls of {clients} futures"), |bencher| bencher.iter(|| tasks(clients)));
    }
    for clients in [1, 4] {
        group.bench_function(format!("calls of {clients} threads"), |bencher| {
            bencher.iter(|| threads(clients))
        });
    }
    const SEEDS: u64 = 1_000;
    group.throughput(Throughput::Elements(SEEDS));
    let explorer = Explorer::new(0..SEEDS).threads(1);
    group.bench_function("small scenario, calm", |bencher| {
        bencher.iter(|| assert!(explorer.clone().calm().run(small).failures().is_empty()));
    });
    group.bench_function("small scenario, swarm", |bencher| {
        bencher.iter(|| explorer.clone().faults(Faults::swarm()).run(small));
    });
    let sim = calls();
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("check of 10,000 calls", |bencher| {
        bencher.iter(|| sim.history(|history| history.check().expect("the history is good")));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    simulation(&mut criterion);
    criterion.final_summary();
}
