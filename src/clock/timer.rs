//! A timer for a deadline that moves on before it is reached, over and over: to wake for nothing costs more than to set it
//! anew.
//!
//! The runtime's own timers wake their thread twice where they are set for more than 64 ms, once to sort them more
//! finely, also where the deadline has moved on until then. So this one waits on a timer of the system's where the clock
//! is the system's.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::exact::SystemTimer;
use super::{Clock, Moment};

/// A timer by a [`Clock`].
#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    set_for: Option<Moment>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    System(SystemTimer),
    /// In simulations, and where the system has no timers.
    Tokio(Pin<Box<Sleep>>),
}

impl Timer {
    pub(super) fn by(clock: Clock) -> Timer {
        let kind = if clock.is_of_tokio() { Kind::tokio() } else { Kind::System(SystemTimer::default()) };
        Timer { clock, set_for: None, kind }
    }

    /// Waits until `due`, never less. May be dropped, and called again with another moment.
    pub async fn at(&mut self, due: Moment) {
        loop {
            let left = Duration::from_nanos(due.nanos_since(self.clock.now()));
            if left.is_zero() {
                return;
            }
            if self.set_for != Some(due) {
                self.kind.set(left);
                self.set_for = Some(due);
            }
            self.kind.fired().await;
            self.set_for = None;
        }
    }
}

impl Kind {
    fn tokio() -> Kind {
        Kind::Tokio(Box::pin(sleep_until(Instant::now())))
    }

    fn set(&mut self, left: Duration) {
        // Where the system gives no timer, a coarser one is better than none.
        if let Kind::System(timer) = self
            && timer.set(left).is_err()
        {
            *self = Kind::tokio();
        }
        if let Kind::Tokio(sleep) = self {
            sleep.as_mut().reset(Instant::now() + left);
        }
    }

    /// Waits for what it is set for, or less.
    async fn fired(&mut self) {
        match self {
            Kind::Tokio(sleep) => sleep.as_mut().await,
            Kind::System(timer) => {
                if timer.fired().await.is_err() {
                    *self = Kind::tokio();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_never_early_however_often_it_is_set_anew() {
        for clock in [Clock::boot(), Clock::start()] {
            let mut timer = clock.timer();
            for _ in 0..20 {
                let start = clock.now();
                tokio::select! {
                    biased;
                    () = timer.at(start.after_ms(1_000_000)) => panic!("the far deadline has come"),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
                timer.at(start.after_ms(3)).await;
                assert!(clock.now() >= start.after_ms(3));
                timer.at(start).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn by_a_simulated_clock_it_follows_simulated_time() {
        let clock = Clock::simulated(0);
        clock.timer().at(Moment::default().after_ms(3_600_000)).await;
        assert_eq!(clock.now(), Moment::default().after_ms(3_600_000));
    }
}
