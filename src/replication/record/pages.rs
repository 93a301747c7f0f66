//! Committed records by item, where finding one costs the same among a million as among a thousand.
//!
//! Ids are given in order, so nearly all that were given are there. Records lie in pages, each for so many neighbouring
//! ids, mostly at the place that the id names. To find one needs a look at a small map of pages, which stays in the
//! processor's caches, and one at the record; a `BTreeMap` of records looks at two levels or three that do not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::note::NoteId;
use crate::protocol::record::Record;

/// How many ids share a page. A deletion moves up to so many records of 64 bytes.
const IDS_PER_PAGE: u64 = 64;

/// At most one record of each item.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By `id / IDS_PER_PAGE`, the records in order of their ids. No page is empty.
    pages: BTreeMap<u64, Vec<Record>>,
    /// How many records all of them have.
    records: usize,
}

fn page_of(id: NoteId) -> u64 {
    id.0 / IDS_PER_PAGE
}

/// Where the item's record is in its page, or belongs.
fn place(page: &[Record], id: NoteId) -> Result<usize, usize> {
    let where_none_is_missing = (id.0 % IDS_PER_PAGE) as usize;
    match page.get(where_none_is_missing) {
        Some(record) if record.id == id => Ok(where_none_is_missing),
        _ => page.binary_search_by_key(&id, |record| record.id),
    }
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.records
    }

    pub(super) fn get(&self, id: NoteId) -> Option<&Record> {
        let page = self.pages.get(&page_of(id))?;
        place(page, id).ok().map(|at| &page[at])
    }

    /// Gives back the item's record from before.
    pub(super) fn insert(&mut self, record: Record) -> Option<Record> {
        let page = self.pages.entry(page_of(record.id)).or_default();
        match place(page, record.id) {
            Ok(at) => Some(std::mem::replace(&mut page[at], record)),
            Err(at) => {
                page.insert(at, record);
                self.records += 1;
                None
            }
        }
    }

    pub(super) fn remove(&mut self, id: NoteId) -> Option<Record> {
        let Entry::Occupied(mut entry) = self.pages.entry(page_of(id)) else { return None };
        let page = entry.get_mut();
        let record = page.remove(place(page, id).ok()?);
        self.records -= 1;
        if page.is_empty() {
            entry.remove();
        } else if page.len() <= page.capacity() / 4 {
            page.shrink_to(2 * page.len());
        }
        Some(record)
    }

    /// The records of `from` and of the items after it, by id.
    pub(super) fn from(&self, from: NoteId) -> impl Iterator<Item = &Record> {
        self.pages.range(page_of(from)..).flat_map(|(_, page)| page).skip_while(move |record| record.id < from)
    }

    /// All records, by id.
    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        self.pages.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::super::first_sequence;
    use super::*;
    use crate::protocol::ids::ReplicaId;

    /// A record of this item; which one, its content says.
    fn record(id: u64, content: u64) -> Record {
        let mut record = first_sequence(ReplicaId(0));
        (record.id, record.version.counter) = (NoteId(id), content);
        record
    }

    fn check(pages: &Pages, expected: &BTreeMap<u64, Record>) {
        assert_eq!(pages.len(), expected.len());
        for id in 0..4 * IDS_PER_PAGE {
            assert_eq!(pages.get(NoteId(id)), expected.get(&id));
            assert!(pages.from(NoteId(id)).eq(expected.range(id..).map(|(_, record)| record)), "from {id}");
        }
        assert!(pages.pages.values().all(|page| !page.is_empty() && page.capacity() <= 4 * page.len().max(4)));
    }

    #[test]
    fn it_is_a_map_in_the_order_of_ids() {
        let again =
            std::env::var("PRIMACY_TEST_SEED").ok().map(|seed| seed.parse().expect("PRIMACY_TEST_SEED is a number"));
        let seed = again.unwrap_or_else(|| fastrand::u64(..));
        println!("again: PRIMACY_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut pages, mut expected) = (Pages::default(), BTreeMap::new());
        for round in 0..100 {
            // Of eight: in turns it mostly fills and mostly empties.
            let inserts = if round / 10 % 2 == 0 { 6 } else { 2 };
            for content in 0..100 {
                let id = random.u64(..4 * IDS_PER_PAGE);
                let (ours, theirs) = match random.u8(..8) < inserts {
                    true => (pages.insert(record(id, content)), expected.insert(id, record(id, content))),
                    false => (pages.remove(NoteId(id)), expected.remove(&id)),
                };
                assert_eq!(ours, theirs);
            }
            check(&pages, &expected);
        }
        assert!(pages.into_records().eq(expected.into_values()));
    }

    #[test]
    fn ids_at_both_ends_have_their_pages() {
        let mut pages = Pages::default();
        for id in [u64::MAX, 0, u64::MAX - 1, IDS_PER_PAGE, IDS_PER_PAGE - 1] {
            assert_eq!(pages.insert(record(id, 1)), None);
        }
        let ids: Vec<u64> = pages.from(NoteId(1)).map(|record| record.id.0).collect();
        assert_eq!(ids, [IDS_PER_PAGE - 1, IDS_PER_PAGE, u64::MAX - 1, u64::MAX]);
        assert_eq!(pages.remove(NoteId(u64::MAX)), Some(record(u64::MAX, 1)));
        assert_eq!(pages.remove(NoteId(u64::MAX)), None);
    }
}
