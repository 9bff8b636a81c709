//! The explorer over the locks, elections, services and followers of leasehold: with any faults, no seed may fail.
//!
//! The variable `LEASEHOLD_CASES` multiplies the number of seeds.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Mutex, RwLock, Semaphore, Session};
use leasehold::service::{
    CampaignRequest, ElectionService, LeaderKey, LockRequest, LockService, ObserveRequest, ResignRequest,
    UnlockRequest,
};
use leasehold::{Client, Error, EventType, Get, Grant, LeaseId, Result, Revision, TxnOp, Watch};
use leasehold_sim::{Explorer, Me, Simulation, Verdict};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cases() -> u64 {
    std::env::var("LEASEHOLD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1)
}

/// Explores a scenario, and fails with all classes of failures.
fn explore(name: &str, scenario: impl Fn(&mut Simulation) -> std::result::Result<(), Verdict> + Sync) {
    let first = std::env::var("LEASEHOLD_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let report = Explorer::new(first..first + 200 * cases()).gather().run(scenario);
    for failure in report.failures() {
        eprintln!("{name}: {} of {} seeds: {failure}", failure.seeds().len(), report.seeds());
    }
    assert!(report.failures().is_empty(), "{} classes of failures", report.failures().len());
}

/// Repeats a client's work until it succeeds `times` times. Each error is one of a fault, and begins a new session.
async fn repeat<F: Future<Output = Result<()>>>(
    me: &Me,
    times: u32,
    mut work: impl FnMut() -> F,
) -> Result<()> {
    let mut done = 0;
    while done < times {
        match work().await {
            Ok(()) => done += 1,
            Err(error) => me.note(format!("tries again: {error}")),
        }
        me.sleep(Duration::from_millis(100 + me.random(1000))).await?;
    }
    Ok(())
}

/// Adds one to the counter of a resource, guarded by a lock's txn.
async fn lock_and_count(me: &Me, session: &Session, reentrant: bool) -> Result<()> {
    let mutex = if reentrant { Mutex::reentrant(session, "disk") } else { Mutex::new(session, "disk") };
    let mut ticket = mutex.lock();
    let guard = if me.random(4) == 0 {
        match me.timeout(secs(1 + me.random(10)), &mut ticket).await {
            Some(guard) => guard?,
            None => return Ok(()),
        }
    } else {
        ticket.await?
    };
    let mark = me.acts_as_owner("disk", session.lease());
    let count = me.get("counter").await?.kv().map_or(0, |kv| kv.version());
    me.sleep(Duration::from_millis(me.random(2000))).await?;
    // The version is the number of puts, so a put of another owner in between would show.
    let guarded = guard.txn().and_then([TxnOp::put("counter", (count + 1).to_string())]).commit().await;
    drop(mark);
    if me.random(2) == 0 {
        guard.unlock().await?;
    }
    guarded.map(drop)
}

/// Checks that each put of the counter has the value of its version: no two owners have read one version.
fn check_counter(sim: &Simulation) -> std::result::Result<(), Verdict> {
    let kv = sim.read(|engine| engine.get(&"counter".into()))?;
    match kv.kv() {
        Some(kv) if kv.value_str()? != kv.version().to_string() => {
            Err(Verdict::new(format!("put {} has the value {}", kv.version(), kv.value_str()?)))
        }
        _ => Ok(()),
    }
}

#[test]
fn mutex() {
    explore("mutex", |sim| {
        for name in ["a", "b", "c"] {
            sim.spawn(name, |me| async move {
                repeat(&me, 3, || async {
                    let session = Session::open(&*me, secs(4)).await?;
                    lock_and_count(&me, &session, false).await?;
                    lock_and_count(&me, &session, false).await
                })
                .await
            });
        }
        sim.run()?;
        check_counter(sim)
    });
}

/// Opens a session, and opens it again until that succeeds.
async fn open(me: &Me) -> Result<Session> {
    loop {
        match Session::open(&**me, secs(4)).await {
            Ok(session) => return Ok(session),
            Err(_) => me.sleep(Duration::from_millis(100)).await?,
        }
    }
}

/// A session outlives the failed calls of its locks. A queue key that one of them leaves behind would block the others for ever.
#[test]
fn failed_calls_of_a_long_session_leave_no_key() {
    explore("long session", |sim| {
        for name in ["a", "b", "c"] {
            sim.spawn(name, |me| async move {
                let mut session = open(&me).await?;
                for _ in 0..6 {
                    let lock = Mutex::new(&session, "disk");
                    let leads = me.random(3) == 0;
                    let mark = || me.acts_as_owner("disk", session.lease());
                    if leads {
                        if let Ok(leadership) = Election::new(&session, "disk").campaign("").await {
                            let mark = mark();
                            me.sleep(Duration::from_millis(me.random(500))).await?;
                            drop(mark);
                            drop(leadership.resign().await);
                        }
                    } else if let Ok(guard) = lock.lock().await {
                        let mark = mark();
                        me.sleep(Duration::from_millis(me.random(500))).await?;
                        drop(mark);
                        drop(guard.unlock().await);
                    }
                    if !session.is_alive().await.unwrap_or(true) {
                        session = open(&me).await?;
                    }
                }
                // The session stays open while the others work.
                me.sleep(secs(600)).await
            });
        }
        sim.set_time_limit(secs(1200));
        sim.run_for(secs(300))?;
        let waiting = sim.read(|engine| engine.get(&Get::prefix("disk/")))?.count();
        if waiting > 0 {
            return Err(Verdict::new(format!("keys are left in the queue: {waiting}\n{}", sim.report())));
        }
        sim.run()
    });
}

#[test]
fn mutex_of_one_session_in_threads() {
    explore("threads", |sim| {
        for name in ["a", "b"] {
            for _ in 0..2 {
                sim.spawn_thread(name, |me| {
                    let session = loop {
                        match Session::open(&me, secs(4)).wait() {
                            Ok(session) => break session,
                            Err(error) => me.note(error.to_string()),
                        }
                    };
                    let mut errors = 0;
                    for _ in 0..3 {
                        let locked = me.block_on(lock_and_count(&me, &session, me.random(2) == 0));
                        errors += u32::from(locked.is_err());
                    }
                    if errors == 0 { Ok(()) } else { Err(format!("{errors} errors")) }
                });
            }
        }
        sim.run()?;
        check_counter(sim)
    });
}

#[test]
fn rw_lock_and_semaphore() {
    explore("rw_lock", |sim| {
        for name in ["a", "b", "c"] {
            sim.spawn(name, |me| async move {
                repeat(&me, 2, || async {
                    let session = Session::open(&*me, secs(4)).await?;
                    let lock = RwLock::new(&session, "table");
                    if me.random(2) == 0 {
                        let guard = lock.write().await?;
                        let _mark = me.acts_as_owner("table", session.lease());
                        me.sleep(Duration::from_millis(me.random(2000))).await?;
                        guard.check().await?;
                    } else {
                        let guard = lock.read().await?;
                        me.sleep(Duration::from_millis(me.random(2000))).await?;
                        guard.unlock().await?;
                    }
                    let permit = Semaphore::new(&session, "slots", 2).acquire().await?;
                    me.sleep(Duration::from_millis(me.random(2000))).await?;
                    permit.release().await
                })
                .await
            });
        }
        sim.run()
    });
}

#[test]
fn election_and_followers() {
    explore("election", |sim| {
        for name in ["a", "b", "c"] {
            sim.spawn(name, |me| async move {
                repeat(&me, 3, || async {
                    let session = Session::open(&*me, secs(4)).await?;
                    let leadership = Election::new(&session, "db").campaign(me.name()).await?;
                    let mark = me.acts_as_owner("db", session.lease());
                    me.sleep(Duration::from_millis(me.random(3000))).await?;
                    leadership.proclaim(format!("{} again", me.name())).await?;
                    drop(mark);
                    leadership.resign().await
                })
                .await
            });
        }
        sim.spawn("follower", follow);
        sim.run_for(secs(400))?;
        check_follower(sim)
    });
}

/// Follows the leaders, and notes each of them.
async fn follow(me: Me) -> Result<()> {
    let mut leaders = LeaderWatcher::new(&*me, "db");
    let mut last = Revision::new(0);
    loop {
        let Ok(Some(event)) = leaders.next().await else {
            leaders = LeaderWatcher::new(&*me, "db");
            me.sleep(secs(1)).await?;
            last = Revision::new(0);
            continue;
        };
        assert!(event.revision() >= last, "leaders come in order");
        last = event.revision();
        let text = match &event {
            LeaderEvent::NoLeader { .. } => "leader: none".to_owned(),
            event => event.kv().map_or_else(
                || "leader: gap".to_owned(),
                |kv| format!("leader: {} {}", kv.create_revision(), kv.value().escape_ascii()),
            ),
        };
        me.note(text);
    }
}

/// Checks that the follower has noted the last leader, since all faults have ended.
fn check_follower(sim: &Simulation) -> std::result::Result<(), Verdict> {
    let story = sim.story();
    let last =
        story.lines().rev().find_map(|line| Some(line.split_once("\"leader: ")?.1.trim_end_matches('"')));
    let queue = sim.read(|engine| {
        let sorted =
            Get::prefix("db/").sort(leasehold::SortTarget::CreateRevision, leasehold::SortOrder::Ascend);
        engine.get(&sorted.limit(1))
    })?;
    let expected = queue.kv().map_or_else(
        || "none".to_owned(),
        |kv| format!("{} {}", kv.create_revision(), kv.value().escape_ascii()),
    );
    match last {
        Some(last) if last == expected => Ok(()),
        last => Err(Verdict::new(format!("the follower has noted {last:?}, and the leader is {expected}"))),
    }
}

#[test]
fn services() {
    explore("services", |sim| {
        for name in ["a", "b"] {
            sim.spawn(name, |me| async move {
                repeat(&me, 2, || async {
                    let lease = me.grant(Grant::new(secs(4)).keep_alive()).await?.id();
                    let worked = serve(&me, lease).await;
                    me.renew(lease, false);
                    drop(me.revoke(lease).await);
                    worked
                })
                .await
            });
        }
        sim.spawn("observer", |me| async move {
            let mut observer = ElectionService::new(&*me).observe(ObserveRequest { name: "app".into() });
            let end = me.now() + secs(60);
            while me.now() < end {
                match me.timeout(secs(5), observer.next()).await {
                    Some(Ok(Some(_))) | None => {}
                    Some(Ok(None)) => return Ok(()),
                    Some(Err(error)) => return Err(error),
                }
            }
            Ok(())
        });
        sim.run()
    });
}

async fn serve(me: &Me, lease: LeaseId) -> Result<()> {
    let locks = LockService::new(&**me);
    let locked = locks.lock(LockRequest { name: "job".into(), lease }).await?;
    let mark = me.acts_as_owner("job", lease);
    me.sleep(Duration::from_millis(me.random(2000))).await?;
    drop(mark);
    locks.unlock(UnlockRequest { key: locked.key }).await?;
    let elections = ElectionService::new(&**me);
    let campaign = CampaignRequest { name: "app".into(), lease, value: me.name().to_owned().into() };
    let leader: Option<LeaderKey> = Some(elections.campaign(campaign).await?.leader);
    let mark = me.acts_as_owner("app", lease);
    me.sleep(Duration::from_millis(me.random(2000))).await?;
    drop(mark);
    elections.resign(ResignRequest { leader }).await.map(drop)
}

/// A cache that follows the keys by a watch, as the example `cache` does.
#[test]
fn watch_cache() {
    explore("cache", |sim| {
        sim.spawn("writer", |me| async move {
            for n in 0..30_u64 {
                let key = format!("config/{}", me.random(4));
                if me.random(3) == 0 {
                    drop(me.delete(key).await);
                } else {
                    drop(me.put((key, n.to_string())).await);
                }
                me.sleep(Duration::from_millis(me.random(3000))).await?;
            }
            Ok::<(), Error>(())
        });
        sim.spawn("cache", |me| async move {
            let mut cache = fill(&me).await;
            loop {
                let (keys, watcher) = &mut cache;
                match watcher.next().await {
                    Ok(Some(response)) => {
                        for event in response.events() {
                            match event.event_type() {
                                EventType::Put => {
                                    keys.insert(event.kv().key().to_vec(), event.kv().mod_revision())
                                }
                                EventType::Delete => keys.remove(event.kv().key()),
                            };
                        }
                        me.note(format!("cache: {keys:?}"));
                    }
                    Ok(None) | Err(_) => cache = fill(&me).await,
                }
            }
            #[expect(unreachable_code, reason = "the type of the error")]
            Ok::<(), Error>(())
        });
        sim.run_for(secs(300))?;
        let keys: BTreeMap<Vec<u8>, Revision> = sim.read(|engine| {
            let kvs = engine.get(&Get::prefix("config/"))?.into_kvs();
            Ok::<_, Error>(kvs.iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect())
        })?;
        let story = sim.story();
        let last =
            story.lines().rev().find_map(|line| Some(line.split_once("\"cache: ")?.1.trim_end_matches('"')));
        let expected = format!("{keys:?}");
        if last == Some(&expected) {
            Ok(())
        } else {
            Err(Verdict::new(format!("the cache has {last:?}, and the store {expected}")))
        }
    });
}

/// Reads the keys, and watches them from the next revision on.
async fn fill(me: &Me) -> (BTreeMap<Vec<u8>, Revision>, leasehold::Watcher) {
    let client: &Client = me;
    loop {
        if let Ok(read) = client.get(Get::prefix("config/")).await {
            let next = read.header().revision().next();
            let keys = read.kvs().iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect();
            me.note(format!("cache: {keys:?}"));
            return (keys, client.watch(Watch::prefix("config/").start_revision(next)));
        }
    }
}
