//! Clients, virtual time, verdicts and the story.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::concurrency::{Mutex, Session};
use leasehold::{Error, Get};
use leasehold_sim::{Simulation, Verdict};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn sleep_takes_virtual_time() {
    let mut sim = Simulation::new(1);
    sim.set_time_limit(secs(4000));
    sim.spawn("a", |me| async move { me.sleep(secs(3600)).await });
    sim.run().unwrap();
    assert_eq!(sim.now().as_nanos() / 1_000_000_000, 3600);
}

#[test]
fn futures_need_not_be_send() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let mut sim = Simulation::new(1);
    for name in ["a", "b"] {
        let log = Rc::clone(&log);
        sim.spawn(name, move |me| {
            let log = Rc::clone(&log);
            async move {
                me.put((me.name(), "1")).await?;
                log.borrow_mut().push(me.name().to_owned());
                Ok::<(), Error>(())
            }
        });
    }
    sim.run().unwrap();
    assert_eq!(log.borrow().len(), 2);
    assert_eq!(sim.read(|engine| engine.get(&Get::all())).unwrap().count(), 2);
}

#[test]
fn calls_of_one_client_overtake_each_other() {
    let mut overtaken = 0;
    for seed in 0..100 {
        let mut sim = Simulation::new(seed);
        sim.spawn("a", |me| async move {
            let (first, second) = (me.put(("k", "first")), me.put(("k", "second")));
            first.await?;
            second.await.map(drop)
        });
        sim.run().unwrap();
        let value = sim.read(|engine| engine.get(&"k".into()).unwrap().kvs()[0].value().to_vec());
        overtaken += u32::from(value == b"first");
    }
    assert!((20..80).contains(&overtaken), "{overtaken} of 100");
}

#[test]
fn timeout_races_call() {
    let mut timed_out = 0;
    for seed in 0..100 {
        let mut sim = Simulation::new(seed);
        sim.spawn("a", |me| async move {
            match me.timeout(Duration::from_millis(1), me.get("k")).await {
                Some(answer) => answer.map(drop),
                None => me.put(("timed out", "")).await.map(drop),
            }
        });
        sim.run().unwrap();
        timed_out += sim.read(|engine| engine.get(&"timed out".into())).unwrap().count();
    }
    assert!((20..90).contains(&timed_out), "{timed_out} of 100");
}

#[test]
fn session_is_kept_alive_for_a_year() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let session = Session::open(&*me, secs(3600)).await?;
        me.sleep(secs(365 * 24 * 3600)).await?;
        assert!(session.is_alive().await?);
        session.close().await
    });
    sim.set_time_limit(secs(366 * 24 * 3600));
    sim.run().unwrap();
}

#[test]
fn panic_of_client_is_its_verdict() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let got = me.get("k").await?;
        assert_eq!(got.count(), 1, "the key exists");
        Ok::<(), Error>(())
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.is_panic() && verdict.class().contains("clients.rs"), "{}", verdict.class());
    assert!(verdict.to_string().contains("the key exists"), "{verdict}");
}

#[test]
fn panic_that_is_thrown_again_keeps_its_message() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |_me| async {
        drop(std::panic::catch_unwind(|| panic!("the first")));
        std::panic::resume_unwind(Box::new("the second".to_owned()));
        #[expect(unreachable_code, reason = "the error needs a type")]
        Ok::<(), Error>(())
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().ends_with(": the second"), "{verdict}");
}

#[test]
fn report_at_the_time_limit_names_a_client_that_can_continue() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move { me.get("k").await.map(drop) });
    sim.set_time_limit(Duration::ZERO);
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().contains("a is about to continue"), "{verdict}");
}

#[test]
fn class_of_a_verdict_begins_after_a_leading_number() {
    let class = |text: &str| Verdict::new(text).class().to_owned();
    assert_eq!(class("2 of 3 jobs were run"), class("1 of 3 jobs were run"));
    assert_ne!(class("2 of 3 jobs were run"), class("2 leases are left"));
}

#[test]
fn error_without_fault_is_verdict() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move { me.put(("", "v")).await.map(drop) });
    let verdict = sim.run().unwrap_err();
    assert_eq!(verdict.to_string(), "a failed without a fault: etcdserver: key is not provided");
}

#[test]
fn stuck_report_names_the_owner_of_the_key() {
    let mut sim = Simulation::new(3);
    sim.spawn("owner", |me| async move {
        let session = Session::open(&*me, secs(5)).await?;
        let guard = Mutex::new(&session, "disk").lock().await?;
        me.put(("held", "")).await?;
        // Waits for a key that no client writes, while it holds the lock.
        me.watch("never").next().await?;
        me.watch("never").next().await?;
        guard.unlock().await
    });
    sim.spawn("waiter", |me| async move {
        while me.get("held").await?.count() == 0 {
            me.sleep(secs(1)).await?;
        }
        let session = Session::open(&*me, secs(5)).await?;
        Mutex::new(&session, "disk").lock().await?.unlock().await
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.is_stuck(), "{verdict}");
    let report = verdict.to_string();
    assert!(report.contains("held by lease"), "{report}");
    assert!(report.contains("of owner"), "{report}");
    assert!(report.contains("owner watches") || report.contains("owner waits"), "{report}");
}

#[test]
fn story_tells_calls_and_owners() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let session = Session::open(&*me, secs(5)).await?;
        let guard = Mutex::new(&session, "disk").lock().await?;
        me.note("inside");
        guard.unlock().await
    });
    sim.run().unwrap();
    let story = sim.story();
    for part in [
        "#0 > grant 5s",
        "#0 applied",
        "#0 < lease",
        "first in disk: a (token 2",
        "\"inside\"",
        "a            is done",
    ] {
        assert!(story.contains(part), "`{part}` is in the story:\n{story}");
    }
    assert!(story.contains("first in disk: no client"), "{story}");
}

#[test]
fn equal_seeds_have_equal_stories_and_others_not() {
    let run = |seed| {
        let mut sim = Simulation::new(seed);
        for name in ["a", "b", "c"] {
            sim.spawn(name, |me| async move {
                let session = Session::open(&*me, secs(5)).await?;
                for _ in 0..3 {
                    let guard = Mutex::new(&session, "disk").lock().await?;
                    me.sleep(Duration::from_millis(me.random(1000))).await?;
                    guard.unlock().await?;
                }
                session.close().await
            });
        }
        sim.run().unwrap();
        (sim.story(), sim.read(|engine| engine.state_hash()))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn client_that_yields_forever_is_a_verdict() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |_me| async {
        std::future::poll_fn::<(), _>(|context| {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        Ok::<(), Error>(())
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().starts_with("a continues without a rest"), "{verdict}");
}

#[test]
fn sleeps_of_no_time_without_an_end_are_a_verdict() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        while me.now() < Timestamp::MAX {
            me.sleep(Duration::ZERO).await?;
        }
        Ok::<(), Error>(())
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.to_string().starts_with("a continues without a rest"), "{verdict}");
}

#[test]
fn loop_that_waits_for_the_time_without_a_sleep_panics() {
    let mut sim = Simulation::new(1);
    sim.spawn("a", |me| async move {
        let end = me.now() + secs(1);
        while me.now() < end {}
        Ok::<(), Error>(())
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.is_panic() && verdict.to_string().contains("a loop without an end"), "{verdict}");
}

#[test]
fn calls_without_an_end_in_one_turn_panic() {
    let mut sim = Simulation::new(1);
    sim.spawn_thread("a", |me| -> leasehold::Result<()> {
        loop {
            drop(me.get("k"));
        }
    });
    let verdict = sim.run().unwrap_err();
    assert!(verdict.is_panic() && verdict.to_string().contains("a loop without an end"), "{verdict}");
}
