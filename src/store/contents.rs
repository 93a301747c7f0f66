//! What a store holds, put together from its entries in the order in which they were written.

use std::collections::BTreeMap;

use super::entry::{Entry, put_key, put_record};
use crate::note::NoteId;
use crate::protocol::record::{KEY_AGE_MS_MAX, KEYS_MAX, KeyEntry, Record};
use crate::protocol::request::Key;

/// The newest record of each item, and the table of keys.
#[derive(Debug, Default)]
pub(super) struct Contents {
    records: BTreeMap<NoteId, Record>,
    keys: BTreeMap<(Key, NoteId), KeyEntry>,
}

/// About how much a store holds, to tell when a snapshot is worth its while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) items: u64,
    pub(super) bytes: u64,
}

impl Live {
    /// An item went. How long it was nobody remembers; taking the mean keeps the folder within its bound when notes are
    /// deleted faster than snapshots come.
    pub(super) fn forget(&mut self) {
        self.bytes -= self.bytes / self.items.max(1);
        self.items = self.items.saturating_sub(1);
    }
}

impl Contents {
    /// Takes the next entry. Of an item the largest version counts, since a snapshot may hold a later one than the
    /// journal behind it begins with.
    pub(super) fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Record(record) => match self.records.get_mut(&record.id) {
                Some(before) if before.version >= record.version => {}
                Some(before) => *before = record,
                None => _ = self.records.insert(record.id, record),
            },
            Entry::Forget(id) => _ = self.records.remove(&id),
            Entry::Key(entry) => self.take_key(entry),
        }
    }

    fn take_key(&mut self, entry: KeyEntry) {
        let name = (entry.key.clone(), entry.item);
        if self.keys.get(&name).is_none_or(|before| before.time < entry.time) {
            self.keys.insert(name, entry);
        }
        // Now and then, so that a long journal costs little memory, and sorting little time.
        if self.keys.len() >= 2 * KEYS_MAX {
            self.drop_surplus_keys();
        }
    }

    /// K3: keeps the entries largest by (time, item, key), and none that is too old.
    fn drop_surplus_keys(&mut self) {
        let mut keys: Vec<KeyEntry> = std::mem::take(&mut self.keys).into_values().collect();
        keys.sort_unstable_by(|a, b| (b.time, b.item, &b.key).cmp(&(a.time, a.item, &a.key)));
        let newest = keys.first().map_or(0, |entry| entry.time);
        keys.truncate(KEYS_MAX);
        keys.retain(|entry| newest - entry.time <= KEY_AGE_MS_MAX);
        self.keys = keys.into_iter().map(|entry| ((entry.key.clone(), entry.item), entry)).collect();
    }

    /// All that was found.
    pub(super) fn finish(mut self) -> (BTreeMap<NoteId, Record>, Vec<KeyEntry>, Live) {
        self.drop_surplus_keys();
        let (mut buffer, mut bytes) = (Vec::new(), 0);
        for record in self.records.values() {
            buffer.clear();
            put_record(&mut buffer, record);
            bytes += buffer.len() as u64;
        }
        for entry in self.keys.values() {
            buffer.clear();
            put_key(&mut buffer, entry);
            bytes += buffer.len() as u64;
        }
        let live = Live { items: self.records.len() as u64, bytes };
        (self.records, self.keys.into_values().collect(), live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Epoch, Version};
    use crate::protocol::record::Fingerprint;
    use crate::protocol::request::Done;

    fn key(name: &str, time: u64) -> KeyEntry {
        let done = Done { id: NoteId(1), version: Version { epoch: Epoch(1), counter: 1 } };
        KeyEntry { item: NoteId(0), key: Key::try_from(name).unwrap(), sha256: Fingerprint([0; 32]), done, time }
    }

    #[test]
    fn keys_older_than_a_day_go_and_of_one_name_the_newest_stays() {
        let mut contents = Contents::default();
        for entry in [key("a", 10), key("a", 5), key("old", 9), key("b", 10 + KEY_AGE_MS_MAX)] {
            contents.take(Entry::Key(entry));
        }
        let (_, keys, _) = contents.finish();
        let kept: Vec<(&str, u64)> = keys.iter().map(|entry| (entry.key.as_str(), entry.time)).collect();
        assert_eq!(kept, [("a", 10), ("b", 10 + KEY_AGE_MS_MAX)]);
    }

    #[test]
    fn of_too_many_keys_the_newest_stay() {
        let mut contents = Contents::default();
        let count = 2 * KEYS_MAX + 7;
        (0..count).for_each(|n| contents.take(Entry::Key(key(&format!("k{n}"), n as u64))));
        let (_, keys, _) = contents.finish();
        assert_eq!(keys.len(), KEYS_MAX);
        assert_eq!(keys.iter().map(|entry| entry.time).min(), Some((count - KEYS_MAX) as u64));
    }
}
