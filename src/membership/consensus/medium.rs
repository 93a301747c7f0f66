//! Where the consensus log's records are kept: byte records, appended and read back in order.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{Disk, Log, StoreError};

/// Why records could not be kept. After it nobody knows what the medium holds; only a new start, which reads it, does.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The disk failed, or what it held is damaged.
    #[error(transparent)]
    Disk(#[from] StoreError),
    /// An earlier write failed, panicked or was broken off.
    #[error("an earlier write of the consensus log did not end")]
    Broken,
}

/// A medium.
#[derive(Debug)]
pub enum Medium {
    /// Memory: lost with the process, or, where the caller keeps a copy, not with the replica.
    Memory(MemoryLog),
    /// A folder of its own.
    Disk(Box<DiskLog>),
}

/// Records on a disk.
#[derive(Debug)]
pub struct DiskLog {
    /// What the start found; taken by the first read.
    found: Vec<Vec<u8>>,
    /// None while a write is under way, and for good after one that failed.
    log: Option<Log>,
    /// Whether a write may wait for a device, so that it needs a thread.
    waits: bool,
}

impl Medium {
    /// Opens the log in a folder, or makes it, with `fresh` for its id. The folder lies in one that exists and is locked.
    ///
    /// # Errors
    ///
    /// Where the disk fails, or what it holds is damaged.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, fresh: u64) -> Result<Medium, MediumError> {
        let waits = disk.simulated_wait().is_none();
        let (log, contents) = Log::open(disk, folder, fresh)?;
        Ok(Medium::Disk(Box::new(DiskLog { found: contents.records, log: Some(log), waits })))
    }

    /// All records, in the order in which they were appended; asked once.
    pub(super) fn read(&mut self) -> Result<Vec<Vec<u8>>, MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|records| records.clone()),
            Medium::Disk(disk) => Ok(std::mem::take(&mut disk.found)),
        }
    }

    /// Appends records, all or none; they are durable when this returns.
    pub(super) async fn append(&mut self, records: Vec<Vec<u8>>) -> Result<(), MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|kept| kept.extend(records)),
            Medium::Disk(disk) => disk.write(move |log| log.append(&records)).await,
        }
    }

    /// Keeps these records in the place of all others, in one step.
    pub(super) async fn replace(&mut self, records: Vec<Vec<u8>>) -> Result<(), MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|kept| *kept = records),
            Medium::Disk(disk) => disk.write(move |log| log.rewrite(&records)).await,
        }
    }
}

impl DiskLog {
    /// Writes, on a thread that may wait for the disk where there is anything to wait for.
    async fn write(
        &mut self,
        write: impl FnOnce(&mut Log) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), MediumError> {
        let mut log = self.log.take().ok_or(MediumError::Broken)?;
        if !self.waits {
            write(&mut log)?;
            self.log = Some(log);
            return Ok(());
        }
        let write = tokio::task::spawn_blocking(move || write(&mut log).map(|()| log));
        self.log = Some(write.await.map_err(|_panicked| MediumError::Broken)??);
        Ok(())
    }
}

/// Records in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<Vec<Vec<u8>>>>);

impl MemoryLog {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> Result<T, MediumError> {
        let mut records = self.0.lock().map_err(|_: PoisonError<_>| MediumError::Broken)?;
        Ok(act(&mut records))
    }
}
