//! What the loop knows of its links, and what it has to complain of (V4).

use crate::clock::Moment;
use crate::link::Way;
use crate::protocol::ids::{ReplicaId, ReplicaSet};
use crate::protocol::message::LinkKind;
use crate::replication::replica::Replica;

/// How long a peer's frames may come without its acknowledgements, in ms, unless the own store is as late (V4).
const UNACKNOWLEDGED_MS_MAX: u64 = 3_000;

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
        let late_ms = |since: Option<Moment>| since.map_or(0, |since| now.nanos_since(since) / 1_000_000);
        let own_ms = late_ms(replica.unstored_since());
        let is_late = |peer: &ReplicaId| {
            let ms = late_ms(replica.unacknowledged_since(*peer));
            ms > UNACKNOWLEDGED_MS_MAX && ms > own_ms.saturating_add(UNACKNOWLEDGED_MS_MAX)
        };
        replica.counted().iter().filter(is_late).collect::<ReplicaSet>().union(self.overflowed)
    }
}
