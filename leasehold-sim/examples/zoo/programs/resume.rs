//! A cache resumes its watch from the revision of the response header, and loses the events that it has not received yet.
//!
//! The header of a response has the revision of the store, which may be newer than the events that were sent so far (R-WCH-10).
//! Published: etcd-io/etcd#7795, etcd-io/etcd#9386 (the code of the question), etcd-io/jetcd#946.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use leasehold::{EventType, Get, Result, Revision, Watch};
use leasehold_sim::{Fault, Faults, Me, Simulation, Verdict};

use crate::tools::{Checked, insist, millis, secs};

type Cache = Rc<RefCell<BTreeMap<Vec<u8>, Revision>>>;

async fn write(me: Me) -> Result<()> {
    for n in 0..20_u64 {
        let key = format!("config/{n}");
        insist(&me, || me.put((key.as_str(), ""))).await;
        me.sleep(millis(me.random(3000))).await?;
    }
    Ok(())
}

async fn follow(me: Me, cache: Cache, is_fixed: bool) -> Result<()> {
    let read = insist(&me, || me.get(Get::prefix("config/"))).await;
    *cache.borrow_mut() = read.kvs().iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect();
    let mut next = read.header().revision().next();
    loop {
        let mut stream = me.watch_stream();
        stream.create(Watch::prefix("config/").start_revision(next));
        // A stream without news is taken for broken, and opened again.
        while let Some(Ok(Some(response))) = me.timeout(secs(4), stream.next()).await {
            if response.canceled() {
                break;
            }
            for event in response.events() {
                let (key, revision) = (event.kv().key().to_vec(), event.kv().mod_revision());
                match event.event_type() {
                    EventType::Put => cache.borrow_mut().insert(key, revision),
                    EventType::Delete => cache.borrow_mut().remove(&key),
                };
                next = revision.next();
            }
            if !is_fixed {
                next = response.header().revision().next();
            }
        }
        me.sleep(millis(100)).await?;
    }
}

pub(crate) fn faults() -> Faults {
    Faults::only(&[Fault::DelayDelivery, Fault::CutWatch, Fault::Partition, Fault::Pause])
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    let cache = Cache::default();
    sim.spawn("writer", write);
    let of_client = Rc::clone(&cache);
    sim.spawn("cache", move |me| follow(me, Rc::clone(&of_client), is_fixed));
    sim.run_for(secs(300))?;
    check(sim, &cache.borrow())
}

/// Compares a cache with the store.
pub(super) fn check(sim: &Simulation, cache: &BTreeMap<Vec<u8>, Revision>) -> Checked {
    let kvs = sim.read(|engine| engine.get(&Get::prefix("config/")))?.into_kvs();
    let missing = kvs.iter().filter(|kv| cache.get(kv.key()) != Some(&kv.mod_revision())).count();
    let stale = cache.keys().filter(|key| kvs.iter().all(|kv| kv.key() != key.as_slice())).count();
    if missing + stale == 0 {
        return Ok(());
    }
    Err(Verdict::new(format!("the cache lacks {missing} keys and has {stale} that are deleted")))
}
