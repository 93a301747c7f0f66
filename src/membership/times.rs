//! All times of membership, from the one knob (V6).

use crate::clock::Moment;

/// The least failure timeout, in ms: heartbeats every 25 ms are as fast as timers of a busy machine keep.
pub const FAILURE_TIMEOUT_MS_MIN: u64 = 200;

/// What an idle cluster costs, its heartbeats cost: each finds a processor that has forgotten all of this. A lease is granted
/// a pace after its heartbeat, and must last until the next one is: of 0.45 F, 0.16 F are left for what is late, or one pace
/// that is lost altogether.
const HEARTBEATS_PER_FAILURE: u64 = 7;

/// Leadership is confirmed at most this often, in ms, for all heartbeats since: R4.
const CONFIRM_EVERY_MS: u64 = 50;

/// A longest wait of who flaps, in ms: V4.
const PENALTY_MS_MAX: u64 = 60_000;

/// How long a removal counts, in ms: V4.
const PENALTY_MEMORY_MS: u64 = 600_000;

const MS: u64 = 1_000_000;

/// How long things take, in nanoseconds where no other unit is named. A simulated link delay d adds 4 d to what waits for
/// an answer, so that a round trip and a confirmation within it fit. Heartbeats keep their pace: a lease of 0.45 F + 4 d
/// outlasts the F/7 to the next heartbeat and the four ways of its answer only so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Silence after which a member counts as dead, and after which a link counts as cut.
    pub failure: u64,
    /// From one heartbeat to the next.
    pub heartbeat: u64,
    /// A lease, from when the heartbeat was sent.
    pub lease: u64,
    /// What the controller adds to a lease before it acts on its end: clocks may drift apart, by a tenth at most.
    pub drift_margin: u64,
    /// Between two confirmations of leadership.
    pub confirm_every: u64,
    failure_ms: u64,
    delay_ms: u64,
}

impl Times {
    /// The times of a failure timeout in ms, at least [`FAILURE_TIMEOUT_MS_MIN`], and a simulated one-way delay in
    /// microseconds.
    pub fn new(failure_timeout_ms: u64, link_delay_us: u64) -> Times {
        let failure_ms = failure_timeout_ms.max(FAILURE_TIMEOUT_MS_MIN);
        let (failure, delay) = (failure_ms * MS, 4 * link_delay_us * 1_000);
        let delay_ms = delay.div_ceil(MS);
        let lease = failure * 45 / 100 + delay;
        Times {
            failure: failure + delay,
            heartbeat: failure / HEARTBEATS_PER_FAILURE,
            lease,
            drift_margin: lease / 10,
            confirm_every: (CONFIRM_EVERY_MS * MS).min(failure / HEARTBEATS_PER_FAILURE),
            failure_ms,
            delay_ms,
        }
    }

    /// openraft's `election_timeout_min`, in ms, of the replica at this place in config order; its `max` is one more, so
    /// that nothing is drawn and config order decides who asks first.
    pub fn election_ms(&self, index: usize) -> u64 {
        self.failure_ms * 3 / 10 + self.failure_ms * index as u64 / 50 + self.delay_ms
    }

    /// The same in nanoseconds.
    pub fn election(&self, index: usize) -> u64 {
        self.election_ms(index) * MS
    }

    /// How long the replica at this place follows a leader that it does not hear, before it asks for votes: the library's
    /// leader lease, then the election's wait.
    pub fn follow(&self, index: usize) -> u64 {
        (2 * self.election_ms(index) + 1) * MS
    }

    /// How long after a leader's last call all of so many replicas are free to vote for another.
    pub fn free_to_vote(&self, replicas: usize) -> u64 {
        (self.election_ms(replicas.saturating_sub(1)) + 1) * MS + self.failure / 100
    }

    /// From one heartbeat to the next where they go with the answers to the controller's calls: those come every
    /// heartbeat, and one that is a little late shall not cost a wake of its own.
    pub fn patient_heartbeat(&self) -> u64 {
        self.heartbeat * 5 / 4
    }

    /// How much longer than a lease the controller waits: until nobody can still read by one granted at `moment`.
    pub fn lease_end(&self, moment: Moment) -> Moment {
        later(moment, self.lease + self.drift_margin)
    }

    /// A pause this long between two ticks was a stall of this process, not silence of the others (V5).
    pub fn stall(&self) -> u64 {
        self.heartbeat + self.failure / 2
    }

    /// How old the last heartbeat of who is certainly there can be.
    pub fn fresh(&self) -> u64 {
        3 * self.heartbeat + (self.failure - self.failure_ms * MS)
    }

    /// V4: how long a replica waits that was left out alive this many times.
    pub fn penalty(&self, removals: u32) -> u64 {
        let doubled = 1_u64.checked_shl(removals.saturating_sub(1)).unwrap_or(u64::MAX);
        self.failure.saturating_mul(doubled).min(PENALTY_MS_MAX * MS)
    }

    /// V4: how long a removal counts.
    pub fn penalty_memory(&self) -> u64 {
        PENALTY_MEMORY_MS * MS
    }
}

/// The moment this many nanoseconds after another.
pub(super) fn later(moment: Moment, nanos: u64) -> Moment {
    Moment(moment.0.saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_gives_the_times_of_the_rules() {
        let times = Times::new(1_000, 0);
        assert_eq!((times.failure, times.heartbeat), (1_000 * MS, 142_857_142));
        assert_eq!((times.lease, times.drift_margin), (450 * MS, 45 * MS));
        assert_eq!([0, 1, 3].map(|index| times.election_ms(index)), [300, 320, 360]);
        assert_eq!([times.follow(1), times.free_to_vote(4)], [641 * MS, 371 * MS]);
    }

    #[test]
    fn a_lease_outlasts_the_way_of_the_next_one_at_any_delay() {
        for delay_ms in [0, 1, 50, 500] {
            let times = Times::new(1_000, delay_ms * 1_000);
            let ways_of_the_answer = 4 * delay_ms * MS;
            assert!(times.lease > times.heartbeat + times.confirm_every + ways_of_the_answer, "delay {delay_ms} ms");
        }
    }

    #[test]
    fn the_wait_of_who_flaps_doubles_up_to_a_minute() {
        let times = Times::new(1_000, 0);
        assert_eq!([1, 2, 3, 7, 90].map(|n| times.penalty(n) / MS), [1_000, 2_000, 4_000, 60_000, 60_000]);
    }
}
