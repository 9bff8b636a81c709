//! Each kind of fault by hand, and the draws of a swarm.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use leasehold::backend::RequestKind;
use leasehold::concurrency::{Mutex, Session};
use leasehold::{Error, Result, Watch};
use leasehold_sim::{Fault, Faults, Simulation};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn count(sim: &Simulation, key: &str) -> i64 {
    sim.read(|engine| engine.get(&key.into()).expect("the read is valid").count())
}

/// Runs a put that fails, and returns its error.
fn failed_put(fault: impl FnOnce(&mut Simulation)) -> (Simulation, Error) {
    let failed = Rc::new(RefCell::new(None));
    let mut sim = Simulation::new(1);
    let seen = Rc::clone(&failed);
    sim.spawn("a", move |me| {
        let seen = Rc::clone(&seen);
        async move {
            *seen.borrow_mut() = me.put(("k", "v")).await.err();
            Ok::<(), Error>(())
        }
    });
    fault(&mut sim);
    sim.run().expect("an error after a fault is no verdict");
    let error = failed.borrow_mut().take().expect("the put fails");
    (sim, error)
}

const LOST: Error = Error::Unavailable { maybe_applied: true };

#[test]
fn refused_request_is_not_applied() {
    let (sim, error) = failed_put(|sim| sim.at_request("a", 1).refuse());
    assert_eq!((error, count(&sim, "k")), (Error::Unavailable { maybe_applied: false }, 0));
}

#[test]
fn lost_request_is_not_applied_and_lost_answer_is() {
    let (sim, error) = failed_put(|sim| sim.at_request("a", 1).lose());
    assert_eq!((error, count(&sim, "k")), (LOST, 0));
    let (sim, error) = failed_put(|sim| sim.at_request("a", 1).about("k").lose_answer());
    assert_eq!((error, count(&sim, "k")), (LOST, 1));
}

#[test]
fn delayed_request_is_applied_after_the_call_has_failed() {
    let (sim, error) = failed_put(|sim| sim.at_request("a", 1).delay(secs(20)));
    assert_eq!((error, count(&sim, "k")), (LOST, 1));
    assert!(sim.now().as_nanos() > 20_000_000_000, "{:?}", sim.now());
    let (sim, error) = failed_put(|sim| sim.at_request("a", 1).delay_answer(secs(20)));
    assert_eq!((error, count(&sim, "k")), (LOST, 1));
}

#[test]
fn aimed_fault_delays_the_next_request_about_the_key() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        assert_eq!(me.put(("k", "1")).await, Err(LOST));
        let before = me.now();
        me.get("other").await?;
        assert!(me.now() - before < secs(1));
        // Answered late, or not at all.
        drop(me.get("k").await);
        assert!(me.now() - before > Duration::from_millis(5));
        Ok::<(), Error>(())
    });
    sim.at_request("a", 1).of_kind(RequestKind::Put).lose_answer_and_delay_next();
    sim.run().unwrap();
}

/// A client that holds a lock, and notices that it has lost it.
async fn hold(me: leasehold_sim::Me) -> Result<()> {
    let session = Session::open(&*me, secs(6)).await?;
    let guard = Mutex::new(&session, "disk").lock().await?;
    me.put(("holds", "")).await?;
    guard.lost().await?;
    me.put(("lost", "")).await.map(drop)
}

fn holding() -> Simulation {
    let mut sim = Simulation::new(1);
    sim.spawn("a", hold);
    sim.run_until(|sim| count(sim, "holds") == 1).expect("the lock is free");
    sim
}

#[test]
fn pause_ends_the_lease_and_resume_lets_the_client_see_it() {
    let mut sim = holding();
    sim.pause("a");
    sim.run_for(secs(60)).unwrap();
    assert_eq!(sim.read(|engine| engine.leases().leases().len()), 0);
    assert_eq!(count(&sim, "lost"), 0, "a paused client takes no step");
    sim.resume("a");
    sim.run().unwrap();
    assert_eq!(count(&sim, "lost"), 1);
}

#[test]
fn partitioned_client_assumes_the_end_of_its_lease() {
    let mut sim = holding();
    sim.run_for(secs(10)).unwrap();
    sim.partition("a");
    let cut = sim.now();
    sim.run_until(|sim| sim.read(|engine| engine.leases().leases().is_empty())).unwrap();
    assert!(sim.now() - cut < secs(7), "{:?}", sim.now() - cut);
    // The client writes, and the write is held back.
    sim.run_for(secs(60)).unwrap();
    assert_eq!(count(&sim, "lost"), 0);
    sim.heal("a");
    sim.run().unwrap();
    assert_eq!(count(&sim, "lost"), 1);
}

#[test]
fn crash_ends_the_client_and_sent_requests_arrive() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        if me.life() == 0 {
            drop(me.put(("sent", "")));
            me.sleep(secs(1000)).await?;
        }
        me.put(("again", "")).await.map(drop)
    });
    sim.run_until(|sim| sim.history(|history| history.operations().len()) == 1).unwrap();
    sim.crash("a");
    assert_eq!(count(&sim, "sent"), 0);
    sim.run_for(secs(5)).unwrap();
    assert_eq!((count(&sim, "sent"), count(&sim, "again")), (1, 0));
    sim.restart("a");
    sim.run().unwrap();
    assert_eq!(count(&sim, "again"), 1);
}

#[test]
fn cut_watch_resumes_without_a_gap() {
    let mut sim = Simulation::new(1);
    sim.spawn("watcher", |me| async move {
        let mut watcher = me.watch(Watch::key("k"));
        let mut seen = 0;
        while seen < 20 {
            let response = watcher.next().await?.expect("the watch continues");
            for event in response.events() {
                seen += 1;
                assert_eq!(event.kv().version(), seen);
            }
        }
        Ok::<(), Error>(())
    });
    sim.spawn("writer", |me| async move {
        me.sleep(secs(1)).await?;
        for _ in 0..20 {
            me.put(("k", "")).await?;
            me.sleep(secs(1)).await?;
        }
        Ok::<(), Error>(())
    });
    for _ in 0..4 {
        sim.run_for(secs(4)).unwrap();
        sim.cut_watches("watcher", secs(3));
    }
    sim.run().unwrap();
}

#[test]
fn compaction_during_a_cut_ends_the_watch() {
    let mut sim = Simulation::new(1);
    sim.spawn("watcher", |me| async move {
        let mut watcher = me.watch(Watch::key("k"));
        loop {
            match watcher.next().await {
                Err(Error::Compacted { .. }) => return me.put(("compacted", "")).await.map(drop),
                other => drop(other?),
            }
        }
    });
    sim.spawn("writer", |me| async move {
        for _ in 0..10 {
            me.sleep(secs(1)).await?;
            me.put(("k", "")).await?;
        }
        Ok::<(), Error>(())
    });
    sim.run_for(secs(3)).unwrap();
    sim.cut_watches("watcher", secs(5));
    sim.run_for(secs(4)).unwrap();
    sim.compact();
    sim.run().unwrap();
    assert_eq!(count(&sim, "compacted"), 1);
}

/// A watcher of `k` that writes the time of each event, and a writer of an event every ten seconds.
fn timed() -> Simulation {
    let mut sim = Simulation::new(1);
    sim.spawn("watcher", |me| async move {
        let mut watcher = me.watch(Watch::key("k").capacity(1));
        let mut seen = 0;
        while seen < 3 {
            let response = watcher.next().await?.expect("the watch continues");
            for event in response.events() {
                seen += 1;
                assert_eq!(event.kv().version(), seen);
                me.put((format!("at/{seen}"), (me.now().as_nanos() / 1_000_000_000).to_string())).await?;
            }
        }
        Ok::<(), Error>(())
    });
    sim.spawn("writer", |me| async move {
        for _ in 0..3 {
            me.sleep(secs(10)).await?;
            me.put(("k", "")).await?;
        }
        Ok::<(), Error>(())
    });
    sim.run_for(secs(5)).expect("no client fails");
    sim
}

fn times(sim: &Simulation) -> Vec<String> {
    let at = sim.read(|engine| engine.get(&leasehold::Get::prefix("at/"))).expect("the read is valid");
    at.kvs().iter().map(|kv| kv.value_str().expect("a text").to_owned()).collect()
}

#[test]
fn delayed_delivery_and_lag_keep_the_order() {
    let mut sim = timed();
    sim.delay_next_delivery("watcher", secs(15));
    sim.run().unwrap();
    assert_eq!(times(&sim), ["25", "25", "30"]);
    let mut sim = timed();
    sim.lag_watches("watcher", secs(50));
    sim.run_for(secs(40)).unwrap();
    assert!(times(&sim).is_empty());
    sim.run().unwrap();
    assert_eq!(times(&sim), ["55", "55", "55"]);
}

#[test]
fn overlapping_pause_and_partition_end() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        for _ in 0..4 {
            drop(me.put(("k", "")).await);
        }
        Ok::<(), Error>(())
    });
    sim.at_request("a", 1).then_pause(secs(10));
    sim.at_request("a", 1).then_partition(secs(5));
    sim.at_request("a", 1).then_pause(secs(3));
    sim.at_request("a", 2).then_partition(secs(20));
    sim.run().unwrap();
    assert!(sim.now().as_nanos() < 60_000_000_000, "{:?}", sim.now());
}

/// The answer of the grant arrives before or after the crash, and no later life renews the lease.
#[test]
fn lease_of_a_crashed_life_is_not_renewed() {
    for delay in [0, 3] {
        let mut sim = Simulation::new(1);
        sim.spawn("a", |me| async move {
            let session = Session::open(&*me, secs(5)).await?;
            me.sleep(secs(1000)).await?;
            session.close().await
        });
        sim.at_request("a", 1).delay_answer(secs(delay));
        sim.run_for(secs(1)).unwrap();
        assert_eq!(sim.read(|engine| engine.leases().leases().len()), 1);
        sim.crash("a");
        sim.run_for(secs(6)).unwrap();
        assert_eq!(sim.read(|engine| engine.leases().leases().len()), 0, "a dead life renews nothing");
    }
}

#[test]
fn expired_lease_is_reported_to_its_session() {
    let mut sim = holding();
    sim.expire_lease("a");
    sim.run().unwrap();
    assert_eq!(count(&sim, "lost"), 1);
}

#[test]
fn slow_clock_measures_a_longer_sleep() {
    let mut sim = Simulation::new(1);
    sim.spawn("slow", |me| async move { me.sleep(secs(90)).await });
    sim.skew("slow", -100_000);
    sim.run().unwrap();
    let passed = sim.now().as_nanos() / 1_000_000_000;
    assert!((100..101).contains(&passed), "{passed}");
}

/// With each kind of fault alone, it happens, and a client that retries comes to an end.
#[test]
fn swarm_draws_each_kind() {
    for kind in Fault::ALL {
        let mut drawn = 0;
        for seed in 0..40 {
            let mut sim = Simulation::new(seed);
            sim.draw_faults(Faults::only(&[kind]).until(secs(30)));
            for name in ["a", "b"] {
                sim.spawn(name, |me| async move {
                    let Ok(session) = Session::open(&*me, secs(5)).await else { return Ok(()) };
                    for _ in 0..3 {
                        let Ok(guard) = Mutex::new(&session, "disk").lock().await else { return Ok(()) };
                        drop(me.put(("k", "")).await);
                        drop(guard);
                        me.sleep(secs(1)).await?;
                    }
                    Ok::<(), Error>(())
                });
            }
            sim.run().unwrap_or_else(|verdict| panic!("{kind:?}, seed {seed}: {verdict}\n{}", sim.story()));
            drawn += usize::from(!sim.replay().ends_with(':'));
        }
        assert!(drawn >= 10, "{kind:?} happens in {drawn} of 40 runs");
    }
}

#[test]
fn changed_rate_of_a_clock_moves_its_timers() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let (begin, nap) = (me.now(), secs(10));
        me.sleep(nap).await?;
        let slept = me.now().duration_since(begin);
        assert!(slept >= nap && slept < nap + secs(1), "the clock has measured {slept:?}");
        Ok::<(), Error>(())
    });
    // The clock is at 1.5 s, then at 2 s, and 8 s are left.
    sim.skew("a", 500_000);
    sim.run_for(secs(1)).unwrap();
    sim.skew("a", -500_000);
    sim.run_for(secs(1)).unwrap();
    sim.skew("a", 0);
    sim.run_for(secs(1)).unwrap();
    sim.run().unwrap();
    assert_eq!(sim.now().as_nanos() / 100_000_000, 100);
}

#[test]
fn longest_delays_last_for_ever() {
    for fault in 0..3 {
        let mut sim = Simulation::new(1);
        sim.spawn("a", |me| async move {
            let mut watcher = me.watch(Watch::key("k"));
            assert!(me.put(("k", "")).await.is_err_and(|error| error.is_ambiguous()));
            me.timeout(secs(1), watcher.next()).await;
            Ok::<(), Error>(())
        });
        match fault {
            0 => sim.at_request("a", 1).delay(Duration::MAX),
            1 => sim.at_request("a", 1).delay_answer(Duration::MAX),
            _ => {
                sim.delay_next_delivery("a", Duration::MAX);
                sim.delay_next_delivery("a", Duration::MAX);
                sim.at_request("a", 1).lose_answer();
            }
        }
        sim.run().unwrap();
    }
}
