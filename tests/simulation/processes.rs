//! Processes: they start and crash, take turns, and have carried out what they want.

use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId};
use primacy::protocol::message::{Envelope, Message};
use primacy::protocol::view::Member;
use primacy::replication::action::Action;
use primacy::replication::event::Event;
use primacy::replication::replica::{Identity, Replica};

use super::checks::{self, Checked};
use super::disks::Order;
use super::history::Reply;
use super::mutants::Mutant;
use super::node::Node;
use super::plan::MS;
use super::report::Fault;
use super::trace::brief;
use super::world::{Happening, World};

/// Processes.
impl World {
    pub(crate) fn member(&self, node: usize) -> Member {
        let Node { incarnation, disk, .. } = &self.nodes[node];
        Member { replica: ReplicaId(node as u8), incarnation: *incarnation, store: disk.id }
    }

    /// A process starts, from what its disk has.
    pub(crate) fn start(&mut self, node: usize) {
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
    pub(crate) fn tell(&mut self, node: usize, event: Event) {
        self.nodes[node].inbox.push_back(event);
        self.plan_turn(node);
    }

    pub(crate) fn plan_turn(&mut self, node: usize) {
        if !self.nodes[node].in_turn {
            self.nodes[node].in_turn = true;
            let time = (self.now + self.rng.u64(0..20_000)).max(self.nodes[node].paused_until);
            self.at(time, Happening::Turn { node, life: self.nodes[node].life });
        }
    }

    pub(crate) fn turn(&mut self, node: usize) -> Checked {
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

    pub(crate) fn step(&mut self, node: usize, event: Event) -> Checked {
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
    pub(crate) fn enter(&mut self, node: usize, epoch: Epoch) {
        for peer in 0..self.nodes.len() {
            self.links[node][peer].empty_below(epoch, &mut self.rng);
            self.after(0, Happening::Arrives { from: peer, to: node });
        }
    }

    pub(crate) fn end_turn(&mut self, node: usize) -> Checked {
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
    pub(crate) fn carry_out(&mut self, node: usize) -> Checked {
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

    pub(crate) fn carry_out_one(&mut self, node: usize, action: Action) -> Checked {
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
    pub(crate) fn check_writers(&mut self, message: &Message, epoch: Epoch) -> Checked {
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

    pub(crate) fn order(&mut self, node: usize, order: Order) {
        if let (Some(Mutant::DurableBeforeWritten), Order::Write(persist)) = (self.plan.mutant, &order) {
            self.tell(node, Event::Durable { number: persist.number });
        }
        let slow = if self.nodes[node].disk.slow_until > self.now { 100 } else { 1 };
        let delay = self.delay(self.plan.disk_delay) * slow;
        let at = self.nodes[node].disk.push(self.now + delay, order);
        self.at(at, Happening::Disk { node, life: self.nodes[node].life });
    }

    /// The disk has carried out what was due.
    pub(crate) fn disk_works(&mut self, node: usize) {
        for event in self.nodes[node].disk.complete(self.now, &mut self.rng) {
            if let (Some(Mutant::InSyncUncounted), Event::Switched { store }) = (self.plan.mutant, &event) {
                let Node { incarnation, epoch, .. } = self.nodes[node];
                self.after(0, Happening::Synced { node, incarnation, epoch, store: *store });
            }
            self.tell(node, event);
        }
    }

    pub(crate) fn delay(&mut self, most: u64) -> u64 {
        match self.rng.u8(0..20) {
            0 => self.rng.u64(0..=most * 4),
            _ => self.rng.u64(0..=most),
        }
    }
}
