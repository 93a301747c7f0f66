//! One timer for all deadlines of a connection.

use std::pin::Pin;

use tokio::time::{Instant, Sleep};

/// A deadline that moves with every request. Moving it later costs nothing: the timer is looked after when it fires.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// A deadline at `at`.
    pub(crate) fn new(at: Instant) -> Deadline {
        Deadline { at, timer: Box::pin(tokio::time::sleep_until(at)) }
    }

    /// Moves the deadline.
    pub(crate) fn set(&mut self, at: Instant) {
        self.at = at;
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }

    /// Returns once the deadline has passed. May be dropped and called again.
    pub(crate) async fn passed(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.timer.deadline() >= self.at {
                return;
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}
