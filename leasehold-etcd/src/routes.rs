//! The services for a tonic server.

use leasehold::Client;
use tonic::service::Routes;

use crate::service;

/// Returns etcd's gRPC services over a store or another backend, for a tonic server.
///
/// `tonic::transport::Server::add_routes` takes the routes. The server opens the port, so clients in other languages use a store as
/// they use an etcd. The example `serve` serves a store on a loopback address. [`Routes::add_service`] adds other services.
///
/// ```
/// use tonic::transport::Server;
///
/// let store = leasehold::Store::new();
/// let server = Server::builder().add_routes(leasehold_etcd::routes(&store));
/// # drop(server);
/// ```
pub fn routes(client: impl Into<Client>) -> Routes {
    let mut routes = Routes::default();
    let router = routes.axum_router_mut();
    // A fallback receives the paths that name no method too, and answers them with a text. A route for each service would not.
    *router = std::mem::take(router).fallback_service(service(client));
    routes
}
