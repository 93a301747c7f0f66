//! What one peer has sent on one kind of link, counted across its connections, so that each frame is passed on once.

use std::cmp::Ordering;

use crate::protocol::ids::{Epoch, Incarnation};
use crate::protocol::message::Position;

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
    fn last(&self, incarnation: Incarnation) -> Position {
        match self.incarnation {
            Some(counted) if counted == incarnation => self.last,
            _ => Position::default(),
        }
    }

    /// Where a dialer whose first frame would be `next` goes on, if it waits to be told so: with the first frame that is not
    /// here. Refused where frames are missing between what was counted and `next`.
    pub(super) fn resume(&self, incarnation: Incarnation, next: Position) -> Result<Position, Gap> {
        let got = self.last(incarnation);
        let follows = match next.epoch.cmp(&got.epoch) {
            Ordering::Greater => next.n == 1,
            Ordering::Equal => (1..=got.n + 1).contains(&next.n),
            Ordering::Less => false,
        };
        let new = Position { epoch: got.epoch, n: got.n + 1 };
        if follows { Ok(next.max(new)) } else { Err(Gap { got }) }
    }

    /// Begins a connection whose first frame is `next`; it replaces the one before. Refused as in [`resume`](Self::resume).
    /// Without `next` its frames are not numbered, and each is new.
    pub(super) fn begin(&mut self, incarnation: Incarnation, next: Option<Position>) -> Result<Place, Gap> {
        let mut at = None;
        if let Some(next) = next {
            self.resume(incarnation, next)?;
            self.last = self.last(incarnation);
            self.incarnation = Some(incarnation);
            at = Some(Position { epoch: next.epoch, n: next.n - 1 });
        }
        self.connection += 1;
        Ok(Place { connection: self.connection, at })
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
    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Incarnation = Incarnation(1);

    fn at(epoch: u64, n: u64) -> Position {
        Position { epoch: Epoch(epoch), n }
    }

    #[test]
    fn frames_sent_again_are_dropped_and_new_ones_are_not() {
        let mut tally = Tally::default();
        let mut place = tally.begin(FIRST, Some(at(1, 1))).unwrap();
        assert_eq!([true; 3], std::array::from_fn(|_| tally.count(&mut place, Epoch(1))));
        // The next connection does not wait to hear that three are here.
        let mut place = tally.begin(FIRST, Some(at(1, 2))).unwrap();
        assert_eq!([false, false, true], std::array::from_fn(|_| tally.count(&mut place, Epoch(1))));
        // This one does.
        let next = tally.resume(FIRST, at(1, 2)).unwrap();
        assert_eq!(next, at(1, 5));
        let mut place = tally.begin(FIRST, Some(next)).unwrap();
        assert_eq!(place.at(), Some(at(1, 4)));
        assert!(tally.count(&mut place, Epoch(1)));
    }

    #[test]
    fn a_larger_epoch_starts_the_numbering_again() {
        let mut tally = Tally::default();
        let mut place = tally.begin(FIRST, Some(at(1, 1))).unwrap();
        tally.count(&mut place, Epoch(1));
        assert!(tally.count(&mut place, Epoch(3)));
        assert_eq!(place.at(), Some(at(3, 1)));
        let mut place = tally.begin(FIRST, Some(at(3, 1))).unwrap();
        assert!(!tally.count(&mut place, Epoch(3)), "it was counted on the connection before");
    }

    #[test]
    fn a_connection_that_does_not_follow_is_refused() {
        let mut tally = Tally::default();
        assert_eq!(tally.begin(FIRST, Some(at(1, 2))), Err(Gap { got: at(0, 0) }));
        let mut place = tally.begin(FIRST, Some(at(2, 1))).unwrap();
        tally.count(&mut place, Epoch(2));
        for next in [at(2, 0), at(2, 3), at(1, 1), at(3, 2)] {
            assert_eq!(tally.begin(FIRST, Some(next)), Err(Gap { got: at(2, 1) }), "{next:?}");
        }
        assert_eq!(tally.resume(FIRST, at(3, 1)), Ok(at(3, 1)), "a later numbering begins at 1");
        // Another process has a numbering of its own.
        assert!(tally.begin(Incarnation(2), Some(at(1, 1))).is_ok());
    }

    #[test]
    fn a_newer_connection_counts_in_place_of_the_older_one() {
        let mut tally = Tally::default();
        let old = tally.begin(FIRST, None).unwrap();
        let new = tally.begin(FIRST, None).unwrap();
        assert_ne!(old.connection(), tally.connection());
        assert_eq!(new.connection(), tally.connection());
    }
}
