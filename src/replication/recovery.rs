//! A new view, and the recovery that it begins with (V7 to V10): what was pending anywhere is rolled forward everywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Persist;
use super::join::{Joiners, Joining};
use super::replica::{Replica, Standing, Stored};
use super::update::Outgoing;
use crate::note::NoteId;
use crate::protocol::ids::{ReplicaId, ReplicaSet, RequestId, Version};
use crate::protocol::message::{Fetch, Fetched, Ready, Recover, Update};
use crate::protocol::record::{KeyEntry, Record, Value};
use crate::protocol::request::Key;
use crate::protocol::view::View;

/// Most items in one frame of recovery.
const ITEMS_PER_FRAME_MAX: usize = 1_000;

/// A frame of recovery takes no further record past this many bytes of notes; one note is at most 1 MiB.
const NOTE_BYTES_PER_FRAME: usize = 1024 * 1024;

/// The recovery of the present view, at its primary; elsewhere it stays empty.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    reports: BTreeMap<ReplicaId, Report>,
    /// Records that were chosen and have been asked for.
    missing: BTreeSet<(NoteId, Version)>,
    /// Those that have come, apart as well: kept without the requests that made them, they would be made again after the
    /// next view.
    fetched: Vec<Record>,
    /// Whether the updates of recovery have been sent.
    spread: bool,
    /// The last of them.
    last_update: u64,
}

/// What a member has pending. Requests and keys are kept apart until all chosen records are held: told is not held
/// (what broke without: 13).
#[derive(Debug, Default)]
struct Report {
    pending: BTreeSet<(NoteId, Version)>,
    requests: Vec<(NoteId, Version, RequestId)>,
    keys: BTreeMap<(Key, NoteId), KeyEntry>,
    complete: bool,
}

impl Replica {
    /// Applies a new view: stops the old epoch for good, then recovers, or steps back where the view leaves it out.
    pub(super) fn on_view(&mut self, view: View) {
        if view.epoch <= self.epoch() {
            return;
        }
        self.stop_epoch();
        let me = self.me();
        let is_me = |member: &&crate::protocol::view::Member| {
            member.replica == me && member.incarnation == self.identity.incarnation
        };
        let in_sync = view.in_sync.iter().any(|member| is_me(&member));
        let joining = view.joining.iter().any(|member| is_me(&member));
        self.in_sync = view.in_sync_set();
        self.others = view.in_sync_set().union(view.joining_set()).without(me);
        self.view = Some(view);
        if in_sync {
            self.items.end_joining();
            self.joining = Joining::default();
            return self.begin_recovery();
        }
        // A replica that is not in sync may lack records, and never learns what became of its writes (V10).
        self.give_up_writes();
        match joining {
            true => self.begin_joining(),
            false => self.standing = Standing::Out,
        }
    }

    /// Nothing of the epoch goes on: updates, moves, waits. Records and open requests stay.
    fn stop_epoch(&mut self) {
        self.outgoing = Outgoing::default();
        self.incoming.clear();
        self.waits.forget();
        self.moves.forget();
        self.recovery = Recovery::default();
        self.joiners = Joiners::default();
        self.forget_persists();
        for open in self.clients.writes.values_mut() {
            open.began = None;
            open.moved = 0;
        }
    }

    /// V7: reports all that is pending here to the view's primary.
    fn begin_recovery(&mut self) {
        self.standing = Standing::Recovering;
        let Some(primary) = self.view.as_ref().map(|view| view.primary) else { return };
        for report in self.reports() {
            match primary == self.me() {
                true => self.on_recover(primary, report),
                false => self.send(primary, report),
            }
        }
    }

    /// Everything pending here, in as many messages as it takes, at least one.
    fn reports(&self) -> Vec<Recover> {
        let (mut pending, mut requests, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (id, chain) in self.items.chains() {
            pending.extend(chain.versions().map(|version| (id, version)));
            requests.extend(chain.requests().iter().map(|(version, request)| (id, *version, *request)));
            keys.extend(self.pending_keys(id).cloned());
        }
        let longest = pending.len().max(requests.len()).max(keys.len());
        let frames = longest.div_ceil(ITEMS_PER_FRAME_MAX).max(1);
        let report = |frame: usize| Recover {
            pending: piece(&pending, frame),
            requests: piece(&requests, frame),
            keys: piece(&keys, frame),
            more: frame + 1 < frames,
        };
        (0..frames).map(report).collect()
    }

    /// The key entries of a note that are pending (K1): those whose record is newer than what is known to be committed.
    fn pending_keys(&self, id: NoteId) -> impl Iterator<Item = &KeyEntry> {
        let committed = self.items.committed(id).map(|record| record.version);
        self.keys.of_note(id).filter(move |entry| committed.is_none_or(|committed| entry.done.version > committed))
    }

    /// At the view's primary: a member reports. When all have, the largest version of each item is chosen (V8).
    pub(super) fn on_recover(&mut self, from: ReplicaId, recover: Recover) {
        let is_primary = self.view.as_ref().is_some_and(|view| view.primary == self.me());
        let complete = self.recovery.reports.get(&from).is_some_and(|report| report.complete);
        if !is_primary || !self.in_sync.contains(from) || complete || self.recovery.spread {
            return self.distrust(from, "sent `recover` to who does not wait for it");
        }
        let report = self.recovery.reports.entry(from).or_default();
        report.pending.extend(recover.pending);
        report.requests.extend(recover.requests);
        report.keys.extend(recover.keys.into_iter().map(|entry| ((entry.key.clone(), entry.item), entry)));
        report.complete = !recover.more;
        let complete = |replica| self.recovery.reports.get(&replica).is_some_and(|report| report.complete);
        if self.in_sync.iter().all(complete) {
            self.fetch_missing();
        }
    }

    fn fetch_missing(&mut self) {
        let mut wanted: BTreeMap<ReplicaId, Vec<(NoteId, Version)>> = BTreeMap::new();
        for (id, version) in chosen(&self.recovery.reports) {
            let reporter = self.recovery.reports.iter().find(|(_, report)| report.pending.contains(&(id, version)));
            if let Some((reporter, _)) = reporter.filter(|_| !self.items.holds(id, version)) {
                wanted.entry(*reporter).or_default().push((id, version));
                self.recovery.missing.insert((id, version));
            }
        }
        for (reporter, items) in wanted {
            for items in items.chunks(ITEMS_PER_FRAME_MAX) {
                self.send(reporter, Fetch { items: items.to_vec() });
            }
        }
        self.spread_when_held();
    }

    /// The view's primary lacks records that this replica reported.
    pub(super) fn on_fetch(&mut self, from: ReplicaId, fetch: Fetch) {
        let mut records = Vec::new();
        for (id, version) in fetch.items {
            match self.items.get(id, version) {
                Some(record) => records.push(record.clone()),
                None => {
                    return self.distrust(from, format!("fetched version {version} of item {id}, which is not here"));
                }
            }
        }
        for records in split(records) {
            self.send(from, Fetched { records });
        }
    }

    /// At the view's primary: records that it lacked.
    pub(super) fn on_fetched(&mut self, from: ReplicaId, fetched: Fetched) {
        for record in fetched.records {
            if !self.recovery.missing.remove(&(record.id, record.version)) {
                return self.distrust(
                    from,
                    format!("sent version {} of item {}, which was not asked for", record.version, record.id),
                );
            }
            self.recovery.fetched.push(record);
        }
        self.spread_when_held();
    }

    /// V8: holding all that was chosen, the view's primary tells everybody of it, in the first updates of the epoch.
    fn spread_when_held(&mut self) {
        if !self.recovery.missing.is_empty() || self.recovery.spread {
            return;
        }
        let reports = std::mem::take(&mut self.recovery.reports);
        let chosen = chosen(&reports);
        self.recovery.spread = true;
        for record in std::mem::take(&mut self.recovery.fetched) {
            self.items.keep_pending(record);
        }
        for report in reports.values() {
            let keys: Vec<_> = report.keys.values().cloned().collect();
            self.keep(&[], &report.requests, &keys);
        }
        for part in self.parts(&chosen) {
            self.spread(&part, &reports);
        }
        self.recovery.last_update = self.outgoing.last_number();
        if self.recovery.last_update == 0 {
            self.end_recovery();
        }
    }

    /// The chosen records in parts that fit a frame.
    fn parts(&self, chosen: &BTreeMap<NoteId, Version>) -> Vec<Vec<Record>> {
        split(chosen.iter().filter_map(|(id, version)| self.items.get(*id, *version).cloned()).collect())
    }

    /// One update of recovery: to each member the records and keys that it did not report, to all the requests.
    fn spread(&mut self, part: &[Record], reports: &BTreeMap<ReplicaId, Report>) {
        let ids: BTreeSet<NoteId> = part.iter().map(|record| record.id).collect();
        let chosen: Vec<_> = part.iter().map(|record| (record.id, record.version)).collect();
        let told = || reports.values().flat_map(|report| &report.requests).filter(|(id, ..)| ids.contains(id));
        let requests: BTreeSet<_> = told().copied().collect();
        let keys: Vec<KeyEntry> = ids.iter().flat_map(|id| self.pending_keys(*id)).cloned().collect();
        let n = self.open_update(chosen.clone(), None);
        for member in self.others.iter() {
            let report = reports.get(&member);
            let reported =
                |record: &Record| report.is_some_and(|report| report.pending.contains(&(record.id, record.version)));
            let has_key = |entry: &KeyEntry| {
                report.is_some_and(|report| report.keys.get(&(entry.key.clone(), entry.item)) == Some(entry))
            };
            let records = part.iter().filter(|record| !reported(record)).cloned().collect();
            let keys = keys.iter().filter(|entry| !has_key(entry)).cloned().collect();
            let requests = requests.iter().copied().collect();
            self.send(member, Update { n, records, requests, keys, chosen: chosen.clone() });
        }
        let records = self.unstored(&chosen);
        let persist = Persist { records, keys, ..Persist::default() };
        self.persist(persist, Stored::Own(n));
    }

    /// A record that an update of recovery names, and that is neither here nor in it.
    pub(super) fn missing_choice(&self, update: &Update) -> Option<(NoteId, Version)> {
        let sent: BTreeSet<_> = update.records.iter().map(|record| (record.id, record.version)).collect();
        update.chosen.iter().find(|item| !sent.contains(item) && !self.items.holds(item.0, item.1)).copied()
    }

    /// Of the records that an update of recovery names, those that were kept in memory only: a member puts them into its
    /// store, too (what broke without: 14).
    pub(super) fn unstored(&mut self, chosen: &[(NoteId, Version)]) -> Vec<Record> {
        chosen.iter().filter_map(|(id, version)| self.items.store_now(*id, *version)).collect()
    }

    /// Whether updates up to `n` may be committed: those of recovery only all together.
    pub(super) fn may_commit(&self, n: u64) -> bool {
        match self.standing {
            Standing::Ready => true,
            _ => self.recovery.spread && n >= self.recovery.last_update,
        }
    }

    /// V8, V9: everybody in sync holds what was chosen; the view's primary serves, and tells them to.
    pub(super) fn end_recovery(&mut self) {
        if self.standing == Standing::Recovering && self.recovery.spread {
            let backups: ReplicaSet = self.in_sync.without(self.me());
            self.send_all(backups, Ready {});
            self.serve();
        }
    }

    /// V9: this member serves from now on. The `commit` before this frame has decided what recovery chose.
    pub(super) fn on_ready(&mut self, from: ReplicaId) {
        let from_primary = self.view.as_ref().is_some_and(|view| view.primary == from);
        match from_primary && self.standing == Standing::Recovering {
            true => self.serve(),
            false => self.distrust(from, "sent `ready` to who does not wait for it"),
        }
    }
}

/// Of each item reported, the largest version; by item, so the id sequence first (what broke without: 15).
fn chosen(reports: &BTreeMap<ReplicaId, Report>) -> BTreeMap<NoteId, Version> {
    let mut chosen = BTreeMap::new();
    for (id, version) in reports.values().flat_map(|report| &report.pending) {
        let newest = chosen.entry(*id).or_insert(*version);
        *newest = (*newest).max(*version);
    }
    chosen
}

/// What one frame of several takes of a list.
fn piece<T: Clone>(all: &[T], frame: usize) -> Vec<T> {
    all.chunks(ITEMS_PER_FRAME_MAX).nth(frame).unwrap_or_default().to_vec()
}

/// Records in parts that fit a frame.
pub(super) fn split(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut parts, mut bytes) = (Vec::<Vec<Record>>::new(), 0);
    for record in records {
        let length = match &record.value {
            Value::Note(note) => note.as_str().len(),
            Value::Deleted | Value::Next(_) => 0,
        };
        match parts.last_mut() {
            Some(part) if part.len() < ITEMS_PER_FRAME_MAX && bytes + length <= NOTE_BYTES_PER_FRAME => {
                part.push(record)
            }
            _ => {
                parts.push(vec![record]);
                bytes = 0;
            }
        }
        bytes += length;
    }
    parts
}
