//! Connections whose peer has said hello and not proved itself yet: so many and no more.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use super::lock;

/// Where they wait. Past the bound the oldest one goes: a replica's proof takes a round trip, so who has waited longest
/// is the least likely to be one, and strangers that take every place keep nobody out.
#[derive(Debug)]
pub(super) struct Unproved {
    places: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// By their order of coming; dropped, the connection is told to go.
    connections: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A connection's place; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    unproved: &'a Unproved,
    number: u64,
    gone: oneshot::Receiver<()>,
}

impl Unproved {
    pub(super) fn new(places: usize) -> Unproved {
        Unproved { places, waiting: Mutex::default() }
    }

    /// A place for one more, if need be the oldest one's.
    pub(super) fn enter(&self) -> Seat<'_> {
        let (stay, gone) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.connections.len() >= self.places {
            waiting.connections.pop_first();
        }
        waiting.last += 1;
        let number = waiting.last;
        waiting.connections.insert(number, stay);
        Seat { unproved: self, number, gone }
    }
}

impl Seat<'_> {
    /// Waits until another connection takes the place.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent; the other end is dropped.
        let _ = (&mut self.gone).await;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(&self.unproved.waiting).connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many_and_places_are_given_back() {
        let unproved = Unproved::new(2);
        let mut first = unproved.enter();
        let mut second = unproved.enter();
        assert_eq!((first.lost().now_or_never(), second.lost().now_or_never()), (None, None));
        let mut third = unproved.enter();
        assert_eq!(first.lost().now_or_never(), Some(()));
        drop(first);
        drop(second);
        let _fourth = unproved.enter();
        assert_eq!(third.lost().now_or_never(), None, "the second one's place was free");
        assert_eq!(lock(&unproved.waiting).connections.len(), 2);
    }
}
