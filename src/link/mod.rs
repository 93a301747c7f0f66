//! The persistent connections between replicas.
//!
//! ```text
//!      replica A                                   replica B
//!   send ->  window  -- hello, frames ---------->  tally  -> LinkEvent::Messages
//!              ^     <--------- hello, got n ---
//! ```
//!
//! Each replica dials every other one twice, for a `control` and for a `data` link (L1). A link is one-way: the dialer
//! sends messages, the accepter only `hello` and `got`. Between two live incarnations a data link is in order and exactly
//! once, whatever happens to its TCP connections (L2): frames are numbered by their place, kept until `got`, sent again
//! on the next connection, and dropped by the receiver where it has them already. No number stands in a frame, so one
//! encoded frame serves all peers; the dialer's hello says which number the first one has. A new epoch starts the
//! numbering again at 1 (L3).
//!
//! Who comes in says who it is, and with a secret proves it ([`proof`]). Until then nothing that it sends is acted on.
//!
//! What this does not do: understand a message, or believe an epoch. A data frame of an epoch that the replica has not
//! reached waits, with everything behind it, until the replica has published that epoch (L4).

mod accept;
mod admit;
mod carry;
mod chunks;
mod delay;
mod dial;
mod hello;
mod outgoing;
pub mod proof;
mod roster;
mod tally;
mod unproved;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

pub use accept::LinkAcceptor;
pub use hello::Refusal;

use crate::config::{Config, LinkUse};
use crate::net::Network;
use crate::observe::metrics::LinkFigures;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, ReplicaSet};
use crate::protocol::message::{Envelope, LinkKind};
use crate::protocol::status::LinkStatus;
use crate::random::Random;
use delay::Delay;
use dial::Dialer;
use outgoing::Outgoing;
use roster::Roster;
use unproved::Unproved;
use window::Pushed;

/// Most bytes that wait on one link to be sent or to be `got`: a peer that is further behind is out of step anyway, and
/// joins again faster than it catches up.
pub const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes on a data link below which work that can wait, as a recovery's, goes on: enough that the link is never idle, and
/// far from [`LINK_BYTES_MAX`].
pub const ROOM_BYTES: usize = 4 * 1024 * 1024;

/// How long the other end may take to say hello.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// Most different warnings that are remembered as given; a peer may write any text into them. Past it all are forgotten.
const WARNINGS_MAX: usize = 64;

/// How long a connection may make no progress while something waits to be written, or to be `got`.
const PROGRESS_WAIT: Duration = Duration::from_secs(5);

/// How long a link that is told to stop may go on writing what waits.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// What the links begin with.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The configuration, checked.
    pub config: Arc<Config>,
    /// Which of its replicas this is.
    pub me: ReplicaId,
    /// Through which peers are dialed.
    pub network: Arc<dyn Network>,
    /// Drawn at this process start.
    pub incarnation: Incarnation,
    /// Random; spreads the redials of replicas that lost each other together.
    pub seed: u64,
    /// Where nonces come from.
    pub random: Random,
}

/// All links of one replica.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
    epoch: Epoch,
}

/// What the tasks of one replica's links have in common.
#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    network: Arc<dyn Network>,
    random: Random,
    /// Every replica's address, in config order.
    names: Vec<String>,
    me: ReplicaId,
    incarnation: Incarnation,
    settings: crate::protocol::message::Settings,
    delay: Delay,
    roster: Roster,
    outgoing: Vec<Outgoing>,
    unproved: Unproved,
    /// Told where a data link has room again.
    room: Arc<Notify>,
    /// What was warned of: a peer that is refused comes again, twice a second.
    warned: Mutex<BTreeSet<String>>,
    events: mpsc::Sender<LinkEvent>,
    epoch: watch::Receiver<Epoch>,
    stop: watch::Sender<bool>,
}

/// The number of a connection in this process and a frame's place on it, from 1; both 0 while there is no connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The connection.
    pub link: u64,
    /// The frame.
    pub frame: u64,
}

/// Which end of a link this replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It dialed, and sends.
    Out,
    /// It accepted, and receives.
    In,
}

/// What the links tell the replica's loop.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// The first hello of a peer, or of another incarnation of it.
    Met {
        /// Who.
        peer: ReplicaId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// A connection is greeted. Not told of data links that are used per frame.
    Up {
        /// With whom.
        peer: ReplicaId,
        /// Which link.
        kind: LinkKind,
        /// Which end this is.
        way: Way,
        /// The peer's process.
        incarnation: Incarnation,
    },
    /// A greeted connection is over. A new one follows, and on a data link nothing is lost.
    Down {
        /// With whom.
        peer: ReplicaId,
        /// Which link.
        kind: LinkKind,
        /// Which end this was.
        way: Way,
        /// Why.
        reason: Reason,
    },
    /// Messages, in order; those of one read from the socket together.
    Messages {
        /// Who sent them.
        from: ReplicaId,
        /// Its process.
        incarnation: Incarnation,
        /// On which link.
        kind: LinkKind,
        /// What they say.
        envelopes: Vec<Envelope>,
    },
    /// More than [`LINK_BYTES_MAX`] waited for a peer: the link is reset and its frames are gone. A data link carries
    /// nothing more until the next epoch; a control link goes on.
    Overflow {
        /// For whom.
        peer: ReplicaId,
        /// On which link.
        kind: LinkKind,
    },
    /// A hello was refused, by this replica or by the peer.
    Refused {
        /// Whose, or by whom.
        peer: ReplicaId,
        /// Why.
        reason: String,
    },
}

/// Why a connection between replicas ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The links were told to stop.
    #[error("this replica stops")]
    Stopped,
    /// The other end closed it.
    #[error("the peer closed it")]
    Closed,
    /// The system said no: could not connect, reset, unreachable.
    #[error("{0}")]
    Io(String),
    /// Nothing moved for too long.
    #[error("no progress for 5 s: {0}")]
    Silent(&'static str),
    /// This end refused the peer's hello.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The peer refused this end's hello, or anything later.
    #[error("the peer refused: {0}")]
    RefusedByPeer(String),
    /// The peer said what it must not.
    #[error("the peer broke the protocol: {0}")]
    Broke(String),
    /// A newer connection of the same peer and kind took its place.
    #[error("replaced by a newer connection")]
    Replaced,
    /// The loop asked for it: see [`Links::reset`].
    #[error("reset by this replica")]
    Reset,
    /// More waited than may; see [`LINK_BYTES_MAX`].
    #[error("more than {LINK_BYTES_MAX} bytes waited")]
    Overflow,
    /// A connection to this very end: a dial to a free port of this machine can meet itself.
    #[error("the connection leads to itself")]
    Itself,
    /// All frames of this turn were got, and the next ones get a connection of their own.
    #[error("done with this turn's frames")]
    PerFrame,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Reason {
        Reason::Refused(refusal)
    }
}

impl From<std::io::Error> for Reason {
    fn from(error: std::io::Error) -> Reason {
        Reason::Io(error.to_string())
    }
}

impl Links {
    /// Begins to dial all peers, in tasks on the present runtime. What happens is told on `events`; the replica's epoch
    /// is read from `epoch`.
    pub fn start(config: LinkConfig, events: mpsc::Sender<LinkEvent>, epoch: watch::Receiver<Epoch>) -> Links {
        let LinkConfig { config, me, network, incarnation, seed, random } = config;
        let delay = Delay::of_us(config.link_delay_us);
        let peers = (0..config.replicas.len()).map(|place| ReplicaId(place as u8)).filter(|peer| *peer != me);
        let room = Arc::new(Notify::new());
        let link = |peer, kind| Outgoing::new(peer, kind, delay.duration(), Arc::clone(&room));
        let both = |peer| [LinkKind::Control, LinkKind::Data].map(|kind| link(peer, kind));
        let shared = Arc::new(Shared {
            names: config.replicas.iter().map(ToString::to_string).collect(),
            network,
            random,
            me,
            incarnation,
            settings: hello::settings(&config),
            delay,
            roster: Roster::new(config.replicas.len()),
            outgoing: peers.flat_map(both).collect(),
            unproved: Unproved::new(config.limits.unproved),
            room: Arc::clone(&room),
            warned: Mutex::default(),
            events,
            epoch,
            stop: watch::Sender::new(false),
            config,
        });
        for place in 0..shared.outgoing.len() {
            // Each dialer needs a draw of its own.
            let seed = seed.wrapping_mul(2 * place as u64 + 3).rotate_left(17) ^ incarnation.0;
            tokio::spawn(Dialer::new(shared.clone(), place, seed).run());
        }
        Links { shared, epoch: Epoch(0) }
    }

    /// Takes the connections that peers dial.
    pub fn acceptor(&self) -> LinkAcceptor {
        LinkAcceptor::new(self.shared.clone())
    }

    /// Puts a whole frame, length and all, behind the others for `peer`; it leaves after [`Links::flush`]. On the data link
    /// its epoch must be the one last given to [`Links::new_epoch`]. Nothing is waited for.
    pub fn send(&mut self, peer: ReplicaId, kind: LinkKind, frame: Bytes) -> Sent {
        let Some(link) = self.shared.outgoing(peer, kind) else {
            debug_assert!(false, "a frame for {peer:?}, which is no peer");
            return Sent::default();
        };
        match link.push(frame) {
            Pushed::Waits(sent) => sent,
            Pushed::Gone | Pushed::Overflow => Sent::default(),
        }
    }

    /// Sends what was put, one write per peer and link.
    pub fn flush(&mut self) {
        self.shared.outgoing.iter().for_each(Outgoing::flush);
    }

    /// Whether less than [`ROOM_BYTES`] wait on each of these peers' data links.
    pub fn have_room(&self, peers: ReplicaSet) -> bool {
        peers.iter().filter_map(|peer| self.shared.outgoing(peer, LinkKind::Data)).all(Outgoing::has_room)
    }

    /// Waits until a data link may have room again. May be dropped and called again: nothing is missed.
    pub async fn room(&self) {
        self.shared.room.notified().await;
    }

    /// Starts the numbering of all data links again: what waited on them is gone (L3). Of no use where `epoch` is not new.
    /// What is sent from now on is for the incarnations in which the epoch's view has the peers, met or not.
    pub fn new_epoch(&mut self, epoch: Epoch, incarnation_of: impl Fn(ReplicaId) -> Option<Incarnation>) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        for link in self.shared.outgoing.iter().filter(|link| link.kind == LinkKind::Data) {
            link.restart(epoch, incarnation_of(link.peer));
        }
    }

    /// Closes every connection with a peer, both ways; they are dialed again. On a data link nothing is lost.
    pub fn reset(&mut self, peer: ReplicaId) {
        self.shared.reset(peer);
    }

    /// How each link to a peer does, in config order, control first.
    pub fn figures(&self) -> Vec<LinkFigures> {
        let figures = |link: &Outgoing| {
            let received = self.shared.roster.incoming(link.peer, link.kind).received();
            link.figures(&self.shared.names[link.peer.index()], received)
        };
        self.shared.outgoing.iter().map(figures).collect()
    }

    /// The same, as `/status` shows it.
    pub fn status(&self) -> Vec<LinkStatus> {
        let status = |link: LinkFigures| LinkStatus {
            peer: link.peer,
            kind: link.kind.to_owned(),
            up: link.up,
            opened: link.opened,
            frames: link.sent.frames,
            rtt_ms: link.round_trip_seconds.map(|seconds| (seconds * 1e6).round() / 1e3),
        };
        self.figures().into_iter().map(status).collect()
    }

    /// Writes what waits, for at most a second, and closes all connections, those that peers dialed too.
    pub async fn stop(&mut self) {
        self.shared.stop.send_replace(true);
        // Each task holds a receiver for as long as it runs.
        self.shared.stop.closed().await;
    }
}

impl Shared {
    fn outgoing(&self, peer: ReplicaId, kind: LinkKind) -> Option<&Outgoing> {
        self.outgoing.iter().find(|link| link.peer == peer && link.kind == kind)
    }

    fn outgoing_to(&self, peer: ReplicaId) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.iter().filter(move |link| link.peer == peer)
    }

    fn name(&self, replica: ReplicaId) -> &str {
        &self.names[replica.index()]
    }

    fn place_of(&self, name: &str) -> Option<ReplicaId> {
        self.names.iter().position(|known| known == name).map(|place| ReplicaId(place as u8))
    }

    fn reset(&self, peer: ReplicaId) {
        self.outgoing_to(peer).for_each(|link| link.close(Reason::Reset));
        self.roster.end_connections(peer);
    }

    /// Warns of what a peer does, or says, unless that was warned of before.
    fn warn_once(&self, reason: &str, what: &'static str) {
        let mut warned = lock(&self.warned);
        if warned.len() >= WARNINGS_MAX {
            warned.clear();
        }
        if warned.insert(reason.to_owned()) {
            tracing::warn!(me = self.name(self.me), reason, "{what}");
        }
    }

    /// Tells the loop, which reads no more once the links stop: then nobody misses the event.
    async fn tell(&self, event: LinkEvent) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = self.events.send(event) => {}
            () = told(&mut stop) => {}
        }
    }

    /// Whether connections of this kind carry one turn's frames and no more.
    fn is_per_frame(&self, kind: LinkKind) -> bool {
        kind == LinkKind::Data && self.config.links == LinkUse::PerFrame
    }

    /// Takes note of a greeted peer's incarnation; on another one than before, forgets what was for the old one.
    async fn meet(&self, peer: ReplicaId, incarnation: Incarnation) {
        use roster::Meeting;
        match self.roster.meet(peer, incarnation) {
            Meeting::Known => return,
            Meeting::First => {}
            Meeting::Another => {
                self.outgoing_to(peer).for_each(|link| link.renew(incarnation));
                self.roster.end_connections(peer);
            }
        }
        self.tell(LinkEvent::Met { peer, incarnation }).await;
    }
}

/// The next number of a connection between replicas in this process.
fn next_link() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Locks what only plain code without panics runs under, so that a poisoned lock guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the links stop, or their sender is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
