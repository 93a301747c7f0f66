//! What listens on a replica's address.
//!
//! The first byte tells what a caller speaks: `0x00` frames, whose first four bytes are a length under 16 MiB; `{` the same
//! JSON, one object a line; a letter of an HTTP method gets an answer that names the service port; anything else an error.
//! A first frame that is a `hello` makes the connection a link, and [`crate::link`] takes it; every other caller is a
//! client.

mod client;
mod connection;
mod exchange;
mod input;
mod log;

use std::sync::Arc;

use tokio::sync::watch;

use crate::accept::accept;
use crate::config::Config;
use crate::link::LinkAcceptor;
use crate::net::Listener;
use crate::protocol::ids::{REPLICAS_MAX, ReplicaId};
use crate::protocol::port::Port;

pub use client::IDLE_MS_MAX;
pub use connection::FRAME_MS_MAX;

/// Connections past the limits, in which only replicas are heard: clients that take all others must not keep a cluster's
/// replicas apart. Two links of each peer, and as many again that are being replaced.
const REPLICA_SEATS: usize = 4 * REPLICAS_MAX;

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    port: Port,
    config: Arc<Config>,
    /// Every replica's address, in config order.
    names: Vec<String>,
    /// Where this replica speaks HTTP.
    url: String,
}

impl Service {
    /// The service of `replica`, whose loop reads the other end of `port`.
    pub fn new(port: Port, config: Arc<Config>, replica: ReplicaId) -> Service {
        let names = config.replicas.iter().map(ToString::to_string).collect();
        Service { port, names, url: config.service_url(replica), config }
    }
}

/// Serves frames, and takes links for `links`, until `stop` holds true or its sender is gone. Then it accepts no more, lets
/// requests finish that are under way, for at most 5 s, and returns.
pub async fn serve(listener: impl Listener, service: Arc<Service>, links: LinkAcceptor, stop: watch::Receiver<bool>) {
    let run = |visitor| connection::run(visitor, service.clone(), links.clone(), stop.clone());
    accept(listener, &service.config.limits, REPLICA_SEATS, stop.clone(), run).await;
}
