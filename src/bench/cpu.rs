//! Who used the processor: the load generator, the servers, or others.

use std::fs;
use std::time::Instant;

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// Ticks of Linux's /proc/stat in a second (USER_HZ, the same on every architecture that Rust runs on).
const TICKS_PER_S: f64 = 100.0;

/// Times used so far, in seconds. The load generator is the thread that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    at: Instant,
    generator: f64,
    process: f64,
    /// None where the system does not tell.
    machine: Option<f64>,
}

/// Cores used on average over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// By the load generator, which has one thread.
    pub generator: f64,
    /// By the rest of this process: the servers, where it runs them.
    pub servers: f64,
    /// By other processes; none where the system does not tell.
    pub others: Option<f64>,
}

impl Reading {
    pub(super) fn now() -> Reading {
        Reading {
            at: Instant::now(),
            generator: seconds(clock_gettime(ClockId::ThreadCPUTime)),
            process: seconds(clock_gettime(ClockId::ProcessCPUTime)),
            machine: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|text| busy_ticks(&text))
                .map(|it| it / TICKS_PER_S),
        }
    }

    /// What was used since an earlier reading.
    pub(super) fn since(&self, earlier: &Reading) -> Cores {
        let wall = (self.at - earlier.at).as_secs_f64().max(1e-6);
        let process = self.process - earlier.process;
        let generator = self.generator - earlier.generator;
        let machine = self.machine.zip(earlier.machine).map(|(now, then)| now - then);
        Cores {
            generator: generator / wall,
            servers: (process - generator).max(0.0) / wall,
            others: machine.map(|machine| (machine - process).max(0.0) / wall),
        }
    }
}

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// All cores' ticks that were neither idle nor waiting (proc_stat(5)); guests are counted in `user` already, and what
/// the hypervisor took is missed by everybody.
fn busy_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<f64> = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
    let (idle, waiting) = (3, 4);
    (fields.len() > waiting).then(|| {
        fields.iter().take(8).enumerate().filter(|(place, _)| ![idle, waiting].contains(place)).map(|(_, it)| it).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        assert_eq!(busy_ticks("cpu  10 2 3 1000 500 1 4 5 7 7\ncpu0 1 1"), Some(25.0));
        assert_eq!(busy_ticks("intr 5"), None);
    }

    #[test]
    fn a_busy_thread_is_the_generators() {
        let before = Reading::now();
        let mut sum = 0_u64;
        while Instant::now() - before.at < std::time::Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let cores = Reading::now().since(&before);
        assert!(cores.generator > 0.0 && cores.generator < 1.5, "{cores:?}");
    }
}
