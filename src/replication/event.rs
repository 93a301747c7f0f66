//! What happens to a replica.

use crate::clock::Moment;
use crate::protocol::ids::{Incarnation, ReplicaId, StoreId};
use crate::protocol::message::Envelope;
use crate::protocol::request::Request;
use crate::protocol::view::View;

/// The time of an event, read by the shell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// By the replica's own monotonic clock.
    pub moment: Moment,
    /// By the wall clock, in ms since 1970; only for the times of key entries (K3).
    pub wall_ms: u64,
}

/// Names a client's request between [`Event::Request`] and its answer; chosen by the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Something that a replica reacts to.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client asks something. It is answered exactly once, under its token.
    Request {
        /// Comes back with the answer.
        token: Token,
        /// What it asks.
        request: Request,
        /// When it was read from the socket: its deadline counts from here.
        arrived: Moment,
    },
    /// A frame came from a peer, in order and once (L2), from the given incarnation.
    Message {
        /// Who sent it.
        from: ReplicaId,
        /// The sender's incarnation, as its connection's hello said.
        incarnation: Incarnation,
        /// What it says.
        envelope: Envelope,
    },
    /// The store holds everything handed to it up to this number, for good.
    Durable {
        /// [`super::action::Persist::number`].
        number: u64,
    },
    /// The store has put a copy in the place of the old records. There is one for each
    /// [`super::action::Action::SwitchStore`].
    Switched {
        /// The store id drawn for the copy that is in force now.
        store: StoreId,
    },
    /// A new view was agreed.
    View(View),
    /// Reads may be answered until then (R3).
    Lease {
        /// The end of the lease, by this replica's clock.
        until: Moment,
    },
    /// Time has passed: deadlines are due.
    Tick,
    /// There is room on the links for more of what goes on over several turns
    /// ([`super::replica::Replica::unfinished`]).
    Proceed,
}
