//! The journal: batches of bytes, appended to segments, each durable by one sync. What the bytes mean is its callers'
//! business: records (writer.rs) or the consensus log (log.rs).
//!
//! Only one frame is written between two syncs. So of all frames only the last can be torn, and whatever is wrong with an
//! earlier one is damage (recover.rs).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::{Doing as _, StoreError};
use super::format::{FRAME_HEAD_BYTES, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX, seal_frame};
use super::segment::{MARK, Plan, Segment, replace_file};

/// Bytes kept after a large batch for the next ones; most batches are far shorter.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// A journal that is open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The store that its files are part of.
    id: u64,
    segment_bytes: u64,
    segment: Segment,
    /// Where the next frame goes; 0 while the segment has no header.
    at: u64,
    /// The number of the last frame.
    sequence: u64,
    /// Bytes in all segments that the snapshot does not cover.
    bytes: u64,
    mark: Mark,
    /// Room for a header and a frame's head, then the payload that is being filled.
    buffer: Vec<u8>,
}

/// Where a journal goes on, as a start found it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) segment: Segment,
    pub(super) at: u64,
    pub(super) sequence: u64,
    pub(super) bytes: u64,
}

const PAYLOAD_AT: usize = HEADER_BYTES + FRAME_HEAD_BYTES;

impl Journal {
    /// Makes the folder of a new store, in a folder that exists, with an empty journal. The mark comes last: a folder
    /// without one is not whole.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        folder: &Path,
        id: u64,
        segment_bytes: u64,
    ) -> Result<Journal, StoreError> {
        disk.make_folder(folder).doing("make", folder)?;
        let parent = folder.parent().unwrap_or(folder);
        disk.sync_folder(parent).doing("sync", parent)?;
        let plan = Plan { disk: Arc::clone(&disk), folder: folder.to_owned(), number: 1, bytes: segment_bytes };
        let segment = plan.make()?;
        let mark = Mark::create(disk.as_ref(), folder, id)?;
        let end = End { segment, at: 0, sequence: 0, bytes: 0 };
        Ok(Journal::go_on(disk, folder, id, segment_bytes, end, mark))
    }

    pub(super) fn go_on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        id: u64,
        segment_bytes: u64,
        end: End,
        mark: Mark,
    ) -> Journal {
        let End { segment, at, sequence, bytes } = end;
        let folder = folder.to_owned();
        Journal { disk, folder, id, segment_bytes, segment, at, sequence, bytes, mark, buffer: vec![0; PAYLOAD_AT] }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes in all segments that the snapshot does not cover.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A snapshot now covers all but this many bytes.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// The number of the segment that is being written.
    pub(super) fn segment_number(&self) -> u64 {
        self.segment.number
    }

    /// The number of the last frame.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether it is time to make the next segment: half of this one is used.
    pub(super) fn is_half_full(&self) -> bool {
        self.at >= self.segment.bytes / 2
    }

    /// Where to put the bytes of the next batch, behind what is there.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// How many bytes were put there.
    pub(super) fn payload_bytes(&self) -> usize {
        self.buffer.len() - PAYLOAD_AT
    }

    /// Whether the batch fits the present segment; else [`Journal::turn_to`] comes before [`Journal::append`].
    pub(super) fn fits(&self) -> bool {
        let header = if self.at == 0 { HEADER_BYTES } else { 0 };
        let frame = header + FRAME_HEAD_BYTES + self.payload_bytes();
        self.at + frame as u64 <= self.segment.bytes
    }

    /// The segment to make next: long enough for the batch that was put into the buffer. It replaces the present one where
    /// that was never begun: at a start, nothing is looked for behind such a segment.
    pub(super) fn next_plan(&self) -> Plan {
        let needed = (PAYLOAD_AT + self.payload_bytes()) as u64;
        let number = if self.at == 0 { self.segment.number } else { self.segment.number + 1 };
        Plan {
            disk: Arc::clone(&self.disk),
            folder: self.folder.clone(),
            number,
            bytes: self.segment_bytes.max(needed),
        }
    }

    /// Goes on in the next segment. Says whether the batch fits it; if not, make a longer one in its place.
    pub(super) fn turn_to(&mut self, segment: Segment) -> bool {
        if ((PAYLOAD_AT + self.payload_bytes()) as u64) > segment.bytes {
            return false;
        }
        debug_assert_eq!(segment.number, self.segment.number + u64::from(self.at > 0), "segments are used in order");
        (self.segment, self.at) = (segment, 0);
        true
    }

    /// Writes the batch as one frame and syncs it: durable once this returns.
    pub(super) fn append(&mut self) -> Result<(), StoreError> {
        let payload_bytes = self.payload_bytes();
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: payload_bytes, max: PAYLOAD_BYTES_MAX });
        }
        debug_assert!(self.fits() && payload_bytes > 0, "an empty batch, or one without room, was appended");
        seal_frame(&mut self.buffer[HEADER_BYTES..], self.sequence + 1);
        let start = if self.at == 0 { 0 } else { HEADER_BYTES };
        if self.at == 0 {
            let (store, number, sequence) = (self.id, self.segment.number, self.sequence + 1);
            let header = Header { kind: Kind::Journal, store, number, sequence };
            self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        }
        let Segment { path, file, .. } = &mut self.segment;
        file.append(self.at, &self.buffer[start..]).doing("write", path)?;
        let written = (self.buffer.len() - start) as u64;
        (self.at, self.bytes, self.sequence) = (self.at + written, self.bytes + written, self.sequence + 1);
        self.buffer.truncate(PAYLOAD_AT);
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Notes how far the journal is durable. Not synced: it tells the next start of this machine's run what has to be
    /// there, and the first frame behind it tells the others.
    pub(super) fn note_durable(&mut self) -> Result<(), StoreError> {
        self.mark.write(self.id, self.segment.number, self.sequence)
    }

    /// Makes the mark durable.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        self.mark.sync()
    }
}

/// The file that says how far the journal was durable: a journal that ends before is damaged, one that ends after it in a
/// broken frame is merely torn. It is one sector, so a power cut leaves the old or the new one.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl Mark {
    fn create(disk: &dyn Disk, folder: &Path, store: u64) -> Result<Mark, StoreError> {
        let path = folder.join(MARK);
        let header = Header { kind: Kind::Mark, store, number: 1, sequence: 0 };
        replace_file(disk, &path, &header.encode())?;
        Mark::open(disk, folder)
    }

    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<Mark, StoreError> {
        let path = folder.join(MARK);
        let file = disk.open(&path).doing("open", &path)?;
        Ok(Mark { path, file })
    }

    pub(super) fn write(&mut self, store: u64, number: u64, sequence: u64) -> Result<(), StoreError> {
        let header = Header { kind: Kind::Mark, store, number, sequence };
        self.file.write_at(0, &header.encode()).doing("write", &self.path)
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync().doing("sync", &self.path)
    }
}
