//! How long to wait before dialing again.

use std::time::Duration;

/// The least wait.
const LEAST_MS: u64 = 50;

/// The longest wait.
const MOST_MS: u64 = 500;

/// Waits that double from 50 to 500 ms, each drawn from the upper half, so that replicas that lost each other at the same
/// moment do not dial in step.
#[derive(Debug)]
pub struct Backoff {
    ceiling_ms: u64,
    /// State of a xorshift generator; never 0.
    random: u64,
}

impl Backoff {
    /// Waits that begin short; `seed` draws them.
    pub fn new(seed: u64) -> Backoff {
        Backoff { ceiling_ms: 2 * LEAST_MS, random: seed | 1 }
    }

    /// The next wait, longer than the one before.
    pub fn next_wait(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.ceiling_ms / 2;
        let wait = half + self.random % (half + 1);
        self.ceiling_ms = (self.ceiling_ms * 2).min(MOST_MS);
        Duration::from_millis(wait)
    }

    /// A dial succeeded: the next wait is short again.
    pub fn reset(&mut self) {
        self.ceiling_ms = 2 * LEAST_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_50_to_500_ms_and_stay_there() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            let waits: Vec<u128> = (0..20).map(|_| backoff.next_wait().as_millis()).collect();
            assert!(waits.iter().all(|wait| (50..=500).contains(wait)), "seed {seed}: {waits:?}");
            assert!(waits[0] <= 100 && waits[19] >= 250, "seed {seed}: {waits:?}");
            backoff.reset();
            assert!(backoff.next_wait().as_millis() <= 100);
        }
    }

    #[test]
    fn two_seeds_do_not_wait_in_step() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1 << 40), waits(3 << 33));
    }
}
