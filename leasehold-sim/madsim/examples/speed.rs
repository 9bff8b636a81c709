//! The speed of three simulators with two programs, in seeds per second. The machine should have no other load.
//!
//! The simulators are `leasehold-sim`, a store under madsim, and the etcd of `madsim-etcd-client`. Each runs a program with three
//! clients. The simulators take turns in each round. The arguments are the number of rounds and the number of seeds in a round.
//!
//! - *writes*: a client grants a lease, puts 20 times and revokes the lease. The requests are equal in all simulators.
//! - *locks*: a client takes a lock twice, writes while it holds the lock, and ends its lease. madsim's etcd has no locks and no
//!   watches, so its clients campaign in an election: one request, which the server answers when the client leads. A lock of leasehold
//!   is a client's recipe of transactions and watches.
//!
//! The simulators differ in what they do for a seed:
//!
//! - `leasehold-sim` records a history of all calls and checks it. A message is an event with a latency.
//! - The simulations under madsim have a node for the server and for each client. A request is a datagram there, or a connection in
//!   madsim's etcd. No history is recorded.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::concurrency::{Mutex, Session};
use leasehold::{Call, Client, Grant, Store};
use leasehold_sim::{Explorer, Simulation, Verdict};
use leasehold_under_madsim::{MadsimClock, Remote, serve, tick};
use madsim::Config;
use madsim::runtime::Runtime;
use madsim_etcd_client::{Client as EtcdClient, ResignOptions, SimServer};

const NAMES: [&str; 3] = ["a", "b", "c"];

const TTL: Duration = Duration::from_secs(5);

const PUTS: u64 = 20;

const TURNS: u64 = 2;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The requests of all clients since the last count.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy)]
enum Program {
    Writes,
    Locks,
}

impl Program {
    async fn run(self, client: &Client, name: &str) -> leasehold::Result<()> {
        match self {
            Self::Writes => {
                let lease = client.grant(Grant::new(TTL)).await?.id();
                for _ in 0..PUTS {
                    client.put(("written", name)).await?;
                }
                client.revoke(lease).await?;
                Ok(())
            }
            Self::Locks => {
                let session = Session::open(client, TTL).await?;
                for _ in 0..TURNS {
                    let guard = Mutex::new(&session, "disk").lock().await?;
                    client.put(("written", name)).await?;
                    guard.unlock().await?;
                }
                session.close().await
            }
        }
    }

    async fn run_etcd(self, name: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let client = EtcdClient::connect([format!("{SERVER}:2379")], None).await?;
        let (mut leases, mut elections, mut keys) =
            (client.lease_client(), client.election_client(), client.kv_client());
        let lease = leases.grant(TTL.as_secs() as i64, None).await?.id();
        match self {
            Self::Writes => {
                for _ in 0..PUTS {
                    keys.put("written", name, None).await?;
                }
                REQUESTS.fetch_add(PUTS + 2, Ordering::Relaxed);
            }
            Self::Locks => {
                let (_keeper, _kept) = leases.keep_alive(lease).await?;
                for _ in 0..TURNS {
                    let mut elected = elections.campaign("disk", name, lease).await?;
                    keys.put("written", name, None).await?;
                    let leader = elected.take_leader().expect("an elected client has a leader key");
                    elections.resign(Some(ResignOptions::new().with_leader(leader))).await?;
                }
                REQUESTS.fetch_add(3 * TURNS + 3, Ordering::Relaxed);
            }
        }
        leases.revoke(lease).await?;
        Ok(())
    }
}

/// Runs a program in `leasehold-sim`.
fn simulate(seeds: u64, program: Program) {
    let scenario = move |sim: &mut Simulation| -> Result<(), Verdict> {
        for name in NAMES {
            sim.spawn(name, move |me| async move { program.run(&me, name).await });
        }
        sim.run()?;
        let count = sim.history(|history| history.operations().len());
        REQUESTS.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    };
    assert!(Explorer::new(0..seeds).threads(1).calm().run(scenario).failures().is_empty());
}

/// Counts the requests of a client.
struct Counting(Remote);

impl Layer for Counting {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        self.inner().call(request)
    }
}

/// Runs a program with a store under madsim.
fn store(seeds: u64, program: Program) {
    for seed in 0..seeds {
        let clock = Arc::new(MadsimClock::default());
        let store = Store::builder().clock(Arc::clone(&clock)).build();
        let served = store.clone();
        let server = async move {
            drop(madsim::task::spawn(tick(served.clone(), clock)));
            serve(served).await.expect("the port is free");
        };
        under_madsim(seed, server, |name| {
            let store = store.clone();
            async move {
                let remote = Remote::connect(&store, SERVER).await.expect("a port is free");
                program.run(&Client::new(Counting(remote)), name).await.expect("no fault happens");
            }
        });
    }
}

/// Runs a program with the etcd of madsim.
fn etcd(seeds: u64, program: Program) {
    for seed in 0..seeds {
        let server = async {
            SimServer::builder().serve((SERVER, 2379).into()).await.expect("the port is free");
        };
        under_madsim(seed, server, |name| async move {
            program.run_etcd(name).await.expect("no fault happens");
        });
    }
}

/// Runs a server on a node, and a client on a node of its own for each name.
fn under_madsim<C>(
    seed: u64,
    server: impl Future<Output = ()> + Send + 'static,
    client: impl Fn(&'static str) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let runtime = Runtime::with_seed_and_config(seed, Config::default());
    runtime.create_node().ip(IpAddr::V4(SERVER)).build().spawn(server);
    let clients = (2..).zip(NAMES).map(|(number, name)| {
        let node = runtime.create_node().ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))).build();
        let program = client(name);
        node.spawn(async {
            // The server listens after a few milliseconds.
            madsim::time::sleep(Duration::from_millis(10)).await;
            program.await;
        })
    });
    let clients: Vec<_> = clients.collect();
    runtime.block_on(async {
        for client in clients {
            client.await.expect("no client panics");
        }
    });
}

/// A simulator runs a program with so many seeds.
type Simulator = fn(u64, Program);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (rounds, seeds) = (arguments.next().unwrap_or(9), arguments.next().unwrap_or(1_000));
    let simulators: [(&str, Simulator); 3] =
        [("leasehold-sim", simulate), ("store under madsim", store), ("etcd of madsim", etcd)];
    for (title, program) in [("writes", Program::Writes), ("locks", Program::Locks)] {
        let mut results = [const { (Vec::new(), 0) }; 3];
        // The first round warms up.
        for round in 0..=rounds {
            for ((_, simulator), (rates, requests)) in simulators.iter().zip(&mut results) {
                REQUESTS.store(0, Ordering::Relaxed);
                let start = Instant::now();
                simulator(seeds, program);
                if round > 0 {
                    rates.push(seeds as f64 / start.elapsed().as_secs_f64());
                }
                *requests = REQUESTS.load(Ordering::Relaxed) / seeds;
            }
        }
        for ((name, _), (rates, requests)) in simulators.iter().zip(&mut results) {
            rates.sort_by(f64::total_cmp);
            let (low, median, high) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
            println!(
                "{title}, {name}: {median:.0} seeds/s, from {low:.0} to {high:.0}, {requests} requests a seed"
            );
        }
    }
}
