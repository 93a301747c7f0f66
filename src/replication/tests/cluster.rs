//! Replicas of the core on one table: a first-in-first-out queue from each to each, a disk for each, one clock.
//! Whoever plays with it says when a message arrives, when a disk is slow, and how time passes.

use std::collections::{BTreeMap, VecDeque};

use super::checks::Checks;
use super::show;
use crate::clock::Moment;
use crate::config::Mode;
use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use crate::protocol::message::{Envelope, Message};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::{Operation, Outcome, Request, Write};
use crate::protocol::view::{Member, View};
use crate::replication::action::{Action, Persist};
use crate::replication::event::{Event, Now, Token};
use crate::replication::replica::{Identity, Replica};

/// More messages than any script delivers in one `run`; more is a loop.
const RUN_MAX: usize = 10_000;

/// The wall clock at the start of a script, in ms since 1970.
const WALL_MS: u64 = 1_000_000;

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) replicas: u8,
    pub(super) mode: Mode,
    pub(super) min_in_sync: usize,
    pub(super) leases: bool,
    pub(super) items_per_turn: usize,
}

/// All replicas, and what is between them.
pub(super) struct Cluster {
    settings: Settings,
    hosts: Vec<Host>,
    links: BTreeMap<(ReplicaId, ReplicaId), VecDeque<Frame>>,
    now_ms: u64,
    last_token: u64,
    checks: Checks,
    /// What was answered since it was last taken.
    answers: Vec<(Token, Outcome)>,
    /// Who reported itself synced, and in which epoch.
    synced: Vec<(ReplicaId, Epoch)>,
    /// What happened, a line each, since it was last taken.
    lines: Vec<String>,
}

/// Where a replica runs.
pub(super) struct Host {
    pub(super) incarnation: Incarnation,
    /// None while it is dead.
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
}

/// A record store, and what waits for it.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) held: bool,
    pub(super) waiting: VecDeque<Job>,
    pub(super) store: Store,
    /// A joiner's new store beside it (J2).
    copy: Option<Store>,
}

/// What survives a crash.
#[derive(Default)]
pub(super) struct Store {
    id: u64,
    pub(super) records: BTreeMap<NoteId, Record>,
    pub(super) keys: Vec<KeyEntry>,
}

/// What a disk is asked to do; it does all in order.
pub(super) enum Job {
    Persist(Persist),
    BeginCopy,
    Switch,
}

struct Frame {
    incarnation: Incarnation,
    envelope: Envelope,
}

impl Store {
    fn keep(&mut self, persist: Persist) {
        for record in persist.records {
            let newer = self.records.get(&record.id).is_none_or(|before| before.version < record.version);
            if newer {
                self.records.insert(record.id, record);
            }
        }
        persist.forget.iter().for_each(|id| drop(self.records.remove(id)));
        self.keys.extend(persist.keys);
    }
}

impl Disk {
    /// Does all that waits; what the replica is told then.
    fn sync(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for job in self.waiting.drain(..) {
            match job {
                Job::Persist(persist) => {
                    events.push(Event::Durable { number: persist.number });
                    self.copy.as_mut().unwrap_or(&mut self.store).keep(persist);
                }
                Job::BeginCopy => self.copy = Some(Store::default()),
                Job::Switch => {
                    let copy = self.copy.take().expect("a copy is begun before it takes the store's place");
                    self.store = Store { id: self.store.id + 1, ..copy };
                    events.push(Event::Switched { store: StoreId(self.store.id) });
                }
            }
        }
        events
    }
}

impl Cluster {
    pub(super) fn new(settings: Settings) -> Cluster {
        let mut cluster = Cluster {
            settings,
            hosts: Vec::new(),
            links: BTreeMap::new(),
            now_ms: 0,
            last_token: 0,
            checks: Checks::default(),
            answers: Vec::new(),
            synced: Vec::new(),
            lines: Vec::new(),
        };
        for place in 0..settings.replicas {
            cluster.hosts.push(Host { incarnation: Incarnation(0), replica: None, disk: Disk::default() });
            cluster.restart(ReplicaId(place));
        }
        cluster
    }

    /// What happened since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// What was answered since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<(Token, Outcome)> {
        std::mem::take(&mut self.answers)
    }

    /// The number of the last request.
    pub(super) fn last_token(&self) -> u64 {
        self.last_token
    }

    /// Who reported itself synced in this epoch.
    pub(super) fn synced_in(&self, epoch: Epoch) -> Vec<ReplicaId> {
        self.synced.iter().filter(|(_, its)| *its == epoch).map(|(at, _)| *at).collect()
    }

    /// Links on which messages wait.
    pub(super) fn busy_links(&self) -> Vec<(ReplicaId, ReplicaId)> {
        self.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|(link, _)| *link).collect()
    }

    pub(super) fn is_alive(&self, at: ReplicaId) -> bool {
        self.hosts[at.index()].replica.is_some()
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = (ReplicaId, &Host)> {
        (0..).map(ReplicaId).zip(&self.hosts)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..self.settings.replicas).map(ReplicaId)
    }

    /// Starts a replica with what its disk holds.
    pub(super) fn restart(&mut self, at: ReplicaId) {
        self.crash(at);
        let Settings { mode, min_in_sync, leases, items_per_turn, .. } = self.settings;
        let host = &mut self.hosts[at.index()];
        host.incarnation.0 += 1;
        let identity = Identity {
            me: at,
            incarnation: host.incarnation,
            mode,
            min_in_sync,
            request_timeout_ms: 5000,
            read_wait_ms: 3000,
            items_per_turn,
        };
        host.replica = Some(Replica::new(
            identity,
            host.disk.store.records.values().cloned(),
            host.disk.store.keys.iter().cloned(),
        ));
        if leases {
            self.turn(at, Event::Lease { until: Moment::NEVER });
        }
    }

    /// A replica dies: what was on its way from it, to it and to its disk is lost.
    pub(super) fn crash(&mut self, at: ReplicaId) {
        self.links.retain(|(from, to), _| *from != at && *to != at);
        let host = &mut self.hosts[at.index()];
        host.replica = None;
        host.disk.waiting.clear();
        host.disk.held = false;
        host.disk.copy = None;
        self.checks.on_crash(at);
    }

    /// A member as it is now.
    pub(super) fn member(&self, replica: ReplicaId) -> Member {
        let host = &self.hosts[replica.index()];
        Member { replica, incarnation: host.incarnation, store: StoreId(host.disk.store.id) }
    }

    pub(super) fn apply_view(&mut self, at: ReplicaId, view: View) {
        self.turn(at, Event::View(view));
    }

    /// A client asks; the request's number.
    pub(super) fn request(&mut self, at: ReplicaId, request: Request) -> u64 {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.checks.on_request(at, token, &request);
        self.turn(at, Event::Request { token, request, arrived: self.now().moment });
        token.0
    }

    /// Notes 1, 2, … are posted at the first replica, and everybody has them.
    pub(super) fn post_notes(&mut self, count: u64) {
        for number in 1..=count {
            let note = Note::from_post(format!(r#"{{"title":"t{number}","body":"b{number}"}}"#).as_bytes()).unwrap();
            let write = Write { operation: Operation::Post { note }, key: None, if_match: None };
            self.request(ReplicaId(0), Request::Write(write));
            self.run();
        }
        self.last_token = 0;
    }

    pub(super) fn wait(&mut self, who: Option<ReplicaId>, ms: u64) {
        self.now_ms += ms;
        let who = who.map_or_else(|| self.all().collect(), |one| vec![one]);
        who.into_iter().for_each(|at| self.turn(at, Event::Tick));
    }

    pub(super) fn lease(&mut self, at: ReplicaId, ms: u64) {
        self.turn(at, Event::Lease { until: self.now().moment.after_ms(ms) });
    }

    pub(super) fn hold_disk(&mut self, at: ReplicaId) {
        self.hosts[at.index()].disk.held = true;
    }

    pub(super) fn release_disk(&mut self, at: ReplicaId) {
        let disk = &mut self.hosts[at.index()].disk;
        disk.held = false;
        let events = disk.sync();
        self.turns(at, events);
    }

    pub(super) fn drop_link(&mut self, from: ReplicaId, to: ReplicaId) {
        self.links.remove(&(from, to));
    }

    /// Brings one message, unless there is none, or it waits for its view at the receiver (L4).
    pub(super) fn deliver(&mut self, from: ReplicaId, to: ReplicaId, tell: bool) -> bool {
        let receiver = self.epoch_of(to);
        let Some(queue) = self.links.get_mut(&(from, to)) else { return false };
        let early =
            |frame: &mut Frame| frame.envelope.epoch > receiver && !matches!(frame.envelope.message, Message::Stale(_));
        let Some(Frame { incarnation, envelope }) = queue.pop_front_if(|frame| !early(frame)) else { return false };
        if tell {
            self.say(format!("{} gets {} from {}", show::name(to), show::brief(&envelope.message), show::name(from)));
        }
        self.message(from, to, incarnation, envelope);
        true
    }

    /// Brings all messages of a link, in one turn.
    pub(super) fn deliver_together(&mut self, from: ReplicaId, to: ReplicaId) {
        let frames = self.links.remove(&(from, to)).unwrap_or_default();
        let event = |Frame { incarnation, envelope }| Event::Message { from, incarnation, envelope };
        self.turns(to, frames.into_iter().map(event).collect());
    }

    /// Brings a message past all links.
    pub(super) fn message(&mut self, from: ReplicaId, to: ReplicaId, incarnation: Incarnation, envelope: Envelope) {
        self.turn(to, Event::Message { from, incarnation, envelope });
    }

    /// Who has work for another turn.
    pub(super) fn unfinished(&self) -> Vec<ReplicaId> {
        let is_unfinished = |host: &Host| host.replica.as_ref().is_some_and(|replica| replica.unfinished().is_some());
        self.hosts().filter(|(_, host)| is_unfinished(host)).map(|(at, _)| at).collect()
    }

    /// A turn in which this replica goes on.
    pub(super) fn proceed(&mut self, at: ReplicaId) {
        self.turn(at, Event::Proceed);
    }

    /// Brings every message, one from each link in turn, until none is left, and lets all finish their work.
    pub(super) fn run(&mut self) {
        for _ in 0..RUN_MAX {
            let unfinished = self.unfinished();
            let mut busy = !unfinished.is_empty();
            unfinished.into_iter().for_each(|at| self.proceed(at));
            for from in self.all() {
                for to in self.all() {
                    busy |= self.deliver(from, to, false);
                }
            }
            if !busy {
                return;
            }
        }
        panic!("the replicas still send messages after {RUN_MAX} rounds");
    }

    /// Whether nothing is on its way to anybody or to a disk.
    pub(super) fn is_quiet(&self) -> bool {
        self.links.values().all(VecDeque::is_empty) && self.hosts.iter().all(|host| host.disk.waiting.is_empty())
    }

    /// Looks at everything once more, as a script ends.
    pub(super) fn check_end(&self) {
        self.checks.at_end(self);
    }

    fn epoch_of(&self, at: ReplicaId) -> Epoch {
        let replica = self.hosts[at.index()].replica.as_ref();
        replica.and_then(Replica::view).map_or(Epoch(0), |view| view.epoch)
    }

    fn now(&self) -> Now {
        Now { moment: Moment::default().after_ms(self.now_ms), wall_ms: WALL_MS + self.now_ms }
    }

    fn turn(&mut self, at: ReplicaId, event: Event) {
        self.turns(at, vec![event]);
    }

    /// One turn of a replica's loop: it takes what is there, and its disk is as quick as it is let. More turns follow where
    /// the disk was given something at the end.
    fn turns(&mut self, at: ReplicaId, mut events: Vec<Event>) {
        loop {
            while !events.is_empty() {
                for event in events {
                    self.with(at, |replica, now, actions| replica.step(now, event, actions));
                }
                events = self.sync_unless_held(at);
            }
            self.with(at, Replica::end_turn);
            events = self.sync_unless_held(at);
            if events.is_empty() {
                break;
            }
        }
        self.checks.after_turn(at, &self.hosts[at.index()]);
    }

    fn sync_unless_held(&mut self, at: ReplicaId) -> Vec<Event> {
        let disk = &mut self.hosts[at.index()].disk;
        if disk.held { Vec::new() } else { disk.sync() }
    }

    fn with(&mut self, at: ReplicaId, act: impl FnOnce(&mut Replica, Now, &mut Vec<Action>)) {
        let (now, before) = (self.now(), self.epoch_of(at));
        let Some(replica) = &mut self.hosts[at.index()].replica else { return };
        let mut actions = Vec::new();
        act(replica, now, &mut actions);
        if self.epoch_of(at) > before {
            // L3: a new view empties the links from here.
            self.links.retain(|(from, _), _| *from != at);
        }
        actions.into_iter().for_each(|action| self.carry_out(at, action));
    }

    fn carry_out(&mut self, at: ReplicaId, action: Action) {
        let held = self.hosts[at.index()].disk.held;
        if let Some(line) = show::action(at, &action, held) {
            self.say(line);
        }
        match action {
            // The view came later in the same turn, and emptied the links.
            Action::Send { epoch, .. } if epoch < self.epoch_of(at) => {}
            Action::Send { to, epoch, message } => {
                self.checks.on_send(&message);
                let incarnation = self.hosts[at.index()].incarnation;
                for peer in to.iter().filter(|peer| self.hosts[peer.index()].replica.is_some()) {
                    let envelope = Envelope { epoch, message: message.clone() };
                    self.links.entry((at, peer)).or_default().push_back(Frame { incarnation, envelope });
                }
            }
            Action::Answer { token, answer } => {
                self.checks.on_answer(token, &answer.outcome);
                self.answers.push((token, answer.outcome));
            }
            Action::Persist(persist) => self.hosts[at.index()].disk.waiting.push_back(Job::Persist(persist)),
            Action::BeginCopy => self.hosts[at.index()].disk.waiting.push_back(Job::BeginCopy),
            Action::SwitchStore => self.hosts[at.index()].disk.waiting.push_back(Job::Switch),
            Action::ReportSynced { epoch, store } => {
                self.synced.push((at, epoch));
                let present = self.hosts[at.index()].disk.store.id;
                assert_eq!(store, StoreId(present), "the store that is reported as synced is the present one");
            }
            Action::Distrust { .. } => {}
        }
    }
}
