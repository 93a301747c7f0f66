//! The loop that owns one replica's state. Each turn takes all that is waiting, steps it, and then sends what came out:
//! one write per peer, one batch per store, the answers of each connection together. Nothing else touches the state, so
//! there is no lock around it; and the loop never waits for a client, a peer or the disk.

mod callers;
mod peers;
mod report;
pub mod start;
mod steps;
pub mod storage;
pub mod stores;
pub mod system;

use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::link::{LinkEvent, Links, Way};
use crate::membership::{Membership, MembershipError, MembershipEvent};
use crate::observe::classic::Log;
use crate::observe::metrics::Metrics;
use crate::protocol::codec;
use crate::protocol::ids::{Epoch, ReplicaId, ReplicaSet, StoreId};
use crate::protocol::message::{LinkKind, Message};
use crate::protocol::port::{Batch, Call, Said};
use crate::random::Random;
use crate::replication::action::Action;
use crate::replication::event::{Event, Now};
use crate::replication::replica::{Replica, Standing};
use crate::store::StoreError;

use callers::Callers;
use peers::Peers;
use steps::Steps;
use storage::Storage;

/// Open writes past which a replica takes no more calls, until some are answered: clients then wait in their sockets.
pub const OPEN_WRITES_MAX: usize = 8_192;

/// Bytes of notes in open writes past which a replica takes no more calls. With [`OPEN_WRITES_MAX`] this bounds what
/// waits for acknowledgements, in the loop and in the links.
pub const OPEN_WRITE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// About how many items recovery goes through in one turn: a millisecond's work or two, well within a heartbeat's interval.
pub const ITEMS_PER_TURN: usize = 1_000;

/// How long a replica that ends asks to be left out, in ms (V11).
pub const LEAVE_MS_MAX: u64 = 1_000;

/// How often complaints are looked for, in ms.
const LOOK_MS: u64 = 100;

/// Most events of one kind in one turn, so that no kind starves another.
const EVENTS_PER_TURN_MAX: usize = 256;

/// Everything that reaches the loop from outside.
#[derive(Debug)]
pub struct Inputs {
    /// Calls of this replica's clients.
    pub calls: mpsc::Receiver<Batch>,
    /// What the links bring.
    pub links: mpsc::Receiver<LinkEvent>,
    /// What membership decides.
    pub membership: mpsc::Receiver<MembershipEvent>,
    /// True once the loop shall end.
    pub end: watch::Receiver<bool>,
}

/// One replica's loop.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    me: ReplicaId,
    names: Vec<String>,
    clock: Clock,
    random: Random,
    replica: Replica,
    links: Links,
    storage: Storage,
    membership: Membership,
    peers: Peers,
    /// When complaints were last looked for.
    looked: Moment,
    /// Since when this replica asks to be left out (V11), and whether it shall.
    leaving: Option<Moment>,
    leaves: bool,
    metrics: Metrics,
    /// What waited in front of the loop as this turn began: batches of clients, events of links.
    waited: [usize; 2],
    /// Published for the links: frames of later epochs wait for it (L4).
    epoch: watch::Sender<Epoch>,
    callers: Callers,
    steps: Steps,
    log: Log,
    actions: Vec<Action>,
    decided: Vec<MembershipEvent>,
    events: Vec<LinkEvent>,
    batches: Vec<Batch>,
}

/// What a loop begins with.
#[derive(Debug)]
pub struct Start {
    /// The configuration, checked.
    pub config: Arc<Config>,
    /// Which of its replicas this is.
    pub me: ReplicaId,
    /// Its clock; the same as its port's.
    pub clock: Clock,
    /// Where the names of its record stores come from.
    pub random: Random,
    /// Its state, with what its store held.
    pub replica: Replica,
    /// Where its records go.
    pub storage: Storage,
    /// Its links to the other replicas.
    pub links: Links,
    /// Its part in deciding who is in the view.
    pub membership: Membership,
    /// Where the links read the newest epoch.
    pub epoch: watch::Sender<Epoch>,
    /// Whether it asks for a view without itself before it ends (V11): not where all replicas stop together.
    pub leaves: bool,
    /// What it shows.
    pub log: Log,
    /// Where its figures are kept.
    pub metrics: Metrics,
}

/// Why a loop ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store failed: only a new start finds out what the disk holds.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// Membership failed.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

impl Node {
    /// A loop that is about to run.
    pub fn new(start: Start) -> Node {
        let Start { config, me, clock, random, replica, storage, links, membership, epoch, leaves, log, metrics } =
            start;
        Node {
            me,
            names: config.replicas.iter().map(ToString::to_string).collect(),
            clock,
            random,
            replica,
            storage,
            links,
            membership,
            peers: Peers::default(),
            looked: Moment::default(),
            leaving: None,
            leaves,
            metrics,
            waited: [0; 2],
            epoch,
            callers: Callers::default(),
            steps: Steps::new(&config, me, log.clone()),
            log,
            actions: Vec::new(),
            decided: Vec::new(),
            events: Vec::new(),
            batches: Vec::new(),
            config,
        }
    }

    /// Runs until told to end; then asks for a view without this replica (V11), sends what is on its way to the peers,
    /// closes the links, and has the store flushed.
    ///
    /// # Errors
    ///
    /// A failure of the store or of membership, at once.
    pub async fn run(mut self, mut inputs: Inputs) -> Result<(), NodeError> {
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.clock.instant(Moment::default())));
        while self.turn(&mut inputs, timer.as_mut()).await? {}
        self.membership.end().await;
        self.links.stop().await;
        Ok(self.storage.close().await?)
    }

    /// One turn; false once the loop shall end.
    async fn turn(&mut self, inputs: &mut Inputs, mut timer: std::pin::Pin<&mut Sleep>) -> Result<bool, NodeError> {
        let deadline = self.next_deadline();
        if let Some(due) = deadline.map(|moment| self.clock.instant(moment)) {
            // A timer that is set too early fires for nothing and is set anew; that is cheaper than to set it each turn.
            if timer.deadline() > due || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
        }
        let takes_calls = self.replica.open_writes() < OPEN_WRITES_MAX
            && self.replica.open_write_bytes() < OPEN_WRITE_BYTES_MAX
            && self.storage.has_room();
        let mut progress = None;
        let unfinished = self.replica.unfinished();
        let goes_on = unfinished.is_some_and(|peers| self.links.have_room(peers));
        tokio::select! {
            biased;
            _ = inputs.end.wait_for(|end| *end), if self.leaving.is_none() => self.leave(),
            _ = inputs.membership.recv_many(&mut self.decided, EVENTS_PER_TURN_MAX) => {}
            further = self.storage.progressed() => progress = Some(further?),
            count = inputs.links.recv_many(&mut self.events, EVENTS_PER_TURN_MAX) => if count == 0 { return Ok(false) },
            count = inputs.calls.recv_many(&mut self.batches, EVENTS_PER_TURN_MAX), if takes_calls => {
                if count == 0 {
                    return Ok(false);
                }
            }
            () = timer, if deadline.is_some() => {}
            // Others of this thread get their turns, too: heartbeats, and the links themselves.
            () = tokio::task::yield_now(), if goes_on => {}
            () = self.links.room(), if unfinished.is_some() && !goes_on => {}
        }
        for event in std::mem::take(&mut self.decided) {
            self.on_membership(event)?;
        }
        if let Some(progress) = progress {
            let now = self.now();
            self.storage.on_progress(progress, &self.replica).into_iter().for_each(|event| self.step(now, event));
        }
        self.waited = [self.batches.len() + inputs.calls.len(), self.events.len() + inputs.links.len()];
        // The first that had something woke the loop; the others may have something, too.
        while self.events.len() < EVENTS_PER_TURN_MAX
            && let Ok(event) = inputs.links.try_recv()
        {
            self.events.push(event);
        }
        while takes_calls
            && self.batches.len() < EVENTS_PER_TURN_MAX
            && let Ok(batch) = inputs.calls.try_recv()
        {
            self.batches.push(batch);
        }
        self.step_all();
        if goes_on {
            self.step(self.now(), Event::Proceed);
        }
        self.finish_turn();
        self.store_after_links().await;
        Ok(!self.has_left())
    }

    /// Hands the turn's commands to the store, once the links' tasks have written: the peers' way to their disks is longer than
    /// the own one, and a sync that begins before theirs makes them wait on a disk that is shared.
    async fn store_after_links(&mut self) {
        if !self.storage.has_commands() {
            return;
        }
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.storage.flush();
    }

    fn next_deadline(&self) -> Option<Moment> {
        let leave_by = self.leaving.map(|since| since.after_ms(LEAVE_MS_MAX));
        self.replica.next_deadline().into_iter().chain(leave_by).min()
    }

    /// Told to end: asks to be left out, where enough others stay.
    fn leave(&mut self) {
        self.leaving = Some(self.clock.now());
        let others = self.replica.view().map_or(0, |view| view.in_sync.len()).saturating_sub(1);
        let majority = self.names.len() / 2 + 1;
        self.leaves &= others >= self.config.min_in_sync.max(majority);
        if self.leaves {
            self.membership.handle().stop();
        }
    }

    /// Whether the loop may end: it was told to, and is left out and controls nothing more, or has asked long enough, or need
    /// not ask.
    fn has_left(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        let is_member = matches!(self.replica.standing(), Standing::Recovering | Standing::Ready);
        let is_out = !is_member && !self.membership.handle().status().hands_over;
        !self.leaves || is_out || self.clock.now() >= since.after_ms(LEAVE_MS_MAX)
    }

    fn now(&self) -> Now {
        Now { moment: self.clock.now(), wall_ms: self.clock.wall_ms() }
    }

    fn step(&mut self, now: Now, event: Event) {
        self.replica.step(now, event, &mut self.actions);
    }

    fn step_all(&mut self) {
        let now = self.now();
        for event in std::mem::take(&mut self.events) {
            self.on_link(now, event);
        }
        for batch in std::mem::take(&mut self.batches) {
            self.on_batch(now, batch);
        }
        if self.replica.next_deadline().is_some_and(|deadline| deadline <= now.moment) {
            self.step(now, Event::Tick);
        }
    }
}

/// What reaches the replica.
impl Node {
    fn on_link(&mut self, now: Now, event: LinkEvent) {
        match event {
            LinkEvent::Messages { from, incarnation, kind: LinkKind::Control, envelopes } => {
                for envelope in envelopes {
                    if let Err(error) = self.membership.handle().on_message(from, incarnation, envelope.message) {
                        tracing::debug!(from = self.names[from.index()], %error, "a control frame is lost");
                    }
                }
            }
            LinkEvent::Messages { from, incarnation, kind: LinkKind::Data, envelopes } => {
                for envelope in envelopes {
                    if matches!(envelope.message, Message::Moved(_)) {
                        self.metrics.state.moved("in");
                    }
                    self.steps.received(from, &envelope.message, now.moment);
                    self.step(now, Event::Message { from, incarnation, envelope });
                }
            }
            LinkEvent::Up { peer, kind, way, .. } => self.on_dialed(peer, kind, way, true),
            LinkEvent::Down { peer, kind, way, .. } => self.on_dialed(peer, kind, way, false),
            LinkEvent::Overflow { peer, kind } => {
                let name = &self.names[peer.index()];
                tracing::error!(peer = name, kind = kind.word(), "takes nothing any more; its link was emptied");
                if kind == LinkKind::Data {
                    self.peers.overflowed(peer);
                }
            }
            // The links themselves log these; views say which incarnation is a member.
            LinkEvent::Met { .. } | LinkEvent::Refused { .. } => {}
        }
    }

    fn on_batch(&mut self, now: Now, batch: Batch) {
        let (arrived, calls) = self.callers.take(batch);
        for (token, call) in calls {
            match call {
                Call::Note(request) => self.step(now, Event::Request { token, request, arrived }),
                Call::Ping => self.callers.answer(token, Said::Pong(self.pong())),
                Call::Status => {
                    self.look_up(now.moment);
                    self.callers.answer(token, Said::Status(Box::new(self.status(now.moment))));
                }
            }
        }
    }

    fn on_dialed(&mut self, peer: ReplicaId, kind: LinkKind, way: Way, up: bool) {
        match self.peers.dialed(peer, kind, way, up) {
            Some(true) => self.membership.handle().link_up(peer),
            Some(false) => self.membership.handle().link_down(peer),
            None => {}
        }
    }

    fn on_membership(&mut self, event: MembershipEvent) -> Result<(), NodeError> {
        let now = self.now();
        match event {
            MembershipEvent::View(view) => self.step(now, Event::View(view)),
            MembershipEvent::Lease { until } => self.step(now, Event::Lease { until }),
            MembershipEvent::Send { to, message } => {
                let frame = codec::encode(*self.epoch.borrow(), &message);
                for peer in to.iter() {
                    self.links.send(peer, LinkKind::Control, frame.clone());
                }
            }
            MembershipEvent::Waiting { whom } if whom.is_empty() => {}
            MembershipEvent::Waiting { whom } => {
                let names: Vec<_> = whom.iter().map(|replica| self.names[replica.index()].as_str()).collect();
                tracing::warn!("the cluster begins once all replicas are there; missing: {}", names.join(", "));
            }
            MembershipEvent::Failed(error) => return Err(error.into()),
        }
        if let Some(cluster) = self.membership.handle().status().cluster {
            self.storage.bind(cluster);
        }
        Ok(())
    }

    /// Where this turn brought a new view: the links begin anew, and frames of its epoch may reach the replica.
    fn publish_view(&mut self) {
        let Some(view) = self.replica.view().filter(|view| view.epoch > *self.epoch.borrow()) else { return };
        let epoch = view.epoch;
        if self.log.enabled() {
            let status = self.view_status(view);
            let [in_sync, joining] = [status.in_sync.join(","), status.joining.join(",")];
            self.log.view(epoch.0, &status.primary, &in_sync, &joining);
        }
        self.metrics.state.view_applied();
        self.steps.forget();
        self.peers.new_epoch();
        self.links.new_epoch(epoch, |peer| view.incarnation_of(peer));
        self.epoch.send_replace(epoch);
    }

    /// Tells membership whom this replica waits for in vain.
    fn look_for_complaints(&mut self, now: Moment) {
        if now.nanos_since(self.looked) < LOOK_MS * 1_000_000 {
            return;
        }
        self.looked = now;
        let complaints = self.peers.complaints(&self.replica, now);
        self.membership.handle().complain(*self.epoch.borrow(), complaints);
    }
}

/// What the replica wants done.
impl Node {
    fn finish_turn(&mut self) {
        self.store();
        let now = self.now();
        self.replica.end_turn(now, &mut self.actions);
        self.store();
        self.publish_view();
        self.look_for_complaints(now.moment);
        self.carry_out(now.moment);
        self.callers.flush();
        self.links.flush();
    }

    /// Hands to the store what is for the store. Memory is done with it at once, so that the turn's acknowledgements count
    /// it.
    fn store(&mut self) {
        let for_store =
            |action: &mut Action| matches!(action, Action::Persist(_) | Action::BeginCopy | Action::SwitchStore);
        for action in self.actions.extract_if(.., for_store) {
            match action {
                Action::Persist(persist) => self.storage.persist(persist),
                Action::BeginCopy => self.storage.begin_copy(fresh_store(&self.random)),
                Action::SwitchStore => self.storage.switch(),
                _ => {}
            }
        }
        let events = self.storage.take_events();
        if !events.is_empty() {
            let now = self.now();
            events.into_iter().for_each(|event| self.step(now, event));
            self.store();
        }
    }

    fn carry_out(&mut self, now: Moment) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send { epoch, .. } if epoch < *self.epoch.borrow() => {}
                Action::Send { to, epoch, message } => self.send(to, epoch, &message, now),
                Action::Answer { token, answer } => self.callers.answer(token, Said::Answer(answer)),
                Action::Persist(_) | Action::BeginCopy | Action::SwitchStore => unreachable!("`store` has taken these"),
                Action::ReportSynced { epoch, store } => {
                    if self.log.enabled() {
                        self.log.joined(epoch.0, self.replica.items().notes());
                    }
                    self.membership.handle().synced(epoch, store);
                }
                Action::Distrust { peer, why } => {
                    let peer_name = &self.names[peer.index()];
                    tracing::error!(peer = peer_name, "broke the protocol, its connections are closed: {why}");
                    self.links.reset(peer);
                }
            }
        }
    }

    fn send(&mut self, to: ReplicaSet, epoch: Epoch, message: &Message, now: Moment) {
        if matches!(message, Message::Moved(_)) {
            self.metrics.state.moved("out");
        }
        let frame = codec::encode(epoch, message);
        for peer in to.iter() {
            let sent = self.links.send(peer, LinkKind::Data, frame.clone());
            self.steps.sent(peer, message, sent.link, sent.frame, now);
        }
    }
}

/// A new name for a record store.
fn fresh_store(random: &Random) -> StoreId {
    StoreId(random.draw().expect("the system gave random numbers as the replica started, and keeps doing so"))
}
