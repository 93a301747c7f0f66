//! What happens to a controller, and what it wants done.

use crate::protocol::ids::{ConsensusId, Epoch, Incarnation, ReplicaId};
use crate::protocol::message::Heartbeat;
use crate::protocol::view::View;

/// Something that a controller reacts to. Every replica's controller is told of heartbeats and views; it acts only while
/// its replica leads the consensus group.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica is alive; the own replica's heartbeats count too.
    Heartbeat {
        /// Who.
        from: ReplicaId,
        /// In which process.
        incarnation: Incarnation,
        /// What it says.
        heartbeat: Heartbeat,
    },
    /// The consensus group elected this replica, or it goes on as leader after a restart.
    Leads {
        /// The term in which it leads.
        term: u64,
    },
    /// Somebody else leads, or nobody.
    Follows,
    /// The consensus log was applied up to an entry of this term.
    Applied {
        /// The entry's term.
        term: u64,
        /// The newest view, where it is a new one.
        view: Option<View>,
    },
    /// The last proposal was applied, or was void, or the leadership is lost; its view was told before.
    Decided,
    /// The answer to [`Action::Confirm`].
    Confirmed {
        /// Which one.
        round: u64,
        /// Whether a majority agreed that this replica leads, after the question was asked.
        leads: bool,
    },
    /// The voters of the consensus group.
    Voters(Vec<Voter>),
    /// The last replacement of a voter was carried out, or failed.
    Replaced,
    /// Time has passed.
    Tick,
}

/// A member of the consensus group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its id.
    pub id: ConsensusId,
    /// At whose address.
    pub replica: ReplicaId,
}

/// Something that the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Append this view to the consensus log; void unless `follows` is the newest epoch when it is applied. Answered with
    /// [`Event::Decided`].
    Propose {
        /// The epoch that it follows.
        follows: Epoch,
        /// The view.
        view: View,
    },
    /// Ask a majority whether this replica still leads. Answered with [`Event::Confirmed`].
    Confirm {
        /// Comes back with the answer.
        round: u64,
    },
    /// Grant a lease, from when this heartbeat was sent (R3).
    Grant {
        /// To whom.
        to: ReplicaId,
        /// In which process.
        incarnation: Incarnation,
        /// The heartbeat.
        nonce: u64,
    },
    /// Make this voter the one of its replica, in the place of those with other ids (J5): a learner first, a voter once it
    /// has the log. Answered with [`Event::Replaced`].
    ReplaceVoter(Voter),
}
