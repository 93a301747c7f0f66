//! What controllers ask the group, and elections. A question is answered once a majority of the voters gets the leader's
//! calls and answers them; until then it waits, as long as the program's membership task would.

use primacy::membership::controller::{self, Action, Voter};
use primacy::protocol::ids::ReplicaId;

use super::checks::{Checked, Violation};
use super::control::{ControlFrame, Says};
use super::mutants::Mutant;
use super::plan::MS;
use super::world::{Happening, World};

/// A question under way.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The term in which the asker leads.
    term: u64,
    number: u64,
    asks: Asks,
    /// When it is given up.
    until: u64,
}

#[derive(Clone, Debug)]
enum Asks {
    Establish,
    /// The entry's key.
    Propose(u64),
    Confirm,
    Replace(Voter),
}

/// How long between two tries to reach a majority.
const AGAIN: u64 = 30 * MS;

/// Questions.
impl World {
    pub(crate) fn carry_out_controller(&mut self, node: usize, action: Action) {
        let failure = self.plan.failure_timeout();
        match action {
            Action::Establish { number } => self.ask_group(node, number, Asks::Establish, u64::MAX),
            Action::Propose { number, follows, view } => {
                let term = self.nodes[node].seat.as_ref().and_then(|seat| seat.leads).unwrap_or_default();
                let key = self.group.append(term, follows, view);
                self.ask_group(node, number, Asks::Propose(key), u64::MAX);
            }
            Action::Confirm { number } => self.ask_group(node, number, Asks::Confirm, failure),
            Action::ReplaceVoter { number, voter } => {
                self.ask_group(node, number, Asks::Replace(voter), 10 * failure);
            }
            Action::Grant { to, nonce, .. } if to.index() == node => self.lease(node, nonce),
            Action::Grant { to, nonce, .. } => self.send_control(node, to.index(), Says::Lease { nonce }),
        }
    }

    fn ask_group(&mut self, node: usize, number: u64, asks: Asks, patience: u64) {
        let it = &self.nodes[node];
        let Some(term) = it.seat.as_ref().and_then(|seat| seat.leads) else { return };
        let question = Question { term, number, asks, until: self.now.saturating_add(patience) };
        let blind = matches!(
            (&question.asks, self.plan.mutant),
            (Asks::Establish, Some(Mutant::OldTermEstablished)) | (Asks::Confirm, Some(Mutant::LeadNotConfirmed))
        );
        if blind {
            let event = question.done();
            self.after(0, Happening::Answered { node, life: self.nodes[node].life, event });
        }
        let delay = self.delay(self.plan.link_delay);
        self.after(delay, Happening::Question { node, life: self.nodes[node].life, question: Box::new(question) });
    }

    /// The calls have reached the voters.
    pub(crate) fn answer_question(&mut self, node: usize, question: Question) -> Checked {
        let life = self.nodes[node].life;
        let leads = self.nodes[node].seat.as_ref().and_then(|seat| seat.leads) == Some(question.term);
        if !leads || question.until < self.now {
            self.step_controller(node, question.failed());
            return Ok(());
        }
        if self.group.term != question.term || !self.has_majority(node) {
            self.after(AGAIN, Happening::Question { node, life, question: Box::new(question) });
            return Ok(());
        }
        let changed = match question.asks {
            Asks::Establish => self.group.settle(&mut self.rng),
            Asks::Propose(key) => self.group.agree(key),
            Asks::Confirm => {
                // Its answer still has to come back.
                let delay = self.delay(self.plan.link_delay);
                self.after(delay, Happening::Answered { node, life, event: question.done() });
                return Ok(());
            }
            Asks::Replace(voter) => {
                self.replace_voter(voter);
                false
            }
        };
        if changed {
            self.new_view(node)?;
        }
        self.apply_views(node, self.group.log.len());
        self.step_controller(node, question.done());
        Ok(())
    }

    fn replace_voter(&mut self, voter: Voter) {
        self.note(|| format!("r{} VOTES anew, as {}", voter.replica.0, voter.id));
        self.counts.voters_replaced += 1;
        let place = voter.replica.index();
        self.group.voters[place] = voter.id;
        // It was given the log before it became a voter.
        if self.nodes[place].consensus == voter.id {
            self.nodes[place].term = self.nodes[place].term.max(self.group.term);
        }
        for node in 0..self.nodes.len() {
            self.tell_voters(node);
        }
    }

    pub(crate) fn tell_voters(&mut self, node: usize) {
        let voter = |(place, id): (usize, &_)| Voter { id: *id, replica: ReplicaId(place as u8) };
        let voters = self.group.voters.iter().enumerate().map(voter).collect();
        self.step_controller(node, controller::Event::Voters(voters));
    }

    /// Whether this process speaks for its replica's voter.
    fn votes(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        it.is_up() && it.paused_until <= self.now && self.group.voters[node] == it.consensus
    }

    /// Whether a majority takes this leader's calls.
    fn has_majority(&self, node: usize) -> bool {
        let follows = |other: &usize| {
            self.votes(*other) && self.calls_pass(node, *other) && self.nodes[*other].term <= self.nodes[node].term
        };
        (0..self.nodes.len()).filter(follows).count() * 2 > self.nodes.len()
    }
}

impl Question {
    fn done(&self) -> controller::Event {
        let number = self.number;
        match self.asks {
            Asks::Establish => controller::Event::Established { number, applied: true },
            Asks::Propose(_) => controller::Event::Decided { number },
            Asks::Confirm => controller::Event::Confirmed { number, leads: true },
            Asks::Replace(_) => controller::Event::Replaced { number },
        }
    }

    fn failed(&self) -> controller::Event {
        let number = self.number;
        match self.asks {
            Asks::Establish => controller::Event::Established { number, applied: false },
            Asks::Confirm => controller::Event::Confirmed { number, leads: false },
            Asks::Propose(_) | Asks::Replace(_) => self.done(),
        }
    }
}

/// Elections.
impl World {
    /// No leader was heard for long: this process asks for votes.
    pub(crate) fn ask_votes(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let now = it.clock.moment(self.now);
        let Some(seat) = &mut it.seat else { return };
        seat.waits_since = now;
        if self.group.voters[node] != it.consensus {
            return;
        }
        it.term += 1;
        let (life, term) = (it.life, it.term);
        let delay = self.delay(self.plan.link_delay);
        self.after(delay, Happening::Votes { node, life, term });
    }

    /// Its calls have reached the voters. Who leads, or heard a leader lately, does not vote for another one.
    pub(crate) fn count_votes(&mut self, node: usize, term: u64) -> Checked {
        if self.nodes[node].term != term {
            return Ok(());
        }
        let voters: Vec<usize> = (0..self.nodes.len()).filter(|other| self.votes_for(*other, node)).collect();
        if voters.len() * 2 <= self.nodes.len() {
            return Ok(());
        }
        if term <= self.group.term {
            let seen = format!("r{node} is elected in term {term} after {}", self.group.term);
            return Err(Violation { rule: "the simulated group elects one leader a term", seen });
        }
        self.note(|| format!("r{node} LEADS in term {term}"));
        self.counts.elections += 1;
        self.group.term = term;
        self.group.leader = Some(node);
        for other in voters.into_iter().filter(|other| *other != node) {
            self.learn_term(other, term);
            let now = self.nodes[other].clock.moment(self.now);
            if let Some(seat) = &mut self.nodes[other].seat {
                seat.waits_since = now;
            }
        }
        self.counts.rivals += (0..self.nodes.len()).filter(|other| self.leads(*other)).count() as u64;
        self.lead(node, term);
        Ok(())
    }

    fn votes_for(&self, other: usize, node: usize) -> bool {
        let it = &self.nodes[other];
        let Some(seat) = &it.seat else { return false };
        let free = seat.is_free(it.clock.moment(self.now));
        let willing = other == node || (it.term < self.nodes[node].term && free);
        willing && self.votes(other) && self.calls_pass(node, other)
    }

    /// A process leads from now on: elected, or begun again while nobody else was.
    pub(crate) fn lead(&mut self, node: usize, term: u64) {
        if let Some(seat) = &mut self.nodes[node].seat {
            seat.leads = Some(term);
        }
        self.step_controller(node, controller::Event::Leads { term });
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            self.send_control(node, peer, Says::Append);
        }
    }

    /// A process leads no more.
    pub(crate) fn follow(&mut self, node: usize) {
        let now = self.nodes[node].clock.moment(self.now);
        if let Some(seat) = &mut self.nodes[node].seat {
            seat.leads = None;
            seat.waits_since = now;
        }
        self.step_controller(node, controller::Event::Follows);
    }

    /// A process hears of a term.
    pub(crate) fn learn_term(&mut self, node: usize, term: u64) {
        if term > self.nodes[node].term {
            self.nodes[node].term = term;
            if self.leads(node) {
                self.follow(node);
            }
        }
    }

    /// A frame of who leads in the newest term known here: what it has applied was agreed.
    pub(crate) fn follow_leader(&mut self, node: usize, frame: &ControlFrame) -> Checked {
        if frame.leads != Some(self.nodes[node].term) {
            return Ok(());
        }
        let now = self.nodes[node].clock.moment(self.now);
        if let Some(seat) = &mut self.nodes[node].seat {
            seat.waits_since = now;
            seat.heard_leader = Some(now);
        }
        self.apply_views(node, frame.applied);
        Ok(())
    }
}
