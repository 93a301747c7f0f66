//! What the clients asked and were told, and how that falls into one history for each note.

use std::collections::{BTreeMap, BTreeSet};

use primacy::note::NoteId;
use primacy::protocol::ids::{Epoch, Version};

use super::linearizable::{Answer, Content, Kind, Operation};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Post(Content),
    Put(NoteId, Content),
    Patch(NoteId, Option<u32>, Option<u32>),
    Delete(NoteId),
    Get(NoteId),
    /// All notes, in pages.
    List,
}

impl Ask {
    /// The number that tells its content from every other request's; 0 where it writes none.
    pub(crate) fn tag(&self) -> u32 {
        match self {
            Ask::Post((title, body)) | Ask::Put(_, (title, body)) => *title.max(body),
            Ask::Patch(_, title, body) => title.unwrap_or(0).max(body.unwrap_or(0)),
            Ask::Delete(_) | Ask::Get(_) | Ask::List => 0,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        !matches!(self, Ask::Get(_) | Ask::List)
    }

    fn note(&self) -> Option<NoteId> {
        match self {
            Ask::Put(id, _) | Ask::Patch(id, ..) | Ask::Delete(id) | Ask::Get(id) => Some(*id),
            Ask::Post(_) | Ask::List => None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// DELETE over HTTP does not say the version.
    Done(NoteId, Option<Version>),
    Found(Content, Version),
    Notes(BTreeMap<NoteId, Content>),
    NotFound,
    Mismatch,
    Reused,
    /// It was refused, or never sent, and must never take effect.
    NoEffect,
    Unknown,
}

/// A request as it was sent to one replica, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) replica: usize,
    pub(crate) ask: Ask,
    pub(crate) key: Option<u32>,
    pub(crate) if_match: Option<Version>,
    pub(crate) called: u64,
    pub(crate) returned: u64,
    pub(crate) reply: Reply,
}

/// Everything that clients have seen.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) attempts: Vec<Attempt>,
    ticks: u64,
}

impl History {
    /// A number larger than all before: it orders calls and returns.
    pub(crate) fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Every tag that was read.
    pub(crate) fn read_tags(&self) -> BTreeSet<u32> {
        let mut tags = BTreeSet::new();
        for attempt in &self.attempts {
            match &attempt.reply {
                Reply::Found((title, body), _) => tags.extend([*title, *body]),
                Reply::Notes(notes) => tags.extend(notes.values().flat_map(|(title, body)| [*title, *body])),
                _ => {}
            }
        }
        tags
    }

    /// The history of each note.
    pub(crate) fn by_note(&self) -> BTreeMap<NoteId, Vec<Operation>> {
        let ids = self.ids();
        let makers = self.makers();
        let mut notes: BTreeMap<NoteId, Vec<Operation>> = BTreeMap::new();
        for attempt in &self.attempts {
            match (&attempt.ask, &attempt.reply) {
                (Ask::Post(content), Reply::Done(id, version)) => {
                    notes.entry(*id).or_default().push(attempt.operation(Kind::Post(*content), done(*version)));
                }
                // Which note it made, if any, its content tells where that was read; else it may be any unclaimed one.
                (Ask::Post(content), Reply::Unknown) => {
                    let made = makers.get(&attempt.ask.tag());
                    let unclaimed = |id: &&NoteId| !makers.values().any(|claimed| claimed == *id);
                    let may = ids.iter().filter(|id| made.map_or_else(|| unclaimed(id), |made| made == *id));
                    for id in may {
                        let operation = attempt.operation(Kind::Post(*content), Answer::Unknown);
                        notes.entry(*id).or_default().push(operation);
                    }
                }
                (Ask::List, Reply::Notes(found)) => {
                    for id in &ids {
                        let answer = found.get(id).map_or(Answer::NotFound, |content| Answer::Found(*content, None));
                        notes.entry(*id).or_default().push(attempt.operation(Kind::Get, answer));
                    }
                }
                (ask, _) => {
                    if let (Some(id), Some(operation)) = (ask.note(), attempt.one()) {
                        notes.entry(id).or_default().push(operation);
                    }
                }
            }
        }
        notes
    }

    fn ids(&self) -> BTreeSet<NoteId> {
        let mut ids = BTreeSet::new();
        for attempt in &self.attempts {
            ids.extend(attempt.ask.note());
            match &attempt.reply {
                Reply::Done(id, _) => drop(ids.insert(*id)),
                Reply::Notes(notes) => ids.extend(notes.keys()),
                _ => {}
            }
        }
        ids
    }

    /// By the tag of a POST, the note that it made, as far as anybody was told or read it.
    fn makers(&self) -> BTreeMap<u32, NoteId> {
        let posted: BTreeSet<u32> =
            self.attempts.iter().filter(|it| matches!(it.ask, Ask::Post(_))).map(|it| it.ask.tag()).collect();
        let mut makers = BTreeMap::new();
        for attempt in &self.attempts {
            let found: Vec<(NoteId, Content)> = match (&attempt.ask, &attempt.reply) {
                (Ask::Post(content), Reply::Done(id, _)) => vec![(*id, *content)],
                (Ask::Get(id), Reply::Found(content, _)) => vec![(*id, *content)],
                (_, Reply::Notes(notes)) => notes.iter().map(|(id, content)| (*id, *content)).collect(),
                _ => Vec::new(),
            };
            for (id, (title, body)) in found {
                makers.extend([title, body].into_iter().filter(|tag| posted.contains(tag)).map(|tag| (tag, id)));
            }
        }
        makers
    }
}

fn done(version: Option<Version>) -> Answer {
    Answer::Done(version.unwrap_or(Version { epoch: Epoch(0), counter: 0 }))
}

impl Attempt {
    fn operation(&self, kind: Kind, answer: Answer) -> Operation {
        let returned = if answer == Answer::Unknown { u64::MAX } else { self.returned };
        Operation { called: self.called, returned, kind, if_match: self.if_match, key: self.key, answer }
    }

    /// A request about one note; nothing where it cannot have had an effect and told nothing.
    fn one(&self) -> Option<Operation> {
        let kind = match self.ask {
            Ask::Put(_, content) => Kind::Put(content),
            Ask::Patch(_, title, body) => Kind::Patch(title, body),
            Ask::Delete(_) => Kind::Delete,
            Ask::Get(_) => Kind::Get,
            Ask::Post(_) | Ask::List => return None,
        };
        let answer = match &self.reply {
            Reply::Done(_, version) => done(*version),
            Reply::Found(content, version) => Answer::Found(*content, Some(*version)),
            Reply::NotFound => Answer::NotFound,
            Reply::Mismatch => Answer::Mismatch,
            Reply::Unknown if self.ask.is_write() => Answer::Unknown,
            _ => return None,
        };
        Some(self.operation(kind, answer))
    }
}
