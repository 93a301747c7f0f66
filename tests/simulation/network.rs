//! The data links between the processes.

use primacy::protocol::ids::ReplicaId;
use primacy::protocol::message::{Envelope, Message};
use primacy::replication::event::Event;

use super::links::Frame;
use super::trace::brief_message;
use super::world::{Happening, World};

/// Frames.
impl World {
    /// Puts a message on a link; a mutant makes something else of it.
    pub(crate) fn send(&mut self, from: usize, to: usize, envelope: Envelope) {
        let Some(mutant) = self.plan.mutant else { return self.send_as_is(from, to, envelope) };
        let epoch = envelope.epoch;
        for (back, message) in mutant.tamper(to + 1 == self.nodes.len(), envelope.message) {
            let (from, to) = if back { (to, from) } else { (from, to) };
            self.send_as_is(from, to, Envelope { epoch, message });
        }
    }

    fn send_as_is(&mut self, from: usize, to: usize, envelope: Envelope) {
        self.counts.frames += 1;
        self.counts.stale += u64::from(matches!(envelope.message, Message::Stale(_)));
        self.note(|| format!("r{from} -> r{to} epoch {} {}", envelope.epoch, brief_message(&envelope.message)));
        // For the member that the sender's view lists; what is refused goes back to whom it came from (L3).
        let listed = self.group.view(envelope.epoch).and_then(|view| view.incarnation_of(ReplicaId(to as u8)));
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
        while let Some(frame) = self.links[from][to].pop(self.now, self.nodes[to].epoch) {
            if self.nodes[to].is_up() && frame.to == self.nodes[to].incarnation {
                let Frame { from: incarnation, envelope, .. } = frame;
                self.tell(to, Event::Message { from: ReplicaId(from as u8), incarnation, envelope });
            }
        }
    }
}
