//! When a replica asks for votes. The library does so by itself, but only looks every tick, and it knows no stall (V5) and no
//! controller that stops (V11). Pure: times are arguments.

use super::times::Times;
use crate::clock::Moment;
use crate::protocol::ids::ReplicaId;

/// What a replica remembers of the leader's calls.
#[derive(Debug)]
pub(super) struct Succession {
    me: ReplicaId,
    replicas: usize,
    times: Times,
    /// The last time that this replica ran.
    now: Moment,
    /// When the leader called last, or when it became the leader.
    called: Moment,
    /// Votes were asked for since: if in vain, the library tries again.
    asked: bool,
}

impl Succession {
    /// Of a process that starts now.
    pub(super) fn new(me: ReplicaId, replicas: usize, times: Times, now: Moment) -> Succession {
        Succession { me, replicas, times, now, called: now, asked: false }
    }

    /// Time in which this process did not run is no silence of the leader (V5).
    pub(super) fn pass_time(&mut self, now: Moment) {
        if now.nanos_since(self.now) > self.times.stall() {
            self.called = now;
        }
        self.now = self.now.max(now);
    }

    /// The leader called, or there is another one.
    pub(super) fn on_call(&mut self, now: Moment) {
        self.pass_time(now);
        (self.called, self.asked) = (self.now, false);
    }

    /// When to ask for votes, where somebody else leads. Its successor need not wait for its silence, only until the others
    /// are free to vote.
    pub(super) fn due(&self, is_successor: bool) -> Moment {
        let wait = match is_successor {
            true => self.times.free_to_vote(self.replicas),
            false => self.times.follow(self.me.index()),
        };
        if self.asked { Moment::NEVER } else { Moment(self.called.0.saturating_add(wait)) }
    }

    /// Votes are being asked for.
    pub(super) fn on_asked(&mut self) {
        self.asked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    fn succession() -> Succession {
        Succession::new(ReplicaId(1), 4, Times::new(1_000, 0), at(0))
    }

    #[test]
    fn votes_are_asked_for_once_after_the_leader_was_silent() {
        let mut succession = succession();
        (1..=4).for_each(|beat| succession.pass_time(at(100 * beat)));
        succession.on_call(at(500));
        assert_eq!(succession.due(false), at(500 + 641));
        succession.on_asked();
        assert_eq!(succession.due(false), Moment::NEVER);
        succession.on_call(at(700));
        assert_eq!(succession.due(false), at(700 + 641), "of the next leader");
    }

    #[test]
    fn v11_the_successor_of_a_leader_that_stops_waits_until_all_are_free_to_vote() {
        assert_eq!(succession().due(true), at(371));
    }

    #[test]
    fn v5_a_stall_of_this_process_is_no_silence_of_the_leader() {
        let mut succession = succession();
        succession.pass_time(at(5_000));
        assert_eq!(succession.due(false), at(5_000 + 641));
    }
}
