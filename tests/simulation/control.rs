//! The control links and what goes over them: heartbeats, leases, and what the leader's appends tell. Frames may be lost; those
//! of one connection keep their order. What the program's membership task does with them is done here in the same order.

use primacy::clock::Moment;
use primacy::membership::controller;
use primacy::protocol::ids::{ClusterId, Incarnation, ReplicaId, ReplicaSet};
use primacy::protocol::message::Heartbeat;
use primacy::protocol::view::View;
use primacy::replication::event::Event;

use super::checks::Checked;
use super::mutants::Mutant;
use super::trace::short;
use super::world::{Happening, World};

/// The one cluster that there is.
const CLUSTER: ClusterId = ClusterId(1);

/// A frame on a control link.
#[derive(Clone, Debug)]
pub(crate) struct ControlFrame {
    pub(crate) from: usize,
    /// Which life of the sender's.
    pub(crate) life: u64,
    pub(crate) incarnation: Incarnation,
    /// What the sender's consensus library adds; nothing where its calls are lost.
    pub(crate) term: Option<u64>,
    /// In which term the sender believes to lead.
    pub(crate) leads: Option<u64>,
    /// How many agreed views the sender knows of.
    pub(crate) applied: usize,
    pub(crate) says: Says,
}

/// What it is for.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Heartbeat(Box<Heartbeat>),
    Lease {
        nonce: u64,
    },
    /// Only what the consensus library says.
    Append,
}

/// Heartbeats and leases.
impl World {
    /// A process's membership is due for a look.
    pub(crate) fn seat_wakes(&mut self, node: usize) {
        let now = self.nodes[node].clock.moment(self.now);
        let Some(seat) = &mut self.nodes[node].seat else { return };
        if seat.wakes_at.is_some_and(|at| at > self.now) {
            return;
        }
        seat.wakes_at = None;
        let (beats, votes) = (seat.next_beat <= now, seat.votes_at(node) <= now);
        self.step_controller(node, controller::Event::Tick);
        if beats {
            self.beat(node);
        }
        if votes {
            self.ask_votes(node);
        }
        self.plan_seat(node);
    }

    pub(crate) fn plan_seat(&mut self, node: usize) {
        let clock = self.nodes[node].clock;
        let Some(seat) = &mut self.nodes[node].seat else { return };
        let due = seat.next_deadline(node);
        let time = clock.time_of(due).max(self.now + 1_000);
        if due != Moment::NEVER && seat.wakes_at.is_none_or(|at| at > time) {
            seat.wakes_at = Some(time);
            self.at(time, Happening::Seat { node, life: self.nodes[node].life });
        }
    }

    /// Says that this replica lives, to all, itself included.
    pub(crate) fn beat(&mut self, node: usize) {
        let links = self.links_up(node);
        let it = &mut self.nodes[node];
        let (Some(seat), Some(replica)) = (&mut it.seat, &it.replica) else { return };
        let now = it.clock.moment(self.now);
        seat.next_beat = Moment(now.0 + seat.times.heartbeat);
        seat.cut_off = seat.heartbeats.is_cut_off(now);
        let steps_down = seat.cut_off && seat.leads.is_some();
        seat.standing.links = links;
        seat.standing.complaints = (it.epoch, replica.waits_in_vain_for(now));
        let heartbeat = seat.heartbeats.beat(now, &seat.standing, it.consensus, Some(CLUSTER));
        if steps_down {
            // A leader follows whoever asks for its vote in the next term; it asks itself, for somebody else.
            it.term += 1;
            self.follow(node);
        }
        let heartbeat = self.tamper_heartbeat(node, heartbeat);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            if self.nodes[node].mute_until <= self.now {
                self.send_control(node, peer, Says::Heartbeat(Box::new(heartbeat.clone())));
            }
        }
        let incarnation = self.nodes[node].incarnation;
        self.step_controller(
            node,
            controller::Event::Heartbeat { from: ReplicaId(node as u8), incarnation, heartbeat },
        );
    }

    /// What a mutant makes of a heartbeat.
    fn tamper_heartbeat(&self, node: usize, mut heartbeat: Heartbeat) -> Heartbeat {
        let view = self.group.newest();
        let me = ReplicaId(node as u8);
        let member = view.members().find(|member| member.replica == me);
        match self.plan.mutant {
            Some(Mutant::AnyStoreRevived) => {
                heartbeat.store = member.map_or(heartbeat.store, |member| member.store);
            }
            Some(Mutant::JoinsWithoutCopy) => heartbeat.synced = Some(heartbeat.view),
            _ => {}
        }
        heartbeat
    }

    /// To whom both dialed links are up.
    fn links_up(&self, node: usize) -> ReplicaSet {
        let up = |peer: &usize| {
            let whole = !self.links[node][*peer].is_cut() && !self.links[*peer][node].is_cut();
            *peer != node && self.nodes[*peer].is_up() && whole && self.hears_control(node, *peer)
        };
        (0..self.nodes.len()).filter(up).map(|peer| ReplicaId(peer as u8)).collect()
    }

    /// Whether control frames get from one to the other.
    pub(crate) fn hears_control(&self, from: usize, to: usize) -> bool {
        !self.links[from][to].is_cut() && self.nodes[from].control_cuts == 0 && self.nodes[to].control_cuts == 0
    }

    /// Whether the calls of the consensus library, and their answers, get through between two.
    pub(crate) fn calls_pass(&self, one: usize, other: usize) -> bool {
        let whole = self.hears_control(one, other) && self.hears_control(other, one);
        let silenced = |node: usize| self.nodes[node].no_calls_until > self.now;
        one == other || (whole && !silenced(one) && !silenced(other))
    }

    pub(crate) fn send_control(&mut self, from: usize, to: usize, says: Says) {
        if !self.hears_control(from, to) {
            return;
        }
        let calls = self.calls_pass(from, to);
        let it = &self.nodes[from];
        let Some(seat) = &it.seat else { return };
        let frame = Box::new(ControlFrame {
            from,
            life: it.life,
            incarnation: it.incarnation,
            term: calls.then_some(it.term),
            leads: seat.leads.filter(|_| calls),
            applied: seat.applied,
            says,
        });
        let slow = if self.links[from][to].slow_until > self.now { 50 } else { 1 };
        let delay = self.delay(self.plan.link_delay) * slow;
        let at = self.links[from][to].next_control(self.now + delay);
        self.at(at, Happening::Control { to, frame });
    }

    pub(crate) fn control_arrives(&mut self, to: usize, frame: ControlFrame) -> Checked {
        let from = frame.from;
        let now = self.nodes[to].clock.moment(self.now);
        let heard = self.hears_control(from, to);
        let Some(seat) = self.nodes[to].seat.as_mut().filter(|_| heard) else { return Ok(()) };
        if frame.life < seat.met[from] {
            return Ok(());
        }
        seat.met[from] = frame.life;
        if let Some(term) = frame.term {
            self.learn_term(to, term);
            self.follow_leader(to, &frame)?;
        }
        match frame.says {
            Says::Heartbeat(heartbeat) => {
                let (from, incarnation) = (ReplicaId(from as u8), frame.incarnation);
                if let Some(seat) = &mut self.nodes[to].seat {
                    seat.heartbeats.on_heard(now, from, incarnation);
                }
                let heartbeat = *heartbeat;
                if self.plan.mutant == Some(Mutant::LeaseForEverybody) && self.leads(to) {
                    self.send_control(to, from.index(), Says::Lease { nonce: heartbeat.nonce });
                }
                self.step_controller(to, controller::Event::Heartbeat { from, incarnation, heartbeat });
            }
            Says::Lease { nonce } => self.lease(to, nonce),
            Says::Append => {}
        }
        Ok(())
    }

    /// Whether it believes that it leads.
    pub(crate) fn leads(&self, node: usize) -> bool {
        self.nodes[node].seat.as_ref().is_some_and(|seat| seat.leads.is_some())
    }

    /// The controller grants a lease for this heartbeat.
    pub(crate) fn lease(&mut self, node: usize, nonce: u64) {
        let now = self.nodes[node].clock.moment(self.now);
        let Some(seat) = self.nodes[node].seat.as_ref().filter(|seat| !seat.standing.stopping) else { return };
        let until = match self.plan.mutant {
            Some(Mutant::EndlessLease) => Some(Moment::NEVER),
            Some(Mutant::LeaseFromItsArrival) => Some(Moment(now.0 + seat.times.lease)),
            _ => seat.heartbeats.on_lease(now, nonce),
        };
        if let Some(until) = until {
            self.tell(node, Event::Lease { until });
        }
    }

    /// Steps a controller, and has done what it wants.
    pub(crate) fn step_controller(&mut self, node: usize, event: controller::Event) {
        let now = self.nodes[node].clock.moment(self.now);
        let Some(seat) = &mut self.nodes[node].seat else { return };
        let mut actions = Vec::new();
        seat.controller.step(now, event, &mut actions);
        actions.into_iter().for_each(|action| self.carry_out_controller(node, action));
        self.plan_seat(node);
    }

    /// A process learns of the views that were agreed so far, or of the first so many.
    pub(crate) fn apply_views(&mut self, node: usize, upto: usize) {
        let now = self.nodes[node].clock.moment(self.now);
        let Some(seat) = &mut self.nodes[node].seat else { return };
        if upto <= seat.applied {
            return;
        }
        seat.applied = upto;
        let view = self.group.log[upto - 1].clone();
        seat.heartbeats.on_view(now, view.clone());
        seat.next_beat = Moment(0);
        self.nodes[node].known_views = upto;
        self.tell(node, Event::View(view.clone()));
        self.step_controller(node, controller::Event::View(view));
    }

    /// A view was agreed: who leads knows it, and tells the others.
    pub(crate) fn new_view(&mut self, leader: usize) -> Checked {
        for node in &self.nodes {
            if let Some(replica) = &node.replica {
                self.witness.learn(replica)?;
            }
        }
        self.check_new_view()?;
        let text = self.trace.is_some().then(|| short(&format!("{:?}", self.group.newest())));
        self.note(|| format!("VIEW {} by r{leader}", text.unwrap_or_default()));
        self.apply_views(leader, self.group.log.len());
        for peer in (0..self.nodes.len()).filter(|peer| *peer != leader) {
            self.send_control(leader, peer, Says::Append);
        }
        Ok(())
    }

    /// The view before the newest.
    pub(crate) fn view_before(&self) -> Option<&View> {
        self.group.log.len().checked_sub(2).map(|place| &self.group.log[place])
    }
}
