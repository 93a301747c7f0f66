//! Who was met, in which incarnation, and what came from each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::lock;
use super::tally::{Gap, Place, Tally};
use crate::observe::metrics::Traffic;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId};
use crate::protocol::message::{LinkKind, Position};

/// What a hello's incarnation is to this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// The one that was met before.
    Known,
    /// The peer's first.
    First,
    /// Another one than before.
    Another,
}

/// All peers.
#[derive(Debug)]
pub(super) struct Roster(Vec<Peer>);

/// What is known of one peer.
#[derive(Debug)]
struct Peer {
    met: Mutex<Option<Incarnation>>,
    control: Incoming,
    data: Incoming,
}

/// One kind of link from a peer.
#[derive(Debug)]
pub(super) struct Incoming {
    tally: Mutex<Tally>,
    /// The connection that counts: the others end when it changes.
    current: watch::Sender<u64>,
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Incoming {
    fn new() -> Incoming {
        Incoming {
            tally: Mutex::default(),
            current: watch::Sender::new(0),
            frames: AtomicU64::default(),
            bytes: AtomicU64::default(),
        }
    }

    /// Counts what came, what came again counted again.
    pub(super) fn receive(&self, traffic: Traffic) {
        self.frames.fetch_add(traffic.frames, Ordering::Relaxed);
        self.bytes.fetch_add(traffic.bytes, Ordering::Relaxed);
    }

    /// What came in all.
    pub(super) fn received(&self) -> Traffic {
        Traffic { frames: self.frames.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Where a dialer goes on; see [`Tally::resume`].
    pub(super) fn resume(&self, incarnation: Incarnation, next: Position) -> Result<Position, Gap> {
        lock(&self.tally).resume(incarnation, next)
    }

    /// Begins a connection in place of the one before, and lets it watch for being replaced itself.
    pub(super) fn begin(
        &self,
        incarnation: Incarnation,
        next: Option<Position>,
    ) -> Result<(Place, watch::Receiver<u64>), Gap> {
        let place = lock(&self.tally).begin(incarnation, next)?;
        self.current.send_replace(place.connection());
        Ok((place, self.current.subscribe()))
    }

    /// Runs `pass_on` with what tells new frames from those that came before; not where the connection was replaced.
    pub(super) fn count(&self, place: &mut Place, pass_on: impl FnOnce(&mut dyn FnMut(Epoch) -> bool)) -> bool {
        let mut tally = lock(&self.tally);
        if tally.connection() != place.connection() {
            return false;
        }
        pass_on(&mut |epoch| tally.count(place, epoch));
        true
    }

    fn end(&self) {
        let connection = lock(&self.tally).end();
        self.current.send_replace(connection);
    }
}

impl Roster {
    pub(super) fn new(replicas: usize) -> Roster {
        let peer = || Peer { met: Mutex::default(), control: Incoming::new(), data: Incoming::new() };
        Roster((0..replicas).map(|_| peer()).collect())
    }

    /// The incarnation in which a peer was met.
    pub(super) fn met(&self, peer: ReplicaId) -> Option<Incarnation> {
        *lock(&self.0[peer.index()].met)
    }

    /// Takes note of a peer that was greeted in this incarnation. The newest one counts; views say which one is a member.
    pub(super) fn meet(&self, peer: ReplicaId, incarnation: Incarnation) -> Meeting {
        match lock(&self.0[peer.index()].met).replace(incarnation) {
            None => Meeting::First,
            Some(met) if met == incarnation => Meeting::Known,
            Some(_) => Meeting::Another,
        }
    }

    pub(super) fn incoming(&self, peer: ReplicaId, kind: LinkKind) -> &Incoming {
        let peer = &self.0[peer.index()];
        match kind {
            LinkKind::Control => &peer.control,
            LinkKind::Data => &peer.data,
        }
    }

    /// Ends every connection that a peer dialed.
    pub(super) fn end_connections(&self, peer: ReplicaId) {
        let peer = &self.0[peer.index()];
        peer.control.end();
        peer.data.end();
    }
}
