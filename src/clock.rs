//! The seam to time: the only place that reads a clock for the replica, so that a simulation can bring its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::protocol::ids::Moment;

/// Reads moments on this process's clock. Copies of one clock share their start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant at which tokio's timers reach `moment`.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_nanos(moment.0)
    }

    /// Milliseconds since 1970 by the machine's wall clock; only for the times in key entries.
    pub fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
