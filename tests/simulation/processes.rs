//! Processes: they start and crash, take turns, and have carried out what they want.

use primacy::clock::Moment;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
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
use super::seat::{Beginning, Seat};
use super::trace::brief;
use super::world::{Happening, World};

/// Processes.
impl World {
    pub(crate) fn member(&self, node: usize) -> Member {
        let Node { incarnation, disk, .. } = &self.nodes[node];
        Member { replica: ReplicaId(node as u8), incarnation: *incarnation, store: disk.id }
    }

    /// A process starts, from what its disks have.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].disk.damaged && !self.set_aside(node) {
            // There is nobody to copy from: it stops, and somebody starts it again.
            return self.plan_start(node);
        }
        let it = &mut self.nodes[node];
        self.trouble_at = self.now;
        it.incarnation = Incarnation(self.rng.u64(..));
        it.life += 1;
        let now = it.clock.moment(self.now);
        let identity = self.identity(node);
        let it = &mut self.nodes[node];
        let store = it.disk.store.clone();
        let beginning = Beginning {
            me: ReplicaId(node as u8),
            replicas: self.plan.replicas,
            min_in_sync: identity.min_in_sync,
            failure_timeout_ms: self.plan.failure_timeout_ms,
            store: it.disk.id,
            blank: store.records.is_empty(),
            mutant: self.plan.mutant,
        };
        it.replica = Some(Replica::new(identity, store.records.into_values(), store.keys.into_values()));
        it.seat = Some(Seat::new(&beginning, now));
        for peer in 0..self.nodes.len() {
            self.links[peer][node].lose_all();
            self.links[node][peer].begin();
        }
        let (incarnation, voter) = (self.nodes[node].incarnation, self.nodes[node].consensus);
        self.note(|| format!("r{node} starts as {incarnation}, voter {voter}"));
        self.sit_down(node);
    }

    fn identity(&self, node: usize) -> Identity {
        let plan = &self.plan;
        Identity {
            me: ReplicaId(node as u8),
            incarnation: self.nodes[node].incarnation,
            mode: plan.mode,
            min_in_sync: plan.min_in_sync.min(plan.replicas),
            request_timeout_ms: plan.request_timeout_ms,
            read_wait_ms: plan.read_wait_ms,
            items_per_turn: plan.items_per_turn,
        }
    }

    /// What its consensus store knows: the voters, maybe a view, and maybe that it led and may go on.
    fn sit_down(&mut self, node: usize) {
        if self.group.voters[node] == self.nodes[node].consensus {
            self.tell_voters(node);
            let known = self.nodes[node].known_views;
            if self.rng.bool() {
                self.apply_views(node, known);
            }
            let led = self.group.leader == Some(node) && self.group.term == self.nodes[node].term;
            if led && self.rng.bool() {
                self.note(|| format!("r{node} goes on to LEAD"));
                self.lead(node, self.nodes[node].term);
            }
        }
        self.beat(node);
    }

    /// A damaged store is set aside where others may have its records. Says whether it was.
    fn set_aside(&mut self, node: usize) -> bool {
        let others = (0..self.nodes.len()).any(|other| other != node && self.nodes[other].is_up());
        if others {
            self.note(|| format!("r{node} SETS ASIDE its store"));
            self.nodes[node].disk.renew(&mut self.rng);
        }
        others
    }

    /// A process dies where it stands. Its clients never learn what became of their requests.
    pub(crate) fn crash(&mut self, node: usize) {
        self.note(|| format!("r{node} CRASHES"));
        if !self.may_forget(node) {
            self.nodes[node].disk.make_true();
        }
        self.counts.fired_if(self.nodes[node].disk.lies(), Fault::DiskLies);
        self.trouble_at = self.now;
        let open = std::mem::take(&mut self.nodes[node].open);
        self.nodes[node].end();
        let left = self.nodes[node].disk.crash(&mut self.rng);
        self.counts.fired_if(left.kept > 0, Fault::UnsyncedKept);
        self.counts.fired_if(left.lost > 0, Fault::UnsyncedLost);
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
        match self.nodes[node].pauses_within.take().filter(|_| !self.somebody_lied()) {
            Some(pause) => {
                self.counts.fired(Fault::PauseWithin);
                self.note(|| format!("r{node} pauses within its turn for {} ms", pause / MS));
                self.nodes[node].paused_until = self.now + pause;
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
            checks::one_view_per_epoch(&self.nodes[node], before, &self.group)?;
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
        let unfinished = replica.unfinished().is_some();
        if let Some(deadline) = replica.next_deadline() {
            let time = it.clock.time_of(deadline);
            if it.timer_at.is_none_or(|at| at > time) {
                self.nodes[node].timer_at = Some(time);
                self.at(time, Happening::Timer { node, life: self.nodes[node].life });
            }
        }
        if unfinished && !self.nodes[node].inbox.iter().any(|event| matches!(event, Event::Proceed)) {
            self.nodes[node].inbox.push_back(Event::Proceed);
        }
        if !self.nodes[node].inbox.is_empty() {
            self.plan_turn(node);
        }
        Ok(())
    }

    /// Carries out what a turn wanted, or, where a crash comes first, a part of it.
    pub(crate) fn carry_out(&mut self, node: usize) -> Checked {
        while let Some(action) = self.nodes[node].wanted.pop_front() {
            if self.nodes[node].crashes_after == Some(0) && self.may_die(node) {
                self.counts.fired(Fault::CrashWithin);
                self.crash(node);
                self.plan_start(node);
                return Ok(());
            }
            let left = &mut self.nodes[node].crashes_after;
            *left = left.map(|left| left.saturating_sub(1));
            self.carry_out_one(node, action)?;
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
                self.note(|| format!("r{node} reports synced in epoch {epoch}"));
                self.report_synced(node, epoch, store);
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

    /// J3: what the node tells its membership; a joiner's next heartbeat says it.
    fn report_synced(&mut self, node: usize, epoch: Epoch, store: StoreId) {
        if let Some(seat) = &mut self.nodes[node].seat {
            seat.standing.store = store;
            seat.standing.synced = Some(epoch);
            seat.next_beat = Moment(0);
        }
        self.plan_seat(node);
    }

    /// The disk has carried out what was due, or has failed: then the process ends at once.
    pub(crate) fn disk_works(&mut self, node: usize) {
        if self.nodes[node].disk.fails && self.may_die(node) {
            self.note(|| format!("r{node}'s disk FAILS"));
            self.counts.fired(Fault::DiskFails);
            self.crash(node);
            return self.plan_start(node);
        }
        for event in self.nodes[node].disk.complete(self.now, &mut self.rng) {
            if let (Some(Mutant::InSyncUncounted), Event::Switched { store }) = (self.plan.mutant, &event) {
                self.report_synced(node, self.nodes[node].epoch, *store);
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
