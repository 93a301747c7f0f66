//! The store on a disk in memory, under a random workload whose every state is remembered: whatever happens, a start
//! finds the state after some batch, and not one before the last that was reported durable.

mod crash;
mod damage;
mod faults;
mod folders;
mod handles;
mod logs;
mod snapshots;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::background::Outcome;
use super::command::{Batch, Chunk, Command, Cursor, Loaded, Part, Progress, Sizes};
use super::disk::Disk;
use super::error::StoreError;
use super::folder::{Folder, Opened, Owner};
use super::memory_disk::MemoryDisk;
use super::writer::Writer;
use crate::note::{Note, NoteId};
use crate::protocol::ids::{Epoch, ReplicaId, StoreId, Version};
use crate::protocol::record::{Fingerprint, KeyEntry, Record, Value};
use crate::protocol::request::{Done, Key};

/// Small enough that a short run changes segments and makes snapshots.
const SMALL: Sizes = Sizes { segment_bytes: 4096, snapshot_after_bytes: 8192 };

fn path() -> PathBuf {
    PathBuf::from("/data/127.0.0.1:10000")
}

fn owner() -> Owner {
    let replicas = ["127.0.0.1:10000", "127.0.0.1:20000"].map(str::to_owned);
    Owner { replica: replicas[0].clone(), replicas: replicas.to_vec() }
}

fn open_folder(disk: &MemoryDisk) -> Result<Folder, StoreError> {
    Folder::open(Arc::new(disk.clone()) as Arc<dyn Disk>, &path(), &owner(), StoreId(1), SMALL)
}

fn open(disk: &MemoryDisk) -> Result<(Folder, Loaded, Opened), StoreError> {
    let folder = open_folder(disk)?;
    let (loaded, opened) = folder.load()?;
    Ok((folder, loaded, opened))
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    records: BTreeMap<NoteId, Record>,
    keys: BTreeMap<(u64, NoteId, Key), KeyEntry>,
}

impl State {
    fn of(loaded: Loaded) -> State {
        let keys = loaded.keys.into_iter().map(|entry| ((entry.time, entry.item, entry.key.clone()), entry));
        State { records: loaded.records, keys: keys.collect() }
    }

    fn apply(&mut self, batch: &Batch) {
        for record in &batch.records {
            // What is copied may be older than what came since.
            let is_news = self.records.get(&record.id).is_none_or(|before| before.version < record.version);
            if is_news {
                self.records.insert(record.id, record.clone());
            }
        }
        for entry in &batch.keys {
            self.keys.insert((entry.time, entry.item, entry.key.clone()), entry.clone());
        }
        for id in &batch.forget {
            self.records.remove(id);
        }
    }
}

/// The states that a store went through: that after batch `first`, and after each since.
#[derive(Clone, Debug)]
struct History {
    first: u64,
    states: Vec<State>,
}

/// A loop in miniature: makes batches, answers what snapshots ask, and remembers what it was promised.
struct Driver {
    random: Random,
    writer: Writer,
    progress: watch::Receiver<Progress>,
    state: State,
    number: u64,
    next_id: u64,
    counter: u64,
    answered: u64,
    store: StoreId,
    histories: BTreeMap<StoreId, History>,
    /// What the next steps copy into a copy.
    copying: Option<(StoreId, Vec<Batch>)>,
    stores_made: u64,
    copies: bool,
}

impl Driver {
    fn start(seed: u64, disk: &MemoryDisk, copies: bool) -> Result<Driver, StoreError> {
        let (folder, loaded, opened) = open(disk)?;
        let (sender, progress) = watch::channel(Progress::default());
        let writer = Writer::inline(folder, opened, sender);
        let store = loaded.store;
        let state = State::of(loaded);
        let next_id = state.records.keys().last().map_or(1, |id| id.0 + 1);
        let histories = BTreeMap::from([(store, History { first: 0, states: vec![state.clone()] })]);
        let counter = state.records.values().map(|record| record.version.counter).max().unwrap_or_default();
        Ok(Driver {
            random: Random(seed),
            writer,
            progress,
            state,
            number: 0,
            next_id,
            counter,
            answered: 0,
            store,
            histories,
            copying: None,
            stores_made: seed << 8,
            copies,
        })
    }

    /// One turn of the writer.
    fn step(&mut self) -> Outcome<()> {
        let mut commands = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.answer_wanted(&mut commands);
            let batches = (0..=self.random.below(2)).map(|_| self.batch()).collect();
            commands.push(Command::Commit(batches));
            if self.copies {
                self.copy(&mut commands);
            }
        }
        self.writer.turn(commands)
    }

    fn batch(&mut self) -> Batch {
        let batch = match self.random.below(10) {
            0 => Batch { forget: self.deleted().into_iter().collect(), ..Batch::default() },
            1 | 2 => Batch {
                records: self.any_note().map(|id| self.record(id, Value::Deleted)).into_iter().collect(),
                ..Batch::default()
            },
            3..=6 => self.post(),
            _ => {
                let id = self.any_note();
                let records = id
                    .map(|id| {
                        let note = self.note();
                        self.record(id, note)
                    })
                    .into_iter()
                    .collect();
                Batch { records, ..Batch::default() }
            }
        };
        self.take(batch)
    }

    /// Note and id sequence belong together, and the key with them.
    fn post(&mut self) -> Batch {
        let id = NoteId(self.next_id);
        self.next_id += 1;
        let note = self.note();
        let records = vec![self.record(id, note), self.record(NoteId::SEQUENCE, Value::Next(NoteId(self.next_id)))];
        let key = KeyEntry {
            item: NoteId::SEQUENCE,
            key: Key::try_from(format!("key-{id}").as_str()).unwrap(),
            sha256: Fingerprint([id.0 as u8; 32]),
            done: Done { id, version: records[0].version },
            time: 1000 + id.0,
        };
        let keys = if self.random.chance(30) { vec![key] } else { Vec::new() };
        Batch { records, keys, ..Batch::default() }
    }

    /// Gives the batch its number and remembers the state after it.
    fn take(&mut self, mut batch: Batch) -> Batch {
        self.number += 1;
        batch.number = self.number;
        self.state.apply(&batch);
        let history = self.histories.get_mut(&self.target()).unwrap();
        history.states.push(self.state.clone());
        batch
    }

    /// The store that batches go to.
    fn target(&self) -> StoreId {
        self.copying.as_ref().map_or(self.store, |(id, _)| *id)
    }

    fn note(&mut self) -> Value {
        let length = if self.random.chance(2) { 6000 } else { self.random.below(300) } as usize;
        let body = format!("{}{}", self.random.next(), "x".repeat(length));
        Value::Note(Note::from_post(format!("{{\"title\":\"t\",\"body\":\"{body}\"}}").as_bytes()).unwrap())
    }

    fn record(&mut self, id: NoteId, value: Value) -> Record {
        self.counter += 1;
        let version = Version { epoch: Epoch(1), counter: self.counter };
        Record { id, version, written: version, primary: ReplicaId(1), value }
    }

    fn any_note(&mut self) -> Option<NoteId> {
        let notes: Vec<NoteId> =
            self.state.records.values().filter(|it| matches!(it.value, Value::Note(_))).map(|it| it.id).collect();
        (!notes.is_empty()).then(|| notes[self.random.below(notes.len() as u64) as usize])
    }

    fn deleted(&mut self) -> Option<NoteId> {
        self.state.records.values().find(|record| record.value == Value::Deleted).map(|record| record.id)
    }

    /// Small chunks, so that batches come between them.
    fn answer_wanted(&mut self, commands: &mut Vec<Command>) {
        let wanted = self.progress.borrow().wanted.clone();
        let Some(wanted) = wanted.filter(|wanted| wanted.ask > self.answered) else { return };
        self.answered = wanted.ask;
        let (part, more) = match wanted.from {
            Cursor::Record(from) => {
                let mut rest = self.state.records.range(from..).map(|(_, record)| record.clone());
                let part: Vec<Record> = rest.by_ref().take(5).collect();
                (Part::Records(part), rest.next().is_some())
            }
            Cursor::Key(after) => {
                let mut rest = self.state.keys.iter().filter(|(place, _)| after.as_ref().is_none_or(|it| *place > it));
                let part: Vec<KeyEntry> = rest.by_ref().take(5).map(|(_, entry)| entry.clone()).collect();
                (Part::Keys(part), rest.next().is_some())
            }
        };
        commands.push(Command::Snapshot(Chunk { ask: wanted.ask, part, more }));
    }

    /// Now and then begins a copy, fills it, and puts it in force; or drops it for a new one.
    fn copy(&mut self, commands: &mut Vec<Command>) {
        match self.copying.take() {
            Some((id, mut rest)) if !self.random.chance(3) => match rest.pop() {
                Some(batch) => {
                    self.copying = Some((id, rest));
                    let batch = self.take(batch);
                    commands.push(Command::Commit(vec![batch]));
                }
                None => {
                    self.store = id;
                    commands.push(Command::Switch);
                }
            },
            None if !self.random.chance(2) => {}
            _ => self.begin_copy(commands),
        }
    }

    fn begin_copy(&mut self, commands: &mut Vec<Command>) {
        self.stores_made += 1;
        let id = StoreId(1_000_000 + self.stores_made);
        let all = std::mem::take(&mut self.state);
        self.histories.insert(id, History { first: self.number, states: vec![State::default()] });
        let records = all.records.into_values().map(|record| Batch { records: vec![record], ..Batch::default() });
        self.copying = Some((id, records.collect()));
        commands.push(Command::BeginCopy(id));
    }

    /// What was promised and what happened, for when the writer is gone.
    fn into_promises(self) -> Promises {
        let progress = self.progress.borrow().clone();
        Promises {
            durable: progress.durable,
            switched: progress.switched,
            snapshots: progress.snapshots,
            histories: self.histories,
            last: self.state,
        }
    }
}

/// What a start has to keep.
struct Promises {
    durable: u64,
    switched: Option<StoreId>,
    snapshots: u64,
    histories: BTreeMap<StoreId, History>,
    last: State,
}

impl Promises {
    /// The loaded state is that after some batch, and no promised one is missing.
    fn check(&self, loaded: Loaded, context: &str) {
        let id = loaded.store;
        let history = self.histories.get(&id).unwrap_or_else(|| panic!("{context}: store {id} was never begun"));
        if let Some(switched) = self.switched {
            // Ids of copies grow.
            assert!(id >= switched, "{context}: store {switched} was in force, and now {id} is");
        }
        let found = State::of(loaded);
        let promised = self.durable.saturating_sub(history.first).min(history.states.len() as u64 - 1) as usize;
        // A copy goes into force with all that was committed before.
        let is_kept = history.states[promised..].contains(&found);
        assert!(is_kept, "{context}: not a state after batch {promised} or later of {}", history.states.len() - 1);
    }
}

/// A disk with a cleanly closed store on it that was written for so many turns, and its last state.
fn written(seed: u64, turns: usize) -> (MemoryDisk, State) {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(seed, &disk, false).unwrap();
    (0..turns).for_each(|_| driver.step().unwrap());
    let state = driver.state.clone();
    driver.writer.close().unwrap();
    (disk, state)
}

/// The file of the record store whose name begins so; of segments the last one that was begun.
fn file(disk: &MemoryDisk, kind: &str) -> PathBuf {
    let is_kind = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(kind) && !name.ends_with(".new")
    };
    let is_begun = |path: &Path| disk.read(path).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0));
    disk.files().into_iter().rfind(|path| is_kind(path) && is_begun(path)).unwrap()
}
