//! The data links (L1 to L4): in order, exactly once between two incarnations, delayed, cut and healed.

use std::collections::VecDeque;

use fastrand::Rng;
use primacy::protocol::ids::{Epoch, Incarnation};
use primacy::protocol::message::Envelope;

/// A frame on its way.
#[derive(Debug)]
pub(crate) struct Frame {
    /// When it arrives, unless the link is cut or frames before it wait.
    pub(crate) at: u64,
    pub(crate) from: Incarnation,
    /// For which incarnation of the receiver it is: that of the sender's view (L3).
    pub(crate) to: Incarnation,
    pub(crate) envelope: Envelope,
}

/// The link from one replica to another.
#[derive(Debug, Default)]
pub(crate) struct Link {
    frames: VecDeque<Frame>,
    /// Frames of smaller epochs are lost: a new view has emptied the link.
    emptied_below: Epoch,
    last_at: u64,
    /// When the last control frame arrives.
    control_at: u64,
    /// How many faults cut this link at present.
    cuts: u32,
    /// How many scripts hold its data frames back.
    holds: u32,
    /// Whether what is on its way arrives, though a new view has emptied the link or its sender is dead.
    pub(crate) keeps: bool,
    /// Until when it is slow.
    pub(crate) slow_until: u64,
}

impl Link {
    /// Puts a frame on the link. Says when it arrives, or nothing where the link lost it with those of its epoch.
    pub(crate) fn push(&mut self, mut frame: Frame) -> Option<u64> {
        if frame.envelope.epoch < self.emptied_below {
            return None;
        }
        frame.at = frame.at.max(self.last_at);
        self.last_at = frame.at;
        let at = frame.at;
        self.frames.push_back(frame);
        Some(at)
    }

    /// The sender has a new view: of what is on its way, only what TCP has taken still arrives (L3).
    pub(crate) fn empty_below(&mut self, epoch: Epoch, rng: &mut Rng) {
        self.lose_some(rng);
        self.emptied_below = epoch;
    }

    /// The last frames are lost with the sender.
    pub(crate) fn lose_some(&mut self, rng: &mut Rng) {
        let kept = if rng.bool() { 0 } else { rng.usize(..=self.frames.len()) };
        if !self.keeps {
            self.frames.truncate(kept);
        }
    }

    /// The receiver is another incarnation now: everything is lost.
    pub(crate) fn lose_all(&mut self) {
        self.frames.clear();
    }

    /// A new incarnation sends from now on.
    pub(crate) fn begin(&mut self) {
        self.emptied_below = Epoch(0);
    }

    pub(crate) fn cut(&mut self) {
        self.cuts += 1;
    }

    pub(crate) fn mend(&mut self) {
        self.cuts = self.cuts.saturating_sub(1);
        self.control_at = 0;
    }

    /// Whatever was wrong with it is over.
    pub(crate) fn heal(&mut self) {
        (self.cuts, self.holds, self.slow_until, self.control_at) = (0, 0, 0, 0);
    }

    /// Data frames wait until they are released; control frames pass.
    pub(crate) fn hold(&mut self) {
        self.holds += 1;
    }

    pub(crate) fn release(&mut self) {
        self.holds = self.holds.saturating_sub(1);
    }

    /// Control frames of one connection keep their order.
    pub(crate) fn next_control(&mut self, at: u64) -> u64 {
        self.control_at = self.control_at.max(at);
        self.control_at
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cuts > 0
    }

    /// The next frame that has arrived. One of a later epoch than the receiver's waits, with those behind it (L4).
    pub(crate) fn pop(&mut self, now: u64, receiver_epoch: Epoch) -> Option<Frame> {
        let front = self.frames.front()?;
        let waits = front.envelope.epoch > receiver_epoch;
        if self.is_cut() || self.holds > 0 || front.at > now || waits {
            return None;
        }
        self.frames.pop_front()
    }
}
