//! The steps of the protocol as the classic log shows them, seen from the messages that come and go.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Moment;
use crate::config::Config;
use crate::note::NoteId;
use crate::observe::classic::{self, Step};
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::Message;

/// Steps that this replica began and that have not ended.
#[derive(Debug)]
pub(super) struct Steps {
    me: ReplicaId,
    names: Vec<String>,
    forwards: BTreeMap<u64, Moment>,
    moves: BTreeMap<NoteId, Moment>,
    /// To each backup: updates that it has not acknowledged, oldest first.
    tells: BTreeMap<ReplicaId, VecDeque<(u64, Moment)>>,
}

impl Steps {
    pub(super) fn new(config: &Config, me: ReplicaId) -> Steps {
        let names = config.replicas.iter().map(ToString::to_string).collect();
        Steps { me, names, forwards: BTreeMap::new(), moves: BTreeMap::new(), tells: BTreeMap::new() }
    }

    /// A new view: what was under way ends without a reply.
    pub(super) fn forget(&mut self) {
        self.forwards.clear();
        self.moves.clear();
        self.tells.clear();
    }

    /// A message is about to go out, as this frame of this connection.
    pub(super) fn sent(&mut self, to: ReplicaId, message: &Message, link: u64, frame: u64, now: Moment) {
        let step = match message {
            Message::Forward(forward) => {
                self.forwards.insert(forward.number, now);
                Step::Forward
            }
            // What recovery tells is no client's write.
            Message::Update(update) if update.chosen.is_empty() => {
                self.tells.entry(to).or_default().push_back((update.n, now));
                Step::Tell
            }
            Message::Move(asked) => {
                self.moves.insert(asked.id, now);
                Step::Move
            }
            _ => return,
        };
        classic::replica_request(step, self.name(self.me), self.name(to), link, frame);
    }

    /// A message has come in.
    pub(super) fn received(&mut self, from: ReplicaId, message: &Message, now: Moment) {
        let began = match message {
            Message::Forwarded(forwarded) => self.forwards.remove(&forwarded.number).map(|at| (Step::Forward, at)),
            Message::Moved(moved) => self.moves.remove(&moved.record.id).map(|at| (Step::Move, at)),
            Message::MovedTo(moved) => self.moves.remove(&moved.id).map(|at| (Step::Move, at)),
            Message::Gone(gone) => self.moves.remove(&gone.id).map(|at| (Step::Move, at)),
            Message::Ack(ack) => return self.acknowledged(from, ack.n, now),
            _ => return,
        };
        if let Some((step, at)) = began {
            classic::replica_reply(step, self.name(from), self.name(self.me), now.nanos_since(at));
        }
    }

    /// One line for each update, though one message acknowledges many.
    fn acknowledged(&mut self, from: ReplicaId, n: u64, now: Moment) {
        let Some(tells) = self.tells.get_mut(&from) else { return };
        let mut ended = Vec::new();
        while let Some((_, at)) = tells.pop_front_if(|(told, _)| *told <= n) {
            ended.push(now.nanos_since(at));
        }
        for took_ns in ended {
            classic::replica_reply(Step::Tell, self.name(from), self.name(self.me), took_ns);
        }
    }

    fn name(&self, replica: ReplicaId) -> &str {
        &self.names[replica.index()]
    }
}
