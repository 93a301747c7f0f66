//! A write at its item's primary: what it makes of the item (W1), or why it fails (W2).

use super::keys::Lookup;
use super::replica::Replica;
use super::update::Made;
use super::wait::Due;
use crate::clock::Moment;
use crate::note::{Note, NoteError, NoteId};
use crate::protocol::ids::{ReplicaId, Version};
use crate::protocol::record::{Record, Value};
use crate::protocol::request::{Code, Done, Failure, Operation, Write};

/// Whose write it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this replica: the number of its open write.
    Client(u64),
    /// A client of a peer, which forwarded it.
    Peer { from: ReplicaId, number: u64, received: Moment },
}

impl Replica {
    /// Runs an open write of a client here, where this replica is the item's primary.
    pub(super) fn run_open(&mut self, number: u64) {
        let Some(open) = self.clients.writes.get_mut(&number) else { return };
        let write = open.write.clone();
        self.run(Origin::Client(number), &write);
    }

    /// Runs a write: this replica is the item's primary.
    pub(super) fn run(&mut self, origin: Origin, write: &Write) {
        if self.answer_from_keys(origin, write) {
            return;
        }
        let item = write.operation.item();
        match self.make(write) {
            Err(failure) => self.fail_once_decided(origin, item, failure),
            Ok((records, done)) => {
                let request = match origin {
                    Origin::Client(number) => self.request_id(number),
                    Origin::Peer { from, number, .. } => self.request_id_of(from, number),
                };
                if let Origin::Client(number) = origin
                    && let Some(open) = self.clients.writes.get_mut(&number)
                {
                    open.left = true;
                    open.seen = Some(done);
                }
                let keys = self.key_entry(write, done).into_iter().collect();
                self.replicate(Made { records, request: Some(request), keys, answer: Some((origin, done)) });
            }
        }
    }

    /// K2: a write whose key is known here is answered from the table, before every other check. Says whether it was.
    pub(super) fn answer_from_keys(&mut self, origin: Origin, write: &Write) -> bool {
        let Some(key) = &write.key else { return false };
        match self.keys.look_up(key, write) {
            Lookup::New => false,
            Lookup::Done(done) => {
                let undecided = self.is_undecided(done.id, done.version).then_some((done.id, done.version));
                self.waits.until_committed(undecided, Due::Hit { origin, done });
                true
            }
            Lookup::Reused(failure) => {
                self.fail_once_decided(origin, write.operation.item(), failure);
                true
            }
        }
    }

    /// Whether it is open if this version of an item, which was here once, is committed.
    pub(super) fn is_undecided(&self, id: NoteId, version: Version) -> bool {
        let decided = self.items.committed(id).is_some_and(|clean| clean.version >= version);
        !decided && self.items.pending_version(id).is_some()
    }

    /// W2: a failure is answered once the record that it was found on is committed.
    pub(super) fn fail_once_decided(&mut self, origin: Origin, item: NoteId, failure: Failure) {
        let undecided = self.items.pending_version(item).map(|version| (item, version));
        self.waits.until_committed(undecided, Due::Failed { origin, failure });
    }

    /// The records that a write makes, checked against the newest one, pending or not.
    fn make(&self, write: &Write) -> Result<(Vec<Record>, Done), Failure> {
        match &write.operation {
            Operation::Post { note } => Ok(self.make_new(note)),
            Operation::Put { id, note } => self.make_next(*id, write, |_| Ok(Value::Note(note.clone()))),
            Operation::Patch { id, patch } => self.make_next(*id, write, |before| {
                patch.apply(before).map(Value::Note).map_err(|error| match error {
                    NoteError::TooLarge(_) => Failure::new(Code::TooLarge, error.to_string()),
                    other => Failure::new(Code::BadNote, other.to_string()),
                })
            }),
            Operation::Delete { id } => self.make_next(*id, write, |_| Ok(Value::Deleted)),
        }
    }

    /// A POST's two records, atomically: the note, and the id sequence that has given its id.
    fn make_new(&self, note: &Note) -> (Vec<Record>, Done) {
        let sequence =
            self.newest(NoteId::SEQUENCE).expect("there is a view, so the sequence has at least its first record");
        let Value::Next(id) = sequence.value else {
            unreachable!("a record of item 0 holds the next id: Record's reader checks it")
        };
        let (epoch, primary) = (self.epoch(), self.me());
        let version = Version { epoch, counter: 1 };
        let new = Record { id, version, written: version, primary, value: Value::Note(note.clone()) };
        let version_of_sequence = sequence.version.next(epoch);
        let next = Record {
            id: NoteId::SEQUENCE,
            version: version_of_sequence,
            written: version_of_sequence,
            primary,
            value: Value::Next(NoteId(id.0 + 1)),
        };
        (vec![new, next], Done { id, version })
    }

    fn make_next(
        &self,
        id: NoteId,
        write: &Write,
        value: impl FnOnce(&Note) -> Result<Value, Failure>,
    ) -> Result<(Vec<Record>, Done), Failure> {
        let Some(newest) = self.items.newest(id) else { return Err(Failure::not_found(id)) };
        let Value::Note(before) = &newest.value else { return Err(Failure::not_found(id)) };
        if write.if_match.as_ref().is_some_and(|wanted| !wanted.contains(&newest.written)) {
            return Err(Failure::not_matched(id, newest.written));
        }
        let version = newest.version.next(self.epoch());
        let record = Record { id, version, written: version, primary: self.me(), value: value(before)? };
        Ok((vec![record], Done { id, version }))
    }
}
