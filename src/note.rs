//! Notes: what clients store, and what PUT and PATCH do to one. No I/O.
//!
//! A [`Note`] is kept as compact JSON, encoded once when it is made. Reading, replicating and storing it then
//! copies bytes and never parses them. Its id is not part of that text: the record that holds a note knows the id,
//! and [`Note::write_with_id`] puts it in front.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Longest compact JSON of a note, in bytes, its id not counted. However a note came about (POST, PUT, PATCH), it is
/// never longer, so that a record always fits a frame and a journal's batch.
pub const NOTE_BYTES_MAX: usize = 1024 * 1024;

/// The number of a note, from 1; numbers are given in order and never twice.
///
/// Number 0 is no note but the *id sequence*: the item whose value is the next note's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NoteId(pub u64);

impl NoteId {
    /// Item 0, the id sequence.
    pub const SEQUENCE: NoteId = NoteId(0);

    /// Whether this is the id sequence, which clients cannot address.
    pub fn is_sequence(self) -> bool {
        self == Self::SEQUENCE
    }
}

impl fmt::Display for NoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was wrong with a note or a merge patch that a client sent.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not JSON (RFC 8259), or not UTF-8; the text names line and column.
    #[error("the body is not valid JSON: {0}")]
    Syntax(#[source] serde_json::Error),
    /// JSON, but not of a note's shape: no object, an unknown, repeated or mistyped member.
    #[error("{0}; a note is an object with the strings `title` and `body`")]
    Shape(#[source] serde_json::Error),
    /// A POST without one of its two members.
    #[error("the note has no `{0}`; POST needs both `title` and `body`")]
    Missing(&'static str),
    /// The `id` in the body is not the one that was addressed.
    #[error("the body's `id` is {found}, but the request is for note {expected}; leave `id` out or make them equal")]
    OtherId {
        /// The id that the request addresses.
        expected: NoteId,
        /// The id that the body holds.
        found: NoteId,
    },
    /// `id` in a POST, whose id the store gives.
    #[error("the note has an `id`; POST gives the id itself, leave it out")]
    UnwantedId,
    /// The note would be longer than [`NOTE_BYTES_MAX`].
    #[error("the note is {0} bytes of JSON; at most {NOTE_BYTES_MAX} are kept")]
    TooLarge(usize),
}

impl From<serde_json::Error> for NoteError {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            serde_json::error::Category::Data => NoteError::Shape(error),
            _ => NoteError::Syntax(error),
        }
    }
}

/// A note's members in canonical form: compact JSON, `title` before `body`, members left out that it does not have.
/// Cloning shares the text.
#[derive(Clone)]
pub struct Note(Arc<RawValue>);

impl Note {
    /// A note of these members.
    pub fn new(title: Option<&str>, body: Option<&str>) -> Result<Note, NoteError> {
        Fields { id: None, title: title.map(str::to_owned), body: body.map(str::to_owned) }.encode()
    }

    /// Its title, where it has one.
    pub fn title(&self) -> Option<String> {
        self.fields().title
    }

    /// Its body, where it has one.
    pub fn body(&self) -> Option<String> {
        self.fields().body
    }

    fn fields(&self) -> Fields {
        serde_json::from_str(self.as_str()).expect("a note's text is a note's JSON")
    }

    /// Reads the body of a POST: an object with exactly the strings `title` and `body`.
    pub fn from_post(body: &[u8]) -> Result<Note, NoteError> {
        let Object(fields) = serde_json::from_slice::<Object<Fields>>(body)?;
        if fields.id.is_some() {
            return Err(NoteError::UnwantedId);
        }
        if fields.title.is_none() {
            return Err(NoteError::Missing("title"));
        }
        if fields.body.is_none() {
            return Err(NoteError::Missing("body"));
        }
        fields.encode()
    }

    /// Reads the body of a PUT to `id`: the whole note as it shall be; members left out will be gone.
    pub fn from_put(id: NoteId, body: &[u8]) -> Result<Note, NoteError> {
        let Object(fields) = serde_json::from_slice::<Object<Fields>>(body)?;
        check_id(id, fields.id)?;
        fields.encode()
    }

    /// Takes a note that a peer sent or a file holds: checks the shape, and makes it canonical.
    pub fn from_stored(text: &str) -> Result<Note, NoteError> {
        serde_json::from_str::<Object<Fields>>(text)?.0.encode()
    }

    /// Takes text that [`Note::as_str`] gave and a checksum has kept as it was. Its syntax is checked, as safe Rust asks,
    /// but not its shape, and nothing is encoded anew: a third of the work of [`Note::from_stored`].
    pub fn from_canonical(text: &str) -> Result<Note, NoteError> {
        let raw: &RawValue = serde_json::from_str(text)?;
        match text.len() {
            length if length > NOTE_BYTES_MAX => Err(NoteError::TooLarge(length)),
            _ => Ok(Note(raw.to_owned().into())),
        }
    }

    /// This note's compact JSON, without its id: `{"title":"…","body":"…"}`.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Appends the note as clients see it: `{"id":1,"title":"…","body":"…"}`.
    pub fn write_with_id(&self, id: NoteId, out: &mut Vec<u8>) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{{\"id\":{id}");
        let members = &self.as_str().as_bytes()[1..];
        if members != b"}" {
            out.push(b',');
        }
        out.extend_from_slice(members);
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Note {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Note {}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Note {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::<Fields>::deserialize(deserializer)?.0.encode().map_err(D::Error::custom)
    }
}

/// A JSON merge patch (RFC 7396) to a note: a member's new string, or null to remove it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    #[serde(default, skip_serializing, deserialize_with = "not_null")]
    id: Option<NoteId>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    title: Option<Option<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    body: Option<Option<String>>,
}

impl Patch {
    /// The same, and a new title; none removes it.
    pub fn title(mut self, new: Option<&str>) -> Patch {
        self.title = Some(new.map(str::to_owned));
        self
    }

    /// The same, and a new body; none removes it.
    pub fn body(mut self, new: Option<&str>) -> Patch {
        self.body = Some(new.map(str::to_owned));
        self
    }

    /// Reads the body of a PATCH to `id`.
    pub fn parse(id: NoteId, body: &[u8]) -> Result<Patch, NoteError> {
        let Object(mut patch) = serde_json::from_slice::<Object<Patch>>(body)?;
        check_id(id, patch.id.take())?;
        Ok(patch)
    }

    /// About how many bytes of memory its strings take.
    pub fn bytes(&self) -> usize {
        let length = |member: &Option<Option<String>>| member.iter().flatten().map(String::len).sum::<usize>();
        length(&self.title) + length(&self.body)
    }

    /// The patch as compact JSON, `title` before `body`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a patch has string keys and values, so writing it to memory succeeds")
    }

    /// The note that `note` becomes by this patch (RFC 7396 section 2).
    pub fn apply(&self, note: &Note) -> Result<Note, NoteError> {
        let mut fields: Fields = serde_json::from_str(note.as_str())?;
        if let Some(title) = &self.title {
            fields.title.clone_from(title);
        }
        if let Some(body) = &self.body {
            fields.body.clone_from(body);
        }
        fields.encode()
    }
}

/// A member that is there, be it null: serde's own Option would take null for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn check_id(expected: NoteId, found: Option<NoteId>) -> Result<(), NoteError> {
    match found {
        Some(found) if found != expected => Err(NoteError::OtherId { expected, found }),
        _ => Ok(()),
    }
}

/// The members of a note's object as they come in.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing, deserialize_with = "not_null")]
    id: Option<NoteId>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    body: Option<String>,
}

/// What serde derives for a struct reads arrays too, as the members in order. A note is an object.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A member that may be left out, but not be null.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Fields {
    fn encode(&self) -> Result<Note, NoteError> {
        let raw = serde_json::value::to_raw_value(self).map_err(NoteError::from)?;
        match raw.get().len() {
            length if length > NOTE_BYTES_MAX => Err(NoteError::TooLarge(length)),
            _ => Ok(Note(raw.into())),
        }
    }
}

#[cfg(test)]
mod tests;
