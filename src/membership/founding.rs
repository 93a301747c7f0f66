//! J4: who founds the consensus group of a fresh cluster, and when. Pure.

use super::controller::Voter;
use crate::protocol::ids::{ReplicaId, ReplicaSet};

/// What a replica says of its stores, in its last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stores {
    /// It, by its voter id.
    pub(super) voter: Voter,
    /// Its consensus store is empty.
    pub(super) no_group: bool,
    /// Its record store was empty at its start.
    pub(super) blank: bool,
}

/// What to do about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Founding {
    /// There is one: it takes this replica in.
    Exists,
    /// Wait for these: they were not heard, or hold records.
    Wait(ReplicaSet),
    /// Another one founds it.
    Leave,
    /// This one founds it, with these voters.
    Found(Vec<Voter>),
}

/// Decides for replica `me` of `replicas`, whose consensus store is empty, from what is known of all, itself included.
/// Without `initialize` everybody must be there; with it a majority is enough, and the first of them founds.
pub(super) fn founding(me: ReplicaId, replicas: usize, initialize: bool, known: &[Stores]) -> Founding {
    if known.iter().any(|stores| !stores.no_group) {
        return Founding::Exists;
    }
    let fresh: ReplicaSet = known.iter().filter(|stores| stores.blank).map(|stores| stores.voter.replica).collect();
    let needed = if initialize { replicas / 2 + 1 } else { replicas };
    if fresh.len() < needed {
        let all = (0..replicas).filter_map(|place| u8::try_from(place).ok()).map(ReplicaId);
        return Founding::Wait(all.filter(|replica| !fresh.contains(*replica)).collect());
    }
    if fresh.iter().next() != Some(me) {
        return Founding::Leave;
    }
    let voters = known.iter().map(|stores| stores.voter).filter(|voter| fresh.contains(voter.replica));
    Founding::Found(voters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::ConsensusId;

    fn stores(place: u8) -> Stores {
        let voter = Voter { id: ConsensusId(u64::from(place) + 10), replica: ReplicaId(place) };
        Stores { voter, no_group: true, blank: true }
    }

    fn set(places: &[u8]) -> ReplicaSet {
        places.iter().copied().map(ReplicaId).collect()
    }

    #[test]
    fn the_first_in_config_order_founds_once_all_are_there() {
        let known: Vec<Stores> = (0..3).map(stores).collect();
        let voters = known.iter().map(|stores| stores.voter).collect();
        assert_eq!(founding(ReplicaId(0), 3, false, &known), Founding::Found(voters));
        assert_eq!(founding(ReplicaId(1), 3, false, &known), Founding::Leave);
        assert_eq!(founding(ReplicaId(0), 3, false, &known[..2]), Founding::Wait(set(&[2])));
    }

    #[test]
    fn initialize_settles_for_a_majority_of_which_the_first_founds() {
        let known = [stores(1), stores(2)];
        assert_eq!(founding(ReplicaId(1), 3, false, &known), Founding::Wait(set(&[0])));
        assert_eq!(founding(ReplicaId(1), 3, true, &known), Founding::Found(vec![known[0].voter, known[1].voter]));
        assert_eq!(founding(ReplicaId(2), 3, true, &known), Founding::Leave);
        assert_eq!(founding(ReplicaId(1), 3, true, &known[..1]), Founding::Wait(set(&[0, 2])));
    }

    #[test]
    fn where_one_has_a_group_nobody_founds_another() {
        let known = [stores(0), Stores { no_group: false, ..stores(1) }, stores(2)];
        assert_eq!(founding(ReplicaId(0), 3, true, &known), Founding::Exists);
    }

    #[test]
    fn a_store_with_records_is_waited_for_since_no_view_could_say_who_holds_them() {
        let known = [stores(0), Stores { blank: false, ..stores(1) }];
        assert_eq!(founding(ReplicaId(0), 2, false, &known), Founding::Wait(set(&[1])));
    }
}
