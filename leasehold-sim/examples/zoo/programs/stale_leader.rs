//! A leader checks that it leads, and then publishes its settings: by then another leader may have published newer ones.
//!
//! Published: etcd-io/etcd#11490 (the notes on locks and leases), cagriekin/charts#326.

use leasehold::concurrency::{Election, Session};
use leasehold::{Result, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, millis, secs};

async fn work(me: Me, is_fixed: bool) -> Result<()> {
    loop {
        // An error ends the leadership. The next session campaigns again.
        drop(lead(&me, is_fixed).await);
        me.sleep(millis(500)).await?;
        if me.now().as_nanos() > 120_000_000_000 {
            return Ok(());
        }
    }
}

async fn lead(me: &Me, is_fixed: bool) -> Result<()> {
    let session = Session::open(&**me, secs(5)).await?;
    let leadership = Election::new(&session, "db").campaign(me.name()).await?;
    for _ in 0..5 {
        let settings = leadership.token().to_string();
        if is_fixed {
            leadership.txn().and_then([TxnOp::put("settings", settings)]).commit().await?;
        } else {
            leadership.check().await?;
            me.put(("settings", settings)).await?;
        }
        me.sleep(secs(1)).await?;
    }
    leadership.resign().await
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    for name in ["a", "b"] {
        sim.spawn(name, move |me| work(me, is_fixed));
    }
    sim.run()?;
    sim.history(|history| {
        let settings =
            history.events().iter().map(|(_, event)| event.kv()).filter(|kv| kv.key() == b"settings");
        let tokens: Vec<i64> =
            settings.map(|kv| kv.value_str().expect("a text").parse().expect("a token")).collect();
        match tokens.windows(2).find(|pair| pair[0] > pair[1]) {
            Some(pair) => {
                Err(Verdict::new(format!("leader {} has published after leader {}", pair[1], pair[0])))
            }
            None => Ok(()),
        }
    })
}
