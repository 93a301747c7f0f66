//! Requests as frames.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};

use crate::note::NoteId;
use crate::protocol::client;
use crate::protocol::codec::{self, LENGTH_BYTES};
use crate::protocol::ids::Version;
use crate::protocol::port::Call;
use crate::protocol::request::{Operation, Page, Request, Write};

/// A request's JSON, to which each attempt adds its `seq`. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    json: Bytes,
    /// Where `seq` goes: behind `type`.
    at: usize,
}

impl Asking {
    pub(super) fn new(call: &Call) -> Asking {
        let mut json = Vec::with_capacity(192);
        let at = write_call(&mut json, call);
        Asking { json: json.into(), at }
    }

    /// Appends the frame with this `seq`.
    pub(super) fn write_frame(&self, out: &mut Vec<u8>, seq: u64) {
        let at = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        out.extend_from_slice(&self.json[..self.at]);
        put(out, format_args!(",\"seq\":{seq}"));
        out.extend_from_slice(&self.json[self.at..]);
        let length = u32::try_from(out.len() - at - LENGTH_BYTES).expect("a note is bounded far below 4 GiB");
        out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}

/// The frame that shows a token.
pub(super) fn frame_of_token(token: &str) -> BytesMut {
    let mut frame = BytesMut::new();
    codec::frame(&client::auth(token), &mut frame);
    frame
}

/// The frame of a request: its length, and its JSON with this `seq`, in the canonical form of protocol.md.
///
/// ```
/// use primacy::client::frame_of;
/// use primacy::protocol::port::Call;
///
/// assert_eq!(frame_of(&Call::Ping, 7), b"\0\0\0\x17{\"type\":\"ping\",\"seq\":7}");
/// ```
pub fn frame_of(call: &Call, seq: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    Asking::new(call).write_frame(&mut frame, seq);
    frame
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes all writes");
}

/// Appends a request without `seq`; returns where `type` ends.
fn write_call(out: &mut Vec<u8>, call: &Call) -> usize {
    let word = match call {
        Call::Ping => "ping",
        Call::Status => "status",
        Call::Note(Request::Get(_)) => "get",
        Call::Note(Request::List(_)) => "list",
        Call::Note(Request::Write(write)) => match write.operation {
            Operation::Post { .. } => "post",
            Operation::Put { .. } => "put",
            Operation::Patch { .. } => "patch",
            Operation::Delete { .. } => "delete",
        },
    };
    put(out, format_args!("{{\"type\":\"{word}\""));
    let at = out.len();
    match call {
        Call::Ping | Call::Status => {}
        Call::Note(Request::Get(id)) => write_id(out, *id),
        Call::Note(Request::List(Page { after, limit, .. })) => {
            put(out, format_args!(",\"limit\":{limit},\"after\":{after}"));
        }
        Call::Note(Request::Write(write)) => write_write(out, write),
    }
    out.push(b'}');
    at
}

fn write_write(out: &mut Vec<u8>, write: &Write) {
    let member = |out: &mut Vec<u8>, name: &str, json: &str| put(out, format_args!(",\"{name}\":{json}"));
    match &write.operation {
        Operation::Post { note } => member(out, "note", note.as_str()),
        Operation::Put { id, note } => {
            write_id(out, *id);
            member(out, "note", note.as_str());
        }
        Operation::Patch { id, patch } => {
            write_id(out, *id);
            member(out, "patch", &patch.to_json());
        }
        Operation::Delete { id } => write_id(out, *id),
    }
    if let Some(key) = &write.key {
        // Visible ASCII may still hold quotes and backslashes.
        member(out, "key", &serde_json::Value::from(key.as_str()).to_string());
    }
    match write.if_match.as_deref() {
        None => {}
        Some([one]) => {
            out.extend_from_slice(b",\"if_match\":");
            write_version(out, *one);
        }
        Some(some) => {
            out.extend_from_slice(b",\"if_match\":[");
            for (place, version) in some.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_version(out, *version);
            }
            out.push(b']');
        }
    }
}

fn write_id(out: &mut Vec<u8>, id: NoteId) {
    put(out, format_args!(",\"id\":{id}"));
}

fn write_version(out: &mut Vec<u8>, version: Version) {
    put(out, format_args!("[{},{}]", version.epoch, version.counter));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Note, Patch};
    use crate::protocol::client::{LIST_BYTES_MAX, Wanted, parse};
    use crate::protocol::ids::Epoch;
    use crate::protocol::request::Key;

    #[test]
    fn a_replica_understands_what_was_meant() {
        let (id, note) = (NoteId(u64::MAX), Note::new(Some("ä\"\n"), None).unwrap());
        let version = |counter| Version { epoch: Epoch(3), counter };
        let keys = [None, Some(Key::try_from("a\"\\b").unwrap())];
        let conditions = [None, Some(vec![]), Some(vec![version(1)]), Some(vec![version(1), version(2)])];
        let mut calls = vec![Call::Ping, Call::Status, Call::Note(Request::Get(id))];
        calls.push(Call::Note(Request::List(Page { after: NoteId(9), limit: 7, bytes_max: LIST_BYTES_MAX })));
        let post = Operation::Post { note: Note::new(Some("a"), Some("b")).unwrap() };
        calls.push(Call::Note(Request::Write(Write { operation: post, key: None, if_match: None })));
        for (key, if_match) in keys.iter().flat_map(|key| conditions.iter().map(move |some| (key, some))) {
            for operation in [
                Operation::Put { id, note: note.clone() },
                Operation::Patch { id, patch: Patch::default().title(None).body(Some("c")) },
                Operation::Delete { id },
            ] {
                let write = Write { operation, key: key.clone(), if_match: if_match.clone() };
                calls.push(Call::Note(Request::Write(write)));
            }
        }
        for (seq, call) in calls.into_iter().enumerate() {
            let frame = frame_of(&call, seq as u64);
            let (length, json) = frame.split_first_chunk::<LENGTH_BYTES>().unwrap();
            assert_eq!(u32::from_be_bytes(*length) as usize, json.len());
            let asked = parse(json).unwrap_or_else(|error| panic!("{}: {error:?}", String::from_utf8_lossy(json)));
            assert_eq!((asked.seq, asked.what), (Some(seq as u64), Wanted::Call(call)));
        }
    }
}
