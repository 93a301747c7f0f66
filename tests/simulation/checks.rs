//! What must hold, one function each, headed by its sentence. [`Witness`] is what an onlooker knows: every record that was
//! sent or stored, and what was committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use primacy::note::NoteId;
use primacy::protocol::ids::{Epoch, Version};
use primacy::protocol::message::Message;
use primacy::protocol::record::{Record, Value};
use primacy::protocol::request::Done;
use primacy::protocol::view::{Member, View};
use primacy::replication::action::Action;
use primacy::replication::replica::{Replica, Standing};

use super::disks::Store;
use super::group::Group;
use super::history::{Ask, History, Reply, content_of};
use super::linearizable::{self, Verdict};
use super::node::Node;

/// A sentence that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The sentence.
    pub(crate) rule: &'static str,
    /// What was seen instead.
    pub(crate) seen: String,
}

pub(crate) type Checked = Result<(), Violation>;

fn broken(rule: &'static str, seen: impl Into<String>) -> Checked {
    Err(Violation { rule, seen: seen.into() })
}

/// What an onlooker knows.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    records: HashMap<(NoteId, Version), Record>,
    /// The notes that each POST has made records of, by its tag.
    posted: BTreeMap<u32, BTreeSet<NoteId>>,
    tags: BTreeSet<u32>,
    deletions: BTreeSet<NoteId>,
    /// Of each item, the newest version known to be committed.
    committed: BTreeMap<NoteId, Version>,
    /// The tags in records that are known to be committed.
    effects: BTreeSet<u32>,
    /// Notes whose deletion is committed.
    deleted: BTreeMap<NoteId, Version>,
    /// The note that each POST made, by its tag.
    made: BTreeMap<u32, NoteId>,
}

impl Witness {
    pub(crate) fn ids(&self) -> impl Iterator<Item = NoteId> {
        self.records.keys().map(|(id, _)| *id).filter(|id| !id.is_sequence())
    }

    /// The notes that a POST may have made.
    pub(crate) fn notes_of(&self, tag: u32) -> impl Iterator<Item = NoteId> {
        self.posted.get(&tag).into_iter().flatten().copied()
    }

    /// Whether any record shows the effect of this write.
    pub(crate) fn may_have_happened(&self, ask: Ask) -> bool {
        match ask {
            Ask::Delete(id) => self.deletions.contains(&id),
            ask => self.tags.contains(&ask.tag()),
        }
    }

    /// Sees what a replica wants done.
    pub(crate) fn see(&mut self, action: &Action) -> Checked {
        let records: &[Record] = match action {
            Action::Send { message: Message::Update(update), .. } => &update.records,
            Action::Send { message: Message::Moved(moved), .. } => std::slice::from_ref(&moved.record),
            Action::Send { message: Message::Fetched(fetched), .. } => &fetched.records,
            Action::Send { message: Message::Copied(copied), .. } => &copied.records,
            Action::Persist(persist) => &persist.records,
            _ => &[],
        };
        records.iter().try_for_each(|record| self.no_two_records_of_one_version(record))?;
        match action {
            Action::Persist(persist) => persist.forget.iter().try_for_each(|id| self.forget(*id)),
            _ => Ok(()),
        }
    }

    /// A replica forgets a note: its deletion is committed (W6).
    fn forget(&mut self, id: NoteId) -> Checked {
        if self.deleted.contains_key(&id) {
            return Ok(());
        }
        let deletions = self.records.values().filter(|record| record.id == id && record.value == Value::Deleted);
        match deletions.map(|record| record.version).max() {
            Some(version) => self.commit(id, version),
            None => broken("W6: only a committed deletion is forgotten", format!("note {id} was never deleted")),
        }
    }

    /// Invariant 3: no two different records of an item have the same version.
    fn no_two_records_of_one_version(&mut self, record: &Record) -> Checked {
        if let Some(known) = self.records.get(&(record.id, record.version)) {
            return match known == record {
                true => Ok(()),
                false => broken(
                    "invariant 3: no two different records of an item have the same version",
                    format!("{known:?} and {record:?}"),
                ),
            };
        }
        match &record.value {
            Value::Note(note) => {
                let (title, body) = content_of(note);
                self.tags.extend([title, body]);
                if record.version.counter == 1 {
                    self.posted.entry(title.max(body)).or_default().insert(record.id);
                }
            }
            Value::Deleted => drop(self.deletions.insert(record.id)),
            Value::Next(_) => {}
        }
        self.records.insert((record.id, record.version), record.clone());
        Ok(())
    }

    /// Invariant 7: one POST makes one note, and a note's id never comes back after DELETE.
    pub(crate) fn commit(&mut self, id: NoteId, version: Version) -> Checked {
        let newest = self.committed.entry(id).or_insert(version);
        *newest = version.max(*newest);
        let value = self.records.get(&(id, version)).map(|record| &record.value);
        let is_deletion = value == Some(&Value::Deleted);
        if let Some(Value::Note(note)) = value {
            let (title, body) = content_of(note);
            self.effects.extend([title, body]);
        }
        match value {
            Some(Value::Deleted) => drop(self.deleted.entry(id).or_insert(version)),
            Some(Value::Note(note)) if version.counter == 1 => {
                let (title, body) = content_of(note);
                let made = *self.made.entry(title.max(body)).or_insert(id);
                if made != id {
                    return broken("invariant 7: one POST makes one note", format!("{made} and {id}: {note:?}"));
                }
            }
            _ => {}
        }
        match self.deleted.get(&id) {
            Some(deleted) if version > *deleted && !is_deletion => broken(
                "invariant 7: a note's id never comes back after DELETE",
                format!("note {id} was deleted in version {deleted}, and version {version} is committed"),
            ),
            _ => Ok(()),
        }
    }

    /// Notes everything that a serving replica knows to be committed.
    pub(crate) fn learn(&mut self, replica: &Replica) -> Checked {
        if replica.standing() != Standing::Ready {
            return Ok(());
        }
        for record in replica.items().committed_from(NoteId::SEQUENCE) {
            if self.committed.get(&record.id).is_none_or(|known| *known < record.version) {
                self.commit(record.id, record.version)?;
            }
        }
        Ok(())
    }

    /// Of a note whose deletion is committed: nothing is left, or the deletion.
    fn is_held(&self, id: NoteId, version: Version, store: &Store) -> bool {
        match store.records.get(&id) {
            Some(record) => record.version >= version,
            None => self.deleted.contains_key(&id),
        }
    }

    /// Invariant 4: a committed record, or a later one of the same item, is at every member of `in_sync` of this and every
    /// later view.
    pub(crate) fn committed_is_everywhere(&self, view: &View, nodes: &[Node]) -> Checked {
        self.committed.iter().try_for_each(|(id, version)| self.is_everywhere(*id, *version, view, nodes))
    }

    fn is_everywhere(&self, id: NoteId, version: Version, view: &View, nodes: &[Node]) -> Checked {
        for member in &view.in_sync {
            let disk = &nodes[member.replica.index()].disk;
            // A disk that lied has lost it, and must not be the only one.
            if disk.id == member.store && !disk.lied && !self.is_held(id, version, &disk.store) {
                return broken(
                    "invariant 4: a committed record, or a later one, is at every in-sync replica",
                    format!(
                        "item {id} version {version} is committed; in view {} replica {} stores {:?}",
                        view.epoch,
                        member.replica.0,
                        disk.store.records.get(&id)
                    ),
                );
            }
        }
        Ok(())
    }

    /// Invariant 5: a client is told "done" only for a committed record.
    pub(crate) fn done_is_committed(&mut self, done: Done, view: &View, nodes: &[Node]) -> Checked {
        if !self.records.contains_key(&(done.id, done.version)) {
            return broken("invariant 5: done is told only for a committed record", format!("there is no {done:?}"));
        }
        self.commit(done.id, done.version)?;
        self.is_everywhere(done.id, done.version, view, nodes)
    }
}

/// Invariant 1: one view per epoch; the epoch only grows at each replica.
pub(crate) fn one_view_per_epoch(node: &Node, before: Epoch, group: &Group) -> Checked {
    let Some(view) = node.replica.as_ref().and_then(Replica::view) else { return Ok(()) };
    if view.epoch < before || group.view(view.epoch) != Some(view) {
        return broken("invariant 1: one view per epoch, which only grows", format!("{view:?} after epoch {before}"));
    }
    Ok(())
}

/// Invariant 2: at most one replica takes writes of an item in an epoch at any time.
pub(crate) fn one_writer(id: NoteId, epoch: Epoch, nodes: &[Node]) -> Checked {
    let takes = |node: &&Node| {
        node.replica
            .as_ref()
            .is_some_and(|replica| replica.view().is_some_and(|view| view.epoch == epoch) && replica.takes_writes(id))
    };
    match nodes.iter().filter(takes).count() {
        0 | 1 => Ok(()),
        many => broken(
            "invariant 2: at most one replica takes writes of an item in an epoch at any time",
            format!("{many} replicas take writes of item {id} in epoch {epoch}"),
        ),
    }
}

/// Invariant 8: a replica outside the newest view answers no read and no failure. (The failure of a forwarded write was
/// answered by its primary, who was inside then; it may reach the client late.)
pub(crate) fn outsiders_are_silent(member: Member, reply: &Reply, forwarded: bool, view: &View) -> Checked {
    let tells =
        matches!(reply, Reply::Found(..) | Reply::Notes { .. } | Reply::NotFound | Reply::Mismatch | Reply::Reused);
    let inside = view.in_sync.iter().any(|it| it.replica == member.replica && it.incarnation == member.incarnation);
    match tells && !forwarded && !inside {
        true => broken(
            "invariant 8: a replica outside the newest view answers no read and no failure",
            format!("replica {} answered {reply:?} outside view {}", member.replica.0, view.epoch),
        ),
        false => Ok(()),
    }
}

/// V1, V2: a view follows the newest; its `in_sync` are members of the last view who were in sync or had joined, and never
/// nobody.
pub(crate) fn views_follow(before: Option<&View>, view: &View) -> Checked {
    let rule = "V1, V2: a view follows the newest, with members of the last one in sync, and never nobody";
    let Some(before) = before else { return Ok(()) };
    let listed = |member: &Member| before.members().any(|other| other.replica == member.replica);
    let all_listed = view.in_sync.iter().all(listed);
    let primary = view.in_sync_set().contains(view.primary);
    match view.epoch.0 == before.epoch.0 + 1 && all_listed && primary {
        true => Ok(()),
        false => broken(rule, format!("{view:?} after {before:?}")),
    }
}

/// R5: a view leaves out nobody who may still read.
pub(crate) fn who_is_left_out_reads_no_more(before: &View, view: &View, nodes: &[Node], time: u64) -> Checked {
    let left_out =
        before.in_sync.iter().filter(|member| view.incarnation_of(member.replica) != Some(member.incarnation));
    for member in left_out {
        let node = &nodes[member.replica.index()];
        let reads = node.replica.as_ref().is_some_and(|replica| replica.serves(node.clock.moment(time)));
        let gave_back = node.seat.as_ref().is_some_and(|seat| seat.standing.stopping);
        if node.incarnation == member.incarnation && reads && !gave_back {
            return broken(
                "R5: a view leaves out nobody who may still read",
                format!("view {} leaves out replica {}, whose lease runs", view.epoch, member.replica.0),
            );
        }
    }
    Ok(())
}

/// Nobody breaks the protocol.
pub(crate) fn nobody_is_distrusted(action: &Action) -> Checked {
    match action {
        Action::Distrust { peer, why } => broken("nobody breaks the protocol", format!("replica {} {why}", peer.0)),
        _ => Ok(()),
    }
}

/// Invariant 5: a client is told "failed" only for a write that never takes effect.
pub(crate) fn what_failed_never_happens(history: &History, witness: &Witness) -> Checked {
    let mut may_happen = BTreeSet::new();
    for attempt in &history.attempts {
        if matches!(attempt.reply, Reply::Done(_) | Reply::Unknown | Reply::Open) {
            may_happen.insert(attempt.ask.tag());
        }
    }
    let failed = history.attempts.iter().filter(|attempt| attempt.ask.is_write() && attempt.ask.tag() != 0);
    for attempt in failed.filter(|attempt| !may_happen.contains(&attempt.ask.tag())) {
        if witness.effects.contains(&attempt.ask.tag()) {
            return broken("invariant 5: what was told to have failed never takes effect", format!("{attempt:?}"));
        }
    }
    Ok(())
}

/// Invariant 6: each note's history, over all clients and replicas, is linearizable. Says how many could not be decided.
pub(crate) fn notes_are_linearizable(history: &History, witness: &Witness) -> Result<u64, Violation> {
    let mut undecided = 0;
    for (id, mut operations) in history.by_note(witness) {
        match linearizable::check(&mut operations) {
            Verdict::Linearizable => {}
            Verdict::TooLong => undecided += 1,
            Verdict::No => {
                let lines: Vec<String> = operations.iter().map(|operation| format!("\n    {operation:?}")).collect();
                return Err(Violation {
                    rule: "invariant 6: each note's history is linearizable",
                    seen: format!("that of note {id} is not:{}", lines.concat()),
                });
            }
        }
    }
    Ok(undecided)
}

/// Invariant 7: one POST makes one note, an id is never given twice, and one key takes effect once.
pub(crate) fn each_takes_effect_once(history: &History) -> Checked {
    let rule = "invariant 7: one POST makes one note, an id is never given twice, one key takes effect once";
    let (mut by_id, mut by_tag, mut by_key) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for attempt in &history.attempts {
        let Reply::Done(done) = &attempt.reply else { continue };
        let tag = attempt.ask.tag();
        if matches!(attempt.ask, Ask::Post(_)) {
            let same = *by_id.entry(done.id).or_insert(tag) == tag && *by_tag.entry(tag).or_insert(done.id) == done.id;
            if !same {
                return broken(rule, format!("{attempt:?}, and before {:?} {:?}", by_id[&done.id], by_tag[&tag]));
            }
        }
        if let Some(key) = attempt.key
            && *by_key.entry(key).or_insert(*done) != *done
        {
            return broken(rule, format!("{attempt:?}, and before {:?}", by_key[&key]));
        }
    }
    Ok(())
}

/// Whether every store that the newest view lists as in sync is lost: wiped or damaged one after the other, each while another
/// one lived that was left out before anybody knew. Then there is no view until an operator says so (J5, J6).
pub(crate) fn nothing_is_left(view: &View, nodes: &[Node]) -> bool {
    let lost = |member: &Member| nodes[member.replica.index()].disk.id != member.store;
    !view.in_sync.is_empty() && view.in_sync.iter().all(lost)
}

/// Invariant 9: when faults stop, every replica comes back in sync and all hold the same records and key tables. Says what
/// is still missing.
pub(crate) fn converged(view: &View, nodes: &[Node]) -> Checked {
    let rule = "invariant 9: when faults stop, all come back in sync and hold the same";
    if view.in_sync.len() != nodes.len() || !view.joining.is_empty() {
        return broken(rule, format!("the newest view is {view:?}"));
    }
    let mut first: Option<(Vec<&Record>, Vec<_>)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let Some(replica) = &node.replica else { return broken(rule, format!("replica {index} is down")) };
        if replica.standing() != Standing::Ready || replica.view() != Some(view) || node.stop.is_some() {
            return broken(rule, format!("replica {index} is {:?}, stop {:?}", replica.standing(), node.stop));
        }
        if let Some((id, chain)) = replica.items().chains_from(NoteId::SEQUENCE).next() {
            return broken(rule, format!("replica {index} has item {id} pending: {chain:?}"));
        }
        let state = (replica.items().committed_from(NoteId::SEQUENCE).collect(), replica.keys_after(None).collect());
        let stored: Vec<&Record> = node.disk.store.records.values().collect();
        if stored != state.0 {
            return broken(rule, format!("replica {index} stores {stored:?} and serves {:?}", state.0));
        }
        if first.as_ref().is_some_and(|first| *first != state) {
            return broken(rule, format!("replica {index} holds {state:?}, and replica 0 {first:?}"));
        }
        first = Some(state);
    }
    Ok(())
}
