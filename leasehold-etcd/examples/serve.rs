//! Serves a store on a loopback address, for etcdctl and for clients in other languages.
//!
//! `cargo run -p leasehold-etcd --features serve --example serve -- 127.0.0.1:2379`
//!
//! The first line of the output is the address, which with port 0 has the port that the system chose.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use leasehold::Store;
use leasehold_etcd::routes;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    // A store has no authentication: any client that reaches the port has all rights.
    if !address.ip().is_loopback() {
        return Err(format!("{address} is not a loopback address").into());
    }
    let store = Store::new();
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_routes(routes(&store)).serve_with_incoming(connections).await?;
    Ok(())
}
