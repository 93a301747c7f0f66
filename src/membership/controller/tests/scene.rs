//! A controller and what it sees of a cluster, in steps of 10 ms: replicas beat every 100 ms, and what the controller
//! proposes and asks is carried out at once, unless the scene says otherwise.

use super::super::*;
use crate::protocol::ids::{ConsensusId, ReplicaSet, StoreId};

pub(super) const MS: u64 = 1_000_000;

/// The replicas of the tests, in config order.
pub(super) const A: ReplicaId = ReplicaId(0);
pub(super) const B: ReplicaId = ReplicaId(1);
pub(super) const C: ReplicaId = ReplicaId(2);
pub(super) const D: ReplicaId = ReplicaId(3);

/// One replica as the controller sees it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) incarnation: Incarnation,
    pub(super) store: StoreId,
    pub(super) consensus: ConsensusId,
    pub(super) alive: bool,
    pub(super) blank: bool,
    /// Whom it has links with.
    pub(super) hears: ReplicaSet,
    pub(super) cut: ReplicaSet,
    pub(super) synced: Option<Epoch>,
    pub(super) stopping: bool,
    nonce: u64,
}

pub(super) struct Scene {
    pub(super) controller: Controller,
    pub(super) now: u64,
    pub(super) peers: Vec<Peer>,
    /// Every view that was proposed, with the time in ms.
    pub(super) proposed: Vec<(u64, View)>,
    /// Every lease: to whom, and the time in ms.
    pub(super) granted: Vec<(ReplicaId, u64)>,
    pub(super) confirms: u64,
    /// The last question that a majority was asked.
    pub(super) round: u64,
    /// The last proposal.
    pub(super) proposal: u64,
    /// The last replacement of a voter.
    pub(super) replacement: u64,
    /// The last entry of a new leader.
    pub(super) establishing: u64,
    /// Whether proposals are applied.
    pub(super) majority: bool,
    /// Whether a majority answers.
    pub(super) answered: bool,
    /// Voters to be replaced.
    pub(super) replaced: Vec<Voter>,
    term: u64,
}

pub(super) fn set(replicas: &[ReplicaId]) -> ReplicaSet {
    replicas.iter().copied().collect()
}

impl Scene {
    /// `count` blank replicas; A's controller is looked at. The failure timeout is 1 s, the start at 10 s.
    pub(super) fn new(count: u8) -> Scene {
        let all: ReplicaSet = (0..count).map(ReplicaId).collect();
        let peer = |index: u8| Peer {
            incarnation: Incarnation(100 + u64::from(index)),
            store: StoreId(200 + u64::from(index)),
            consensus: ConsensusId(300 + u64::from(index)),
            alive: true,
            blank: true,
            hears: all.without(ReplicaId(index)),
            cut: ReplicaSet::EMPTY,
            synced: None,
            stopping: false,
            nonce: 0,
        };
        let setup = Setup {
            me: A,
            replicas: usize::from(count),
            min_in_sync: 2,
            times: Times::new(1_000, 0),
            forced_after: None,
        };
        Scene {
            controller: Controller::new(setup, Moment(10_000 * MS)),
            now: 10_000,
            peers: (0..count).map(peer).collect(),
            proposed: Vec::new(),
            granted: Vec::new(),
            confirms: 0,
            round: 0,
            proposal: 0,
            replacement: 0,
            establishing: 0,
            majority: true,
            answered: true,
            replaced: Vec::new(),
            term: 0,
        }
    }

    /// A cluster that serves: view 1 with all, leases granted, the election long ago.
    pub(super) fn serving(count: u8) -> Scene {
        let mut scene = Scene::new(count);
        scene.elect();
        scene.run(2_000);
        assert_eq!(scene.view().epoch, Epoch(1));
        assert_eq!(scene.view().in_sync.len(), usize::from(count));
        scene.proposed.clear();
        scene.granted.clear();
        scene
    }

    /// This replica is elected, and its first entry is applied.
    pub(super) fn elect(&mut self) {
        self.elect_without_entry();
        let number = self.establishing;
        self.event(Event::Established { number, applied: true });
    }

    pub(super) fn elect_without_entry(&mut self) {
        self.term += 1;
        self.event(Event::Voters(self.voters()));
        self.event(Event::Leads { term: self.term });
    }

    pub(super) fn voters(&self) -> Vec<Voter> {
        let voter = |(index, peer): (usize, &Peer)| Voter { id: peer.consensus, replica: ReplicaId(index as u8) };
        self.peers.iter().enumerate().map(voter).collect()
    }

    pub(super) fn view(&self) -> &View {
        self.controller.view().expect("the scene has a view")
    }

    pub(super) fn in_sync(&self) -> Vec<ReplicaId> {
        self.view().in_sync.iter().map(|member| member.replica).collect()
    }

    pub(super) fn joining(&self) -> Vec<ReplicaId> {
        self.view().joining.iter().map(|member| member.replica).collect()
    }

    pub(super) fn peer(&mut self, replica: ReplicaId) -> &mut Peer {
        &mut self.peers[replica.index()]
    }

    pub(super) fn kill(&mut self, replicas: &[ReplicaId]) {
        replicas.iter().for_each(|replica| self.peer(*replica).alive = false);
    }

    /// The replica starts again with its stores.
    pub(super) fn restart(&mut self, replica: ReplicaId) {
        let peer = self.peer(replica);
        peer.incarnation.0 += 1_000;
        peer.alive = true;
        peer.blank = false;
        peer.synced = None;
        peer.stopping = false;
        peer.cut = ReplicaSet::EMPTY;
    }

    /// Both lose the link between them, and say so.
    pub(super) fn cut(&mut self, one: ReplicaId, other: ReplicaId) {
        self.peer(one).cut.insert(other);
        self.peer(one).hears.remove(other);
        self.peer(other).cut.insert(one);
        self.peer(other).hears.remove(one);
    }

    pub(super) fn mend(&mut self) {
        let all: ReplicaSet = (0..self.peers.len() as u8).map(ReplicaId).collect();
        for (index, peer) in self.peers.iter_mut().enumerate() {
            peer.cut = ReplicaSet::EMPTY;
            peer.hears = all.without(ReplicaId(index as u8));
        }
    }

    /// The joiner has copied everything, into a new store.
    pub(super) fn sync(&mut self, replica: ReplicaId) {
        let epoch = self.view().epoch;
        let peer = self.peer(replica);
        peer.store.0 += 1_000;
        peer.synced = Some(epoch);
    }

    /// Lets time pass; whoever is alive beats every 100 ms, each at its own offset.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 10;
            for index in 0..self.peers.len() as u8 {
                if self.peers[usize::from(index)].alive && self.now % 100 == 10 * u64::from(index) {
                    self.beat(ReplicaId(index));
                }
            }
            if self.now.is_multiple_of(100) || self.controller.next_deadline() <= Moment(self.now * MS) {
                self.event(Event::Tick);
            }
        }
    }

    /// Runs until a condition holds; the time that it took, in ms.
    pub(super) fn run_until(&mut self, what: &str, condition: impl Fn(&Scene) -> bool) -> u64 {
        let start = self.now;
        while !condition(self) {
            assert!(self.now < start + 20_000, "20 s passed without: {what}; the view is {:?}", self.controller.view());
            self.run(10);
        }
        self.now - start
    }

    pub(super) fn beat(&mut self, from: ReplicaId) {
        let view = self.controller.view().map_or(Epoch(0), |view| view.epoch);
        self.beat_knowing(from, view);
    }

    pub(super) fn beat_knowing(&mut self, from: ReplicaId, view: Epoch) {
        let peer = self.peer(from);
        peer.nonce += 1;
        let heartbeat = Heartbeat {
            nonce: peer.nonce,
            view,
            store: peer.store,
            consensus: peer.consensus,
            cluster: None,
            blank: peer.blank,
            hears: peer.hears,
            cut: peer.cut,
            synced: peer.synced,
            stopping: peer.stopping,
        };
        let incarnation = peer.incarnation;
        self.event(Event::Heartbeat { from, incarnation, heartbeat });
    }

    /// The nonce of a replica's last heartbeat.
    pub(super) fn last_nonce(&self, of: ReplicaId) -> u64 {
        self.peers[of.index()].nonce
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.controller.step(Moment(self.now * MS), event, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Establish { number } => self.establishing = number,
            Action::Propose { number, follows, view } => {
                let newest = self.controller.view().map_or(Epoch(0), |view| view.epoch);
                assert_eq!(follows, newest, "V1: an entry names the newest");
                self.proposed.push((self.now, view.clone()));
                self.proposal = number;
                if self.majority {
                    self.event(Event::View(view));
                    self.event(Event::Decided { number });
                }
            }
            Action::Confirm { number } => {
                self.confirms += 1;
                self.round = number;
                if self.answered {
                    self.event(Event::Confirmed { number, leads: true });
                }
            }
            Action::Grant { to, incarnation, .. } => {
                assert_eq!(incarnation, self.peers[to.index()].incarnation);
                self.granted.push((to, self.now));
            }
            Action::ReplaceVoter { number, voter } => {
                self.replacement = number;
                self.replaced.push(voter);
            }
        }
    }
}
