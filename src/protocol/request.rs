//! What clients ask, by HTTP or by frames, and what they are answered. Both listeners turn their own syntax into these.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{ReplicaId, Version};
use crate::note::{Note, NoteError, NoteId, Patch};

/// Longest idempotency key, in bytes of visible ASCII.
pub const KEY_BYTES_MAX: usize = 255;

/// Most versions in one If-Match.
pub const IF_MATCH_MAX: usize = 16;

/// How much of a client's text an error repeats, in characters.
const QUOTE_MAX: usize = 80;

/// A request to the note store.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Changes a note, at its primary.
    Write(Write),
    /// Reads one note.
    Get(NoteId),
    /// Reads a page of the list.
    List(Page),
}

/// A request that changes a note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// What to do.
    pub operation: Operation,
    /// The client's `Idempotency-Key`: sent again under it, the write takes effect once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Do it only where the note's `written` is one of these, else fail with `precondition_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Vec<Version>>,
}

/// The four ways to change notes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Makes a new note; the id sequence gives its id.
    Post {
        /// The note.
        note: Note,
    },
    /// Replaces a note.
    Put {
        /// Which.
        id: NoteId,
        /// What it becomes.
        note: Note,
    },
    /// Merges a patch into a note (RFC 7396).
    Patch {
        /// Which.
        id: NoteId,
        /// What to change.
        patch: Patch,
    },
    /// Removes a note for good.
    Delete {
        /// Which.
        id: NoteId,
    },
}

impl From<Operation> for Write {
    /// Without key or condition.
    fn from(operation: Operation) -> Write {
        Write { operation, key: None, if_match: None }
    }
}

impl Operation {
    /// The item whose primary decides this write: the note, or for a POST the id sequence.
    pub fn item(&self) -> NoteId {
        match self {
            Operation::Post { .. } => NoteId::SEQUENCE,
            Operation::Put { id, .. } | Operation::Patch { id, .. } | Operation::Delete { id } => *id,
        }
    }

    /// About how many bytes of memory its note takes.
    pub fn note_bytes(&self) -> usize {
        match self {
            Operation::Post { note } | Operation::Put { note, .. } => note.as_str().len(),
            Operation::Patch { patch, .. } => patch.bytes(),
            Operation::Delete { .. } => 0,
        }
    }
}

/// Which part of the list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Notes with larger ids than this one.
    pub after: NoteId,
    /// At most this many notes.
    pub limit: usize,
    /// At most this many bytes of notes' JSON, but always one note.
    pub bytes_max: usize,
}

/// An idempotency key: 1 to [`KEY_BYTES_MAX`] visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

/// A text that is no idempotency key.
#[derive(Debug, thiserror::Error)]
#[error("an idempotency key is 1 to {KEY_BYTES_MAX} visible ASCII characters")]
pub struct KeyError;

impl Key {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Key {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Key, KeyError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(KeyError);
        }
        Ok(Key(text.into()))
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Key, KeyError> {
        Key::try_from(text.as_str())
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0.as_ref().to_owned()
    }
}

/// What a request came to, and where its time went.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Done or failed.
    pub outcome: Outcome,
    /// The item's primary after a write, else the view's; none before there is a view.
    pub primary: Option<ReplicaId>,
    /// Where the time went.
    pub phases: Phases,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A write was done.
    Done(Done),
    /// The note that was asked for.
    Note {
        /// Its id.
        id: NoteId,
        /// Its members.
        note: Note,
        /// The version whose write made this content; its ETag.
        written: Version,
    },
    /// A page of the list, by id.
    Notes {
        /// The notes.
        notes: Vec<(NoteId, Note)>,
        /// Whether there are notes after these.
        more: bool,
    },
    /// It was not done, or it is unknown whether it was: the code says which.
    Failed(Failure),
}

/// The answer to a write that took effect. Sent as it is in `answer` frames and kept in the table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The note that was written.
    pub id: NoteId,
    /// Its new `written`.
    pub version: Version,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable word.
    pub code: Code,
    /// What was wrong and what to do, for people.
    pub msg: String,
}

impl Failure {
    /// A failure with its text.
    pub fn new(code: Code, msg: impl Into<String>) -> Failure {
        Failure { code, msg: msg.into() }
    }

    /// 404: there is no such note.
    pub fn not_found(id: NoteId) -> Failure {
        Failure::new(Code::NotFound, format!("there is no note {id}"))
    }

    /// 412: the note is there, and was last written as another version than those that were asked for.
    pub fn not_matched(id: NoteId, written: Version) -> Failure {
        let msg = format!("note {id} is at version \"{written}\", which If-Match does not name; read it again");
        Failure::new(Code::PreconditionFailed, msg)
    }
}

impl From<NoteError> for Failure {
    fn from(error: NoteError) -> Failure {
        use NoteError::*;
        let code = match error {
            Syntax(_) => Code::BadJson,
            TooLarge(_) => Code::TooLarge,
            Shape(_) | Missing(_) | OtherId { .. } | UnwantedId => Code::BadNote,
        };
        Failure::new(code, error.to_string())
    }
}

/// A client's text as an error repeats it: cut where it is long.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The stable words for failures; each has one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400: not JSON, or not UTF-8.
    BadJson,
    /// 400: JSON, but no note.
    BadNote,
    /// 400: not an id.
    BadId,
    /// 400: the request is malformed.
    BadRequest,
    /// 400: the frame is malformed.
    BadFrame,
    /// 400: a frame of unknown type.
    UnknownType,
    /// 404: no such note, or no such path.
    NotFound,
    /// 405: the path exists, but not this method.
    MethodNotAllowed,
    /// 412: If-Match did not hold.
    PreconditionFailed,
    /// 422: the idempotency key was used for another request.
    KeyReused,
    /// 413: larger than a limit.
    TooLarge,
    /// 408: the request was not complete in time.
    Timeout,
    /// 403: a replica's message on a connection that is no link.
    NotAPeer,
    /// 401: no or a wrong token.
    Unauthorized,
    /// 403: not allowed from there.
    Forbidden,
    /// 421: this is not the service that was asked for.
    Misdirected,
    /// 415, 417, 501 or 505: a feature that is not offered.
    Unsupported,
    /// 503: it had no effect; send it again later or elsewhere.
    Unavailable,
    /// 503: it may have taken effect, or may still do so.
    Unknown,
}

impl Code {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Code::BadJson => "bad_json",
            Code::BadNote => "bad_note",
            Code::BadId => "bad_id",
            Code::BadRequest => "bad_request",
            Code::BadFrame => "bad_frame",
            Code::UnknownType => "unknown_type",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::PreconditionFailed => "precondition_failed",
            Code::KeyReused => "key_reused",
            Code::TooLarge => "too_large",
            Code::Timeout => "timeout",
            Code::NotAPeer => "not_a_peer",
            Code::Unauthorized => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::Misdirected => "misdirected",
            Code::Unsupported => "unsupported",
            Code::Unavailable => "unavailable",
            Code::Unknown => "unknown",
        }
    }

    /// The HTTP status that goes with it (RFC 9110 section 15). `Unsupported` has several; this is its first.
    pub fn status(self) -> u16 {
        match self {
            Code::BadJson | Code::BadNote | Code::BadId | Code::BadRequest | Code::BadFrame | Code::UnknownType => 400,
            Code::Unauthorized => 401,
            Code::NotAPeer | Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::Timeout => 408,
            Code::PreconditionFailed => 412,
            Code::TooLarge => 413,
            Code::Unsupported => 415,
            Code::Misdirected => 421,
            Code::KeyReused => 422,
            Code::Unavailable | Code::Unknown => 503,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where the time of a request went, in nanoseconds. `total = queue + forward + move + replicate + respond`, where the
/// connection adds `respond`; `store` and `update` overlap within `replicate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Waiting: for a view, for a lease, for earlier writes, for a version to be committed.
    pub queue: u64,
    /// The way to the primary and back, less the primary's own phases (remote-write).
    pub forward: u64,
    /// Moving the item here (local-write).
    #[serde(rename = "move")]
    pub moved: u64,
    /// From the record to its commit: the later of `store` and `update`.
    pub replicate: u64,
    /// Until the primary's own store had it.
    pub store: u64,
    /// Until the slowest backup had acknowledged it.
    pub update: u64,
}

impl Phases {
    /// The phases of a request that took `total_ns`, by name, in microseconds. They are cut to these before they are
    /// added up, so that what is printed adds up.
    pub fn parts(&self, total_ns: u64) -> [(&'static str, u64); 8] {
        let us = |ns: u64| ns / 1000;
        let spent = us(self.queue) + us(self.forward) + us(self.moved) + us(self.replicate);
        let respond = us(total_ns).saturating_sub(spent);
        [
            ("queue", us(self.queue)),
            ("forward", us(self.forward)),
            ("move", us(self.moved)),
            ("replicate", us(self.replicate)),
            ("store", us(self.store)),
            ("update", us(self.update)),
            ("respond", respond),
            ("total", spent + respond),
        ]
    }
}
