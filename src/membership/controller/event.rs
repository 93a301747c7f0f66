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
    /// A view was agreed and applied.
    View(View),
    /// The answer to [`Action::Establish`].
    Established {
        /// Which one.
        number: u64,
        /// Whether the entry was applied; views before it were told before.
        applied: bool,
    },
    /// The answer to [`Action::Propose`]: it was applied, or was void, or can't be any more. Its view was told before.
    Decided {
        /// Which one.
        number: u64,
    },
    /// The answer to [`Action::Confirm`].
    Confirmed {
        /// Which one.
        number: u64,
        /// Whether a majority agreed that this replica leads, after the question was asked.
        leads: bool,
    },
    /// The voters of the consensus group.
    Voters(Vec<Voter>),
    /// The answer to [`Action::ReplaceVoter`]: it was carried out, or failed.
    Replaced {
        /// Which one.
        number: u64,
    },
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

/// Something that the shell shall do. Numbers come back with the answers; no two are the same, so that an answer to an
/// earlier leadership means nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Append an entry that changes nothing. When it is applied, all that this log held before has been, also what an
    /// earlier process of this leader appended.
    Establish {
        /// Comes back with [`Event::Established`].
        number: u64,
    },
    /// Append this view to the consensus log; void unless `follows` is the newest epoch when it is applied.
    Propose {
        /// Comes back with [`Event::Decided`].
        number: u64,
        /// The epoch that it follows.
        follows: Epoch,
        /// The view.
        view: View,
    },
    /// Ask a majority whether this replica still leads.
    Confirm {
        /// Comes back with [`Event::Confirmed`].
        number: u64,
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
    /// has the log.
    ReplaceVoter {
        /// Comes back with [`Event::Replaced`].
        number: u64,
        /// The new one.
        voter: Voter,
    },
}
