//! The clients: each asks one thing at a time, of any replica, and may ask again under the same key.

use fastrand::Rng;
use primacy::note::{NoteId, Patch};
use primacy::protocol::ids::Version;
use primacy::protocol::request::{Code, Key, Operation, Outcome, Page, Request, Write};

use super::history::{Ask, Reply, content_of, note_of};
use super::plan::{Plan, pick};

/// Most bytes of a page of the list.
const PAGE_BYTES: usize = 256 * 1024;

/// What a client wants, however often it has to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) ask: Ask,
    pub(crate) key: Option<u32>,
    pub(crate) if_match: Option<Version>,
    /// How often it may still be sent.
    pub(crate) sends: u32,
}

/// A client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// What it waits for: places in the history.
    pub(crate) open: Vec<usize>,
    pub(crate) wish: Option<Wish>,
    /// What was planned for it before its last request does not happen.
    pub(crate) generation: u64,
}

/// What all clients together know.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    last_tag: u32,
    last_key: u32,
    /// The newest write with a key, and the key.
    keyed: Option<(Ask, u32)>,
    largest: u64,
    /// The notes last written, the hot ones.
    hot: Vec<NoteId>,
    /// Versions that were seen.
    seen: Vec<(NoteId, Version)>,
}

impl Knowledge {
    /// What a client learns from an answer.
    pub(crate) fn learn(&mut self, ask: Ask, reply: &Reply) {
        match (ask, reply) {
            (Ask::Post(_), Reply::Done(done)) => {
                self.largest = self.largest.max(done.id.0);
                self.hot.push(done.id);
                self.seen.push((done.id, done.version));
            }
            (_, Reply::Done(done)) => self.seen.push((done.id, done.version)),
            (Ask::Get(id), Reply::Found(_, version)) => self.seen.push((id, *version)),
            (Ask::Delete(id) | Ask::Get(id), Reply::NotFound) => self.hot.retain(|hot| *hot != id),
            _ => {}
        }
        let surplus = self.seen.len().saturating_sub(16);
        self.seen.drain(..surplus);
    }

    /// The notes that may exist.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NoteId> {
        (1..=self.largest).map(NoteId)
    }

    /// The next wish of a client.
    pub(crate) fn wish(&mut self, plan: &Plan, rng: &mut Rng) -> Wish {
        let id = self.some_note(plan, rng);
        let read = rng.u8(0..100) < plan.reads;
        let ask = match (read, rng.u8(0..100)) {
            (true, 0..15) => {
                let after = NoteId(*pick(rng, &[0, 0, 1, self.largest / 2]));
                Ask::List { after, limit: *pick(rng, &[1, 3, 100]) }
            }
            (true, _) => Ask::Get(id),
            (false, 0..20) => Ask::Post((self.tag(), 0)),
            (false, 20..55) => {
                let tag = self.tag();
                Ask::Put(id, *pick(rng, &[(tag, 0), (0, tag), (tag, tag)]))
            }
            (false, 55..85) => {
                let tag = Some(self.tag());
                let (title, body) = *pick(rng, &[(tag, None), (None, tag), (tag, Some(0)), (Some(0), tag)]);
                Ask::Patch(id, title, body)
            }
            (false, _) => Ask::Delete(id),
        };
        let keyed = ask.is_write() && rng.u8(0..100) < plan.keyed;
        if keyed
            && rng.u8(0..16) == 0
            && let Some(wish) = self.wish_under_used_key(rng)
        {
            return wish;
        }
        let key = keyed.then(|| self.key());
        if let Some(key) = key {
            self.keyed = Some((ask, key));
        }
        let if_match = self.if_match(ask, plan, rng);
        Wish { ask, key, if_match, sends: if keyed { rng.u32(1..=4) } else { 1 } }
    }

    /// Another request under a key that was used for the same item.
    fn wish_under_used_key(&mut self, rng: &mut Rng) -> Option<Wish> {
        let (ask, key) = self.keyed?;
        let ask = match ask {
            Ask::Post(_) => Ask::Post((self.tag(), 0)),
            Ask::Put(id, _) | Ask::Patch(id, ..) | Ask::Delete(id) => Ask::Put(id, (self.tag(), 0)),
            Ask::Get(_) | Ask::List { .. } => return None,
        };
        Some(Wish { ask, key: Some(key), if_match: None, sends: rng.u32(1..=2) })
    }

    fn some_note(&mut self, plan: &Plan, rng: &mut Rng) -> NoteId {
        let hot = &self.hot[self.hot.len().saturating_sub(2)..];
        match rng.u8(0..100) < plan.hot && !hot.is_empty() {
            true => *pick(rng, hot),
            false => NoteId(rng.u64(1..=self.largest + 1)),
        }
    }

    fn if_match(&self, ask: Ask, plan: &Plan, rng: &mut Rng) -> Option<Version> {
        let id = ask.note().filter(|_| ask.is_write())?;
        let seen = self.seen.iter().rev().find(|(seen, _)| *seen == id)?;
        (rng.u8(0..100) < plan.conditional).then_some(seen.1)
    }

    pub(crate) fn tag(&mut self) -> u32 {
        self.last_tag += 1;
        self.last_tag
    }

    pub(crate) fn key(&mut self) -> u32 {
        self.last_key += 1;
        self.last_key
    }
}

/// The request as a replica takes it.
pub(crate) fn request_of(wish: &Wish) -> Request {
    let operation = match wish.ask {
        Ask::Get(id) => return Request::Get(id),
        Ask::List { after, limit } => return Request::List(Page { after, limit, bytes_max: PAGE_BYTES }),
        Ask::Post(content) => Operation::Post { note: note_of(content) },
        Ask::Put(id, content) => Operation::Put { id, note: note_of(content) },
        Ask::Patch(id, title, body) => Operation::Patch { id, patch: patch_of(id, title, body) },
        Ask::Delete(id) => Operation::Delete { id },
    };
    let key = wish.key.map(|key| Key::try_from(format!("k{key}")).expect("a letter and digits are visible ASCII"));
    Request::Write(Write { operation, key, if_match: wish.if_match.map(|version| vec![version]) })
}

fn patch_of(id: NoteId, title: Option<u32>, body: Option<u32>) -> Patch {
    let member = |name: &str, tag: Option<u32>| {
        tag.map(|tag| if tag == 0 { format!("\"{name}\":null") } else { format!("\"{name}\":\"{tag}\"") })
    };
    let members: Vec<_> = [member("title", title), member("body", body)].into_iter().flatten().collect();
    let text = format!("{{{}}}", members.join(","));
    Patch::parse(id, text.as_bytes()).expect("strings and nulls are a patch")
}

/// What an answer tells the client.
pub(crate) fn reply_of(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Done(done) => Reply::Done(done),
        Outcome::Note { note, written, .. } => Reply::Found(content_of(&note), written),
        Outcome::Notes { notes, more } => {
            Reply::Notes { notes: notes.iter().map(|(id, note)| (*id, content_of(note))).collect(), more }
        }
        Outcome::Failed(failure) => match failure.code {
            Code::NotFound => Reply::NotFound,
            Code::PreconditionFailed => Reply::Mismatch,
            Code::KeyReused => Reply::Reused,
            Code::Unavailable => Reply::NoEffect,
            Code::Unknown => Reply::Unknown,
            other => panic!("no request of these clients can fail with {other}: {}", failure.msg),
        },
    }
}
