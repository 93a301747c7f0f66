//! What must hold in every script, whatever it does.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Host};
use super::show;
use crate::note::NoteId;
use crate::protocol::ids::{Epoch, ReplicaId, Version};
use crate::protocol::message::Message;
use crate::protocol::record::Record;
use crate::protocol::request::{Done, Operation, Outcome, Request, Write};
use crate::replication::event::Token;
use crate::replication::replica::{Replica, Standing};

/// What was asked, sent and answered so far.
#[derive(Default)]
pub(super) struct Checks {
    /// Every record that was ever seen.
    records: BTreeMap<(NoteId, Version), Record>,
    /// Requests that were not answered yet.
    open: BTreeMap<u64, (ReplicaId, Request)>,
    /// Writes that were answered done, with their request.
    done: Vec<(Done, Request)>,
    /// Notes that somebody asked to delete.
    doomed: BTreeSet<NoteId>,
    epochs: BTreeMap<ReplicaId, Epoch>,
}

impl Checks {
    pub(super) fn on_request(&mut self, at: ReplicaId, token: Token, request: &Request) {
        if let Request::Write(Write { operation: Operation::Delete { id }, .. }) = request {
            self.doomed.insert(*id);
        }
        self.open.insert(token.0, (at, request.clone()));
    }

    pub(super) fn on_crash(&mut self, at: ReplicaId) {
        self.open.retain(|_, (asked, _)| *asked != at);
        self.epochs.remove(&at);
    }

    /// A request is answered once. A POST is answered with an id that none was answered before, unless it has a key.
    pub(super) fn on_answer(&mut self, token: Token, outcome: &Outcome) {
        let (_, request) = self.open.remove(&token.0).unwrap_or_else(|| panic!("#{} is answered twice", token.0));
        let Outcome::Done(done) = outcome else { return };
        if is_fresh_post(&request) {
            let before = self.done.iter().find(|(other, request)| other.id == done.id && is_fresh_post(request));
            assert!(before.is_none(), "invariant 7: note {} is made twice", done.id);
        }
        self.done.push((*done, request));
    }

    /// Invariant 3: no two different records of an item have the same version.
    pub(super) fn on_send(&mut self, message: &Message) {
        let records: &[Record] = match message {
            Message::Update(update) => &update.records,
            Message::Moved(moved) => std::slice::from_ref(&moved.record),
            Message::Fetched(fetched) => &fetched.records,
            _ => &[],
        };
        records.iter().for_each(|record| self.see(record));
    }

    fn see(&mut self, record: &Record) {
        let before = self.records.entry((record.id, record.version)).or_insert_with(|| record.clone());
        assert_eq!(before, record, "invariant 3: two records of one item and version");
    }

    /// Invariant 1: a replica's epoch only grows. Chains are in order, newer than what is committed, and nobody's record
    /// of a version differs from another's.
    pub(super) fn after_turn(&mut self, at: ReplicaId, host: &Host) {
        let Some(replica) = &host.replica else { return };
        let epoch = replica.view().map(|view| view.epoch).unwrap_or_default();
        let before = self.epochs.insert(at, epoch).unwrap_or_default();
        assert!(epoch >= before, "invariant 1: {} went from epoch {before} to {epoch}", show::name(at));
        let items = replica.items();
        items.committed_from(NoteId::SEQUENCE).for_each(|record| self.see(record));
        for (id, chain) in items.chains_from(NoteId::SEQUENCE) {
            let versions: Vec<_> = items.committed(id).map(|record| record.version).into_iter().collect();
            let versions: Vec<_> = versions.into_iter().chain(chain.versions()).collect();
            assert!(versions.is_sorted_by(|a, b| a < b), "{}'s chain of item {id}: {versions:?}", show::name(at));
            chain.versions().filter_map(|version| items.get(id, version)).for_each(|record| self.see(record));
        }
    }

    /// When all is quiet, every request has its answer, all in-sync replicas hold the same (invariant 9), and what was
    /// answered done is there (invariant 4).
    pub(super) fn at_end(&self, cluster: &Cluster) {
        let open: Vec<_> = self.open.keys().collect();
        assert!(open.is_empty(), "requests that were never answered: {open:?}");
        let serving = serving(cluster);
        if !cluster.is_quiet() || serving.is_empty() {
            return;
        }
        let (first, reference) = serving[0];
        for (at, replica) in &serving {
            let chains: Vec<_> = replica.items().chains_from(NoteId::SEQUENCE).collect();
            assert!(chains.is_empty(), "all is quiet, but at {} these are pending: {chains:?}", show::name(*at));
            let pair = format!("{} and {}", show::name(first), show::name(*at));
            assert!(committed(reference).eq(committed(replica)), "{pair} hold different items");
            assert_eq!(format!("{:?}", reference.keys), format!("{:?}", replica.keys), "{pair} hold different keys");
            self.done.iter().for_each(|(done, _)| self.check_kept(done, replica));
        }
    }

    /// A note that was written is there in that version or a later one, unless somebody asked to delete it.
    fn check_kept(&self, done: &Done, replica: &Replica) {
        let committed = replica.items().committed(done.id);
        let kept = committed.map_or(self.doomed.contains(&done.id), |record| record.version >= done.version);
        assert!(kept, "invariant 4: note {} v{} was answered done and is lost", done.id, done.version);
    }
}

fn committed(replica: &Replica) -> impl Iterator<Item = &Record> {
    replica.items().committed_from(NoteId::SEQUENCE)
}

/// The in-sync replicas of the newest view, if all of them serve.
fn serving(cluster: &Cluster) -> Vec<(ReplicaId, &Replica)> {
    let replicas = || cluster.hosts().filter_map(|(at, host)| Some((at, host.replica.as_ref()?)));
    let newest = replicas().filter_map(|(_, replica)| replica.view()).max_by_key(|view| view.epoch);
    let Some(view) = newest else { return Vec::new() };
    let in_sync: Vec<_> = replicas().filter(|(at, _)| view.in_sync_set().contains(*at)).collect();
    let all_serve = in_sync.iter().all(|(_, replica)| {
        replica.standing() == Standing::Ready && replica.view().is_some_and(|its| its.epoch == view.epoch)
    });
    match all_serve && in_sync.len() == view.in_sync.len() {
        true => in_sync,
        false => Vec::new(),
    }
}

fn is_fresh_post(request: &Request) -> bool {
    matches!(request, Request::Write(write) if write.key.is_none() && matches!(write.operation, Operation::Post { .. }))
}
