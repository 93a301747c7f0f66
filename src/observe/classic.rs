//! The classic log: the lines in which the program's ancestor showed the protocol, word for word.
//!
//! ```text
//! [2026-11-22 20:58:53] CLIENT [REQUEST] [POST] /note [{"title":"Hello World","body":"this is new note"}]
//! [2026-11-22 20:58:53] REPLICA [REQUEST] Forward request to primary  127.0.0.1:20000 > 127.0.0.1:10000 link=2 frame=17
//! ```
//!
//! With `log: json` each line is an object instead: `time` (RFC 3339, local), `event` (the names of [`Shown`]'s
//! variants in snake case), that variant's members, where `ms` is a duration in milliseconds, `at` (the replica that
//! shows it) and, where it is about one note, `note`. A body is a string, cut as in the classic lines. Who monitors a
//! replica gets the same objects.

use std::fmt::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Level, enabled, event};

use super::monitor::{Filter, Monitor, Monitors, TooMany};
use crate::config::LogStyle;
use crate::note::NoteId;

/// The target of these events in tracing, for filters.
pub const TARGET: &str = "primacy::classic";

/// Longest body or path in a line, in bytes; a log is for reading, and a queued line is memory.
const SHOWN_BYTES_MAX: usize = 1024;

/// Where the addresses begin, counted from the word REPLICA, so that they stand below each other.
const ADDRESSES_COLUMN: usize = 46;

/// A step of the protocol that the log shows, with its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A write goes from the contacted replica to the primary (remote-write).
    Forward,
    /// A primary tells a backup.
    Tell,
    /// An item moves to the contacted replica (local-write).
    Move,
}

impl Step {
    /// The ancestor's words.
    pub fn words(self) -> &'static str {
        match self {
            Step::Forward => "Forward request to primary",
            Step::Tell => "Tell backups to update",
            Step::Move => "Move item to new primary",
        }
    }
}

/// One replica's log: its events go to stdout, and to those who monitor the replica. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The replica's address.
    at: Arc<str>,
    monitors: Arc<Monitors>,
}

impl Log {
    /// The log of the replica at this address, which nobody monitors yet.
    pub fn new(at: &str) -> Log {
        Log { at: at.into(), monitors: Arc::default() }
    }

    /// Whether anybody reads these events; ask before making their arguments.
    pub fn enabled(&self) -> bool {
        self.monitors.any() || enabled!(target: TARGET, Level::INFO)
    }

    /// Begins to watch what passes the filter.
    pub fn monitor(&self, filter: Filter) -> Result<Monitor, TooMany> {
        self.monitors.begin(filter)
    }

    /// A client's request, before it goes to the replica's loop. `body` is as it came.
    pub fn client_request(&self, note: Option<NoteId>, method: &str, path: &str, body: &[u8]) {
        self.show(note, Shown::ClientRequest { method, path, body });
    }

    /// A client's answer, before its bytes are written. `body` is without its last newline.
    pub fn client_reply(&self, note: Option<NoteId>, method: &str, path: &str, body: &[u8], took_ns: u64) {
        self.show(note, Shown::ClientReply { method, path, body, took_ns });
    }

    /// A frame that begins a step, before it is written: the number of its connection in this process, 0 where it has none
    /// yet, and its own number on it.
    pub fn replica_request(&self, note: Option<NoteId>, step: Step, from: &str, to: &str, link: u64, frame: u64) {
        self.show(note, Shown::ReplicaRequest { step, from, to, link, frame });
    }

    /// The frame that ends it.
    pub fn replica_reply(&self, note: Option<NoteId>, step: Step, from: &str, to: &str, took_ns: u64) {
        self.show(note, Shown::ReplicaReply { step, from, to, took_ns });
    }

    /// The replica applies a new view; lists of addresses are separated by commas.
    pub fn view(&self, epoch: u64, primary: &str, in_sync: &str, joining: &str) {
        self.show(None, Shown::View { epoch, primary, in_sync, joining });
    }

    /// The replica, joining, has copied everything, and all count it.
    pub fn joined(&self, epoch: u64, notes: u64) {
        self.show(None, Shown::Joined { epoch, notes });
    }

    fn show(&self, note: Option<NoteId>, what: Shown<'_>) {
        let event = Event { what, at: &self.at, note };
        // Both forms are lazy: only the one that the log's style asks for is ever made.
        event!(target: TARGET, Level::INFO, classic = %event, json = %Json(&event));
        if self.monitors.any() {
            self.monitors.show(&event);
        }
    }
}

/// Something that a replica shows. Its `Display` is the classic line, its `Serialize` the JSON one, both without the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event<'a> {
    /// What happened.
    #[serde(flatten)]
    pub what: Shown<'a>,
    /// The replica that shows it.
    pub at: &'a str,
    /// The note that it is about. Of a POST it is known once the note has its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<NoteId>,
}

impl Event<'_> {
    /// The event as JSON.
    pub(super) fn to_json(self) -> String {
        serde_json::to_string(&self).expect("an event has string keys, so writing it to memory succeeds")
    }

    /// Whether a replica takes part in this: shows it, sends, receives, or is in the view.
    pub(super) fn names(&self, replica: &str) -> bool {
        let among = |list: &str| list.split(',').any(|name| name == replica);
        let others = match self.what {
            Shown::ReplicaRequest { from, to, .. } | Shown::ReplicaReply { from, to, .. } => {
                from == replica || to == replica
            }
            Shown::View { in_sync, joining, .. } => among(in_sync) || among(joining),
            Shown::ClientRequest { .. } | Shown::ClientReply { .. } | Shown::Joined { .. } => false,
        };
        others || self.at == replica
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Shown<'a> {
    /// A client asked.
    ClientRequest {
        /// The method, also of requests by frames.
        method: &'a str,
        /// The path with its query.
        #[serde(serialize_with = "as_text_of_str")]
        path: &'a str,
        /// The body as it came.
        #[serde(serialize_with = "as_text")]
        body: &'a [u8],
    },
    /// A client was answered.
    ClientReply {
        /// The request's method.
        method: &'a str,
        /// The request's path.
        #[serde(serialize_with = "as_text_of_str")]
        path: &'a str,
        /// The answer's body.
        #[serde(serialize_with = "as_text")]
        body: &'a [u8],
        /// From the request's arrival, in ns.
        #[serde(rename = "ms", serialize_with = "as_ms")]
        took_ns: u64,
    },
    /// One replica asked another.
    ReplicaRequest {
        /// For what.
        step: Step,
        /// The sender's address.
        from: &'a str,
        /// The receiver's.
        to: &'a str,
        /// The connection's number in this process; null in JSON where it has none yet.
        #[serde(serialize_with = "as_link")]
        link: u64,
        /// The frame's number on its link.
        frame: u64,
    },
    /// It was answered.
    ReplicaReply {
        /// What was asked for.
        step: Step,
        /// The sender of the answer.
        from: &'a str,
        /// Its receiver, who asked.
        to: &'a str,
        /// From the asking, in ns.
        #[serde(rename = "ms", serialize_with = "as_ms")]
        took_ns: u64,
    },
    /// A replica applied a new view.
    View {
        /// The view's number.
        epoch: u64,
        /// The view's primary.
        primary: &'a str,
        /// Who is in sync, separated by commas.
        in_sync: &'a str,
        /// Who joins, separated by commas.
        joining: &'a str,
    },
    /// A joining replica has copied everything.
    Joined {
        /// The view under which it has.
        epoch: u64,
        /// How many notes it holds.
        notes: u64,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.what {
            Shown::ClientRequest { method, path, body } => {
                write!(f, "CLIENT [REQUEST] [{method}] {} [{}]", Text(path.as_bytes()), Text(body))
            }
            Shown::ClientReply { method, path, body, took_ns } => {
                write!(f, "CLIENT [REPLY] [{method}] {} [{}] {}", Text(path.as_bytes()), Text(body), Ms(took_ns))
            }
            Shown::ReplicaRequest { step, from, to, link, frame } => {
                write_step(f, "REPLICA [REQUEST] ", step)?;
                write!(f, "{from} > {to} ")?;
                match link {
                    0 => write!(f, "link=- frame={frame}"),
                    _ => write!(f, "link={link} frame={frame}"),
                }
            }
            Shown::ReplicaReply { step, from, to, took_ns } => {
                write_step(f, "REPLICA [REPLY] ", step)?;
                write!(f, "{from} > {to} {}", Ms(took_ns))
            }
            Shown::View { epoch, primary, in_sync, joining } => {
                write!(f, "VIEW [NEW] {epoch} at {at} primary={primary} in_sync={in_sync} joining={joining}")
            }
            Shown::Joined { epoch, notes } => {
                write!(f, "REPLICA [JOIN] Copied {notes} notes at {at}, synced in view {epoch}")
            }
        }
    }
}

/// Who did what, filled with spaces up to the addresses.
fn write_step(f: &mut fmt::Formatter<'_>, who: &str, step: Step) -> fmt::Result {
    write!(f, "{who}{:<width$}", step.words(), width = ADDRESSES_COLUMN - who.len())
}

/// Nanoseconds as milliseconds with two decimals.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole numbers: a float of many digits would be rounded twice.
        let hundredths = self.0.saturating_add(5_000) / 10_000;
        write!(f, "{}.{:02} ms", hundredths / 100, hundredths % 100)
    }
}

/// Bytes from outside as one line of text: cut to [`SHOWN_BYTES_MAX`], invalid UTF-8 replaced, control characters escaped.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = cut(self.0);
        for chunk in shown.utf8_chunks() {
            write_escaped(f, chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        if shown.len() < self.0.len() { f.write_char('…') } else { Ok(()) }
    }
}

/// The first [`SHOWN_BYTES_MAX`] bytes, less those of a character that would be cut in two.
fn cut(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= SHOWN_BYTES_MAX {
        return bytes;
    }
    // In UTF-8 a character has at most three bytes after its first; more of them in a row are no character.
    let continues = |at: usize| bytes[at] & 0b1100_0000 == 0b1000_0000;
    let end = (SHOWN_BYTES_MAX - 3..=SHOWN_BYTES_MAX).rev().find(|at| !continues(*at)).unwrap_or(SHOWN_BYTES_MAX);
    &bytes[..end]
}

/// Appends `text` with its control characters escaped.
pub(super) fn escape_into(line: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = write_escaped(line, text);
}

/// Writes `text` in runs between the characters that must be escaped.
fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(is_unsafe) {
        out.write_str(&rest[..at])?;
        let mut after = rest[at..].chars();
        if let Some(c) = after.next() {
            write!(out, "{}", c.escape_default())?;
        }
        rest = after.as_str();
    }
    out.write_str(rest)
}

/// Whether a terminal would act on this character, not show it: control characters, line separators, and the marks that
/// change the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The JSON form of a line, made only when it is written.
struct Json<'a>(&'a Event<'a>);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_json())
    }
}

fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = cut(bytes);
    let mark = if shown.len() < bytes.len() { "…" } else { "" };
    serializer.collect_str(&format_args!("{}{mark}", String::from_utf8_lossy(shown)))
}

fn as_text_of_str<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    as_text(text.as_bytes(), serializer)
}

fn as_ms<S: Serializer>(ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*ns as f64 / 1e6)
}

fn as_link<S: Serializer>(link: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    (*link != 0).then_some(link).serialize(serializer)
}

/// Takes an event's text in one style.
pub(super) struct Line {
    /// The field that holds it in this style.
    field: &'static str,
    /// The line, without its time.
    pub(super) text: String,
}

impl Line {
    /// Empty, to be recorded in this style.
    pub(super) fn new(style: LogStyle) -> Line {
        let field = if style == LogStyle::Json { "json" } else { "classic" };
        // Most lines are shorter: one allocation each.
        Line { field, text: String::with_capacity(192) }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.field {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests;
