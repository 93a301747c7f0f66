//! An oracle in place of controller and consensus: an atomic log of views that follows V1, V2, R5 and J1, and leases.

use primacy::clock::Moment;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use primacy::protocol::view::{Member, View};

use super::mutants::Mutant;
use super::plan::{DRIFT_MARGIN, FAILURE_TIMEOUT, LEASE};

/// What the oracle knows of a replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Its newest incarnation and store, as its last heartbeat said.
    pub(crate) member: Member,
    /// When the last heartbeat came.
    pub(crate) heard_at: u64,
    /// When its newest lease was granted.
    granted_at: u64,
    /// The incarnation that is to be left out: it is granted nothing more.
    leaving: Option<Incarnation>,
    /// It does not join before.
    joins_after: u64,
}

/// What the oracle can see of the world as it decides.
pub(crate) struct Sight {
    pub(crate) now: u64,
    /// How many processes are up: without a majority nothing is decided.
    pub(crate) up: usize,
    /// The incarnations of those.
    pub(crate) alive: Vec<Incarnation>,
    /// Pairs of replicas that have not heard from each other for the failure timeout.
    pub(crate) cut_pairs: Vec<(ReplicaId, ReplicaId)>,
    /// Pairs of replicas whose links are not all live.
    pub(crate) apart: Vec<(ReplicaId, ReplicaId)>,
}

/// The oracle.
#[derive(Debug)]
pub(crate) struct Council {
    /// All views, by epoch from 1.
    pub(crate) log: Vec<View>,
    known: Vec<Known>,
    ppm: i64,
    /// Since when everybody who is in sync has been dead, and one of them is back.
    all_dead_since: Option<u64>,
    pub(crate) revivals: u64,
    pub(crate) removals: u64,
    pub(crate) joins: u64,
    pub(crate) synced: u64,
    /// The rule that is switched off.
    pub(crate) mutant: Option<Mutant>,
}

impl Council {
    /// The first view: everybody is in sync, with an empty store (J4).
    pub(crate) fn new(members: Vec<Member>, ppm: i64) -> Council {
        let known = members
            .iter()
            .map(|member| Known { member: *member, heard_at: 0, granted_at: 0, leaving: None, joins_after: 0 })
            .collect();
        let view = View { epoch: Epoch(1), primary: ReplicaId(0), in_sync: members, joining: Vec::new() };
        Council {
            log: vec![view],
            known,
            ppm,
            all_dead_since: None,
            revivals: 0,
            removals: 0,
            joins: 0,
            synced: 0,
            mutant: None,
        }
    }

    pub(crate) fn newest(&self) -> &View {
        self.log.last().expect("there is a first view")
    }

    /// The time that its own clock takes to count so many nanoseconds.
    fn time_for(&self, nanos: u64) -> u64 {
        (i128::from(nanos) * 1_000_000 / i128::from(1_000_000 + self.ppm)) as u64
    }

    /// A heartbeat has come, sent at this moment of its sender's clock. Says until when the sender may read.
    pub(crate) fn hear(&mut self, member: Member, sent: Moment, now: u64, up: usize) -> Option<Moment> {
        let majority = up * 2 > self.known.len();
        let in_sync = is_in(&self.newest().in_sync, member);
        let known = &mut self.known[member.replica.index()];
        known.heard_at = now;
        known.member = member;
        let granted = majority && in_sync && known.leaving != Some(member.incarnation);
        if granted {
            known.granted_at = now;
        }
        let endless = self.mutant == Some(Mutant::EndlessLease);
        granted.then_some(if endless { Moment::NEVER } else { Moment(sent.0 + LEASE) })
    }

    /// False suspicion: the replica is to be left out, once that is allowed.
    pub(crate) fn suspect(&mut self, replica: ReplicaId, joins_after: u64) {
        if let Some(incarnation) = self.newest().incarnation_of(replica) {
            let known = &mut self.known[replica.index()];
            known.leaving = Some(incarnation);
            known.joins_after = joins_after;
        }
    }

    /// A joiner reports synced (V1): it is taken in where the view is still the same.
    pub(crate) fn take_in(
        &mut self,
        replica: ReplicaId,
        incarnation: Incarnation,
        epoch: Epoch,
        store: StoreId,
    ) -> bool {
        let view = self.newest();
        let joins = view.joining.iter().any(|it| it.replica == replica && it.incarnation == incarnation);
        if view.epoch != epoch || !joins {
            return false;
        }
        let mut next = view.clone();
        next.joining.retain(|member| member.replica != replica);
        next.in_sync.push(Member { replica, incarnation, store });
        next.in_sync.sort_by_key(|member| member.replica);
        self.synced += 1;
        self.append(next);
        true
    }

    fn append(&mut self, mut next: View) {
        next.epoch = Epoch(self.newest().epoch.0 + 1);
        if !next.in_sync.iter().any(|member| member.replica == next.primary) {
            next.primary = next.in_sync[0].replica;
        }
        for known in &mut self.known {
            let stays = next.incarnation_of(known.member.replica).is_some_and(|it| known.leaving == Some(it));
            if !stays {
                known.leaving = None;
            }
        }
        self.log.push(next);
    }

    /// Makes the next view, where one is due. Says whether it did.
    pub(crate) fn decide(&mut self, sight: &Sight) -> bool {
        sight.up * 2 > self.known.len() && (self.revive(sight) || self.leave_out(sight) || self.let_join(sight))
    }

    fn is_silent(&self, member: &Member, sight: &Sight) -> bool {
        let heard = self.known[member.replica.index()].heard_at;
        sight.now > heard + self.time_for(FAILURE_TIMEOUT)
    }

    /// R5: its last lease has run out, or a newer incarnation was seen.
    fn may_leave(&self, member: &Member, sight: &Sight) -> bool {
        let known = &self.known[member.replica.index()];
        let lease_is_over = sight.now > known.granted_at + self.time_for(LEASE + DRIFT_MARGIN);
        let mutant = self.mutant == Some(Mutant::NoWaitForLease);
        known.member.incarnation != member.incarnation || lease_is_over || mutant
    }

    fn is_dead(&self, member: &Member, sight: &Sight) -> bool {
        let newer = self.known[member.replica.index()].member.incarnation != member.incarnation;
        newer || (self.is_silent(member, sight) && self.may_leave(member, sight))
    }

    /// J1: everybody who was in sync is dead, so those who come back with their stores are in sync.
    fn revive(&mut self, sight: &Sight) -> bool {
        let view = self.newest().clone();
        if !view.in_sync.iter().all(|member| self.is_dead(member, sight)) {
            self.all_dead_since = None;
            return false;
        }
        let any = self.mutant == Some(Mutant::AnyStoreRevived);
        let back: Vec<Member> = self
            .known
            .iter()
            .filter(|known| sight.now <= known.heard_at + self.time_for(FAILURE_TIMEOUT))
            .map(|known| known.member)
            .filter(|member| sight.alive.contains(&member.incarnation))
            .filter(|member| {
                view.in_sync.iter().any(|it| it.replica == member.replica && it.store == member.store) || any
            })
            .collect();
        if back.is_empty() {
            return false;
        }
        let all = back.len() == view.in_sync.len();
        let since = *self.all_dead_since.get_or_insert(sight.now);
        if !all && sight.now < since + self.time_for(FAILURE_TIMEOUT) {
            return false;
        }
        let next = View { in_sync: back, joining: Vec::new(), ..view };
        self.all_dead_since = None;
        self.revivals += 1;
        self.append(next);
        true
    }

    /// Leaves out who is dead, suspected, or in most cut pairs, all in one view.
    fn leave_out(&mut self, sight: &Sight) -> bool {
        let view = self.newest().clone();
        let silent: Vec<Member> = view.members().filter(|member| self.is_silent(member, sight)).copied().collect();
        for member in silent {
            self.known[member.replica.index()].leaving = Some(member.incarnation);
        }
        self.choose_of_cut_pairs(&view, sight);
        let leaves = |member: &Member| {
            let known = &self.known[member.replica.index()];
            let decided = known.leaving == Some(member.incarnation) || known.member.incarnation != member.incarnation;
            decided && (!is_in(&view.in_sync, *member) || self.may_leave(member, sight))
        };
        let stays = |members: &[Member]| -> Vec<Member> { members.iter().filter(|it| !leaves(it)).copied().collect() };
        let next = View { in_sync: stays(&view.in_sync), joining: stays(&view.joining), ..view.clone() };
        let left_out = view.members().count() - next.members().count();
        if next.in_sync.is_empty() {
            // Nobody could go on (V2): the suspicion is dropped.
            self.known.iter_mut().for_each(|known| known.leaving = None);
        }
        // Where all who would stay are dead, too, the stores of those who have started again are all that is left (J1).
        let somebody_lives = next.in_sync.iter().any(|member| sight.alive.contains(&member.incarnation));
        if left_out == 0 || !somebody_lives {
            return false;
        }
        self.removals += left_out as u64;
        self.append(next);
        true
    }

    /// V4: the member in most cut pairs is to leave, until no pair is left.
    fn choose_of_cut_pairs(&mut self, view: &View, sight: &Sight) {
        let stays = |known: &[Known], replica: ReplicaId| {
            view.incarnation_of(replica).is_some_and(|it| known[replica.index()].leaving != Some(it))
        };
        loop {
            let cut = |replica: ReplicaId| {
                let both = |pair: &&(ReplicaId, ReplicaId)| stays(&self.known, pair.0) && stays(&self.known, pair.1);
                sight.cut_pairs.iter().filter(both).filter(|pair| pair.0 == replica || pair.1 == replica).count()
            };
            let worst = view
                .members()
                .map(|member| member.replica)
                .max_by_key(|replica| (cut(*replica), *replica != view.primary, replica.0));
            let Some(worst) = worst.filter(|replica| cut(*replica) > 0) else { return };
            self.suspect(worst, sight.now + FAILURE_TIMEOUT);
        }
    }

    /// V1: who asks to join and has live links to every member does.
    fn let_join(&mut self, sight: &Sight) -> bool {
        let view = self.newest();
        let joiner = self.known.iter().find(|known| {
            let replica = known.member.replica;
            let linked = view.members().all(|member| {
                !sight.apart.contains(&(replica, member.replica)) && !sight.apart.contains(&(member.replica, replica))
            });
            let heard = sight.now <= known.heard_at + FAILURE_TIMEOUT / 4;
            view.incarnation_of(replica).is_none() && heard && linked && sight.now >= known.joins_after
        });
        let Some(member) = joiner.map(|known| known.member) else { return false };
        let mut next = view.clone();
        let members = match self.mutant {
            Some(Mutant::JoinsWithoutCopy) => &mut next.in_sync,
            _ => &mut next.joining,
        };
        members.push(member);
        members.sort_by_key(|member| member.replica);
        self.joins += 1;
        self.append(next);
        true
    }
}

/// Whether a replica is among these members, in this incarnation.
fn is_in(members: &[Member], member: Member) -> bool {
    members.iter().any(|it| it.replica == member.replica && it.incarnation == member.incarnation)
}
