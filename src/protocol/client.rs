//! The frames of clients: what they ask, and how they are answered. Pure: JSON in, calls out; what was said in, JSON out.
//!
//! A client's frame is one object. An unknown member is refused by name, so that a typing error never changes what is
//! asked; `seq` comes back as `re` wherever it could be read.

use std::borrow::Cow;
use std::io::Write as _;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::message::Message;
use super::port::{Call, Pong, Said};
use super::request::{
    Answer, Code, Done, Failure, IF_MATCH_MAX, Key, Operation, Outcome, Page, Phases, Request, Write,
};
use crate::note::{Note, NoteError, NoteId, Patch};

/// Notes in a `notes` reply where `limit` is not given.
pub const LIST_LIMIT_DEFAULT: usize = 100;

/// The largest `limit`.
pub const LIST_LIMIT_MAX: usize = 1_000;

/// Bytes of notes in one `notes` reply; the rest is `more`. It leaves room for every reply in a frame.
pub const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A frame that could be understood.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// Comes back as `re`.
    pub seq: Option<u64>,
    /// Whether the reply shall say where the time went.
    pub timing: bool,
    /// What is asked.
    pub what: Wanted,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// One reply from the replica's loop.
    Call(Call),
    /// The replica's events, from now on.
    Monitor(Watch),
}

/// Which events a monitor wants: all that pass what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Those of this note.
    pub id: Option<NoteId>,
    /// Those in which the replica of this address takes part.
    pub replica: Option<String>,
}

/// A frame that could not be understood: the reply, and its `re` where `seq` could be read.
#[derive(Debug, PartialEq)]
pub struct NotUnderstood {
    /// Comes back as `re`.
    pub seq: Option<u64>,
    /// What was wrong.
    pub failure: Failure,
}

/// Every member that a client's frame can have. They are read as they stand, so that each can be refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    seq: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    note: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    patch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    limit: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    after: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    if_match: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    timing: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    replica: Option<&'a RawValue>,
}

/// What can be read of a frame with unknown members.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    seq: Option<&'a RawValue>,
}

/// A member that is there, be it null: serde's own Option would take null for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Understands a client's frame.
pub fn parse(json: &[u8]) -> Result<Asked, NotUnderstood> {
    let refuse = |seq, failure| NotUnderstood { seq, failure };
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        // serde would also take the members from an array, in order.
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(json).err();
        let failure = error.map_or_else(
            || {
                Failure::new(
                    Code::BadFrame,
                    "a frame is one JSON object with a `type`, and this is JSON of another kind",
                )
            },
            |error| bad_json(&error),
        );
        return Err(refuse(None, failure));
    }
    let members: Members<'_> = match serde_json::from_slice(json) {
        Ok(members) => members,
        Err(error) => return Err(not_members(json, &error)),
    };
    let seq = match members.seq.map(number).transpose() {
        Ok(seq) => seq,
        Err(found) => {
            let msg = format!("`seq` must be a whole number from 0 to {}, and is {found}", u64::MAX);
            return Err(refuse(None, Failure::new(Code::BadFrame, msg)));
        }
    };
    members.understand().map(|(timing, what)| Asked { seq, timing, what }).map_err(|failure| refuse(seq, failure))
}

/// A client's `auth`: the token by which it shows that it may ask.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    /// Comes back as `re`.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The token.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
}

/// The JSON that shows a token. Its number is 0, so that the reply can be told from those to requests that count from 1.
pub fn auth(token: &str) -> Vec<u8> {
    format!("{{\"type\":\"auth\",\"seq\":0,\"token\":{}}}", serde_json::json!(token)).into_bytes()
}

/// Understands an `auth`; any other frame is none.
pub fn parse_auth(json: &[u8]) -> Option<Auth<'_>> {
    serde_json::from_slice(json).ok().filter(|auth: &Auth<'_>| auth.r#type == "auth")
}

/// The `seq` of any frame, where it can be read.
pub fn seq_of(json: &[u8]) -> Option<u64> {
    let head = serde_json::from_slice::<Head<'_>>(json).ok()?;
    head.seq.and_then(|seq| number(seq).ok())
}

/// Appends the JSON of the reply to an `auth` that was accepted.
pub fn write_authorized(out: &mut Vec<u8>, seq: Option<u64>) {
    begin(out, "authorized", seq, 200);
    out.push(b'}');
}

/// The frame is no JSON, or has a member that no verb has. A replica's message or an unknown type is told so rather than
/// blamed for its members.
fn not_members(json: &[u8], error: &serde_json::Error) -> NotUnderstood {
    let head = serde_json::from_slice::<Head<'_>>(json).ok().filter(|_| error.is_data());
    let Some(head) = head else { return NotUnderstood { seq: None, failure: bad_json(error) } };
    let seq = head.seq.and_then(|seq| number(seq).ok());
    let failure = match head.r#type.map(text) {
        Some(Ok(word)) if word == "auth" => no_auth(),
        Some(Ok(word)) if !VERBS.contains(&word.as_str()) => unknown_verb(&word),
        _ => Failure::new(Code::BadRequest, format!("{error}; leave the member out")),
    };
    NotUnderstood { seq, failure }
}

fn bad_json(error: &serde_json::Error) -> Failure {
    Failure::new(Code::BadJson, format!("the frame is not valid JSON: {error}"))
}

/// The verbs of clients. `auth` is understood before any other, by [`parse_auth`].
const VERBS: [&str; 10] = ["post", "get", "list", "put", "patch", "delete", "ping", "status", "monitor", "auth"];

/// An `auth` that is none.
fn no_auth() -> Failure {
    Failure::new(Code::BadRequest, "`auth` takes a `token`, a string, and nothing else but `seq`")
}

fn unknown_verb(word: &str) -> Failure {
    let of_replicas = matches!(word, "hello" | "proof" | "got") || Message::WORDS.contains(&word);
    match of_replicas {
        true => Failure::new(
            Code::NotAPeer,
            format!("`{word}` is a message between replicas, and this connection did not begin with a replica's hello"),
        ),
        false => {
            Failure::new(Code::UnknownType, format!("there is no type `{word}`; clients may send {}", VERBS.join(", ")))
        }
    }
}

impl Members<'_> {
    fn understand(&self) -> Result<(bool, Wanted), Failure> {
        let bad = |msg: &str| Failure::new(Code::BadFrame, msg);
        let word = self.r#type.ok_or_else(|| bad("the frame has no `type`"))?;
        let word = word_in(word).map_err(|_| bad("`type` must be a string"))?;
        let timing = match self.timing.map(RawValue::get) {
            None | Some("false") => false,
            Some("true") => true,
            Some(found) => return Err(bad_member("timing", "true or false", found)),
        };
        let word = &*word;
        let call = match word {
            "ping" => self.only(word, &[]).map(|()| Call::Ping)?,
            "status" => self.only(word, &[]).map(|()| Call::Status)?,
            "get" => self.only(word, &["id"]).and_then(|()| self.id(word)).map(|id| Call::Note(Request::Get(id)))?,
            "list" => self.only(word, &["limit", "after"]).and_then(|()| self.page())?,
            "post" => self.write(word, &["note", "key"], |it| it.post())?,
            "put" => self.write(word, &["id", "note", "key", "if_match"], |it| it.put(word))?,
            "patch" => self.write(word, &["id", "patch", "key", "if_match"], |it| it.patch(word))?,
            "delete" => {
                self.write(word, &["id", "key", "if_match"], |it| it.id(word).map(|id| Operation::Delete { id }))?
            }
            "monitor" => return Ok((timing, Wanted::Monitor(self.watch(word)?))),
            "auth" => return Err(no_auth()),
            _ => return Err(unknown_verb(word)),
        };
        Ok((timing, Wanted::Call(call)))
    }

    /// Refuses members that other verbs have and this one does not.
    fn only(&self, word: &str, allowed: &[&str]) -> Result<(), Failure> {
        let present = [
            ("id", self.id),
            ("note", self.note),
            ("patch", self.patch),
            ("limit", self.limit),
            ("after", self.after),
            ("key", self.key),
            ("if_match", self.if_match),
            ("replica", self.replica),
        ];
        match present.iter().find(|(name, value)| value.is_some() && !allowed.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let takes = if allowed.is_empty() { "no members of its own".to_owned() } else { allowed.join(", ") };
                Err(Failure::new(Code::BadRequest, format!("`{word}` has no member `{name}`; it takes {takes}")))
            }
        }
    }

    fn id(&self, word: &str) -> Result<NoteId, Failure> {
        let bad = |msg| Failure::new(Code::BadId, msg);
        let id = self.id.ok_or_else(|| bad(format!("`{word}` needs the `id` of a note")))?;
        number(id).map(NoteId).map_err(|found| bad(format!("`id` must be a whole number from 1, and is {found}")))
    }

    fn watch(&self, word: &str) -> Result<Watch, Failure> {
        self.only(word, &["id", "replica"])?;
        let id = self.id.map(|_| self.id(word)).transpose()?;
        let name = |name: &RawValue| text(name).map_err(|_| bad_member("replica", "a replica's address", name.get()));
        Ok(Watch { id, replica: self.replica.map(name).transpose()? })
    }

    fn page(&self) -> Result<Call, Failure> {
        let limit = match self.limit.map(number).transpose() {
            Ok(None) => LIST_LIMIT_DEFAULT,
            Ok(Some(limit @ 1..=1_000)) => limit as usize,
            Ok(Some(found)) => return Err(bad_member("limit", &format!("1 to {LIST_LIMIT_MAX}"), &found.to_string())),
            Err(found) => return Err(bad_member("limit", &format!("1 to {LIST_LIMIT_MAX}"), &found)),
        };
        let after = self.after.map(number).transpose();
        let after = after.map_err(|found| bad_member("after", "a note's id, or 0", &found))?.unwrap_or(0);
        Ok(Call::Note(Request::List(Page { after: NoteId(after), limit, bytes_max: LIST_BYTES_MAX })))
    }

    fn write(
        &self,
        word: &str,
        members: &[&str],
        operation: impl FnOnce(&Self) -> Result<Operation, Failure>,
    ) -> Result<Call, Failure> {
        self.only(word, members)?;
        let operation = operation(self)?;
        let key = self.key.map(|key| {
            let key = text(key).ok().and_then(|key| Key::try_from(key).ok());
            key.ok_or_else(|| Failure::new(Code::BadRequest, super::request::KeyError.to_string()))
        });
        let if_match = self.if_match.map(|version| {
            // One version, or a list of them.
            let one = serde_json::from_str(version.get()).map(|version| vec![version]);
            let some = one.or_else(|_| serde_json::from_str::<Vec<_>>(version.get()));
            some.ok().filter(|some| some.len() <= IF_MATCH_MAX).ok_or_else(|| {
                bad_member("if_match", &format!("a version, [1,2], or a list of at most {IF_MATCH_MAX}"), version.get())
            })
        });
        Ok(Call::Note(Request::Write(Write { operation, key: key.transpose()?, if_match: if_match.transpose()? })))
    }

    fn post(&self) -> Result<Operation, Failure> {
        let note = self.note.ok_or_else(|| missing("post", "note"))?;
        Ok(Operation::Post { note: Note::from_post(note.get().as_bytes()).map_err(bad_note)? })
    }

    fn put(&self, word: &str) -> Result<Operation, Failure> {
        let id = self.id(word)?;
        let note = self.note.ok_or_else(|| missing(word, "note"))?;
        Ok(Operation::Put { id, note: Note::from_put(id, note.get().as_bytes()).map_err(bad_note)? })
    }

    fn patch(&self, word: &str) -> Result<Operation, Failure> {
        let id = self.id(word)?;
        let patch = self.patch.ok_or_else(|| missing(word, "patch"))?;
        Ok(Operation::Patch { id, patch: Patch::parse(id, patch.get().as_bytes()).map_err(bad_note)? })
    }
}

fn missing(word: &str, member: &str) -> Failure {
    Failure::new(Code::BadNote, format!("`{word}` needs the member `{member}`"))
}

fn bad_member(name: &str, wanted: &str, found: &str) -> Failure {
    let shown: String = found.chars().take(40).collect();
    Failure::new(Code::BadRequest, format!("`{name}` must be {wanted}, and is {shown}"))
}

fn bad_note(error: NoteError) -> Failure {
    let code = if matches!(error, NoteError::TooLarge(_)) { Code::TooLarge } else { Code::BadNote };
    Failure::new(code, error.to_string())
}

/// A u64, or what stands there instead.
fn number(value: &RawValue) -> Result<u64, String> {
    value.get().parse().map_err(|_| value.get().chars().take(40).collect())
}

/// A string that is short and plain, as verbs are, without a copy.
fn word_in(value: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let inside = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => text(value).map(Cow::Owned),
    }
}

fn text(value: &RawValue) -> Result<String, serde_json::Error> {
    serde_json::from_str(value.get())
}

/// Appends the JSON of a reply. `names` are the replicas' addresses in config order; `total_ns` is given where the
/// request asked for `timing`.
pub fn write_reply(out: &mut Vec<u8>, seq: Option<u64>, said: &Said, names: &[String], total_ns: Option<u64>) {
    let at = out.len();
    match said {
        Said::Answer(Answer { outcome, .. }) => write_outcome(out, seq, outcome),
        Said::Pong(pong) => write_pong(out, seq, pong, names),
        Said::Status(status) => {
            begin(out, "status", seq, 200);
            let from = out.len();
            serde_json::to_writer(&mut *out, status).expect("a status has string keys, and memory takes all writes");
            // The status came as an object of its own; its opening brace becomes the comma.
            out[from] = b',';
        }
    }
    if let Some(total_ns) = total_ns {
        let phases = match said {
            Said::Answer(answer) => answer.phases,
            // Answered by the loop at once.
            Said::Pong(_) | Said::Status(_) => Phases::default(),
        };
        out.pop();
        write_timing(out, &phases, total_ns);
        out.push(b'}');
    }
    debug_assert_eq!(out.get(at), Some(&b'{'));
}

/// Appends the JSON of the reply that begins a monitor of the replica of this address.
pub fn write_monitoring(out: &mut Vec<u8>, seq: Option<u64>, replica: &str) {
    begin(out, "monitoring", seq, 200);
    put(out, format_args!(",\"replica\":{}}}", serde_json::json!(replica)));
}

/// Appends the JSON of one of a monitor's events, which come as objects.
pub fn write_event(out: &mut Vec<u8>, seq: Option<u64>, event: &str) {
    put(out, format_args!("{{\"type\":\"event\""));
    if let Some(seq) = seq {
        put(out, format_args!(",\"re\":{seq}"));
    }
    put(out, format_args!(",{}", event.strip_prefix('{').unwrap_or(event)));
}

/// Appends the JSON of an `error` reply.
pub fn write_error(out: &mut Vec<u8>, seq: Option<u64>, failure: &Failure) {
    begin(out, "error", seq, failure.code.status());
    let msg = serde_json::to_string(&failure.msg).expect("a string is always JSON");
    put(out, format_args!(",\"code\":\"{}\",\"msg\":{msg}}}", failure.code));
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes all writes");
}

fn begin(out: &mut Vec<u8>, word: &str, seq: Option<u64>, res: u16) {
    put(out, format_args!("{{\"type\":\"{word}\""));
    if let Some(seq) = seq {
        put(out, format_args!(",\"re\":{seq}"));
    }
    // A pong says nothing that could fail.
    if word != "pong" {
        put(out, format_args!(",\"res\":{res}"));
    }
}

fn write_outcome(out: &mut Vec<u8>, seq: Option<u64>, outcome: &Outcome) {
    match outcome {
        Outcome::Done(Done { id, version }) => {
            begin(out, "done", seq, 200);
            put(out, format_args!(",\"id\":{id},\"version\":[{},{}]}}", version.epoch, version.counter));
        }
        Outcome::Note { id, note, written } => {
            begin(out, "note", seq, 200);
            out.extend_from_slice(b",\"note\":");
            note.write_with_id(*id, out);
            put(out, format_args!(",\"version\":[{},{}]}}", written.epoch, written.counter));
        }
        Outcome::Notes { notes, more } => {
            begin(out, "notes", seq, 200);
            out.extend_from_slice(b",\"data\":[");
            for (place, (id, note)) in notes.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                note.write_with_id(*id, out);
            }
            put(out, format_args!("],\"more\":{more}}}"));
        }
        Outcome::Failed(failure) => write_error(out, seq, failure),
    }
}

fn write_pong(out: &mut Vec<u8>, seq: Option<u64>, pong: &Pong, names: &[String]) {
    let name = |place: usize| serde_json::json!(names.get(place));
    begin(out, "pong", seq, 200);
    let (replica, primary) = (name(pong.replica.index()), pong.primary.map(|primary| name(primary.index())));
    let primary = primary.unwrap_or(serde_json::Value::Null);
    let Pong { epoch, in_sync, .. } = pong;
    put(out, format_args!(",\"replica\":{replica},\"epoch\":{epoch},\"primary\":{primary},\"in_sync\":{in_sync}}}"));
}

/// Where the time went, in ms; phases that took no time are left out.
fn write_timing(out: &mut Vec<u8>, phases: &Phases, total_ns: u64) {
    let mut before = ",\"timing\":{";
    for (name, us) in phases.parts(total_ns) {
        if us > 0 || matches!(name, "queue" | "respond" | "total") {
            put(out, format_args!("{before}\"{name}_ms\":{}.{:03}", us / 1000, us % 1000));
            before = ",";
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
