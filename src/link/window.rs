//! What one link has to send: frames in order, numbered, kept until the peer has got them. No I/O.
//!
//! ```text
//!        first            first + handed
//!          |                    |
//!   got    v   on their way     v   not yet handed to a connection
//!   - - - [5] [6] [7] [8] [9]  [10] [11]  <- push
//! ```
//!
//! A control link keeps nothing: what is handed to a connection is gone, and so is everything with the connection.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::chunks::Chunks;
use super::{LINK_BYTES_MAX, ROOM_BYTES, Reason, Sent};
use crate::observe::metrics::Traffic;
use crate::protocol::ids::{Epoch, Incarnation};
use crate::protocol::message::{Got, LinkKind, Position};

/// Most bytes handed to a connection at once, so that one write's memory stays small.
const HAND_BYTES_MAX: usize = 1024 * 1024;

/// A frame that waits, and when it may leave: later than it came only under a simulated delay.
#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    due: Instant,
}

/// The frames of one link.
#[derive(Debug)]
pub(super) struct Window {
    kind: LinkKind,
    delay: Duration,
    /// The numbering: frames count from 1 in each epoch.
    epoch: Epoch,
    /// In which incarnation the epoch's view has the peer, where it has it.
    addressee: Option<Incarnation>,
    /// The number of the frame in front.
    first: u64,
    frames: VecDeque<Waiting>,
    /// How many of `frames` the present connection was handed.
    handed: usize,
    bytes: usize,
    /// The present connection; 0 for none.
    link: u64,
    /// Frames that the present connection has carried or will carry before the next one.
    on_link: u64,
    /// What was handed out in all.
    carried: Traffic,
    /// Why the present connection shall end.
    closing: Option<Reason>,
    /// Too much was waiting: nothing is taken until the numbering starts again.
    overflowed: bool,
    /// The loop has not been told of it.
    overflow_untold: bool,
}

/// What became of a frame that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and will be at this place.
    Waits(Sent),
    /// A control frame with no connection, or a data frame after an overflow: it is gone.
    Gone,
    /// It was too much: everything that waited is gone, and the link with it.
    Overflow,
}

/// A `got` for a frame that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeverSent;

impl Window {
    pub(super) fn new(kind: LinkKind, delay: Duration) -> Window {
        Window {
            kind,
            delay,
            epoch: Epoch(0),
            addressee: None,
            first: 1,
            frames: VecDeque::new(),
            handed: 0,
            bytes: 0,
            link: 0,
            on_link: 0,
            carried: Traffic::default(),
            closing: None,
            overflowed: false,
            overflow_untold: false,
        }
    }

    /// Puts a frame behind the others.
    pub(super) fn push(&mut self, frame: Bytes, now: Instant) -> Pushed {
        if self.overflowed || (self.kind == LinkKind::Control && self.link == 0) {
            return Pushed::Gone;
        }
        if self.bytes + frame.len() > LINK_BYTES_MAX {
            self.empty();
            self.overflowed = true;
            self.overflow_untold = true;
            self.closing = Some(Reason::Overflow);
            return Pushed::Overflow;
        }
        self.bytes += frame.len();
        self.frames.push_back(Waiting { frame, due: now + self.delay });
        if self.link == 0 {
            return Pushed::Waits(Sent::default());
        }
        self.on_link += 1;
        Pushed::Waits(Sent { link: self.link, frame: self.on_link })
    }

    /// Starts the numbering of `epoch`, in whose view the peer is this incarnation: what waited is gone (L3).
    pub(super) fn restart(&mut self, epoch: Epoch, addressee: Option<Incarnation>) {
        self.epoch = epoch;
        self.addressee = addressee;
        self.renumber();
    }

    /// Another incarnation is met. What waits is gone, unless it is for this very one: the view may have told of it before.
    pub(super) fn renew(&mut self, met: Incarnation) {
        if self.addressee != Some(met) {
            self.renumber();
        }
        self.close(Reason::Replaced);
    }

    fn renumber(&mut self) {
        self.empty();
        self.first = 1;
        self.overflowed = false;
    }

    /// Ends the present connection at the next occasion.
    pub(super) fn close(&mut self, reason: Reason) {
        self.closing = Some(reason);
    }

    /// Why the present connection shall end, if it shall.
    pub(super) fn closing(&self) -> Option<&Reason> {
        self.closing.as_ref()
    }

    /// Whether there is any sense in connecting: not after an overflow, since the frames lost can't be made good.
    pub(super) fn is_usable(&self) -> bool {
        !self.overflowed || self.kind == LinkKind::Control
    }

    /// Whether there was an overflow since this was last asked.
    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflow_untold)
    }

    /// Begins a connection: everything kept will be handed out again. Returns where its first frame stands in the
    /// numbering.
    pub(super) fn begin(&mut self) -> Position {
        self.closing = None;
        self.handed = 0;
        if self.kind == LinkKind::Control {
            self.overflowed = false;
        }
        Position { epoch: self.epoch, n: self.first }
    }

    /// The connection is greeted and has this number.
    pub(super) fn connected(&mut self, link: u64) {
        self.link = link;
        self.on_link = self.frames.len() as u64;
    }

    /// The connection is over.
    pub(super) fn disconnected(&mut self) {
        self.link = 0;
        self.on_link = 0;
        self.handed = 0;
        if self.kind == LinkKind::Control {
            self.empty();
        }
    }

    /// Hands out what is due, in order. Returns when the next frame will be, if one waits for its time.
    pub(super) fn hand_out(&mut self, now: Instant, out: &mut Chunks) -> Option<Instant> {
        while let Some(waiting) = self.frames.get(self.handed) {
            if waiting.due > now {
                return Some(waiting.due);
            }
            if out.len() >= HAND_BYTES_MAX {
                break;
            }
            self.carried.bytes += waiting.frame.len() as u64;
            match self.kind {
                LinkKind::Data => {
                    out.push(waiting.frame.clone());
                    self.handed += 1;
                }
                LinkKind::Control => {
                    out.push(waiting.frame.clone());
                    self.forget_first();
                }
            }
            self.carried.frames += 1;
        }
        None
    }

    /// The peer has every frame up to `got.n`. One of another numbering says nothing.
    pub(super) fn got(&mut self, got: Got) -> Result<(), NeverSent> {
        if got.epoch != self.epoch {
            return Ok(());
        }
        if got.n >= self.first + self.handed as u64 {
            return Err(NeverSent);
        }
        while self.first <= got.n {
            self.forget_first();
            self.handed -= 1;
        }
        Ok(())
    }

    /// Before anything was handed out: the peer has every frame up to `got.n` from earlier connections, so that this one
    /// continues behind them.
    pub(super) fn skip(&mut self, got: Position) -> Result<(), NeverSent> {
        if got.epoch != self.epoch {
            return Ok(());
        }
        if got.n >= self.first + self.frames.len() as u64 {
            return Err(NeverSent);
        }
        while self.first <= got.n {
            self.forget_first();
        }
        Ok(())
    }

    /// Whether the peer has yet to say that it got something.
    pub(super) fn is_awaiting(&self) -> bool {
        self.handed > 0
    }

    /// Whether so little waits that work which can wait itself may add to it.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ROOM_BYTES
    }

    /// Whether something waits to be handed out.
    pub(super) fn has_more(&self) -> bool {
        self.handed < self.frames.len()
    }

    /// What was handed out in all, what was sent again counted again.
    pub(super) fn carried(&self) -> Traffic {
        self.carried
    }

    /// Bytes that wait to be sent, or to be `got`.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a connection carries this link.
    pub(super) fn is_connected(&self) -> bool {
        self.link != 0
    }

    fn forget_first(&mut self) {
        if let Some(waiting) = self.frames.pop_front() {
            self.bytes -= waiting.frame.len();
            self.first += 1;
        }
    }

    fn empty(&mut self) {
        // What no connection was handed will be on none.
        self.on_link = self.on_link.saturating_sub((self.frames.len() - self.handed) as u64);
        self.first += self.frames.len() as u64;
        self.frames.clear();
        self.handed = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 10])
    }

    fn handed(window: &mut Window) -> usize {
        let mut out = Chunks::default();
        window.hand_out(Instant::now(), &mut out);
        out.len() / 10
    }

    fn data(frames: u8) -> Window {
        let mut window = Window::new(LinkKind::Data, Duration::ZERO);
        window.restart(Epoch(1), None);
        (0..frames).for_each(|byte| _ = window.push(frame(byte), Instant::now()));
        window
    }

    fn got(epoch: u64, n: u64) -> Got {
        Got { epoch: Epoch(epoch), n }
    }

    #[test]
    fn frames_are_kept_until_got_and_handed_out_again_on_the_next_connection() {
        let mut window = data(5);
        assert_eq!(window.begin(), Position { epoch: Epoch(1), n: 1 });
        window.connected(1);
        assert_eq!(handed(&mut window), 5);
        assert_eq!(window.got(got(1, 2)), Ok(()));
        assert_eq!(window.got(got(0, 5)), Ok(()), "of an epoch that is over");
        window.disconnected();
        assert_eq!(window.begin(), Position { epoch: Epoch(1), n: 3 });
        assert_eq!(handed(&mut window), 3);
        assert_eq!(window.got(got(1, 6)), Err(NeverSent));
        assert_eq!(window.got(got(1, 5)), Ok(()));
        assert!(!window.is_awaiting());
    }

    #[test]
    fn what_the_peer_has_from_before_is_skipped() {
        let mut window = data(5);
        window.begin();
        assert_eq!(window.skip(Position { epoch: Epoch(1), n: 6 }), Err(NeverSent));
        assert_eq!(window.skip(Position { epoch: Epoch(1), n: 4 }), Ok(()));
        assert_eq!(handed(&mut window), 1);
        assert_eq!(window.got(got(1, 5)), Ok(()));
    }

    #[test]
    fn places_count_what_the_connection_carries() {
        let mut window = data(2);
        window.begin();
        window.connected(7);
        assert_eq!(window.push(frame(2), Instant::now()), Pushed::Waits(Sent { link: 7, frame: 3 }));
        assert_eq!(handed(&mut window), 3);
        window.push(frame(3), Instant::now());
        window.restart(Epoch(2), None);
        assert_eq!(
            window.push(frame(4), Instant::now()),
            Pushed::Waits(Sent { link: 7, frame: 4 }),
            "the fourth went with its epoch and was never on the connection"
        );
    }

    #[test]
    fn a_control_link_keeps_nothing() {
        let mut window = Window::new(LinkKind::Control, Duration::ZERO);
        assert_eq!(window.push(frame(0), Instant::now()), Pushed::Gone);
        window.begin();
        window.connected(1);
        window.push(frame(1), Instant::now());
        assert_eq!(handed(&mut window), 1);
        window.push(frame(2), Instant::now());
        window.disconnected();
        window.begin();
        assert_eq!(handed(&mut window), 0);
    }

    #[test]
    fn a_delayed_frame_leaves_when_it_is_due() {
        let mut window = Window::new(LinkKind::Data, Duration::from_secs(1));
        let now = Instant::now();
        window.push(frame(0), now);
        let mut out = Chunks::default();
        assert_eq!(window.hand_out(now, &mut out), Some(now + Duration::from_secs(1)));
        assert!(out.is_empty());
        assert_eq!(window.hand_out(now + Duration::from_secs(1), &mut out), None);
        assert_eq!(out.len(), 10);
    }
}
