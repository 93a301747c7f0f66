//! What was written to a disk in memory and not synced: changes of folders, and writes to files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    /// By its place in `files`.
    File(usize),
}

#[derive(Debug)]
pub(super) enum Change {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Change::Add(path, _) | Change::Remove(path) | Change::Rename(path, _) => path.parent(),
        }
    }

    pub(super) fn apply(&self, entries: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Change::Add(path, entry) => {
                entries.insert(path.clone(), *entry);
            }
            Change::Remove(path) => {
                entries.remove(path);
            }
            Change::Rename(from, to) => rename(entries, from, to),
        }
    }
}

/// With all that is in it, where it is a folder.
fn rename(entries: &mut BTreeMap<PathBuf, Entry>, from: &Path, to: &Path) {
    let moved: Vec<(PathBuf, Entry)> = entries.extract_if(.., |path, _| path.starts_with(from)).collect();
    for (path, entry) in moved {
        let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
        let path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        entries.insert(path, entry);
    }
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) writes: Vec<Write>,
}

#[derive(Debug)]
pub(super) enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::Bytes(offset, written) => put(bytes, *offset, written),
            Write::Length(length) => bytes.resize(bytes.len().max(*length as usize), 0),
        }
    }

    /// Applies those sectors that the power cut leaves.
    pub(super) fn apply_some(&self, bytes: &mut Vec<u8>, keep: &mut dyn FnMut() -> bool) {
        match self {
            Write::Length(_) if keep() => self.apply(bytes),
            Write::Length(_) => {}
            Write::Bytes(offset, written) => {
                let (mut at, mut rest) = (*offset, written.as_slice());
                while !rest.is_empty() {
                    let sector_rest = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
                    let (sector, behind) = rest.split_at(sector_rest.min(rest.len()));
                    if keep() {
                        put(bytes, at, sector);
                    }
                    (at, rest) = (at + sector.len() as u64, behind);
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + written.len());
    bytes.resize(bytes.len().max(end), 0);
    bytes[start..end].copy_from_slice(written);
}

impl Contents {
    pub(super) fn take(&mut self, write: Write) {
        write.apply(&mut self.bytes);
        self.writes.push(write);
    }
}
