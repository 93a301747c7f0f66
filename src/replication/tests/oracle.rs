//! What clients were promised, and what they saw: each note is linearizable (invariant 6), no write takes effect twice
//! (7), none that was answered as failed takes effect at all (5).
//!
//! Every write brings a title of its own, and answers name versions, whose order is the order of the writes: so an answer
//! is wrong exactly where it contradicts what was answered before its request came.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cluster;
use crate::note::{Note, NoteId};
use crate::protocol::ids::Version;
use crate::protocol::record::{Record, Value};
use crate::protocol::request::{Code, Done, Outcome, Request};
use crate::protocol::request::{Operation, Write};

#[derive(Default)]
pub(super) struct Oracle {
    open: BTreeMap<u64, Asked>,
    known: Known,
    /// Notes that somebody asked to delete.
    doomed: BTreeSet<NoteId>,
    /// Every write that is known to be committed: its title, its note, its version.
    committed: BTreeMap<String, (NoteId, Version)>,
    /// Titles by note and version.
    by_version: BTreeMap<(NoteId, Version), String>,
    /// Titles of writes that were answered as failed.
    failed: BTreeSet<String>,
    keys: BTreeMap<String, Done>,
}

/// What answers so far have shown.
#[derive(Clone, Default)]
struct Known {
    /// The newest version of each note.
    newest: BTreeMap<NoteId, Version>,
    /// Notes that are deleted.
    gone: BTreeSet<NoteId>,
}

struct Asked {
    request: Request,
    /// What was known as it was asked.
    before: Known,
}

impl Oracle {
    pub(super) fn newest_version(&self, id: NoteId) -> Option<Version> {
        self.known.newest.get(&id).copied()
    }

    pub(super) fn ask(&mut self, token: u64, request: &Request) {
        if let Request::Write(Write { operation: Operation::Delete { id }, .. }) = request {
            self.doomed.insert(*id);
        }
        self.open.insert(token, Asked { request: request.clone(), before: self.known.clone() });
    }

    /// Looks at what was answered and committed since the last time.
    pub(super) fn look(&mut self, cluster: &mut Cluster) {
        for (_, host) in cluster.hosts() {
            let records = host.replica.iter().flat_map(|replica| replica.items().committed_from(NoteId(1)));
            records.for_each(|record| self.see_committed(record));
        }
        for (token, outcome) in cluster.take_answers() {
            let asked = self.open.remove(&token.0).expect("an answer is to a request");
            self.check(token.0, &asked, &outcome);
        }
    }

    fn see_committed(&mut self, record: &Record) {
        if let Value::Note(note) = &record.value {
            self.see(record.id, record.written, note);
        }
    }

    /// A write takes effect once (invariant 7), and not after it was answered as failed (5).
    fn see(&mut self, id: NoteId, written: Version, note: &Note) {
        let title = super::explore::title(note);
        if let Some(before) = self.by_version.get(&(id, written)) {
            assert_eq!(before, &title, "note {id} v{written} has two contents");
            return;
        }
        assert!(!self.failed.contains(&title), "{title} was answered as failed, and note {id} has it");
        self.by_version.insert((id, written), title.clone());
        let before = self.committed.insert(title.clone(), (id, written));
        assert!(before.is_none(), "{title} took effect at {before:?} and at {:?}", (id, written));
    }

    fn check(&mut self, token: u64, asked: &Asked, outcome: &Outcome) {
        match outcome {
            Outcome::Done(done) => self.check_done(token, asked, *done),
            Outcome::Note { id, note, written } => self.check_seen(token, asked, *id, note, *written),
            Outcome::Notes { notes, more } => {
                for (id, note) in notes {
                    // One that was superseded in the same turn was never seen elsewhere.
                    if let Some((_, written)) = self.committed.get(&super::explore::title(note)).copied() {
                        self.check_seen(token, asked, *id, note, written);
                    }
                }
                let listed: BTreeSet<_> = notes.iter().map(|(id, _)| *id).collect();
                let upto = if *more { listed.last().copied() } else { Some(NoteId(u64::MAX)) };
                let expected = asked.before.newest.keys().filter(|id| Some(**id) <= upto);
                expected.filter(|id| !listed.contains(id)).for_each(|id| self.check_missing(token, *id));
            }
            Outcome::Failed(failure) => {
                if failure.code == Code::NotFound
                    && let Some(id) = item(&asked.request)
                    && asked.before.newest.contains_key(&id)
                {
                    self.check_missing(token, id);
                    self.known.gone.insert(id);
                }
                if failure.code != Code::Unknown
                    && let Request::Write(write) = &asked.request
                    && write.key.is_none()
                {
                    self.failed(token, write);
                }
            }
        }
    }

    /// A note that was there is missing: somebody must have asked to delete it.
    fn check_missing(&self, token: u64, id: NoteId) {
        assert!(self.doomed.contains(&id), "#{token}: note {id} was there, and nobody deleted it");
    }

    fn failed(&mut self, token: u64, write: &Write) {
        let Some(title) = title(write) else { return };
        assert!(!self.committed.contains_key(&title), "#{token} is answered as failed, and {title} took effect");
        self.failed.insert(title);
    }

    fn check_done(&mut self, token: u64, asked: &Asked, done: Done) {
        let Request::Write(write) = &asked.request else { panic!("#{token} is a read and answered done") };
        let Done { id, version } = done;
        if let Some(key) = &write.key {
            let first = *self.keys.entry(key.as_str().to_owned()).or_insert(done);
            assert_eq!(first, done, "#{token}: key {} took effect twice", key.as_str());
        } else {
            let newest = asked.before.newest.get(&id).copied();
            assert!(newest < Some(version), "#{token}: done in v{version} after {newest:?} was seen");
            assert!(!asked.before.gone.contains(&id), "#{token}: done to note {id}, which was gone");
        }
        if matches!(write.operation, Operation::Delete { .. }) {
            self.known.gone.insert(id);
        }
        let newest = self.known.newest.entry(id).or_insert(version);
        *newest = (*newest).max(version);
    }

    fn check_seen(&mut self, token: u64, asked: &Asked, id: NoteId, note: &Note, written: Version) {
        let newest = asked.before.newest.get(&id).copied();
        assert!(newest <= Some(written), "#{token} sees note {id} v{written} after {newest:?} was seen");
        assert!(!asked.before.gone.contains(&id), "#{token} sees note {id}, which was gone");
        self.see(id, written, note);
        let newest = self.known.newest.entry(id).or_insert(written);
        *newest = (*newest).max(written);
    }
}

fn item(request: &Request) -> Option<NoteId> {
    match request {
        Request::Get(id) => Some(*id),
        Request::Write(write) => Some(write.operation.item()).filter(|id| !id.is_sequence()),
        Request::List(_) => None,
    }
}

/// The title that a write brings; a deletion brings none.
fn title(write: &Write) -> Option<String> {
    match &write.operation {
        Operation::Post { note } | Operation::Put { note, .. } => Some(super::explore::title(note)),
        Operation::Patch { patch, .. } => {
            let members: BTreeMap<String, String> = serde_json::from_str(&patch.to_json()).ok()?;
            members.get("title").cloned()
        }
        Operation::Delete { .. } => None,
    }
}
