//! Where the consensus log's records are kept: byte records, appended and read back in order.

use std::sync::{Arc, Mutex, PoisonError};

/// Why records could not be kept. After it nobody knows what the medium holds; only a new start, which reads it, does.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The memory is shared with a thread that panicked.
    #[error("a thread panicked while it wrote the consensus log")]
    Poisoned,
}

/// A medium.
#[derive(Debug)]
pub enum Medium {
    /// Memory: lost with the process, or, where the caller keeps a copy, not with the replica.
    Memory(MemoryLog),
}

impl Medium {
    /// All records, in the order in which they were appended.
    pub fn read(&mut self) -> Result<Vec<Vec<u8>>, MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|records| records.clone()),
        }
    }

    /// Appends records, all or none; they are durable when this returns.
    pub async fn append(&mut self, records: Vec<Vec<u8>>) -> Result<(), MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|kept| kept.extend(records)),
        }
    }

    /// Keeps these records in the place of all others, in one step.
    pub async fn replace(&mut self, records: Vec<Vec<u8>>) -> Result<(), MediumError> {
        match self {
            Medium::Memory(memory) => memory.with(|kept| *kept = records),
        }
    }
}

/// Records in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<Vec<Vec<u8>>>>);

impl MemoryLog {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> Result<T, MediumError> {
        let mut records = self.0.lock().map_err(|_: PoisonError<_>| MediumError::Poisoned)?;
        Ok(act(&mut records))
    }
}
