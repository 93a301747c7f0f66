//! A replica's own part: it says that it lives, counts who is silent, and turns the controller's answers into leases. Pure:
//! times are arguments.

use std::collections::VecDeque;

use super::times::{Times, later};
use crate::clock::Moment;
use crate::protocol::ids::{ClusterId, ConsensusId, Epoch, Incarnation, ReplicaId, ReplicaSet, StoreId};
use crate::protocol::message::Heartbeat;
use crate::protocol::view::View;

/// Most heartbeats whose sending time is remembered: those of one lease, and some that were sent out of turn. A lease for
/// one that was forgotten is dropped.
const SENT_MAX: usize = 64;

/// Every so many heartbeats goes to all; those between to the controller alone, while it is heard. A link that is cut is
/// noticed by three of them missing, and who controls next hears all as soon as the controller is silent.
const HEARTBEATS_TO_ALL: u64 = 3;

/// What the node tells of its replica; it goes into each heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its record store.
    pub store: StoreId,
    /// Whether that store was empty at the process's start.
    pub blank: bool,
    /// The joining view under which it has copied everything into `store` (J3).
    pub synced: Option<Epoch>,
    /// Peers to which its dialed links, control and data, are up.
    pub links: ReplicaSet,
    /// Peers whose frames come and whose acknowledgements do not, in this epoch (V4).
    pub complaints: (Epoch, ReplicaSet),
    /// It reads no more and asks to be left out (V11).
    pub stopping: bool,
}

impl Standing {
    /// Of a replica that has just started with this store.
    pub fn of(store: StoreId, blank: bool) -> Standing {
        Standing {
            store,
            blank,
            synced: None,
            links: ReplicaSet::EMPTY,
            complaints: (Epoch(0), ReplicaSet::EMPTY),
            stopping: false,
        }
    }
}

/// What a replica remembers of its heartbeats and those of the others.
#[derive(Debug)]
pub struct Heartbeats {
    me: ReplicaId,
    times: Times,
    /// The last time that anything happened here.
    now: Moment,
    /// The process's start, or the end of its last stall.
    awake_since: Moment,
    last_nonce: u64,
    /// Nonces and when they were sent, oldest first (R3).
    sent: VecDeque<(u64, Moment)>,
    /// By replica: the incarnation that was heard last, and when.
    heard: Vec<Option<(Incarnation, Moment)>>,
    /// By replica: since when the incarnation in the view counts as silent.
    silent_since: Vec<Moment>,
    view: Option<View>,
}

impl Heartbeats {
    /// Of a process that starts now.
    pub fn new(me: ReplicaId, replicas: usize, times: Times, now: Moment) -> Heartbeats {
        Heartbeats {
            me,
            times,
            now,
            awake_since: now,
            last_nonce: 0,
            sent: VecDeque::new(),
            heard: vec![None; replicas],
            silent_since: vec![now; replicas],
            view: None,
        }
    }

    /// Something came from a peer.
    pub fn on_heard(&mut self, now: Moment, from: ReplicaId, incarnation: Incarnation) {
        self.pass_time(now);
        let Some(heard) = self.heard.get_mut(from.index()) else { return };
        *heard = Some((incarnation, now));
        if self.view.as_ref().and_then(|view| view.incarnation_of(from)) == Some(incarnation) {
            self.silent_since[from.index()] = now;
        }
    }

    /// A new view was agreed: who is in it anew is heard from now on.
    pub fn on_view(&mut self, now: Moment, view: View) {
        self.pass_time(now);
        for member in view.members() {
            let listed = self.view.as_ref().and_then(|before| before.incarnation_of(member.replica));
            if listed != Some(member.incarnation) {
                self.silent_since[member.replica.index()] = now;
            }
        }
        self.view = Some(view);
    }

    /// The next heartbeat, which is sent now.
    pub fn beat(
        &mut self,
        now: Moment,
        standing: &Standing,
        consensus: ConsensusId,
        cluster: Option<ClusterId>,
    ) -> Heartbeat {
        self.pass_time(now);
        self.last_nonce += 1;
        self.sent.push_back((self.last_nonce, now));
        let lease = self.times.lease;
        while self.sent.len() > SENT_MAX || self.sent.front().is_some_and(|(_, at)| now.nanos_since(*at) > lease) {
            self.sent.pop_front();
        }
        let epoch = self.view.as_ref().map_or(Epoch(0), |view| view.epoch);
        Heartbeat {
            nonce: self.last_nonce,
            view: epoch,
            store: standing.store,
            consensus,
            cluster,
            blank: standing.blank,
            hears: self.hears(standing.links),
            cut: self.cut(standing),
            synced: standing.synced,
            stopping: standing.stopping,
        }
    }

    /// Whom the last heartbeat of [`Heartbeats::beat`] is for, where the controller is this replica.
    pub fn audience(&self, controller: Option<ReplicaId>, peers: ReplicaSet) -> ReplicaSet {
        let to_all = self.last_nonce.is_multiple_of(HEARTBEATS_TO_ALL);
        match controller.filter(|controller| !to_all && self.hears_lately(*controller)) {
            Some(controller) => peers.iter().filter(|peer| *peer == controller).collect(),
            None => peers,
        }
    }

    /// Whether the controller is this replica, or something came from it since the heartbeat before the last.
    pub fn hears_lately(&self, controller: ReplicaId) -> bool {
        let heard = self.heard.get(controller.index()).copied().flatten();
        let lately = heard.is_some_and(|(_, at)| self.now.nanos_since(at) <= 2 * self.times.patient_heartbeat());
        lately || controller == self.me
    }

    /// The controller answered a heartbeat: until when reads may be served, by this replica's clock, from when that
    /// heartbeat was sent (R3). None where it is unknown or too old.
    pub fn on_lease(&self, now: Moment, nonce: u64) -> Option<Moment> {
        let (_, sent_at) = self.sent.iter().find(|(sent, _)| *sent == nonce)?;
        let until = later(*sent_at, self.times.lease);
        (until > now).then_some(until)
    }

    /// Whether nothing came from so many, for the failure timeout, that a majority is away: the group then goes on without
    /// this replica, which must not hold it up. A leader that hears nobody is heard all the same where a link is cut one
    /// way, and its calls would keep the others from electing another.
    pub fn is_cut_off(&mut self, now: Moment) -> bool {
        self.pass_time(now);
        let lately = |heard: &&Option<(Incarnation, Moment)>| {
            heard.is_some_and(|(_, at)| now.nanos_since(at) <= self.times.failure)
        };
        let here = self.heard.iter().enumerate().filter(|(place, _)| *place != self.me.index());
        let with_me = here.filter(|(_, heard)| lately(heard)).count() + 1;
        let majority = self.heard.len() / 2 + 1;
        with_me < majority && now.nanos_since(self.awake_since) > self.times.failure
    }

    /// With whom links are live, both ways.
    fn hears(&self, links: ReplicaSet) -> ReplicaSet {
        let lately = |replica: &ReplicaId| {
            let heard = self.heard.get(replica.index()).copied().flatten();
            heard.is_some_and(|(_, at)| self.now.nanos_since(at) <= self.times.failure)
        };
        links.iter().filter(lately).collect()
    }

    /// V4: members that nothing comes from, or no acknowledgements.
    fn cut(&self, standing: &Standing) -> ReplicaSet {
        let Some(view) = &self.view else { return ReplicaSet::EMPTY };
        let (epoch, late) = standing.complaints;
        let late = if epoch == view.epoch { late } else { ReplicaSet::EMPTY };
        let silent = |replica: &ReplicaId| {
            self.now.nanos_since(self.silent_since[replica.index()]) > self.times.failure || late.contains(*replica)
        };
        let members = view.members().map(|member| member.replica).filter(|replica| *replica != self.me);
        members.filter(silent).collect()
    }

    /// V5 holds here too: only time in which this process ran is silence.
    fn pass_time(&mut self, now: Moment) {
        if now.nanos_since(self.now) > self.times.stall() {
            self.silent_since.fill(now);
            self.awake_since = now;
        }
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::view::Member;

    const ME: ReplicaId = ReplicaId(0);
    const PEER: ReplicaId = ReplicaId(1);

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    fn heartbeats() -> Heartbeats {
        let mut heartbeats = Heartbeats::new(ME, 2, Times::new(1_000, 0), at(0));
        let member = |index: u8| Member {
            replica: ReplicaId(index),
            incarnation: Incarnation(10 + u64::from(index)),
            store: StoreId(1),
        };
        let in_sync = vec![member(0), member(1)];
        heartbeats.on_view(at(0), View { epoch: Epoch(1), primary: ME, in_sync, joining: Vec::new() });
        heartbeats
    }

    fn standing() -> Standing {
        Standing { links: [PEER].into_iter().collect(), ..Standing::of(StoreId(1), true) }
    }

    fn beat(heartbeats: &mut Heartbeats, ms: u64, standing: &Standing) -> Heartbeat {
        heartbeats.beat(at(ms), standing, ConsensusId(5), None)
    }

    #[test]
    fn r3_a_lease_runs_from_when_its_own_heartbeat_was_sent() {
        let mut heartbeats = heartbeats();
        let first = beat(&mut heartbeats, 100, &standing()).nonce;
        let second = beat(&mut heartbeats, 200, &standing()).nonce;
        assert_eq!(heartbeats.on_lease(at(290), first), Some(at(550)), "the answer to the first, however late");
        assert_eq!(heartbeats.on_lease(at(290), second), Some(at(650)));
        assert_eq!(heartbeats.on_lease(at(290), second + 1), None, "never sent");
        assert_eq!(heartbeats.on_lease(at(550), first), None, "it is over already");
    }

    #[test]
    fn v4_a_member_is_complained_of_after_the_failure_timeout_without_a_frame() {
        let mut heartbeats = heartbeats();
        (1..=10).for_each(|tick| _ = beat(&mut heartbeats, 100 * tick, &standing()));
        assert_eq!(beat(&mut heartbeats, 1_000, &standing()).cut, ReplicaSet::EMPTY);
        assert_eq!(beat(&mut heartbeats, 1_010, &standing()).cut, [PEER].into_iter().collect());
        heartbeats.on_heard(at(1_020), PEER, Incarnation(11));
        assert_eq!(beat(&mut heartbeats, 1_030, &standing()).cut, ReplicaSet::EMPTY);
    }

    #[test]
    fn v4_another_incarnation_does_not_speak_for_the_one_in_the_view() {
        let mut heartbeats = heartbeats();
        for tick in 1..=11 {
            heartbeats.on_heard(at(100 * tick), PEER, Incarnation(99));
        }
        let heartbeat = beat(&mut heartbeats, 1_110, &standing());
        assert_eq!(heartbeat.cut, [PEER].into_iter().collect());
        assert_eq!(heartbeat.hears, [PEER].into_iter().collect());
    }

    #[test]
    fn v4_late_acknowledgements_are_complained_of_in_their_epoch_only() {
        let mut heartbeats = heartbeats();
        heartbeats.on_heard(at(10), PEER, Incarnation(11));
        let mut standing = standing();
        standing.complaints = (Epoch(1), [PEER].into_iter().collect());
        assert_eq!(beat(&mut heartbeats, 20, &standing).cut, [PEER].into_iter().collect());
        standing.complaints.0 = Epoch(0);
        assert_eq!(beat(&mut heartbeats, 30, &standing).cut, ReplicaSet::EMPTY);
    }

    #[test]
    fn v5_after_a_stall_of_this_process_nobody_is_silent() {
        let mut heartbeats = heartbeats();
        beat(&mut heartbeats, 100, &standing());
        assert_eq!(beat(&mut heartbeats, 5_100, &standing()).cut, ReplicaSet::EMPTY);
    }

    #[test]
    fn who_hears_no_majority_is_cut_off_but_not_by_a_stall_of_its_own() {
        let mut heartbeats = heartbeats();
        (1..=10).for_each(|tick| assert!(!heartbeats.is_cut_off(at(100 * tick)), "it has just started"));
        assert!(heartbeats.is_cut_off(at(1_010)));
        heartbeats.on_heard(at(1_020), PEER, Incarnation(11));
        assert!(!heartbeats.is_cut_off(at(1_030)));
        assert!(!heartbeats.is_cut_off(at(9_000)), "it did not run for 8 s");
    }

    #[test]
    fn a_link_is_live_where_frames_come_in_and_the_dialed_one_is_up() {
        let mut heartbeats = heartbeats();
        assert_eq!(beat(&mut heartbeats, 10, &standing()).hears, ReplicaSet::EMPTY, "nothing came");
        heartbeats.on_heard(at(20), PEER, Incarnation(11));
        assert_eq!(beat(&mut heartbeats, 30, &standing()).hears, [PEER].into_iter().collect());
        let dialing = Standing { links: ReplicaSet::EMPTY, ..standing() };
        assert_eq!(beat(&mut heartbeats, 40, &dialing).hears, ReplicaSet::EMPTY, "its own link is down");
    }
}
