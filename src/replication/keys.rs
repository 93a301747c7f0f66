//! The table of idempotency keys (K1 to K3).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use super::replica::Replica;
use crate::note::NoteId;
use crate::protocol::record::{Fingerprint, KeyEntry};
use crate::protocol::request::{Code, Done, Failure, Key, Operation, Write};

/// Most entries in the table: about 30 MB, and hours of retries at any rate at which clients use keys.
pub(super) const KEYS_MAX: usize = 100_000;

/// An entry this much older than the newest one is dropped, in ms: 24 hours.
pub(super) const KEY_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// What the table says of a write's key.
pub(super) enum Lookup {
    /// It was not used.
    New,
    /// It was used for the same request, which was answered this.
    Done(Done),
    /// It was used for another request.
    Reused(Failure),
}

/// The table. Which entries it keeps is a function of the set of those put in, whatever their order, so that the tables
/// of all replicas converge (K3).
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: BTreeMap<(Key, NoteId), KeyEntry>,
    by_time: BTreeSet<(u64, NoteId, Key)>,
    /// The entries of each written note, to report those that are pending with it (V7).
    by_note: BTreeMap<NoteId, BTreeSet<(Key, NoteId)>>,
}

impl Keys {
    /// The table that a store held.
    pub(super) fn from_store(entries: impl IntoIterator<Item = KeyEntry>) -> Keys {
        let mut keys = Keys::default();
        entries.into_iter().for_each(|entry| keys.insert(entry));
        keys
    }

    /// Puts an entry in, and drops what no longer fits.
    pub(super) fn insert(&mut self, entry: KeyEntry) {
        let name = (entry.key.clone(), entry.item);
        if let Some(before) = self.by_key.get(&name) {
            if before.time >= entry.time {
                return;
            }
            self.remove(&name);
        }
        self.by_time.insert((entry.time, entry.item, entry.key.clone()));
        self.by_note.entry(entry.done.id).or_default().insert(name.clone());
        self.by_key.insert(name, entry);
        self.drop_surplus();
    }

    fn drop_surplus(&mut self) {
        let newest = self.by_time.last().map_or(0, |(time, ..)| *time);
        while let Some((time, item, key)) = self.by_time.first()
            && (self.by_time.len() > KEYS_MAX || newest - time > KEY_AGE_MS_MAX)
        {
            let name = (key.clone(), *item);
            self.remove(&name);
        }
    }

    fn remove(&mut self, name: &(Key, NoteId)) {
        let Some(entry) = self.by_key.remove(name) else { return };
        self.by_time.remove(&(entry.time, entry.item, entry.key));
        if let Some(names) = self.by_note.get_mut(&entry.done.id) {
            names.remove(name);
            if names.is_empty() {
                self.by_note.remove(&entry.done.id);
            }
        }
    }

    /// The entries after this one, by time, item and key.
    pub(super) fn after(&self, last: Option<&(u64, NoteId, Key)>) -> impl Iterator<Item = &KeyEntry> {
        let from = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let names = self.by_time.range((from, Bound::Unbounded));
        names.filter_map(|(_, item, key)| self.by_key.get(&(key.clone(), *item)))
    }

    /// The entries whose request wrote this note.
    pub(super) fn of_note(&self, note: NoteId) -> impl Iterator<Item = &KeyEntry> {
        self.by_note.get(&note).into_iter().flatten().filter_map(|name| self.by_key.get(name))
    }

    /// K2: what is known of a write's key; also under another item than the write's.
    pub(super) fn look_up(&self, key: &Key, write: &Write) -> Lookup {
        let item = write.operation.item();
        match self.by_key.get(&(key.clone(), item)) {
            Some(entry) if entry.sha256 == fingerprint(write) => Lookup::Done(entry.done),
            Some(_) => Lookup::Reused(reused(key)),
            None => {
                let all_items =
                    (Bound::Included((key.clone(), NoteId(0))), Bound::Included((key.clone(), NoteId(u64::MAX))));
                match self.by_key.range(all_items).next() {
                    Some(_) => Lookup::Reused(reused(key)),
                    None => Lookup::New,
                }
            }
        }
    }

    /// The time of the newest entry, in ms since 1970.
    fn newest_time(&self) -> u64 {
        self.by_time.last().map_or(0, |(time, ..)| *time)
    }
}

fn reused(key: &Key) -> Failure {
    let msg =
        format!("the idempotency key `{}` was used for another request; take a new key for each request", key.as_str());
    Failure::new(Code::KeyReused, msg)
}

/// K3: SHA-256 of verb, id, If-Match and the compact JSON of the body, each on a line.
pub(super) fn fingerprint(write: &Write) -> Fingerprint {
    let (verb, body) = match &write.operation {
        Operation::Post { note } => ("POST", note.as_str().to_owned()),
        Operation::Put { note, .. } => ("PUT", note.as_str().to_owned()),
        Operation::Patch { patch, .. } => ("PATCH", patch.to_json()),
        Operation::Delete { .. } => ("DELETE", String::new()),
    };
    let if_match = write
        .if_match
        .as_ref()
        .map_or_else(String::new, |versions| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let has_if_match = write.if_match.is_some();
    let text = format!("{verb}\n{}\n{has_if_match} {if_match}\n{body}", write.operation.item());
    Fingerprint(Sha256::digest(text).into())
}

impl Replica {
    /// The entry to be made with a write's record, where the write has a key. Its time is the wall clock's, and at least
    /// one more than the last (K3).
    pub(super) fn key_entry(&self, write: &Write, done: Done) -> Option<KeyEntry> {
        let key = write.key.clone()?;
        let time = self.now.wall_ms.max(self.keys.newest_time() + 1);
        Some(KeyEntry { item: write.operation.item(), key, sha256: fingerprint(write), done, time })
    }
}
