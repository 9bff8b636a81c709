//! Streams and calls of several threads.

use leasehold_etcd::etcd_client::Error;
use leasehold_testkit::cases::cases;
use leasehold_testkit::guard::guarded;
use tokio::runtime::Builder;

use crate::helpers::{store_with_leases, watch};

/// A worker that receives a message does not let a later call overtake it.
#[test]
fn second_watcher_of_unread_stream_sees_put_after_its_creation_on_worker_threads() {
    guarded(|| {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).build().expect("a runtime can be started");
        runtime
            .block_on(async {
                let (_store, _clock, mut client) = store_with_leases();
                for round in 0..cases(2_000) {
                    let mut stream = watch(&mut client, "a").await;
                    stream.watch("b", None).await?;
                    client.put("b", "1", None).await?;
                    client.put("a", "2", None).await?;
                    let mut values = Vec::new();
                    while values.last().is_none_or(|value| value != "2") {
                        let response = stream.message().await?.expect("the stream is open");
                        let pairs = response.events().iter().filter_map(|event| event.kv());
                        values.extend(pairs.map(|kv| String::from_utf8_lossy(kv.value()).into_owned()));
                    }
                    assert_eq!(values, ["1", "2"], "round {round}");
                }
                Ok::<_, Error>(())
            })
            .expect("each call succeeds");
    });
}
