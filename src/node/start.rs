//! Puts one replica together: its loop, its links, and what listens on its two ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::storage::Storage;
use super::system::System;
use super::{Inputs, Node, NodeError, Start};
use crate::config::{Config, Durability};
use crate::http;
use crate::link::{LinkConfig, Links};
use crate::membership::{Begin, ConsensusError, Medium, MediumError, Membership, MembershipConfig, MemoryLog};
use crate::net::{Listener, Network};
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use crate::protocol::port::Port;
use crate::random::RandomError;
use crate::replication::replica::{Identity, Replica};
use crate::store::{Folder, Loaded, Owner, Sizes, Store, StoreError};
use crate::wire;

/// Events of the links that wait in front of the loop; past it the links read no further.
const LINK_EVENTS_MAX: usize = 1024;

/// In the replica's folder: the consensus log and vote.
const CONSENSUS_FOLDER: &str = "consensus";

/// How long a peer may take to accept a connection, where it is asked whether it is there.
const PEER_DIAL_WAIT: Duration = Duration::from_secs(1);

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

/// Runs one replica on its bound listeners, and on `system`, until it is told to stop. Where it begins alone, its first epoch is above all
/// in its records too, whatever `begin` says.
pub async fn run(
    config: Arc<Config>,
    me: ReplicaId,
    begin: Begin,
    listeners: Listeners,
    stop: Stop,
    system: System,
) -> Result<(), ReplicaError> {
    let incarnation = Incarnation(system.random.draw()?);
    let Stores { storage, loaded, consensus } = open_stores(&config, me, begin, &system).await?;
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

    let replica = Replica::new(identity(&config, me, incarnation), loaded.records.into_values(), loaded.keys);
    let start = Start { config, me, clock, random, replica, storage, links, membership, epoch, leaves: stop.leaves };
    Ok(Node::new(start).run(inputs).await?)
}

/// What the replica's folder holds.
struct Stores {
    storage: Storage,
    loaded: Loaded,
    consensus: Medium,
}

/// Opens the replica's stores, and reads what they hold.
async fn open_stores(config: &Config, me: ReplicaId, begin: Begin, system: &System) -> Result<Stores, ReplicaError> {
    let System { network, disk, random, .. } = system;
    let fresh = StoreId(random.draw()?);
    if config.durability == Durability::Memory {
        let loaded = Loaded { store: fresh, records: BTreeMap::new(), keys: Vec::new() };
        return Ok(Stores { storage: Storage::memory(), loaded, consensus: Medium::Memory(MemoryLog::default()) });
    }
    let replica = config.address(me).to_string();
    let path = config.data.join(&replica);
    let replicas = config.replicas.iter().map(ToString::to_string).collect();
    let mut folder = Folder::open(disk.clone(), &path, &Owner { replica, replicas }, fresh, Sizes::default())?;
    let alone = matches!(begin, Begin::Alone { .. });
    if alone {
        folder.release()?;
    }
    let (loaded, opened) = match folder.load() {
        // Who begins alone has no others to copy from.
        Err(damage) if damage.is_damage() && !alone && any_peer_is_up(config, me, network.as_ref()).await => {
            let aside = folder.set_aside(StoreId(random.draw()?))?;
            let aside = aside.display();
            tracing::warn!(
                "{damage}; the store is set aside as {aside}, and the notes are copied from the other replicas"
            );
            folder.load()?
        }
        loaded => loaded?,
    };
    let consensus = Medium::open(disk.clone(), &path.join(CONSENSUS_FOLDER), random.draw()?)?;
    Ok(Stores { storage: Storage::disk(Store::start(folder, opened)?), loaded, consensus })
}

/// A cluster of one replica must begin above every epoch that its records name (J5).
fn begin_after(begin: Begin, loaded: &Loaded) -> Begin {
    let Begin::Alone { after } = begin else { return begin };
    let newest = loaded.records.values().map(|record| record.version.epoch.max(record.written.epoch)).max();
    Begin::Alone { after: newest.map_or(after, |newest| newest.max(after)) }
}

/// Whether somebody listens at another replica's address: a damaged store is given up only where others may have its
/// records.
async fn any_peer_is_up(config: &Config, me: ReplicaId, network: &dyn Network) -> bool {
    for peer in config.ids().filter(|peer| *peer != me) {
        let address = config.address(peer);
        let dial = network.connect(address.host(), address.port());
        if matches!(timeout(PEER_DIAL_WAIT, dial).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
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
