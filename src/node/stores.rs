//! Opens a replica's stores as it starts, and decides what becomes of one that is damaged.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::start::ReplicaError;
use super::storage::Storage;
use super::system::System;
use crate::config::{Address, Config, Durability, Tls};
use crate::membership::{Begin, Medium, MediumError, MemoryLog};
use crate::net::{Network, tls};
use crate::observe::metrics::StoreFigures;
use crate::protocol::codec;
use crate::protocol::ids::{ReplicaId, StoreId};
use crate::store::{Folder, Loaded, Opened, Owner, Sizes, Store, StoreError};

/// In the replica's folder: the consensus log and vote.
const CONSENSUS_FOLDER: &str = "consensus";

/// How long a peer that listens may take to answer: it may be reading a large store itself.
const PEER_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// What the replica's folder holds.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) storage: Storage,
    pub(super) loaded: Loaded,
    pub(super) consensus: Medium,
}

/// The replicas that start together in one process. Each tells what it has found in its folder, and goes on once all have:
/// so a damaged store is known to be replaceable, and none is left out of the first view because it had more to read.
#[derive(Clone, Debug)]
pub struct Fellows {
    count: usize,
    told: watch::Sender<Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    replicas: usize,
    /// Whether any of them holds records.
    records: bool,
}

impl Fellows {
    /// So many replicas start.
    pub fn new(count: usize) -> Fellows {
        Fellows { count, told: watch::Sender::default() }
    }

    /// Tells whether this replica holds records; once all have told, whether any does. It may never return where another
    /// one has failed: then the process ends.
    async fn tell(&self, records: bool) -> bool {
        self.told.send_modify(|told| {
            told.replicas += 1;
            told.records |= records;
        });
        let mut told = self.told.subscribe();
        let all = told.wait_for(|told| told.replicas >= self.count).await;
        all.is_ok_and(|told| told.records)
    }
}

/// Opens the replica's stores, and reads what they hold.
pub(super) async fn open(
    config: &Config,
    me: ReplicaId,
    begin: Begin,
    fellows: &Fellows,
    system: &System,
    figures: &StoreFigures,
) -> Result<Stores, ReplicaError> {
    let System { disk, random, .. } = system;
    let fresh = StoreId(random.draw()?);
    if config.durability == Durability::Memory {
        fellows.tell(false).await;
        let loaded = Loaded { store: fresh, records: BTreeMap::new(), keys: Vec::new() };
        return Ok(Stores { storage: Storage::memory(), loaded, consensus: Medium::Memory(MemoryLog::default()) });
    }
    let replica = config.address(me).to_string();
    let path = config.data.join(&replica);
    let replicas = config.replicas.iter().map(ToString::to_string).collect();
    let mut folder = Folder::open(Arc::clone(disk), &path, &Owner { replica, replicas }, fresh, Sizes::default())?;
    let alone = matches!(begin, Begin::Alone { .. });
    if alone {
        folder.release()?;
    }
    let (loaded, opened) = match folder.load() {
        Err(damage) if damage.is_damage() => {
            // Who begins alone has no others to copy from.
            let others_have_records =
                !alone && (fellows.tell(false).await || any_peer_runs(config, me, fellows, system).await);
            if !others_have_records {
                return Err(ReplicaError::Lost(damage));
            }
            set_aside(&mut folder, &damage, StoreId(random.draw()?))?
        }
        found => {
            let (loaded, opened) = found?;
            fellows.tell(!loaded.records.is_empty()).await;
            (loaded, opened)
        }
    };
    let votes = path.join(CONSENSUS_FOLDER);
    let consensus =
        Medium::open(Arc::clone(disk), &votes, random.draw()?).map_err(|error| consensus_error(error, votes))?;
    Ok(Stores { storage: Storage::disk(Store::start(folder, opened.counted(figures.clone()))?), loaded, consensus })
}

/// Puts an empty store in the place of a damaged one, which is kept.
fn set_aside(folder: &mut Folder, damage: &StoreError, fresh: StoreId) -> Result<(Loaded, Opened), StoreError> {
    let aside = folder.set_aside(fresh)?;
    let aside = aside.display();
    tracing::warn!("{damage}; the store is set aside as {aside}, and the notes are copied from the other replicas");
    folder.load()
}

fn consensus_error(error: MediumError, folder: PathBuf) -> ReplicaError {
    match error {
        MediumError::Disk(damage) if damage.is_damage() => ReplicaError::Vote { folder, damage },
        error => error.into(),
    }
}

/// Whether another replica runs, so that it has opened its own store: a damaged one is given up only where others may have
/// its records. That a peer listens says nothing: it may have found its store damaged, too, and ask the same.
async fn any_peer_runs(config: &Config, me: ReplicaId, fellows: &Fellows, system: &System) -> bool {
    if fellows.count == config.replicas.len() {
        return false;
    }
    let peers = config.ids().filter(|peer| *peer != me).map(|peer| config.address(peer));
    let ask = |peer| timeout(PEER_ANSWER_WAIT, ping(peer, config.tls.as_ref(), system.network.as_ref()));
    let mut answers: FuturesUnordered<_> = peers.map(ask).collect();
    while let Some(answer) = answers.next().await {
        if matches!(answer, Ok(Ok(true))) {
            return true;
        }
    }
    false
}

/// Whether the replica's loop answers.
async fn ping(peer: &Address, tls: Option<&Tls>, network: &dyn Network) -> io::Result<bool> {
    let mut stream = network.connect(peer.host(), peer.port()).await?;
    if let Some(tls) = tls {
        stream = tls::connect(tls.authority(), peer.host(), stream).await?;
    }
    let mut frames = Framed::new(stream, codec::length_delimited());
    frames.send(Bytes::from_static(br#"{"type":"ping"}"#)).await?;
    let reply = frames.next().await.transpose()?;
    Ok(reply.is_some_and(|json| codec::word_of(&json).is_ok_and(|word| word == "pong")))
}
