//! A process's membership: the real controller and the real heartbeats, which here are moved by the world and not by a task.
//! What the task of the program asks the consensus library, [`questions`](super::questions) ask the group.

use primacy::clock::Moment;
use primacy::membership::controller::{Controller, Setup};
use primacy::membership::heartbeat::{Heartbeats, Standing};
use primacy::membership::times::Times;
use primacy::protocol::ids::{ReplicaId, StoreId};

use super::mutants::Mutant;

/// A process's part in deciding who is in the view. It dies with the process.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) controller: Controller,
    pub(crate) heartbeats: Heartbeats,
    /// What the node tells of itself.
    pub(crate) standing: Standing,
    pub(crate) times: Times,
    /// How many agreed views it knows of.
    pub(crate) applied: usize,
    /// The term in which it believes to lead.
    pub(crate) leads: Option<u64>,
    /// When it last heard a leader, or began to wait for one.
    pub(crate) waits_since: Moment,
    /// When it last heard a leader; while that is fresh it votes for nobody else.
    pub(crate) heard_leader: Option<Moment>,
    /// Whether a majority is away: then it asks for no votes.
    pub(crate) cut_off: bool,
    pub(crate) next_beat: Moment,
    /// When the world looks at it next.
    pub(crate) wakes_at: Option<u64>,
    /// By replica: its newest life that was heard. Frames of earlier ones are refused from then on.
    pub(crate) met: Vec<u64>,
}

/// What a seat begins with.
pub(crate) struct Beginning {
    pub(crate) me: ReplicaId,
    pub(crate) replicas: usize,
    pub(crate) min_in_sync: usize,
    pub(crate) failure_timeout_ms: u64,
    pub(crate) store: StoreId,
    pub(crate) blank: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl Seat {
    pub(crate) fn new(beginning: &Beginning, now: Moment) -> Seat {
        let Beginning { me, replicas, min_in_sync, failure_timeout_ms, store, blank, mutant } = *beginning;
        let times = Times::new(failure_timeout_ms, 0);
        let mut of_controller = times;
        match mutant {
            Some(Mutant::NoWaitForLease) => (of_controller.lease, of_controller.drift_margin) = (0, 0),
            Some(Mutant::NoDriftMargin) => of_controller.drift_margin = 0,
            _ => {}
        }
        let setup = Setup { me, replicas, min_in_sync, times: of_controller, forced_after: None };
        Seat {
            controller: Controller::new(setup, now),
            heartbeats: Heartbeats::new(me, replicas, times, now),
            standing: Standing::of(store, blank),
            times,
            applied: 0,
            leads: None,
            waits_since: now,
            heard_leader: None,
            cut_off: false,
            next_beat: now,
            wakes_at: None,
            met: vec![0; replicas],
        }
    }

    /// When it asks for votes, where no leader is heard until then.
    pub(crate) fn votes_at(&self, place: usize) -> Moment {
        match self.leads.is_some() || self.cut_off {
            true => Moment::NEVER,
            false => self.waits_since.after_ms(self.times.election_ms(place)),
        }
    }

    /// Whether it may vote for another leader.
    pub(crate) fn is_free(&self, now: Moment) -> bool {
        let heard = self.heard_leader.filter(|_| self.leads.is_none());
        heard.is_none_or(|at| now >= at.after_ms(self.times.election_ms(0)))
    }

    /// When it must be looked at again.
    pub(crate) fn next_deadline(&self, place: usize) -> Moment {
        self.next_beat.min(self.controller.next_deadline()).min(self.votes_at(place))
    }
}
