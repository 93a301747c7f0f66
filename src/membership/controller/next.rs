//! The view that follows.

use super::leave::Leaving;
use super::{Action, Controller, Sighting};
use crate::clock::Moment;
use crate::protocol::ids::{Epoch, ReplicaId, ReplicaSet};
use crate::protocol::view::{Member, View};

impl Controller {
    /// V1: proposes the next view, if the state calls for one and no proposal is under way.
    pub(super) fn propose(&mut self) {
        if self.lead.as_ref().is_none_or(|lead| lead.proposed.is_some()) {
            return;
        }
        let Some(next) = self.next_view().filter(|_| self.led_lately()) else { return };
        debug_assert!(!next.in_sync.is_empty() && next.epoch > self.epoch(), "a view {next:?} after {}", self.epoch());
        let (number, follows) = (self.next_number(), self.epoch());
        if let Some(lead) = &mut self.lead {
            lead.proposed = Some((number, next.clone()));
        }
        self.actions.push(Action::Propose { number, follows, view: next });
    }

    fn next_view(&mut self) -> Option<View> {
        let Some(view) = self.view.clone() else { return self.first_view() };
        let leaving = self.leaving();
        let changed = self.changed(&view, leaving);
        let someone_is_there = self.keeps_a_witness(&view, &changed);
        let back = self.back(&view);
        if !someone_is_there {
            return self.revived(&view, leaving, back);
        }
        if changed != view {
            return Some(succeed(&view, changed));
        }
        let admitted = self.admitted(&view);
        (admitted != view).then(|| succeed(&view, admitted))
    }

    /// V1, V2: the members without those who leave; joiners who are synced are in sync.
    fn changed(&self, view: &View, leaving: Leaving) -> View {
        let stays = |member: &&Member| !leaving.ready.contains(member.replica);
        let mut next = View { in_sync: Vec::new(), joining: Vec::new(), ..view.clone() };
        next.in_sync.extend(view.in_sync.iter().filter(stays));
        for member in view.joining.iter().filter(stays) {
            match self.synced(member).filter(|_| !leaving.decided.contains(member.replica)) {
                Some(member) => next.in_sync.push(member),
                None => next.joining.push(*member),
            }
        }
        next
    }

    /// J3: a joining member that reported under this view that it has everything, with its new store.
    fn synced(&self, member: &Member) -> Option<Member> {
        let sighting = self.sighting_of(member)?;
        let reported = sighting.heartbeat.synced == Some(self.epoch()) && !sighting.heartbeat.stopping;
        reported.then_some(Member { store: sighting.heartbeat.store, ..*member })
    }

    /// V1: the members, and those who ask to join and have live links, both ways, with every member.
    fn admitted(&mut self, view: &View) -> View {
        let mut next = view.clone();
        for replica in self.all() {
            if let Some(member) = self.asks_to_join(&next, replica) {
                next.joining.push(member);
            }
        }
        next
    }

    fn asks_to_join(&mut self, view: &View, replica: ReplicaId) -> Option<Member> {
        let epoch = self.epoch();
        let Sighting { incarnation, heartbeat, .. } = self.fresh(replica)?;
        let member = Member { replica, incarnation: *incarnation, store: heartbeat.store };
        // Who does not know the newest view does not yet know that it must join.
        let knows = heartbeat.view == epoch && !heartbeat.stopping;
        let others: ReplicaSet = view.members().map(|member| member.replica).collect();
        let linked = heartbeat.hears.is_superset(others);
        let hears_it =
            |other: ReplicaId| self.fresh(other).is_some_and(|sighting| sighting.heartbeat.hears.contains(replica));
        let asks = knows && linked && !others.contains(replica) && others.iter().all(hears_it);
        let waits_until = self.waits_until(replica, member.incarnation);
        (asks && self.reached(waits_until)).then_some(member)
    }

    /// Whether somebody who stays in sync is there for certain, since heard after those who leave had started again. Else
    /// all may have died together, and the view would name one that never comes back the last in sync, while the stores
    /// of the others are here.
    fn keeps_a_witness(&self, view: &View, next: &View) -> bool {
        let stays = |member: &&Member| next.in_sync.iter().any(|other| other.replica == member.replica);
        let mut left = view.in_sync.iter().filter(|member| !stays(member)).peekable();
        if left.peek().is_none() {
            return true;
        }
        let restarted = left
            .filter(|member| self.is_superseded(member))
            .filter_map(|member| self.sightings.get(member.replica.index())?.as_ref())
            .map(|sighting| sighting.since)
            .max();
        next.in_sync.iter().filter_map(|member| self.fresh_sighting_of(member)).any(|seen| Some(seen.at) > restarted)
    }

    /// J1: who has come back after everybody in sync died; the time for the rest runs from the first.
    fn back(&mut self, view: &View) -> Vec<Member> {
        let back: Vec<Member> = view.in_sync.iter().filter_map(|member| self.returned(member)).collect();
        let alive = view.in_sync.iter().any(|member| self.fresh_sighting_of(member).is_some());
        let now = self.now;
        if let Some(lead) = &mut self.lead {
            lead.returning = (!back.is_empty() && !alive).then(|| lead.returning.unwrap_or(now));
        }
        back
    }

    /// J1: everybody in sync is dead. Those come back whose listed store does; the rest is waited for.
    fn revived(&mut self, view: &View, leaving: Leaving, back: Vec<Member>) -> Option<View> {
        let since = self.lead.as_ref()?.returning?;
        let all_dead = leaving.dead_for_good().is_superset(view.in_sync_set());
        let waited = self.reached(super::later(since, self.setup.times.failure));
        let complete = back.len() == view.in_sync.len();
        (all_dead && (complete || waited))
            .then(|| succeed(view, View { in_sync: back, joining: Vec::new(), ..view.clone() }))
    }

    /// J1: a member's replica in a new incarnation, with the store that the view lists.
    fn returned(&self, member: &Member) -> Option<Member> {
        let sighting = self.fresh(member.replica)?;
        let heartbeat = &sighting.heartbeat;
        let back = heartbeat.store == member.store && heartbeat.view == self.epoch() && !heartbeat.stopping;
        (back && sighting.incarnation != member.incarnation)
            .then_some(Member { incarnation: sighting.incarnation, ..*member })
    }

    /// J4: all are in sync, since all stores are empty; or, of a cluster begun anew by force, this replica alone.
    fn first_view(&mut self) -> Option<View> {
        let me = self.setup.me;
        let member = |replica: ReplicaId, sighting: &Sighting| Member {
            replica,
            incarnation: sighting.incarnation,
            store: sighting.heartbeat.store,
        };
        if let Some(Epoch(after)) = self.setup.forced_after {
            let in_sync = vec![member(me, self.fresh(me)?)];
            return Some(View { epoch: Epoch(after + 1), primary: me, in_sync, joining: Vec::new() });
        }
        let here = |replica| self.fresh(replica).filter(|sighting| sighting.heartbeat.blank);
        let in_sync: Vec<Member> =
            self.all().filter_map(|replica| here(replica).map(|sighting| member(replica, sighting))).collect();
        let since = self.lead.as_ref().map_or(Moment::NEVER, |lead| lead.since);
        let waited = self.reached(super::later(since, self.setup.times.failure));
        let primary = in_sync.first()?.replica;
        (waited || in_sync.len() == self.setup.replicas).then_some(View {
            epoch: Epoch(1),
            primary,
            in_sync,
            joining: Vec::new(),
        })
    }
}

/// The next epoch's view with these members: in config order; the primary is kept if it stays, else the first in sync
/// takes over (V1).
fn succeed(view: &View, members: View) -> View {
    let View { mut in_sync, mut joining, .. } = members;
    in_sync.sort_by_key(|member| member.replica);
    joining.sort_by_key(|member| member.replica);
    let stays = in_sync
        .iter()
        .any(|member| member.replica == view.primary && Some(member.incarnation) == view.incarnation_of(view.primary));
    let primary = match in_sync.first() {
        Some(first) if !stays => first.replica,
        _ => view.primary,
    };
    View { epoch: Epoch(view.epoch.0 + 1), primary, in_sync, joining }
}
