//! A new view, and the recovery that it begins with (V7 to V10): what was pending anywhere is rolled forward everywhere.
//!
//! ```text
//!                report parts          all have reported            all chosen are held
//!   member  -----------------> V  Gathering -> Choosing -> Fetching -> Spreading -> Spread
//!           <------------------------------------- fetch --'              |           |
//!           <------------------------------------- update, part by part --'           |
//!           <------------------------ commit, part by part, then ready, once all have acknowledged
//! ```
//!
//! After a restart of all everything is pending. So whatever goes through all items does so in parts, one a turn: meanwhile
//! the replica's heartbeats go out, and its links are never given more than they carry ([`Replica::unfinished`]).

use std::collections::{BTreeMap, BTreeSet};

use super::action::Persist;
use super::join::{Joiners, Joining};
use super::replica::{Replica, Standing, Stored};
use super::reports::{Choice, Reports};
use super::update::Outgoing;
use crate::note::NoteId;
use crate::protocol::ids::{ReplicaId, ReplicaSet, RequestId, Version};
use crate::protocol::message::{Fetch, Fetched, Ready, Recover, Update};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::view::View;

/// Most items, requests or keys in one frame of recovery.
const ITEMS_PER_FRAME_MAX: usize = 1_000;

/// A frame of recovery takes no further record past this many bytes of notes; one note is at most 1 MiB.
const NOTE_BYTES_PER_FRAME: usize = 1024 * 1024;

/// The recovery of the present view.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// What this member has yet to report: this item and those after it.
    unreported: Option<NoteId>,
    /// Whether `ready` has come: this member serves once it has taken note of all commits before it.
    ready: bool,
    /// How far the view's primary is; elsewhere this and all that follows stay empty.
    phase: Phase,
    reports: Reports,
    /// Records that were chosen and have been asked for.
    missing: BTreeSet<(NoteId, Version)>,
    /// Those that have come, apart as well: kept without the requests that made them, they would be made again after the
    /// next view.
    fetched: BTreeMap<(NoteId, Version), Record>,
    /// The last of the updates of recovery, once it is sent.
    last_update: u64,
}

/// What the view's primary is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Not all members have reported.
    #[default]
    Gathering,
    /// It looks for chosen records that it lacks, and asks for them.
    Choosing,
    /// Some of these have not come.
    Fetching,
    /// It tells everybody what is chosen.
    Spreading,
    /// All updates of recovery have been sent.
    Spread,
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
        self.recovery.unreported = Some(NoteId::SEQUENCE);
        self.report_part();
    }

    /// Goes on, by a part, with what recovery does in parts.
    pub(super) fn proceed(&mut self) {
        if self.recovery.unreported.is_some() {
            return self.report_part();
        }
        match self.recovery.phase {
            Phase::Choosing => self.choose_part(),
            Phase::Spreading => self.spread_part(),
            // Commits go on at the end of the turn.
            Phase::Gathering | Phase::Fetching | Phase::Spread => {}
        }
    }

    /// Whether it would go on with something, at [`super::event::Event::Proceed`], and to whom it would send then. The
    /// shell lets it once there is room on the links to these.
    pub fn unfinished(&self) -> Option<ReplicaSet> {
        let primary = self.view.as_ref().map(|view| view.primary);
        match (self.recovery.unreported, self.recovery.phase) {
            (Some(_), _) => primary.map(|primary| std::iter::once(primary).collect::<ReplicaSet>().without(self.me())),
            (None, Phase::Choosing | Phase::Spreading) => Some(self.others),
            (None, _) => self.has_commits_left().then_some(ReplicaSet::EMPTY),
        }
    }

    /// Reports the next chains; where one is longer than a frame, in several.
    fn report_part(&mut self) {
        let (Some(from), Some(view)) = (self.recovery.unreported.take(), &self.view) else { return };
        let (primary, most) = (view.primary, self.identity.items_per_turn);
        let (mut pending, mut requests, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (id, chain) in self.items.chains_from(from) {
            if pending.len().max(requests.len()).max(keys.len()) >= most {
                self.recovery.unreported = Some(id);
                break;
            }
            pending.extend(chain.versions().map(|version| (id, version)));
            requests.extend(chain.requests().iter().map(|(version, request)| (id, *version, *request)));
            keys.extend(self.pending_keys(id).cloned());
        }
        let frames = pending.len().max(requests.len()).max(keys.len()).div_ceil(ITEMS_PER_FRAME_MAX).max(1);
        for frame in 0..frames {
            let report = Recover {
                pending: piece(&pending, frame),
                requests: piece(&requests, frame),
                keys: piece(&keys, frame),
                more: frame + 1 < frames || self.recovery.unreported.is_some(),
            };
            match primary == self.me() {
                true => self.on_recover(primary, report),
                false => self.send(primary, report),
            }
        }
    }

    /// The key entries of a note that are pending (K1): those whose record is newer than what is known to be committed.
    fn pending_keys(&self, id: NoteId) -> impl Iterator<Item = &KeyEntry> {
        let committed = self.items.committed(id).map(|record| record.version);
        self.keys.of_note(id).filter(move |entry| committed.is_none_or(|committed| entry.done.version > committed))
    }

    /// At the view's primary: a member reports. When all have, the largest version of each item is chosen (V8).
    pub(super) fn on_recover(&mut self, from: ReplicaId, recover: Recover) {
        let is_primary = self.view.as_ref().is_some_and(|view| view.primary == self.me());
        let complete = self.recovery.reports.is_complete(from);
        if !is_primary || !self.in_sync.contains(from) || complete || self.recovery.phase != Phase::Gathering {
            return self.distrust(from, "sent `recover` to who does not wait for it");
        }
        self.recovery.reports.take(from, recover);
        if self.in_sync.iter().all(|member| self.recovery.reports.is_complete(member)) {
            self.recovery.phase = Phase::Choosing;
            self.choose_part();
        }
    }

    /// Asks for those of the next chosen records that are not here.
    fn choose_part(&mut self) {
        let mut wanted: BTreeMap<ReplicaId, Vec<(NoteId, Version)>> = BTreeMap::new();
        for _ in 0..self.identity.items_per_turn {
            let Some(Choice { id, version, holders }) = self.recovery.reports.next_choice() else {
                self.recovery.phase = Phase::Fetching;
                break;
            };
            if let Some(holder) = holders.iter().next().filter(|_| !self.items.holds(id, version)) {
                wanted.entry(holder).or_default().push((id, version));
                self.recovery.missing.insert((id, version));
            }
        }
        for (holder, items) in wanted {
            self.send(holder, Fetch { items });
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
            self.recovery.fetched.insert((record.id, record.version), record);
        }
        self.spread_when_held();
    }

    /// V8: holding all that was chosen, the view's primary tells everybody of it, in the first updates of the epoch.
    fn spread_when_held(&mut self) {
        if self.recovery.phase == Phase::Fetching && self.recovery.missing.is_empty() {
            self.recovery.phase = Phase::Spreading;
            self.recovery.reports.rewind();
            self.spread_part();
        }
    }

    /// The next of the chosen records, in an update that fits a frame.
    fn spread_part(&mut self) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < self.identity.items_per_turn && bytes <= NOTE_BYTES_PER_FRAME {
            let Some(choice) = self.recovery.reports.next_choice() else {
                self.recovery.phase = Phase::Spread;
                break;
            };
            if let Some(record) = self.recovery.fetched.remove(&(choice.id, choice.version)) {
                self.items.keep_pending(record);
            }
            // It is here, unless a peer that broke the protocol has had a later one committed.
            let Some(record) = self.items.get(choice.id, choice.version).cloned() else { continue };
            bytes += record.note_bytes();
            part.push((choice, record));
        }
        if !part.is_empty() {
            self.spread(&part);
        }
        if self.recovery.phase == Phase::Spread {
            self.recovery.reports = Reports::default();
            self.recovery.last_update = self.outgoing.last_number();
            self.end_recovery();
        }
    }

    /// Keeps what was told of these records, and spreads them. Keys that do not fit the frame follow in further updates.
    fn spread(&mut self, part: &[(Choice, Record)]) {
        let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { return };
        let items = first.id..=last.id;
        let requests = self.recovery.reports.requests(items.clone());
        let told = self.recovery.reports.keys(items);
        self.keep(&[], &requests, &told);
        let keys: Vec<KeyEntry> = part.iter().flat_map(|(choice, _)| self.pending_keys(choice.id)).cloned().collect();
        let mut keys = keys.chunks(ITEMS_PER_FRAME_MAX);
        self.spread_update(part, &requests, keys.next().unwrap_or_default());
        keys.for_each(|keys| self.spread_update(&[], &[], keys));
    }

    /// One update of recovery: to each member the records and keys that it did not report, to all the requests.
    fn spread_update(
        &mut self,
        part: &[(Choice, Record)],
        requests: &[(NoteId, Version, RequestId)],
        keys: &[KeyEntry],
    ) {
        let chosen: Vec<_> = part.iter().map(|(choice, _)| (choice.id, choice.version)).collect();
        let n = self.open_update(chosen.clone(), None);
        let mut updates: Vec<(ReplicaSet, Update)> = Vec::new();
        for member in self.others.iter() {
            let lacks = |choice: &Choice| !choice.holders.contains(member);
            let records = part.iter().filter(|(choice, _)| lacks(choice)).map(|(_, record)| record.clone()).collect();
            let lacks_key = |entry: &&KeyEntry| !self.recovery.reports.has_key(member, entry);
            let keys = keys.iter().filter(lacks_key).cloned().collect();
            let update = Update { n, records, requests: requests.to_vec(), keys, chosen: chosen.clone() };
            // Most members lack the same: nothing.
            match updates.iter_mut().find(|(_, other)| *other == update) {
                Some((members, _)) => members.insert(member),
                None => updates.push((std::iter::once(member).collect(), update)),
            }
        }
        updates.into_iter().for_each(|(members, update)| self.send_all(members, update));
        let persist = Persist { records: self.unstored(&chosen), keys: keys.to_vec(), ..Persist::default() };
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

    /// Up to which of the updates that all have this replica may commit now: those of recovery only once all have all of
    /// them, and then one a turn.
    pub(super) fn committable(&self, n: u64) -> u64 {
        let decided = self.recovery.phase == Phase::Spread && n >= self.recovery.last_update;
        match self.standing {
            Standing::Ready => n,
            _ if decided => n.min(self.outgoing.committed + 1),
            _ => self.outgoing.committed,
        }
    }

    /// V8, V9: everybody in sync holds what was chosen; the view's primary serves, and tells them to.
    pub(super) fn end_recovery(&mut self) {
        let decided = self.recovery.phase == Phase::Spread && self.outgoing.committed >= self.recovery.last_update;
        if self.standing == Standing::Recovering && decided {
            let backups: ReplicaSet = self.in_sync.without(self.me());
            self.send_all(backups, Ready {});
            self.serve();
        }
    }

    /// V9: this member serves once it has taken note of the commits before this frame, which decided what recovery chose.
    pub(super) fn on_ready(&mut self, from: ReplicaId) {
        let from_primary = self.view.as_ref().is_some_and(|view| view.primary == from);
        if !from_primary || self.standing != Standing::Recovering || self.recovery.ready {
            return self.distrust(from, "sent `ready` to who does not wait for it");
        }
        self.recovery.ready = true;
        self.serve_when_told();
    }

    /// Serves where `ready` has come and no commit before it is left.
    pub(super) fn serve_when_told(&mut self) {
        if self.recovery.ready && self.standing == Standing::Recovering && !self.has_commits_left() {
            self.serve();
        }
    }
}

/// What one frame of several takes of a list.
fn piece<T: Clone>(all: &[T], frame: usize) -> Vec<T> {
    all.chunks(ITEMS_PER_FRAME_MAX).nth(frame).unwrap_or_default().to_vec()
}

/// Records in parts that fit a frame.
pub(super) fn split(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut parts, mut bytes) = (Vec::<Vec<Record>>::new(), 0);
    for record in records {
        let length = record.note_bytes();
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
