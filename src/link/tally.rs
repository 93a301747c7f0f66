//! What one peer has sent on one kind of link, counted across its connections, so that each frame is passed on once.

use crate::protocol::ids::{Epoch, Incarnation};
use crate::protocol::message::{Got, Position};

/// The count of one peer's link.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whose frames are counted.
    incarnation: Option<Incarnation>,
    /// Which connection counts; a newer one replaces it.
    connection: u64,
    /// The last frame that was passed on.
    last: Position,
}

/// One connection's own place in the numbering: the last frame that it carried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    connection: u64,
    /// None on a link whose frames are not numbered.
    at: Option<Position>,
}

/// A connection that begins behind or ahead of what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The last frame that is here.
    pub(super) got: Position,
}

impl Tally {
    /// The last frame that was passed on of this incarnation.
    pub(super) fn last(&self, incarnation: Incarnation) -> Position {
        match self.incarnation {
            Some(counted) if counted == incarnation => self.last,
            _ => Position::default(),
        }
    }

    /// Begins a connection whose first frame is `next`; it replaces the one before. Refused where frames are missing
    /// between what was counted and `next`. Without `next` its frames are not numbered, and each is new.
    pub(super) fn begin(&mut self, incarnation: Incarnation, next: Option<Position>) -> Result<Place, Gap> {
        let Some(next) = next else {
            self.connection += 1;
            return Ok(Place { connection: self.connection, at: None });
        };
        let got = self.last(incarnation);
        let follows = match next.epoch.cmp(&got.epoch) {
            std::cmp::Ordering::Greater => next.n == 1,
            std::cmp::Ordering::Equal => (1..=got.n + 1).contains(&next.n),
            std::cmp::Ordering::Less => false,
        };
        if !follows {
            return Err(Gap { got });
        }
        self.incarnation = Some(incarnation);
        self.last = got;
        self.connection += 1;
        Ok(Place { connection: self.connection, at: Some(Position { epoch: next.epoch, n: next.n - 1 }) })
    }

    /// Ends the present connection: nothing more of it is counted.
    pub(super) fn end(&mut self) -> u64 {
        self.connection += 1;
        self.connection
    }

    /// The connection that counts.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// Counts a frame of `epoch`. True where it is new and shall be passed on, false for one that was passed on before.
    pub(super) fn count(&mut self, place: &mut Place, epoch: Epoch) -> bool {
        let Some(at) = &mut place.at else { return true };
        if epoch > at.epoch {
            *at = Position { epoch, n: 0 };
        }
        at.n += 1;
        let new = *at > self.last;
        if new {
            self.last = *at;
        }
        new
    }
}

impl Place {
    /// The connection's number among those of its peer and kind.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// What to tell the dialer: never more than this connection has carried, for the dialer counts from there.
    pub(super) fn got(&self) -> Option<Got> {
        self.at.map(|Position { epoch, n }| Got { epoch, n })
    }
}
