//! HTTP/1.1 on the service port.
//!
//! ```text
//!   socket ─ connection ─ exchange ─ reader: head, body ── rest ── Call ──> the replica
//!                                └── response <─────────── rest <─ Said ──<
//! ```
//!
//! Everything but `connection` is pure: bytes and moments in, calls and bytes out. httparse reads the syntax of a head;
//! the rest of RFC 9112 is here, at its strictest. What a request means, and the body of its answer, is
//! [`crate::rest`]'s. There is no HTTP/2 here; TLS, where it is configured, is below all this.

mod body;
mod connection;
mod exchange;
mod head;
mod reader;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use crate::accept::{Unfinished, accept};
use crate::config::Config;
use crate::net::Listener;
use crate::observe::classic::Log;
use crate::observe::metrics::Metrics;
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::Port;
use crate::rest::Hosts;

/// Connections past the limits that are told so at one time.
const TURNED_AWAY_MAX: usize = 16;

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    port: Port,
    log: Log,
    config: Arc<Config>,
    hosts: Hosts,
    /// The replicas' addresses, in config order.
    addresses: Vec<String>,
    /// Which of them answers.
    replica: ReplicaId,
    /// The primary that the replica named last, for answers that it has no part in; at first the place of nobody.
    primary: AtomicU8,
    metrics: Metrics,
    unfinished: Unfinished,
}

impl Service {
    /// The service of `replica`, whose loop reads the other end of `port`.
    pub fn new(port: Port, config: Arc<Config>, replica: ReplicaId) -> Service {
        Service {
            log: Log::new(&config.address(replica).to_string()),
            hosts: Hosts::of(&config),
            addresses: config.replicas.iter().map(ToString::to_string).collect(),
            replica,
            primary: AtomicU8::new(u8::MAX),
            port,
            metrics: Metrics::new(config.sync.word()),
            unfinished: Unfinished::new(config.limits.unfinished_bytes),
            config,
        }
    }

    /// The same, that shows its requests in the log of its replica; without, in one that only stdout has.
    pub fn showing(self, log: Log) -> Service {
        Service { log, ..self }
    }

    /// The same, whose requests count in `metrics`.
    pub fn counting(self, metrics: Metrics) -> Service {
        Service { metrics, ..self }
    }

    /// Who answers, and the primary that is named or else was named last.
    fn names(&self, primary: Option<ReplicaId>) -> [Option<&String>; 2] {
        if let Some(primary) = primary {
            self.primary.store(primary.0, Ordering::Relaxed);
        }
        let primary = ReplicaId(self.primary.load(Ordering::Relaxed));
        [self.replica, primary].map(|replica| self.addresses.get(replica.index()))
    }
}

/// Serves HTTP on `listener` until `stop` holds true, or its sender is gone. Then it accepts no more, lets requests
/// finish that are under way, for at most 5 s, and returns.
pub async fn serve(listener: impl Listener, service: Arc<Service>, stop: watch::Receiver<bool>) {
    let run = |visitor| connection::run(visitor, service.clone(), stop.clone());
    accept(listener, &service.config.limits, TURNED_AWAY_MAX, stop.clone(), run).await;
}
