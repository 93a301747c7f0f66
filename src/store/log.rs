//! A small durable log of byte records, on the same journal: for the consensus log and vote.
//!
//! It keeps what was appended until it is rewritten. Its caller holds the whole state in memory, appends each change of
//! it, and once [`Log::bytes`] is large writes the state anew, which also drops what was truncated or purged.

use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::error::{Doing as _, StoreError};
use super::format::PAYLOAD_BYTES_MAX;
use super::journal::Journal;
use super::recover::recover;
use super::segment::{MARK, Numbered, read_file, remove_folder};
use super::snapshot::SnapshotFile;

/// Length of this log's segments: views are few and short.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// In front of each record, its length.
const LENGTH_BYTES: usize = 4;

/// A log that is open for appending. All its methods wait for the disk.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    journal: Journal,
}

/// What a log held.
#[derive(Debug, PartialEq, Eq)]
pub struct LogContents {
    /// Given when it was made.
    pub id: u64,
    /// Its records: those of the last [`Log::rewrite`], and those appended since.
    pub records: Vec<Vec<u8>>,
}

impl Log {
    /// Opens the log in a folder; makes it, under the id `fresh`, where there is none. The folder lies in one that exists
    /// and is locked.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, fresh: u64) -> Result<(Log, LogContents), StoreError> {
        if is_new(disk.as_ref(), folder)? {
            remove_folder(disk.as_ref(), folder)?;
            let journal = Journal::create(Arc::clone(&disk), folder, fresh, SEGMENT_BYTES)?;
            return Ok((Log { disk, journal }, LogContents { id: fresh, records: Vec::new() }));
        }
        let mut records = Vec::new();
        let mut take = |payload: &[u8]| split(payload, &mut records);
        let journal = recover(Arc::clone(&disk), folder, None, SEGMENT_BYTES, &mut take)?;
        let id = journal.id();
        Ok((Log { disk, journal }, LogContents { id, records }))
    }

    /// Appends records, all or none; durable once this returns. After an error the log must not be used again.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let payload = self.journal.payload();
        records.iter().for_each(|record| put(payload, record.as_ref()));
        if !self.journal.fits() {
            let segment = self.journal.next_plan().make()?;
            // The plan was for a segment that this batch fits.
            self.journal.turn_to(segment);
        }
        self.journal.append()?;
        self.journal.note_durable()
    }

    /// Replaces all records by these, in one step; durable once this returns.
    pub fn rewrite<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StoreError> {
        let segment = self.journal.next_plan().make()?;
        let folder = self.journal.folder().to_owned();
        let (id, number, sequence) = (self.journal.id(), segment.number, self.journal.sequence() + 1);
        let mut snapshot = SnapshotFile::create(Arc::clone(&self.disk), folder, id, number, sequence)?;
        for record in records {
            let bytes = LENGTH_BYTES + record.as_ref().len();
            if bytes > PAYLOAD_BYTES_MAX {
                return Err(StoreError::TooLarge { bytes, max: PAYLOAD_BYTES_MAX });
            }
            snapshot.add(|payload| put(payload, record.as_ref()))?;
        }
        snapshot.finish()?;
        self.journal.turn_to(segment);
        self.journal.set_bytes(0);
        Ok(())
    }

    /// Bytes appended since the last rewrite.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Ends cleanly.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.journal.close()
    }
}

/// Whether there is no log, or only one whose making was broken off: the mark is made last.
fn is_new(disk: &dyn Disk, folder: &Path) -> Result<bool, StoreError> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        names => names.doing("list", folder)?,
    };
    if names.iter().any(|name| name == MARK) {
        return Ok(false);
    }
    for name in &names {
        let path = folder.join(name);
        let is_empty = match Numbered::parse(name) {
            Some(Numbered::Snapshot(_)) => false,
            Some(Numbered::Segment(_)) => {
                let file = disk.open(&path).doing("open", &path)?;
                read_file(file.as_ref(), &path)?.iter().all(|byte| *byte == 0)
            }
            None => true,
        };
        if !is_empty {
            return Err(StoreError::damaged(&folder.join(MARK), 0, format!("it is missing, and {name} holds data")));
        }
    }
    Ok(true)
}

fn put(payload: &mut Vec<u8>, record: &[u8]) {
    // What passes 4 GiB passes the longest payload, too, and is refused for that.
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(record);
}

fn split(mut payload: &[u8], records: &mut Vec<Vec<u8>>) -> Result<(), String> {
    while !payload.is_empty() {
        let record = payload.split_first_chunk::<LENGTH_BYTES>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let (record, rest) = record.ok_or("a record is longer than its frame")?;
        records.push(record.to_vec());
        payload = rest;
    }
    Ok(())
}
