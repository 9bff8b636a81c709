//! Two threads of a process share a session's lock, whose key in etcd is that of the session: both own it.
//!
//! Published: etcd-io/etcd#11364.

use std::sync::{Arc, Mutex as Slot};

use leasehold::Result;
use leasehold::concurrency::{Mutex, Session};
use leasehold_sim::{Me, Simulation};

use crate::tools::{Checked, millis, secs};

/// Returns the session of the process, which the first thread opens.
fn session(me: &Me, slot: &Slot<Option<(u32, Session)>>) -> Result<Session> {
    let known = slot.lock().expect("no thread panics with the slot").clone();
    if let Some((_, session)) = known.filter(|(life, _)| *life == me.life()) {
        return Ok(session);
    }
    let session = Session::open(me, secs(5)).wait()?;
    *slot.lock().expect("no thread panics with the slot") = Some((me.life(), session.clone()));
    Ok(session)
}

/// Runs a job every eight seconds. The thread begins in its half of the period.
fn work(me: &Me, slot: &Slot<Option<(u32, Session)>>, half: u64, is_fixed: bool) -> Result<()> {
    me.sleep(secs(half * 4)).wait()?;
    let session = session(me, slot)?;
    let mutex = if is_fixed { Mutex::new(&session, "disk") } else { Mutex::reentrant(&session, "disk") };
    for _ in 0..4 {
        let guard = mutex.lock().wait()?;
        let mark = me.acts_as_owner("disk", session.lease());
        let count = me.get("counter").wait()?.kv().map_or(0, |kv| kv.version());
        me.sleep(millis(500)).wait()?;
        me.put(("counter", (count + 1).to_string())).wait()?;
        drop(mark);
        guard.unlock().wait()?;
        me.sleep(secs(8)).wait()?;
    }
    Ok(())
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    let slot: Arc<Slot<Option<(u32, Session)>>> = Arc::default();
    for half in 0..2 {
        let slot = Arc::clone(&slot);
        sim.spawn_thread("a", move |me| work(&me, &slot, half, is_fixed));
    }
    sim.run()
}
