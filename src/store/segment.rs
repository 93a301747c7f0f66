//! Files of a journal's folder: their names, and segments that are made ready before they are needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::{Doing as _, StoreError};

/// The mark's name in the folder.
pub(super) const MARK: &str = "mark";

/// How much of a new segment is filled with zeros before each sync: commits that wait behind one wait briefly.
const ZEROS_BYTES: usize = 1024 * 1024;

/// The files of a journal's folder that have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Numbered {
    Segment(u64),
    Snapshot(u64),
}

impl Numbered {
    pub(super) fn name(self) -> String {
        match self {
            Numbered::Segment(number) => format!("journal-{number:010}"),
            Numbered::Snapshot(number) => format!("snapshot-{number:010}"),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Numbered> {
        let (kind, digits) = name.split_once('-')?;
        let number = digits.parse().ok()?;
        let numbered = match kind {
            "journal" => Numbered::Segment(number),
            "snapshot" => Numbered::Snapshot(number),
            _ => return None,
        };
        (numbered.name() == name).then_some(numbered)
    }
}

/// The name under which something is written before it gets its own.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// A segment to be made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) number: u64,
    pub(super) bytes: u64,
}

/// A segment that is open for writing.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) number: u64,
    pub(super) bytes: u64,
}

impl Plan {
    /// Makes the segment: reserved, so that no batch finds the disk full; written with zeros, because the first sync of a
    /// block that was only reserved has to note so in the file system's own journal (a batch of 10 kB is durable in two
    /// thirds of the time); and its name durable.
    pub(super) fn make(self) -> Result<Segment, StoreError> {
        let path = self.folder.join(Numbered::Segment(self.number).name());
        let mut file = self.disk.create(&path).doing("create", &path)?;
        file.allocate(self.bytes).doing("reserve room for", &path)?;
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(self.bytes).unwrap_or(ZEROS_BYTES))];
        let mut at = 0;
        while at < self.bytes {
            let rest = usize::try_from(self.bytes - at).unwrap_or(ZEROS_BYTES);
            let part = &zeros[..rest.min(zeros.len())];
            file.write_at(at, part).doing("write", &path)?;
            file.sync().doing("sync", &path)?;
            file.begin_write_out(at, part.len() as u64);
            at += part.len() as u64;
        }
        let file = self.disk.open_to_append(&path).doing("open", &path)?;
        self.disk.sync_folder(&self.folder).doing("sync", &self.folder)?;
        Ok(Segment { path, file, number: self.number, bytes: self.bytes })
    }
}

/// Removes a folder with all files in it, where it exists. Folders within it are not ours, and make it fail.
pub(super) fn remove_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names.doing("list", folder)?,
    };
    for name in names {
        let path = folder.join(name);
        disk.remove(&path).doing("remove", &path)?;
    }
    disk.remove_folder(folder).doing("remove", folder)
}

/// Writes a small file whole or not at all, durably.
pub(super) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let new = temporary(path);
    let mut file = disk.create(&new).doing("create", &new)?;
    file.write_at(0, bytes).doing("write", &new)?;
    file.sync().doing("sync", &new)?;
    disk.rename(&new, path).doing("replace", path)?;
    let folder = path.parent().unwrap_or(path);
    disk.sync_folder(folder).doing("sync", folder)
}

/// All bytes of a file.
pub(super) fn read_file(file: &dyn DiskFile, path: &Path) -> Result<Vec<u8>, StoreError> {
    let length = file.length().doing("measure", path)?;
    // A segment is at most one batch longer than planned; what claims more was not written by this program.
    let length = usize::try_from(length).ok().filter(|length| *length <= FILE_BYTES_MAX);
    let Some(length) = length else {
        return Err(StoreError::damaged(path, 0, format!("it is longer than {FILE_BYTES_MAX} bytes")));
    };
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes).doing("read", path)?;
    Ok(bytes)
}

/// Longest file that is read at once: four times the longest segment, so that nothing on disk makes a start take all
/// memory.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
