//! Fixed membership: the only view is epoch 1, all configured replicas in sync, the first one primary. It begins once
//! every replica has met every other one.
//!
//! What this does not do: leave out a replica that has died, or take in one that comes back. The first hello fixes a
//! peer's incarnation; the links refuse another one.

use std::collections::BTreeMap;

use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use crate::protocol::view::{Member, View};

/// Waits for every replica's first hello.
#[derive(Debug)]
pub struct FixedView {
    replicas: usize,
    met: BTreeMap<ReplicaId, Incarnation>,
}

impl FixedView {
    /// Of this many replicas, one is this one.
    pub fn new(replicas: usize, me: ReplicaId, incarnation: Incarnation) -> FixedView {
        FixedView { replicas, met: BTreeMap::from([(me, incarnation)]) }
    }

    /// A peer was met; the view where it was the last one.
    pub fn met(&mut self, peer: ReplicaId, incarnation: Incarnation) -> Option<View> {
        match self.met.insert(peer, incarnation) {
            None => self.first_view(),
            Some(_) => None,
        }
    }

    /// The view, once all have been met. All replicas compute the same one.
    pub fn first_view(&self) -> Option<View> {
        if self.met.len() < self.replicas {
            return None;
        }
        let member = |(&replica, &incarnation)| Member { replica, incarnation, store: StoreId(incarnation.0) };
        let in_sync = self.met.iter().map(member).collect();
        Some(View { epoch: Epoch(1), primary: ReplicaId(0), in_sync, joining: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_begins_once_all_have_been_met_and_is_the_same_everywhere() {
        let incarnation = |replica: u8| Incarnation(100 + u64::from(replica));
        let mut first = FixedView::new(3, ReplicaId(0), incarnation(0));
        assert_eq!(first.met(ReplicaId(2), incarnation(2)), None);
        assert_eq!(first.met(ReplicaId(2), incarnation(2)), None, "a second hello changes nothing");
        let view = first.met(ReplicaId(1), incarnation(1)).expect("all have been met");
        assert_eq!(view.primary, ReplicaId(0));
        assert_eq!(view.in_sync.len(), 3);

        let mut second = FixedView::new(3, ReplicaId(1), incarnation(1));
        second.met(ReplicaId(0), incarnation(0));
        assert_eq!(second.met(ReplicaId(2), incarnation(2)), Some(view));
    }

    #[test]
    fn a_replica_alone_has_its_view_at_once() {
        assert!(FixedView::new(1, ReplicaId(0), Incarnation(7)).first_view().is_some());
    }
}
