//! One replica as the world sees it: a process that is up or down, its clock, its disk, and what waits for its next turn.

use std::collections::{BTreeSet, VecDeque};

use primacy::clock::Moment;
use primacy::protocol::ids::{Epoch, Incarnation};
use primacy::replication::action::Action;
use primacy::replication::event::{Event, Now};
use primacy::replication::replica::Replica;

use super::disks::Disk;
use super::plan::MS;

/// A clock that starts anywhere and is a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) start: u64,
    pub(crate) ppm: i64,
    pub(crate) wall_skew_ms: u64,
}

impl Clock {
    /// What it shows at a time of the world.
    pub(crate) fn moment(&self, time: u64) -> Moment {
        let shift = time as i64 / 1_000 * self.ppm / 1_000;
        Moment((self.start + time).saturating_add_signed(shift))
    }

    /// When it shows this moment, or a little later.
    pub(crate) fn time_of(&self, moment: Moment) -> u64 {
        let since = moment.0.saturating_sub(self.start) as i128;
        (since * 1_000_000 / i128::from(1_000_000 + self.ppm)) as u64 + 2_000
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
    /// It will crash in its next turn, after this many actions.
    pub(crate) crashes_after: Option<usize>,
    /// It will pause within its next turn, for so long.
    pub(crate) pauses_within: Option<u64>,
    /// The epoch that its links know of.
    pub(crate) epoch: Epoch,
    pub(crate) timer_at: Option<u64>,
    /// How many faults cut it off from the controller.
    pub(crate) control_cuts: u32,
    /// Requests that have not been answered: places in the history.
    pub(crate) open: BTreeSet<usize>,
}

impl Node {
    pub(crate) fn new(clock: Clock, disk: Disk) -> Node {
        Node {
            replica: None,
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
            open: BTreeSet::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// The process ends here; the disk keeps what it keeps.
    pub(crate) fn stop(&mut self) {
        let clock = self.clock;
        let control_cuts = self.control_cuts;
        let life = self.life + 1;
        let incarnation = self.incarnation;
        let disk = std::mem::replace(&mut self.disk, Disk::new(primacy::protocol::ids::StoreId(0)));
        *self = Node { life, incarnation, control_cuts, ..Node::new(clock, disk) };
    }
}
