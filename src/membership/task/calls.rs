//! The calls of the consensus group: those that come in, and those that go out.

use std::sync::Arc;

use super::{Input, Task, report};
use crate::membership::consensus::{Answer, Call};
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::{Raft, RaftKind};

impl Task {
    /// A call of a peer, or an answer to one of this replica's.
    pub(super) fn on_raft(&mut self, from: ReplicaId, raft: Raft) {
        // J5: a call for another voter id at this address is for a store that was wiped.
        if raft.to != self.consensus.id() {
            return;
        }
        let Raft { call, from: caller, to: own, cluster, kind, payload } = raft;
        let leads = kind != RaftKind::Vote && kind != RaftKind::Answer && self.leader == Some(caller);
        if leads {
            self.succession.on_call(self.clock.now());
        }
        if kind == RaftKind::Answer {
            return self.pending.answer(call, caller, payload);
        }
        let Ok(permit) = Arc::clone(&self.answering).try_acquire_owned() else {
            return tracing::debug!(from = from.0, "too many calls at once; one is lost");
        };
        let (consensus, output) = (self.consensus.clone(), self.output.clone());
        tokio::spawn(async move {
            let answer = consensus.answer(cluster, kind, payload).await;
            drop(permit);
            match answer {
                Ok(Some(Answer { payload, lacks })) => {
                    let kind = RaftKind::Answer;
                    let raft = Raft { call, from: own, to: caller, cluster, kind, payload };
                    report(&output, Input::Answer { to: from, raft, leads, lacks }).await;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(from = from.0, %error, "a call was not answered"),
            }
        });
    }

    /// The consensus library calls a peer. A heartbeat for it that waited for this goes first.
    pub(super) fn on_call(&mut self, call: Call) {
        let Some(cluster) = self.consensus.cluster() else { return };
        let Call { to, target, kind, payload, answer } = call;
        self.send_held(std::iter::once(to).collect());
        let number = self.pending.add(self.clock.now(), to, target, answer);
        let raft = Raft { call: number, from: self.consensus.id(), to: target, cluster, kind, payload };
        self.send(std::iter::once(to).collect(), raft);
    }
}
