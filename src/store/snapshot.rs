//! Snapshots: the state of a store in one file, so that older segments can go.
//!
//! A snapshot is fuzzy: while it is written, the journal goes on in newer segments. Whatever changed meanwhile is in
//! those, too, and at a start the newest version of each item wins.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::{Doing as _, StoreError};
use super::format::{FRAME_HEAD_BYTES, Header, Kind, seal_frame};
use super::segment::{Numbered, temporary};

/// Bytes after which the system is asked to write them out. Otherwise all would go to the disk at once, at the end, and the
/// commits of that moment would wait behind it. They are not synced: each sync of a file that grows takes the file system's
/// own journal with it, and commits wait for that, too.
const WRITE_OUT_BYTES: u64 = 256 * 1024;

/// A snapshot that is being written, under a temporary name.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    at: u64,
    /// Up to here the system was asked to write out.
    going_out: u64,
    frames: u64,
    /// Room for a frame's head, then the payload.
    buffer: Vec<u8>,
}

impl SnapshotFile {
    /// Begins the snapshot of everything before segment `number`, whose first frame is `sequence`.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        store: u64,
        number: u64,
        sequence: u64,
    ) -> Result<SnapshotFile, StoreError> {
        let path = temporary(&folder.join(Numbered::Snapshot(number).name()));
        let mut file = disk.create(&path).doing("create", &path)?;
        let header = Header { kind: Kind::Snapshot, store, number, sequence }.encode();
        file.write_at(0, &header).doing("write", &path)?;
        let at = header.len() as u64;
        Ok(SnapshotFile { disk, folder, number, path, file, at, going_out: 0, frames: 0, buffer: Vec::new() })
    }

    /// Appends what `fill` puts into the buffer, in a frame; nothing where it puts nothing.
    pub(super) fn add(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), StoreError> {
        self.buffer.clear();
        self.buffer.resize(FRAME_HEAD_BYTES, 0);
        fill(&mut self.buffer);
        if self.buffer.len() > FRAME_HEAD_BYTES { self.write_frame() } else { Ok(()) }
    }

    fn write_frame(&mut self) -> Result<(), StoreError> {
        self.frames += 1;
        seal_frame(&mut self.buffer, self.frames);
        self.file.write_at(self.at, &self.buffer).doing("write", &self.path)?;
        self.at += self.buffer.len() as u64;
        if self.at - self.going_out >= WRITE_OUT_BYTES {
            self.file.begin_write_out(self.going_out, self.at - self.going_out);
            self.going_out = self.at;
        }
        Ok(())
    }

    /// Ends the snapshot, with an empty frame that tells it from a shorter one, and makes it valid in one step. Then
    /// nothing before it is needed. Returns its length.
    pub(super) fn finish(mut self) -> Result<u64, StoreError> {
        self.buffer.clear();
        self.buffer.resize(FRAME_HEAD_BYTES, 0);
        self.write_frame()?;
        self.file.sync().doing("sync", &self.path)?;
        let path = self.folder.join(Numbered::Snapshot(self.number).name());
        self.disk.rename(&self.path, &path).doing("rename", &self.path)?;
        self.disk.sync_folder(&self.folder).doing("sync", &self.folder)?;
        remove_before(self.disk.as_ref(), &self.folder, self.number)?;
        Ok(self.at)
    }

    /// Gives up.
    pub(super) fn abandon(self) -> Result<(), StoreError> {
        self.disk.remove(&self.path).doing("remove", &self.path)
    }
}

/// Removes the segments and snapshots that the snapshot with this number makes superfluous. A crash may leave any of
/// them: the next start removes them again.
pub(super) fn remove_before(disk: &dyn Disk, folder: &std::path::Path, number: u64) -> Result<(), StoreError> {
    for name in disk.list(folder).doing("list", folder)? {
        let is_old = match Numbered::parse(&name) {
            Some(Numbered::Segment(other) | Numbered::Snapshot(other)) => other < number,
            None => false,
        };
        if is_old {
            let path = folder.join(name);
            disk.remove(&path).doing("remove", &path)?;
        }
    }
    Ok(())
}
