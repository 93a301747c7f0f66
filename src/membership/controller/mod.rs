//! The controller: what the leader of the consensus group decides. A pure state machine: heartbeats, leadership and views
//! in; proposals, leases and confirmations out. No clock, no tasks, no randomness; the rules' numbers (V1, R4, …) are
//! those of protocol.md.
//!
//! Each replica runs one all the time, so that a new leader knows who was heard when (V6); only the leader's acts. It holds
//! at most one proposal and one confirmation under way. After each event it looks at the whole state and decides anew, so
//! nothing that it wants is remembered, and a lost frame costs one heartbeat:
//!
//! * [`event`]: the interface
//! * [`leave`](self): who leaves the view, and whether its lease is over (R5, V4, V11)
//! * [`next`](self): the view that follows (V1, V2, J1, J3, J4)
//! * [`grant`](self): leases (R3, R4)
//! * [`voters`](self): whose voter id is replaced (J5)

mod event;
mod grant;
mod leave;
mod next;
mod voters;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{Action, Event, Voter};
use grant::Grants;

use super::times::{Times, later};
use crate::clock::Moment;
use crate::protocol::ids::{ConsensusId, Epoch, Incarnation, ReplicaId};
use crate::protocol::message::Heartbeat;
use crate::protocol::view::{Member, View};

/// What a controller is told once, at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its own replica.
    pub me: ReplicaId,
    /// How many replicas are configured.
    pub replicas: usize,
    /// The fewest in-sync replicas with which writes are taken: a stop must leave as many (V11).
    pub min_in_sync: usize,
    /// How long things take.
    pub times: Times,
    /// Set where an operator began a new cluster with this replica's store alone (J5): its first view follows this epoch,
    /// which is at least the largest that the store knows.
    pub forced_after: Option<Epoch>,
}

/// The state of one controller.
#[derive(Debug)]
pub struct Controller {
    setup: Setup,
    /// The time of the event under way.
    now: Moment,
    /// The newest view that was applied, and when.
    view: Option<View>,
    view_since: Moment,
    /// Whether the event under way is the own replica's heartbeat.
    beats: bool,
    /// By replica: its last heartbeat.
    sightings: Vec<Option<Sighting>>,
    /// By replica: when the incarnation that the view lists was heard last; V5 and a view that lists it anew move it on.
    heard: Vec<Moment>,
    /// Of the present view's members: who complains of whom, and since when.
    complaints: BTreeMap<(ReplicaId, ReplicaId), Moment>,
    /// Who was left out while it may have been alive (V4).
    removals: Vec<Removal>,
    voters: Vec<Voter>,
    /// Ids that were replaced: they never vote again (J5).
    retired: BTreeSet<ConsensusId>,
    lead: Option<Lead>,
    /// The number of the last action that is answered.
    last_number: u64,
    /// When the state must be looked at again, if nothing happens before.
    wake: Moment,
    actions: Vec<Action>,
}

/// The last heartbeat of a replica.
#[derive(Debug)]
struct Sighting {
    incarnation: Incarnation,
    /// When this incarnation was seen first.
    since: Moment,
    at: Moment,
    heartbeat: Heartbeat,
}

/// A member was left out, not for a restart or a stop.
#[derive(Debug)]
struct Removal {
    replica: ReplicaId,
    incarnation: Incarnation,
    at: Moment,
}

/// What only the leader has.
#[derive(Debug)]
struct Lead {
    term: u64,
    /// When this replica learned that it leads.
    since: Moment,
    /// V1: an entry that was appended after the election is applied, so nothing older can come any more.
    active: bool,
    /// The number of that entry while it is under way.
    establishing: Option<u64>,
    /// When the last try to append it failed.
    failed_at: Option<Moment>,
    /// The proposal under way.
    proposed: Option<(u64, View)>,
    grants: Grants,
    /// J1: when the first store came back after all who were in sync had died.
    returning: Option<Moment>,
    /// The replacement of a voter that is under way.
    replacing: Option<u64>,
    /// When the last replacement ended; it may have failed.
    replaced_at: Option<Moment>,
}

impl Controller {
    /// A controller that knows nothing yet, at its process's start.
    pub fn new(setup: Setup, now: Moment) -> Controller {
        Controller {
            sightings: (0..setup.replicas).map(|_| None).collect(),
            heard: vec![now; setup.replicas],
            setup,
            now,
            view: None,
            view_since: now,
            beats: false,
            complaints: BTreeMap::new(),
            removals: Vec::new(),
            voters: Vec::new(),
            retired: BTreeSet::new(),
            lead: None,
            last_number: 0,
            wake: Moment::NEVER,
            actions: Vec::new(),
        }
    }

    /// Reacts to one event.
    pub fn step(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        self.pass_time(now);
        match event {
            Event::Heartbeat { from, incarnation, heartbeat } => self.on_heartbeat(from, incarnation, heartbeat),
            Event::Leads { term } => self.on_leads(term),
            Event::Follows => self.lead = None,
            Event::View(view) => self.on_view(view),
            Event::Established { number, applied } => self.on_established(number, applied),
            Event::Decided { number } => self.on_decided(number),
            Event::Confirmed { number, leads } => self.on_confirmed(number, leads),
            Event::Voters(voters) => self.on_voters(voters),
            Event::Replaced { number } => self.on_replaced(number),
            Event::Tick => {}
        }
        self.wake = Moment::NEVER;
        self.decide();
        self.beats = false;
        actions.append(&mut self.actions);
    }

    /// When [`Event::Tick`] is due at the latest, beside one every heartbeat.
    pub fn next_deadline(&self) -> Moment {
        self.wake
    }

    /// The newest view that was applied.
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// V5: silence is time in which this process itself ran.
    fn pass_time(&mut self, now: Moment) {
        if now.nanos_since(self.now) > self.setup.times.stall() {
            self.heard.fill(now);
            self.complaints.clear();
        }
        self.now = self.now.max(now);
    }

    fn on_heartbeat(&mut self, from: ReplicaId, incarnation: Incarnation, mut heartbeat: Heartbeat) {
        let Some(place) = self.sightings.get_mut(from.index()) else { return };
        self.beats = from == self.setup.me;
        let before = place.take().filter(|sighting| sighting.incarnation == incarnation);
        // Frames of two connections may overtake each other: who stops, stops for good.
        heartbeat.stopping |= before.as_ref().is_some_and(|sighting| sighting.heartbeat.stopping);
        let listed = self.view.as_ref().and_then(|view| view.incarnation_of(from)) == Some(incarnation);
        if listed {
            self.heard[from.index()] = self.now;
            self.note_complaints(from, &heartbeat);
            self.ask_lease(from, incarnation, heartbeat.nonce);
        }
        let since = before.map_or(self.now, |sighting| sighting.since);
        self.sightings[from.index()] = Some(Sighting { incarnation, since, at: self.now, heartbeat });
    }

    fn on_leads(&mut self, term: u64) {
        if self.lead.as_ref().is_some_and(|lead| lead.term == term) {
            return;
        }
        self.lead = Some(Lead {
            term,
            since: self.now,
            active: false,
            establishing: None,
            failed_at: None,
            proposed: None,
            grants: Grants::new(self.setup.replicas),
            returning: None,
            replacing: None,
            replaced_at: None,
        });
    }

    fn on_established(&mut self, number: u64, applied: bool) {
        let now = self.now;
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.establishing == Some(number)) {
            lead.establishing = None;
            lead.active = applied;
            lead.grants.begin();
            lead.failed_at = (!applied).then_some(now);
        }
    }

    fn on_view(&mut self, view: View) {
        if view.epoch <= self.epoch() {
            return;
        }
        let gone = |member: &&Member| view.incarnation_of(member.replica) != Some(member.incarnation);
        let removed: Vec<Member> = self.view.iter().flat_map(View::members).filter(gone).copied().collect();
        removed.iter().for_each(|member| self.note_removal(member));
        for member in view.members() {
            let listed = self.view.as_ref().and_then(|before| before.incarnation_of(member.replica));
            if listed != Some(member.incarnation) {
                self.heard[member.replica.index()] = self.now;
            }
        }
        self.complaints.clear();
        if let Some(lead) = &mut self.lead {
            lead.returning = None;
        }
        self.view = Some(view);
        self.view_since = self.now;
    }

    fn on_decided(&mut self, number: u64) {
        if let Some(lead) = &mut self.lead {
            lead.proposed.take_if(|(proposed, _)| *proposed == number);
        }
    }

    /// Does whatever the state calls for.
    fn decide(&mut self) {
        match &self.lead {
            None => {}
            Some(lead) if !lead.active => {
                self.establish();
                self.confirm();
            }
            Some(_) => {
                self.replace_voter();
                self.propose();
                self.confirm();
            }
        }
    }

    fn establish(&mut self) {
        let Some(lead) = self.lead.as_ref().filter(|lead| lead.establishing.is_none()) else { return };
        let again_at = lead.failed_at.map_or(self.now, |at| later(at, self.setup.times.heartbeat));
        if !self.reached(again_at) {
            return;
        }
        let number = self.next_number();
        if let Some(lead) = &mut self.lead {
            lead.establishing = Some(number);
        }
        self.actions.push(Action::Establish { number });
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn epoch(&self) -> Epoch {
        self.view.as_ref().map_or(Epoch(0), |view| view.epoch)
    }

    /// The last heartbeat of a replica that is certainly there.
    fn fresh(&self, replica: ReplicaId) -> Option<&Sighting> {
        let sighting = self.sightings.get(replica.index())?.as_ref()?;
        (self.now.nanos_since(sighting.at) <= self.setup.times.fresh()).then_some(sighting)
    }

    /// The last heartbeat of a member, if it came from the incarnation that is listed.
    fn sighting_of(&self, member: &Member) -> Option<&Sighting> {
        let sighting = self.sightings.get(member.replica.index())?.as_ref()?;
        (sighting.incarnation == member.incarnation).then_some(sighting)
    }

    /// The same, of a member that is certainly there.
    fn fresh_sighting_of(&self, member: &Member) -> Option<&Sighting> {
        self.fresh(member.replica).filter(|sighting| sighting.incarnation == member.incarnation)
    }

    /// Every configured replica.
    fn all(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let replicas = self.setup.replicas;
        (0..crate::protocol::ids::REPLICAS_MAX as u8).map(ReplicaId).take(replicas)
    }

    /// Whether a moment has come; if not, the state is looked at again then.
    fn reached(&mut self, moment: Moment) -> bool {
        if self.now < moment {
            self.wake = self.wake.min(moment);
        }
        self.now >= moment
    }
}

#[cfg(test)]
mod tests;
