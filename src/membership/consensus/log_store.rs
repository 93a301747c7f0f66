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
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The consensus store; clones share it.
#[derive(Clone, Debug)]
pub(in crate::membership) struct LogStore {
    id: ConsensusId,
    /// Held while records are written, so that memory and medium change in the same order.
    medium: Arc<Mutex<Written>>,
    state: Arc<RwLock<LogState>>,
}

#[derive(Debug)]
struct Written {
    medium: Medium,
    records: usize,
}

impl LogStore {
    /// Reads the store; an empty medium becomes a new store with a new voter id (J5).
    pub(in crate::membership) async fn open(mut medium: Medium) -> Result<LogStore, LogStoreError> {
        let mut state = LogState::default();
        let records = medium.read()?;
        for (index, record) in records.iter().enumerate() {
            let record = serde_json::from_slice(record).map_err(|source| LogStoreError::Record { index, source })?;
            state.apply(record);
        }
        match state.id {
            Some(id) => Ok(LogStore::with(id, medium, records.len(), state)),
            None => LogStore::create(medium).await,
        }
    }

    /// J5: forgets the group that this store was part of. Returns the largest epoch that it knew.
    pub(in crate::membership) async fn begin_anew(medium: Medium) -> Result<(LogStore, Epoch), LogStoreError> {
        let old = LogStore::open(medium).await?;
        let last_epoch = old.read().last_epoch();
        let LogStore { medium, .. } = old;
        let medium = match Arc::try_unwrap(medium) {
            Ok(written) => written.into_inner().medium,
            Err(_) => return Err(MediumError::Poisoned.into()),
        };
        Ok((LogStore::create(medium).await?, last_epoch))
    }

    async fn create(mut medium: Medium) -> Result<LogStore, LogStoreError> {
        let id = ConsensusId(getrandom::u64().map_err(LogStoreError::Random)?);
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
