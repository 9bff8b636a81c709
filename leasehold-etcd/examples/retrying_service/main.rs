//! A service that survives faults of etcd: `cargo run -p leasehold-etcd --example retrying_service`.
//!
//! Orders are numbered, followed and shipped with the `etcd-client` crate. Each call is repeated after an outage, and each repetition
//! is harmless, whether etcd has applied the call or not. `Orders::place_with_bug` repeats a put that draws a second number.
//! `cargo test -p leasehold-etcd --example retrying_service` tests each fault.

#[cfg(test)]
mod tests;

use std::time::Duration;

use leasehold::Store;
use leasehold_etcd::etcd_client::{
    Client, Compare, CompareOp, Error, EventType, KeyValue, LockOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchStream,
};
use leasehold_etcd::faults::{Fault, Faults, Outage};
use leasehold_etcd::{Method, TokioClock, client_over, service};
use tokio::time::{sleep, timeout};
use tonic::Code;

type Result<T> = std::result::Result<T, Error>;

/// The key of the last number.
const LAST: &str = "last";

/// The time after which a call is repeated.
const DEADLINE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(100);

/// The time to live of a worker's lease, in seconds.
const TTL: i64 = 60;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let store = Store::builder().clock(TokioClock::new()).build();
    let faults = Faults::new(&store);
    let etcd = client_over(faults.layer(service(&store)));
    let (mut orders, mut feed) = (Orders::new(etcd.clone()), Feed::new(etcd.clone()));
    let mut worker = Worker::new(etcd, "worker 1");

    // The second txn of an order is the write.
    let lost = faults.add(Fault::lose_answer(Method::Txn, Outage::TimedOut).nth(2));
    assert_eq!(orders.place("apples").await?, 1);
    assert_eq!(lost.count(), 1, "the answer to the write was lost");
    assert_eq!(orders.place("pears").await?, 2);

    assert_eq!(feed.next().await?, ("apples".to_owned(), 1));
    assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
    assert_eq!(feed.next().await?, ("pears".to_owned(), 2));
    assert!(worker.ship("apples").await?);

    let lost = faults.add(Fault::lose_answer(Method::Put, Outage::TimedOut));
    let number = orders.place_with_bug("plums").await?;
    assert_eq!((number, lost.count()), (4, 1));
    println!("apples, pears and plums have the numbers 1, 2 and {number}: the bug has drawn 3 in vain");
    Ok(())
}

/// Calls a function until it succeeds or fails with an error that is not an outage.
async fn retry<T>(mut call: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    loop {
        match timeout(DEADLINE, call()).await {
            Ok(Err(error)) if !is_outage(&error) => return Err(error),
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
        }
    }
}

fn is_outage(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown
    )
}

/// Numbers orders, beginning with 1 and without a gap.
struct Orders {
    etcd: Client,
}

impl Orders {
    fn new(etcd: Client) -> Self {
        Self { etcd }
    }

    /// Writes an order and returns its number.
    async fn place(&mut self, name: &str) -> Result<u64> {
        let order = format!("orders/{name}");
        retry(async || {
            loop {
                let both = [TxnOp::get(order.as_str(), None), TxnOp::get(LAST, None)];
                let [placed, last] = self.read(both).await?;
                // An earlier attempt was applied, and its answer was lost.
                if let Some(placed) = placed {
                    return Ok(number(&placed));
                }
                let next = last.as_ref().map_or(0, number) + 1;
                let seen = last.map_or(0, |last| last.mod_revision());
                let is_unchanged = [
                    Compare::create_revision(order.as_str(), CompareOp::Equal, 0),
                    Compare::mod_revision(LAST, CompareOp::Equal, seen),
                ];
                let text = next.to_string();
                let writes = [TxnOp::put(LAST, text.as_str(), None), TxnOp::put(order.as_str(), text, None)];
                if self.etcd.txn(Txn::new().when(is_unchanged).and_then(writes)).await?.succeeded() {
                    return Ok(next);
                }
            }
        })
        .await
    }

    /// Writes an order and returns its number. An attempt that was applied without an answer is not noticed, so the next attempt
    /// draws another number.
    async fn place_with_bug(&mut self, name: &str) -> Result<u64> {
        retry(async || {
            let last = self.etcd.get(LAST, None).await?;
            let next = last.kvs().first().map_or(0, number) + 1;
            self.etcd.put(LAST, next.to_string(), None).await?;
            self.etcd.put(format!("orders/{name}"), next.to_string(), None).await?;
            Ok(next)
        })
        .await
    }

    /// Reads two keys at one revision.
    async fn read(&mut self, both: [TxnOp; 2]) -> Result<[Option<KeyValue>; 2]> {
        let read = self.etcd.txn(Txn::new().and_then(both)).await?;
        let mut found = read.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().cloned(),
            _ => None,
        });
        Ok([found.next().flatten(), found.next().flatten()])
    }
}

fn number(kv: &KeyValue) -> u64 {
    kv.value_str().ok().and_then(|text| text.parse().ok()).expect("a number was written")
}

/// Follows the orders from the first one.
struct Feed {
    etcd: Client,
    watch: Option<WatchStream>,
    /// The revision at which the next watch begins.
    next: i64,
    received: std::vec::IntoIter<(String, u64)>,
}

impl Feed {
    fn new(etcd: Client) -> Self {
        Self { etcd, watch: None, next: 1, received: Vec::new().into_iter() }
    }

    /// Waits for an order and returns its name and number.
    async fn next(&mut self) -> Result<(String, u64)> {
        loop {
            if let Some(order) = self.received.next() {
                return Ok(order);
            }
            match self.receive().await {
                Ok(()) => {}
                // The stream was cut. The next watch begins after the last event that was received.
                Err(error) if is_outage(&error) => {
                    self.watch = None;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn receive(&mut self) -> Result<()> {
        if self.watch.is_none() {
            let options = WatchOptions::new().with_prefix().with_start_revision(self.next);
            match timeout(DEADLINE, self.etcd.watch("orders/", Some(options))).await {
                Ok(watch) => self.watch = Some(watch?),
                Err(_) => return Ok(()),
            }
        }
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let Some(message) = watch.message().await? else {
            self.watch = None;
            return Ok(());
        };
        if message.canceled() {
            return Err(Error::WatchError(message.cancel_reason().to_owned()));
        }
        let mut received = Vec::new();
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            self.next = kv.mod_revision() + 1;
            if event.event_type() == EventType::Put {
                let name = kv.key_str()?.trim_start_matches("orders/");
                received.push((name.to_owned(), number(kv)));
            }
        }
        self.received = received.into_iter();
        Ok(())
    }
}

/// Ships orders, one worker at a time.
struct Worker {
    etcd: Client,
    name: String,
    /// The lease of the worker's lock.
    lease: Option<i64>,
}

impl Worker {
    fn new(etcd: Client, name: &str) -> Self {
        Self { etcd, name: name.to_owned(), lease: None }
    }

    /// Ships an order. Returns `false` if another worker has shipped the order.
    async fn ship(&mut self, order: &str) -> Result<bool> {
        let shipped = format!("shipped/{order}");
        retry(async || {
            loop {
                let Some(key) = self.lock().await? else { continue };
                // The txn fails if the lock was lost, or if the order was shipped before.
                let is_due = [
                    Compare::create_revision(key, CompareOp::Greater, 0),
                    Compare::create_revision(shipped.as_str(), CompareOp::Equal, 0),
                ];
                let txn = Txn::new()
                    .when(is_due)
                    .and_then([TxnOp::put(shipped.as_str(), self.name.as_str(), None)])
                    .or_else([TxnOp::get(shipped.as_str(), None)]);
                let done = self.etcd.txn(txn).await?;
                if done.succeeded() {
                    return Ok(true);
                }
                if let Some(TxnOpResponse::Get(got)) = done.op_responses().first()
                    && let Some(kv) = got.kvs().first()
                {
                    // The worker itself, if an earlier attempt was applied.
                    return Ok(kv.value() == self.name.as_bytes());
                }
            }
        })
        .await
    }

    /// Acquires the lock and returns its key, or `None` if the lease was lost. A lock that the worker has is returned again, since
    /// its key is named after the lease.
    async fn lock(&mut self) -> Result<Option<Vec<u8>>> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.etcd.lease_grant(TTL, None).await?.id(),
        };
        self.lease = Some(lease);
        let renewed = match self.etcd.lease_keep_alive(lease).await {
            Ok(_) => self.etcd.lock("shipping", Some(LockOptions::new().with_lease(lease))).await,
            Err(error) => Err(error),
        };
        match renewed {
            Ok(lock) => Ok(Some(lock.key().to_vec())),
            Err(error) if is_lost(&error) => {
                self.lease = None;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns whether an error means that the lease does not exist.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => status.code() == Code::NotFound,
        Error::LeaseKeepAliveError(_) => true,
        _ => false,
    }
}
