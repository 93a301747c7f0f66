//! Reading a journal's folder at a start, and telling what a crash may leave from what it may not.
//!
//! A crash may leave: a torn last frame, which was never acknowledged, since its sync never returned; a last segment that
//! was never used; files that a snapshot has made superfluous; half a snapshot under its temporary name. All else is
//! damage and refused, with file and offset: never is a record silently left out.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::{Doing as _, StoreError};
use super::format::{
    FORMAT_VERSION, FRAME_HEAD_BYTES, FrameHead, HEADER_BYTES, Header, Kind, NoHeader, find_frame, frame_at,
};
use super::journal::{End, Journal, Mark};
use super::segment::{MARK, Numbered, Segment, read_file};
use super::snapshot::remove_before;

/// Takes each payload, in the order in which they were written; says what is wrong with one that it cannot read.
pub(super) type Take<'a> = dyn FnMut(&[u8]) -> Result<(), String> + 'a;

/// Reads the store in a folder, snapshot first, and opens its journal behind the last whole frame. `id`: the store that
/// it has to be, where that is known.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    folder: &Path,
    id: Option<u64>,
    segment_bytes: u64,
    take: &mut Take<'_>,
) -> Result<Journal, StoreError> {
    let mark = read_mark(disk.as_ref(), folder, id)?;
    let (snapshot, segments) = numbered_files(disk.as_ref(), folder)?;
    let mut reading = Reading { disk: disk.as_ref(), folder, mark, expected: 1, bytes: 0, take };
    let first = snapshot.unwrap_or(1);
    if let Some(number) = snapshot {
        reading.read_snapshot(number)?;
    }
    let found = reading.read_segments(first, &segments)?;
    let (sequence, bytes) = (reading.expected - 1, reading.bytes);
    let segment = tidy(disk.as_ref(), folder, first, &found)?;
    let mut mark_file = Mark::open(disk.as_ref(), folder)?;
    mark_file.write(mark.store, segment.number, sequence)?;
    let end = End { segment, at: found.at, sequence, bytes };
    Ok(Journal::go_on(disk, folder, mark.store, segment_bytes, end, mark_file))
}

/// The newest snapshot, and all segments.
fn numbered_files(disk: &dyn Disk, folder: &Path) -> Result<(Option<u64>, BTreeSet<u64>), StoreError> {
    let (mut snapshot, mut segments) = (None, BTreeSet::new());
    for name in disk.list(folder).doing("list", folder)? {
        match Numbered::parse(&name) {
            Some(Numbered::Segment(number)) => _ = segments.insert(number),
            Some(Numbered::Snapshot(number)) => snapshot = snapshot.max(Some(number)),
            None => {}
        }
    }
    Ok((snapshot, segments))
}

/// How far the journal was durable, at least.
pub(super) fn read_mark(disk: &dyn Disk, folder: &Path, id: Option<u64>) -> Result<Header, StoreError> {
    let path = folder.join(MARK);
    let file = open(disk, &path)?;
    let bytes = read_file(file.as_ref(), &path)?;
    if bytes.len() != HEADER_BYTES {
        return Err(StoreError::damaged(&path, 0, format!("it has {} bytes, not {HEADER_BYTES}", bytes.len())));
    }
    header(Kind::Mark, &bytes, &path, id)
}

/// A file that has to be there.
fn open(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskFile>, StoreError> {
    match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::damaged(path, 0, "it is missing")),
        file => file.doing("open", path),
    }
}

/// The header that has to be there, of this store.
fn header(kind: Kind, bytes: &[u8], path: &Path, store: Option<u64>) -> Result<Header, StoreError> {
    match Header::decode(kind, bytes) {
        Err(NoHeader::Version(found)) => {
            Err(StoreError::Version { file: path.to_owned(), found, ours: FORMAT_VERSION })
        }
        Err(NoHeader::Broken) => Err(StoreError::damaged(path, 0, "its header is broken")),
        Ok(header) => match store {
            Some(store) if store != header.store => {
                let what = format!("it is part of store {:016x}, not of {store:016x}", header.store);
                Err(StoreError::damaged(path, 12, what))
            }
            _ => Ok(header),
        },
    }
}

/// What was found of the journal.
struct Found {
    /// The last segment in use.
    number: u64,
    /// Where it ends.
    at: u64,
    /// Whether a torn frame follows there.
    torn: bool,
    /// Segments behind it, which were never used.
    unused: Vec<u64>,
}

struct Reading<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    mark: Header,
    /// The number of the next frame.
    expected: u64,
    /// Bytes of all segments read.
    bytes: u64,
    take: &'a mut Take<'a>,
}

/// Where the whole frames of a segment end; at 0 where it was never begun.
struct Scan {
    at: u64,
    torn: bool,
}

impl Reading<'_> {
    fn path(&self, file: Numbered) -> PathBuf {
        self.folder.join(file.name())
    }

    /// Frame by frame, since a snapshot may be as large as memory allows. It was synced before it got its name, so
    /// nothing in it can be torn.
    fn read_snapshot(&mut self, number: u64) -> Result<(), StoreError> {
        let path = self.path(Numbered::Snapshot(number));
        let file = open(self.disk, &path)?;
        let length = file.length().doing("measure", &path)?;
        let mut front = vec![0; HEADER_BYTES.min(usize::try_from(length).unwrap_or(HEADER_BYTES))];
        file.read_at(0, &mut front).doing("read", &path)?;
        let header = header(Kind::Snapshot, &front, &path, Some(self.mark.store))?;
        if header.number != number {
            return Err(StoreError::damaged(&path, 20, format!("it was written as snapshot {}", header.number)));
        }
        let (mut at, mut payload) = (HEADER_BYTES as u64, Vec::new());
        for frame in 1.. {
            read_frame(file.as_ref(), &path, at, length, frame, &mut payload)?;
            if payload.is_empty() {
                break;
            }
            (self.take)(&payload).map_err(|what| StoreError::damaged(&path, at, what))?;
            at += (FRAME_HEAD_BYTES + payload.len()) as u64;
        }
        self.expected = header.sequence;
        match at + FRAME_HEAD_BYTES as u64 {
            end if end == length => Ok(()),
            end => Err(StoreError::damaged(&path, end, "bytes follow its end")),
        }
    }

    fn read_segments(&mut self, first: u64, segments: &BTreeSet<u64>) -> Result<Found, StoreError> {
        if !segments.contains(&first) {
            return Err(StoreError::damaged(&self.path(Numbered::Segment(first)), 0, "it is missing"));
        }
        let mut found = Found { number: first, at: 0, torn: false, unused: Vec::new() };
        let mut number = first;
        while segments.contains(&number) && !found.torn {
            let scan = self.read_segment(number)?;
            // A segment begins with its first frame. One that was never begun is the one to be used next, unless the
            // crash left nothing else.
            if scan.at == 0 && number > first {
                break;
            }
            (found.number, found.at, found.torn) = (number, scan.at, scan.torn);
            self.bytes += scan.at;
            if scan.at == 0 {
                break;
            }
            number += 1;
        }
        let path = self.path(Numbered::Segment(found.number));
        if self.expected <= self.mark.sequence {
            let what =
                format!("it ends with batch {}, but batch {} was durable", self.expected - 1, self.mark.sequence);
            return Err(StoreError::damaged(&path, found.at, what));
        }
        found.unused.extend(segments.range(found.number + 1..));
        found.unused.iter().try_for_each(|number| self.check_unused(*number))?;
        Ok(found)
    }

    fn read_segment(&mut self, number: u64) -> Result<Scan, StoreError> {
        let path = self.path(Numbered::Segment(number));
        let bytes = read_file(open(self.disk, &path)?.as_ref(), &path)?;
        let mut at = 0;
        if Header::decode(Kind::Journal, &bytes) != Err(NoHeader::Broken) {
            self.check_header(number, &bytes, &path)?;
            at = HEADER_BYTES;
            while let Some(frame) = bytes.get(at..).and_then(frame_at) {
                if frame.sequence != self.expected {
                    let what = format!("batch {} is where batch {} should be", frame.sequence, self.expected);
                    return Err(StoreError::damaged(&path, at as u64, what));
                }
                (self.take)(frame.payload).map_err(|what| StoreError::damaged(&path, at as u64, what))?;
                self.expected += 1;
                at += frame.length();
            }
            // Header and first frame are one write: the one without the other was torn.
            at = if at == HEADER_BYTES { 0 } else { at };
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let torn = rest.iter().any(|byte| *byte != 0);
        if torn {
            self.check_torn(&path, at, rest)?;
        }
        Ok(Scan { at: at as u64, torn })
    }

    fn check_header(&self, number: u64, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        let header = header(Kind::Journal, bytes, path, Some(self.mark.store))?;
        if header.number != number {
            return Err(StoreError::damaged(path, 20, format!("it was written as segment {}", header.number)));
        }
        if header.sequence != self.expected {
            let what = format!("it begins with batch {}, but batch {} comes next", header.sequence, self.expected);
            return Err(StoreError::damaged(path, 28, what));
        }
        Ok(())
    }

    /// Bytes that are no frame are a torn one only where that was never durable and nothing was written behind it.
    fn check_torn(&self, path: &Path, at: usize, rest: &[u8]) -> Result<(), StoreError> {
        if self.expected <= self.mark.sequence {
            return Err(StoreError::damaged(path, at as u64, format!("batch {} is broken", self.expected)));
        }
        match find_frame(rest) {
            Some(behind) => {
                let what =
                    format!("batch {} is broken, and a later one follows at byte {}", self.expected, at + behind);
                Err(StoreError::damaged(path, at as u64, what))
            }
            None => Ok(()),
        }
    }

    /// What lies behind the journal's end must hold no batch: else one is missing between.
    fn check_unused(&self, number: u64) -> Result<(), StoreError> {
        let path = self.path(Numbered::Segment(number));
        let bytes = read_file(open(self.disk, &path)?.as_ref(), &path)?;
        match find_frame(&bytes) {
            Some(at) => {
                let what = format!("a batch follows, but batch {} before it is missing", self.expected);
                Err(StoreError::damaged(&path, at as u64, what))
            }
            None => Ok(()),
        }
    }
}

/// Reads the payload of a snapshot's frame.
fn read_frame(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
    length: u64,
    number: u64,
    payload: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let broken = || StoreError::damaged(path, at, format!("frame {number} is broken or cut off"));
    let rest = length.saturating_sub(at);
    if rest < FRAME_HEAD_BYTES as u64 {
        return Err(broken());
    }
    let mut head = [0; FRAME_HEAD_BYTES];
    file.read_at(at, &mut head).doing("read", path)?;
    let head = FrameHead::decode(&head).filter(|head| head.sequence == number).ok_or_else(broken)?;
    if rest < (FRAME_HEAD_BYTES + head.payload_bytes) as u64 {
        return Err(broken());
    }
    payload.resize(head.payload_bytes, 0);
    file.read_at(at + FRAME_HEAD_BYTES as u64, payload).doing("read", path)?;
    if head.fits(payload) { Ok(()) } else { Err(broken()) }
}

/// Makes durable what was read, removes what a crash left over, and opens the last segment.
fn tidy(disk: &dyn Disk, folder: &Path, first: u64, found: &Found) -> Result<Segment, StoreError> {
    // What is read now will be acknowledged as stored, and the process that wrote it may have died before it synced it.
    disk.sync_folder(folder).doing("sync", folder)?;
    remove_before(disk, folder, first)?;
    for number in &found.unused {
        let path = folder.join(Numbered::Segment(*number).name());
        disk.remove(&path).doing("remove", &path)?;
    }
    for name in disk.list(folder).doing("list", folder)? {
        if name.ends_with(".new") {
            let path = folder.join(name);
            disk.remove(&path).doing("remove", &path)?;
        }
    }
    // An unused segment may have a header; were it to come back after a power cut, it would look like a gap.
    disk.sync_folder(folder).doing("sync", folder)?;
    open_last(disk, folder, found)
}

fn open_last(disk: &dyn Disk, folder: &Path, found: &Found) -> Result<Segment, StoreError> {
    let path = folder.join(Numbered::Segment(found.number).name());
    let mut file = disk.open(&path).doing("open", &path)?;
    let bytes = file.length().doing("measure", &path)?;
    if found.torn {
        // Zeros, so that no part of the torn frame shows behind a shorter one that takes its place.
        let zeros = vec![0; usize::try_from(bytes - found.at).unwrap_or_default()];
        file.write_at(found.at, &zeros).doing("write", &path)?;
    }
    file.sync().doing("sync", &path)?;
    let file = disk.open_to_append(&path).doing("open", &path)?;
    Ok(Segment { path, file, number: found.number, bytes })
}
