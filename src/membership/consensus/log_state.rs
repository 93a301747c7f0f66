//! What the consensus store holds, as the records in it make it. Pure.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use super::types::{Entry, History, LogId, Proposal, SnapshotMeta, Vote};
use crate::protocol::ids::{ClusterId, ConsensusId, Epoch};
use crate::protocol::view::View;

/// One record of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogRecord {
    /// The store was created: its voter id (J5). The first record.
    Created(ConsensusId),
    /// The cluster that it belongs to.
    Cluster(ClusterId),
    /// The vote, in the place of the one before.
    Vote(Vote),
    /// One more entry.
    Entry(Entry),
    /// Entries from this index on are gone.
    Truncated(u64),
    /// Entries up to this one are gone; a snapshot covers them.
    Purged(LogId),
    /// The state up to some entry, in the place of the snapshot before.
    Snapshot(Kept),
}

/// A snapshot as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) meta: SnapshotMeta,
    pub(super) history: History,
}

/// The store's content.
#[derive(Clone, Debug, Default)]
pub(super) struct LogState {
    pub(super) id: Option<ConsensusId>,
    pub(super) cluster: Option<ClusterId>,
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) snapshot: Option<Kept>,
    entries: BTreeMap<u64, Entry>,
}

impl LogState {
    pub(super) fn apply(&mut self, record: LogRecord) {
        match record {
            LogRecord::Created(id) => self.id = Some(id),
            LogRecord::Cluster(cluster) => self.cluster = Some(cluster),
            LogRecord::Vote(vote) => self.vote = Some(vote),
            LogRecord::Entry(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            LogRecord::Truncated(since) => {
                self.entries.split_off(&since);
            }
            LogRecord::Purged(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
            LogRecord::Snapshot(kept) => self.snapshot = Some(kept),
        }
    }

    /// As few records as make this state.
    pub(super) fn records(&self) -> Vec<LogRecord> {
        let mut records = Vec::new();
        records.extend(self.id.map(LogRecord::Created));
        records.extend(self.cluster.map(LogRecord::Cluster));
        records.extend(self.vote.map(LogRecord::Vote));
        records.extend(self.snapshot.clone().map(LogRecord::Snapshot));
        records.extend(self.purged.map(LogRecord::Purged));
        records.extend(self.entries.values().cloned().map(LogRecord::Entry));
        records
    }

    /// Whether nothing of any group was stored: only such a one may found a group (J4).
    pub(super) fn is_empty(&self) -> bool {
        self.vote.is_none() && self.last().is_none()
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    pub(super) fn range(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        self.entries.range(range).map(|(_, entry)| entry.clone()).collect()
    }

    /// The newest view that this log makes; its last entries may never have been agreed to.
    pub(super) fn last_view(&self) -> Option<View> {
        let mut history = self.snapshot.as_ref().map(|kept| kept.history.clone()).unwrap_or_default();
        for entry in self.entries.values() {
            if let openraft::EntryPayload::Normal(proposal) = &entry.payload {
                history.apply(proposal.clone());
            }
        }
        history.newest().cloned()
    }

    /// The largest epoch that anything here names.
    pub(super) fn last_epoch(&self) -> Epoch {
        let proposed = self.entries.values().filter_map(|entry| match &entry.payload {
            openraft::EntryPayload::Normal(Proposal::View { view, .. }) => Some(view.epoch),
            _ => None,
        });
        let kept = self.snapshot.as_ref().map(|kept| kept.history.epoch());
        proposed.chain(kept).max().unwrap_or(Epoch(0))
    }
}
