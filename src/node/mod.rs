//! The loop that owns one replica's state. Each turn takes all that is waiting, steps it, and then sends what came out:
//! one write per peer, one batch per store, the answers of each connection together. Nothing else touches the state, so
//! there is no lock around it; and the loop never waits for a client, a peer or the disk.

mod callers;
pub mod start;
mod steps;
pub mod storage;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::link::{LinkEvent, Links};
use crate::membership::fixed::FixedView;
use crate::observe::classic;
use crate::protocol::codec;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, ReplicaSet};
use crate::protocol::message::{LinkKind, Message};
use crate::protocol::port::{Batch, Call, Pong, Said};
use crate::protocol::status::{Status, ViewStatus};
use crate::protocol::view::View;
use crate::replication::action::Action;
use crate::replication::event::{Event, Now};
use crate::replication::replica::{Replica, Standing};
use crate::store::StoreError;

use callers::Callers;
use steps::Steps;
use storage::Storage;

/// Open writes past which a replica takes no more calls, until some are answered: clients then wait in their sockets.
pub const OPEN_WRITES_MAX: usize = 8_192;

/// Bytes of notes in open writes past which a replica takes no more calls. With [`OPEN_WRITES_MAX`] this bounds what
/// waits for acknowledgements, in the loop and in the links.
pub const OPEN_WRITE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most events of one kind in one turn, so that no kind starves another.
const EVENTS_PER_TURN_MAX: usize = 256;

/// Everything that reaches the loop from outside.
#[derive(Debug)]
pub struct Inputs {
    /// Calls of this replica's clients.
    pub calls: mpsc::Receiver<Batch>,
    /// What the links bring.
    pub links: mpsc::Receiver<LinkEvent>,
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
    replica: Replica,
    links: Links,
    storage: Storage,
    membership: FixedView,
    /// Published for the links: frames of later epochs wait for it (L4).
    epoch: watch::Sender<Epoch>,
    callers: Callers,
    steps: Steps,
    actions: Vec<Action>,
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
    /// Drawn at this process start.
    pub incarnation: Incarnation,
    /// Its clock; the same as its port's.
    pub clock: Clock,
    /// Its state, with what its store held.
    pub replica: Replica,
    /// Where its records go.
    pub storage: Storage,
    /// Its links to the other replicas.
    pub links: Links,
    /// Where the links read the newest epoch.
    pub epoch: watch::Sender<Epoch>,
}

impl Node {
    /// A loop that is about to run.
    pub fn new(start: Start) -> Node {
        let Start { config, me, incarnation, clock, replica, storage, links, epoch } = start;
        Node {
            me,
            names: config.replicas.iter().map(ToString::to_string).collect(),
            clock,
            replica,
            storage,
            links,
            membership: FixedView::new(config.replicas.len(), me, incarnation),
            epoch,
            callers: Callers::default(),
            steps: Steps::new(&config, me),
            actions: Vec::new(),
            events: Vec::new(),
            batches: Vec::new(),
            config,
        }
    }

    /// Runs until told to end; then sends what is on its way to the peers, closes the links, and has the store flushed.
    ///
    /// # Errors
    ///
    /// The store's failure, at once: only a new start finds out what the disk holds.
    pub async fn run(mut self, mut inputs: Inputs) -> Result<(), Arc<StoreError>> {
        // A cluster of one replica has its view at once.
        if let Some(view) = self.membership.first_view() {
            self.apply_view(view);
            self.finish_turn();
        }
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.clock.instant(Moment::default())));
        while self.turn(&mut inputs, timer.as_mut()).await? {}
        self.links.stop().await;
        self.storage.close()
    }

    /// One turn; false once the loop shall end.
    async fn turn(
        &mut self,
        inputs: &mut Inputs,
        mut timer: std::pin::Pin<&mut Sleep>,
    ) -> Result<bool, Arc<StoreError>> {
        let deadline = self.replica.next_deadline();
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
        tokio::select! {
            biased;
            _ = inputs.end.wait_for(|end| *end) => return Ok(false),
            further = self.storage.progressed() => progress = Some(further?),
            count = inputs.links.recv_many(&mut self.events, EVENTS_PER_TURN_MAX) => if count == 0 { return Ok(false) },
            count = inputs.calls.recv_many(&mut self.batches, EVENTS_PER_TURN_MAX), if takes_calls => {
                if count == 0 {
                    return Ok(false);
                }
            }
            () = timer, if deadline.is_some() => {}
        }
        if let Some(progress) = progress {
            let now = self.now();
            self.storage.on_progress(progress, &self.replica).into_iter().for_each(|event| self.step(now, event));
        }
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
        self.finish_turn();
        Ok(true)
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
            LinkEvent::Messages { from, incarnation, envelopes, .. } => {
                for envelope in envelopes {
                    if classic::enabled() {
                        self.steps.received(from, &envelope.message, now.moment);
                    }
                    self.step(now, Event::Message { from, incarnation, envelope });
                }
            }
            LinkEvent::Met { peer, incarnation } => {
                if let Some(view) = self.membership.met(peer, incarnation) {
                    self.apply_view(view);
                }
            }
            LinkEvent::Overflow { peer, kind } => {
                let peer = &self.names[peer.index()];
                tracing::error!(peer, kind = kind.word(), "takes nothing any more; its link was emptied");
            }
            // The links themselves log these.
            LinkEvent::Up { .. } | LinkEvent::Down { .. } | LinkEvent::Refused { .. } => {}
        }
    }

    fn on_batch(&mut self, now: Now, batch: Batch) {
        let (arrived, calls) = self.callers.take(batch);
        for (token, call) in calls {
            match call {
                Call::Note(request) => self.step(now, Event::Request { token, request, arrived }),
                Call::Ping => self.callers.answer(token, Said::Pong(self.pong())),
                Call::Status => self.callers.answer(token, Said::Status(Box::new(self.status(now.moment)))),
            }
        }
    }

    /// Applies a view. Membership is fixed, so the one view needs no leases: nobody is ever left out of it.
    fn apply_view(&mut self, view: View) {
        let epoch = view.epoch;
        tracing::debug!(%epoch, primary = self.names[view.primary.index()], "new view");
        self.steps.forget();
        self.links.new_epoch(epoch);
        let now = self.now();
        self.step(now, Event::View(view));
        self.step(now, Event::Lease { until: Moment::NEVER });
        // Only now: frames of this epoch may reach the replica once it has the view.
        self.epoch.send_replace(epoch);
    }
}

/// What the replica wants done.
impl Node {
    fn finish_turn(&mut self) {
        self.store();
        let now = self.now();
        self.replica.end_turn(now, &mut self.actions);
        self.store();
        self.carry_out(now.moment);
        self.storage.flush();
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
                Action::BeginCopy => self.storage.begin_copy(start::fresh_store()),
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
                Action::ReportSynced { .. } => unreachable!("the one view of a fixed membership lists no joiner"),
                Action::Distrust { peer, why } => {
                    let peer_name = &self.names[peer.index()];
                    tracing::error!(peer = peer_name, "broke the protocol, its connections are closed: {why}");
                    self.links.reset(peer);
                }
            }
        }
    }

    fn send(&mut self, to: ReplicaSet, epoch: Epoch, message: &Message, now: Moment) {
        let frame = codec::encode(epoch, message);
        for peer in to.iter() {
            let sent = self.links.send(peer, LinkKind::Data, frame.clone());
            if classic::enabled() {
                self.steps.sent(peer, message, sent.link, sent.frame, now);
            }
        }
    }
}

/// What the replica says of itself.
impl Node {
    fn in_sync(&self) -> bool {
        matches!(self.replica.standing(), Standing::Recovering | Standing::Ready)
    }

    fn pong(&self) -> Pong {
        let view = self.replica.view();
        Pong {
            replica: self.me,
            epoch: view.map_or(Epoch(0), |view| view.epoch),
            primary: view.map(|view| view.primary),
            in_sync: self.in_sync(),
        }
    }

    fn status(&self, now: Moment) -> Status {
        let view = self.replica.view();
        let lease = self.replica.lease_until();
        Status {
            replica: self.names[self.me.index()].clone(),
            mode: self.config.sync.word().to_owned(),
            role: self.role().to_owned(),
            view: view.map(|view| self.view_status(view)),
            in_sync: self.in_sync(),
            ready: self.replica.serves(now),
            lease_ms: (lease != Moment::NEVER).then(|| lease.nanos_since(now) / 1_000_000),
            controller: None,
            notes: self.replica.items().notes(),
            items_owned: self.replica.items_owned(),
            links: self.links.status(),
        }
    }

    fn role(&self) -> &'static str {
        let is_primary = self.replica.view().is_some_and(|view| view.primary == self.me);
        match self.replica.standing() {
            Standing::Starting => "starting",
            Standing::Joining => "joining",
            Standing::Out => "out",
            Standing::Recovering | Standing::Ready if is_primary => "primary",
            Standing::Recovering | Standing::Ready => "backup",
        }
    }

    fn view_status(&self, view: &View) -> ViewStatus {
        let name = |replica: ReplicaId| self.names[replica.index()].clone();
        ViewStatus {
            epoch: view.epoch,
            primary: name(view.primary),
            in_sync: view.in_sync_set().iter().map(name).collect(),
            joining: view.joining_set().iter().map(name).collect(),
        }
    }
}
