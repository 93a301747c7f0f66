//! Remote-write: where is the item's primary? It is the view's, for every item. How does the write get there? It is
//! forwarded.

use super::replica::Replica;
use super::write::Origin;
use crate::config::Mode;
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::{Forward, Forwarded};
use crate::protocol::request::{Outcome, Phases};

impl Replica {
    /// Brings a client's write to the view's primary.
    pub(super) fn write_at_primary(&mut self, number: u64) {
        let Some(primary) = self.view.as_ref().map(|view| view.primary) else { return };
        if primary == self.me() {
            return self.run_open(number);
        }
        let now = self.now.moment;
        let Some(open) = self.clients.writes.get_mut(&number) else { return };
        open.left = true;
        open.began = Some(now);
        let write = open.write.clone();
        self.send(primary, Forward { number, write });
    }

    /// At the primary: a peer's client writes.
    pub(super) fn on_forward(&mut self, from: ReplicaId, forward: Forward) {
        let is_primary = self.view.as_ref().is_some_and(|view| view.primary == self.me());
        if self.identity.mode != Mode::RemoteWrite || !is_primary || !self.in_sync.contains(from) {
            return self.distrust(from, "forwarded a write to a replica that is not its primary");
        }
        let origin = Origin::Peer { from, number: forward.number, received: self.now.moment };
        match self.too_few_in_sync() {
            Some(refusal) => self.answer_write(origin, Err(refusal), Phases::default()),
            None => self.run(origin, &forward.write),
        }
    }

    /// At the contacted replica: the primary has answered. The write may have been given up meanwhile.
    pub(super) fn on_forwarded(&mut self, from: ReplicaId, forwarded: Forwarded) {
        let Forwarded { number, done, failed, phases } = forwarded;
        let outcome = match (done, failed) {
            (Some(done), None) => Outcome::Done(done),
            (None, Some(failure)) => Outcome::Failed(failure),
            _ => return self.distrust(from, "answered a forward with neither or both of `done` and `failed`"),
        };
        let Some(began) = self.clients.writes.get(&number).and_then(|open| open.began) else { return };
        let wait = self.now.moment.nanos_since(began);
        let forward = wait.saturating_sub(phases.queue).saturating_sub(phases.replicate);
        self.finish_write(number, outcome, Phases { forward, ..phases });
    }
}
