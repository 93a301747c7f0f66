//! One link to a peer, as the loop that fills it and the dialer that empties it share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::window::{Pushed, Window};
use super::{Reason, lock};
use crate::observe::metrics::{LinkFigures, Traffic};
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId};
use crate::protocol::message::LinkKind;

/// A link to a peer. The lock is held for a push or a look, never across an await.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) peer: ReplicaId,
    pub(super) kind: LinkKind,
    /// What waits and where the connection stands.
    pub(super) window: Mutex<Window>,
    /// Wakes the dialer: there is something in the window to do.
    pub(super) wake: Notify,
    /// Wakes a dialer that waits to dial again: the peer is there.
    pub(super) nudge: Notify,
    /// Wakes the loop: this link, or another one, has room again.
    room: Arc<Notify>,
    /// Something was pushed since the last flush.
    touched: AtomicBool,
    opened: Mutex<Opened>,
}

/// What connections were opened.
#[derive(Debug, Default)]
struct Opened {
    count: u64,
    round_trip: Option<Duration>,
}

impl Outgoing {
    pub(super) fn new(peer: ReplicaId, kind: LinkKind, delay: Duration, room: Arc<Notify>) -> Outgoing {
        Outgoing {
            peer,
            kind,
            window: Mutex::new(Window::new(kind, delay)),
            wake: Notify::new(),
            nudge: Notify::new(),
            room,
            touched: AtomicBool::new(false),
            opened: Mutex::new(Opened::default()),
        }
    }

    pub(super) fn push(&self, frame: Bytes) -> Pushed {
        self.touched.store(true, Ordering::Relaxed);
        lock(&self.window).push(frame, Instant::now())
    }

    pub(super) fn flush(&self) {
        if self.touched.swap(false, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        lock(&self.window).has_room()
    }

    /// The peer has got something: the loop may have waited for that.
    pub(super) fn tell_of_room(&self) {
        if self.kind == LinkKind::Data && self.has_room() {
            self.room.notify_one();
        }
    }

    /// Starts the numbering of a new epoch, in whose view the peer is this incarnation.
    pub(super) fn restart(&self, epoch: Epoch, addressee: Option<Incarnation>) {
        lock(&self.window).restart(epoch, addressee);
        self.wake.notify_one();
    }

    /// Another incarnation is at the other end: what waited for the old one is gone, its connection ends.
    pub(super) fn renew(&self, met: Incarnation) {
        lock(&self.window).renew(met);
        self.wake.notify_one();
    }

    /// Ends the present connection.
    pub(super) fn close(&self, reason: Reason) {
        lock(&self.window).close(reason);
        self.wake.notify_one();
    }

    /// A connection was greeted after this long.
    pub(super) fn opened(&self, round_trip: Duration) {
        let mut opened = lock(&self.opened);
        opened.count += 1;
        opened.round_trip = Some(round_trip);
    }

    /// How the link does; `received` is what came the other way.
    pub(super) fn figures(&self, peer: &str, received: Traffic) -> LinkFigures {
        let (up, sent, waiting_bytes) = {
            let window = lock(&self.window);
            (window.is_connected(), window.carried(), window.bytes())
        };
        let opened = lock(&self.opened);
        LinkFigures {
            peer: peer.to_owned(),
            kind: self.kind.word(),
            up,
            opened: opened.count,
            round_trip_seconds: opened.round_trip.map(|round_trip| round_trip.as_secs_f64()),
            waiting_bytes,
            sent,
            received,
        }
    }
}
