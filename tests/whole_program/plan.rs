//! What kind of run a seed stands for.

use fastrand::Rng;
use primacy::config::{Address, Config, Durability, Mode};

/// The first of each replica's ports; the other one is HTTP's.
pub(crate) const PORT: u16 = 10_000;
pub(crate) const SERVICE: u16 = 9_988;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) replicas: usize,
    pub(crate) mode: Mode,
    pub(crate) durability: Durability,
    pub(crate) failure_timeout_ms: u64,
    pub(crate) clients: usize,
    /// How long a client waits between two requests, at most.
    pub(crate) think_ms: u64,
    /// How long faults go on, from the first answer on.
    pub(crate) faults_ms: u64,
    /// From one fault to the next, about.
    pub(crate) fault_every_ms: u64,
    /// Of a message, at most. A confirmation of the lead has to fit into a heartbeat, there and back.
    pub(crate) latency_ms: u64,
    /// How long a disk takes for a write.
    pub(crate) disk_ms: u64,
}

impl Plan {
    pub(crate) fn of_seed(seed: u64) -> (Plan, Rng) {
        let mut rng = Rng::with_seed(seed);
        let failure_timeout_ms = *pick(&mut rng, &[300, 500, 1_000]);
        let plan = Plan {
            replicas: rng.usize(3..=5),
            mode: if rng.bool() { Mode::RemoteWrite } else { Mode::LocalWrite },
            durability: if rng.u8(0..8) == 0 { Durability::Memory } else { Durability::Disk },
            failure_timeout_ms,
            clients: rng.usize(3..=6),
            think_ms: *pick(&mut rng, &[5, 20, 60]),
            faults_ms: rng.u64(3_000..8_000),
            fault_every_ms: rng.u64(200..1_500),
            latency_ms: *pick(&mut rng, &[2, failure_timeout_ms / 60, failure_timeout_ms / 25]),
            disk_ms: *pick(&mut rng, &[0, 0, 1, 10]),
        };
        (plan, rng)
    }

    pub(crate) fn config(&self) -> Config {
        let replicas = (0..self.replicas).map(|place| Address::new(host(place), PORT)).collect();
        let mut config = Config::new(self.mode, replicas, SERVICE);
        config.failure_timeout_ms = self.failure_timeout_ms;
        config.durability = self.durability;
        config.data = "/data".into();
        // Replicas on several hosts have to prove themselves to each other.
        config.secret = Some("0123456789abcdef0123456789abcdef".parse().expect("it is long enough"));
        config
    }
}

/// The name of a replica's host.
pub(crate) fn host(place: usize) -> String {
    format!("replica-{place}")
}

pub(crate) fn pick<'a, T>(rng: &mut Rng, things: &'a [T]) -> &'a T {
    &things[rng.usize(..things.len())]
}
