//! Puts one replica together: its loop, its links, and what listens on its two ports.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::stores::{self, Fellows, Stores};
use super::system::System;
use super::{Inputs, Node, NodeError, Start};
use crate::config::Config;
use crate::http;
use crate::link::{LinkConfig, Links};
use crate::membership::{Begin, ConsensusError, MediumError, Membership, MembershipConfig};
use crate::net::Listener;
use crate::observe::classic::Log;
use crate::observe::metrics::Metrics;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId};
use crate::protocol::port::Port;
use crate::random::RandomError;
use crate::replication::replica::{Identity, Replica};
use crate::store::{Loaded, StoreError};
use crate::wire;

/// Events of the links that wait in front of the loop; past it the links read no further.
const LINK_EVENTS_MAX: usize = 1024;

/// The two listeners of one replica, bound in the runtime that will serve them.
#[derive(Debug)]
pub struct Listeners {
    /// On the replica's address: other replicas, and clients that speak frames.
    pub replica: Box<dyn Listener>,
    /// On its service port: HTTP.
    pub service: Box<dyn Listener>,
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
    /// Whether a replica asks for a view without itself before it ends (V11): not where all stop together.
    pub leaves: bool,
}

/// Why a replica did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Incarnations must be unique, so there is no replica without random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Its store could not be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// Its record store is damaged, and nobody has its records.
    #[error(
        "{0}; no other replica that runs has its records: start one that has them, or put this folder back from a \
         backup, or remove it to begin without them"
    )]
    Lost(#[source] StoreError),
    /// Its consensus log is damaged.
    #[error(
        "{damage}; remove the folder {} while most of the other replicas run: this replica then gets a new vote, and \
         keeps its notes",
        folder.display()
    )]
    Vote {
        /// Where the log is.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        damage: StoreError,
    },
    /// Its consensus log could not be opened.
    #[error(transparent)]
    ConsensusLog(#[from] MediumError),
    /// Its consensus store could not be read, or its group not be started.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// It failed while it ran.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl ReplicaError {
    /// Whether the configuration and the data folder do not belong together, which only the user can mend.
    pub fn is_usage(&self) -> bool {
        match self {
            ReplicaError::Open(error) => error.is_usage(),
            ReplicaError::Node(NodeError::Store(error)) => error.is_usage(),
            _ => false,
        }
    }
}

/// Runs one replica on its bound listeners, and on `system`, until it is told to stop; `fellows` are those that start with
/// it. Where it begins alone, its first epoch is above all in its records too, whatever `begin` says.
pub async fn run(
    config: Arc<Config>,
    me: ReplicaId,
    begin: Begin,
    listeners: Listeners,
    fellows: Fellows,
    mut stop: Stop,
    system: System,
) -> Result<(), ReplicaError> {
    let incarnation = Incarnation(system.random.draw()?);
    let metrics = Metrics::new(config.sync.word());
    let Stores { storage, loaded, consensus } = tokio::select! {
        stores = stores::open(&config, me, begin, &fellows, &system, &metrics.store) => stores?,
        _ = stop.clients.wait_for(|stop| *stop) => return Ok(()),
    };
    let System { clock, network, random, .. } = system;
    let membership = MembershipConfig {
        addresses: config.replicas.iter().map(ToString::to_string).collect(),
        me,
        incarnation,
        min_in_sync: config.min_in_sync,
        failure_timeout_ms: config.failure_timeout_ms,
        link_delay_us: config.link_delay_us,
        clock,
        random: random.clone(),
        log: consensus,
        store: loaded.store,
        blank: loaded.records.is_empty(),
        begin: begin_after(begin, &loaded),
    };
    let (membership, decisions) = Membership::start(membership).await?;
    let (port, calls) = Port::open(clock);
    let (events, links) = mpsc::channel(LINK_EVENTS_MAX);
    let epoch = watch::Sender::new(Epoch(0));
    let seed = random.draw()?;
    let link_config = LinkConfig { config: config.clone(), me, network, incarnation, seed, random: random.clone() };
    let inputs = Inputs { calls, links, membership: decisions, end: stop.all };
    let links = Links::start(link_config, events, epoch.subscribe());

    let log = Log::new(&config.address(me).to_string());
    let http = http::Service::new(port.clone(), config.clone(), me).showing(log.clone()).counting(metrics.clone());
    let frames = wire::Service::new(port, config.clone(), me).showing(log.clone()).counting(metrics.clone());
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

    let replica = Replica::new(identity(&config, me, incarnation), loaded.records.into_values(), loaded.keys);
    let leaves = stop.leaves;
    let start = Start { config, me, clock, random, replica, storage, links, membership, epoch, leaves, log, metrics };
    Ok(Node::new(start).run(inputs).await?)
}

/// A cluster of one replica must begin above every epoch that its records name (J5).
fn begin_after(begin: Begin, loaded: &Loaded) -> Begin {
    let Begin::Alone { after } = begin else { return begin };
    let newest = loaded.records.values().map(|record| record.version.epoch.max(record.written.epoch)).max();
    Begin::Alone { after: newest.map_or(after, |newest| newest.max(after)) }
}

fn identity(config: &Config, me: ReplicaId, incarnation: Incarnation) -> Identity {
    Identity {
        me,
        incarnation,
        mode: config.sync,
        min_in_sync: config.min_in_sync,
        request_timeout_ms: config.request_timeout_ms,
        read_wait_ms: config.read_wait_ms,
        items_per_turn: super::ITEMS_PER_TURN,
    }
}
