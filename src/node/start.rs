//! Puts one replica together: its loop, its links, and what listens on its two ports.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Inputs, Node, Start};
use crate::clock::Clock;
use crate::config::Config;
use crate::http;
use crate::link::{LinkConfig, Links, Restarts};
use crate::net::TcpListener;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId};
use crate::protocol::port::Port;
use crate::replication::replica::{Identity, Replica};
use crate::wire;

/// Events of the links that wait in front of the loop; past it the links read no further.
const LINK_EVENTS_MAX: usize = 1024;

/// The two listeners of one replica, bound in the runtime that will serve them.
#[derive(Debug)]
pub struct Listeners {
    /// On the replica's address: other replicas, and clients that speak frames.
    pub replica: TcpListener,
    /// On its service port: HTTP.
    pub service: TcpListener,
}

/// How a replica is told to stop, in two steps: the clients of all replicas of a process are finished before the first
/// loop ends, since their writes need the other replicas' acknowledgements.
#[derive(Clone, Debug)]
pub struct Stop {
    /// True: take no new requests, finish those under way.
    pub clients: watch::Receiver<bool>,
    /// True: end.
    pub all: watch::Receiver<bool>,
    /// Dropped once this replica's clients are finished.
    pub clients_open: mpsc::Sender<()>,
}

/// Runs one replica on its bound listeners until it is told to stop.
///
/// # Errors
///
/// Where the system gives no random numbers: incarnations must be unique.
pub async fn run(config: Arc<Config>, me: ReplicaId, listeners: Listeners, stop: Stop) -> io::Result<()> {
    let incarnation = Incarnation(random()?);
    let clock = Clock::start();
    let (port, calls) = Port::open(clock);
    let (events, links) = mpsc::channel(LINK_EVENTS_MAX);
    let epoch = watch::Sender::new(Epoch(0));
    let link_config =
        LinkConfig { config: config.clone(), me, incarnation, restarts: Restarts::Refused, seed: random()? };
    let inputs = Inputs { calls, links, end: stop.all };
    let links = Links::start(link_config, events, epoch.subscribe());

    let http = http::Service::new(port.clone(), config.clone(), me);
    let frames = wire::Service::new(port, config.clone(), me);
    let http = tokio::spawn(http::serve(listeners.service, Arc::new(http), stop.clients.clone()));
    let frames = tokio::spawn(wire::serve(listeners.replica, Arc::new(frames), links.acceptor(), stop.clients));
    let clients_open = stop.clients_open;
    tokio::spawn(async move {
        for listener in [http, frames] {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener failed");
            }
        }
        drop(clients_open);
    });

    let replica = Replica::new(identity(&config, me, incarnation), [], []);
    Node::new(Start { config, me, incarnation, clock, replica, links, epoch }).run(inputs).await;
    Ok(())
}

fn identity(config: &Config, me: ReplicaId, incarnation: Incarnation) -> Identity {
    Identity {
        me,
        incarnation,
        mode: config.sync,
        min_in_sync: config.min_in_sync,
        request_timeout_ms: config.request_timeout_ms,
        read_wait_ms: config.read_wait_ms,
    }
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::from)
}
