//! What kind of run a seed makes: how many replicas, which faults, how slow everything is. Each run has only some of the
//! faults, so that each also meets the others' absence.

use fastrand::Rng;
use primacy::config::Mode;

use super::mutants::Mutant;
use super::report::Fault;

/// Nanoseconds in a millisecond: the world's time is in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// The most that a clock is fast or slow, in parts per million. Two clocks that differ by more than lease and margin
/// allow would break R5, and nothing could be said then: 450 ms of a slow clock and 495 ms of a fast one are the same
/// where these are 4.76 % slow and fast.
pub(crate) const DRIFT_PPM: i64 = 45_000;

/// The kind of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    pub(crate) replicas: usize,
    pub(crate) min_in_sync: usize,
    /// The one time that all others of membership follow from (V6).
    pub(crate) failure_timeout_ms: u64,
    pub(crate) clients: usize,
    /// How many requests the clients make while faults go on.
    pub(crate) requests: usize,
    /// How long faults go on.
    pub(crate) faults_until: u64,
    /// The mean time between two faults.
    pub(crate) fault_every: u64,
    pub(crate) faults: Vec<Fault>,
    /// The longest ordinary delay of a frame, and of a disk.
    pub(crate) link_delay: u64,
    pub(crate) disk_delay: u64,
    /// The longest time between a client's requests.
    pub(crate) think: u64,
    /// A client gives up after this.
    pub(crate) patience: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) read_wait_ms: u64,
    /// In how many of 100 turns a replica takes only some of what waits.
    pub(crate) short_turns: u8,
    /// How many items recovery goes through in a turn.
    pub(crate) items_per_turn: usize,
    /// How many of 100 requests carry an idempotency key.
    pub(crate) keyed: u8,
    /// How many of 100 writes carry If-Match.
    pub(crate) conditional: u8,
    /// How many of 100 requests are reads.
    pub(crate) reads: u8,
    /// How many of 100 writes go to one of the two hottest notes.
    pub(crate) hot: u8,
    /// Whether a process that died starts again by itself.
    pub(crate) restarts: bool,
    /// The rule that is switched off, where the checks themselves are tried.
    pub(crate) mutant: Option<Mutant>,
}

impl Plan {
    /// A run in which a script says what happens: nothing goes wrong by itself, nobody asks anything, nothing is slow.
    pub(crate) fn of_script(seed: u64, mode: Mode, replicas: usize) -> (Plan, Rng) {
        let (plan, rng) = Plan::of_seed(seed);
        let plan = Plan {
            mode,
            replicas,
            min_in_sync: 1,
            failure_timeout_ms: 1_000,
            clients: 0,
            requests: 0,
            faults_until: u64::MAX,
            faults: Vec::new(),
            link_delay: MS,
            disk_delay: MS,
            request_timeout_ms: 5_000,
            read_wait_ms: 3_000,
            restarts: false,
            ..plan
        };
        (plan, rng)
    }

    /// The failure timeout in nanoseconds.
    pub(crate) fn failure_timeout(&self) -> u64 {
        self.failure_timeout_ms * MS
    }

    /// The run of a seed; everything else of the run is drawn from the generator that is left.
    pub(crate) fn of_seed(seed: u64) -> (Plan, Rng) {
        let mut rng = Rng::with_seed(seed);
        let rng_ref = &mut rng;
        let replicas = *pick(rng_ref, &[3, 3, 3, 4, 4, 5, 2]);
        let faults = Fault::DRAWN.iter().copied().filter(|_| rng_ref.u8(0..100) < 45).collect();
        let plan = Plan {
            seed,
            mode: *pick(rng_ref, &[Mode::RemoteWrite, Mode::LocalWrite]),
            replicas,
            min_in_sync: *pick(rng_ref, &[1, 1, 2]),
            failure_timeout_ms: *pick(rng_ref, &[1_000, 1_000, 500]),
            clients: rng_ref.usize(2..=6),
            requests: rng_ref.usize(100..=400),
            faults_until: rng_ref.u64(500..=6_000) * MS,
            fault_every: *pick(rng_ref, &[60, 150, 400, 1_000]) * MS,
            faults,
            link_delay: *pick(rng_ref, &[MS / 5, MS, 5 * MS, 30 * MS]),
            disk_delay: *pick(rng_ref, &[MS / 20, MS, 5 * MS, 40 * MS]),
            think: *pick(rng_ref, &[MS / 2, 5 * MS, 30 * MS]),
            patience: *pick(rng_ref, &[300, 1_000, 6_000]) * MS,
            request_timeout_ms: *pick(rng_ref, &[150, 600, 5_000]),
            read_wait_ms: *pick(rng_ref, &[100, 600, 3_000]),
            short_turns: *pick(rng_ref, &[0, 0, 30, 90]),
            // Not drawn, so that all else of a seed's run stays what it was.
            items_per_turn: [1_000, 1, 7, 2][seed as usize % 4],
            keyed: *pick(rng_ref, &[0, 20, 60]),
            conditional: *pick(rng_ref, &[0, 10, 40]),
            reads: *pick(rng_ref, &[20, 40, 60]),
            hot: *pick(rng_ref, &[20, 60, 95]),
            restarts: true,
            mutant: None,
        };
        // Something was drawn here once: so all else of a seed's run stays what it was.
        rng.bool();
        (plan, rng)
    }
}

/// One of several.
pub(crate) fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}
