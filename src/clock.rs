//! The seam to time: the only place that reads a clock for the replica, so that a simulation can bring its own.

mod exact;
mod timer;

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Sleep, sleep_until};

pub use exact::ExactTimer;
pub use timer::Timer;

/// A moment on one replica's own clock, in nanoseconds since an arbitrary start. Moments of two replicas are never
/// compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// This moment and `ms` milliseconds more.
    pub fn after_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds from `earlier` to this moment, 0 where it lies after.
    pub fn nanos_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Reads moments on this process's clock. Copies of one clock share their start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Start,
    /// What the wall clock showed then, where it goes by the same time.
    wall_start_ms: Option<u64>,
}

/// What a clock counts from, and by.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// The system's clock that goes on while the machine is suspended (CLOCK_BOOTTIME): a lease must not outlive a
    /// suspension (R3).
    #[cfg(target_os = "linux")]
    Boot(Duration),
    /// tokio's, which a simulation can move.
    Tokio(Instant),
}

impl Clock {
    /// A clock by tokio's time, that starts now.
    pub fn start() -> Clock {
        Clock { start: Start::Tokio(Instant::now()), wall_start_ms: None }
    }

    /// A clock by tokio's time alone, that starts now and whose wall clock shows this many ms since 1970 then.
    pub fn simulated(wall_ms: u64) -> Clock {
        Clock { start: Start::Tokio(Instant::now()), wall_start_ms: Some(wall_ms) }
    }

    /// A clock by the system's time, suspensions included where the system counts them, that starts now.
    pub fn boot() -> Clock {
        #[cfg(target_os = "linux")]
        return Clock { start: Start::Boot(since_boot()), wall_start_ms: None };
        #[cfg(not(target_os = "linux"))]
        Clock::start()
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        let passed = match self.start {
            #[cfg(target_os = "linux")]
            Start::Boot(start) => since_boot().saturating_sub(start),
            Start::Tokio(start) => start.elapsed(),
        };
        Moment(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant at which tokio's timers reach `moment`, as far as the machine is not suspended before.
    pub fn instant(&self, moment: Moment) -> Instant {
        match self.start {
            #[cfg(target_os = "linux")]
            Start::Boot(_) => Instant::now() + Duration::from_nanos(moment.nanos_since(self.now())),
            Start::Tokio(start) => start + Duration::from_nanos(moment.0),
        }
    }

    /// A timer for moments on this clock.
    pub fn timer(&self) -> Timer {
        Timer::by(*self)
    }

    fn is_of_tokio(&self) -> bool {
        matches!(self.start, Start::Tokio(_))
    }

    /// Milliseconds since 1970 by the machine's wall clock; only for the times in key entries.
    pub fn wall_ms(&self) -> u64 {
        if let Some(start_ms) = self.wall_start_ms {
            return start_ms.saturating_add(self.now().0 / 1_000_000);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Time since boot is neither negative nor near the bounds of its fields.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A timer for deadlines that mostly move on before they are reached: it is set anew only where it must be.
#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// An alarm that is set for nothing.
    pub fn new() -> Alarm {
        Alarm(Box::pin(sleep_until(Instant::now())))
    }

    /// Waits until `due`, forever where there is none. May be dropped and called again.
    pub async fn at(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return std::future::pending().await };
        while Instant::now() < due {
            if self.0.deadline() > due || self.0.is_elapsed() {
                self.0.as_mut().reset(due);
            }
            self.0.as_mut().await;
        }
    }
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm::new()
    }
}
