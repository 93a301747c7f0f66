//! The task that carries membership: it owns the pure parts, and everything reaches it through bounded channels. What may
//! wait for a majority runs in tasks of its own and reports back.

mod ask;
mod calls;

use std::sync::Arc;

use openraft::BasicNode;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::consensus::{Applied, Call, Consensus, ConsensusError, LogStore, Pending, Started};
use super::controller::{Action, Controller, Event, Setup};
use super::founding::{Stores, loss};
use super::heartbeat::{Heartbeats, Standing};
use super::succession::Succession;
use super::times::{Times, later};
use super::{Begin, MembershipConfig, MembershipError, MembershipEvent, MembershipStatus};
use crate::clock::{Clock, Moment, Timer};
use crate::protocol::ids::{ClusterId, ConsensusId, Incarnation, ReplicaId, ReplicaSet};
use crate::protocol::message::{Heartbeat, Lease, Message, Raft};
use crate::protocol::view::View;
use crate::random::Random;

/// What the group and the spawned questions report. Each waits for room, so that no view is lost.
const INPUTS_WAITING_MAX: usize = 256;

/// Calls of peers that are answered at the same time; past it they are lost, and their callers try again.
const ANSWERING_MAX: usize = 64;

/// Every so many heartbeats, a leader has the library look after those who lag.
const HEARTBEATS_TO_SPREAD: u64 = 10;

/// The ends of the task's channels to the node.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) events: mpsc::Sender<MembershipEvent>,
    pub(super) frames: mpsc::Receiver<(ReplicaId, Incarnation, Message)>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) status: watch::Sender<MembershipStatus>,
    /// Said, or dropped.
    pub(super) ended: oneshot::Receiver<()>,
}

/// What comes from this task's own helpers, in the order in which it happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The log was applied.
    Applied(Applied),
    /// The answer to something that the controller asked.
    Answered(Event),
    /// A peer's call was answered.
    Answer {
        to: ReplicaId,
        raft: Raft,
        /// Whether it was the leader's.
        leads: bool,
        /// Whether it was for a vote, refused for entries that are here and not there.
        lacks: bool,
    },
    /// The group was founded, or not.
    Founded(Result<(), String>),
}

impl From<Applied> for Input {
    fn from(applied: Applied) -> Input {
        Input::Applied(applied)
    }
}

pub(super) struct Task {
    me: ReplicaId,
    incarnation: Incarnation,
    peers: ReplicaSet,
    replicas: usize,
    clock: Clock,
    random: Random,
    times: Times,
    begin: Begin,
    controller: Controller,
    heartbeats: Heartbeats,
    consensus: Consensus,
    calls: mpsc::Receiver<Call>,
    pending: Pending,
    /// Peers to which links are up, and those to which one was and is no more.
    links: ReplicaSet,
    cut: ReplicaSet,
    metrics: watch::Receiver<RaftServerMetrics<u64, BasicNode>>,
    outside: Outside,
    inputs: mpsc::Receiver<Input>,
    /// For the helpers.
    output: mpsc::Sender<Input>,
    answering: Arc<Semaphore>,
    /// By replica: its last heartbeat's time and stores.
    stores: Vec<Option<(Moment, Stores)>>,
    /// Whether a group is being founded.
    founding: bool,
    waiting: ReplicaSet,
    /// When this process began.
    begun: Moment,
    /// Whose heartbeats are of another cluster: warned of once.
    strangers: ReplicaSet,
    last_beat: Moment,
    next_beat: Moment,
    /// Something is new that all shall hear of in a heartbeat at once.
    news: bool,
    /// The last heartbeat, for those whom it shall reach with the next call.
    held: Option<(ReplicaSet, Heartbeat)>,
    /// Whether a majority is being asked, since the last heartbeat: each voter is about to be called.
    calls_soon: bool,
    succession: Succession,
    /// The leader of the group, and whether this replica is it.
    leader: Option<ConsensusId>,
    leads: bool,
    /// Whether a majority is away.
    cut_off: bool,
    /// The nonce of a lease that this controller granted its own replica, told at the turn's end.
    own_lease: Option<u64>,
    actions: Vec<Action>,
}

impl Task {
    pub(super) async fn begin(config: MembershipConfig, outside: Outside) -> Result<Task, ConsensusError> {
        let times = Times::new(config.failure_timeout_ms, config.link_delay_us);
        let (store, forced_after) = match config.begin {
            Begin::Alone { after } => {
                let (store, known) = LogStore::begin_anew(config.log, &config.random).await?;
                tracing::warn!("{}", loss(known.view.as_ref(), config.me, config.store, &config.addresses));
                (store, Some(after.max(known.epoch)))
            }
            Begin::Normally | Begin::WithMajority => (LogStore::open(config.log, &config.random).await?, None),
        };
        let (output, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
        let replicas = config.addresses.len();
        let addresses: Arc<[String]> = config.addresses.into();
        let started = Consensus::start(config.me, addresses, times, store, output.clone()).await?;
        let Started { consensus, calls, view, members, metrics } = started;
        let now = config.clock.now();
        let setup = Setup { me: config.me, replicas, min_in_sync: config.min_in_sync, times, forced_after };
        let all: ReplicaSet = (0..replicas).filter_map(|place| u8::try_from(place).ok()).map(ReplicaId).collect();
        let mut task = Task {
            me: config.me,
            begun: now,
            incarnation: config.incarnation,
            peers: all.without(config.me),
            replicas,
            clock: config.clock,
            random: config.random,
            times,
            begin: config.begin,
            controller: Controller::new(setup, now),
            heartbeats: Heartbeats::new(config.me, replicas, times, now),
            consensus,
            calls,
            pending: Pending::default(),
            links: ReplicaSet::EMPTY,
            cut: ReplicaSet::EMPTY,
            metrics,
            outside,
            inputs,
            output,
            answering: Arc::new(Semaphore::new(ANSWERING_MAX)),
            stores: vec![None; replicas],
            founding: false,
            waiting: ReplicaSet::EMPTY,
            strangers: ReplicaSet::EMPTY,
            last_beat: now,
            next_beat: now,
            news: true,
            held: None,
            calls_soon: false,
            succession: Succession::new(config.me, replicas, times, now),
            leader: None,
            leads: false,
            cut_off: false,
            own_lease: None,
            actions: Vec::new(),
        };
        let voters = task.consensus.voters(&members);
        task.step(Event::Voters(voters));
        task.on_metrics();
        if let Some(view) = view {
            task.on_view(view).await;
        }
        Ok(task)
    }

    /// Runs until told to end, or until the group's member fails.
    pub(super) async fn run(mut self) {
        let mut timer = self.clock.timer();
        while self.turn(&mut timer).await {}
        self.consensus.shutdown().await;
    }

    async fn turn(&mut self, timer: &mut Timer) -> bool {
        let deadlines = [self.next_beat, self.controller.next_deadline(), self.election_due()];
        let due = deadlines.into_iter().min().unwrap_or(self.next_beat);
        tokio::select! {
            biased;
            _ = &mut self.outside.ended => return false,
            Some(input) = self.inputs.recv() => self.on_input(input).await,
            Some(call) = self.calls.recv() => self.on_call(call),
            Some((from, incarnation, message)) = self.outside.frames.recv() => {
                self.on_frame(from, incarnation, message).await;
            }
            changed = self.metrics.changed() => {
                if changed.is_err() {
                    self.fail(self.consensus.failure()).await;
                    return false;
                }
                self.on_metrics();
            }
            changed = self.outside.standing.changed() => {
                // The node has dropped its handles: nobody is there to serve.
                if changed.is_err() {
                    return false;
                }
                self.on_standing();
            }
            () = timer.at(due) => self.step(Event::Tick),
        }
        let now = self.clock.now();
        self.succession.pass_time(now);
        if self.news || self.next_beat <= now {
            self.beat().await;
        }
        if self.election_due() <= now {
            self.elect();
        }
        if let Some(nonce) = self.own_lease.take() {
            self.on_lease(nonce).await;
        }
        if self.leads {
            self.publish_status();
        }
        true
    }

    /// The node says something new. Where a link was cut, calls that went out before are lost; and those that went out
    /// until there was another one.
    fn on_standing(&mut self) {
        self.news = true;
        let links = self.outside.standing.borrow().links;
        for peer in self.peers.iter() {
            let comes_back = links.contains(peer) && self.cut.contains(peer);
            if comes_back {
                self.cut.remove(peer);
            } else if self.links.contains(peer) && !links.contains(peer) {
                self.cut.insert(peer);
            } else {
                continue;
            }
            self.pending.lose(peer);
        }
        self.links = links;
    }

    /// When this replica asks for votes; never while it leads, or nobody does, or where no majority is heard.
    fn election_due(&self) -> Moment {
        let leader = self.leader.filter(|_| !self.leads && !self.cut_off);
        let Some(leader) = leader else { return Moment::NEVER };
        let successor = self.replica_of(leader).and_then(|leader| self.controller.successor_of(leader));
        self.succession.due(successor == Some(self.me))
    }

    fn elect(&mut self) {
        self.succession.on_asked();
        let consensus = self.consensus.clone();
        tokio::spawn(async move { consensus.elect().await });
    }

    /// Says that this replica lives: to the controller, itself included, and now and then, or where there is news, to all.
    async fn beat(&mut self) {
        let now = self.clock.now();
        self.watch_majority(now);
        let standing = self.outside.standing.borrow_and_update().clone();
        let (id, cluster) = (self.consensus.id(), self.consensus.cluster());
        let heartbeat = self.heartbeats.beat(now, &standing, id, cluster);
        let controller = self.leader.and_then(|leader| self.replica_of(leader));
        let is_news = std::mem::take(&mut self.news);
        let audience = if is_news { self.peers } else { self.heartbeats.audience(controller, self.peers) };
        self.send_held(self.peers);
        self.held = Some((audience, heartbeat.clone()));
        self.calls_soon = false;
        if !self.cut_off && self.succession.tries(now) {
            self.consensus.tick();
        }
        let is_called = controller.is_some_and(|replica| replica != self.me && self.heartbeats.hears_lately(replica));
        let pause = if is_called { self.times.patient_heartbeat() } else { self.times.heartbeat };
        (self.last_beat, self.next_beat) = (now, later(now, pause));
        self.pending.expire(now, self.times.failure);
        if self.leads && heartbeat.nonce.is_multiple_of(HEARTBEATS_TO_SPREAD) && self.consensus.has_laggards() {
            let consensus = self.consensus.clone();
            tokio::spawn(async move { consensus.spread().await });
        }
        self.on_heartbeat(self.me, self.incarnation, heartbeat).await;
        if is_news || !self.calls_soon {
            self.send_held(self.peers);
        }
    }

    /// Sends the last heartbeat to those of its audience whom it has not reached.
    fn send_held(&mut self, to: ReplicaSet) {
        let Some((audience, heartbeat)) = &mut self.held else { return };
        let due: ReplicaSet = audience.iter().filter(|replica| to.contains(*replica)).collect();
        due.iter().for_each(|replica| audience.remove(replica));
        if !due.is_empty() {
            let heartbeat = heartbeat.clone();
            self.send(due, heartbeat);
        }
    }

    /// The leader's call is answered. A heartbeat that is due soon goes with the answer, so that each end wakes once for
    /// both.
    fn beat_with_answer(&mut self) {
        let now = self.clock.now();
        if now.nanos_since(self.last_beat) >= self.times.heartbeat / 2 {
            self.next_beat = now;
        }
    }

    /// Without a majority this replica neither leads nor asks for votes.
    fn watch_majority(&mut self, now: Moment) {
        let cut_off = self.heartbeats.is_cut_off(now);
        if cut_off != self.cut_off {
            tracing::info!(cut_off, "whether a majority is away");
            self.consensus.allow_elections(!cut_off);
            self.cut_off = cut_off;
        }
        if cut_off && self.leads {
            let consensus = self.consensus.clone();
            tokio::spawn(async move { consensus.step_down().await });
        }
    }

    async fn on_frame(&mut self, from: ReplicaId, incarnation: Incarnation, message: Message) {
        match message {
            Message::Heartbeat(heartbeat) if self.is_stranger(from, heartbeat.cluster) => {}
            Message::Heartbeat(heartbeat) => {
                self.heartbeats.on_heard(self.clock.now(), from, incarnation);
                self.on_heartbeat(from, incarnation, heartbeat).await;
            }
            Message::Lease(Lease { nonce }) => self.on_lease(nonce).await,
            Message::Raft(raft) => {
                if Some(raft.cluster) == self.consensus.cluster() {
                    self.heartbeats.on_heard(self.clock.now(), from, incarnation);
                }
                self.on_raft(from, raft);
            }
            other => tracing::warn!(from = from.0, "a `{}` on a control link is dropped", other.word()),
        }
    }

    /// Whether a heartbeat is of another cluster; then it says nothing of this one.
    fn is_stranger(&mut self, from: ReplicaId, theirs: Option<ClusterId>) -> bool {
        let ours = self.consensus.cluster();
        let stranger = matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs);
        if stranger && !self.strangers.contains(from) {
            tracing::error!(
                replica = from.0,
                "replica {} belongs to another cluster; to take it in, stop it, remove its data folder, and start it",
                from.0
            );
        }
        match stranger {
            true => self.strangers.insert(from),
            false => self.strangers.remove(from),
        }
        stranger
    }

    async fn on_heartbeat(&mut self, from: ReplicaId, incarnation: Incarnation, heartbeat: Heartbeat) {
        let Some(place) = self.stores.get_mut(from.index()) else { return };
        let voter = super::controller::Voter { id: heartbeat.consensus, replica: from };
        let stores = Stores { voter, no_group: heartbeat.cluster.is_none(), blank: heartbeat.blank };
        let is_new = place.is_none_or(|(_, before)| before.voter != voter);
        *place = Some((self.clock.now(), stores));
        if is_new {
            self.publish_status();
        }
        self.step(Event::Heartbeat { from, incarnation, heartbeat });
        if self.consensus.cluster().is_none() && !self.founding {
            self.found().await;
        }
    }

    async fn on_input(&mut self, input: Input) {
        match input {
            Input::Applied(Applied::View(view)) => self.on_view(view).await,
            Input::Applied(Applied::Members(members)) => {
                let voters = self.consensus.voters(&members);
                self.step(Event::Voters(voters));
            }
            Input::Answered(event) => self.step(event),
            Input::Answer { to, raft, leads, lacks } => {
                self.send(std::iter::once(to).collect(), raft);
                if lacks {
                    self.succession.on_refused();
                }
                if leads {
                    self.beat_with_answer();
                }
            }
            Input::Founded(Ok(())) => self.news = true,
            Input::Founded(Err(error)) => {
                tracing::warn!(error, "founding the cluster failed; it is tried again");
                self.founding = false;
            }
        }
    }

    async fn on_view(&mut self, view: View) {
        self.heartbeats.on_view(self.clock.now(), view.clone());
        self.tell(MembershipEvent::View(view.clone())).await;
        self.step(Event::View(view));
        // The controller wants to know who knows it.
        self.news = true;
    }

    async fn on_lease(&mut self, nonce: u64) {
        let stopping = self.outside.standing.borrow().stopping;
        if let Some(until) = self.heartbeats.on_lease(self.clock.now(), nonce).filter(|_| !stopping) {
            self.tell(MembershipEvent::Lease { until }).await;
        }
    }

    fn on_metrics(&mut self) {
        let leadership = self.consensus.leadership(&self.metrics.borrow_and_update());
        self.leads = leadership.own_term.is_some();
        self.succession.on_term(self.clock.now(), leadership.term, leadership.leader.is_some());
        if self.leader != leadership.leader {
            self.leader = leadership.leader;
            // Whoever leads now may grant a lease for it.
            self.news = true;
            self.succession.on_call(self.clock.now());
        }
        match leadership.own_term {
            Some(term) => self.step(Event::Leads { term }),
            None => self.step(Event::Follows),
        }
        self.publish_status();
    }

    /// The leader is known by its voter id; which replica that is, its heartbeats tell, maybe only later.
    fn publish_status(&self) {
        let leader = self.consensus.leadership(&self.metrics.borrow()).leader;
        let controller = leader.and_then(|leader| self.replica_of(leader));
        let hands_over = self.leads && self.outside.standing.borrow().stopping && !self.controller.may_go();
        self.publish(MembershipStatus { controller, cluster: self.consensus.cluster(), hands_over });
    }

    fn publish(&self, now: MembershipStatus) {
        self.outside.status.send_if_modified(|status| std::mem::replace(status, now) != now);
    }

    fn replica_of(&self, id: ConsensusId) -> Option<ReplicaId> {
        let known = self.stores.iter().flatten().map(|(_, stores)| stores.voter);
        known.into_iter().find(|voter| voter.id == id).map(|voter| voter.replica)
    }

    /// Steps the controller and carries out what it wants.
    fn step(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.controller.step(self.clock.now(), event, &mut actions);
        for action in actions.drain(..) {
            self.carry_out(action);
        }
        self.actions = actions;
    }

    fn spawn(&self, question: impl Future<Output = Input> + Send + 'static) {
        let output = self.output.clone();
        tokio::spawn(async move { report(&output, question.await).await });
    }

    /// A frame that the node's control links shall carry; it is lost where the node does not keep up.
    fn send(&self, to: ReplicaSet, message: impl Into<Message>) {
        let message = message.into();
        if !to.is_empty()
            && let Err(error) = self.outside.events.try_send(MembershipEvent::Send { to, message })
        {
            tracing::debug!(%error, "a control frame is lost");
        }
    }

    /// Something that must not be lost: waits for room.
    async fn tell(&self, event: MembershipEvent) {
        if self.outside.events.send(event).await.is_err() {
            tracing::debug!("the node has ended before its membership");
        }
    }

    async fn fail(&self, why: Option<String>) {
        let why = why.unwrap_or_else(|| "the consensus library has stopped".to_owned());
        self.tell(MembershipEvent::Failed(MembershipError::Consensus(why))).await;
    }
}

/// Tells the task; once it has ended nobody need know.
async fn report(output: &mpsc::Sender<Input>, input: Input) {
    if output.send(input).await.is_err() {
        tracing::debug!("the membership task ended before a question was answered");
    }
}
