//! The consensus group: openraft for the log of views and nothing else.
//!
//! In reading order: `types` is what the group agrees on, `log_state` and `log_store` keep log and vote as records of a
//! `medium`, `state_machine` applies the log, `network` carries the library's calls as `raft` frames,
//! `runtime` says when it looks at the time.
//!
//! Whatever a caller asks of the group may take as long as a majority is away; callers spawn these and bound them.

mod log_state;
mod log_store;
mod medium;
mod network;
mod runtime;
mod state_machine;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{Fatal, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::VoteRequest;
use openraft::{BasicNode, ChangeMembers, Config, ConfigError, Raft, ServerState, Snapshot, SnapshotPolicy};
use tokio::sync::{mpsc, watch};

use super::controller::Voter;
use super::times::Times;
use crate::protocol::ids::{ClusterId, ConsensusId, Epoch, ReplicaId};
use crate::protocol::message::{Payload, RaftKind};
use crate::protocol::view::View;

pub(super) use log_store::LogStore;
pub use log_store::LogStoreError;
pub use medium::{Medium, MediumError, MemoryLog};
pub(super) use network::{Call, Pending};
pub(super) use state_machine::Applied;

use network::{CALLS_WAITING_MAX, Network, WholeSnapshot};
use runtime::Pace;
use state_machine::StateMachine;
use types::{Proposal, StoredMembership, ViewLog, Vote};

/// Entries after which the log is replaced by a snapshot: views are rare, and a start replays what is left.
const ENTRIES_PER_SNAPSHOT: u64 = 64;

/// Entries kept behind a snapshot, for followers that were away for a moment.
const ENTRIES_KEPT: u64 = 32;

/// Most entries in one call: with views of 16 replicas far below a frame's limit.
const ENTRIES_PER_CALL_MAX: u64 = 64;

/// Why a call of a peer was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// Its payload is no JSON of the expected shape.
    #[error("the payload of a `raft` frame is wrong: {0}")]
    Payload(#[from] serde_json::Error),
    /// This replica belongs to another cluster.
    #[error("it is of cluster {theirs}, and this replica is of cluster {ours}")]
    OtherCluster {
        /// The caller's.
        theirs: ClusterId,
        /// This replica's.
        ours: ClusterId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LogStoreError),
    /// The library refused the call or has stopped.
    #[error("{0}")]
    Raft(String),
}

/// The answer to a call of a peer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) payload: Payload,
    /// The caller asked for a vote in vain, and lacks entries that are here.
    pub(super) lacks: bool,
}

/// Why the group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The times do not fit each other.
    #[error("the consensus library refuses the times of this failure timeout: {0}")]
    Times(#[from] ConfigError),
    /// The library could not read its state.
    #[error("the consensus library cannot start: {0}")]
    Start(#[from] Fatal<u64>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LogStoreError),
    /// The group could not be founded.
    #[error("the consensus group cannot be founded: {0}")]
    Found(String),
}

/// This replica's member of the group; clones are the same one.
#[derive(Clone)]
pub(super) struct Consensus {
    raft: Raft<ViewLog>,
    store: LogStore,
    addresses: Arc<[String]>,
    pace: Pace,
}

/// Who leads, as this replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    /// The term in which this replica leads.
    pub(super) own_term: Option<u64>,
    /// The leader.
    pub(super) leader: Option<ConsensusId>,
    /// The newest term, in which there may be none yet.
    pub(super) term: u64,
}

/// What comes out of a start, beside the group's member itself.
pub(super) struct Started {
    pub(super) consensus: Consensus,
    pub(super) calls: mpsc::Receiver<Call>,
    /// What the last snapshot held.
    pub(super) view: Option<View>,
    pub(super) members: StoredMembership,
    pub(super) metrics: watch::Receiver<RaftServerMetrics<u64, BasicNode>>,
}

impl Consensus {
    /// Starts this replica's member. What is applied goes to `output`.
    pub(super) async fn start<T: From<Applied> + Send + 'static>(
        me: ReplicaId,
        addresses: Arc<[String]>,
        times: Times,
        store: LogStore,
        output: mpsc::Sender<T>,
    ) -> Result<Started, ConsensusError> {
        let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX);
        let network =
            Network { addresses: Arc::clone(&addresses), calls: sender, rest: Duration::from_nanos(times.heartbeat) };
        let machine = StateMachine::new(store.clone(), output);
        let (view, members) = (machine.newest(), machine.members().clone());
        let config = Arc::new(config(me, times).validate()?);
        let pace = Pace::default();
        let raft = pace.start(Raft::new(store.id().0, config, network, store.clone(), machine)).await?;
        let metrics = raft.server_metrics();
        Ok(Started { consensus: Consensus { raft, store, addresses, pace }, calls, view, members, metrics })
    }

    /// This replica's voter id.
    pub(super) fn id(&self) -> ConsensusId {
        self.store.id()
    }

    /// The cluster of this replica's store; none while that is empty (J4).
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.store.cluster()
    }

    /// J4: founds a group of these voters, in a new cluster.
    pub(super) async fn found(&self, cluster: ClusterId, voters: Vec<Voter>) -> Result<(), ConsensusError> {
        self.store.adopt(cluster).await?;
        let members: BTreeMap<u64, BasicNode> =
            voters.iter().map(|voter| (voter.id.0, BasicNode::new(self.address(voter.replica)))).collect();
        self.raft.initialize(members).await.map_err(|error| ConsensusError::Found(error.to_string()))
    }

    /// Appends an entry that changes nothing; whether it was applied.
    pub(super) async fn establish(&self) -> bool {
        self.append(Proposal::Nothing).await
    }

    /// Appends a view; returns once it was applied, void, or can't be any more.
    pub(super) async fn propose(&self, follows: Epoch, view: View) {
        self.append(Proposal::View { follows, view }).await;
    }

    async fn append(&self, proposal: Proposal) -> bool {
        match self.raft.client_write(proposal).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "an entry was not applied");
                false
            }
        }
    }

    /// R4: whether a majority agreed, after this was called, that this replica leads. All entries up to then are applied
    /// once it returns true.
    pub(super) async fn confirm(&self) -> bool {
        match self.raft.ensure_linearizable().await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "the leadership was not confirmed");
                false
            }
        }
    }

    /// J5: makes this voter the only one at its address: a learner first, then a voter in the place of the others.
    pub(super) async fn replace_voter(&self, voter: Voter) -> Result<(), String> {
        type Refused = RaftError<u64, openraft::error::ClientWriteError<u64, BasicNode>>;
        let text = |error: Refused| error.to_string();
        let address = self.address(voter.replica);
        let id = voter.id.0;
        self.raft.add_learner(id, BasicNode::new(address), true).await.map_err(text)?;
        let membership = self.raft.server_metrics().borrow().membership_config.clone();
        let here = |other: u64| membership.membership().get_node(&other).is_some_and(|node| node.addr == address);
        let voters: BTreeSet<u64> =
            membership.voter_ids().filter(|other| !here(*other)).chain(std::iter::once(id)).collect();
        self.raft.change_membership(voters, false).await.map_err(text)?;
        let membership = self.raft.server_metrics().borrow().membership_config.clone();
        let left: BTreeSet<u64> = membership
            .nodes()
            .filter(|(other, node)| **other != id && node.addr == address)
            .map(|(other, _)| *other)
            .collect();
        if !left.is_empty() {
            self.raft.change_membership(ChangeMembers::RemoveNodes(left), true).await.map_err(text)?;
        }
        Ok(())
    }

    /// Whether this replica asks for votes where no leader is heard.
    pub(super) fn allow_elections(&self, allow: bool) {
        self.raft.runtime_config().elect(allow);
    }

    /// Lets the library look whether an election is due.
    pub(super) fn tick(&self) {
        self.pace.tick();
    }

    /// Asks for votes now, whatever leader there is.
    pub(super) async fn elect(&self) {
        if let Err(error) = self.raft.trigger().elect().await {
            tracing::debug!(%error, "no votes were asked for");
        }
    }

    /// Whether something of the log may not have reached everybody. Learners hear nothing but by [`Consensus::spread`].
    pub(super) fn has_laggards(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let Some(reached) = &metrics.replication else { return false };
        let has_all = |id| reached.get(id).copied().flatten().map(|last| last.index) == metrics.last_log_index;
        let members = metrics.membership_config.membership();
        let (mut nodes, mut learners) = (members.nodes(), members.learner_ids());
        learners.next().is_some() || !nodes.all(|(id, _)| *id == metrics.id || has_all(id))
    }

    /// Moves on whatever of the log has not reached everybody, learners too.
    pub(super) async fn spread(&self) {
        if let Err(error) = self.raft.trigger().heartbeat().await {
            tracing::debug!(%error, "the log was not spread");
        }
    }

    /// Stops to lead. The library has no such call; but a leader, like any voter, follows whoever asks for its vote in the
    /// next term, and nobody has counted this one.
    pub(super) async fn step_down(&self) {
        let metrics = self.raft.server_metrics().borrow().clone();
        let term = metrics.vote.leader_id().term + 1;
        let Some(other) = metrics.membership_config.voter_ids().find(|id| *id != self.id().0) else { return };
        let request = VoteRequest { vote: Vote::new(term, other), last_log_id: self.store.last() };
        if let Err(error) = self.raft.vote(request).await {
            tracing::debug!(%error, "the lead was not given up");
        }
    }

    /// Answers a peer's call.
    pub(super) async fn answer(
        &self,
        cluster: ClusterId,
        kind: RaftKind,
        payload: Payload,
    ) -> Result<Option<Answer>, Unanswered> {
        let ours = self.store.adopt(cluster).await?;
        if ours != cluster {
            return Err(Unanswered::OtherCluster { theirs: cluster, ours });
        }
        let json = payload.0.get();
        let refused = |error: &dyn std::fmt::Display| Unanswered::Raft(error.to_string());
        let mut lacks = false;
        let answer = match kind {
            RaftKind::Append => {
                let answer = self.raft.append_entries(serde_json::from_str(json)?).await;
                serde_json::value::to_raw_value(&answer.map_err(|error| refused(&error))?)?
            }
            RaftKind::Vote => {
                let request: VoteRequest<u64> = serde_json::from_str(json)?;
                let asked_with = request.last_log_id;
                let answer = self.raft.vote(request).await.map_err(|error| refused(&error))?;
                lacks = !answer.vote_granted && asked_with < answer.last_log_id;
                serde_json::value::to_raw_value(&answer)?
            }
            RaftKind::Snapshot => {
                let WholeSnapshot { vote, meta, history } = serde_json::from_str(json)?;
                let snapshot = Snapshot { meta, snapshot: Box::new(history) };
                let answer = self.raft.install_full_snapshot(vote, snapshot).await;
                serde_json::value::to_raw_value(&answer.map_err(|error| refused(&error))?)?
            }
            RaftKind::Answer => return Ok(None),
        };
        Ok(Some(Answer { payload: Payload(answer), lacks }))
    }

    /// The voters of a membership, at configured addresses.
    pub(super) fn voters(&self, members: &StoredMembership) -> Vec<Voter> {
        let voter = |id: u64| {
            let address = &members.membership().get_node(&id)?.addr;
            let place = self.addresses.iter().position(|other| other == address)?;
            Some(Voter { id: ConsensusId(id), replica: ReplicaId(u8::try_from(place).ok()?) })
        };
        members.voter_ids().filter_map(voter).collect()
    }

    /// What the library's metrics say of the leadership.
    pub(super) fn leadership(&self, metrics: &RaftServerMetrics<u64, BasicNode>) -> Leadership {
        let vote = metrics.vote;
        let own = vote.leader_id().voted_for() == Some(self.id().0) && vote.is_committed();
        let own_term = (own && metrics.state == ServerState::Leader).then_some(vote.leader_id().term);
        Leadership { own_term, leader: metrics.current_leader.map(ConsensusId), term: vote.leader_id().term }
    }

    /// Why the library stopped by itself; none while it runs.
    pub(super) fn failure(&self) -> Option<String> {
        self.raft.metrics().borrow().running_state.as_ref().err().map(ToString::to_string)
    }

    /// Stops this replica's member.
    pub(super) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the consensus library panicked as it stopped");
        }
    }

    fn address(&self, replica: ReplicaId) -> &str {
        self.addresses.get(replica.index()).map_or("", String::as_str)
    }
}

fn config(me: ReplicaId, times: Times) -> Config {
    let election_ms = times.election_ms(me.index());
    Config {
        cluster_name: "primacy".to_owned(),
        election_timeout_min: election_ms,
        election_timeout_max: election_ms + 1,
        // Confirmations of the lead are calls to all voters as well, and come every heartbeat. Ticks and deadlines, which the
        // library derives from the interval, are the runtime's.
        enable_heartbeat: false,
        heartbeat_interval: election_ms / 2,
        install_snapshot_timeout: times.failure / 1_000_000,
        max_payload_entries: ENTRIES_PER_CALL_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        // A follower further behind than any snapshot gets one.
        replication_lag_threshold: 2 * ENTRIES_PER_SNAPSHOT,
        ..Config::default()
    }
}
