//! One replica: its state, and what each event does to it.

use std::collections::BTreeMap;

use super::action::{Action, Persist};
use super::client::Clients;
use super::event::{Event, Now};
use super::join::{Joiners, Joining};
use super::keys::Keys;
use super::local_write::Moves;
use super::record::{Items, first_sequence};
use super::recovery::Recovery;
use super::update::{Incoming, Outgoing};
use super::wait::Waits;
use crate::clock::Moment;
use crate::config::Mode;
use crate::note::NoteId;
use crate::protocol::ids::{Epoch, Incarnation, ReplicaId, ReplicaSet};
use crate::protocol::message::{Envelope, Message, Stale};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::Key;
use crate::protocol::view::View;

/// How long a peer's frames may come without its acknowledgements, in ms, unless the own store is as late (V4).
const UNACKNOWLEDGED_MS_MAX: u64 = 3_000;

/// What a replica is told once, at its start.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its place in config order.
    pub me: ReplicaId,
    /// Drawn at this process start.
    pub incarnation: Incarnation,
    /// Which protocol it runs.
    pub mode: Mode,
    /// The fewest in-sync replicas with which it takes writes (V3).
    pub min_in_sync: usize,
    /// A write's deadline, in ms from its arrival.
    pub request_timeout_ms: u64,
    /// How long a read waits, in ms from its arrival.
    pub read_wait_ms: u64,
    /// About how many items recovery goes through in one turn: the work of a millisecond or two, well within a
    /// heartbeat's interval.
    pub items_per_turn: usize,
}

/// Where a replica stands in its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It knows no view yet.
    Starting,
    /// In sync; the view's recovery is under way. Nobody is answered until `ready`.
    Recovering,
    /// In sync, after `ready`: it serves.
    Ready,
    /// It copies what the others have; they send it their updates.
    Joining,
    /// The newest view leaves it out.
    Out,
}

/// The state of one replica.
#[derive(Debug)]
pub struct Replica {
    pub(super) identity: Identity,
    /// The time of the event under way.
    pub(super) now: Now,
    pub(super) view: Option<View>,
    pub(super) standing: Standing,
    /// Who is in sync in this view; empty before the first.
    pub(super) in_sync: ReplicaSet,
    /// Every other member of the view: whom updates go to.
    pub(super) others: ReplicaSet,
    /// Until when reads and failures may be answered (R3).
    pub(super) lease_until: Moment,
    pub(super) items: Items,
    pub(super) keys: Keys,
    pub(super) clients: Clients,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: BTreeMap<ReplicaId, Incoming>,
    pub(super) waits: Waits,
    pub(super) moves: Moves,
    pub(super) recovery: Recovery,
    pub(super) joining: Joining,
    pub(super) joiners: Joiners,
    /// Messages of this epoch that came before `ready`; they wait for it (M5).
    early: Vec<(ReplicaId, Message)>,
    /// Of how many items commits of peers were taken note of since the last turn ended.
    pub(super) noted: usize,
    persists: Persists,
    actions: Vec<Action>,
}

/// What was handed to the store and is not yet durable.
#[derive(Debug, Default)]
struct Persists {
    last: u64,
    waiting: std::collections::VecDeque<(u64, Stored)>,
}

/// What it means that something is durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    /// This replica's own updates up to this one.
    Own(u64),
    /// A peer's updates up to this one: they may be acknowledged.
    From(ReplicaId, u64),
    /// Nobody waits for it.
    Nothing,
}

impl Replica {
    /// A replica with what its store held; both may be empty.
    pub fn new(
        identity: Identity,
        records: impl IntoIterator<Item = Record>,
        keys: impl IntoIterator<Item = KeyEntry>,
    ) -> Replica {
        Replica {
            identity,
            now: Now::default(),
            view: None,
            standing: Standing::Starting,
            in_sync: ReplicaSet::EMPTY,
            others: ReplicaSet::EMPTY,
            lease_until: Moment::default(),
            items: Items::from_store(records),
            keys: Keys::from_store(keys),
            clients: Clients::default(),
            outgoing: Outgoing::default(),
            incoming: BTreeMap::new(),
            waits: Waits::default(),
            moves: Moves::default(),
            recovery: Recovery::default(),
            joining: Joining::default(),
            joiners: Joiners::default(),
            early: Vec::new(),
            noted: 0,
            persists: Persists::default(),
            actions: Vec::new(),
        }
    }

    /// Reacts to one event. Commits, acknowledgements, and whatever needs the lease come out of [`Replica::end_turn`].
    pub fn step(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        self.now = now;
        match event {
            Event::Request { token, request, arrived } => self.on_request(token, request, arrived),
            Event::Message { from, incarnation, envelope } => self.on_frame(from, incarnation, envelope),
            Event::Durable { number } => self.on_durable(number),
            Event::Switched { store } => self.on_switched(store),
            Event::View(view) => self.on_view(view),
            Event::Lease { until } => self.on_lease(until),
            Event::Tick => self.on_deadlines(),
            Event::Proceed => self.proceed(),
        }
        actions.append(&mut self.actions);
    }

    /// Ends a turn of the loop, after all that was waiting has been stepped: commits what all have acknowledged, then
    /// acknowledges, then answers. `now` must be read after the last event was taken, so that a lease that still runs
    /// then covers every value that is answered (R2).
    pub fn end_turn(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.now = now;
        self.note_commits();
        self.commit_acknowledged();
        self.acknowledge();
        self.report_when_counted();
        self.answer_due();
        actions.append(&mut self.actions);
    }

    /// When the next deadline is due; [`Event::Tick`] then.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.clients.next_deadline()
    }

    /// How many writes of clients are open here: the shell takes no more past its bound.
    pub fn open_writes(&self) -> usize {
        self.clients.open_writes()
    }

    /// How many bytes of notes they hold.
    pub fn open_write_bytes(&self) -> usize {
        self.clients.open_write_bytes()
    }

    /// The newest view that was applied.
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// Where it stands in that view.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it may answer reads and failures now: in sync, recovered, with a lease.
    pub fn serves(&self, now: Moment) -> bool {
        self.standing == Standing::Ready && now < self.lease_until
    }

    /// Until when its lease runs.
    pub fn lease_until(&self) -> Moment {
        self.lease_until
    }

    /// Its items, for status and snapshots.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// The entries of its table of keys after this one, by time, item and key; all where there is none.
    pub fn keys_after(&self, last: Option<&(u64, NoteId, Key)>) -> impl Iterator<Item = &KeyEntry> {
        self.keys.after(last)
    }

    /// Whether it would take a write of this item now, as the item's primary (invariant 2).
    pub fn takes_writes(&self, id: NoteId) -> bool {
        let here = self.standing == Standing::Ready && self.primary_of(id) == Some(self.me());
        here && (self.identity.mode == Mode::RemoteWrite || (!self.moves.is_moving(id) && self.newest(id).is_some()))
    }

    /// Of how many items (notes and the id sequence) it is the primary.
    pub fn items_owned(&self) -> u64 {
        let Some(view) = &self.view else { return 0 };
        let is_primary = view.primary == self.identity.me;
        let sequence_unborn = u64::from(self.items.committed(NoteId::SEQUENCE).is_none());
        let all = (0..crate::protocol::ids::REPLICAS_MAX as u8).map(ReplicaId);
        match self.identity.mode {
            Mode::RemoteWrite if is_primary => self.items.notes() + 1,
            Mode::RemoteWrite => 0,
            Mode::LocalWrite if is_primary => {
                let inherited = all.filter(|replica| !self.in_sync.contains(*replica) || *replica == self.identity.me);
                inherited.map(|replica| self.items.owned_by(replica)).sum::<u64>() + sequence_unborn
            }
            Mode::LocalWrite => self.items.owned_by(self.identity.me),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.view.as_ref().map_or(Epoch(0), |view| view.epoch)
    }

    pub(super) fn me(&self) -> ReplicaId {
        self.identity.me
    }

    /// The replica that is the item's primary as far as this one knows.
    pub(super) fn primary_of(&self, id: NoteId) -> Option<ReplicaId> {
        let view = self.view.as_ref()?;
        let named = match self.identity.mode {
            Mode::RemoteWrite => None,
            Mode::LocalWrite => self.items.newest(id).map(|record| record.primary),
        };
        Some(named.filter(|replica| self.in_sync.contains(*replica)).unwrap_or(view.primary))
    }

    /// The newest record; of the id sequence also before it has one.
    pub(super) fn newest(&self, id: NoteId) -> Option<std::borrow::Cow<'_, Record>> {
        use std::borrow::Cow;
        match self.items.newest(id) {
            Some(record) => Some(Cow::Borrowed(record)),
            None if id.is_sequence() => self.view.as_ref().map(|view| Cow::Owned(first_sequence(view.primary))),
            None => None,
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn send(&mut self, to: ReplicaId, message: impl Into<Message>) {
        self.send_all(std::iter::once(to).collect(), message);
    }

    pub(super) fn send_all(&mut self, to: ReplicaSet, message: impl Into<Message>) {
        debug_assert!(!to.contains(self.me()), "a replica sends nothing to itself");
        if !to.is_empty() {
            let epoch = self.epoch();
            self.actions.push(Action::Send { to, epoch, message: message.into() });
        }
    }

    /// Hands records to the store; once they are durable, `then` holds.
    pub(super) fn persist(&mut self, mut what: Persist, then: Stored) {
        self.persists.last += 1;
        what.number = self.persists.last;
        self.persists.waiting.push_back((what.number, then));
        self.actions.push(Action::Persist(what));
    }

    fn on_durable(&mut self, number: u64) {
        while let Some((_, stored)) = self.persists.waiting.pop_front_if(|(waiting, _)| *waiting <= number) {
            match stored {
                Stored::Own(n) => self.outgoing.on_stored(n, self.now.moment),
                Stored::From(peer, n) => self.incoming.entry(peer).or_default().durable = n,
                Stored::Nothing => {}
            }
        }
    }

    /// What is still on its way to the store belongs to an epoch that is over: it will be durable, and nobody is told.
    pub(super) fn forget_persists(&mut self) {
        self.persists.waiting.iter_mut().for_each(|(_, stored)| *stored = Stored::Nothing);
        self.early.clear();
    }

    pub(super) fn distrust(&mut self, peer: ReplicaId, why: impl Into<String>) {
        self.actions.push(Action::Distrust { peer, why: why.into() });
    }

    /// L3, L4: what is not of this epoch and from a member of its view in the incarnation listed there goes no further.
    fn on_frame(&mut self, from: ReplicaId, incarnation: Incarnation, envelope: Envelope) {
        let Envelope { epoch, message } = envelope;
        // What was refused has had no effect, and its epoch is over here as well, or soon will be: that is for the group
        // alone to say, since the view may be of another cluster (J5).
        if let Message::Stale(_) = message {
            return;
        }
        let Some(view) = &self.view else {
            return self
                .distrust(from, format!("sent `{}` of epoch {epoch} before any view was known here", message.word()));
        };
        if epoch < view.epoch {
            let view = view.clone();
            return self.send(from, Stale { view });
        }
        if epoch > view.epoch {
            let why =
                format!("sent `{}` of epoch {epoch}, and the newest view here is of {}", message.word(), view.epoch);
            return self.distrust(from, why);
        }
        // Who is in no view gets frames that were meant for its earlier incarnation.
        if self.standing == Standing::Out {
            return;
        }
        if view.incarnation_of(from) != Some(incarnation) {
            return self.distrust(from, format!("sent `{}` and is no member of view {epoch}", message.word()));
        }
        self.on_message(from, message);
    }

    fn on_message(&mut self, from: ReplicaId, message: Message) {
        let waits_for_ready = matches!(message, Message::Forward(_) | Message::Move(_));
        if waits_for_ready && self.standing != Standing::Ready {
            return self.early.push((from, message));
        }
        match message {
            Message::Forward(forward) => self.on_forward(from, forward),
            Message::Forwarded(forwarded) => self.on_forwarded(from, forwarded),
            Message::Move(asked) => self.on_move(from, asked.id),
            Message::Moved(moved) => self.on_moved(from, moved.record),
            Message::MovedTo(moved) => self.on_moved_to(from, moved.id, moved.to),
            Message::Gone(gone) => self.on_gone(from, gone.id),
            Message::Update(update) => self.on_update(from, update),
            Message::Ack(ack) => self.on_ack(from, ack.n),
            Message::Commit(commit) => self.on_commit(from, commit.n),
            Message::Recover(recover) => self.on_recover(from, recover),
            Message::Fetch(fetch) => self.on_fetch(from, fetch),
            Message::Fetched(fetched) => self.on_fetched(from, fetched),
            Message::Ready(_) => self.on_ready(from),
            Message::Copy(copy) => self.on_copy(from, copy),
            Message::Want(want) => self.on_want(from, want),
            Message::Copied(copied) => self.on_copied(from, copied),
            Message::Synced(_) => self.on_synced(from),
            Message::Counted(_) => self.on_counted(from),
            Message::Stale(_) => unreachable!("taken before the epoch was looked at"),
            Message::Heartbeat(_) | Message::Lease(_) | Message::Raft(_) => {
                self.distrust(from, format!("sent `{}` on a data link", message.word()));
            }
        }
    }

    /// From now on this replica serves: what waited for it goes on, oldest first.
    pub(super) fn serve(&mut self) {
        self.standing = Standing::Ready;
        for (from, message) in std::mem::take(&mut self.early) {
            self.on_message(from, message);
        }
        self.resume_clients();
        self.begin_copies();
    }

    /// V4: whose acknowledgements have been missing for too long, joiners' too where they count, unless the own store is as
    /// late.
    pub fn waits_in_vain_for(&self, now: Moment) -> ReplicaSet {
        let late_ms = |since: Option<Moment>| since.map_or(0, |since| now.nanos_since(since) / 1_000_000);
        let own_ms = late_ms(self.outgoing.unstored_since());
        let is_late = |peer: &ReplicaId| {
            let ms = late_ms(self.outgoing.unacknowledged_since(*peer));
            ms > UNACKNOWLEDGED_MS_MAX && ms > own_ms.saturating_add(UNACKNOWLEDGED_MS_MAX)
        };
        self.counted().iter().filter(is_late).collect()
    }

    fn on_lease(&mut self, until: Moment) {
        self.lease_until = self.lease_until.max(until);
        self.waits.retry_without_lease();
    }
}
