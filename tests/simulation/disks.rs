//! The record stores: durable after a while, in order. A crash keeps what was durable, and any first part of the rest.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use primacy::note::NoteId;
use primacy::protocol::ids::StoreId;
use primacy::protocol::record::{KeyEntry, Record};
use primacy::protocol::request::Key;
use primacy::replication::action::Persist;
use primacy::replication::event::Event;

use super::mutants::Mutant;

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) records: BTreeMap<NoteId, Record>,
    pub(crate) keys: BTreeMap<(Key, NoteId), KeyEntry>,
}

impl Store {
    fn write(&mut self, persist: Persist) {
        for record in persist.records {
            let newer = self.records.get(&record.id).is_none_or(|here| here.version < record.version);
            if newer {
                self.records.insert(record.id, record);
            }
        }
        for entry in persist.keys {
            self.keys.insert((entry.key.clone(), entry.item), entry);
        }
        for id in persist.forget {
            self.records.remove(&id);
        }
    }
}

/// What a store shall do, in order.
#[derive(Debug)]
pub(crate) enum Order {
    Write(Persist),
    BeginCopy,
    Switch,
}

/// What became of the orders that were not durable as a process died.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsynced {
    pub(crate) kept: usize,
    pub(crate) lost: usize,
}

/// One replica's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The present store's id.
    pub(crate) id: StoreId,
    /// What is durable.
    pub(crate) store: Store,
    copy: Option<Store>,
    queue: VecDeque<(u64, Order)>,
    /// Until when the disk is slow.
    pub(crate) slow_until: u64,
    /// The next write fails.
    pub(crate) fails: bool,
    /// The next start finds the store damaged.
    pub(crate) damaged: bool,
    /// What the disk really holds since it began to lie: what it said to be durable after that is lost in a crash.
    truth: Option<Store>,
    /// The store has lost what it had said to be durable.
    pub(crate) lied: bool,
    /// The rule that is switched off.
    pub(crate) mutant: Option<Mutant>,
}

impl Disk {
    pub(crate) fn new(id: StoreId) -> Disk {
        Disk {
            id,
            store: Store::default(),
            copy: None,
            queue: VecDeque::new(),
            slow_until: 0,
            fails: false,
            damaged: false,
            truth: None,
            lied: false,
            mutant: None,
        }
    }

    /// Takes an order; it will be carried out at `at`, or right after those before it. Says when.
    pub(crate) fn push(&mut self, at: u64, order: Order) -> u64 {
        let at = self.queue.back().map_or(at, |(last, _)| at.max(*last));
        self.queue.push_back((at, order));
        at
    }

    /// Carries out what is due, and says so.
    pub(crate) fn complete(&mut self, now: u64, rng: &mut Rng) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((_, order)) = self.queue.pop_front_if(|(at, _)| *at <= now) {
            events.extend(self.carry_out(order, rng));
        }
        events
    }

    /// Carries out everything.
    pub(crate) fn flush(&mut self, rng: &mut Rng) {
        self.complete(u64::MAX, rng);
        self.truth = None;
        self.copy = None;
    }

    fn carry_out(&mut self, order: Order, rng: &mut Rng) -> Option<Event> {
        match order {
            Order::Write(persist) => {
                let number = persist.number;
                self.copy.as_mut().unwrap_or(&mut self.store).write(persist);
                Some(Event::Durable { number })
            }
            Order::BeginCopy => {
                let keeps = self.mutant == Some(Mutant::OldRecordsKept);
                self.copy = Some(if keeps { self.store.clone() } else { Store::default() });
                None
            }
            Order::Switch => {
                self.store = self.copy.take()?;
                self.truth = None;
                self.lied = false;
                self.id = StoreId(rng.u64(..));
                Some(Event::Switched { store: self.id })
            }
        }
    }

    /// From now on the disk says that it has what it has not.
    pub(crate) fn lie(&mut self) {
        self.truth.get_or_insert_with(|| self.store.clone());
    }

    /// What the disk said is true after all.
    pub(crate) fn make_true(&mut self) {
        self.truth = None;
    }

    /// Whether a crash would lose what was said to be durable.
    pub(crate) fn lies(&self) -> bool {
        self.truth.as_ref().is_some_and(|truth| truth.records != self.store.records)
    }

    /// The process dies: of what was not durable, some first part is, nonetheless. (The journal ends at the first frame that
    /// is not whole, so nothing behind a gap is read.)
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Unsynced {
        let waiting = self.queue.len();
        let kept = if rng.bool() { 0 } else { rng.usize(..=waiting) };
        if self.lies() {
            self.lied = true;
        }
        match self.truth.take() {
            Some(truth) => self.store = truth,
            None => {
                for (_, order) in std::mem::take(&mut self.queue).into_iter().take(kept) {
                    self.carry_out(order, rng);
                }
            }
        }
        self.queue.clear();
        self.copy = None;
        self.slow_until = 0;
        self.fails = false;
        let newest = self.store.records.values().max_by_key(|record| record.version).map(|record| record.id);
        if let Some(newest) = newest.filter(|_| self.mutant == Some(Mutant::StoreLosesRecord)) {
            self.store.records.remove(&newest);
        }
        Unsynced { kept, lost: waiting - kept }
    }

    /// The disk is lost; the next start finds an empty store.
    pub(crate) fn wipe(&mut self, rng: &mut Rng) {
        let id = if self.mutant == Some(Mutant::WipedStoreTrusted) { self.id } else { StoreId(rng.u64(..)) };
        *self = Disk { mutant: self.mutant, ..Disk::new(id) };
    }

    /// A damaged store makes room for an empty one.
    pub(crate) fn renew(&mut self, rng: &mut Rng) {
        *self = Disk { mutant: self.mutant, ..Disk::new(StoreId(rng.u64(..))) };
    }
}
