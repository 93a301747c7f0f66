//! One replica as the world sees it: a process that is up or down, its clock, its disk, and what waits for its next turn.

use std::collections::{BTreeSet, VecDeque};

use primacy::clock::Moment;
use primacy::protocol::ids::{ConsensusId, Epoch, Incarnation};
use primacy::replication::action::Action;
use primacy::replication::event::{Event, Now};
use primacy::replication::replica::Replica;

use super::disks::Disk;
use super::plan::MS;
use super::seat::Seat;
use super::stops::Stop;

/// A clock that starts anywhere and is a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it showed at the time `since` of the world.
    pub(crate) origin: u64,
    pub(crate) since: u64,
    pub(crate) ppm: i64,
    pub(crate) wall_skew_ms: u64,
}

impl Clock {
    /// What it shows at a time of the world.
    pub(crate) fn moment(&self, time: u64) -> Moment {
        let passed = time - self.since;
        let shift = i128::from(passed) * i128::from(self.ppm) / 1_000_000;
        Moment((self.origin + passed).saturating_add_signed(shift as i64))
    }

    /// It goes at another rate from this time of the world on.
    pub(crate) fn set_rate(&mut self, time: u64, ppm: i64) {
        self.origin = self.moment(time).0;
        self.since = time;
        self.ppm = ppm;
    }

    /// When it shows this moment, or a little later.
    pub(crate) fn time_of(&self, moment: Moment) -> u64 {
        let passed = i128::from(moment.0.saturating_sub(self.origin));
        let passed = passed * 1_000_000 / i128::from(1_000_000 + self.ppm);
        self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)).saturating_add(2_000)
    }

    pub(crate) fn now(&self, time: u64) -> Now {
        Now { moment: self.moment(time), wall_ms: 1_700_000_000_000 + self.wall_skew_ms + time / MS }
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its state; none while it is down.
    pub(crate) replica: Option<Replica>,
    /// Its membership; none while it is down.
    pub(crate) seat: Option<Seat>,
    pub(crate) incarnation: Incarnation,
    /// Counts starts and crashes: what was planned for an earlier life does not happen.
    pub(crate) life: u64,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// What waits for the next turn.
    pub(crate) inbox: VecDeque<Event>,
    /// What the turn under way wants done.
    pub(crate) wanted: VecDeque<Action>,
    /// A turn is planned or under way.
    pub(crate) in_turn: bool,
    pub(crate) paused_until: u64,
    /// The consensus store's id, and the newest term that it knows; both outlive the process.
    pub(crate) consensus: ConsensusId,
    pub(crate) term: u64,
    /// How many agreed views its consensus store has.
    pub(crate) known_views: usize,
    /// It will crash after this many more actions.
    pub(crate) crashes_after: Option<usize>,
    /// It will pause within its next turn, for so long.
    pub(crate) pauses_within: Option<u64>,
    /// The epoch that its links know of.
    pub(crate) epoch: Epoch,
    pub(crate) timer_at: Option<u64>,
    /// How many faults cut its control links.
    pub(crate) control_cuts: u32,
    /// Until when its heartbeats are lost.
    pub(crate) mute_until: u64,
    /// Until when the calls of its consensus library, and their answers, are lost.
    pub(crate) no_calls_until: u64,
    /// It is asked to stop.
    pub(crate) stop: Option<Stop>,
    /// Requests that have not been answered: places in the history.
    pub(crate) open: BTreeSet<usize>,
}

impl Node {
    pub(crate) fn new(clock: Clock, disk: Disk, consensus: ConsensusId) -> Node {
        Node {
            replica: None,
            seat: None,
            consensus,
            term: 0,
            known_views: 0,
            incarnation: Incarnation(0),
            life: 0,
            clock,
            disk,
            inbox: VecDeque::new(),
            wanted: VecDeque::new(),
            in_turn: false,
            paused_until: 0,
            crashes_after: None,
            pauses_within: None,
            epoch: Epoch(0),
            timer_at: None,
            control_cuts: 0,
            mute_until: 0,
            no_calls_until: 0,
            stop: None,
            open: BTreeSet::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// The process ends here; the disks keep what they keep, and what is wrong with its links stays wrong.
    pub(crate) fn end(&mut self) {
        let Node { clock, consensus, term, known_views, incarnation, control_cuts, mute_until, no_calls_until, .. } =
            *self;
        let life = self.life + 1;
        let disk = std::mem::replace(&mut self.disk, Disk::new(primacy::protocol::ids::StoreId(0)));
        let fresh = Node::new(clock, disk, consensus);
        *self = Node { life, term, known_views, incarnation, control_cuts, mute_until, no_calls_until, ..fresh };
    }
}
