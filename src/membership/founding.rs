//! J4: who founds the consensus group of a fresh cluster, and when. Pure.

use super::controller::Voter;
use crate::protocol::ids::{ReplicaId, ReplicaSet, StoreId};
use crate::protocol::view::View;

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

/// J5: what a cluster may lose that is begun anew with this replica's store alone, by the last view that it knew.
pub(super) fn loss(view: Option<&View>, me: ReplicaId, store: StoreId, addresses: &[String]) -> String {
    let name = |replica: ReplicaId| addresses.get(replica.index()).map_or("?", String::as_str);
    let Some(view) = view else {
        return format!("{} knows of no view: it was never in sync, and all notes may be lost", name(me));
    };
    let in_sync: Vec<&str> = view.in_sync.iter().map(|member| name(member.replica)).collect();
    let was_in_sync = view.in_sync.iter().any(|member| member.replica == me && member.store == store);
    let lost = match was_in_sync {
        true => "holds all that was acknowledged in it; lost are the writes of later views, if there were any",
        false => "was not in sync in it: lost are all writes since it was; another replica's folder may hold more",
    };
    let (epoch, in_sync) = (view.epoch, in_sync.join(", "));
    format!("the last view that this folder knows is {epoch}, with {in_sync} in sync; {} {lost}", name(me))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{ConsensusId, Epoch, Incarnation};
    use crate::protocol::view::Member;

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

    #[test]
    fn who_begins_anew_says_what_may_be_lost() {
        let names = ["a:1", "b:1", "c:1"].map(str::to_owned);
        let member =
            |replica| Member { replica, incarnation: Incarnation(7), store: StoreId(70 + u64::from(replica.0)) };
        let in_sync = [ReplicaId(0), ReplicaId(2)].map(member).to_vec();
        let view = View { epoch: Epoch(12), primary: ReplicaId(0), in_sync, joining: Vec::new() };
        let said = |me, store| loss(Some(&view), ReplicaId(me), StoreId(store), &names);
        assert!(
            said(2, 72).starts_with("the last view that this folder knows is 12, with a:1, c:1 in sync; c:1 holds all")
        );
        assert!(said(2, 99).contains("c:1 was not in sync"), "its store is another one");
        assert!(said(1, 71).contains("b:1 was not in sync"));
        assert!(loss(None, ReplicaId(1), StoreId(1), &names).contains("b:1 knows of no view"));
    }
}
