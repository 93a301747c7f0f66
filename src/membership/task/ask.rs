//! What the controller wants, asked of the consensus group: each question in a task of its own, since a majority may be away.

use std::time::Duration;

use super::{Input, Task};
use crate::clock::Moment;
use crate::membership::controller::{Action, Event};
use crate::membership::founding::{Founding, Stores, founding};
use crate::membership::{Begin, MembershipEvent};
use crate::protocol::ids::{ClusterId, ReplicaId, ReplicaSet};
use crate::protocol::message::Lease;

/// How many failure timeouts the replacement of a voter may take: the learner copies the log first.
const REPLACEMENT_FAILURE_TIMEOUTS: u32 = 10;

/// Replicas that are started together find each other sooner; only who is missing after it is worth a line.
const WAITING_TOLD_AFTER: u64 = 1_000_000_000;

impl Task {
    pub(super) fn carry_out(&mut self, action: Action) {
        let consensus = self.consensus.clone();
        let patience = Duration::from_nanos(self.times.failure);
        match action {
            Action::Establish { number } => self.spawn(async move {
                let applied = consensus.establish().await;
                Input::Answered(Event::Established { number, applied })
            }),
            Action::Propose { number, follows, view } => self.spawn(async move {
                consensus.propose(follows, view).await;
                Input::Answered(Event::Decided { number })
            }),
            Action::Confirm { number } => {
                self.calls_soon = true;
                self.spawn(async move {
                    let leads = consensus.confirm().await;
                    Input::Answered(Event::Confirmed { number, leads })
                });
            }
            Action::ReplaceVoter { number, voter } => self.spawn(async move {
                match tokio::time::timeout(REPLACEMENT_FAILURE_TIMEOUTS * patience, consensus.replace_voter(voter))
                    .await
                {
                    Ok(Ok(())) => tracing::info!(replica = voter.replica.0, id = %voter.id, "a voter was replaced"),
                    Ok(Err(error)) => tracing::warn!(replica = voter.replica.0, error, "a voter was not replaced"),
                    Err(_) => tracing::warn!(replica = voter.replica.0, "replacing a voter took too long"),
                }
                Input::Answered(Event::Replaced { number })
            }),
            Action::Grant { to, nonce, .. } => self.grant(to, nonce),
        }
    }

    fn grant(&mut self, to: ReplicaId, nonce: u64) {
        match to == self.me {
            true => self.own_lease = Some(nonce),
            false => self.send(std::iter::once(to).collect(), Lease { nonce }),
        }
    }

    /// J4. Who was not started with the others is told of, once it is late.
    pub(super) async fn found(&mut self) {
        let now = self.clock.now();
        let fresh = |(at, stores): (Moment, Stores)| (now.nanos_since(at) <= self.times.failure).then_some(stores);
        let known: Vec<Stores> = self.stores.iter().flatten().copied().filter_map(fresh).collect();
        let decision = match self.begin {
            Begin::Alone { .. } => {
                let own = known.iter().filter(|stores| stores.voter.replica == self.me);
                Founding::Found(own.map(|stores| stores.voter).collect())
            }
            begin => founding(self.me, self.replicas, begin == Begin::WithMajority, &known),
        };
        let whom = match &decision {
            Founding::Wait(whom) => *whom,
            _ => ReplicaSet::EMPTY,
        };
        let is_late = now.nanos_since(self.begun) >= WAITING_TOLD_AFTER;
        if whom != self.waiting && is_late {
            self.waiting = whom;
            self.tell(MembershipEvent::Waiting { whom }).await;
        }
        if let Founding::Found(voters) = decision {
            self.founding = true;
            let (consensus, cluster) = (self.consensus.clone(), self.random.draw().map(ClusterId));
            self.spawn(async move {
                let cluster = match cluster {
                    Ok(cluster) => cluster,
                    Err(error) => return Input::Founded(Err(error.to_string())),
                };
                Input::Founded(consensus.found(cluster, voters).await.map_err(|error| error.to_string()))
            });
        }
    }
}
