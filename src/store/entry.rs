//! What batches and snapshots of records are made of, as bytes. Pure.
//!
//! Numbers are little-endian base 128 (as in protobuf), so that a record costs about 12 bytes more than its note's text.

use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, REPLICAS_MAX, ReplicaId, Version};
use crate::protocol::record::{Fingerprint, KeyEntry, Record, Value};
use crate::protocol::request::{Done, Key};

/// One thing that is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Record(Record),
    Key(KeyEntry),
    /// A deletion that need not be kept.
    Forget(NoteId),
}

const NOTE: u8 = 1;
const DELETED: u8 = 2;
const NEXT: u8 = 3;
const KEY: u8 = 4;
const FORGET: u8 = 5;

pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    let tag = match &record.value {
        Value::Note(_) => NOTE,
        Value::Deleted => DELETED,
        Value::Next(_) => NEXT,
    };
    out.push(tag);
    put_number(out, record.id.0);
    put_version(out, record.version);
    put_version(out, record.written);
    out.push(record.primary.0);
    match &record.value {
        Value::Note(note) => {
            let text = note.as_str().as_bytes();
            put_number(out, text.len() as u64);
            out.extend_from_slice(text);
        }
        Value::Next(id) => put_number(out, id.0),
        Value::Deleted => {}
    }
}

pub(super) fn put_key(out: &mut Vec<u8>, entry: &KeyEntry) {
    out.push(KEY);
    put_number(out, entry.item.0);
    let key = entry.key.as_str().as_bytes();
    put_number(out, key.len() as u64);
    out.extend_from_slice(key);
    out.extend_from_slice(&entry.sha256.0);
    put_number(out, entry.done.id.0);
    put_version(out, entry.done.version);
    put_number(out, entry.time);
}

pub(super) fn put_forget(out: &mut Vec<u8>, id: NoteId) {
    out.push(FORGET);
    put_number(out, id.0);
}

fn put_version(out: &mut Vec<u8>, version: Version) {
    put_number(out, version.epoch.0);
    put_number(out, version.counter);
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads all entries of a payload. An error means that this program wrote something else than it reads, since the
/// payload's checksum was right.
pub(super) fn read_all(payload: &[u8], take: &mut dyn FnMut(Entry)) -> Result<(), String> {
    let mut bytes = Bytes(payload);
    while !bytes.0.is_empty() {
        let at = payload.len() - bytes.0.len();
        let entry = bytes.entry().ok_or_else(|| format!("its content is unreadable {at} bytes into the frame"))?;
        take(entry);
    }
    Ok(())
}

/// The bytes that are not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn entry(&mut self) -> Option<Entry> {
        match self.byte()? {
            KEY => self.key().map(Entry::Key),
            FORGET => Some(Entry::Forget(self.id()?)),
            tag => self.record(tag).map(Entry::Record),
        }
    }

    fn record(&mut self, tag: u8) -> Option<Record> {
        let id = self.id()?;
        let (version, written) = (self.version()?, self.version()?);
        let primary = ReplicaId(self.byte().filter(|place| usize::from(*place) < REPLICAS_MAX)?);
        let value = match tag {
            NOTE => {
                let length = self.length()?;
                let text = std::str::from_utf8(self.bytes(length)?).ok()?;
                Value::Note(Note::from_canonical(text).ok()?)
            }
            DELETED => Value::Deleted,
            NEXT => Value::Next(self.id()?),
            _ => return None,
        };
        Some(Record { id, version, written, primary, value })
    }

    fn key(&mut self) -> Option<KeyEntry> {
        let item = self.id()?;
        let length = self.length()?;
        let key = Key::try_from(std::str::from_utf8(self.bytes(length)?).ok()?).ok()?;
        let sha256 = Fingerprint(*self.bytes(32)?.first_chunk()?);
        let done = Done { id: self.id()?, version: self.version()? };
        Some(KeyEntry { item, key, sha256, done, time: self.number()? })
    }

    fn version(&mut self) -> Option<Version> {
        Some(Version { epoch: Epoch(self.number()?), counter: self.number()? })
    }

    fn id(&mut self) -> Option<NoteId> {
        self.number().map(NoteId)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u64, counter: u64) -> Version {
        Version { epoch: Epoch(epoch), counter }
    }

    fn record(id: u64, value: Value) -> Record {
        Record {
            id: NoteId(id),
            version: version(3, u64::MAX),
            written: version(2, 127),
            primary: ReplicaId(15),
            value,
        }
    }

    fn all() -> Vec<Entry> {
        let note = Note::from_post("{\"title\":\"ä\\n\",\"body\":\"b\"}".as_bytes()).unwrap();
        let key = KeyEntry {
            item: NoteId(0),
            key: Key::try_from("k-1").unwrap(),
            sha256: Fingerprint([0xFE; 32]),
            done: Done { id: NoteId(128), version: version(1, 2) },
            time: 1_700_000_000_000,
        };
        vec![
            Entry::Record(record(1, Value::Note(note))),
            Entry::Record(record(u64::MAX, Value::Deleted)),
            Entry::Record(record(0, Value::Next(NoteId(129)))),
            Entry::Key(key),
            Entry::Forget(NoteId(5)),
        ]
    }

    fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in entries {
            match entry {
                Entry::Record(record) => put_record(&mut out, record),
                Entry::Key(entry) => put_key(&mut out, entry),
                Entry::Forget(id) => put_forget(&mut out, *id),
            }
        }
        out
    }

    #[test]
    fn what_was_put_is_read() {
        let mut read = Vec::new();
        read_all(&encode(&all()), &mut |entry| read.push(entry)).unwrap();
        assert_eq!(read, all());
    }

    #[test]
    fn bytes_cut_anywhere_are_refused_and_never_panic() {
        for entry in all() {
            let bytes = encode(std::slice::from_ref(&entry));
            for at in 1..bytes.len() {
                assert!(read_all(&bytes[..at], &mut |_| ()).is_err(), "{entry:?} cut at {at}");
            }
        }
        let endless = [FORGET, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert!(read_all(&endless, &mut |_| ()).is_err());
        assert!(read_all(&[99, 1], &mut |_| ()).is_err());
    }
}
