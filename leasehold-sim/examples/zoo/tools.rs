//! Parts that several programs use.

use std::time::Duration;

use leasehold::{Get, Result};
use leasehold_sim::{Me, Simulation, Verdict};

/// The result of a scenario.
pub(crate) type Checked = std::result::Result<(), Verdict>;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Repeats a call until it succeeds. The call must be safe to repeat.
pub(crate) async fn insist<T, F: Future<Output = Result<T>>>(me: &Me, mut call: impl FnMut() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => me.note(format!("tries again after: {error}")),
        }
        // A sleep fails only if the simulation ends.
        let _slept = me.sleep(millis(200)).await;
    }
}

/// Returns the value and the version of a key of the store.
pub(crate) fn read(sim: &Simulation, key: &str) -> Option<(String, i64)> {
    let got = sim.read(|engine| engine.get(&Get::key(key))).expect("the read is valid");
    got.kv().map(|kv| (kv.value_str().expect("a text").to_owned(), kv.version()))
}

/// Returns the keys of the store with a prefix.
pub(crate) fn keys(sim: &Simulation, prefix: &str) -> Vec<String> {
    let got = sim.read(|engine| engine.get(&Get::prefix(prefix))).expect("the read is valid");
    got.kvs().iter().map(|kv| kv.key_str().expect("a text").to_owned()).collect()
}
