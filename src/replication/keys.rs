//! The table of idempotency keys (K1 to K3).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use super::replica::Replica;
use crate::note::NoteId;
use crate::protocol::record::{Fingerprint, KEY_AGE_MS_MAX, KEYS_MAX, KeyEntry};
use crate::protocol::request::{Code, Done, Failure, Key, Operation, Write};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Note, Patch};
    use crate::protocol::ids::{Epoch, Version};

    fn key(text: &str) -> Key {
        Key::try_from(text).unwrap()
    }

    fn entry(name: &str, item: u64, time: u64) -> KeyEntry {
        let done = Done { id: NoteId(item.max(1)), version: Version { epoch: Epoch(1), counter: time } };
        KeyEntry { item: NoteId(item), key: key(name), sha256: Fingerprint([0; 32]), done, time }
    }

    fn put(id: u64, body: &str) -> Write {
        let id = NoteId(id);
        let operation = Operation::Put { id, note: Note::from_put(id, body.as_bytes()).unwrap() };
        Write { operation, key: None, if_match: None }
    }

    /// The names of all entries, oldest first, and a check that the three views of the table agree.
    fn names(keys: &Keys) -> Vec<String> {
        let by_note: usize = keys.by_note.values().map(BTreeSet::len).sum();
        assert_eq!((keys.by_key.len(), by_note), (keys.by_time.len(), keys.by_time.len()));
        keys.after(None).map(|entry| format!("{}@{}", entry.key.as_str(), entry.time)).collect()
    }

    #[test]
    fn the_table_keeps_the_newest_entries_up_to_its_bound() {
        let mut keys = Keys::default();
        (0..=KEYS_MAX as u64).for_each(|time| keys.insert(entry(&format!("k{time}"), 1, time)));
        assert_eq!(keys.by_time.len(), KEYS_MAX);
        assert_eq!(keys.by_time.first().unwrap().0, 1, "the oldest went");
        keys.insert(entry("late", 1, 0));
        assert_eq!(
            (keys.by_time.len(), keys.by_time.first().unwrap().0),
            (KEYS_MAX, 1),
            "one that is older still goes at once"
        );
    }

    #[test]
    fn entries_far_older_than_the_newest_go() {
        let mut keys = Keys::from_store([entry("a", 1, 1), entry("b", 2, 2)]);
        keys.insert(entry("c", 3, 1 + KEY_AGE_MS_MAX));
        assert_eq!(names(&keys).len(), 3, "24 hours are not too old");
        keys.insert(entry("d", 4, 2 + KEY_AGE_MS_MAX));
        assert_eq!(names(&keys), ["b@2", "c@86400001", "d@86400002"]);
        keys.insert(entry("e", 5, 1));
        assert_eq!(names(&keys).len(), 3);
    }

    #[test]
    fn what_the_table_keeps_does_not_depend_on_the_order() {
        let entries = [
            entry("a", 1, 5),
            entry("a", 1, 9),
            entry("a", 2, 7),
            entry("b", 1, 5),
            entry("c", 0, 6 + KEY_AGE_MS_MAX),
            entry("d", 0, 8 + KEY_AGE_MS_MAX),
        ];
        let expected = names(&Keys::from_store(entries.clone()));
        assert_eq!(expected, ["a@9", "c@86400006", "d@86400008"]);
        for turn in 0..entries.len() {
            let mut turned = entries.clone();
            turned.rotate_left(turn);
            assert_eq!(names(&Keys::from_store(turned.clone())), expected, "turned by {turn}");
            turned.reverse();
            assert_eq!(names(&Keys::from_store(turned)), expected, "turned by {turn} and reversed");
        }
    }

    #[test]
    fn a_key_is_known_for_its_request_and_for_no_other() {
        let write = put(1, r#"{"title":"a"}"#);
        let known = KeyEntry { sha256: fingerprint(&write), ..entry("k", 1, 7) };
        let keys = Keys::from_store([known.clone()]);
        assert!(matches!(keys.look_up(&key("k"), &write), Lookup::Done(done) if done == known.done));
        assert!(matches!(keys.look_up(&key("K"), &write), Lookup::New), "case counts");
        assert!(matches!(keys.look_up(&key("k"), &put(1, r#"{"title":"b"}"#)), Lookup::Reused(_)));
        assert!(
            matches!(keys.look_up(&key("k"), &put(2, r#"{"title":"a"}"#)), Lookup::Reused(_)),
            "under another item"
        );
    }

    #[test]
    fn entries_are_found_by_the_note_that_was_written() {
        let posted = KeyEntry { done: Done { id: NoteId(7), ..entry("p", 0, 1).done }, ..entry("p", 0, 1) };
        let keys = Keys::from_store([posted, entry("q", 7, 2), entry("r", 8, 3)]);
        let found: Vec<_> = keys.of_note(NoteId(7)).map(|entry| entry.key.as_str()).collect();
        assert_eq!(found, ["p", "q"]);
    }

    /// Every part of a request counts, and how its JSON was written does not.
    #[test]
    fn fingerprints_tell_requests_apart() {
        let with = |operation| Write { operation, key: None, if_match: None };
        let version = |counter| Version { epoch: Epoch(1), counter };
        let base = put(1, r#"{"title":"a"}"#);
        let note = || Note::from_put(NoteId(1), br#"{"title":"a"}"#).unwrap();
        let patch = Patch::parse(NoteId(1), br#"{"title":"a"}"#).unwrap();
        let all = [
            base.clone(),
            put(2, r#"{"title":"a"}"#),
            put(1, r#"{"title":"b"}"#),
            put(1, r#"{"body":"a"}"#),
            with(Operation::Post { note: note() }),
            with(Operation::Patch { id: NoteId(1), patch }),
            with(Operation::Delete { id: NoteId(1) }),
            Write { if_match: Some(vec![]), ..base.clone() },
            Write { if_match: Some(vec![version(1)]), ..base.clone() },
            Write { if_match: Some(vec![version(1), version(2)]), ..base.clone() },
        ];
        for (at, write) in all.iter().enumerate() {
            let same = all.iter().position(|other| fingerprint(other) == fingerprint(write));
            assert_eq!(same, Some(at), "{write:?}");
        }
        assert_eq!(fingerprint(&put(1, r#"{ "id": 1, "title": "\u0061" }"#)), fingerprint(&base));
        assert_eq!(fingerprint(&Write { key: Some(key("k")), ..base.clone() }), fingerprint(&base));
    }
}
