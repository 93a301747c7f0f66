//! Who leaves the view: the dead, the cut off, those who stop; and whether their leases are over.

use std::collections::BTreeSet;

use super::{Controller, Removal};
use crate::clock::Moment;
use crate::protocol::ids::{ReplicaId, ReplicaSet};
use crate::protocol::message::Heartbeat;
use crate::protocol::view::{Member, View};

/// Two members between whom nothing comes through, the smaller first.
type Pair = (ReplicaId, ReplicaId);

/// Members whom the next view shall not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaving {
    /// All of them: from the decision on they are granted nothing (R5).
    pub(super) decided: ReplicaSet,
    /// Those of them whose lease is over: a view may leave them out now.
    pub(super) ready: ReplicaSet,
    /// Those of them who are dead, or whose lease is all that is left.
    pub(super) dead: ReplicaSet,
}

impl Leaving {
    /// Those who are dead, and whose lease is over.
    pub(super) fn dead_for_good(self) -> ReplicaSet {
        self.dead.iter().filter(|replica| self.ready.contains(*replica)).collect()
    }
}

impl Controller {
    /// Who shall leave, as of now.
    pub(super) fn leaving(&mut self) -> Leaving {
        let Some(view) = self.view.clone() else { return Leaving::default() };
        let dead: ReplicaSet = view.members().filter(|member| self.is_dead(member)).map(|m| m.replica).collect();
        let stopping = self.stopping(&view, dead);
        let cut = self.cut(&view, dead.union(stopping));
        let over = |set: ReplicaSet, controller: &mut Self| -> ReplicaSet {
            set.iter().filter(|replica| controller.lease_is_over(&view, *replica)).collect()
        };
        let mut ready = over(dead.union(stopping), self);
        // V4: all cut pairs are resolved by one view.
        if over(cut, self) == cut {
            ready = ready.union(cut);
        }
        Leaving { decided: dead.union(stopping).union(cut), ready, dead }
    }

    /// Dead, but for the lease: a newer incarnation was seen, or it was silent for the failure timeout.
    fn is_dead(&mut self, member: &Member) -> bool {
        let silent_from = super::later(self.heard[member.replica.index()], self.setup.times.failure);
        self.is_superseded(member) || self.reached(silent_from)
    }

    /// Whether a newer incarnation of this member was seen: one that knows the view which lists the member has started
    /// after the member was seen. Another one that does not know it may be the older of the two, and its frames late.
    pub(super) fn is_superseded(&self, member: &Member) -> bool {
        let sighting = self.sightings.get(member.replica.index()).and_then(Option::as_ref);
        sighting.is_some_and(|sighting| {
            sighting.incarnation != member.incarnation && sighting.heartbeat.view >= self.epoch()
        })
    }

    /// V11: who asked to stop, as long as enough others stay in sync.
    fn stopping(&self, view: &View, dead: ReplicaSet) -> ReplicaSet {
        let majority = self.setup.replicas / 2 + 1;
        let needed = self.setup.min_in_sync.max(majority);
        let mut staying = view.in_sync.iter().filter(|member| !dead.contains(member.replica)).count();
        let mut stopping = ReplicaSet::EMPTY;
        for member in view.members().filter(|member| !dead.contains(member.replica) && self.asked_to_stop(member)) {
            let in_sync = view.in_sync.contains(member);
            if in_sync && staying <= needed {
                continue;
            }
            staying -= usize::from(in_sync);
            stopping.insert(member.replica);
        }
        stopping
    }

    /// V11: who takes the lead over from a controller that has stopped and is left out: the first in sync that goes on.
    pub fn successor_of(&self, leader: ReplicaId) -> Option<ReplicaId> {
        let stops = |replica: ReplicaId| {
            let sighting = self.sightings.get(replica.index()).and_then(Option::as_ref);
            sighting.is_some_and(|sighting| sighting.heartbeat.stopping)
        };
        let view = self.view.as_ref().filter(|view| stops(leader) && view.incarnation_of(leader).is_none())?;
        view.in_sync.iter().map(|member| member.replica).find(|replica| !stops(*replica))
    }

    fn asked_to_stop(&self, member: &Member) -> bool {
        self.sighting_of(member).is_some_and(|sighting| sighting.heartbeat.stopping)
    }

    /// R5: whether nobody can read by a lease of this member any more.
    fn lease_is_over(&mut self, view: &View, replica: ReplicaId) -> bool {
        let given_back = view
            .members()
            .filter(|member| member.replica == replica)
            .any(|member| self.is_superseded(member) || self.asked_to_stop(member));
        let Some(lead) = &self.lead else { return false };
        let own = lead.grants.end_of(replica);
        // Another controller may have granted until this one was elected, or this process before it started again.
        let others = self.setup.times.lease_end(lead.since);
        given_back || self.reached(own.max(others))
    }

    /// V4: takes over the complaints of a member of the view.
    pub(super) fn note_complaints(&mut self, from: ReplicaId, heartbeat: &Heartbeat) {
        if heartbeat.view != self.epoch() {
            return;
        }
        self.complaints.retain(|(complainer, about), _| *complainer != from || heartbeat.cut.contains(*about));
        for about in heartbeat.cut.iter().filter(|about| *about != from) {
            self.complaints.entry((from, about)).or_insert(self.now);
        }
    }

    /// V4: whom to leave out so that no cut pair is left, one more heartbeat after the first complaint.
    fn cut(&mut self, view: &View, leaving: ReplicaSet) -> ReplicaSet {
        let Some(first) = self.complaints.values().min().copied() else { return ReplicaSet::EMPTY };
        let one_more_heartbeat = self.setup.times.heartbeat * 3 / 2;
        if !self.reached(super::later(first, one_more_heartbeat)) {
            return ReplicaSet::EMPTY;
        }
        // Of who may be about to die, silence decides, not pairs.
        let fresh = view.members().filter(|member| self.fresh_sighting_of(member).is_some());
        let fresh: ReplicaSet = fresh.map(|member| member.replica).collect();
        let here = |replica: &ReplicaId| fresh.contains(*replica) && !leaving.contains(*replica);
        let mut pairs: BTreeSet<Pair> = self
            .complaints
            .keys()
            .filter(|(from, about)| here(from) && here(about))
            .map(|(from, about)| (*from.min(about), *from.max(about)))
            .collect();
        let mut cut = ReplicaSet::EMPTY;
        while let Some(worst) = worst(&pairs, view, leaving.union(cut)) {
            pairs.retain(|(one, other)| *one != worst && *other != worst);
            cut.insert(worst);
        }
        cut
    }

    /// V4: notes that a view left out a member that may be alive; a restart or a stop counts nothing.
    pub(super) fn note_removal(&mut self, member: &Member) {
        let (now, memory) = (self.now, self.setup.times.penalty_memory());
        self.removals.retain(|removal| now.nanos_since(removal.at) < memory);
        if self.is_superseded(member) || self.asked_to_stop(member) {
            return;
        }
        let Member { replica, incarnation, .. } = *member;
        // Another incarnation's removals count no more: it restarted.
        self.removals.retain(|removal| removal.replica != replica || removal.incarnation == incarnation);
        self.removals.push(Removal { replica, incarnation, at: now });
    }

    /// V4: until when this incarnation waits, if it was left out alive.
    pub(super) fn waits_until(&self, replica: ReplicaId, incarnation: crate::protocol::ids::Incarnation) -> Moment {
        let counts = |removal: &&Removal| {
            let young = self.now.nanos_since(removal.at) < self.setup.times.penalty_memory();
            removal.replica == replica && removal.incarnation == incarnation && young
        };
        let count = self.removals.iter().filter(counts).count();
        let last = self.removals.iter().filter(counts).map(|removal| removal.at).max();
        let penalty = self.setup.times.penalty(u32::try_from(count).unwrap_or(u32::MAX));
        last.map_or(Moment(0), |last| super::later(last, penalty))
    }
}

/// The member in most cut pairs. Of several: not the primary, rather a joiner, then the last in config order. Never the
/// last one in sync (V2).
fn worst(pairs: &BTreeSet<Pair>, view: &View, leaving: ReplicaSet) -> Option<ReplicaId> {
    let in_sync = view.in_sync_set();
    let staying = in_sync.iter().filter(|replica| !leaving.contains(*replica)).count();
    let count = |replica: ReplicaId| pairs.iter().filter(|(one, other)| *one == replica || *other == replica).count();
    let candidates = pairs.iter().flat_map(|(one, other)| [*one, *other]);
    candidates
        .filter(|replica| staying > 1 || !in_sync.contains(*replica))
        .max_by_key(|replica| (count(*replica), *replica != view.primary, !in_sync.contains(*replica), *replica))
}
