//! Records: what a replica keeps of each item, on the wire and on disk.

use serde::{Deserialize, Serialize};

use super::ids::{ReplicaId, Version};
use super::request::{Done, Key};
use crate::note::{Note, NoteId};

/// Most entries in the table of keys (K3): about 30 MB, and hours of retries at any rate at which clients use keys.
pub const KEYS_MAX: usize = 100_000;

/// An entry this much older than the newest one is dropped, in ms: 24 hours.
pub const KEY_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The state of one item at one version. Equal item and version is equal content (invariant 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct Record {
    /// The item.
    pub id: NoteId,
    /// Larger than that of every record of the item before.
    pub version: Version,
    /// The version whose write made this content; a hand-over copies it. ETags show it.
    pub written: Version,
    /// The item's primary in local-write, while it is in sync.
    pub primary: ReplicaId,
    /// The content.
    pub value: Value,
}

impl Record {
    /// Bytes of its note's JSON, 0 where it holds none.
    pub fn note_bytes(&self) -> usize {
        match &self.value {
            Value::Note(note) => note.as_str().len(),
            Value::Deleted | Value::Next(_) => 0,
        }
    }
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A note.
    Note(Note),
    /// The note was deleted; kept until the deletion is committed (W6).
    Deleted,
    /// Of the id sequence: the id that the next POST gives.
    Next(NoteId),
}

/// A record as JSON has it: `{"id","version","written","primary"}` and one of `note`, `deleted`, `next`.
#[derive(Serialize, Deserialize)]
struct Flat {
    id: NoteId,
    version: Version,
    written: Version,
    primary: ReplicaId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Note>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<NoteId>,
}

/// A record whose members contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("the record of item {0} must have `next` where it is item 0, else either `note` or `deleted`")]
struct Contradiction(NoteId);

impl TryFrom<Flat> for Record {
    type Error = Contradiction;

    fn try_from(flat: Flat) -> Result<Record, Contradiction> {
        let value = match (flat.note, flat.deleted, flat.next) {
            (Some(note), false, None) if !flat.id.is_sequence() => Value::Note(note),
            (None, true, None) if !flat.id.is_sequence() => Value::Deleted,
            (None, false, Some(next)) if flat.id.is_sequence() => Value::Next(next),
            _ => return Err(Contradiction(flat.id)),
        };
        let Flat { id, version, written, primary, .. } = flat;
        Ok(Record { id, version, written, primary, value })
    }
}

impl From<Record> for Flat {
    fn from(record: Record) -> Flat {
        let Record { id, version, written, primary, value } = record;
        let (note, deleted, next) = match value {
            Value::Note(note) => (Some(note), false, None),
            Value::Deleted => (None, true, None),
            Value::Next(next) => (None, false, Some(next)),
        };
        Flat { id, version, written, primary, note, deleted, next }
    }
}

/// A row of the table of idempotency keys (K1): under this key, this request took effect on this item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The item that the write addressed; POST's is 0.
    pub item: NoteId,
    /// The client's key.
    pub key: Key,
    /// Which request it was.
    pub sha256: Fingerprint,
    /// What the client was answered.
    pub done: Done,
    /// Wall-clock ms since 1970 at the item's primary, at least one more than its last.
    pub time: u64,
}

super::hex::hex_bytes!(
    /// SHA-256 of a request.
    #[derive(Clone, Copy, PartialEq, Eq)]
    Fingerprint
);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Record, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn the_three_kinds_of_records_survive_a_trip_as_json() {
        let records = [
            r#"{"id":1,"version":[2,3],"written":[1,3],"primary":1,"note":{"title":"a","body":"b"}}"#,
            r#"{"id":1,"version":[1,4],"written":[1,4],"primary":0,"deleted":true}"#,
            r#"{"id":0,"version":[1,1],"written":[1,1],"primary":2,"next":2}"#,
        ];
        for json in records {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn a_record_that_contradicts_itself_is_refused() {
        let head = r#""version":[1,1],"written":[1,1],"primary":0"#;
        let cases = [
            format!(r#"{{"id":1,{head}}}"#),
            format!(r#"{{"id":1,{head},"deleted":false}}"#),
            format!(r#"{{"id":1,{head},"next":2}}"#),
            format!(r#"{{"id":1,{head},"note":{{}},"deleted":true}}"#),
            format!(r#"{{"id":1,{head},"note":{{}},"next":2}}"#),
            format!(r#"{{"id":0,{head}}}"#),
            format!(r#"{{"id":0,{head},"note":{{}}}}"#),
            format!(r#"{{"id":0,{head},"deleted":true}}"#),
            format!(r#"{{"id":0,{head},"next":2,"deleted":true}}"#),
        ];
        for json in cases {
            let said = read(&json).unwrap_err().to_string();
            assert!(
                said.contains("must have `next` where it is item 0, else either `note` or `deleted`"),
                "{json}: {said}"
            );
        }
    }

    #[test]
    fn a_note_in_a_record_is_checked_like_a_clients() {
        let with = |note| read(&format!(r#"{{"id":1,"version":[1,1],"written":[1,1],"primary":0,"note":{note}}}"#));
        assert!(with(r#"{"title":"a"}"#).is_ok());
        for note in ["[]", "7", r#"{"title":7}"#, r#"{"colour":"red"}"#] {
            assert!(with(note).is_err(), "{note}");
        }
    }

    #[test]
    fn a_fingerprint_is_64_hex_digits() {
        let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert!(json.starts_with("\"000102030405") && json.len() == 66, "{json}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        for bad in ["\"00\"".to_owned(), json.replace("00", "0g"), json.replace("00", "000"), json.replace("00", "+0")]
        {
            assert!(serde_json::from_str::<Fingerprint>(&bad).is_err(), "{bad}");
        }
    }
}
