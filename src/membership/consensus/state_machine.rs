//! Applies the log: each agreed view goes to the membership task before anybody can conclude anything from its having been
//! applied.

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use tokio::sync::mpsc;

use super::log_state::Kept;
use super::log_store::LogStore;
use super::types::{Entry, History, LogId, SnapshotMeta, StorageError, StoredMembership, Verdict, ViewLog};
use crate::protocol::view::View;

/// What the log has come to say.
#[derive(Clone, Debug)]
pub(in crate::membership) enum Applied {
    /// A new view.
    View(View),
    /// The group's members.
    Members(StoredMembership),
}

/// The views that the log makes. Kept in memory; a start reads the last snapshot and applies the log again.
#[derive(Debug)]
pub(in crate::membership) struct StateMachine<T> {
    history: History,
    last_applied: Option<LogId>,
    members: StoredMembership,
    store: LogStore,
    /// Where the membership task hears of it; its other inputs that follow from an applied entry come behind.
    output: mpsc::Sender<T>,
}

impl<T: From<Applied> + Send + 'static> StateMachine<T> {
    /// With the state of the last snapshot.
    pub(in crate::membership) fn new(store: LogStore, output: mpsc::Sender<T>) -> StateMachine<T> {
        let kept = store.snapshot();
        let (meta, history) = kept.map(|kept| (kept.meta, kept.history)).unwrap_or_default();
        StateMachine { history, last_applied: meta.last_log_id, members: meta.last_membership, store, output }
    }

    /// The newest view of the snapshot that it began with.
    pub(in crate::membership) fn newest(&self) -> Option<View> {
        self.history.newest().cloned()
    }

    /// The group's members in that snapshot.
    pub(in crate::membership) fn members(&self) -> &StoredMembership {
        &self.members
    }

    fn meta(&self) -> SnapshotMeta {
        let snapshot_id = self.last_applied.map_or_else(|| "0".to_owned(), |last| last.to_string());
        SnapshotMeta { last_log_id: self.last_applied, last_membership: self.members.clone(), snapshot_id }
    }

    /// Waits while the task is busy: no view is ever dropped. Once the task has ended nobody is told any more.
    async fn tell(&self, applied: Applied) {
        if self.output.send(applied.into()).await.is_err() {
            tracing::debug!("a view was applied after the membership task had ended");
        }
    }
}

impl<T: From<Applied> + Send + 'static> RaftStateMachine<ViewLog> for StateMachine<T> {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Verdict>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (before, mut verdicts, mut members) = (self.history.epoch(), Vec::new(), None);
        for entry in entries {
            self.last_applied = Some(entry.log_id);
            verdicts.push(match entry.payload {
                EntryPayload::Blank => Verdict::Void,
                EntryPayload::Normal(proposal) => self.history.apply(proposal),
                EntryPayload::Membership(membership) => {
                    members = Some(StoredMembership::new(Some(entry.log_id), membership));
                    Verdict::Void
                }
            });
        }
        if let Some(members) = members {
            self.members = members.clone();
            self.tell(Applied::Members(members)).await;
        }
        // A start applies many entries at once; only the newest view of them matters.
        if let Some(view) = self.newest().filter(|view| view.epoch > before) {
            self.tell(Applied::View(view)).await;
        }
        Ok(verdicts)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { kept: Kept { meta: self.meta(), history: self.history.clone() }, store: self.store.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<History>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<History>) -> Result<(), StorageError> {
        let kept = Kept { meta: meta.clone(), history: *snapshot };
        self.store
            .keep_snapshot(kept.clone())
            .await
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error))?;
        let before = self.history.epoch();
        self.history = kept.history;
        self.last_applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        self.tell(Applied::Members(self.members.clone())).await;
        if let Some(view) = self.newest().filter(|view| view.epoch > before) {
            self.tell(Applied::View(view)).await;
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<ViewLog>>, StorageError> {
        let snapshot = |kept: Kept| Snapshot { meta: kept.meta, snapshot: Box::new(kept.history) };
        Ok(self.store.snapshot().map(snapshot))
    }
}

/// Keeps the state of one moment.
#[derive(Debug)]
pub(in crate::membership) struct SnapshotBuilder {
    kept: Kept,
    store: LogStore,
}

impl RaftSnapshotBuilder<ViewLog> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<ViewLog>, StorageError> {
        let Kept { meta, history } = self.kept.clone();
        self.store
            .keep_snapshot(self.kept.clone())
            .await
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error))?;
        Ok(Snapshot { meta, snapshot: Box::new(history) })
    }
}
