//! A store on a disk in memory: a history that bytes tell, with every state that it went through; and damage to its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, StoreId, Version};
use primacy::protocol::record::{Fingerprint, KeyEntry, Record, Value};
use primacy::protocol::request::{Done, Key};
use primacy::store::{
    Batch, Chunk, Command, Cursor, Folder, Loaded, MemoryDisk, Owner, Part, Sizes, Store, StoreError, Wanted,
};

/// Small enough that a few batches change segments and make snapshots.
const SIZES: Sizes = Sizes { segment_bytes: 4096, snapshot_after_bytes: 8192 };

/// Most operations of one history.
const OPERATIONS_MAX: usize = 96;

/// Bytes of a damage.
const EDIT_BYTES: usize = 4;

/// Most damages to one disk.
const EDITS_MAX: usize = 8;

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) records: BTreeMap<NoteId, Record>,
    pub(crate) keys: BTreeMap<(u64, NoteId, Key), KeyEntry>,
}

impl State {
    fn of(loaded: Loaded) -> State {
        let mut state = State { records: loaded.records, keys: BTreeMap::new() };
        loaded.keys.into_iter().for_each(|entry| state.insert(entry));
        state
    }

    fn insert(&mut self, entry: KeyEntry) {
        self.keys.insert((entry.time, entry.item, entry.key.clone()), entry);
    }

    fn apply(&mut self, batch: &Batch) {
        self.records.extend(batch.records.iter().map(|record| (record.id, record.clone())));
        batch.keys.iter().for_each(|entry| self.insert(entry.clone()));
        batch.forget.iter().for_each(|id| drop(self.records.remove(id)));
    }

    fn chunk(&self, wanted: &Wanted) -> Chunk {
        let part = match &wanted.from {
            Cursor::Record(from) => {
                Part::Records(self.records.range(from..).map(|(_, record)| record.clone()).collect())
            }
            Cursor::Key(_) => Part::Keys(self.keys.values().cloned().collect()),
        };
        Chunk { ask: wanted.ask, part, more: false }
    }
}

/// A disk with a store that was closed, and its states: the first is empty, each next one is that after a batch.
pub(crate) struct History {
    pub(crate) disk: MemoryDisk,
    pub(crate) states: Vec<State>,
}

impl History {
    /// The history that these bytes tell, an operation each.
    pub(crate) fn of(script: &[u8]) -> History {
        let mut state = State::default();
        let (mut states, mut batches) = (vec![State::default()], Vec::new());
        for (number, byte) in (1..).zip(script.iter().take(OPERATIONS_MAX)) {
            let batch = batch(number, *byte, &state);
            state.apply(&batch);
            states.push(state.clone());
            batches.push(batch);
        }
        let disk = MemoryDisk::new();
        write(&disk, batches).expect("the disk does what it is asked");
        History { disk, states }
    }

    /// A start finds one of the states, or refuses; all of the last one where nothing was damaged.
    pub(crate) fn check(&self, damaged: bool) {
        match load(&self.disk) {
            Ok(found) if damaged => assert!(self.states.contains(&found), "this never was: {found:?}"),
            Ok(found) => assert_eq!(Some(&found), self.states.last()),
            Err(error) => assert!(damaged && error.to_string().contains("/data"), "refused: {error}"),
        }
    }
}

/// What the `number`th byte of a script does to a store in this state.
fn batch(number: u64, byte: u8, state: &State) -> Batch {
    let version = Version { epoch: Epoch(1 + number / 16), counter: number };
    let record = |id: NoteId, value| Record { id, version, written: version, primary: ReplicaId(byte % 4), value };
    let body = "x".repeat(usize::from(byte) * 7);
    let note = Note::from_put(NoteId(1), format!("{{\"title\":\"{number}\",\"body\":\"{body}\"}}").as_bytes());
    let note = Value::Note(note.expect("it is a note"));
    let next = state.records.get(&NoteId::SEQUENCE).map_or(NoteId(1), |record| match record.value {
        Value::Next(id) => id,
        _ => unreachable!("item 0 is the sequence"),
    });
    let any = NoteId(1 + u64::from(byte) % next.0.max(1));
    let there = state.records.get(&any);
    let mut batch = Batch { number, ..Batch::default() };
    match (byte % 8, there) {
        (4, Some(_)) => batch.records.push(record(any, note)),
        (5, Some(_)) => batch.records.push(record(any, Value::Deleted)),
        (6, Some(record)) if record.value == Value::Deleted => batch.forget.push(any),
        (kind, _) => {
            let after = record(NoteId::SEQUENCE, Value::Next(NoteId(next.0 + 1)));
            batch.records.extend([record(next, note), after]);
            batch.keys.extend((kind == 7).then(|| key(number, next, version)));
        }
    }
    batch
}

fn key(number: u64, id: NoteId, version: Version) -> KeyEntry {
    let key = Key::try_from(format!("key-{number}").as_str()).expect("these are visible characters");
    let sha256 = Fingerprint([number as u8; 32]);
    KeyEntry { item: NoteId::SEQUENCE, key, sha256, done: Done { id, version }, time: 1_000 + number }
}

fn open(disk: &MemoryDisk) -> Result<Folder, StoreError> {
    let replicas = ["127.0.0.1:10000", "127.0.0.1:20000"].map(str::to_owned);
    let owner = Owner { replica: replicas[0].clone(), replicas: replicas.to_vec() };
    Folder::open(Arc::new(disk.clone()), Path::new("/data/replica"), &owner, StoreId(1), SIZES)
}

/// What a start finds.
pub(crate) fn load(disk: &MemoryDisk) -> Result<State, StoreError> {
    Ok(State::of(open(disk)?.load()?.0))
}

/// Has a store write these, each made durable before the next one.
pub(crate) fn write(disk: &MemoryDisk, batches: Vec<Batch>) -> Result<(), StoreError> {
    let folder = open(disk)?;
    let (loaded, opened) = folder.load()?;
    let (mut store, writer) = Store::with_task(folder, opened);
    let mut state = State::of(loaded);
    let drive = async move {
        let mut answered = 0;
        for batch in batches {
            let number = batch.number;
            state.apply(&batch);
            store.send(Command::Commit(vec![batch])).expect("there is room for one");
            loop {
                let progress = store.progressed().await.expect("the disk does what it is asked");
                if let Some(wanted) = progress.wanted.filter(|wanted| wanted.ask > answered) {
                    answered = wanted.ask;
                    store.send(Command::Snapshot(state.chunk(&wanted))).expect("there is room for one");
                }
                if progress.durable >= number {
                    break;
                }
            }
        }
        store.close().await.expect("the disk does what it is asked");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a bare runtime can be built");
    runtime.block_on(join(writer.run(Duration::ZERO), drive));
    Ok(())
}

/// The files of the record store whose names begin so.
pub(crate) fn files(disk: &MemoryDisk, kind: &str) -> Vec<PathBuf> {
    let is_kind = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
    disk.files().into_iter().filter(is_kind).collect()
}

/// Damages files of these kinds as `edits` say; whether anything is different.
pub(crate) fn damage(disk: &MemoryDisk, kinds: &[&str], edits: &[u8]) -> bool {
    let files: Vec<PathBuf> = kinds.iter().flat_map(|kind| files(disk, kind)).collect();
    let mut damaged = false;
    for edit in edits.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let Some(path) = files.get(usize::from(edit[0] >> 2) % files.len().max(1)) else { continue };
        let before = disk.read(path).expect("it is one of the files");
        let mut bytes = before.clone();
        if bytes.is_empty() {
            continue;
        }
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % bytes.len();
        match edit[0] % 4 {
            0 => bytes[at] ^= edit[3].max(1),
            1 => bytes.truncate(at),
            2 => bytes[at..].fill(0),
            _ => {
                let from = usize::from(edit[3]) * 16 % bytes.len();
                let moved = bytes[from..].iter().take(512).copied().collect::<Vec<u8>>();
                let end = (at + moved.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&moved[..end - at]);
            }
        }
        damaged |= bytes != before;
        disk.overwrite(path, &bytes);
    }
    damaged
}

/// A frame as the store's documentation has it: magic, length, sequence number, checksum, payload.
pub(crate) fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut front = vec![0xFE, 0xF5, 0xFC, 0xFF];
    front.extend((payload.len() as u32).to_le_bytes());
    front.extend(sequence.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&front), payload);
    front.extend(checksum.to_le_bytes());
    front.extend(payload);
    front
}

/// A header likewise: magic, format version, store, number, sequence number, checksum.
pub(crate) fn header(magic: &[u8; 8], store: u64, number: u64, sequence: u64) -> Vec<u8> {
    let mut header = magic.to_vec();
    header.extend(1_u32.to_le_bytes());
    [store, number, sequence].iter().for_each(|part| header.extend(part.to_le_bytes()));
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    header
}

/// A disk with an empty store, and its folder.
pub(crate) fn empty() -> (MemoryDisk, PathBuf) {
    let disk = MemoryDisk::new();
    write(&disk, Vec::new()).expect("the disk does what it is asked");
    let journal = files(&disk, "journal-").pop().expect("an empty store has a journal");
    (disk, journal.parent().expect("a file lies in a folder").to_owned())
}

/// What a start made of entries that nobody wrote can be written, and is found again.
pub(crate) fn check_kept(disk: &MemoryDisk) {
    let Ok(found) = load(disk) else { return };
    let batch = Batch {
        number: 1,
        records: found.records.values().cloned().collect(),
        keys: found.keys.values().cloned().collect(),
        forget: Vec::new(),
    };
    let (again, _) = empty();
    write(&again, vec![batch]).expect("the disk does what it is asked");
    assert_eq!(load(&again).expect("what was written is read"), found);
}
