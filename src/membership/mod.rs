//! Membership: who is in sync, who joins, who is the primary, and who may read. One consensus group for the whole cluster
//! agrees on views (V1); its leader, the controller, watches everybody and decides; each replica says that it lives.
//!
//! ```text
//!    control links                                                     the node
//!        | heartbeat, lease, raft                                          ^ View, Lease, Send
//!   +----v-------------------------------- task ---------------------------+----+
//!   |   heartbeat PURE         controller PURE             founding PURE        |
//!   |   nonces, silence        who leaves, who joins,      who founds the       |
//!   |                          leases                      group                |
//!   +-----------+-----------------------^-------------------------------+------+
//!               | propose, confirm      | views applied, answers        |
//!         +-----v-----------------------+-----------------------+       |
//!         | consensus   openraft, its log, its calls as frames   <------+
//!         +------------------------------------------------------+
//! ```
//!
//! In reading order: [`times`], [`controller`], [`heartbeat`], `founding`, `succession`, `consensus`, `task`, and
//! [`Membership`], which is what a node uses.
//!
//! What this does not do: it opens no connection (the node's control links carry its frames, and may lose any), and it
//! knows nothing of notes.

mod consensus;
pub mod controller;
mod founding;
pub mod heartbeat;
mod succession;
mod task;
pub mod times;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use consensus::{ConsensusError, LogStoreError, Medium, MediumError, MemoryLog};

use crate::clock::{Clock, Moment};
use crate::protocol::ids::{ClusterId, Epoch, Incarnation, ReplicaId, ReplicaSet, StoreId};
use crate::protocol::message::Message;
use crate::protocol::view::View;
use crate::random::Random;
use heartbeat::Standing;

/// Frames of peers that wait for the membership task. A second's worth of many replicas; past it frames are lost, as they
/// are with a connection.
const FRAMES_WAITING_MAX: usize = 1024;

/// Events that wait for the node. Views and leases wait for room, frames are lost.
const EVENTS_WAITING_MAX: usize = 1024;

/// What a replica's membership begins with.
#[derive(Debug)]
pub struct MembershipConfig {
    /// Every replica's address, in config order.
    pub addresses: Vec<String>,
    /// Which of them this is.
    pub me: ReplicaId,
    /// Drawn at this process start.
    pub incarnation: Incarnation,
    /// The fewest in-sync replicas with which writes are taken.
    pub min_in_sync: usize,
    /// The failure timeout, in ms (V6).
    pub failure_timeout_ms: u64,
    /// The simulated one-way delay between replicas, in microseconds.
    pub link_delay_us: u64,
    /// The node's clock: leases are moments on it.
    pub clock: Clock,
    /// Where the ids of voters and clusters come from.
    pub random: Random,
    /// Where the consensus log is kept.
    pub log: Medium,
    /// The record store that this process found or made.
    pub store: StoreId,
    /// Whether that store is empty.
    pub blank: bool,
    /// What the operator asked for.
    pub begin: Begin,
}

/// How a process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// As its stores say. A fresh cluster begins once all replicas are there (J4).
    Normally,
    /// `--initialize`: a fresh cluster begins once a majority is there.
    WithMajority,
    /// `--force-new-cluster` (J5): a cluster of this replica alone, whose first epoch is above all that its consensus store
    /// knew, and above this one, the largest in its records.
    Alone {
        /// The largest epoch in its records.
        after: Epoch,
    },
}

/// What membership tells the node.
#[derive(Clone, Debug)]
pub enum MembershipEvent {
    /// A new view was agreed.
    View(View),
    /// Reads may be served until then, by the node's clock (R3).
    Lease {
        /// The end of the lease.
        until: Moment,
    },
    /// A frame for the control links to these replicas. It may be lost.
    Send {
        /// To whom.
        to: ReplicaSet,
        /// What.
        message: Message,
    },
    /// J4: the cluster does not begin before these replicas are there, with empty stores. Empty once nobody is waited for.
    Waiting {
        /// For whom.
        whom: ReplicaSet,
    },
    /// Membership has ended by itself: the process must stop, and a start heals.
    Failed(MembershipError),
}

/// What membership can fail with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MembershipError {
    /// The group could not be started or founded, or the consensus library stopped.
    #[error("the cluster's membership cannot go on: {0}")]
    Consensus(String),
}

/// What is known of the group, for `/status` and the data folder's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembershipStatus {
    /// The leader of the consensus group, as far as this replica knows.
    pub controller: Option<ReplicaId>,
    /// The cluster that the consensus store belongs to; none before it is founded, or has taken this replica in.
    pub cluster: Option<ClusterId>,
    /// V11: this replica leads the group, stops, and the others have no leases yet that last until another one leads.
    pub hands_over: bool,
}

/// A replica's membership; it ends with [`Membership::end`], or soon after it is dropped.
#[derive(Debug)]
pub struct Membership {
    handle: Handle,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How the node speaks to its membership. Nothing here waits.
#[derive(Clone, Debug)]
pub struct Handle {
    frames: mpsc::Sender<(ReplicaId, Incarnation, Message)>,
    standing: Arc<watch::Sender<Standing>>,
    status: watch::Receiver<MembershipStatus>,
}

/// A frame of a peer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// More frames wait than the task works off; it counts as lost.
    #[error("the membership task is busy; the frame is lost")]
    Busy,
    /// The task has ended.
    #[error("the membership task has ended")]
    Ended,
}

impl Membership {
    /// Reads the consensus store, starts its group member and the task. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Where the consensus store cannot be read, or the group not be started.
    pub async fn start(
        config: MembershipConfig,
    ) -> Result<(Membership, mpsc::Receiver<MembershipEvent>), ConsensusError> {
        let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        let (frames, incoming) = mpsc::channel(FRAMES_WAITING_MAX);
        let (standing, standings) = watch::channel(Standing::of(config.store, config.blank));
        let (status, statuses) = watch::channel(MembershipStatus::default());
        let (end, ended) = oneshot::channel();
        let outside = task::Outside { events, frames: incoming, standing: standings, status, ended };
        let task = task::Task::begin(config, outside).await?;
        let handle = Handle { frames, standing: Arc::new(standing), status: statuses };
        Ok((Membership { handle, end, task: tokio::spawn(task.run()) }, receiver))
    }

    /// How the node speaks to it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the task and the group's member, and waits for both.
    pub async fn end(self) {
        // Where the task has ended already, nobody takes it.
        drop(self.end);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the membership task panicked");
        }
    }
}

impl Handle {
    /// A `heartbeat`, `lease` or `raft` frame came on a control link. Frames of an incarnation must not come after a newer
    /// incarnation of the same replica was greeted.
    ///
    /// # Errors
    ///
    /// Where the frame is lost; nothing need be done about it.
    pub fn on_message(&self, from: ReplicaId, incarnation: Incarnation, message: Message) -> Result<(), NotTaken> {
        self.frames.try_send((from, incarnation, message)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Busy,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Ended,
        })
    }

    /// V4: these peers' frames come in and their acknowledgements do not, or a link to them is over its bound, in this
    /// epoch. Replaces what was said before.
    pub fn complain(&self, epoch: Epoch, peers: ReplicaSet) {
        self.say(|standing| standing.complaints = (epoch, peers));
    }

    /// J3: as a joining member of this view it has copied everything into this store, and all count it.
    pub fn synced(&self, epoch: Epoch, store: StoreId) {
        self.say(|standing| {
            standing.store = store;
            standing.synced = Some(epoch);
        });
    }

    /// Both links that this replica dials to a peer are up.
    pub fn link_up(&self, peer: ReplicaId) {
        self.say(|standing| standing.links.insert(peer));
    }

    /// One of them is down.
    pub fn link_down(&self, peer: ReplicaId) {
        self.say(|standing| standing.links.remove(peer));
    }

    /// V11: the replica reads no more; it gives its lease back and asks for a view without itself.
    pub fn stop(&self) {
        self.say(|standing| standing.stopping = true);
    }

    /// What is known of the group.
    pub fn status(&self) -> MembershipStatus {
        *self.status.borrow()
    }

    /// Tells the task, if it changes anything.
    fn say(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_if_modified(|standing| {
            let before = standing.clone();
            change(standing);
            *standing != before
        });
    }
}
