//! A router follows the leader by an observer that reports no time without a leader, and routes to a leader that is gone.
//!
//! Published: google/trillian#1388, etcd-io/etcd#7815.

use leasehold::concurrency::{Election, LeaderWatcher, Session};
use leasehold::service::{ElectionService, ObserveRequest};
use leasehold::{Compare, CompareOp, Result, Revision, Txn, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, insist, keys, millis, read, secs};

/// Leads until the leadership is lost, and does not come back.
async fn lead(me: Me) -> Result<()> {
    if me.life() > 0 {
        return Ok(());
    }
    let session = Session::open(&*me, secs(5)).await?;
    let leadership = Election::new(&session, "db").campaign(me.name()).await?;
    leadership.lost().await
}

/// Writes the present leader, or that there is none.
async fn route(me: Me, is_fixed: bool) -> Result<()> {
    loop {
        let mut watcher = LeaderWatcher::new(&*me, "db");
        let mut observer = ElectionService::new(&*me).observe(ObserveRequest { name: "db".into() });
        loop {
            let leader = if is_fixed {
                watcher.next().await.map(|event| event.map(|event| event.kv().cloned()))
            } else {
                observer.next().await.map(|leader| leader.map(|leader| Some(leader.kv)))
            };
            let Ok(Some(leader)) = leader else { break };
            let name = leader
                .map_or_else(|| "none".to_owned(), |kv| String::from_utf8_lossy(kv.value()).into_owned());
            write(&me, &name).await;
        }
        me.sleep(millis(200)).await?;
    }
}

/// Writes the route. A txn that arrives late changes nothing, since a later one has changed the key.
async fn write(me: &Me, name: &str) {
    loop {
        let found = insist(me, || me.get("route")).await;
        let seen = found.kv().map_or(Revision::new(0), |kv| kv.mod_revision());
        let unchanged = Compare::mod_revision("route", CompareOp::Equal, seen);
        let write = Txn::new().when([unchanged]).and_then([TxnOp::put("route", name)]);
        if me.txn(write).await.is_ok_and(|txn| txn.succeeded()) {
            return;
        }
    }
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    sim.spawn("leader", lead);
    sim.spawn("router", move |me| route(me, is_fixed));
    sim.run_for(secs(200))?;
    let Some((route, _)) = read(sim, "route") else { return Ok(()) };
    if keys(sim, "db/").is_empty() && route != "none" {
        return Err(Verdict::new(format!("requests are routed to {route}, and there is no leader")));
    }
    Ok(())
}
