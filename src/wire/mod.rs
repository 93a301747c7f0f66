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

use bytes::BytesMut;
use tokio::sync::watch;

use input::Input;

use crate::accept::{Unfinished, accept};
use crate::config::Config;
use crate::link::LinkAcceptor;
use crate::net::Listener;
use crate::observe::classic::Log;
use crate::observe::metrics::Metrics;
use crate::observe::monitor::{Filter, Monitor};
use crate::protocol::client::Watch;
use crate::protocol::codec::GREETING_BYTES_MAX;
use crate::protocol::ids::{REPLICAS_MAX, ReplicaId};
use crate::protocol::port::Port;
use crate::protocol::request::{Code, Failure, quote};

pub use client::IDLE_MS_MAX;
pub use connection::FRAME_MS_MAX;

/// Connections past the limits, in which only replicas are heard: clients that take all others must not keep a cluster's
/// replicas apart. Two links of each peer, and as many again that are being replaced.
const REPLICA_SEATS: usize = 4 * REPLICAS_MAX;

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    port: Port,
    log: Log,
    replica: ReplicaId,
    config: Arc<Config>,
    /// Every replica's address, in config order.
    names: Vec<String>,
    /// Where this replica speaks HTTP.
    url: String,
    metrics: Metrics,
    unfinished: Unfinished,
}

impl Service {
    /// The service of `replica`, whose loop reads the other end of `port`.
    pub fn new(port: Port, config: Arc<Config>, replica: ReplicaId) -> Service {
        let names = config.replicas.iter().map(ToString::to_string).collect();
        let log = Log::new(&config.address(replica).to_string());
        let metrics = Metrics::new(config.sync.word());
        let unfinished = Unfinished::new(config.limits.unfinished_bytes);
        Service { port, log, replica, names, url: config.service_url(replica), config, metrics, unfinished }
    }

    /// The address of the replica.
    fn name(&self) -> &str {
        &self.names[self.replica.index()]
    }

    /// Begins a monitor of the replica.
    fn monitor(&self, watch: &Watch) -> Result<Monitor, Failure> {
        let Watch { id, replica } = watch.clone();
        if let Some(stranger) = replica.as_ref().filter(|name| !self.names.contains(name)) {
            let msg = format!("there is no replica `{}`; write one of {}", quote(stranger), self.names.join(", "));
            return Err(Failure::new(Code::BadRequest, msg));
        }
        let monitor = self.log.monitor(Filter { note: id, replica });
        monitor.map_err(|too_many| Failure::new(Code::Unavailable, too_many.to_string()))
    }

    /// The same, that shows its requests in the log of its replica; without, in one that only stdout has, and nobody can
    /// monitor.
    pub fn showing(self, log: Log) -> Service {
        Service { log, ..self }
    }

    /// The same, whose requests count in `metrics`.
    pub fn counting(self, metrics: Metrics) -> Service {
        Service { metrics, ..self }
    }
}

impl Service {
    /// Input from somebody who has not shown a token yet, where that is asked for: an `auth` or a `hello` is short.
    fn input(&self, lines: bool, buffer: BytesMut) -> Input {
        let mut input = Input::new(lines, buffer, self.unfinished.share());
        if self.config.tokens.is_some() {
            input.allow(GREETING_BYTES_MAX);
        }
        input
    }
}

/// Serves frames, and takes links for `links`, until `stop` holds true or its sender is gone. Then it accepts no more, lets
/// requests finish that are under way, for at most 5 s, and returns.
pub async fn serve(listener: impl Listener, service: Arc<Service>, links: LinkAcceptor, stop: watch::Receiver<bool>) {
    let run = |visitor| connection::run(visitor, service.clone(), links.clone(), stop.clone());
    accept(listener, &service.config.limits, REPLICA_SEATS, stop.clone(), run).await;
}
