//! What can go wrong with a store. Every message names the path, the cause and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::ids::ClusterId;

/// Why a store could not be opened, read or written. None is ever retried: after a failed write or sync nobody knows
/// what the disk holds, and only a new start, which reads it, finds out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused something.
    #[error("cannot {doing} {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was being done, a verb.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the folder's lock.
    #[error(
        "{} is in use by another process; stop it, or give this replica a folder of its own with `--data`",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not as it was written: what it held can no longer be trusted.
    #[error("{} is damaged at byte {offset}: {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file of a version that this program does not know.
    #[error(
        "{} has format version {found}, and this program reads version {ours}; start the program that wrote it",
        file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this program.
        ours: u32,
    },
    /// The folder is another replica's: it was copied or swapped.
    #[error(
        "{} belongs to replica {found}, not to {expected}; put each replica's own folder back in its place",
        folder.display()
    )]
    OtherReplica {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// The folder was made for another list of replicas.
    #[error(
        "{} was made for the replicas [{}], but config.json says [{}]; restore that list in config.json, or start with \
         `--data OTHER` to keep this data, or remove the folder to begin anew",
        folder.display(),
        found.join(", "),
        expected.join(", ")
    )]
    OtherReplicas {
        /// The folder.
        folder: PathBuf,
        /// What it was made for.
        found: Vec<String>,
        /// What the configuration says.
        expected: Vec<String>,
    },
    /// The folder is of another cluster with the same addresses.
    #[error(
        "{} holds data of cluster {found}, but the other replicas are of cluster {expected}; put this cluster's folder \
         back, or remove this one to have the data copied from the others",
        folder.display()
    )]
    OtherCluster {
        /// The folder.
        folder: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The cluster that the replica is in.
        expected: ClusterId,
    },
    /// A batch that no frame of the journal can hold.
    #[error("a batch of {bytes} bytes does not fit the journal, which takes {max}; this is a bug of the program")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A copy was to be put in the place of the old store, and none was begun.
    #[error("a copy was to replace the store in {}, but none was begun; this is a bug of the program", folder.display())]
    NoCopy {
        /// The replica's folder.
        folder: PathBuf,
    },
}

impl StoreError {
    /// Whether the records are lost to this replica, so that it may set them aside and get them from others.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Damaged { .. })
    }

    /// Whether the folder and the configuration contradict each other: the program exits with 2, not 1.
    pub fn is_usage(&self) -> bool {
        matches!(self, StoreError::OtherReplicas { .. })
    }

    pub(super) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { file: file.to_owned(), offset, what: what.into() }
    }
}

/// Adds what was being done, and to what, to an error of the system.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { doing, path: path.to_owned(), source })
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and start again: nothing that was acknowledged is lost"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "let this user write there, or choose another folder with `--data`"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "check the path given with `--data`",
        _ => "check the disk and start again: nothing that was acknowledged is lost if it still reads what was synced",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_which_file_and_what_to_do() {
        let full: io::Result<()> = Err(io::ErrorKind::StorageFull.into());
        let text = full.doing("write", Path::new("data/journal-1")).unwrap_err().to_string();
        assert!(text.contains("cannot write data/journal-1: no storage space"), "{text}");
        assert!(text.contains("free some space"), "{text}");
    }
}
