//! Updating the backups (W1 to W6): shared by both modes, and by recovery.

use std::collections::VecDeque;

use super::action::Persist;
use super::replica::{Replica, Stored};
use super::write::Origin;
use crate::clock::Moment;
use crate::config::Mode;
use crate::note::NoteId;
use crate::protocol::ids::{REPLICAS_MAX, ReplicaId, ReplicaSet, RequestId, Version};
use crate::protocol::message::{Ack, Commit, Update};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::{Done, Phases};

/// This replica's own updates in this epoch.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The number of the last update; they count from 1 in each epoch.
    last: u64,
    /// This replica's own store has all up to here.
    stored: u64,
    /// Each peer has acknowledged all up to here.
    acked: [u64; REPLICAS_MAX],
    /// Everybody who counts has acknowledged all up to here.
    acked_by_all: u64,
    /// All up to here are committed.
    pub(super) committed: u64,
    /// Those that are not committed, from `committed + 1` on.
    open: VecDeque<OpenUpdate>,
}

/// An update that is not committed yet.
#[derive(Debug)]
struct OpenUpdate {
    items: Vec<(NoteId, Version)>,
    answer: Option<(Origin, Done)>,
    started: Moment,
    stored: Moment,
    acked: Moment,
}

/// What a peer has sent in this epoch.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The last update that came.
    last: u64,
    /// All up to here are durable.
    pub(super) durable: u64,
    /// All up to here have been acknowledged.
    acked: u64,
    /// All up to here are committed, it said.
    decided: u64,
    /// This replica has taken note of it up to here.
    committed: u64,
    /// The items of those that follow, from `committed + 1` on.
    open: VecDeque<Vec<(NoteId, Version)>>,
}

/// A write made into records, on its way to everybody.
pub(super) struct Made {
    pub(super) records: Vec<Record>,
    pub(super) request: Option<RequestId>,
    pub(super) keys: Vec<KeyEntry>,
    /// Who is told when it is committed, and what.
    pub(super) answer: Option<(Origin, Done)>,
}

impl Outgoing {
    fn open_between(&mut self, after: u64, upto: u64) -> impl Iterator<Item = &mut OpenUpdate> {
        let first = self.committed;
        let range = (after.max(first) - first) as usize..(upto.max(first) - first) as usize;
        self.open.range_mut(range)
    }

    /// The number of the last update that was sent.
    pub(super) fn last_number(&self) -> u64 {
        self.last
    }

    pub(super) fn unacknowledged_since(&self, peer: ReplicaId) -> Option<Moment> {
        let first = self.acked[peer.index()].max(self.committed) - self.committed;
        self.open.get(first as usize).map(|open| open.started)
    }

    pub(super) fn unstored_since(&self) -> Option<Moment> {
        let first = self.stored.max(self.committed) - self.committed;
        self.open.get(first as usize).map(|open| open.started)
    }

    pub(super) fn on_stored(&mut self, n: u64, now: Moment) {
        let before = self.stored;
        self.stored = before.max(n);
        self.open_between(before, n).for_each(|open| open.stored = now);
    }

    /// Notes how far all of `counted` have acknowledged; what the slowest of them adds was acknowledged by all just now.
    fn note_acked_by_all(&mut self, counted: ReplicaSet, now: Moment) {
        let least = counted.iter().map(|peer| self.acked[peer.index()]).min().unwrap_or(self.last);
        let before = self.acked_by_all;
        if least > before {
            self.acked_by_all = least;
            self.open_between(before, least).for_each(|open| open.acked = now);
        }
    }
}

impl Incoming {
    /// The last update that came.
    pub(super) fn last(&self) -> u64 {
        self.last
    }
}

impl Replica {
    /// The id of a write that a peer forwarded: a member of the view, so its incarnation is known.
    pub(super) fn request_id_of(&self, peer: ReplicaId, number: u64) -> RequestId {
        let incarnation = self.view.as_ref().and_then(|view| view.incarnation_of(peer));
        RequestId { replica: peer, incarnation: incarnation.expect("frames of non-members are refused"), number }
    }

    /// Everybody but this replica whose acknowledgement an update needs.
    pub fn counted(&self) -> ReplicaSet {
        self.in_sync.union(self.joiners.counted).without(self.me())
    }

    /// W1: keeps new records as pending, and at the same time hands them to the own store and to every backup.
    pub(super) fn replicate(&mut self, made: Made) {
        let Made { records, request, keys, answer } = made;
        let items: Vec<_> = records.iter().map(|record| (record.id, record.version)).collect();
        let n = self.open_update(items, answer);
        let requests: Vec<_> = request
            .iter()
            .filter_map(|request| records.first().map(|record| (record.id, record.version, *request)))
            .collect();
        self.keep(&records, &requests, &keys);
        let update = Update { n, records, requests, keys, chosen: Vec::new() };
        let persist =
            Persist { number: 0, records: update.records.clone(), keys: update.keys.clone(), forget: Vec::new() };
        self.send_all(self.others, update);
        self.persist(persist, Stored::Own(n));
    }

    /// Numbers a new update of these items, which is open until it is committed.
    pub(super) fn open_update(&mut self, items: Vec<(NoteId, Version)>, answer: Option<(Origin, Done)>) -> u64 {
        let now = self.now.moment;
        self.outgoing.open.push_back(OpenUpdate { items, answer, started: now, stored: now, acked: now });
        self.outgoing.last += 1;
        self.outgoing.last
    }

    /// Keeps records as pending, with who asked for them and their key entries.
    pub(super) fn keep(&mut self, records: &[Record], requests: &[(NoteId, Version, RequestId)], keys: &[KeyEntry]) {
        records.iter().for_each(|record| self.items.keep_stored(record.clone()));
        for (id, version, request) in requests {
            self.items.keep_request(*id, *version, *request);
            let own = request.replica == self.me() && request.incarnation == self.identity.incarnation;
            if own && let Some(open) = self.clients.writes.get_mut(&request.number) {
                open.seen = Some(Done { id: *id, version: *version });
            }
        }
        keys.iter().for_each(|entry| self.keys.insert(entry.clone()));
    }

    /// W3: takes an update from a member of the view, and has it made durable.
    pub(super) fn on_update(&mut self, from: ReplicaId, update: Update) {
        let is_primary = self.view.as_ref().is_some_and(|view| view.primary == from);
        if self.identity.mode == Mode::RemoteWrite && !is_primary {
            return self.distrust(from, "sent `update` and is not the primary");
        }
        let incoming = self.incoming.entry(from).or_default();
        if update.n != incoming.last + 1 {
            let why = format!("sent update {} after update {}", update.n, incoming.last);
            return self.distrust(from, why);
        }
        if let Some((id, version)) = self.missing_choice(&update) {
            let why = format!("chose version {version} of item {id}, which is not here and was not sent");
            return self.distrust(from, why);
        }
        let Update { n, records, requests, keys, chosen } = update;
        let mut items: Vec<_> = records.iter().map(|record| (record.id, record.version)).collect();
        self.keep(&records, &requests, &keys);
        // Of recovery also those that were here in memory only. To a joiner an update of recovery may come late, and what a
        // committed record or deletion has overtaken must not reach the store behind it.
        let held = records.into_iter().filter(|record| self.items.holds(record.id, record.version)).collect::<Vec<_>>();
        let records = held.into_iter().chain(self.unstored(&chosen)).collect();
        items.extend(chosen);
        let incoming = self.incoming.entry(from).or_default();
        incoming.last = n;
        incoming.open.push_back(items);
        self.persist(Persist { number: 0, records, keys, forget: Vec::new() }, Stored::From(from, n));
    }

    pub(super) fn on_ack(&mut self, from: ReplicaId, n: u64) {
        if n > self.outgoing.last {
            return self
                .distrust(from, format!("acknowledged update {n}, and the last one was {}", self.outgoing.last));
        }
        let acked = &mut self.outgoing.acked[from.index()];
        *acked = n.max(*acked);
    }

    /// The records that an update of a peer brought are committed (W4).
    pub(super) fn on_commit(&mut self, from: ReplicaId, n: u64) {
        let incoming = self.incoming.entry(from).or_default();
        if n > incoming.last {
            let why = format!("committed update {n}, and the last one that came was {}", incoming.last);
            return self.distrust(from, why);
        }
        incoming.decided = incoming.decided.max(n);
        self.take_note_of_commits(from);
    }

    /// Takes note of what a peer has committed: of about so many items a turn, since a recovery may decide all that there
    /// are.
    fn take_note_of_commits(&mut self, from: ReplicaId) {
        while self.noted < self.identity.items_per_turn
            && let Some(incoming) = self.incoming.get_mut(&from)
            && incoming.committed < incoming.decided
            && let Some(items) = incoming.open.pop_front()
        {
            incoming.committed += 1;
            self.noted += items.len();
            items.into_iter().for_each(|(id, version)| self.commit(id, version));
        }
    }

    /// At the end of a turn: goes on with commits that were too many for the turns before.
    pub(super) fn note_commits(&mut self) {
        self.noted = 0;
        let peers: Vec<ReplicaId> = self.incoming.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.take_note_of_commits(peer));
        self.noted = 0;
        self.serve_when_told();
    }

    /// Whether commits wait for another turn: peers' or, of recovery, this replica's own.
    pub(super) fn has_commits_left(&self) -> bool {
        let own = self.outgoing.acked_by_all.min(self.outgoing.stored);
        let own_left = self.committable(own) > self.outgoing.committed;
        own_left || self.incoming.values().any(|incoming| incoming.committed < incoming.decided)
    }

    /// The item is committed up to this version: what waited for that goes on.
    pub(super) fn commit(&mut self, id: NoteId, version: Version) {
        if self.items.commit(id, version) {
            self.persist(Persist { forget: vec![id], ..Persist::default() }, Stored::Nothing);
        }
        self.waits.on_committed(id, version);
        self.on_item_committed(id);
    }

    /// W4, at the end of a turn: commits this replica's updates that all who count have, tells everybody, and then
    /// answers. Until `ready` recovery alone says what is decided (V9).
    pub(super) fn commit_acknowledged(&mut self) {
        let counted = self.counted();
        self.outgoing.note_acked_by_all(counted, self.now.moment);
        let n = self.committable(self.outgoing.acked_by_all.min(self.outgoing.stored));
        if n <= self.outgoing.committed {
            return;
        }
        let count = (n - self.outgoing.committed) as usize;
        let committed: Vec<OpenUpdate> = self.outgoing.open.drain(..count).collect();
        self.outgoing.committed = n;
        self.send_all(self.others, Commit { n });
        for update in committed {
            update.items.iter().for_each(|(id, version)| self.commit(*id, *version));
            if let Some((origin, done)) = update.answer {
                self.answer_write(origin, Ok(done), update.phases(self.now.moment));
            }
        }
        self.end_recovery();
    }

    /// W3, at the end of a turn: acknowledges what has become durable, cumulatively.
    pub(super) fn acknowledge(&mut self) {
        let mut acks = Vec::new();
        for (peer, incoming) in &mut self.incoming {
            if incoming.durable > incoming.acked {
                incoming.acked = incoming.durable;
                acks.push((*peer, incoming.durable));
            }
        }
        acks.into_iter().for_each(|(peer, n)| self.send(peer, Ack { n }));
    }
}

impl OpenUpdate {
    fn phases(&self, now: Moment) -> Phases {
        Phases {
            replicate: now.nanos_since(self.started),
            store: self.stored.nanos_since(self.started),
            update: self.acked.nanos_since(self.started),
            ..Phases::default()
        }
    }
}
