//! Timers: deadlines, and the simulated delay between replicas, with which a wide-area link can be measured on one
//! machine.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A one-way delay; usually none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay(Duration);

impl Delay {
    pub(super) fn of_us(us: u64) -> Delay {
        Delay(Duration::from_micros(us))
    }

    /// One way.
    pub(super) fn duration(self) -> Duration {
        self.0
    }

    /// When what is sent now may arrive.
    pub(super) fn due(self) -> Instant {
        Instant::now() + self.0
    }

    /// Waits for what takes `ways` ways; not at all where there is no delay.
    pub(super) async fn pass(self, ways: u32) {
        if !self.0.is_zero() {
            until(Instant::now() + self.0 * ways).await;
        }
    }
}

/// Waits until `due`.
pub(super) async fn until(due: Instant) {
    sleep_until(due).await;
}

/// A timer for deadlines that mostly move on before they are reached: it is set anew only where it must be.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn new() -> Alarm {
        Alarm(Box::pin(sleep_until(Instant::now())))
    }

    /// Waits until `due`, forever where there is none.
    pub(super) async fn at(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return std::future::pending().await };
        while Instant::now() < due {
            if self.0.deadline() > due || self.0.is_elapsed() {
                self.0.as_mut().reset(due);
            }
            self.0.as_mut().await;
        }
    }
}
