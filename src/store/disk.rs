//! The seam to files: a real disk, and beside it (memory_disk.rs) one in memory on which tests and simulations fail
//! writes, fill up, and cut the power.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, FallocateFlags};

use super::direct::Tail;

/// Folders and files, with nothing durable before it is synced: a file's bytes by [`DiskFile::sync`], its name by
/// [`Disk::sync_folder`].
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a folder, where there is none, in one that exists.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file; one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that exists, to read and write.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The same, where it is mostly for [`DiskFile::append`].
    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }
    /// Gives a file or folder another name in its folder, in one step; a file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which names are in a folder.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// How long a write is to take by the runtime's clock, where the disk itself never waits and so needs no threads that
    /// may. None of a real disk.
    fn simulated_wait(&self) -> Option<Duration> {
        None
    }
    /// Takes a lock that ends with the process or with the value; `WouldBlock` where it is held.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// A lock; dropping it gives it back.
pub type Lock = Box<dyn fmt::Debug + Send + Sync>;

/// A file to read and write at offsets.
pub trait DiskFile: fmt::Debug + Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; `UnexpectedEof` where the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, past the end too.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was written durable, with as much of the length as it takes to read it back.
    fn sync(&mut self) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, behind which the file holds nothing but zeros, and makes them durable. The file may
    /// get a few more zeros at its end.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync()
    }
    /// Begins to write out what is at `offset`, without waiting and without making it durable: only a hint, so that a later
    /// sync has less to do.
    fn begin_write_out(&mut self, _offset: u64, _bytes: u64) {}
    /// Reserves room and makes the file this long; what was not written reads as zeros.
    fn allocate(&mut self, length: u64) -> io::Result<()>;
}

/// The machine's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            // A name that is no UTF-8 is none of ours, and no name that we look for equals its replacement.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(RealFile { file, tail: None }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(open(path)?))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Not every file system can write past its cache.
        Ok(Box::new(RealFile { tail: Tail::open(path).ok(), ..open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// For appends, where they can go past the cache.
    tail: Option<Tail>,
}

fn open(path: &Path) -> io::Result<RealFile> {
    Ok(RealFile { file: OpenOptions::new().read(true).write(true).open(path)?, tail: None })
}

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(tail) = &mut self.tail {
            match tail.append(&self.file, offset, bytes) {
                // The disk wants larger blocks, and has written nothing.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.tail = None,
                result => return result,
            }
        }
        self.write_at(offset, bytes)?;
        self.sync()
    }

    fn begin_write_out(&mut self, offset: u64, bytes: u64) {
        // Linux writes out what it shall not keep in memory, and nobody reads a snapshot before the next start. Where the
        // system takes no hint, nothing is wrong.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // Not every file system can: then the room is not reserved, and a full disk shows at a write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(length),
            result => Ok(result?),
        }
    }
}
