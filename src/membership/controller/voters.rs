//! Whose voter id is replaced (J5): a wiped consensus store has a new one.

use super::{Action, Controller, Voter};
use crate::protocol::ids::ReplicaId;

impl Controller {
    /// Replaces, one at a time, the voter of a replica that is here under another id, or that is no voter yet.
    pub(super) fn replace_voter(&mut self) {
        let Some(lead) = &self.lead else { return };
        // Before the voters are known, everybody would seem to be new.
        if self.voters.is_empty() || lead.replacing.is_some() {
            return;
        }
        let again_at = lead.replaced_at.map_or(self.now, |at| super::later(at, self.setup.times.failure));
        if !self.reached(again_at) {
            return;
        }
        let Some(voter) = self.all().find_map(|replica| self.new_voter(replica)) else { return };
        let number = self.next_number();
        if let Some(lead) = &mut self.lead {
            lead.replacing = Some(number);
        }
        self.actions.push(Action::ReplaceVoter { number, voter });
    }

    /// The voters have changed: who is none any more was replaced.
    pub(super) fn on_voters(&mut self, voters: Vec<Voter>) {
        let gone = self.voters.iter().filter(|before| !voters.contains(before));
        self.retired.extend(gone.map(|voter| voter.id));
        self.voters = voters;
    }

    /// The replacement has ended. If it failed, the next try waits.
    pub(super) fn on_replaced(&mut self, number: u64) {
        let now = self.now;
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.replacing == Some(number)) {
            lead.replacing = None;
            lead.replaced_at = Some(now);
        }
    }

    /// A replica here under an id that is no voter, and was none before. It must be there for a while: the last frames of a
    /// process that is no more come at once, and its id must not come back, however slowly they do.
    fn new_voter(&self, replica: ReplicaId) -> Option<Voter> {
        let sighting = self.fresh(replica)?;
        let voter = Voter { id: sighting.heartbeat.consensus, replica };
        let stays = sighting.at.nanos_since(sighting.since) >= self.setup.times.heartbeat;
        let known = self.voters.contains(&voter) || self.retired.contains(&voter.id);
        (stays && !sighting.heartbeat.stopping && !known).then_some(voter)
    }
}
