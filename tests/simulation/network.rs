//! What goes between the processes: frames on the data links, heartbeats, leases and views.

use primacy::clock::Moment;
use primacy::protocol::ids::ReplicaId;
use primacy::protocol::message::{Envelope, Message};
use primacy::replication::event::Event;

use super::checks::Checked;
use super::links::Frame;
use super::plan::{FAILURE_TIMEOUT, MS};
use super::trace::{brief_message, short};
use super::views::Sight;
use super::world::{Happening, World};

/// How often a replica sends its heartbeat (V6).
const HEARTBEAT: u64 = FAILURE_TIMEOUT / 10;

/// Links, leases and views.
impl World {
    /// Puts a message on a link; a mutant makes something else of it.
    pub(crate) fn send(&mut self, from: usize, to: usize, envelope: Envelope) {
        let Some(mutant) = self.plan.mutant else { return self.send_as_is(from, to, envelope) };
        let epoch = envelope.epoch;
        for (back, message) in mutant.tamper(envelope.message) {
            let (from, to) = if back { (to, from) } else { (from, to) };
            self.send_as_is(from, to, Envelope { epoch, message });
        }
    }

    fn send_as_is(&mut self, from: usize, to: usize, envelope: Envelope) {
        self.counts.frames += 1;
        self.counts.stale += u64::from(matches!(envelope.message, Message::Stale(_)));
        self.note(|| format!("r{from} -> r{to} epoch {} {}", envelope.epoch, brief_message(&envelope.message)));
        // For the member that the sender's view lists; what is refused goes back to whom it came from (L3).
        let listed = self.council.log.get((envelope.epoch.0 as usize).wrapping_sub(1));
        let listed = listed.and_then(|view| view.incarnation_of(ReplicaId(to as u8)));
        let stale = matches!(envelope.message, Message::Stale(_));
        let incarnation = listed.filter(|_| !stale).unwrap_or(self.nodes[to].incarnation);
        let sender = self.nodes[from].incarnation;
        let slow = if self.links[from][to].slow_until > self.now { 50 } else { 1 };
        let at = self.now + self.delay(self.plan.link_delay) * slow;
        let frame = Frame { at, from: sender, to: incarnation, envelope };
        if let Some(at) = self.links[from][to].push(frame) {
            self.at(at, Happening::Arrives { from, to });
        }
    }

    pub(crate) fn arrive(&mut self, from: usize, to: usize) {
        while let Some(frame) = self.links[from][to].pop(self.now, self.nodes[to].epoch, self.plan.stale_passes) {
            if self.nodes[to].is_up() && frame.to == self.nodes[to].incarnation {
                let Frame { from: incarnation, envelope, .. } = frame;
                self.tell(to, Event::Message { from: ReplicaId(from as u8), incarnation, envelope });
            }
        }
    }

    pub(crate) fn up(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_up()).count()
    }

    pub(crate) fn heartbeat(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if self.nodes[node].paused_until > self.now {
            return self.at(self.nodes[node].paused_until, Happening::Heartbeat { node, life });
        }
        self.after(HEARTBEAT, Happening::Heartbeat { node, life });
        if self.nodes[node].control_cuts == 0 {
            let sent = self.nodes[node].clock.moment(self.now);
            let delay = self.delay(self.plan.link_delay);
            self.after(delay, Happening::Heard { node, life, sent });
        }
    }

    pub(crate) fn heard(&mut self, node: usize, sent: Moment) {
        let (member, life) = (self.member(node), self.nodes[node].life);
        let until = self.council.hear(member, sent, self.now, self.up());
        let delay = self.delay(self.plan.link_delay);
        if let Some(until) = until {
            self.after(delay, Happening::Granted { node, life, until });
        }
        let newest = self.council.newest().epoch;
        if self.nodes[node].epoch < newest {
            self.after(delay, Happening::View { node, life, epoch: newest });
        }
    }

    pub(crate) fn meet(&mut self) -> Checked {
        let wait = self.rng.u64(20 * MS..50 * MS);
        self.after(wait, Happening::Council);
        let (mut cut_pairs, mut apart) = (Vec::new(), Vec::new());
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| self.links[from][*to].is_cut()) {
                let pair = (ReplicaId(from as u8), ReplicaId(to as u8));
                apart.push(pair);
                if self.now > self.links[from][to].cut_since + FAILURE_TIMEOUT {
                    cut_pairs.push(pair);
                }
            }
        }
        let alive = self.nodes.iter().filter(|node| node.is_up()).map(|node| node.incarnation).collect();
        let sight = Sight { now: self.now, up: self.up(), alive, cut_pairs, apart };
        match self.council.decide(&sight) {
            true => self.new_view(),
            false => Ok(()),
        }
    }

    pub(crate) fn new_view(&mut self) -> Checked {
        for node in &self.nodes {
            if let Some(replica) = &node.replica {
                self.witness.learn(replica)?;
            }
        }
        self.announce();
        self.witness.committed_is_everywhere(self.council.newest(), &self.nodes)
    }

    pub(crate) fn announce(&mut self) {
        let view = self.council.newest();
        let epoch = view.epoch;
        let text = self.trace.is_some().then(|| short(&format!("{view:?}")));
        self.note(|| format!("VIEW {}", text.unwrap_or_default()));
        for node in 0..self.nodes.len() {
            if self.nodes[node].control_cuts == 0 && self.nodes[node].is_up() {
                let delay = self.delay(self.plan.link_delay);
                self.after(delay, Happening::View { node, life: self.nodes[node].life, epoch });
            }
        }
    }
}
