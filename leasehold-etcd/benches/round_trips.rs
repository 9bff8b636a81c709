//! Round trips of `etcd_client` calls over a store in this process, in turn with the same calls to a real etcd on loopback.
//!
//! `ETCD=/path/to/etcd cargo bench -p leasehold-etcd --bench round_trips` starts that binary in a new folder under the system's
//! folder for temporary files, and stops it at the end. Without the variable, only the store is measured.
//!
//! Each round measures each workload once with each server. A figure is the median of the rounds. A ratio is the median of the
//! rounds' ratios: etcd's time divided by the store's.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp, WatchOptions, WatchStream};
use leasehold::Store;
use leasehold_etcd::etcd_client;

type Result<T> = std::result::Result<T, etcd_client::Error>;

const ROUNDS: usize = 15;
const WATCHERS: usize = 100;

#[derive(Clone, Copy)]
enum Workload {
    Put,
    Get,
    Txn,
    LockAndUnlock,
    PutToEvent,
    PutToEventsOf100Watchers,
}

const WORKLOADS: [(Workload, &str); 6] = [
    (Workload::Put, "put"),
    (Workload::Get, "get"),
    (Workload::Txn, "txn of a compare and a put"),
    (Workload::LockAndUnlock, "lock and unlock"),
    (Workload::PutToEvent, "put, until its event is received"),
    (Workload::PutToEventsOf100Watchers, "put, until 100 watchers have received it"),
];

/// A server under test, with its clients and watch streams.
struct Server {
    client: Client,
    one: WatchStream,
    many: Vec<WatchStream>,
    /// The number of calls in one measurement.
    calls: u32,
}

impl Server {
    async fn new(mut client: Client, calls: u32) -> Result<Self> {
        client.put("bench/key", "value", None).await?;
        let one = client.watch("bench/one", None).await?;
        let mut many = Vec::new();
        for _ in 0..WATCHERS {
            many.push(client.watch("bench/many", Some(WatchOptions::new())).await?);
        }
        Ok(Self { client, one, many, calls })
    }

    /// Returns the time of one call.
    async fn measure(&mut self, workload: Workload) -> Result<Duration> {
        let calls =
            if matches!(workload, Workload::PutToEventsOf100Watchers) { self.calls / 10 } else { self.calls };
        let start = Instant::now();
        for _ in 0..calls {
            self.call(workload).await?;
        }
        Ok(start.elapsed() / calls)
    }

    async fn call(&mut self, workload: Workload) -> Result<()> {
        let client = &mut self.client;
        match workload {
            Workload::Put => drop(client.put("bench/key", "value", None).await?),
            Workload::Get => drop(client.get("bench/key", None).await?),
            Workload::Txn => {
                let txn = Txn::new()
                    .when([Compare::version("bench/key", CompareOp::Greater, 0)])
                    .and_then([TxnOp::put("bench/key", "value", None)]);
                assert!(client.txn(txn).await?.succeeded());
            }
            Workload::LockAndUnlock => {
                let held = client.lock("bench/lock", None).await?;
                client.unlock(held.key()).await?;
            }
            Workload::PutToEvent => {
                client.put("bench/one", "value", None).await?;
                receive(&mut self.one).await?;
            }
            Workload::PutToEventsOf100Watchers => {
                client.put("bench/many", "value", None).await?;
                for watcher in &mut self.many {
                    receive(watcher).await?;
                }
            }
        }
        Ok(())
    }
}

/// Receives one event. The first response of a stream has none: it reports that the watcher is created.
async fn receive(stream: &mut WatchStream) -> Result<()> {
    while stream.message().await?.expect("the stream is open").events().is_empty() {}
    Ok(())
}

/// A real etcd, which is stopped and removed when the value is dropped.
struct Etcd {
    process: Child,
    folder: PathBuf,
    endpoint: String,
}

impl Etcd {
    fn start(binary: &std::ffi::OsStr) -> std::io::Result<Self> {
        let port = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr().map(|address| address.port());
        let (client, peer) =
            (format!("http://127.0.0.1:{}", port()?), format!("http://127.0.0.1:{}", port()?));
        let folder = std::env::temp_dir().join(format!("leasehold-round-trips-{}", std::process::id()));
        let process = Command::new(binary)
            .arg("--data-dir")
            .arg(&folder)
            .args(["--log-level", "error", "--name", "bench"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, folder, endpoint: client })
    }

    /// Connects, as soon as the server has started.
    async fn connect(&self) -> Result<Client> {
        let start = Instant::now();
        loop {
            let mut client = Client::connect([&self.endpoint], None).await?;
            match client.get("bench/key", None).await {
                Ok(_) => return Ok(client),
                Err(error) if start.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // The process may have ended, and the folder may not exist.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let etcd = std::env::var_os("ETCD").map(|binary| Etcd::start(&binary)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut store = Server::new(leasehold_etcd::client(Store::new()), 2000).await?;
        let mut etcd = match &etcd {
            Some(etcd) => Some(Server::new(etcd.connect().await?, 100).await?),
            None => None,
        };
        println!("| call | store, µs | etcd, µs | etcd / store: median (min-max) |");
        println!("|---|---|---|---|");
        let mut times: Vec<Vec<(f64, Option<f64>)>> = vec![Vec::new(); WORKLOADS.len()];
        for _ in 0..ROUNDS {
            for ((workload, _), times) in WORKLOADS.iter().zip(&mut times) {
                let ours = micros(store.measure(*workload).await?);
                let theirs = match &mut etcd {
                    Some(etcd) => Some(micros(etcd.measure(*workload).await?)),
                    None => None,
                };
                times.push((ours, theirs));
            }
        }
        for ((_, name), times) in WORKLOADS.iter().zip(&times) {
            let ours = median(times.iter().map(|(ours, _)| *ours).collect());
            let theirs: Vec<f64> = times.iter().filter_map(|(_, theirs)| *theirs).collect();
            if theirs.is_empty() {
                println!("| {name} | {ours:.2} | - | - |");
                continue;
            }
            let ratios: Vec<f64> =
                times.iter().filter_map(|(ours, theirs)| Some((*theirs)? / ours)).collect();
            let (low, high) =
                ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
            let (theirs, ratio) = (median(theirs), median(ratios));
            println!("| {name} | {ours:.2} | {theirs:.0} | {ratio:.0} ({low:.0}-{high:.0}) |");
        }
        Ok(())
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
