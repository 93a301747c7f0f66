//! What the loop knows of its links, and what it has to complain of (V4).

use crate::clock::Moment;
use crate::link::Way;
use crate::protocol::ids::{ReplicaId, ReplicaSet};
use crate::protocol::message::LinkKind;
use crate::replication::replica::Replica;

/// The links that this replica dials, and those of this epoch that have failed for good.
#[derive(Debug, Default)]
pub(super) struct Peers {
    control: ReplicaSet,
    data: ReplicaSet,
    overflowed: ReplicaSet,
}

impl Peers {
    /// A dialed link is up or down; says whether both links to that peer are up now.
    pub(super) fn dialed(&mut self, peer: ReplicaId, kind: LinkKind, way: Way, up: bool) -> Option<bool> {
        if way == Way::In {
            return None;
        }
        let links = match kind {
            LinkKind::Control => &mut self.control,
            LinkKind::Data => &mut self.data,
        };
        if up {
            links.insert(peer)
        } else {
            links.remove(peer)
        }
        Some(self.control.contains(peer) && self.data.contains(peer))
    }

    /// The data link to a peer was over its bound: it carries nothing more in this epoch.
    pub(super) fn overflowed(&mut self, peer: ReplicaId) {
        self.overflowed.insert(peer);
    }

    /// A new view empties the links.
    pub(super) fn new_epoch(&mut self) {
        self.overflowed = ReplicaSet::EMPTY;
    }

    /// Whom the replica waits for in vain.
    pub(super) fn complaints(&self, replica: &Replica, now: Moment) -> ReplicaSet {
        replica.waits_in_vain_for(now).union(self.overflowed)
    }
}
