//! A disk in memory, for tests and simulations: it knows what was synced, and so what a power cut may take. Clones share
//! one disk.
//!
//! At a power cut each unsynced 512-byte sector of a write and each unsynced change of a folder is kept or lost on its
//! own, whatever the order in which they were made: no file system is that wild, and a store that survives it survives
//! them all. The death of a process alone loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskFile, Lock};
use super::unsynced::{Change, Contents, Entry, Write};

/// What happens to an operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error; of a write the first half may be done.
    Error(io::ErrorKind),
    /// The power fails in the midst of it: it and all later ones fail, until [`MemoryDisk::cut_power`].
    PowerCut,
}

/// The disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// Without all the bytes.
impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files()).finish()
    }
}

#[derive(Debug, Default)]
struct State {
    /// What is where, as a process sees it.
    entries: BTreeMap<PathBuf, Entry>,
    /// What a power cut surely leaves.
    durable: BTreeMap<PathBuf, Entry>,
    /// Changes of folders that are not synced, in order.
    changes: Vec<Change>,
    files: Vec<Contents>,
    locks: BTreeSet<PathBuf>,
    /// Counts the power cuts: what was opened before one is of no use after it.
    boot: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    powerless: bool,
    bytes_max: Option<u64>,
    wait: Duration,
}

impl MemoryDisk {
    /// An empty disk, with a root folder `/`.
    pub fn new() -> MemoryDisk {
        let disk = MemoryDisk::default();
        let root = (PathBuf::from("/"), Entry::Folder);
        let mut state = disk.state();
        state.entries.extend([root.clone()]);
        state.durable.extend([root]);
        drop(state);
        disk
    }

    /// How many operations have changed something, or tried to.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the operation after the next `after` ones go wrong; earlier plans are forgotten.
    pub fn fail_after(&self, after: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + after + 1, fault));
    }

    /// Lets all files together be at most this long.
    pub fn set_room(&self, bytes_max: Option<u64>) {
        self.state().bytes_max = bytes_max;
    }

    /// Lets the stores that are opened from now on take this long for each write.
    pub fn set_wait(&self, wait: Duration) {
        self.state().wait = wait;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    /// The power fails, and comes back: what is durable stays, and of the rest what `keep` says, asked in order for each
    /// sector and each change of a folder.
    pub fn cut_power(&self, keep: &mut dyn FnMut() -> bool) {
        let mut state = self.state();
        let State { durable, changes, files, .. } = &mut *state;
        for change in changes.drain(..) {
            if keep() {
                change.apply(durable);
            }
        }
        for file in files {
            for write in file.writes.drain(..) {
                write.apply_some(&mut file.durable, keep);
            }
            file.bytes.clone_from(&file.durable);
        }
        // What is in a folder that was lost is lost, too.
        let folders: BTreeSet<PathBuf> =
            durable.iter().filter(|(_, entry)| **entry == Entry::Folder).map(|(path, _)| path.clone()).collect();
        durable.retain(|path, _| path.ancestors().skip(1).all(|folder| folders.contains(folder)));
        state.entries = state.durable.clone();
        state.locks.clear();
        (state.fault, state.powerless) = (None, false);
        state.boot += 1;
    }

    /// The bytes of a file, where there is one.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.entries.get(path)? {
            Entry::File(file) => Some(state.files[*file].bytes.clone()),
            Entry::Folder => None,
        }
    }

    /// Damages a file: it holds these bytes from now on, durably.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        if let Some(Entry::File(file)) = state.entries.get(path).copied() {
            let (bytes, durable) = (bytes.to_vec(), bytes.to_vec());
            state.files[file] = Contents { bytes, durable, writes: Vec::new() };
        }
    }

    /// Damages the disk: a file is gone, durably.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.entries.remove(path);
        state.durable.remove(path);
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let is_file = |(path, entry): (&PathBuf, &Entry)| matches!(entry, Entry::File(_)).then(|| path.clone());
        state.entries.iter().filter_map(is_file).collect()
    }

    /// A copy of the whole disk, as a process sees it, on which nothing is unsynced or open.
    pub fn fork(&self) -> MemoryDisk {
        let state = self.state();
        let contents = |file: &Contents| {
            let (bytes, durable) = (file.bytes.clone(), file.bytes.clone());
            Contents { bytes, durable, writes: Vec::new() }
        };
        let files = state.files.iter().map(contents).collect();
        let (entries, durable) = (state.entries.clone(), state.entries.clone());
        MemoryDisk(Arc::new(Mutex::new(State { entries, durable, files, ..State::default() })))
    }

    /// A panic of another test's thread does not make the disk unusable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let used = |entry: &Entry| match entry {
            Entry::File(file) => self.files[*file].bytes.len() as u64,
            Entry::Folder => 0,
        };
        self.entries.values().map(used).sum()
    }

    /// Counts an operation; says whether it goes wrong.
    fn begin(&mut self) -> Option<Fault> {
        self.operations += 1;
        if self.powerless {
            return Some(Fault::PowerCut);
        }
        let (_, fault) = self.fault.take_if(|(at, _)| *at == self.operations)?;
        self.powerless = fault == Fault::PowerCut;
        Some(fault)
    }

    /// Makes a change of a folder. That in whose midst the power fails may be kept.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let was_powerless = self.powerless;
        match self.begin() {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::PowerCut) if was_powerless => return Err(powerless()),
            Some(Fault::PowerCut) => {
                self.changes.push(change);
                return Err(powerless());
            }
            None => {}
        }
        change.apply(&mut self.entries);
        self.changes.push(change);
        Ok(())
    }

    fn write(&mut self, file: usize, write: Write) -> io::Result<()> {
        let was_powerless = self.powerless;
        let fault = self.begin();
        if was_powerless {
            return Err(powerless());
        }
        if let (Some(Fault::Error(kind)), Write::Bytes(offset, bytes)) = (fault, &write) {
            let half = Write::Bytes(*offset, bytes[..bytes.len() / 2].to_vec());
            self.files[file].take(half);
            return Err(kind.into());
        }
        if fault.is_none() && self.lacks_room_for(file, &write) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match fault {
            Some(Fault::Error(kind)) => Err(kind.into()),
            fault => {
                self.files[file].take(write);
                fault.map_or(Ok(()), |_| Err(powerless()))
            }
        }
    }

    fn lacks_room_for(&self, file: usize, write: &Write) -> bool {
        let end = match write {
            Write::Bytes(offset, bytes) => offset + bytes.len() as u64,
            Write::Length(length) => *length,
        };
        let grows = end.saturating_sub(self.files[file].bytes.len() as u64);
        grows > 0 && self.bytes_max.is_some_and(|max| self.bytes() + grows > max)
    }

    fn find(&self, path: &Path) -> io::Result<Entry> {
        self.entries.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|folder| self.find(folder)) {
            Some(Ok(Entry::Folder)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn has_children(&self, path: &Path) -> bool {
        self.entries.keys().any(|other| other.parent() == Some(path))
    }
}

fn powerless() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for MemoryDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.entries.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                state.check_folder_of(path)?;
                state.change(Change::Add(path.to_owned(), Entry::Folder))
            }
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        match state.find(folder)? {
            Entry::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Entry::Folder => {
                let children = state.entries.keys().filter(|path| path.parent() == Some(folder));
                Ok(children.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
            }
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.check_folder_of(path)?;
        let file = state.files.len();
        // A file emptied is a new one here: a power cut leaves the old bytes or the new ones, never a mixture.
        state.files.push(Contents::default());
        state.change(Change::Add(path.to_owned(), Entry::File(file)))?;
        Ok(Box::new(MemoryFile { disk: self.clone(), file, boot: state.boot }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        match state.find(path)? {
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
            Entry::File(file) => Ok(Box::new(MemoryFile { disk: self.clone(), file, boot: state.boot })),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(from)?;
        state.check_folder_of(to)?;
        if state.has_children(to) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.find(path)? {
            Entry::Folder => Err(io::ErrorKind::IsADirectory.into()),
            Entry::File(_) => state.change(Change::Remove(path.to_owned())),
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path)? != Entry::Folder {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if state.has_children(path) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Change::Remove(path.to_owned()))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(folder)?;
        match state.begin() {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::PowerCut) => return Err(powerless()),
            None => {}
        }
        let State { durable, changes, .. } = &mut *state;
        for change in changes.extract_if(.., |change| change.folder() == Some(folder)) {
            change.apply(durable);
        }
        Ok(())
    }

    fn simulated_wait(&self) -> Option<Duration> {
        Some(self.state().wait)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let exists = self.state().entries.contains_key(path);
        if !exists {
            self.create(path)?;
        }
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { disk: self.clone(), path: path.to_owned(), boot: state.boot }))
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
    boot: u64,
}

impl MemoryFile {
    /// The disk, unless the power has failed since the file was opened.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.boot == self.boot { Ok(state) } else { Err(powerless()) }
    }
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let (start, end) = (offset as usize, offset as usize + buffer.len());
        let bytes = state.files[self.file].bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state()?.write(self.file, Write::Bytes(offset, bytes.to_vec()))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state()?;
        match state.begin() {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::PowerCut) => return Err(powerless()),
            None => {}
        }
        let Contents { durable, writes, .. } = &mut state.files[self.file];
        writes.drain(..).for_each(|write| write.apply(durable));
        Ok(())
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.state()?.write(self.file, Write::Length(length))
    }
}
