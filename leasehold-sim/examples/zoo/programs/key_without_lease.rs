//! A service grants a lease, and puts its registration without it. The registration of a crashed instance stays.
//!
//! Published: apache/dubbo-go#688.

use leasehold::{Grant, Put, Result};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, insist, keys, secs};

/// Registers an instance, and serves for ever.
async fn serve(me: Me, is_fixed: bool) -> Result<()> {
    let key = format!("services/{}-{}", me.name(), me.life());
    loop {
        let lease = insist(&me, || me.grant(Grant::new(secs(5)).keep_alive())).await.id();
        let put = Put::new(key.as_str(), "address");
        let put = if is_fixed { put.lease(lease) } else { put };
        if me.put(put).await.is_ok() {
            // An earlier put that arrives late may have attached the key to another lease.
            while me.get(key.as_str()).await.is_ok_and(|found| found.count() == 1) {
                me.sleep(secs(2)).await?;
            }
        }
        me.renew(lease, false);
        me.sleep(secs(1)).await?;
    }
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    for name in ["a", "b"] {
        sim.spawn(name, move |me| serve(me, is_fixed));
    }
    sim.run_for(secs(200))?;
    let registered = keys(sim, "services/");
    match registered.len() {
        2 => Ok(()),
        _ => Err(Verdict::new(format!("two instances run, and these are registered: {registered:?}"))),
    }
}
