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

    /// When the last lease granted here to this replica is over for certain.
    pub(super) fn end_of(&self, replica: ReplicaId) -> Moment {
        self.ends[replica.index()]
    }
}

impl Controller {
    /// A member of the view sent a heartbeat.
    pub(super) fn ask_lease(&mut self, from: ReplicaId, incarnation: Incarnation, nonce: u64) {
        let arrived = self.now;
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.active) {
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
    /// once for everybody's next heartbeat.
    pub(super) fn confirm(&mut self) {
        let Some(lead) = &self.lead else { return };
        let Times { confirm_every, heartbeat, lease, .. } = self.setup.times;
        let soon = super::later(self.now, lease / 2);
        let pressing =
            lead.grants.wanted || lead.grants.asked.keys().any(|replica| lead.grants.end_of(*replica) < soon);
        let pause = if pressing { confirm_every } else { heartbeat };
        let due = super::later(lead.grants.confirmed_at, pause);
        let nobody_asks = lead.grants.asked.is_empty() && !lead.grants.wanted;
        if lead.grants.confirming.is_some() || nobody_asks || !self.reached(due) {
            return;
        }
        let (now, number) = (self.now, self.next_number());
        let Some(lead) = &mut self.lead else { return };
        lead.grants.confirming = Some(number);
        lead.grants.confirmed_at = now;
        lead.grants.wanted = false;
        lead.grants.waiting = std::mem::take(&mut lead.grants.asked);
        self.actions.push(Action::Confirm { number });
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
