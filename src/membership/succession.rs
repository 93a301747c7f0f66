//! When a replica asks for votes. The library could do so by itself, but knows no stall (V5) and no controller that stops
//! (V11), and waits no longer where votes were asked for in vain: those of a busy machine come late, and an election that
//! begins too soon undoes the one before. So it looks whether its time has come only when it is told to. Pure: times are
//! arguments.

use super::times::Times;
use crate::clock::Moment;
use crate::protocol::ids::ReplicaId;

/// How often the wait for the next election doubles.
const DOUBLINGS_MAX: u32 = 3;

/// What a replica remembers of the leader's calls, and of elections.
#[derive(Debug)]
pub(super) struct Succession {
    me: ReplicaId,
    replicas: usize,
    times: Times,
    /// The last time that this replica ran.
    now: Moment,
    /// When the leader called last, or when it became the leader.
    called: Moment,
    /// Votes were asked for since.
    asked: bool,
    /// The newest term.
    term: u64,
    /// Set where nobody leads.
    vain: Option<Vain>,
}

/// Nobody leads.
#[derive(Debug)]
struct Vain {
    /// When this term began, or the next one should have.
    since: Moment,
    /// How many terms began in which nobody led yet.
    terms: u32,
    /// Whether the next one should have begun.
    tried: bool,
}

impl Succession {
    /// Of a process that starts now.
    pub(super) fn new(me: ReplicaId, replicas: usize, times: Times, now: Moment) -> Succession {
        Succession { me, replicas, times, now, called: now, asked: false, term: 0, vain: None }
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
        self.vain.take_if(|vain| vain.terms == 0);
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

    /// Somebody leads, or nobody, in this term.
    pub(super) fn on_term(&mut self, now: Moment, term: u64, has_leader: bool) {
        let is_new = self.term != term;
        self.term = term;
        if has_leader {
            // Votes may just be asked for, and the library not have got so far.
            self.vain.take_if(|_| !self.asked);
        } else if is_new || self.vain.is_none() {
            let terms = self.vain.as_ref().map_or(0, |vain| vain.terms) + 1;
            self.vain = Some(Vain { since: now, terms, tried: false });
        }
    }

    /// A vote was refused to somebody for what is known here and not there. That one may ask for ever in vain; and since the
    /// library refuses without taking over its term, whoever asks more rarely is always one term late.
    pub(super) fn on_refused(&mut self) {
        if let Some(vain) = &mut self.vain {
            (vain.terms, vain.tried) = (0, false);
        }
    }

    /// Whether the library shall look whether its time to ask for votes has come, where nobody leads. It is told so once for
    /// each term: what it is told while it is busy would make it ask twice. Who is first in config order goes on being that.
    pub(super) fn tries(&mut self, now: Moment) -> bool {
        let Some(vain) = &mut self.vain else { return false };
        let wait = self.times.election(self.me.index()) << vain.terms.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = if vain.tried { wait.max(self.times.failure) } else { wait };
        let is_due = now.nanos_since(vain.since) >= wait;
        if is_due {
            (vain.since, vain.tried) = (now, true);
        }
        is_due
    }

    /// Votes are being asked for.
    pub(super) fn on_asked(&mut self) {
        self.asked = true;
        self.vain = Some(Vain { since: self.now, terms: 0, tried: true });
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
    fn elections_in_vain_become_rarer_until_somebody_leads() {
        let mut succession = succession();
        assert!(!succession.tries(at(0)), "not before it is known that nobody leads");
        let terms = [(0, 320), (1, 640), (2, 1_280), (3, 2_560), (9, 2_560)];
        for (start, (term, wait)) in (1_000..).step_by(10_000).zip(terms) {
            succession.on_term(at(start), term, false);
            succession.on_term(at(start + 1), term, false);
            assert!(!succession.tries(at(start + wait - 1)), "term {term}");
            assert!(succession.tries(at(start + wait)), "term {term}");
            assert!(!succession.tries(at(start + wait + 999)), "term {term}: the library may be busy");
            assert!(!succession.tries(at(start + wait + 999)), "term {term}: the library may be busy");
        }
        succession.on_term(at(90_000), 9, true);
        assert!(!succession.tries(at(99_000)));
        succession.on_term(at(100_000), 10, false);
        assert!(succession.tries(at(100_320)), "it begins anew");
    }

    #[test]
    fn who_refuses_a_vote_for_what_it_knows_asks_soon_again_itself() {
        let mut succession = succession();
        for term in 1..=9 {
            succession.on_term(at(0), term, false);
        }
        assert!(!succession.tries(at(2_559)), "eight times as long as at first");
        succession.on_refused();
        assert!(succession.tries(at(2_559)));
        succession.on_term(at(2_560), 10, false);
        assert!(!succession.tries(at(2_879)));
        assert!(succession.tries(at(2_880)), "with the other's term, before that one asks again");
    }

    #[test]
    fn what_was_asked_for_in_vain_is_tried_again_also_where_the_library_did_nothing() {
        let mut succession = succession();
        succession.on_term(at(0), 1, true);
        succession.on_asked();
        succession.on_term(at(10), 1, true);
        assert!(!succession.tries(at(999)));
        assert!(succession.tries(at(1_000)));
    }

    #[test]
    fn v5_a_stall_of_this_process_is_no_silence_of_the_leader() {
        let mut succession = succession();
        succession.pass_time(at(5_000));
        assert_eq!(succession.due(false), at(5_000 + 641));
    }
}
