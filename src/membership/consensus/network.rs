//! The consensus library's calls as frames on the control links. Frames may be lost, so each call has a deadline and a
//! number; an answer that nobody waits for any more is dropped.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{BasicNode, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::types::{History, SnapshotMeta, ViewLog, Vote};
use crate::clock::Moment;
use crate::protocol::ids::{ConsensusId, ReplicaId};
use crate::protocol::message::{Payload, RaftKind};

/// Calls that wait to be sent. Each peer has at most a few at a time.
pub(in crate::membership) const CALLS_WAITING_MAX: usize = 256;

/// A call that shall go out.
#[derive(Debug)]
pub(in crate::membership) struct Call {
    pub(in crate::membership) to: ReplicaId,
    pub(in crate::membership) target: ConsensusId,
    pub(in crate::membership) kind: RaftKind,
    pub(in crate::membership) payload: Payload,
    /// Takes the answer; closed once nobody waits any more.
    pub(in crate::membership) answer: oneshot::Sender<Payload>,
}

/// A snapshot as one call.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::membership) struct WholeSnapshot {
    pub(in crate::membership) vote: Vote,
    pub(in crate::membership) meta: SnapshotMeta,
    pub(in crate::membership) history: History,
}

/// The calls under way, by number.
#[derive(Debug, Default)]
pub(in crate::membership) struct Pending {
    last: u64,
    calls: BTreeMap<u64, Waiting>,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Waiting {
    since: Moment,
    to: ReplicaId,
    target: ConsensusId,
    answer: oneshot::Sender<Payload>,
}

impl Pending {
    /// Numbers a call that goes out, and forgets those that nobody waits for.
    pub(in crate::membership) fn add(
        &mut self,
        now: Moment,
        to: ReplicaId,
        target: ConsensusId,
        answer: oneshot::Sender<Payload>,
    ) -> u64 {
        self.calls.retain(|_, waiting| !waiting.answer.is_closed());
        self.last += 1;
        self.calls.insert(self.last, Waiting { since: now, to, target, answer });
        self.last
    }

    /// Gives up calls that have waited for so many nanoseconds.
    pub(in crate::membership) fn expire(&mut self, now: Moment, patience: u64) {
        self.calls.retain(|_, waiting| now.nanos_since(waiting.since) <= patience);
    }

    /// An answer came from this voter.
    pub(in crate::membership) fn answer(&mut self, call: u64, from: ConsensusId, payload: Payload) {
        if self.calls.get(&call).is_some_and(|waiting| waiting.target == from)
            && let Some(waiting) = self.calls.remove(&call)
            && waiting.answer.send(payload).is_err()
        {
            tracing::debug!(call, "an answer came after its deadline");
        }
    }

    /// The link to this replica was cut, or is another one: calls that went out before are lost, or their answers.
    pub(in crate::membership) fn lose(&mut self, peer: ReplicaId) {
        self.calls.retain(|_, waiting| waiting.to != peer);
    }
}

/// Makes a peer's calls.
#[derive(Clone, Debug)]
pub(in crate::membership) struct Network {
    /// Every replica's address, in config order.
    pub(in crate::membership) addresses: Arc<[String]>,
    pub(in crate::membership) calls: mpsc::Sender<Call>,
    /// How long an unreachable peer is left alone.
    pub(in crate::membership) rest: Duration,
}

impl RaftNetworkFactory<ViewLog> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        let place = self.addresses.iter().position(|address| *address == node.addr);
        let replica = place.and_then(|place| u8::try_from(place).ok()).map(ReplicaId);
        Peer { target: ConsensusId(target), replica, network: self.clone() }
    }
}

/// One voter as a caller sees it.
#[derive(Debug)]
pub(in crate::membership) struct Peer {
    target: ConsensusId,
    /// None where the address is no longer configured.
    replica: Option<ReplicaId>,
    network: Network,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no replica of the configuration has this voter's address")]
    NoReplica,
    #[error("too many calls wait to be sent")]
    Full,
    #[error("no answer came in time")]
    Late,
    #[error("no answer came in time, the link to it was cut, or this replica stops")]
    Lost,
    #[error("the call or its answer is no JSON of the expected shape: {0}")]
    Json(#[from] serde_json::Error),
}

impl Peer {
    /// The answer; it is given up by being dropped.
    async fn call<A: DeserializeOwned>(&self, kind: RaftKind, request: &impl Serialize) -> Result<A, CallError> {
        let to = self.replica.ok_or(CallError::NoReplica)?;
        let payload = Payload(serde_json::value::to_raw_value(request)?);
        let (answer, answered) = oneshot::channel();
        let call = Call { to, target: self.target, kind, payload, answer };
        self.network.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Full,
            mpsc::error::TrySendError::Closed(_) => CallError::Lost,
        })?;
        let payload = answered.await.map_err(|_| CallError::Lost)?;
        Ok(serde_json::from_str(payload.0.get())?)
    }

    fn rpc_error<E: std::error::Error>(&self, error: CallError) -> RPCError<u64, BasicNode, E> {
        match error {
            CallError::Json(_) => RPCError::Network(NetworkError::new(&error)),
            _ => RPCError::Unreachable(Unreachable::new(&error)),
        }
    }
}

impl RaftNetwork<ViewLog> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<ViewLog>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.call(RaftKind::Append, &rpc).await;
        answer.map_err(|error| self.rpc_error(error))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.call(RaftKind::Vote, &rpc).await;
        answer.map_err(|error| self.rpc_error(error))
    }

    /// A snapshot is a few kilobytes: one call.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<ViewLog>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<ViewLog, Fatal<u64>>> {
        let deadline = option.hard_ttl();
        let whole = WholeSnapshot { vote, meta: snapshot.meta, history: *snapshot.snapshot };
        let call = tokio::time::timeout(deadline, self.call(RaftKind::Snapshot, &whole));
        call.await.unwrap_or(Err(CallError::Late)).map_err(|error| match error {
            CallError::Late => StreamingError::Timeout(Timeout {
                action: RPCTypes::InstallSnapshot,
                id: 0,
                target: self.target.0,
                timeout: deadline,
            }),
            CallError::Json(_) => StreamingError::Network(NetworkError::new(&error)),
            _ => StreamingError::Unreachable(Unreachable::new(&error)),
        })
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.network.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waits_for_too_long_is_given_up_and_its_answer_counts_for_nothing() {
        let mut pending = Pending::default();
        let (target, at) = (ConsensusId(7), |ms: u64| Moment(ms * 1_000_000));
        let (old, mut given_up) = oneshot::channel();
        let (new, mut answered) = oneshot::channel();
        let first = pending.add(at(0), ReplicaId(1), target, old);
        let second = pending.add(at(500), ReplicaId(1), target, new);
        pending.expire(at(1_001), 1_000_000_000);
        assert_eq!(given_up.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        let payload = || Payload(serde_json::value::to_raw_value("an answer").unwrap());
        pending.answer(first, target, payload());
        pending.answer(second, target, payload());
        assert_eq!(answered.try_recv().unwrap().0.get(), "\"an answer\"");
    }
}
