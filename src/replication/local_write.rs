//! Local-write: where is the item's primary? The item's newest record names it. How does the write get there? The other
//! way round: the item moves to the replica where the write arrived (M1 to M5).
//!
//! An item at a replica is *elsewhere* or *mine*, as its newest record says, unless it is in [`Moves`]: then this replica
//! is *asking* for it or *draining* it for another one.

use std::collections::{BTreeMap, VecDeque};

use super::replica::Replica;
use super::update::Made;
use super::write::Origin;
use crate::config::Mode;
use crate::note::NoteId;
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::{Gone, Move, Moved, MovedTo};
use crate::protocol::record::Record;
use crate::protocol::request::Failure;

/// The items that are on the move at this replica.
#[derive(Debug, Default)]
pub(super) struct Moves {
    by_item: BTreeMap<NoteId, Moving>,
}

/// An item on the move.
#[derive(Debug)]
struct Moving {
    state: State,
    /// Writes of own clients that wait, by number; some may have been given up.
    own: VecDeque<u64>,
    /// Replicas that asked for the item meanwhile, in the order in which they did.
    asked: VecDeque<ReplicaId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This replica has asked for the item.
    Asking,
    /// It is the primary, takes no more writes, and hands over once all are committed.
    Draining { taker: ReplicaId },
}

impl Moves {
    /// Whether the item is asked for and not here yet: then this replica is not its primary, whatever records say.
    pub(super) fn is_asking(&self, id: NoteId) -> bool {
        self.by_item.get(&id).is_some_and(|moving| moving.state == State::Asking)
    }

    /// Whether the item is asked for, or is about to be handed over: no write runs here now.
    pub(super) fn is_moving(&self, id: NoteId) -> bool {
        self.by_item.contains_key(&id)
    }

    /// M5: a new view forgets every move, asked or queued.
    pub(super) fn forget(&mut self) {
        self.by_item.clear();
    }
}

impl Replica {
    /// A client's write: runs where the item is mine, else waits for it to move here.
    pub(super) fn write_here(&mut self, number: u64) {
        let Some(open) = self.clients.writes.get(&number) else { return };
        let id = open.write.operation.item();
        if let Some(moving) = self.moves.by_item.get_mut(&id) {
            moving.own.push_back(number);
            return self.begin_to_wait(number);
        }
        match self.primary_of(id) {
            Some(primary) if primary == self.me() => self.run_open(number),
            Some(primary) if self.newest(id).is_some() => {
                self.begin_to_wait(number);
                self.ask(id, primary, VecDeque::from([number]));
            }
            _ => self.fail_missing(number, id),
        }
    }

    fn begin_to_wait(&mut self, number: u64) {
        let now = self.now.moment;
        if let Some(open) = self.clients.writes.get_mut(&number) {
            open.began = Some(now);
        }
    }

    /// M1: asks for an item on behalf of own writes.
    fn ask(&mut self, id: NoteId, primary: ReplicaId, own: VecDeque<u64>) {
        self.moves.by_item.insert(id, Moving { state: State::Asking, own, asked: VecDeque::new() });
        self.send(primary, Move { id });
    }

    /// A write of a note that does not exist: answered from the table of keys where it took effect before (K2), else 404
    /// once the deletion is committed (W2).
    fn fail_missing(&mut self, number: u64, id: NoteId) {
        let Some(open) = self.clients.writes.get(&number) else { return };
        let write = open.write.clone();
        let origin = Origin::Client(number);
        if !self.answer_from_keys(origin, &write) {
            self.fail_once_decided(origin, id, Failure::not_found(id));
        }
    }

    /// A peer asks for an item (M2).
    pub(super) fn on_move(&mut self, from: ReplicaId, id: NoteId) {
        if self.identity.mode != Mode::LocalWrite || !self.in_sync.contains(from) {
            return self.distrust(from, "asked for an item that cannot move to it");
        }
        if let Some(moving) = self.moves.by_item.get_mut(&id) {
            let waits = moving.state == State::Draining { taker: from } || moving.asked.contains(&from);
            match waits {
                false => moving.asked.push_back(from),
                true => self.distrust(from, format!("asked for item {id} again before it was answered")),
            }
            return;
        }
        let exists = self.newest(id).is_some();
        match self.primary_of(id) {
            Some(primary) if primary == self.me() && exists => self.drain(id, from, VecDeque::new()),
            Some(primary) if exists => self.send(from, MovedTo { id, to: primary }),
            _ => self.send(from, Gone { id }),
        }
    }

    /// From now on the item takes no writes here; it is handed over once those under way are committed.
    fn drain(&mut self, id: NoteId, taker: ReplicaId, asked: VecDeque<ReplicaId>) {
        let moving = Moving { state: State::Draining { taker }, own: VecDeque::new(), asked };
        self.moves.by_item.insert(id, moving);
        self.on_item_committed(id);
    }

    /// An item's records were decided: if it is draining and nothing is pending any more, it is handed over.
    pub(super) fn on_item_committed(&mut self, id: NoteId) {
        let Some(moving) = self.moves.by_item.get(&id) else { return };
        let State::Draining { taker } = moving.state else { return };
        if self.items.pending_version(id).is_some() {
            return;
        }
        let Some(moving) = self.moves.by_item.remove(&id) else { return };
        match self.newest(id).map(|record| record.into_owned()) {
            None => {
                self.send(taker, Gone { id });
                self.tell_gone(id, moving);
            }
            Some(record) => self.hand_over(record, taker, moving),
        }
    }

    /// M3: the hand-over record is kept here as pending, in memory only; the taker's update, or recovery, makes it durable.
    fn hand_over(&mut self, before: Record, taker: ReplicaId, moving: Moving) {
        let id = before.id;
        let record = Record { version: before.version.next(self.epoch()), primary: taker, ..before };
        self.items.keep_pending(record.clone());
        self.send(taker, Moved { record });
        for peer in moving.asked {
            self.send(peer, MovedTo { id, to: taker });
        }
        let own = self.still_open(moving.own);
        if !own.is_empty() {
            self.ask(id, taker, own);
        }
    }

    /// The item moves here (M3): own writes run; where none makes a record, the hand-over record is replicated as it is.
    pub(super) fn on_moved(&mut self, from: ReplicaId, record: Record) {
        let (id, version) = (record.id, record.version);
        if !self.moves.is_asking(id) || record.primary != self.me() {
            return self.distrust(from, format!("handed over item {id}, which was not asked for"));
        }
        let Some(moving) = self.moves.by_item.remove(&id) else { return };
        // Who hands over has waited until all before is committed, and has said so; this replica may not have taken note of
        // it yet, and from here on it answers reads of the item at once (R1).
        if let Some(before) = self.items.pending_version(id).filter(|before| *before < version) {
            self.commit(id, before);
        }
        self.items.keep_pending(record.clone());
        for number in self.still_open(moving.own) {
            self.note_move(number);
            self.run_open(number);
        }
        if self.items.pending_version(id) == Some(version) {
            self.replicate(Made { records: vec![record], request: None, keys: Vec::new(), answer: None });
        }
        let mut asked = moving.asked;
        if let Some(taker) = asked.pop_front() {
            self.drain(id, taker, asked);
        }
    }

    fn note_move(&mut self, number: u64) {
        let now = self.now.moment;
        if let Some(open) = self.clients.writes.get_mut(&number)
            && let Some(began) = open.began
        {
            open.moved = now.nanos_since(began);
        }
    }

    /// M2: the replica that was asked is not the item's primary; the next one is, or knows the next.
    pub(super) fn on_moved_to(&mut self, from: ReplicaId, id: NoteId, to: ReplicaId) {
        if !self.moves.is_asking(id) || to == self.me() || !self.in_sync.contains(to) {
            return self.distrust(from, format!("said that item {id} had moved, which was not asked for or cannot be"));
        }
        let Some(mut moving) = self.moves.by_item.remove(&id) else { return };
        moving.own = self.still_open(moving.own);
        if !moving.own.is_empty() {
            self.moves.by_item.insert(id, moving);
            return self.send(to, Move { id });
        }
        // Nobody here waits for the item any more, so those who asked here ask on (M2).
        for peer in moving.asked {
            self.send(peer, MovedTo { id, to });
        }
    }

    /// M2: the item was deleted.
    pub(super) fn on_gone(&mut self, from: ReplicaId, id: NoteId) {
        if !self.moves.is_asking(id) {
            return self.distrust(from, format!("said that item {id} is gone, which was not asked for"));
        }
        if let Some(moving) = self.moves.by_item.remove(&id) {
            self.tell_gone(id, moving);
        }
    }

    fn tell_gone(&mut self, id: NoteId, moving: Moving) {
        for number in moving.own {
            self.fail_missing(number, id);
        }
        for peer in moving.asked {
            self.send(peer, Gone { id });
        }
    }

    /// Those of these writes that have not been given up.
    fn still_open(&self, numbers: VecDeque<u64>) -> VecDeque<u64> {
        numbers.into_iter().filter(|number| self.clients.writes.contains_key(number)).collect()
    }
}
