//! Puts one replica together: its loop, its links, and what listens on its two ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::storage::Storage;
use super::{Inputs, Node, Start};
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::http;
use crate::link::{LinkConfig, Links, Restarts};
use crate::net::TcpListener;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use crate::protocol::port::Port;
use crate::replication::replica::{Identity, Replica};
use crate::store::{Folder, Loaded, Owner, RealDisk, Sizes, Store, StoreError};
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

/// Why a replica did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Incarnations must be unique, so there is no replica without random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Its store could not be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// Its store failed while it ran.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

impl ReplicaError {
    /// Whether the configuration and the data folder do not belong together, which only the user can mend.
    pub fn is_usage(&self) -> bool {
        match self {
            ReplicaError::Random(_) => false,
            ReplicaError::Open(error) => error.is_usage(),
            ReplicaError::Store(error) => error.is_usage(),
        }
    }
}

/// Runs one replica on its bound listeners until it is told to stop.
pub async fn run(config: Arc<Config>, me: ReplicaId, listeners: Listeners, stop: Stop) -> Result<(), ReplicaError> {
    let incarnation = Incarnation(getrandom::u64()?);
    let (storage, held) = open_storage(&config, me)?;
    let clock = Clock::start();
    let (port, calls) = Port::open(clock);
    let (events, links) = mpsc::channel(LINK_EVENTS_MAX);
    let epoch = watch::Sender::new(Epoch(0));
    let link_config =
        LinkConfig { config: config.clone(), me, incarnation, restarts: Restarts::Refused, seed: getrandom::u64()? };
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

    let replica = Replica::new(identity(&config, me, incarnation), held.records.into_values(), held.keys);
    Ok(Node::new(Start { config, me, incarnation, clock, replica, storage, links, epoch }).run(inputs).await?)
}

/// Opens the replica's store, and reads what it holds.
fn open_storage(config: &Config, me: ReplicaId) -> Result<(Storage, Loaded), ReplicaError> {
    let fresh = StoreId(getrandom::u64()?);
    if config.durability == Durability::Memory {
        return Ok((Storage::memory(), Loaded { store: fresh, records: BTreeMap::new(), keys: Vec::new() }));
    }
    let replica = config.address(me).to_string();
    let path = config.data.join(&replica);
    let replicas = config.replicas.iter().map(ToString::to_string).collect();
    let folder = Folder::open(Arc::new(RealDisk), &path, &Owner { replica, replicas }, fresh, Sizes::default())?;
    let (loaded, opened) = folder.load()?;
    Ok((Storage::disk(Store::spawn(folder, opened)?), loaded))
}

/// A new name for a record store.
pub(super) fn fresh_store() -> StoreId {
    StoreId(getrandom::u64().expect("the system gave random numbers as the replica started, and keeps doing so"))
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
