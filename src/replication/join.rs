//! Joining (J2, J3): a replica that starts, or was left out, copies what the view's primary has, while all primaries
//! already send it their updates; then everybody counts it, and the controller may take it in.
//!
//! The view's primary says which versions it has, a chunk at a time; the joiner takes from its old records those that are
//! equal by version, and wants the others. Each chunk is wanted before the next one is offered, so that a slow joiner
//! is sent no more than it can take.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Persist};
use super::record::Items;
use super::recovery::split;
use super::replica::{Replica, Standing, Stored};
use crate::note::NoteId;
use crate::protocol::ids::{ReplicaId, ReplicaSet, StoreId, Version};
use crate::protocol::message::{Copied, Copy, Counted, Synced, Want};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::Key;

/// Items offered in one chunk of a copy.
const ITEMS_PER_CHUNK: usize = 1_000;

/// Key entries in one chunk of a copy.
const KEYS_PER_CHUNK: usize = 1_000;

/// A joiner's side.
#[derive(Debug, Default)]
pub(super) struct Joining {
    /// Records of its old store, and of copies that a view cut short: only to save sending what is equal by version.
    old: Items,
    /// Whether every chunk has been offered.
    offered: bool,
    /// Records that were wanted and have not come.
    wanted: BTreeSet<NoteId>,
    /// How many copies were to take the store's place, those of earlier views included, and how many have.
    switches_asked: u64,
    switches_done: u64,
    /// Whether that of this view's copy is asked for.
    switching: bool,
    /// The store that the copy became.
    store: Option<StoreId>,
    /// Who counts this joiner, and that member's last update before it did.
    counted: BTreeMap<ReplicaId, u64>,
    /// Whether the controller was told.
    reported: bool,
}

/// The members' side: the joiners of this view.
#[derive(Debug, Default)]
pub(super) struct Joiners {
    /// Those whose acknowledgements count: each sent `synced`.
    pub(super) counted: ReplicaSet,
    /// At the view's primary: how far the copy to each has been offered.
    copies: BTreeMap<ReplicaId, Offer>,
}

/// How far a copy has been offered.
#[derive(Debug)]
enum Offer {
    /// Records from this item on.
    Records(NoteId),
    /// All records, and the key entries after this one.
    Keys(Option<(u64, NoteId, Key)>),
    /// Everything.
    Done,
}

/// The joiner.
impl Replica {
    /// A view lists this replica as joining: it begins an empty copy. What an earlier view let it copy is forgotten, as
    /// are the updates that came then (what broke without: 9).
    pub(super) fn begin_joining(&mut self) {
        self.standing = Standing::Joining;
        let Joining { mut old, switches_asked, switches_done, .. } = std::mem::take(&mut self.joining);
        old.absorb(std::mem::take(&mut self.items));
        self.items = Items::of_joiner();
        self.keys = super::keys::Keys::default();
        self.joining = Joining { old, switches_asked, switches_done, ..Joining::default() };
        self.act(Action::BeginCopy);
    }

    /// The view's primary offers a chunk: what is here in the same version is taken from the old records.
    pub(super) fn on_copy(&mut self, from: ReplicaId, copy: Copy) {
        if self.standing != Standing::Joining || !self.is_view_primary(from) || self.joining.offered {
            return self.distrust(from, "offered a copy to who does not join from it");
        }
        let (mut taken, mut items) = (Vec::new(), Vec::new());
        for (id, version) in copy.items {
            match self.joining.old.get(id, version) {
                Some(record) => taken.push(record.clone()),
                None => items.push(id),
            }
        }
        self.joining.offered = !copy.more;
        self.joining.wanted.extend(items.iter().copied());
        self.take_copied(taken, copy.keys);
        if copy.more || !items.is_empty() {
            self.send(from, Want { items });
        }
        self.switch_when_whole();
    }

    /// Records that this joiner wanted.
    pub(super) fn on_copied(&mut self, from: ReplicaId, copied: Copied) {
        if self.standing != Standing::Joining || !self.is_view_primary(from) || self.joining.wanted.is_empty() {
            return self.distrust(from, "sent copied records to who does not want them");
        }
        for id in copied.gone.iter().chain(copied.records.iter().map(|record| &record.id)) {
            self.joining.wanted.remove(id);
        }
        self.take_copied(copied.records, Vec::new());
        self.switch_when_whole();
    }

    /// Copied records are committed: they merge by version with what updates have brought (J2).
    fn take_copied(&mut self, records: Vec<Record>, keys: Vec<KeyEntry>) {
        if records.is_empty() && keys.is_empty() {
            return;
        }
        // What an update has overtaken, be it by a deletion, must not reach the store behind it.
        let records: Vec<Record> =
            records.into_iter().filter(|record| self.items.take_committed(record.clone())).collect();
        keys.iter().for_each(|entry| self.keys.insert(entry.clone()));
        self.persist(Persist { records, keys, ..Persist::default() }, Stored::Nothing);
    }

    /// J3: the whole copy replaces the old store in one step, once all of it is durable: the store does both in order.
    fn switch_when_whole(&mut self) {
        if self.joining.offered && self.joining.wanted.is_empty() {
            self.joining.switching = true;
            self.joining.switches_asked += 1;
            self.act(Action::SwitchStore);
        }
    }

    /// A copy is the store now: everybody shall count this joiner, unless the copy is one that a view cut short while a slow
    /// disk had it.
    pub(super) fn on_switched(&mut self, store: StoreId) {
        self.joining.switches_done += 1;
        let newest = self.joining.switches_done == self.joining.switches_asked;
        if self.standing != Standing::Joining || !self.joining.switching || !newest {
            return;
        }
        self.joining.store = Some(store);
        self.send_all(self.in_sync, Synced {});
    }

    /// A member counts this joiner from here on: all its later updates wait for this joiner's acknowledgement.
    pub(super) fn on_counted(&mut self, from: ReplicaId) {
        if self.standing != Standing::Joining || self.joining.store.is_none() {
            return self.distrust(from, "said that it counts who is not synced");
        }
        let last = self.incoming.entry(from).or_default().last();
        self.joining.counted.insert(from, last);
    }

    /// At the end of a turn: once all count it, and all that they sent before is durable, the joiner reports itself
    /// synced (what broke without: 1).
    pub(super) fn report_when_counted(&mut self) {
        let Some(store) = self.joining.store.filter(|_| self.standing == Standing::Joining) else { return };
        let durable = |peer: ReplicaId| {
            let counted_at = self.joining.counted.get(&peer)?;
            let durable = self.incoming.get(&peer).map_or(0, |incoming| incoming.durable);
            (durable >= *counted_at).then_some(())
        };
        if !self.joining.reported && self.in_sync.iter().all(|peer| durable(peer).is_some()) {
            self.joining.reported = true;
            self.act(Action::ReportSynced { epoch: self.epoch(), store });
        }
    }

    fn is_view_primary(&self, replica: ReplicaId) -> bool {
        self.view.as_ref().is_some_and(|view| view.primary == replica)
    }
}

/// The members.
impl Replica {
    /// The view's primary serves: it begins to copy to every joiner.
    pub(super) fn begin_copies(&mut self) {
        if !self.is_view_primary(self.me()) {
            return;
        }
        let joiners = self.view.as_ref().map(|view| view.joining_set()).unwrap_or_default();
        for joiner in joiners.iter() {
            self.joiners.copies.insert(joiner, Offer::Records(NoteId::SEQUENCE));
            self.offer_next(joiner);
        }
    }

    /// The joiner wants these of the last chunk; the next one follows them.
    pub(super) fn on_want(&mut self, from: ReplicaId, want: Want) {
        if !self.joiners.copies.contains_key(&from) {
            return self.distrust(from, "wanted records of a copy that it was not offered");
        }
        let (mut records, mut gone) = (Vec::new(), Vec::new());
        for id in want.items {
            match self.items.committed(id) {
                Some(record) => records.push(record.clone()),
                // Deleted since it was offered; the joiner has, or gets, the deletion as an update.
                None => gone.push(id),
            }
        }
        if !gone.is_empty() {
            self.send(from, Copied { records: Vec::new(), gone });
        }
        for records in split(records) {
            self.send(from, Copied { records, gone: Vec::new() });
        }
        self.offer_next(from);
    }

    /// Offers the next chunk: committed records only (what broke without: 8), then the table of keys.
    fn offer_next(&mut self, joiner: ReplicaId) {
        let Some(offer) = self.joiners.copies.get(&joiner) else { return };
        let (items, keys) = match offer {
            Offer::Records(from) => (self.chunk_of_items(*from), Vec::new()),
            Offer::Keys(after) => (Vec::new(), self.keys.after(after.as_ref()).take(KEYS_PER_CHUNK).cloned().collect()),
            Offer::Done => return,
        };
        let next = match offer {
            Offer::Records(_) if items.len() == ITEMS_PER_CHUNK => {
                let last = items.last().map_or(NoteId::SEQUENCE, |(id, _)| *id);
                Offer::Records(NoteId(last.0 + 1))
            }
            Offer::Records(_) => Offer::Keys(None),
            Offer::Keys(_) if keys.len() == KEYS_PER_CHUNK => {
                Offer::Keys(keys.last().map(|entry: &KeyEntry| (entry.time, entry.item, entry.key.clone())))
            }
            Offer::Keys(_) | Offer::Done => Offer::Done,
        };
        let more = !matches!(next, Offer::Done);
        self.joiners.copies.insert(joiner, next);
        // Entries of records that are not committed here are not copied: they come with the records' updates.
        let keys = keys.into_iter().filter(|entry| !self.is_undecided(entry.done.id, entry.done.version)).collect();
        self.send(joiner, Copy { items, keys, more });
    }

    fn chunk_of_items(&self, from: NoteId) -> Vec<(NoteId, Version)> {
        let records = self.items.committed_from(from).take(ITEMS_PER_CHUNK);
        records.map(|record| (record.id, record.version)).collect()
    }

    /// J3: from now on nothing is committed without this joiner; `counted` goes behind all earlier updates.
    pub(super) fn on_synced(&mut self, from: ReplicaId) {
        if !self.view.as_ref().is_some_and(|view| view.joining_set().contains(from)) {
            return self.distrust(from, "said that it is synced and does not join");
        }
        self.joiners.counted.insert(from);
        self.send(from, Counted {});
    }
}
