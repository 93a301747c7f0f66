//! A replica's folder: whose it is, its lock, and which of the record stores in it is in force.
//!
//! The file `identity` names the record store in force; a joiner's copy takes its place by one rename of that file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Loaded, Sizes};
use super::contents::{Contents, Live};
use super::disk::{Disk, Lock};
use super::entry::read_all;
use super::error::{Doing as _, StoreError};
use super::format::FORMAT_VERSION;
use super::journal::Journal;
use super::recover::{read_mark, recover};
use super::segment::{Numbered, read_file, remove_folder, replace_file};
use crate::observe::metrics::StoreFigures;
use crate::protocol::ids::{ClusterId, StoreId};

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";
const RECORDS: &str = "records-";
const DAMAGED: &str = ".damaged";

/// Who opens a folder: it is refused where it was made for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The replica's address as config.json has it.
    pub replica: String,
    /// All replicas of config.json, in its order: they are known by their places.
    pub replicas: Vec<String>,
}

/// A replica's folder, open and locked.
#[derive(Debug)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    sizes: Sizes,
    identity: Identity,
    /// Given back when the folder is closed.
    _lock: Lock,
}

/// A store whose contents were read, to be written on.
#[derive(Debug)]
pub struct Opened {
    pub(super) journal: Journal,
    pub(super) live: Live,
    pub(super) figures: StoreFigures,
}

impl Opened {
    /// The same, whose writer counts what it does in `figures`.
    pub fn counted(self, figures: StoreFigures) -> Opened {
        Opened { figures, ..self }
    }
}

/// The first line of the file; a line with its CRC-32C in hex follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: Option<ClusterId>,
    replica: String,
    replicas: Vec<String>,
    store: StoreId,
}

impl Folder {
    /// Opens a replica's folder; makes it, with an empty record store named `fresh`, where there is none. The path is
    /// made as far as it does not exist.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        owner: &Owner,
        fresh: StoreId,
        sizes: Sizes,
    ) -> Result<Folder, StoreError> {
        make_folders(disk.as_ref(), path)?;
        let lock_path = path.join(LOCK);
        let lock = disk.lock(&lock_path).or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Err(StoreError::Locked { folder: path.to_owned() }),
            _ => Err(error).doing("lock", &lock_path),
        })?;
        let identity = match read_identity(disk.as_ref(), path)? {
            Some(identity) => {
                identity.check(path, owner)?;
                identity
            }
            None => {
                check_unused(disk.as_ref(), path)?;
                first_identity(&disk, path, owner, fresh, sizes)?
            }
        };
        remove_leftovers(disk.as_ref(), path, identity.store)?;
        Ok(Folder { disk, path: path.to_owned(), sizes, identity, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record store in force.
    pub fn store(&self) -> StoreId {
        self.identity.store
    }

    /// The cluster that this folder is part of, once it is part of one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity.cluster
    }

    /// Notes for good which cluster this replica is part of; refuses another one than was noted before.
    pub fn bind(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        match self.identity.cluster {
            Some(found) if found != cluster => {
                Err(StoreError::OtherCluster { folder: self.path.clone(), found, expected: cluster })
            }
            Some(_) => Ok(()),
            None => self.replace(Identity { cluster: Some(cluster), ..self.identity.clone() }),
        }
    }

    /// Forgets which cluster this replica is part of: the operator begins another one with its records (J5).
    pub fn release(&mut self) -> Result<(), StoreError> {
        match self.identity.cluster {
            Some(_) => self.replace(Identity { cluster: None, ..self.identity.clone() }),
            None => Ok(()),
        }
    }

    /// Reads the record store in force.
    ///
    /// # Errors
    ///
    /// Where it is damaged ([`StoreError::is_damage`]), [`Folder::set_aside`] makes room for an empty one.
    pub fn load(&self) -> Result<(Loaded, Opened), StoreError> {
        let mut contents = Contents::default();
        let mut take = |payload: &[u8]| read_all(payload, &mut |entry| contents.take(entry));
        let id = Some(self.identity.store.0);
        let journal = recover(Arc::clone(&self.disk), &self.records(), id, self.sizes.segment_bytes, &mut take)?;
        let (records, keys, live) = contents.finish();
        let loaded = Loaded { store: self.identity.store, records, keys };
        Ok((loaded, Opened { journal, live, figures: StoreFigures::default() }))
    }

    /// Sets the record store aside, because it is damaged, and puts an empty one in its place. Says where the damaged one
    /// is now. Only a replica that can get the records from others may do this.
    pub fn set_aside(&mut self, fresh: StoreId) -> Result<PathBuf, StoreError> {
        let damaged = self.records();
        let aside = self.path.join(format!("{RECORDS}{}{DAMAGED}", self.identity.store));
        let names = self.disk.list(&self.path).doing("list", &self.path)?;
        if names.iter().any(|name| damaged.ends_with(name)) {
            self.disk.rename(&damaged, &aside).doing("set aside", &damaged)?;
        }
        self.disk.sync_folder(&self.path).doing("sync", &self.path)?;
        self.new_store(fresh)?;
        self.replace_store(fresh)?;
        Ok(aside)
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Makes an empty record store beside the one in force.
    pub(super) fn new_store(&self, id: StoreId) -> Result<Journal, StoreError> {
        let folder = records_of(&self.path, id);
        remove_folder(self.disk.as_ref(), &folder)?;
        Journal::create(Arc::clone(&self.disk), &folder, id.0, self.sizes.segment_bytes)
    }

    /// Puts the record store named `id` in force, in one step. Returns where the one before is.
    pub(super) fn replace_store(&mut self, id: StoreId) -> Result<PathBuf, StoreError> {
        let before = self.records();
        self.replace(Identity { store: id, ..self.identity.clone() })?;
        Ok(before)
    }

    fn replace(&mut self, identity: Identity) -> Result<(), StoreError> {
        write_identity(self.disk.as_ref(), &self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }

    fn records(&self) -> PathBuf {
        records_of(&self.path, self.identity.store)
    }
}

impl Identity {
    fn check(&self, folder: &Path, owner: &Owner) -> Result<(), StoreError> {
        let folder = folder.to_owned();
        if self.replica != owner.replica {
            let (found, expected) = (self.replica.clone(), owner.replica.clone());
            return Err(StoreError::OtherReplica { folder, found, expected });
        }
        if self.replicas != owner.replicas {
            let (found, expected) = (self.replicas.clone(), owner.replicas.clone());
            return Err(StoreError::OtherReplicas { folder, found, expected });
        }
        Ok(())
    }
}

fn records_of(folder: &Path, store: StoreId) -> PathBuf {
    folder.join(format!("{RECORDS}{store}"))
}

/// Makes the folder and those that it lies in, as far as they do not exist, durably.
fn make_folders(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let exists = |folder: &Path| folder.as_os_str().is_empty() || disk.list(folder).is_ok();
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !exists(folder)).collect();
    for folder in missing.into_iter().rev() {
        disk.make_folder(folder).doing("make", folder)?;
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync_folder(parent).doing("sync", parent)?;
    }
    Ok(())
}

fn first_identity(
    disk: &Arc<dyn Disk>,
    path: &Path,
    owner: &Owner,
    store: StoreId,
    sizes: Sizes,
) -> Result<Identity, StoreError> {
    Journal::create(Arc::clone(disk), &records_of(path, store), store.0, sizes.segment_bytes)?;
    let Owner { replica, replicas } = owner.clone();
    let identity = Identity { format: FORMAT_VERSION, cluster: None, replica, replicas, store };
    write_identity(disk.as_ref(), path, &identity)?;
    Ok(identity)
}

fn write_identity(disk: &dyn Disk, folder: &Path, identity: &Identity) -> Result<(), StoreError> {
    let json = serde_json::to_string(identity).expect("strings and numbers are always writable as JSON");
    let checksum = crc32c::crc32c(json.as_bytes());
    replace_file(disk, &folder.join(IDENTITY), format!("{json}\n{checksum:08x}\n").as_bytes())
}

fn read_identity(disk: &dyn Disk, folder: &Path) -> Result<Option<Identity>, StoreError> {
    let path = folder.join(IDENTITY);
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.doing("open", &path)?,
    };
    let bytes = read_file(file.as_ref(), &path)?;
    let damaged = |what: &str| StoreError::damaged(&path, 0, format!("{what}; remove the folder to have it made anew"));
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is no UTF-8"))?;
    let (json, checksum) = text.split_once('\n').ok_or_else(|| damaged("its checksum is missing"))?;
    if checksum != format!("{:08x}\n", crc32c::crc32c(json.as_bytes())) {
        return Err(damaged("its checksum is wrong"));
    }
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(json).map_err(|_| damaged("it names no format"))?;
    if format != FORMAT_VERSION {
        return Err(StoreError::Version { file: path, found: format, ours: FORMAT_VERSION });
    }
    serde_json::from_str(json).map(Some).map_err(|_| damaged("its members are not those of its format"))
}

/// A folder without identity is a new one, or one whose making was broken off; where it holds data its identity was lost.
fn check_unused(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    for name in disk.list(folder).doing("list", folder)? {
        let inner = folder.join(&name);
        let is_begun_store = name.starts_with(RECORDS) && !name.ends_with(DAMAGED);
        // What else is here was made by a replica that had its identity.
        let is_known = name == LOCK || name.ends_with(".new");
        if !is_known && (!is_begun_store || holds_data(disk, &inner)?) {
            let what = format!("it is missing, and {} is there; remove the folder to begin anew", inner.display());
            return Err(StoreError::damaged(&folder.join(IDENTITY), 0, what));
        }
    }
    Ok(())
}

fn holds_data(disk: &dyn Disk, folder: &Path) -> Result<bool, StoreError> {
    if read_mark(disk, folder, None).is_ok_and(|mark| mark.sequence > 0) {
        return Ok(true);
    }
    for name in disk.list(folder).doing("list", folder)? {
        let path = folder.join(&name);
        match Numbered::parse(&name) {
            Some(Numbered::Snapshot(_)) => return Ok(true),
            Some(Numbered::Segment(_)) => {
                let bytes = read_file(disk.open(&path).doing("open", &path)?.as_ref(), &path)?;
                if bytes.iter().any(|byte| *byte != 0) {
                    return Ok(true);
                }
            }
            None => {}
        }
    }
    Ok(false)
}

/// Removes copies that were never put in force, and stores that copies have replaced. Those set aside stay, for whoever
/// wants to look into them.
fn remove_leftovers(disk: &dyn Disk, folder: &Path, store: StoreId) -> Result<(), StoreError> {
    // The identity that was read may be a rename that is not durable yet.
    disk.sync_folder(folder).doing("sync", folder)?;
    let current = records_of(folder, store);
    for name in disk.list(folder).doing("list", folder)? {
        let path = folder.join(&name);
        if name.starts_with(RECORDS) && !name.ends_with(DAMAGED) && path != current {
            remove_folder(disk, &path)?;
        } else if name == format!("{IDENTITY}.new") {
            disk.remove(&path).doing("remove", &path)?;
        }
    }
    Ok(())
}
