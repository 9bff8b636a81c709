//! The same calls under each kind of runtime.

use futures_executor::block_on;
use futures_util::future::{LocalBoxFuture, join};
use leasehold_etcd::etcd_client::{Client, Error, LockOptions, ResignOptions};
use leasehold_testkit::guard::guarded;
use leasehold_testkit::helpers::{all_keys, manual, secs};
use tokio::runtime::Builder;

/// Makes calls of each service with waits between two clients, and returns a log of the responses.
async fn use_all(mut client: Client, advance: impl Fn(u64)) -> Log {
    let mut log = Vec::new();
    let (one, two) = (client.lease_grant(60, None).await?.id(), client.lease_grant(60, None).await?.id());
    let mut stream = client.watch("k", None).await?;
    log.push(format!("created {}", stream.message().await?.expect("the stream is open").created()));
    client.put("k", "1", None).await?;
    let response = stream.message().await?.expect("the stream is open");
    log.push(format!("{} event", response.events().len()));

    let held = client.lock("disk", Some(LockOptions::new().with_lease(one))).await?;
    let (mut other, mut leading) = (client.clone(), client.clone());
    let waiting = async move {
        let held = other.lock("disk", Some(LockOptions::new().with_lease(two))).await?;
        Ok::<_, Error>(held.header().expect("a response has a header").revision())
    };
    let releasing = async { client.unlock(held.key()).await };
    let (second, released) = join(waiting, releasing).await;
    log.push(format!("locked at {} after {}", second?, released?.header().is_some()));

    let mut leaders = leading.observe("boss").await?;
    let won = leading.campaign("boss", "me", one).await?;
    let leader = leaders.message().await?.expect("the stream is open");
    log.push(format!("{:?}", leader.kv().map(|kv| kv.value_str())));
    let leader = won.leader().expect("a won campaign has a leader key").clone();
    leading.resign(Some(ResignOptions::new().with_leader(leader))).await?;

    let (mut keeper, mut answers) = client.lease_keep_alive(one).await?;
    advance(40);
    keeper.keep_alive().await?;
    log.push(format!("{:?}", answers.message().await?.map(|renewed| renewed.ttl())));
    advance(30);
    let mut pieces = client.snapshot().await?;
    let piece = pieces.message().await?.expect("the stream is open");
    log.push(format!("a piece {}", !piece.blob().is_empty()));
    let leases = client.leases().await?;
    log.push(format!("{:?}", leases.leases().iter().map(|lease| lease.id()).collect::<Vec<_>>()));
    Ok(log)
}

type Log = Result<Vec<String>, Error>;

fn run(run: impl FnOnce(LocalBoxFuture<'_, Log>) -> Log) -> Vec<String> {
    let (store, clock) = manual();
    let client = leasehold_etcd::client(&store);
    let log = run(Box::pin(use_all(client, move |seconds| clock.advance(secs(seconds)))));
    let mut log = log.expect("each call succeeds");
    log.push(format!("{:?} {}", all_keys(&store), store.diagnostics().expect("the store is open").streams));
    log
}

#[test]
fn calls_return_the_same_under_each_runtime_and_without() {
    guarded(|| {
        let without = run(|calls| block_on(calls));
        assert_eq!(without.last().map(String::as_str), Some(r#"["k"] 0"#), "{without:?}");
        let current_thread = Builder::new_current_thread().build().expect("a runtime can be started");
        assert_eq!(run(|calls| current_thread.block_on(calls)), without);
        let multi_thread =
            Builder::new_multi_thread().worker_threads(2).build().expect("a runtime can be started");
        assert_eq!(run(|calls| multi_thread.block_on(calls)), without);
    });
}
