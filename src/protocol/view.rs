//! Views: who is in sync, who joins, who is the primary.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, Incarnation, ReplicaId, ReplicaSet, StoreId};

/// A member of a view: a replica in one incarnation, with one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which replica.
    pub replica: ReplicaId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its record store.
    pub store: StoreId,
}

/// One view (V1). Views are agreed through the consensus log; there is one for each epoch (invariant 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its number.
    pub epoch: Epoch,
    /// The member that leads recovery, is every item's primary in remote-write, and in local-write the primary of those
    /// items whose own is not in sync.
    pub primary: ReplicaId,
    /// Who holds every committed record; never empty, in config order.
    pub in_sync: Vec<Member>,
    /// Who gets all updates and copies the rest, in config order.
    pub joining: Vec<Member>,
}

impl View {
    /// The in-sync replicas.
    pub fn in_sync_set(&self) -> ReplicaSet {
        self.in_sync.iter().map(|member| member.replica).collect()
    }

    /// The joining replicas.
    pub fn joining_set(&self) -> ReplicaSet {
        self.joining.iter().map(|member| member.replica).collect()
    }

    /// Everybody in the view.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.in_sync.iter().chain(&self.joining)
    }

    /// The incarnation in which `replica` is in this view.
    pub fn incarnation_of(&self, replica: ReplicaId) -> Option<Incarnation> {
        self.members().find(|member| member.replica == replica).map(|member| member.incarnation)
    }
}
