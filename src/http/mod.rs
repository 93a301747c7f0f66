//! HTTP/1.1 on the service port.
//!
//! ```text
//!   socket ─ connection ─ exchange ─ reader: head, body ─ routes ── Call ──> the replica
//!                │            └──── response <─ answers <────────── Said ──<
//!            deadlines
//! ```
//!
//! Everything but `listener` and `connection` is pure: bytes and moments in, calls and bytes out. httparse reads the
//! syntax of a head; the rest of RFC 9112 is here, at its strictest. There is no TLS and no HTTP/2 here.

mod answers;
mod body;
mod connection;
mod deadline;
mod exchange;
mod head;
mod listener;
mod origin;
mod reader;
mod refusal;
mod response;
mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::Config;
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::{Port, Said};
use crate::protocol::request::Answer;

pub use listener::serve;

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    port: Port,
    config: Arc<Config>,
    hosts: origin::Hosts,
    /// The line that names this replica.
    replica_line: String,
    /// The lines that name each replica as a primary, in config order.
    primary_lines: Vec<String>,
    /// The place of the primary that the replica named last, for answers that it has no part in.
    primary: AtomicU8,
}

/// In [`Service::primary`]: none was named yet.
const NO_PRIMARY: u8 = u8::MAX;

impl Service {
    /// The service of `replica`, whose loop reads the other end of `port`.
    pub fn new(port: Port, config: Arc<Config>, replica: ReplicaId) -> Service {
        let lines = |name: &str| config.replicas.iter().map(|address| format!("{name}: {address}\r\n")).collect();
        let names = config.replicas.iter().map(|address| address.host());
        let replica_lines: Vec<String> = lines("Primacy-Replica");
        Service {
            hosts: origin::Hosts::new(names.chain(config.hosts.iter().map(String::as_str))),
            replica_line: replica_lines.get(replica.index()).cloned().unwrap_or_default(),
            primary_lines: lines("Primacy-Primary"),
            primary: AtomicU8::new(NO_PRIMARY),
            port,
            config,
        }
    }

    /// Remembers the primary that the replica names.
    fn note_primary(&self, said: &Said) {
        let primary = match said {
            Said::Answer(Answer { primary, .. }) => *primary,
            Said::Pong(pong) => pong.primary,
            Said::Status(_) => None,
        };
        if let Some(primary) = primary {
            self.primary.store(primary.0, Ordering::Relaxed);
        }
    }

    /// The lines that name the replica and the primary, the latter empty where none is known.
    fn names(&self, primary: Option<ReplicaId>) -> [&str; 2] {
        let place = primary.map_or_else(|| self.primary.load(Ordering::Relaxed), |primary| primary.0);
        let line = self.primary_lines.get(usize::from(place)).map_or("", String::as_str);
        [&self.replica_line, line]
    }
}
