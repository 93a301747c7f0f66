//! The steps of the protocol as the classic log shows them, seen from the messages that come and go.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Moment;
use crate::config::Config;
use crate::note::NoteId;
use crate::observe::classic::{Log, Step};
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::Message;

/// Steps that this replica began and that have not ended.
#[derive(Debug)]
pub(super) struct Steps {
    log: Log,
    /// Whether anybody read the log when it was last looked at.
    shown: bool,
    me: ReplicaId,
    names: Vec<String>,
    forwards: BTreeMap<u64, Begun>,
    moves: BTreeMap<NoteId, Begun>,
    /// To each backup: updates that it has not acknowledged, oldest first.
    tells: BTreeMap<ReplicaId, VecDeque<(u64, Begun)>>,
}

/// When a step began, and of which note it is: none where that has no id yet, or it is the id sequence.
#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Moment,
    note: Option<NoteId>,
}

impl Begun {
    fn new(at: Moment, item: Option<NoteId>) -> Begun {
        Begun { at, note: item.filter(|item| !item.is_sequence()) }
    }
}

impl Steps {
    pub(super) fn new(config: &Config, me: ReplicaId, log: Log) -> Steps {
        let names = config.replicas.iter().map(ToString::to_string).collect();
        let (forwards, moves, tells) = Default::default();
        Steps { log, shown: false, me, names, forwards, moves, tells }
    }

    /// A new view: what was under way ends without a reply.
    pub(super) fn forget(&mut self) {
        self.forwards.clear();
        self.moves.clear();
        self.tells.clear();
    }

    /// Whether anybody reads the log. Where nobody did, the ends of steps went unseen, so that their beginnings are of no
    /// use.
    fn is_shown(&mut self) -> bool {
        let shown = self.log.enabled();
        if self.shown && !shown {
            self.forget();
        }
        self.shown = shown;
        shown
    }

    /// A message is about to go out, as this frame of this connection.
    pub(super) fn sent(&mut self, to: ReplicaId, message: &Message, link: u64, frame: u64, now: Moment) {
        if !self.is_shown() {
            return;
        }
        let (step, begun) = match message {
            Message::Forward(forward) => {
                let begun = Begun::new(now, Some(forward.write.operation.item()));
                self.forwards.insert(forward.number, begun);
                (Step::Forward, begun)
            }
            // What recovery tells is no client's write.
            Message::Update(update) if update.chosen.is_empty() => {
                // Of a POST's two records one is the id sequence's.
                let item = update.records.iter().map(|record| record.id).find(|id| !id.is_sequence());
                let begun = Begun::new(now, item);
                self.tells.entry(to).or_default().push_back((update.n, begun));
                (Step::Tell, begun)
            }
            Message::Move(asked) => {
                let begun = Begun::new(now, Some(asked.id));
                self.moves.insert(asked.id, begun);
                (Step::Move, begun)
            }
            _ => return,
        };
        self.log.replica_request(begun.note, step, self.name(self.me), self.name(to), link, frame);
    }

    /// A message has come in.
    pub(super) fn received(&mut self, from: ReplicaId, message: &Message, now: Moment) {
        if !self.is_shown() {
            return;
        }
        let ended = match message {
            Message::Forwarded(forwarded) => self.forwards.remove(&forwarded.number).map(|it| (Step::Forward, it)),
            Message::Moved(moved) => self.moves.remove(&moved.record.id).map(|it| (Step::Move, it)),
            Message::MovedTo(moved) => self.moves.remove(&moved.id).map(|it| (Step::Move, it)),
            Message::Gone(gone) => self.moves.remove(&gone.id).map(|it| (Step::Move, it)),
            Message::Ack(ack) => return self.acknowledged(from, ack.n, now),
            _ => return,
        };
        if let Some((step, begun)) = ended {
            self.ended(step, from, begun, now);
        }
    }

    /// One line for each update, though one message acknowledges many.
    fn acknowledged(&mut self, from: ReplicaId, n: u64, now: Moment) {
        let Some(tells) = self.tells.get_mut(&from) else { return };
        let mut ended = Vec::new();
        while let Some((_, begun)) = tells.pop_front_if(|(told, _)| *told <= n) {
            ended.push(begun);
        }
        for begun in ended {
            self.ended(Step::Tell, from, begun, now);
        }
    }

    fn ended(&self, step: Step, from: ReplicaId, begun: Begun, now: Moment) {
        self.log.replica_reply(begun.note, step, self.name(from), self.name(self.me), now.nanos_since(begun.at));
    }

    fn name(&self, replica: ReplicaId) -> &str {
        &self.names[replica.index()]
    }
}
