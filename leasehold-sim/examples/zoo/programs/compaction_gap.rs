//! A cache ignores that its watch was compacted: it watches again from the compacted revision on, and does not read again.
//!
//! Published: tikv/pd#11032, cilium/cilium#3011.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use leasehold::{Error, EventType, Get, Result, Revision, Watch};
use leasehold_sim::{Fault, Faults, Me, Simulation};

use super::resume::check;
use crate::tools::{Checked, insist, millis, secs};

type Cache = Rc<RefCell<BTreeMap<Vec<u8>, Revision>>>;

async fn write(me: Me) -> Result<()> {
    for n in 0..60_u64 {
        let key = format!("config/{}", n % 30);
        if n % 3 == 2 {
            insist(&me, || me.delete(key.as_str())).await;
        } else {
            insist(&me, || me.put((key.as_str(), ""))).await;
        }
        me.sleep(millis(me.random(2000))).await?;
    }
    Ok(())
}

/// Reads the keys, and returns the next revision.
async fn fill(me: &Me, cache: &Cache) -> Revision {
    let read = insist(me, || me.get(Get::prefix("config/"))).await;
    *cache.borrow_mut() = read.kvs().iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect();
    read.header().revision().next()
}

async fn follow(me: Me, cache: Cache, is_fixed: bool) -> Result<()> {
    let mut next = fill(&me, &cache).await;
    loop {
        let mut watcher = me.watch(Watch::prefix("config/").start_revision(next));
        loop {
            match watcher.next().await {
                Ok(Some(response)) => {
                    for event in response.events() {
                        let (key, revision) = (event.kv().key().to_vec(), event.kv().mod_revision());
                        match event.event_type() {
                            EventType::Put => cache.borrow_mut().insert(key, revision),
                            EventType::Delete => cache.borrow_mut().remove(&key),
                        };
                    }
                }
                Err(Error::Compacted { compacted: Some(compacted), .. }) if !is_fixed => {
                    next = compacted;
                    break;
                }
                Ok(None) | Err(_) => {
                    next = fill(&me, &cache).await;
                    break;
                }
            }
        }
        me.sleep(millis(100)).await?;
    }
}

pub(crate) fn faults() -> Faults {
    Faults::only(&[Fault::Compact, Fault::CutWatch])
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    let cache = Cache::default();
    sim.spawn("writer", write);
    let of_client = Rc::clone(&cache);
    sim.spawn("cache", move |me| follow(me, Rc::clone(&of_client), is_fixed));
    sim.run_for(secs(300))?;
    check(sim, &cache.borrow())
}
