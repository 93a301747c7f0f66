//! What the clients asked and were told, and how that falls into one history for each note.

use std::collections::{BTreeMap, BTreeSet};

use primacy::note::{Note, NoteId};
use primacy::protocol::ids::Version;
use primacy::protocol::request::Done;

use super::checks::Witness;
use super::linearizable::{Answer, Content, Kind, Operation};

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Post(Content),
    Put(NoteId, Content),
    Patch(NoteId, Option<u32>, Option<u32>),
    Delete(NoteId),
    Get(NoteId),
    List { after: NoteId, limit: usize },
}

impl Ask {
    /// The one note that it is about.
    pub(crate) fn note(self) -> Option<NoteId> {
        match self {
            Ask::Put(id, _) | Ask::Patch(id, ..) | Ask::Delete(id) | Ask::Get(id) => Some(id),
            Ask::Post(_) | Ask::List { .. } => None,
        }
    }

    /// The number that tells its content from every other request's; 0 where it writes none.
    pub(crate) fn tag(self) -> u32 {
        match self {
            Ask::Post((title, body)) | Ask::Put(_, (title, body)) => title.max(body),
            Ask::Patch(_, title, body) => title.unwrap_or(0).max(body.unwrap_or(0)),
            Ask::Delete(_) | Ask::Get(_) | Ask::List { .. } => 0,
        }
    }

    pub(crate) fn is_write(self) -> bool {
        !matches!(self, Ask::Get(_) | Ask::List { .. })
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing yet.
    Open,
    Done(Done),
    Found(Content, Version),
    Notes {
        notes: Vec<(NoteId, Content)>,
        more: bool,
    },
    NotFound,
    Mismatch,
    Reused,
    /// It was refused, and must never take effect.
    NoEffect,
    Unknown,
}

/// A request as it was sent to one replica, once.
#[derive(Clone, Debug)]
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

    /// The history of each note.
    pub(crate) fn by_note(&self, witness: &Witness) -> BTreeMap<NoteId, Vec<Operation>> {
        let mut notes: BTreeMap<NoteId, Vec<Operation>> = BTreeMap::new();
        let ids = self.ids(witness);
        for attempt in &self.attempts {
            match attempt.ask {
                Ask::Post(content) => self.post(attempt, content, witness, &mut notes),
                Ask::List { after, .. } => attempt.list(after, &ids, &mut notes),
                ask => notes.entry(ask.note().unwrap_or(NoteId::SEQUENCE)).or_default().extend(attempt.one(witness)),
            }
        }
        notes
    }

    fn ids(&self, witness: &Witness) -> BTreeSet<NoteId> {
        let mut ids: BTreeSet<NoteId> = witness.ids().collect();
        for attempt in &self.attempts {
            ids.extend(attempt.ask.note());
            match &attempt.reply {
                Reply::Done(done) => drop(ids.insert(done.id)),
                Reply::Notes { notes, .. } => ids.extend(notes.iter().map(|(id, _)| *id)),
                _ => {}
            }
        }
        ids
    }

    fn post(
        &self,
        attempt: &Attempt,
        content: Content,
        witness: &Witness,
        notes: &mut BTreeMap<NoteId, Vec<Operation>>,
    ) {
        let operation = |answer| attempt.operation(Kind::Post(content), answer);
        match &attempt.reply {
            Reply::Done(done) => notes.entry(done.id).or_default().push(operation(Answer::Done(done.version))),
            Reply::Unknown => {
                for id in witness.notes_of(attempt.ask.tag()) {
                    notes.entry(id).or_default().push(operation(Answer::Unknown));
                }
            }
            _ => {}
        }
    }
}

impl Attempt {
    fn operation(&self, kind: Kind, answer: Answer) -> Operation {
        let returned = if answer == Answer::Unknown { u64::MAX } else { self.returned };
        Operation { called: self.called, returned, kind, if_match: self.if_match, key: self.key, answer }
    }

    /// A request about one note; nothing where it cannot have had an effect or told anything.
    fn one(&self, witness: &Witness) -> Option<Operation> {
        let kind = match self.ask {
            Ask::Put(_, content) => Kind::Put(content),
            Ask::Patch(_, title, body) => Kind::Patch(title, body),
            Ask::Delete(_) => Kind::Delete,
            Ask::Get(_) => Kind::Get,
            Ask::Post(_) | Ask::List { .. } => return None,
        };
        let answer = match &self.reply {
            Reply::Done(done) => Answer::Done(done.version),
            Reply::Found(content, version) => Answer::Found(*content, Some(*version)),
            Reply::NotFound => Answer::NotFound,
            Reply::Mismatch => Answer::Mismatch,
            Reply::Unknown if self.ask.is_write() && witness.may_have_happened(self.ask) => Answer::Unknown,
            _ => return None,
        };
        Some(self.operation(kind, answer))
    }

    /// A page of the list is a read of each note in its range, there or not.
    fn list(&self, after: NoteId, ids: &BTreeSet<NoteId>, histories: &mut BTreeMap<NoteId, Vec<Operation>>) {
        let Reply::Notes { notes, more } = &self.reply else { return };
        let upto = match (more, notes.last()) {
            (true, Some((last, _))) => *last,
            _ => NoteId(u64::MAX),
        };
        for id in ids.iter().filter(|id| **id > after && **id <= upto) {
            let found = notes.iter().find(|(listed, _)| listed == id);
            let answer = found.map_or(Answer::NotFound, |(_, content)| Answer::Found(*content, None));
            histories.entry(*id).or_default().push(self.operation(Kind::Get, answer));
        }
    }
}

/// A note with this content.
pub(crate) fn note_of(content: Content) -> Note {
    let member = |name: &str, tag: u32| (tag != 0).then(|| format!("\"{name}\":\"{tag}\""));
    let members: Vec<_> = [member("title", content.0), member("body", content.1)].into_iter().flatten().collect();
    let text = format!("{{{}}}", members.join(","));
    Note::from_put(NoteId(1), text.as_bytes()).expect("two string members are a note")
}

/// The content of a note that [`note_of`] made.
pub(crate) fn content_of(note: &Note) -> Content {
    let text = note.as_str();
    let member = |name: &str| {
        let Some(at) = text.find(name) else { return 0 };
        let digits = text[at + name.len()..].bytes().take_while(u8::is_ascii_digit);
        digits.fold(0, |tag, digit| tag * 10 + u32::from(digit - b'0'))
    };
    (member("\"title\":\""), member("\"body\":\""))
}
