//! What a replica keeps of its items: the newest committed record of each, and of some a chain of pending ones.

mod pages;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use self::pages::Pages;
use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, REPLICAS_MAX, ReplicaId, RequestId, Version};
use crate::protocol::record::{Record, Value};

/// All items of a replica.
#[derive(Debug, Default)]
pub struct Items {
    /// The newest record of each item that is known to be committed. Deletions are not kept (W6).
    clean: Pages,
    /// Records that may or may not be committed. No chain is empty.
    chains: BTreeMap<NoteId, Chain>,
    /// How many clean records name each replica as the item's primary.
    owned: [u64; REPLICAS_MAX],
    /// A joiner keeps deletions, too, until it is in sync: an older record of the note may still be on its way with the
    /// copy (what broke without: 10).
    keeps_deletions: bool,
}

/// The pending records of one item, oldest first, and which requests made them. Older ones stay until they are decided,
/// so that reads end under a stream of writes (W3).
#[derive(Debug, Default)]
pub struct Chain {
    records: Vec<Pending>,
    requests: Vec<(Version, RequestId)>,
}

/// A pending record.
#[derive(Debug)]
struct Pending {
    record: Record,
    /// Whether it was handed to the store. The store keeps order, so it is durable before all that comes later.
    stored: bool,
}

impl Chain {
    /// The versions that are pending, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        self.records.iter().map(|pending| pending.record.version)
    }

    /// The requests that wrote this item and are not decided, with the versions that they wrote.
    pub fn requests(&self) -> &[(Version, RequestId)] {
        &self.requests
    }

    fn newest(&self) -> Option<&Record> {
        self.records.last().map(|pending| &pending.record)
    }

    fn newest_stored(&self) -> Option<&Record> {
        self.records.iter().rev().find(|pending| pending.stored).map(|pending| &pending.record)
    }

    fn find(&self, version: Version) -> Option<&Record> {
        self.records.iter().map(|pending| &pending.record).find(|record| record.version == version)
    }
}

impl Items {
    /// The items that a store held. Each record is pending until recovery has decided it, since nobody knows whether it
    /// was committed (what broke without: 6).
    pub fn from_store(records: impl IntoIterator<Item = Record>) -> Items {
        let mut items = Items::default();
        for record in records {
            items.keep_stored(record);
        }
        items
    }

    /// The items of a replica that begins to join: none, and deletions will be kept.
    pub fn of_joiner() -> Items {
        Items { keeps_deletions: true, ..Items::default() }
    }

    /// The joiner is in sync: committed deletions need be kept no more.
    pub fn end_joining(&mut self) {
        if std::mem::take(&mut self.keeps_deletions) {
            let deletions = self.committed_from(NoteId::SEQUENCE).filter(|record| record.value == Value::Deleted);
            let deletions: Vec<NoteId> = deletions.map(|record| record.id).collect();
            deletions.into_iter().for_each(|id| self.forget(id));
        }
    }

    /// Takes over the newest record of each item of `others` that is newer than the one here.
    pub fn absorb(&mut self, others: Items) {
        if self.clean.len() == 0 && self.chains.is_empty() {
            *self = Items { keeps_deletions: self.keeps_deletions, ..others };
            return;
        }
        let newest = others.chains.into_values().filter_map(|mut chain| chain.records.pop());
        let records = others.clean.into_records().chain(newest.map(|pending| pending.record));
        for record in records {
            if self.clean.get(record.id).is_none_or(|here| here.version < record.version) {
                self.make_clean(record);
            }
        }
    }

    /// Takes a record that is known to be committed: it decides what is older. Says whether it was news: false where
    /// this record or a later one is here.
    pub fn take_committed(&mut self, record: Record) -> bool {
        let (id, version) = (record.id, record.version);
        if self.newest(id).is_some_and(|newest| newest.version >= version) {
            self.commit(id, version);
            return false;
        }
        self.keep_stored(record);
        self.commit(id, version);
        true
    }

    /// The newest record, pending or clean.
    pub fn newest(&self, id: NoteId) -> Option<&Record> {
        self.chains.get(&id).and_then(Chain::newest).or_else(|| self.clean.get(id))
    }

    /// The newest committed record; none also where the item was deleted.
    pub fn committed(&self, id: NoteId) -> Option<&Record> {
        self.clean.get(id)
    }

    /// The newest version where it is pending.
    pub fn pending_version(&self, id: NoteId) -> Option<Version> {
        self.chains.get(&id).and_then(Chain::newest).map(|record| record.version)
    }

    /// Whether a record of this item in this version is here.
    pub fn holds(&self, id: NoteId, version: Version) -> bool {
        self.get(id, version).is_some()
    }

    /// The record of this item in this version.
    pub fn get(&self, id: NoteId, version: Version) -> Option<&Record> {
        let pending = self.chains.get(&id).and_then(|chain| chain.find(version));
        pending.or_else(|| self.clean.get(id).filter(|it| it.version == version))
    }

    /// The chains of this item and those after it, by item.
    pub fn chains_from(&self, from: NoteId) -> impl Iterator<Item = (NoteId, &Chain)> {
        self.chains.range(from..).map(|(id, chain)| (*id, chain))
    }

    /// Keeps a record as pending, in its place in the chain, in memory only. One that is here already, or is older than
    /// the clean one, changes nothing.
    pub fn keep_pending(&mut self, record: Record) {
        self.keep(record, false);
    }

    /// The same of a record that is being handed to the store.
    pub fn keep_stored(&mut self, record: Record) {
        self.keep(record, true);
    }

    fn keep(&mut self, record: Record, stored: bool) {
        if self.clean.get(record.id).is_some_and(|clean| clean.version >= record.version) {
            return;
        }
        let chain = self.chains.entry(record.id);
        // Nearly always a chain is one record, and after a start every item has one: no room for more.
        let records =
            &mut chain.or_insert_with(|| Chain { records: Vec::with_capacity(1), requests: Vec::new() }).records;
        match records.binary_search_by_key(&record.version, |it| it.record.version) {
            Ok(at) => {
                debug_assert_eq!(records[at].record, record, "equal item and version is equal content (invariant 3)");
                records[at].stored |= stored;
            }
            Err(at) => records.insert(at, Pending { record, stored }),
        }
    }

    /// The pending record of this version where it was in memory only; it counts as handed to the store from now on.
    pub fn store_now(&mut self, id: NoteId, version: Version) -> Option<Record> {
        let records = &mut self.chains.get_mut(&id)?.records;
        let pending = records.iter_mut().find(|pending| pending.record.version == version && !pending.stored)?;
        pending.stored = true;
        Some(pending.record.clone())
    }

    /// Notes that a request wrote a version of an item which is pending here.
    pub fn keep_request(&mut self, id: NoteId, version: Version, request: RequestId) {
        if let Some(chain) = self.chains.get_mut(&id)
            && !chain.requests.contains(&(version, request))
        {
            chain.requests.push((version, request));
        }
    }

    /// The records of `id` up to `version` are committed: the last of them becomes clean, the others go. Says whether
    /// the item is deleted thereby.
    pub fn commit(&mut self, id: NoteId, version: Version) -> bool {
        let Entry::Occupied(mut entry) = self.chains.entry(id) else { return false };
        let chain = entry.get_mut();
        let decided = chain.records.partition_point(|pending| pending.record.version <= version);
        let newest = chain.records.drain(..decided).next_back().map(|pending| pending.record);
        chain.requests.retain(|(wrote, _)| *wrote > version);
        if chain.records.is_empty() {
            entry.remove();
        }
        match newest {
            None => false,
            Some(record) => self.make_clean(record),
        }
    }

    fn make_clean(&mut self, record: Record) -> bool {
        let deleted = record.value == Value::Deleted;
        if deleted && !self.keeps_deletions {
            self.forget(record.id);
            return deleted;
        }
        self.owned[record.primary.index()] += 1;
        if let Some(before) = self.clean.insert(record) {
            self.owned[before.primary.index()] -= 1;
        }
        deleted
    }

    fn forget(&mut self, id: NoteId) {
        if let Some(before) = self.clean.remove(id) {
            self.owned[before.primary.index()] -= 1;
        }
    }

    /// The committed notes after `after`, by id.
    pub fn notes_after(&self, after: NoteId) -> impl Iterator<Item = (NoteId, &Note)> {
        self.clean.from(after).filter_map(move |record| match &record.value {
            Value::Note(note) if record.id > after => Some((record.id, note)),
            _ => None,
        })
    }

    /// The items after `after` that have pending records, with their newest versions, by id.
    pub fn pending_after(&self, after: NoteId) -> impl Iterator<Item = (NoteId, Version)> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.chains.range(range).filter_map(|(id, chain)| Some((*id, chain.newest()?.version)))
    }

    /// All committed records from `from` on, by id, the id sequence first.
    pub fn committed_from(&self, from: NoteId) -> impl Iterator<Item = &Record> {
        self.clean.from(from)
    }

    /// Of each item from `from` on, by id, the newest record that was handed to the store or is committed: what a snapshot
    /// of the store holds.
    pub fn stored_from(&self, from: NoteId) -> impl Iterator<Item = &Record> {
        let mut clean = self.clean.from(from).peekable();
        let chains = self.chains.range(from..).filter_map(|(id, chain)| Some((*id, chain.newest_stored()?)));
        let mut chains = chains.peekable();
        std::iter::from_fn(move || match (clean.peek(), chains.peek()) {
            (Some(record), Some((id, _))) if record.id == *id => {
                clean.next();
                chains.next().map(|(_, record)| record)
            }
            (Some(record), Some((id, _))) if record.id > *id => chains.next().map(|(_, record)| record),
            (Some(_), _) => clean.next(),
            (None, _) => chains.next().map(|(_, record)| record),
        })
    }

    /// How many notes are committed.
    pub fn notes(&self) -> u64 {
        let sequence = u64::from(self.clean.get(NoteId::SEQUENCE).is_some());
        self.clean.len() as u64 - sequence
    }

    /// Of how many committed items a replica is named as primary.
    pub fn owned_by(&self, replica: ReplicaId) -> u64 {
        self.owned[replica.index()]
    }
}

/// The id sequence before its first record: the next id is 1, and the view's primary is its primary.
pub fn first_sequence(primary: ReplicaId) -> Record {
    let version = Version { epoch: Epoch(0), counter: 0 };
    Record { id: NoteId::SEQUENCE, version, written: version, primary, value: Value::Next(NoteId(1)) }
}

#[cfg(test)]
mod tests;
