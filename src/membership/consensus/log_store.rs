//! The consensus log and vote, kept as records of a medium and held in memory.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use openraft::storage::{LogFlushed, LogState as LogEnds, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::Mutex;

use super::log_state::{Kept, LogRecord, LogState};
use super::medium::{Medium, MediumError};
use super::types::{Entry, LogId, StorageError, ViewLog, Vote};
use crate::protocol::ids::{ClusterId, ConsensusId, Epoch};
use crate::protocol::view::View;
use crate::random::{Random, RandomError};

/// Records past which the medium is rewritten with as few as make the same state: replaying them at a start takes a
/// moment, and the store stays under a megabyte.
const RECORDS_MAX: usize = 1_000;

/// Why the consensus store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// The medium failed.
    #[error("the consensus store cannot be used: {0}; start the replica again")]
    Medium(#[from] MediumError),
    /// A record is not what this program writes.
    #[error(
        "record {index} of the consensus store cannot be read: {source}; remove the replica's `consensus` folder, and the \
         replica joins as a new voter"
    )]
    Record {
        /// Which record, from 0.
        index: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record could not be written as JSON.
    #[error("a record of the consensus log cannot be written as JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// The system gave no random number for the voter's id.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The consensus store; clones share it.
#[derive(Clone, Debug)]
pub(in crate::membership) struct LogStore {
    id: ConsensusId,
    /// Held while records are written, so that memory and medium change in the same order.
    medium: Arc<Mutex<Written>>,
    state: Arc<RwLock<LogState>>,
}

/// What a store knew of the group that it was part of.
#[derive(Clone, Debug)]
pub(in crate::membership) struct Known {
    /// The largest epoch that anything in it names.
    pub(in crate::membership) epoch: Epoch,
    /// The newest view.
    pub(in crate::membership) view: Option<View>,
}

#[derive(Debug)]
struct Written {
    medium: Medium,
    records: usize,
}

impl LogStore {
    /// Reads the store; an empty medium becomes a new store with a new voter id (J5).
    pub(in crate::membership) async fn open(mut medium: Medium, random: &Random) -> Result<LogStore, LogStoreError> {
        let mut state = LogState::default();
        let records = medium.read()?;
        for (index, record) in records.iter().enumerate() {
            let record = serde_json::from_slice(record).map_err(|source| LogStoreError::Record { index, source })?;
            state.apply(record);
        }
        match state.id {
            Some(id) => Ok(LogStore::with(id, medium, records.len(), state)),
            None => LogStore::create(medium, random).await,
        }
    }

    /// J5: forgets the group that this store was part of. Returns what it knew.
    pub(in crate::membership) async fn begin_anew(
        medium: Medium,
        random: &Random,
    ) -> Result<(LogStore, Known), LogStoreError> {
        let old = LogStore::open(medium, random).await?;
        let known = Known { epoch: old.read().last_epoch(), view: old.read().last_view() };
        let LogStore { medium, .. } = old;
        let medium = match Arc::try_unwrap(medium) {
            Ok(written) => written.into_inner().medium,
            Err(_) => return Err(MediumError::Broken.into()),
        };
        Ok((LogStore::create(medium, random).await?, known))
    }

    async fn create(mut medium: Medium, random: &Random) -> Result<LogStore, LogStoreError> {
        let id = ConsensusId(random.draw()?);
        let created = LogRecord::Created(id);
        medium.replace(vec![encode(&created)?]).await?;
        let mut state = LogState::default();
        state.apply(created);
        Ok(LogStore::with(id, medium, 1, state))
    }

    fn with(id: ConsensusId, medium: Medium, records: usize, state: LogState) -> LogStore {
        let medium = Arc::new(Mutex::new(Written { medium, records }));
        LogStore { id, medium, state: Arc::new(RwLock::new(state)) }
    }

    /// The voter id.
    pub(in crate::membership) fn id(&self) -> ConsensusId {
        self.id
    }

    /// The cluster that this store belongs to; none while it is empty.
    pub(in crate::membership) fn cluster(&self) -> Option<ClusterId> {
        let state = self.read();
        state.cluster.filter(|_| !state.is_empty())
    }

    /// The cluster whose calls are answered: the stored one, even before anything else of it is stored.
    pub(in crate::membership) async fn adopt(&self, cluster: ClusterId) -> Result<ClusterId, LogStoreError> {
        let (known, empty) = {
            let state = self.read();
            (state.cluster, state.is_empty())
        };
        match known {
            Some(known) if known == cluster || !empty => Ok(known),
            _ => self.write(vec![LogRecord::Cluster(cluster)]).await.map(|()| cluster),
        }
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<LogId> {
        self.read().last()
    }

    /// The snapshot that is kept.
    pub(super) fn snapshot(&self) -> Option<Kept> {
        self.read().snapshot.clone()
    }

    /// Keeps a snapshot in the place of the one before.
    pub(super) async fn keep_snapshot(&self, kept: Kept) -> Result<(), LogStoreError> {
        self.write(vec![LogRecord::Snapshot(kept)]).await
    }

    /// Makes records durable, then takes them over.
    async fn write(&self, records: Vec<LogRecord>) -> Result<(), LogStoreError> {
        let mut written = self.medium.lock().await;
        let encoded = records.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        written.records += encoded.len();
        written.medium.append(encoded).await?;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            records.into_iter().for_each(|record| state.apply(record));
        }
        if written.records > RECORDS_MAX {
            let whole = self.read().records().iter().map(encode).collect::<Result<Vec<_>, _>>()?;
            written.records = whole.len();
            written.medium.replace(whole).await?;
        }
        Ok(())
    }

    /// A poisoned lock holds a whole state all the same: applying a record does not panic half-way.
    fn read(&self) -> RwLockReadGuard<'_, LogState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(record: &LogRecord) -> Result<Vec<u8>, LogStoreError> {
    serde_json::to_vec(record).map_err(LogStoreError::Encode)
}

impl RaftLogReader<ViewLog> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.read().range(range))
    }
}

impl RaftLogStorage<ViewLog> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogEnds<ViewLog>, StorageError> {
        let state = self.read();
        Ok(LogEnds { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(vec![LogRecord::Vote(*vote)]).await.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.read().vote)
    }

    /// Views are rare, so this waits for the disk, and the callback comes before it returns.
    async fn append<I>(&mut self, entries: I, callback: LogFlushed<ViewLog>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(LogRecord::Entry).collect();
        self.write(records).await.map_err(|error| StorageIOError::write_logs(&error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let record = LogRecord::Truncated(log_id.index);
        self.write(vec![record]).await.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let record = LogRecord::Purged(log_id);
        self.write(vec![record]).await.map_err(|error| StorageIOError::write_logs(&error).into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use openraft::testing::{StoreBuilder, Suite};
    use tokio::sync::mpsc;

    use super::super::state_machine::{Applied, StateMachine};
    use super::*;
    use crate::store::{Disk, MemoryDisk};

    /// Makes stores for the library's own tests of stores.
    struct Stores;

    impl StoreBuilder<ViewLog, LogStore, StateMachine<Applied>, mpsc::Receiver<Applied>> for Stores {
        async fn build(&self) -> Result<(mpsc::Receiver<Applied>, LogStore, StateMachine<Applied>), StorageError> {
            let disk = MemoryDisk::new();
            disk.make_folder(Path::new("/replica")).unwrap();
            let medium = Medium::open(Arc::new(disk), Path::new("/replica/consensus"), 1).unwrap();
            let store = LogStore::open(medium, &Random::system()).await.unwrap();
            let (output, applied) = mpsc::channel(64);
            Ok((applied, store.clone(), StateMachine::new(store, output)))
        }
    }

    #[test]
    fn the_store_keeps_what_the_library_demands() {
        Suite::test_all(Stores).unwrap();
    }

    fn folder() -> (MemoryDisk, impl Fn(&MemoryDisk) -> Medium) {
        let disk = MemoryDisk::new();
        disk.make_folder(Path::new("/replica")).unwrap();
        (disk, |disk| Medium::open(Arc::new(disk.clone()), Path::new("/replica/consensus"), 1).unwrap())
    }

    fn entry(index: u64) -> Entry {
        let log_id = LogId::new(openraft::CommittedLeaderId::new(1, 7), index);
        Entry { log_id, payload: openraft::EntryPayload::Blank }
    }

    #[tokio::test]
    async fn a_start_finds_what_was_written_and_the_same_voter() {
        let (disk, open) = folder();
        let mut store = LogStore::open(open(&disk), &Random::system()).await.unwrap();
        store.save_vote(&Vote::new(3, 7)).await.unwrap();
        let entries = (0..5).map(|index| LogRecord::Entry(entry(index))).collect();
        store.write(entries).await.unwrap();
        store.truncate(entry(4).log_id).await.unwrap();
        store.purge(entry(1).log_id).await.unwrap();
        let id = store.id();
        drop(store);
        let mut store = LogStore::open(open(&disk), &Random::system()).await.unwrap();
        assert_eq!(store.id(), id);
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
        assert_eq!(store.last(), Some(entry(3).log_id));
        assert_eq!(store.try_get_log_entries(..).await.unwrap(), [entry(2), entry(3)]);
    }

    #[tokio::test]
    async fn what_was_rewritten_is_the_same_and_shorter() {
        let (disk, open) = folder();
        let mut store = LogStore::open(open(&disk), &Random::system()).await.unwrap();
        for term in 0..=RECORDS_MAX as u64 {
            store.save_vote(&Vote::new(term, 7)).await.unwrap();
        }
        assert!(store.medium.lock().await.records < RECORDS_MAX / 2);
        drop(store);
        let mut store = LogStore::open(open(&disk), &Random::system()).await.unwrap();
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(RECORDS_MAX as u64, 7)));
    }

    #[tokio::test]
    async fn a_cluster_is_taken_over_once_and_a_store_begun_anew_has_another_voter() {
        let (disk, open) = folder();
        let mut store = LogStore::open(open(&disk), &Random::system()).await.unwrap();
        assert_eq!(store.adopt(ClusterId(1)).await.unwrap(), ClusterId(1));
        assert_eq!(store.cluster(), None, "nothing of it is stored");
        assert_eq!(store.adopt(ClusterId(2)).await.unwrap(), ClusterId(2), "so another may take it in");
        store.save_vote(&Vote::new(1, 7)).await.unwrap();
        assert_eq!(store.adopt(ClusterId(1)).await.unwrap(), ClusterId(2));
        assert_eq!(store.cluster(), Some(ClusterId(2)));
        let id = store.id();
        drop(store);
        let (store, _) = LogStore::begin_anew(open(&disk), &Random::system()).await.unwrap();
        assert_ne!(store.id(), id);
        assert_eq!((store.cluster(), store.last()), (None, None));
    }
}
