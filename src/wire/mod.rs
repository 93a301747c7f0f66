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
mod listener;
mod log;

use std::sync::Arc;

use crate::config::Config;
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::Port;

pub use client::IDLE_MS_MAX;
pub use connection::FRAME_MS_MAX;
pub use listener::serve;

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
