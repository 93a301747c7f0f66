//! The world of one run: everything that happens, in order of time. The same seed makes the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use primacy::clock::Moment;
use primacy::config::Mode;
use primacy::note::NoteId;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use primacy::protocol::message::{Envelope, Message};
use primacy::protocol::request::Answer;
use primacy::protocol::view::Member;
use primacy::replication::action::Action;
use primacy::replication::event::{Event, Token};
use primacy::replication::replica::{Identity, Replica};

use super::checks::{self, Checked, Violation, Witness};
use super::disks::{Disk, Order};
use super::faults::Mending;
use super::history::{Ask, Attempt, History, Reply};
use super::links::{Frame, Link};
use super::node::{Clock, Node};
use super::plan::{DRIFT_PPM, FAILURE_TIMEOUT, MS, Plan};
use super::report::{Counts, Fault};
use super::views::{Council, Sight};
use super::workload::{Client, Knowledge, Wish, reply_of, request_of};

/// How often a replica sends its heartbeat (V6).
const HEARTBEAT: u64 = FAILURE_TIMEOUT / 10;

/// How soon after the faults all must be in sync and equal.
const CONVERGES_WITHIN: u64 = 30_000 * MS;

/// Requests that clients make after the faults.
const REQUESTS_AFTER_FAULTS: usize = 20;

/// Times past which something waits for ever.
const ENDS_BEFORE: u64 = 200_000 * MS;

/// Something that happens at a time. A `life` says for which life of a process it was planned.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Turn { node: usize, life: u64 },
    TurnEnds { node: usize, life: u64 },
    Arrives { from: usize, to: usize },
    Disk { node: usize, life: u64 },
    Timer { node: usize, life: u64 },
    Heartbeat { node: usize, life: u64 },
    Heard { node: usize, life: u64, sent: Moment },
    Granted { node: usize, life: u64, until: Moment },
    View { node: usize, life: u64, epoch: Epoch },
    Synced { node: usize, incarnation: Incarnation, epoch: Epoch, store: StoreId },
    Council,
    Client { client: usize, generation: u64 },
    Fault,
    Mend(Mending),
    Start { node: usize, life: u64 },
    Check,
}

/// What comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Faults and requests.
    Faults,
    /// No more faults; some more requests.
    Healing,
    /// No more requests: all becomes equal.
    Settling,
    /// Every note is read everywhere, and one is written at each replica.
    Reading,
    Over,
}

/// A run that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) plan: Plan,
    pub(crate) at: u64,
    pub(crate) violation: Violation,
    /// What happened, one line each; empty where it was not asked for.
    pub(crate) trace: Vec<String>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    planned: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) council: Council,
    pub(crate) clients: Vec<Client>,
    knowledge: Knowledge,
    pub(crate) history: History,
    witness: Witness,
    pub(crate) counts: Counts,
    pub(crate) stage: Stage,
    healed_at: u64,
    requests_left: usize,
    last_missing: Option<Violation>,
    trace: Option<Vec<String>>,
    scratch: Vec<Action>,
}

/// Runs a seed. With `traced`, the failure tells what happened.
pub(crate) fn run(seed: u64, traced: bool) -> Result<Counts, Box<Failed>> {
    let (plan, rng) = Plan::of_seed(seed);
    let mut world = World::new(plan, rng, traced);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation { rule: "the core does not panic", seen: message.unwrap_or_default() })
    });
    match ended {
        Ok(()) => Ok(world.counts),
        Err(violation) => {
            let trace = world.trace.take().unwrap_or_default();
            Err(Box::new(Failed { plan: world.plan, at: world.now, violation, trace }))
        }
    }
}

/// The queue.
impl World {
    fn new(plan: Plan, mut rng: Rng, traced: bool) -> World {
        let nodes: Vec<Node> = (0..plan.replicas).map(|_| new_node(&mut rng)).collect();
        let link_row = || (0..plan.replicas).map(|_| Link::default()).collect::<Vec<_>>();
        let links = (0..plan.replicas).map(|_| link_row()).collect();
        let council = Council::new(Vec::new(), rng.i64(-DRIFT_PPM..=DRIFT_PPM));
        let clients = (0..plan.clients).map(|_| Client::default()).collect();
        World {
            now: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            planned: 0,
            nodes,
            links,
            council,
            clients,
            knowledge: Knowledge::default(),
            history: History::default(),
            witness: Witness::default(),
            counts: Counts { runs: 1, ..Counts::default() },
            stage: Stage::Faults,
            healed_at: 0,
            requests_left: plan.requests,
            last_missing: None,
            trace: traced.then(Vec::new),
            scratch: Vec::new(),
            plan,
            rng,
        }
    }

    /// Notes what happens, where somebody wants to read it.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} ms  {}", self.now as f64 / MS as f64, line()));
        }
    }

    /// Plans something for a time.
    pub(crate) fn at(&mut self, time: u64, happening: Happening) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.happenings[slot] = Some(happening);
                slot
            }
            None => {
                self.happenings.push(Some(happening));
                self.happenings.len() - 1
            }
        };
        self.planned += 1;
        self.queue.push(Reverse((time.max(self.now), self.planned, slot)));
    }

    /// Plans something for later.
    pub(crate) fn after(&mut self, nanos: u64, happening: Happening) {
        self.at(self.now + nanos, happening);
    }

    fn run(&mut self) -> Checked {
        self.begin();
        while self.stage != Stage::Over {
            let Some(Reverse((time, _, slot))) = self.queue.pop() else { break };
            self.now = time;
            self.free.push(slot);
            if let Some(happening) = self.happenings[slot].take() {
                self.happen(happening)?;
            }
            if self.now > ENDS_BEFORE {
                let seen = format!("stage {:?} after {} ms; {:?}", self.stage, self.now / MS, self.last_missing);
                return Err(Violation { rule: "every run ends", seen });
            }
        }
        checks::each_takes_effect_once(&self.history)?;
        self.counts.undecided += checks::notes_are_linearizable(&self.history, &self.witness)?;
        self.count_all();
        Ok(())
    }

    fn begin(&mut self) {
        let ids: Vec<usize> = (0..self.nodes.len()).collect();
        let mut members = Vec::new();
        for node in ids {
            self.nodes[node].incarnation = Incarnation(self.rng.u64(..));
            members.push(self.member(node));
        }
        self.council = Council::new(members, self.rng.i64(-DRIFT_PPM..=DRIFT_PPM));
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.announce();
        for client in 0..self.clients.len() {
            self.plan_client(client, self.plan.think);
        }
        self.after(0, Happening::Council);
        if !self.plan.faults.is_empty() {
            self.after(self.plan.fault_every, Happening::Fault);
        }
        self.after(self.plan.faults_until, Happening::Check);
    }

    fn count_all(&mut self) {
        self.counts.simulated_ms = self.now / MS;
        self.counts.views = self.council.log.len() as u64;
        self.counts.revivals = self.council.revivals;
        self.counts.removals = self.council.removals;
        self.counts.joins = self.council.joins;
        self.counts.synced = self.council.synced;
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Turn { node, life } if self.lives(node, life) => return self.turn(node),
            Happening::TurnEnds { node, life } if self.lives(node, life) => return self.end_turn(node),
            Happening::Arrives { from, to } => self.arrive(from, to),
            Happening::Disk { node, life } if self.lives(node, life) => {
                let events = self.nodes[node].disk.complete(self.now, &mut self.rng);
                events.into_iter().for_each(|event| self.tell(node, event));
            }
            Happening::Timer { node, life } if self.lives(node, life) => {
                self.nodes[node].timer_at = None;
                self.plan_turn(node);
            }
            Happening::Heartbeat { node, life } if self.lives(node, life) => self.heartbeat(node),
            Happening::Heard { node, life, sent } if self.lives(node, life) => self.heard(node, sent),
            Happening::Granted { node, life, until } if self.lives(node, life) => {
                self.tell(node, Event::Lease { until });
            }
            Happening::View { node, life, epoch } if self.lives(node, life) => {
                let view = self.council.log[epoch.0 as usize - 1].clone();
                self.tell(node, Event::View(view));
            }
            Happening::Synced { node, incarnation, epoch, store } => {
                let taken = self.council.take_in(ReplicaId(node as u8), incarnation, epoch, store);
                return if taken { self.new_view() } else { Ok(()) };
            }
            Happening::Council => return self.meet(),
            Happening::Client { client, generation } if self.clients[client].generation == generation => {
                self.client_wakes(client);
            }
            Happening::Fault => self.fault(),
            Happening::Mend(mending) => self.mend(mending),
            Happening::Start { node, life } if self.nodes[node].life == life && !self.nodes[node].is_up() => {
                self.start(node);
            }
            Happening::Check => return self.proceed(),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].is_up()
    }
}

/// Processes.
impl World {
    fn member(&self, node: usize) -> Member {
        let Node { incarnation, disk, .. } = &self.nodes[node];
        Member { replica: ReplicaId(node as u8), incarnation: *incarnation, store: disk.id }
    }

    /// A process starts, from what its disk has.
    fn start(&mut self, node: usize) {
        let plan = &self.plan;
        let it = &mut self.nodes[node];
        if it.life > 0 {
            it.incarnation = Incarnation(self.rng.u64(..));
        }
        it.life += 1;
        let identity = Identity {
            me: ReplicaId(node as u8),
            incarnation: it.incarnation,
            mode: plan.mode,
            min_in_sync: plan.min_in_sync.min(plan.replicas),
            request_timeout_ms: plan.request_timeout_ms,
            read_wait_ms: plan.read_wait_ms,
        };
        let store = it.disk.store.clone();
        it.replica = Some(Replica::new(identity, store.records.into_values(), store.keys.into_values()));
        let life = it.life;
        for peer in 0..self.nodes.len() {
            self.links[peer][node].lose_all();
            self.links[node][peer].begin();
        }
        let incarnation = self.nodes[node].incarnation;
        self.note(|| format!("r{node} starts as {incarnation}"));
        self.after(0, Happening::Heartbeat { node, life });
    }

    /// A process dies where it stands. Its clients never learn what became of their requests.
    pub(crate) fn crash(&mut self, node: usize) {
        self.note(|| format!("r{node} CRASHES"));
        let open = std::mem::take(&mut self.nodes[node].open);
        self.nodes[node].stop();
        self.nodes[node].disk.crash(&mut self.rng);
        for peer in 0..self.nodes.len() {
            self.links[node][peer].lose_some(&mut self.rng);
        }
        open.into_iter().for_each(|attempt| self.resolve(attempt, Reply::Unknown));
    }

    /// Gives a process something for its next turn.
    fn tell(&mut self, node: usize, event: Event) {
        self.nodes[node].inbox.push_back(event);
        self.plan_turn(node);
    }

    fn plan_turn(&mut self, node: usize) {
        if !self.nodes[node].in_turn {
            self.nodes[node].in_turn = true;
            let time = (self.now + self.rng.u64(0..20_000)).max(self.nodes[node].paused_until);
            self.at(time, Happening::Turn { node, life: self.nodes[node].life });
        }
    }

    fn turn(&mut self, node: usize) -> Checked {
        if self.nodes[node].paused_until > self.now {
            let life = self.nodes[node].life;
            self.at(self.nodes[node].paused_until, Happening::Turn { node, life });
            return Ok(());
        }
        self.counts.turns += 1;
        let waiting = self.nodes[node].inbox.len();
        let some = waiting > 1 && self.rng.u8(0..100) < self.plan.short_turns;
        let count = if some { self.rng.usize(1..=waiting) } else { waiting };
        for _ in 0..count {
            if let Some(event) = self.nodes[node].inbox.pop_front() {
                self.step(node, event)?;
            }
        }
        let now = self.nodes[node].clock.moment(self.now);
        if self.nodes[node].replica.as_ref().and_then(Replica::next_deadline).is_some_and(|due| due <= now) {
            self.step(node, Event::Tick)?;
        }
        match self.nodes[node].pauses_within.take() {
            Some(pause) => {
                self.counts.fired(Fault::PauseWithin);
                self.note(|| format!("r{node} pauses within its turn for {} ms", pause / MS));
                self.after(pause, Happening::TurnEnds { node, life: self.nodes[node].life });
                Ok(())
            }
            None => self.end_turn(node),
        }
    }

    fn step(&mut self, node: usize, event: Event) -> Checked {
        self.note(|| format!("r{node} <- {}", brief(&event)));
        let it = &mut self.nodes[node];
        let Some(replica) = &mut it.replica else { return Ok(()) };
        replica.step(it.clock.now(self.now), event, &mut self.scratch);
        let before = it.epoch;
        let epoch = replica.view().map_or(Epoch(0), |view| view.epoch);
        it.wanted.extend(self.scratch.drain(..));
        if epoch != before {
            it.epoch = epoch;
            checks::one_view_per_epoch(&self.nodes[node], before, &self.council.log)?;
            self.enter(node, epoch);
        }
        Ok(())
    }

    /// A replica has a new view: its links are emptied, and frames that waited for that view go on.
    fn enter(&mut self, node: usize, epoch: Epoch) {
        for peer in 0..self.nodes.len() {
            self.links[node][peer].empty_below(epoch, &mut self.rng);
            self.after(0, Happening::Arrives { from: peer, to: node });
        }
    }

    fn end_turn(&mut self, node: usize) -> Checked {
        let it = &mut self.nodes[node];
        it.in_turn = false;
        let Some(replica) = &mut it.replica else { return Ok(()) };
        replica.end_turn(it.clock.now(self.now), &mut self.scratch);
        it.wanted.extend(self.scratch.drain(..));
        self.carry_out(node)?;
        let it = &self.nodes[node];
        let Some(replica) = &it.replica else { return Ok(()) };
        if self.rng.u8(0..4) == 0 {
            self.witness.learn(replica)?;
        }
        if let Some(deadline) = replica.next_deadline() {
            let time = it.clock.time_of(deadline);
            if it.timer_at.is_none_or(|at| at > time) {
                self.nodes[node].timer_at = Some(time);
                self.at(time, Happening::Timer { node, life: self.nodes[node].life });
            }
        }
        if !self.nodes[node].inbox.is_empty() {
            self.plan_turn(node);
        }
        Ok(())
    }

    /// Carries out what a turn wanted, or, where a crash is due, a part of it.
    fn carry_out(&mut self, node: usize) -> Checked {
        let wanted = self.nodes[node].wanted.len();
        let count = match self.nodes[node].crashes_after {
            Some(count) if wanted > 0 => Some(count % (wanted + 1)),
            _ => None,
        };
        for _ in 0..count.unwrap_or(wanted) {
            if let Some(action) = self.nodes[node].wanted.pop_front() {
                self.carry_out_one(node, action)?;
            }
        }
        if count.is_some() {
            self.counts.fired(Fault::CrashWithin);
            self.crash(node);
            self.plan_start(node);
        }
        Ok(())
    }

    fn carry_out_one(&mut self, node: usize, action: Action) -> Checked {
        self.witness.see(&action)?;
        checks::nobody_is_distrusted(&action)?;
        match action {
            Action::Send { to, epoch, message } => {
                self.check_writers(&message, epoch)?;
                for peer in to.iter() {
                    self.send(node, peer.index(), Envelope { epoch, message: message.clone() });
                }
            }
            Action::Answer { token, answer } => return self.answer(node, token, answer),
            Action::Persist(persist) => self.order(node, Order::Write(persist)),
            Action::BeginCopy => self.order(node, Order::BeginCopy),
            Action::SwitchStore => self.order(node, Order::Switch),
            Action::ReportSynced { epoch, store } => {
                let incarnation = self.nodes[node].incarnation;
                self.note(|| format!("r{node} reports synced in epoch {epoch}"));
                let delay = self.delay(self.plan.link_delay);
                self.after(delay, Happening::Synced { node, incarnation, epoch, store });
            }
            Action::Distrust { .. } => {}
        }
        Ok(())
    }

    /// Invariant 2, where it could break: an item is written, or handed over.
    fn check_writers(&mut self, message: &Message, epoch: Epoch) -> Checked {
        match message {
            Message::Update(update) if update.chosen.is_empty() => {
                update.records.iter().try_for_each(|record| checks::one_writer(record.id, epoch, &self.nodes))
            }
            Message::Moved(moved) => {
                self.counts.moves += 1;
                checks::one_writer(moved.record.id, epoch, &self.nodes)
            }
            _ => Ok(()),
        }
    }

    fn order(&mut self, node: usize, order: Order) {
        let slow = if self.nodes[node].disk.slow_until > self.now { 100 } else { 1 };
        let delay = self.delay(self.plan.disk_delay) * slow;
        let at = self.nodes[node].disk.push(self.now + delay, order);
        self.at(at, Happening::Disk { node, life: self.nodes[node].life });
    }

    fn delay(&mut self, most: u64) -> u64 {
        match self.rng.u8(0..20) {
            0 => self.rng.u64(0..=most * 4),
            _ => self.rng.u64(0..=most),
        }
    }
}

/// Links, leases and views.
impl World {
    fn send(&mut self, from: usize, to: usize, envelope: Envelope) {
        self.counts.frames += 1;
        self.counts.stale += u64::from(matches!(envelope.message, Message::Stale(_)));
        self.note(|| format!("r{from} -> r{to} epoch {} {}", envelope.epoch, brief_message(&envelope.message)));
        // For the member that the sender's view lists; what is refused goes back to whom it came from (L3).
        let listed = self.council.log.get((envelope.epoch.0 as usize).wrapping_sub(1));
        let listed = listed.and_then(|view| view.incarnation_of(ReplicaId(to as u8)));
        let stale = matches!(envelope.message, Message::Stale(_));
        let incarnation = listed.filter(|_| !stale).unwrap_or(self.nodes[to].incarnation);
        let slow = if self.links[from][to].slow_until > self.now { 50 } else { 1 };
        let at = self.now + self.delay(self.plan.link_delay) * slow;
        let frame = Frame { at, from: self.nodes[from].incarnation, to: incarnation, envelope };
        if let Some(at) = self.links[from][to].push(frame) {
            self.at(at, Happening::Arrives { from, to });
        }
    }

    fn arrive(&mut self, from: usize, to: usize) {
        while let Some(frame) = self.links[from][to].pop(self.now, self.nodes[to].epoch, self.plan.stale_passes) {
            if self.nodes[to].is_up() && frame.to == self.nodes[to].incarnation {
                let Frame { from: incarnation, envelope, .. } = frame;
                self.tell(to, Event::Message { from: ReplicaId(from as u8), incarnation, envelope });
            }
        }
    }

    fn up(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_up()).count()
    }

    fn heartbeat(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if self.nodes[node].paused_until > self.now {
            return self.at(self.nodes[node].paused_until, Happening::Heartbeat { node, life });
        }
        self.after(HEARTBEAT, Happening::Heartbeat { node, life });
        if self.nodes[node].control_cuts == 0 {
            let sent = self.nodes[node].clock.moment(self.now);
            let delay = self.delay(self.plan.link_delay);
            self.after(delay, Happening::Heard { node, life, sent });
        }
    }

    fn heard(&mut self, node: usize, sent: Moment) {
        let (member, life) = (self.member(node), self.nodes[node].life);
        let until = self.council.hear(member, sent, self.now, self.up());
        let delay = self.delay(self.plan.link_delay);
        if let Some(until) = until {
            self.after(delay, Happening::Granted { node, life, until });
        }
        let newest = self.council.newest().epoch;
        if self.nodes[node].epoch < newest {
            self.after(delay, Happening::View { node, life, epoch: newest });
        }
    }

    fn meet(&mut self) -> Checked {
        let wait = self.rng.u64(20 * MS..50 * MS);
        self.after(wait, Happening::Council);
        let (mut cut_pairs, mut apart) = (Vec::new(), Vec::new());
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| self.links[from][*to].is_cut()) {
                let pair = (ReplicaId(from as u8), ReplicaId(to as u8));
                apart.push(pair);
                if self.now > self.links[from][to].cut_since + FAILURE_TIMEOUT {
                    cut_pairs.push(pair);
                }
            }
        }
        let alive = self.nodes.iter().filter(|node| node.is_up()).map(|node| node.incarnation).collect();
        let sight = Sight { now: self.now, up: self.up(), alive, cut_pairs, apart };
        match self.council.decide(&sight) {
            true => self.new_view(),
            false => Ok(()),
        }
    }

    fn new_view(&mut self) -> Checked {
        for node in &self.nodes {
            if let Some(replica) = &node.replica {
                self.witness.learn(replica)?;
            }
        }
        self.announce();
        self.witness.committed_is_everywhere(self.council.newest(), &self.nodes)
    }

    fn announce(&mut self) {
        let view = self.council.newest();
        let epoch = view.epoch;
        let text = self.trace.is_some().then(|| short(&format!("{view:?}")));
        self.note(|| format!("VIEW {}", text.unwrap_or_default()));
        for node in 0..self.nodes.len() {
            if self.nodes[node].control_cuts == 0 && self.nodes[node].is_up() {
                let delay = self.delay(self.plan.link_delay);
                self.after(delay, Happening::View { node, life: self.nodes[node].life, epoch });
            }
        }
    }
}

/// Clients.
impl World {
    fn plan_client(&mut self, client: usize, most: u64) {
        self.clients[client].generation += 1;
        let generation = self.clients[client].generation;
        let delay = self.rng.u64(0..=most);
        self.after(delay, Happening::Client { client, generation });
    }

    fn client_wakes(&mut self, client: usize) {
        for attempt in std::mem::take(&mut self.clients[client].open) {
            self.counts.given_up += 1;
            self.close(attempt, Reply::Unknown);
        }
        let wish = self.clients[client].wish.take().filter(|wish| wish.sends > 0);
        if let Some(wish) = wish {
            self.counts.retries += 1;
            return self.ask(client, wish);
        }
        if self.requests_left > 0 {
            self.requests_left -= 1;
            let wish = self.knowledge.wish(&self.plan, &mut self.rng);
            self.ask(client, wish);
        }
    }

    /// Sends a wish to some replica; one that may be sent twice sometimes goes to two at once.
    fn ask(&mut self, client: usize, mut wish: Wish) {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            self.clients[client].wish = Some(wish);
            return self.plan_client(client, 50 * MS);
        }
        let first = up[self.rng.usize(..up.len())];
        let twice = wish.sends > 1 && self.rng.u8(0..4) == 0;
        wish.sends -= 1;
        self.send_request(client, first, &wish);
        if twice {
            wish.sends -= 1;
            let second = up[self.rng.usize(..up.len())];
            self.send_request(client, second, &wish);
        }
        self.clients[client].wish = Some(wish);
        let patience = self.plan.patience;
        self.clients[client].generation += 1;
        let generation = self.clients[client].generation;
        self.after(patience, Happening::Client { client, generation });
    }

    fn send_request(&mut self, client: usize, node: usize, wish: &Wish) {
        let place = self.history.attempts.len();
        let called = self.history.tick();
        let Wish { ask, key, if_match, .. } = *wish;
        let reply = Reply::Open;
        self.history.attempts.push(Attempt { client, replica: node, ask, key, if_match, called, returned: 0, reply });
        self.counts.requests += 1;
        self.clients[client].open.push(place);
        self.nodes[node].open.insert(place);
        let arrived = self.nodes[node].clock.moment(self.now);
        self.tell(node, Event::Request { token: Token(place as u64), request: request_of(wish), arrived });
    }

    fn answer(&mut self, node: usize, token: Token, answer: Answer) -> Checked {
        let place = token.0 as usize;
        if !self.nodes[node].open.remove(&place) {
            let seen = format!("request {place} was answered again, or by another replica: {answer:?}");
            return Err(Violation { rule: "each request is answered once", seen });
        }
        let reply = reply_of(answer.outcome);
        self.note_answer(node, place, &reply);
        let forwarded = self.plan.mode == Mode::RemoteWrite && self.history.attempts[place].ask.is_write();
        checks::outsiders_are_silent(self.member(node), &reply, forwarded, self.council.newest())?;
        if let Reply::Done(done) = &reply {
            self.witness.done_is_committed(*done, self.council.newest(), &self.nodes)?;
        }
        self.check_last(self.history.attempts[place].ask, &reply)?;
        if self.history.attempts[place].reply == Reply::Open {
            self.resolve(place, reply);
        }
        Ok(())
    }

    fn note_answer(&mut self, node: usize, place: usize, reply: &Reply) {
        let text = self.trace.is_some().then(|| format!("{:?}: {reply:?}", self.history.attempts[place].ask));
        self.note(|| format!("r{node} ANSWERS request {place} {}", text.unwrap_or_default()));
    }

    /// An attempt has ended; its client goes on once all of its attempts have.
    fn resolve(&mut self, place: usize, reply: Reply) {
        if self.history.attempts[place].reply != Reply::Open {
            return;
        }
        self.close(place, reply);
        let client = self.history.attempts[place].client;
        let Some(it) = self.clients.get_mut(client) else { return };
        it.open.retain(|open| *open != place);
        if !it.open.is_empty() {
            return;
        }
        let decided = !matches!(self.history.attempts[place].reply, Reply::Unknown | Reply::NoEffect);
        // Sometimes a client that was answered asks again, as one whose answer was lost would.
        if decided && self.rng.u8(0..8) > 0 {
            it.wish = None;
        }
        self.plan_client(client, self.plan.think);
    }

    fn close(&mut self, place: usize, reply: Reply) {
        let tick = self.history.tick();
        let attempt = &mut self.history.attempts[place];
        attempt.returned = tick;
        self.knowledge.learn(attempt.ask, &reply);
        self.counts.answered(attempt.ask, &reply);
        attempt.reply = reply;
    }
}

/// The stages.
impl World {
    /// Goes on to the next stage, where it is time.
    fn proceed(&mut self) -> Checked {
        self.after(20 * MS, Happening::Check);
        let idle = self.requests_left == 0 && self.clients.iter().all(|client| client.open.is_empty());
        match self.stage {
            Stage::Faults => {
                self.stage = Stage::Healing;
                self.healed_at = self.now;
                self.requests_left = self.requests_left.min(REQUESTS_AFTER_FAULTS);
                self.note(|| "HEALED".to_owned());
                self.heal();
            }
            Stage::Healing if idle => self.stage = Stage::Settling,
            // Who was to be left out as the faults ended is, first.
            Stage::Settling if self.now < self.healed_at + 2 * FAILURE_TIMEOUT => {}
            Stage::Settling => match checks::converged(self.council.newest(), &self.nodes) {
                Ok(()) => {
                    self.stage = Stage::Reading;
                    self.ask_everything();
                }
                Err(missing) if self.now > self.healed_at + CONVERGES_WITHIN => return Err(missing),
                Err(missing) => self.last_missing = Some(missing),
            },
            Stage::Reading if self.nodes.iter().all(|node| node.open.is_empty()) => self.stage = Stage::Over,
            _ => {}
        }
        Ok(())
    }

    /// Reads every note at every replica, and writes one at each: all of it must be answered.
    fn ask_everything(&mut self) {
        let client = self.clients.len();
        let ids: Vec<NoteId> = self.knowledge.ids().collect();
        for node in 0..self.nodes.len() {
            let mut asks: Vec<Ask> = ids.iter().map(|id| Ask::Get(*id)).collect();
            asks.push(Ask::List { after: NoteId(0), limit: 1_000 });
            asks.push(Ask::Post((self.knowledge.tag(), 0)));
            for ask in asks {
                self.ask_last(client, node, Wish { ask, key: None, if_match: None, sends: 0 });
            }
        }
    }

    fn ask_last(&mut self, client: usize, node: usize, wish: Wish) {
        if self.clients.len() == client {
            self.clients.push(Client::default());
        }
        self.send_request(client, node, &wish);
    }

    /// When all is well, nothing is refused.
    fn check_last(&self, ask: Ask, reply: &Reply) -> Checked {
        let patient = self.plan.request_timeout_ms >= 5_000 && self.plan.read_wait_ms >= 3_000;
        let refused = patient && matches!(reply, Reply::NoEffect | Reply::Unknown);
        match self.stage >= Stage::Reading && refused {
            true => Err(Violation {
                rule: "when faults have stopped, every request is answered",
                seen: format!("{ask:?} was answered {reply:?}"),
            }),
            false => Ok(()),
        }
    }
}

fn new_node(rng: &mut Rng) -> Node {
    let ppm = rng.i64(-DRIFT_PPM..=DRIFT_PPM);
    let clock = Clock { start: rng.u64(0..1_000_000 * MS), ppm, wall_skew_ms: rng.u64(0..10_000) };
    Node::new(clock, Disk::new(StoreId(rng.u64(..))))
}

/// Shorter than Debug's text.
fn short(text: &str) -> String {
    let mut text =
        text.replace("Version { epoch: Epoch(", "v").replace("), counter: ", "-").replace("ReplicaId(", "r(");
    for (long, brief) in [("NoteId(", "n("), ("Incarnation(", "i("), ("StoreId(", "s("), ("Record { id:", "{")] {
        text = text.replace(long, brief);
    }
    text
}

/// A line for an event.
fn brief(event: &Event) -> String {
    match event {
        Event::Message { from, envelope, .. } => {
            format!("r{} epoch {} {}", from.0, envelope.epoch, brief_message(&envelope.message))
        }
        Event::Request { token, request, .. } => format!("request {} {}", token.0, short(&format!("{request:?}"))),
        Event::View(view) => format!("view {}", view.epoch),
        other => short(&format!("{other:?}")),
    }
}

/// A line for a message.
fn brief_message(message: &Message) -> String {
    short(&format!("{message:?}"))
}
