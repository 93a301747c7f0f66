//! The simulated delay between replicas, so that a wide-area link can be measured on one machine.
//!
//! It is kept by who sends, and exact to 0.1 ms, since who waits for it is awake when it ends (`awake_until`); only where a
//! delay is configured, for that costs a processor's time. Whom the frame reaches has to wake, as without a delay; and a
//! `got`, for which nobody waits, may be late.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::ExactTimer;

/// A one-way delay; usually none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay(Duration);

impl Delay {
    pub(super) fn of_us(us: u64) -> Delay {
        Delay(Duration::from_micros(us))
    }

    /// Whether there is any.
    pub(super) fn is_some(self) -> bool {
        !self.0.is_zero()
    }

    /// One way.
    pub(super) fn duration(self) -> Duration {
        self.0
    }

    /// When what is sent now may arrive.
    pub(super) fn due(self) -> Instant {
        Instant::now() + self.0
    }

    /// Waits until what began at `from` has gone `ways` ways, and says when that was: what else has taken time since then
    /// counts once, and a timer that is a little late does not make the next one later.
    pub(super) async fn pass_since(self, from: Instant, ways: u32) -> Instant {
        let due = (from + self.0 * ways).max(Instant::now());
        if self.is_some() {
            ExactTimer::default().awake_until(due).await;
        }
        due
    }

    /// Waits for what takes `ways` ways; not at all where there is no delay.
    pub(super) async fn pass(self, ways: u32) {
        if self.is_some() {
            ExactTimer::default().awake_until(Instant::now() + self.0 * ways).await;
        }
    }
}
