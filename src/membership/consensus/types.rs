//! What the consensus group agrees on: views, each naming the epoch that it follows.

use openraft::BasicNode;
use serde::{Deserialize, Serialize};

use super::runtime::Runtime;
use crate::protocol::ids::Epoch;
use crate::protocol::view::View;

openraft::declare_raft_types!(
    /// The types of the consensus library. A node's id is the [`crate::protocol::ids::ConsensusId`] of its store, its
    /// address that of its replica.
    pub(in crate::membership) ViewLog:
        D = Proposal,
        R = Verdict,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<ViewLog>,
        SnapshotData = History,
        AsyncRuntime = Runtime,
);

/// An entry of the log.
pub(in crate::membership) type Entry = openraft::Entry<ViewLog>;
/// An entry's place in the log.
pub(in crate::membership) type LogId = openraft::LogId<u64>;
/// A vote.
pub(in crate::membership) type Vote = openraft::Vote<u64>;
/// The group's members.
pub(in crate::membership) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
/// What a snapshot covers.
pub(in crate::membership) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
/// What is wrong with the log's store.
pub(in crate::membership) type StorageError = openraft::StorageError<u64>;

/// What an entry proposes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::membership) enum Proposal {
    /// Nothing: a new leader appends it to learn when all before it is applied.
    Nothing,
    /// V1: this view, if `follows` is the newest epoch when the entry is applied.
    View {
        /// The epoch that it follows, 0 where there is none.
        follows: Epoch,
        /// The view.
        view: View,
    },
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Proposal::Nothing => f.write_str("nothing"),
            Proposal::View { follows, view } => write!(f, "view {} after {follows}", view.epoch),
        }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::membership) enum Verdict {
    /// Its view is the newest now.
    Agreed,
    /// It proposed nothing, or followed an epoch that is not the newest (V1).
    Void,
}

/// Views that a replica remembers: the newest one counts, those before it are for people who look into a data folder.
pub(in crate::membership) const VIEWS_KEPT: usize = 8;

/// The state that the log makes: the last few views, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::membership) struct History {
    views: Vec<View>,
}

impl History {
    /// The newest view.
    pub(in crate::membership) fn newest(&self) -> Option<&View> {
        self.views.last()
    }

    /// The newest epoch, 0 before the first view.
    pub(in crate::membership) fn epoch(&self) -> Epoch {
        self.newest().map_or(Epoch(0), |view| view.epoch)
    }

    /// Applies an entry's proposal.
    pub(in crate::membership) fn apply(&mut self, proposal: Proposal) -> Verdict {
        let Proposal::View { follows, view } = proposal else { return Verdict::Void };
        if follows != self.epoch() || view.epoch <= follows {
            return Verdict::Void;
        }
        if self.views.len() == VIEWS_KEPT {
            self.views.remove(0);
        }
        self.views.push(view);
        Verdict::Agreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::ReplicaId;

    fn proposal(follows: u64, epoch: u64) -> Proposal {
        let view = View { epoch: Epoch(epoch), primary: ReplicaId(0), in_sync: Vec::new(), joining: Vec::new() };
        Proposal::View { follows: Epoch(follows), view }
    }

    #[test]
    fn v1_an_entry_that_does_not_follow_the_newest_epoch_is_void() {
        let mut history = History::default();
        assert_eq!(history.apply(proposal(0, 1)), Verdict::Agreed);
        assert_eq!(history.apply(proposal(0, 2)), Verdict::Void, "it was proposed before view 1");
        assert_eq!(history.apply(proposal(1, 1)), Verdict::Void, "epochs grow");
        assert_eq!(history.apply(Proposal::Nothing), Verdict::Void);
        assert_eq!(history.apply(proposal(1, 2)), Verdict::Agreed);
        assert_eq!(history.epoch(), Epoch(2));
    }

    #[test]
    fn only_the_last_views_are_kept() {
        let mut history = History::default();
        for epoch in 0..100 {
            history.apply(proposal(epoch, epoch + 1));
        }
        assert_eq!(history.views.len(), VIEWS_KEPT);
        assert_eq!(history.epoch(), Epoch(100));
    }
}
