//! What the in-sync members of a new view have pending, as they report it to the view's primary (V7), and what is chosen
//! of it: of each item the largest version (V8). After a restart of all that is everything, so it is kept in plain rows,
//! and gone through by item, a part at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::note::NoteId;
use crate::protocol::ids::{ReplicaId, ReplicaSet, RequestId, Version};
use crate::protocol::message::Recover;
use crate::protocol::record::KeyEntry;
use crate::protocol::request::Key;

/// The reports of all members. Requests and keys are kept apart here until all chosen records are held: told is not held
/// (what broke without: 13).
#[derive(Debug, Default)]
pub(super) struct Reports {
    members: BTreeMap<ReplicaId, Report>,
    /// Of each item, whoever told of them.
    requests: BTreeMap<NoteId, BTreeSet<(Version, RequestId)>>,
}

/// What one member has pending.
#[derive(Debug, Default)]
struct Report {
    /// By item and version, once it is complete.
    pending: Vec<(NoteId, Version)>,
    /// How many of them have been gone through.
    passed: usize,
    /// By the note that was written, then by name.
    keys: BTreeMap<NoteId, BTreeMap<(Key, NoteId), KeyEntry>>,
    complete: bool,
}

/// The version that is chosen of an item, and who reported it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) id: NoteId,
    pub(super) version: Version,
    pub(super) holders: ReplicaSet,
}

impl Reports {
    /// Takes the next frame of a member's report.
    pub(super) fn take(&mut self, from: ReplicaId, recover: Recover) {
        let report = self.members.entry(from).or_default();
        report.pending.extend(recover.pending);
        for entry in recover.keys {
            report.keys.entry(entry.done.id).or_default().insert((entry.key.clone(), entry.item), entry);
        }
        if !recover.more {
            report.complete = true;
            // It comes in this order, and then this costs next to nothing.
            report.pending.sort_unstable();
        }
        for (id, version, request) in recover.requests {
            self.requests.entry(id).or_default().insert((version, request));
        }
    }

    /// Whether the last frame of this member's report has come.
    pub(super) fn is_complete(&self, member: ReplicaId) -> bool {
        self.members.get(&member).is_some_and(|report| report.complete)
    }

    /// The choice of the next item that anybody reported; by item, so the id sequence first (what broke without: 15).
    pub(super) fn next_choice(&mut self) -> Option<Choice> {
        let id = self.members.values().filter_map(Report::next).map(|(id, _)| id).min()?;
        let mut choice = Choice { id, version: Version::default(), holders: ReplicaSet::EMPTY };
        for (member, report) in &mut self.members {
            while let Some((_, version)) = report.next().filter(|(next, _)| *next == id) {
                report.passed += 1;
                if version > choice.version {
                    choice = Choice { id, version, holders: ReplicaSet::EMPTY };
                }
                if version == choice.version {
                    choice.holders.insert(*member);
                }
            }
        }
        Some(choice)
    }

    /// Goes through the items from the first one again.
    pub(super) fn rewind(&mut self) {
        self.members.values_mut().for_each(|report| report.passed = 0);
    }

    /// The requests that wrote these items.
    pub(super) fn requests(&self, items: RangeInclusive<NoteId>) -> Vec<(NoteId, Version, RequestId)> {
        let told = self.requests.range(items);
        told.flat_map(|(id, requests)| requests.iter().map(|(version, request)| (*id, *version, *request))).collect()
    }

    /// The key entries of these notes.
    pub(super) fn keys(&self, notes: RangeInclusive<NoteId>) -> Vec<KeyEntry> {
        let told = self.members.values().flat_map(|report| report.keys.range(notes.clone()));
        told.flat_map(|(_, keys)| keys.values().cloned()).collect()
    }

    /// Whether this member reported this very entry.
    pub(super) fn has_key(&self, member: ReplicaId, entry: &KeyEntry) -> bool {
        let keys = self.members.get(&member).and_then(|report| report.keys.get(&entry.done.id));
        keys.and_then(|keys| keys.get(&(entry.key.clone(), entry.item))) == Some(entry)
    }
}

impl Report {
    fn next(&self) -> Option<(NoteId, Version)> {
        self.pending.get(self.passed).copied()
    }
}
