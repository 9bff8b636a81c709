//! A worker writes after it has lost the lock in a pause.
//!
//! Published: Martin Kleppmann, "How to do distributed locking" (2016); Jepsen's report on etcd 3.4.3 (2020).

use leasehold::concurrency::{Mutex, Session};
use leasehold::{Result, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, millis, read, secs};

/// Adds one to a counter under a lock.
async fn work(me: Me, is_fixed: bool) -> Result<()> {
    let session = Session::open(&*me, secs(5)).await?;
    for _ in 0..3 {
        let guard = Mutex::new(&session, "disk").lock().await?;
        let count = me.get("counter").await?.kv().map_or(0, |kv| kv.version());
        me.sleep(millis(500)).await?;
        let next = (count + 1).to_string();
        if is_fixed {
            guard.txn().and_then([TxnOp::put("counter", next)]).commit().await?;
        } else {
            me.put(("counter", next)).await?;
        }
        guard.unlock().await?;
    }
    session.close().await
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    for name in ["a", "b"] {
        sim.spawn(name, move |me| work(me, is_fixed));
    }
    sim.run()?;
    match read(sim, "counter") {
        // The version counts the puts.
        Some((value, version)) if value != version.to_string() => {
            Err(Verdict::new(format!("put {version} of the counter has the value {value}")))
        }
        _ => Ok(()),
    }
}
