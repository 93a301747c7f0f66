//! Leases (R3, R4): who asked by a heartbeat gets one once a majority has confirmed, after that heartbeat arrived, that this
//! replica still leads.

use std::collections::BTreeMap;

use super::{Action, Controller, Lead, Times};
use crate::clock::Moment;
use crate::protocol::ids::{Incarnation, ReplicaId};

/// The leases of one leadership.
#[derive(Debug)]
pub(super) struct Grants {
    /// The last heartbeat of each member since the last question went out.
    asked: BTreeMap<ReplicaId, Ask>,
    /// Those that wait for the answer under way.
    waiting: BTreeMap<ReplicaId, Ask>,
    /// The question under way.
    confirming: Option<u64>,
    /// When the last one was asked.
    confirmed_at: Moment,
    /// When the last one was asked that a majority answered.
    led_at: Option<Moment>,
    /// Whether a proposal waits for an answer.
    wanted: bool,
    /// By replica: when nobody can read any more by what was granted here, drift included.
    ends: Vec<Moment>,
}

/// A heartbeat that asks for a lease.
#[derive(Clone, Copy, Debug)]
struct Ask {
    incarnation: Incarnation,
    nonce: u64,
    arrived: Moment,
}

impl Grants {
    pub(super) fn new(replicas: usize) -> Grants {
        Grants {
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            confirming: None,
            confirmed_at: Moment(0),
            led_at: None,
            wanted: false,
            ends: vec![Moment(0); replicas],
        }
    }

    /// Until now nothing could be granted: the first question need not wait for the last.
    pub(super) fn begin(&mut self) {
        self.confirmed_at = Moment(0);
    }

    /// When the last lease granted here to this replica is over for certain.
    pub(super) fn end_of(&self, replica: ReplicaId) -> Moment {
        self.ends[replica.index()]
    }
}

impl Controller {
    /// A member of the view sent a heartbeat.
    pub(super) fn ask_lease(&mut self, from: ReplicaId, incarnation: Incarnation, nonce: u64) {
        let arrived = self.now;
        if let Some(lead) = &mut self.lead {
            lead.grants.asked.insert(from, Ask { incarnation, nonce, arrived });
        }
    }

    /// Whether a majority answered lately. A leader without one proposes nothing: its entry could not be agreed now, and might
    /// be later, by the next leader, when it names the wrong ones. If not, a majority is asked.
    pub(super) fn led_lately(&mut self) -> bool {
        let (now, fresh) = (self.now, self.setup.times.fresh());
        let Some(lead) = &mut self.lead else { return false };
        let lately = lead.grants.led_at.is_some_and(|at| now.nanos_since(at) <= fresh);
        lead.grants.wanted |= !lately;
        lately
    }

    /// Asks a majority, at most once in a while, for all heartbeats since: soon where somebody has no lease for long, else
    /// with the own heartbeat. Then also where nobody asks, and before anything may be granted: to the others the question
    /// is a sign of life, and they elect nobody.
    pub(super) fn confirm(&mut self) {
        let presses = self.presses();
        let Some(lead) = &self.lead else { return };
        let Times { confirm_every, .. } = self.setup.times;
        let nobody_asks = !lead.active || (lead.grants.asked.is_empty() && !lead.grants.wanted);
        let pause = if presses || self.beats { confirm_every } else { self.setup.times.patient_heartbeat() };
        // A question that nobody answers is given up; an answer that comes later counts for nothing.
        let pause = if lead.grants.confirming.is_some() { self.setup.times.failure } else { pause };
        let due = super::later(lead.grants.confirmed_at, pause);
        if (nobody_asks && !self.beats) || !self.reached(due) {
            return;
        }
        let (now, number) = (self.now, self.next_number());
        let Some(lead) = &mut self.lead else { return };
        lead.grants.confirming = Some(number);
        lead.grants.confirmed_at = now;
        lead.grants.wanted = false;
        if lead.active {
            lead.grants.waiting = std::mem::take(&mut lead.grants.asked);
        }
        self.actions.push(Action::Confirm { number });
    }

    /// Whether a question should not wait for the next heartbeat: a proposal waits for it, somebody's lease is short, or this
    /// controller stops and all have asked for their last leases (V11).
    fn presses(&self) -> bool {
        let Some(lead) = self.lead.as_ref().filter(|lead| lead.active) else { return false };
        let soon = super::later(self.now, self.setup.times.patient_heartbeat());
        let short = |replica: &ReplicaId| lead.grants.end_of(*replica) < soon;
        let has_asked = |replica: ReplicaId| lead.grants.asked.contains_key(&replica);
        let last_leases = self.is_leaving() && self.without_last_lease().all(has_asked);
        lead.grants.wanted || last_leases || lead.grants.asked.keys().any(short)
    }

    /// V11: whether this controller's replica has stopped, and is left out.
    fn is_leaving(&self) -> bool {
        let me = self.setup.me;
        let stops = self.sightings.get(me.index()).and_then(Option::as_ref).is_some_and(|seen| seen.heartbeat.stopping);
        stops && self.view.as_ref().is_some_and(|view| view.incarnation_of(me).is_none())
    }

    /// V11: who is in sync and there, and was granted no lease since the newest view came.
    fn without_last_lease(&self) -> impl Iterator<Item = ReplicaId> {
        let since = self.setup.times.lease_end(self.view_since);
        let end = |replica| self.lead.as_ref().map_or(Moment(0), |lead| lead.grants.end_of(replica));
        let in_sync = self.view.iter().flat_map(|view| &view.in_sync);
        let here = in_sync.filter(|member| self.fresh_sighting_of(member).is_some()).map(|member| member.replica);
        here.filter(move |replica| end(*replica) < since)
    }

    /// V11: whether this replica may stop. A controller goes once it is left out and all others have a lease that lasts until
    /// another one leads.
    pub fn may_go(&self) -> bool {
        self.lead.is_none() || (self.is_leaving() && self.without_last_lease().next().is_none())
    }

    /// The majority has answered: grants what waited for it. Everything committed until the question was asked has been
    /// applied here by now, so the view is the newest one, and whoever leads next waits a whole lease.
    pub(super) fn on_confirmed(&mut self, number: u64, leads: bool) {
        let asked = |lead: &&mut Lead| lead.grants.confirming == Some(number);
        let Some(lead) = self.lead.as_mut().filter(asked) else { return };
        lead.grants.confirming = None;
        let waiting = std::mem::take(&mut lead.grants.waiting);
        if !leads {
            return;
        }
        lead.grants.led_at = Some(lead.grants.confirmed_at);
        let leaving = self.leaving().decided;
        for (to, ask) in waiting.into_iter().filter(|(to, _)| !leaving.contains(*to)) {
            self.grant(to, ask);
        }
    }

    /// R4: only to in-sync members of the newest view, and of the one proposed.
    fn grant(&mut self, to: ReplicaId, ask: Ask) {
        let Some(lead) = &mut self.lead else { return };
        let proposed = lead.proposed.as_ref().map(|(_, view)| view);
        let views = [self.view.as_ref(), proposed.or(self.view.as_ref())];
        let in_both = views.into_iter().all(|view| {
            view.is_some_and(|view| {
                view.in_sync.iter().any(|member| member.replica == to && member.incarnation == ask.incarnation)
            })
        });
        if !in_both {
            return;
        }
        let end = &mut lead.grants.ends[to.index()];
        *end = (*end).max(self.setup.times.lease_end(ask.arrived));
        self.actions.push(Action::Grant { to, incarnation: ask.incarnation, nonce: ask.nonce });
    }
}
