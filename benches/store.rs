//! How fast the store is, beside a bare loop that appends the same bytes to a preallocated file and syncs it.
//!
//! Commits are made one after the other, as the loop makes them when nothing else waits; rounds of store and bare loop
//! take turns, so that both see the same disk. First a table of all figures, then criterion's own measures.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, StoreId, Version};
use primacy::protocol::record::{Record, Value};
use primacy::store::{
    Batch, CHUNK_BYTES_MAX, Chunk, Command, Cursor, Disk as _, DiskFile, Folder, Loaded, Owner, Part, Progress,
    RealDisk, Sizes, Store,
};
use tokio::runtime::Runtime;

/// Bytes of a note's JSON.
const NOTE_BYTES: usize = 250;

/// What a record of such a note takes in the journal, about.
const ENTRY_BYTES: usize = NOTE_BYTES + 14;

const UPDATES: [usize; 4] = [1, 8, 32, 128];

/// Rounds in which store and bare loop take turns.
const ROUNDS: usize = 10;

fn main() {
    let scratch = Scratch::new();
    if !std::env::args().any(|arg| arg == "--test") {
        commits(&scratch.0);
        starts(&scratch.0);
        many_updates(&scratch.0);
        snapshots(&scratch.0, 10_000, 10);
        snapshots(&scratch.0, 300_000, 1);
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    for updates in UPDATES {
        let mut store = Bench::new(&scratch.0.join(format!("criterion-{updates}")), Sizes::default());
        criterion.bench_function(&format!("commit/{updates}"), |bencher| bencher.iter(|| store.commit(updates)));
    }
    criterion.final_summary();
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-bench-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left over: {error}", self.0.display());
        }
    }
}

/// A store and what its loop would hold.
struct Bench {
    runtime: Runtime,
    store: Store,
    progress: Progress,
    records: BTreeMap<NoteId, Record>,
    ids: u64,
    number: u64,
    answered: u64,
}

fn folder(path: &Path, sizes: Sizes) -> Folder {
    let owner = Owner { replica: "127.0.0.1:10000".into(), replicas: vec!["127.0.0.1:10000".into()] };
    Folder::open(Arc::new(RealDisk), path, &owner, StoreId(1), sizes).expect("the scratch folder can be made")
}

fn load(path: &Path) -> Loaded {
    folder(path, Sizes::default()).load().expect("what was written is whole").0
}

impl Bench {
    fn new(path: &Path, sizes: Sizes) -> Bench {
        let folder = folder(path, sizes);
        let (loaded, opened) = folder.load().expect("what was written is whole");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built");
        let store = Store::spawn(folder, opened).expect("threads can be started");
        let (progress, records) = (Progress::default(), loaded.records);
        Bench { runtime, store, progress, records, ids: 10_000, number: 0, answered: 0 }
    }

    /// Makes so many updates durable, together.
    fn commit(&mut self, updates: usize) {
        let batches = (0..updates).map(|_| self.batch()).collect();
        self.send(Command::Commit(batches));
        self.wait();
    }

    fn batch(&mut self) -> Batch {
        self.number += 1;
        let id = NoteId(1 + self.number % self.ids);
        let version = Version { epoch: Epoch(1), counter: self.number };
        let value = Value::Note(note(self.number));
        let record = Record { id, version, written: version, primary: ReplicaId(1), value };
        self.records.insert(id, record.clone());
        Batch { number: self.number, records: vec![record], ..Batch::default() }
    }

    fn send(&self, command: Command) {
        self.store.send(command).expect("one commit at a time never fills the queue");
    }

    /// Until all is durable; answers meanwhile what a snapshot asks.
    fn wait(&mut self) {
        while self.progress.durable < self.number {
            self.progress = self.runtime.block_on(self.store.progressed()).expect("the disk works");
            self.answer();
        }
    }

    fn answer(&mut self) {
        let Some(wanted) = self.progress.wanted.as_ref().filter(|wanted| wanted.ask > self.answered) else { return };
        self.answered = wanted.ask;
        let (part, more) = match wanted.from {
            Cursor::Record(from) => {
                let mut rest = self.records.range(from..).map(|(_, record)| record.clone());
                let part = rest.by_ref().take(CHUNK_BYTES_MAX / ENTRY_BYTES).collect();
                (Part::Records(part), rest.next().is_some())
            }
            Cursor::Key(_) => (Part::Keys(Vec::new()), false),
        };
        self.send(Command::Snapshot(Chunk { ask: self.answered, part, more }));
    }
}

fn note(number: u64) -> Note {
    let head = format!("{{\"title\":\"{number}\",\"body\":\"");
    let text = format!("{head}{}\"}}", "x".repeat(NOTE_BYTES - head.len() - 2));
    Note::from_canonical(&text).expect("the text is JSON")
}

/// The loop to compare with.
struct Bare {
    file: Box<dyn DiskFile>,
    bytes: Vec<u8>,
    at: u64,
}

/// As long as a segment.
const BARE_BYTES: u64 = 8 * 1024 * 1024;

impl Bare {
    fn new(path: &Path, updates: usize) -> Bare {
        let mut file = RealDisk.create(path).expect("the scratch folder can be written");
        file.allocate(BARE_BYTES).expect("there is room");
        file.sync().expect("the disk works");
        Bare { file, bytes: vec![b'x'; 20 + updates * ENTRY_BYTES], at: 0 }
    }

    fn commit(&mut self) {
        self.file.write_at(self.at, &self.bytes).expect("there is room");
        self.file.sync().expect("the disk works");
        self.at += self.bytes.len() as u64;
    }

    fn is_full(&self) -> bool {
        self.at + self.bytes.len() as u64 > BARE_BYTES
    }
}

/// Times, to be sorted.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn measure(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.0.push(start.elapsed());
    }

    fn per_second(&self) -> f64 {
        self.0.len() as f64 / self.0.iter().sum::<Duration>().as_secs_f64()
    }

    fn quantile_us(&mut self, quantile: f64) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * quantile) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

fn commits(scratch: &Path) {
    println!("updates a commit | commits/s: store, bare, ratio | updates/s | store p50, p99 us | bare p50, p99 us");
    for updates in UPDATES {
        // Without snapshots, which the bare loop has none of either.
        let sizes = Sizes { snapshot_after_bytes: u64::MAX, ..Sizes::default() };
        let mut store = Bench::new(&scratch.join(format!("commits-{updates}")), sizes);
        let (mut ours, mut bare_times) = (Times::default(), Times::default());
        let per_round = (6_000 / updates).clamp(150, 1_500);
        let path = scratch.join("bare");
        let mut bare = Bare::new(&path, updates);
        for _ in 0..ROUNDS {
            (0..per_round).for_each(|_| ours.measure(|| store.commit(updates)));
            for _ in 0..per_round {
                if bare.is_full() {
                    bare = Bare::new(&path, updates);
                }
                bare_times.measure(|| bare.commit());
            }
        }
        let (rate, bare_rate) = (ours.per_second(), bare_times.per_second());
        println!(
            "{updates:>3} | {rate:>6.0} {bare_rate:>6.0} {:.2} | {:>7.0} | {:>4.0} {:>5.0} | {:>4.0} {:>5.0}",
            rate / bare_rate,
            rate * updates as f64,
            ours.quantile_us(0.5),
            ours.quantile_us(0.99),
            bare_times.quantile_us(0.5),
            bare_times.quantile_us(0.99),
        );
    }
}

fn starts(scratch: &Path) {
    for notes in [100_000_u64, 1_000_000] {
        let path = scratch.join(format!("starts-{notes}"));
        let mut store = Bench::new(&path, Sizes::default());
        store.ids = notes;
        while store.number < notes {
            store.commit(1000);
        }
        let Bench { store, records, runtime, .. } = store;
        runtime.block_on(store.close()).expect("the disk works");
        drop(records);
        let start = Instant::now();
        let loaded = load(&path);
        let took = start.elapsed();
        assert_eq!(loaded.records.len() as u64, notes);
        let resident = resident_bytes();
        println!(
            "start with {notes} notes: {:.2} s, {} MiB resident, {} MiB on disk",
            took.as_secs_f64(),
            resident >> 20,
            disk_bytes(&path) >> 20
        );
        black_box(loaded);
    }
}

/// Runs of which the median counts.
const RUNS: usize = 5;

/// Updates in a commit of the long runs: with a smaller number they would take too long on a slow disk.
const MANY: usize = 128;

/// A million updates of ten thousand notes: how large the folder gets.
fn many_updates(scratch: &Path) {
    let path = scratch.join("updates");
    let mut store = Bench::new(&path, Sizes::default());
    println!("fresh: {} MiB on disk", disk_bytes(&path) >> 20);
    let mut largest = 0;
    while store.number < 1_000_000 {
        store.commit(MANY);
        if store.number.is_multiple_of(64 * MANY as u64) {
            largest = largest.max(disk_bytes(&path));
        }
    }
    println!(
        "1,000,000 updates of 10,000 notes: {} snapshots, at most {} MiB on disk, {} MiB at the end, live {} MiB",
        store.progress.snapshots,
        largest >> 20,
        disk_bytes(&path) >> 20,
        (10_000 * ENTRY_BYTES) >> 20
    );
}

/// What commits wait for a snapshot of so many notes: those during snapshots beside those between them, in each of several
/// runs. Journals are short here, so that a run has many snapshots.
fn snapshots(scratch: &Path, notes: u64, per_run: u64) {
    let path = scratch.join(format!("snapshots-{notes}"));
    let sizes = Sizes { snapshot_after_bytes: 16 * 1024 * 1024, ..Sizes::default() };
    let mut store = Bench::new(&path, sizes);
    store.ids = notes;
    while store.number < notes || store.progress.wanted.is_some() {
        store.commit(1000);
    }
    let mut ratios = Vec::new();
    println!("{notes} notes, commits of {MANY} | p50, p99 us between snapshots | during them (commits) | p99 ratio");
    for _ in 0..RUNS {
        let (mut calm, mut during) = (Times::default(), Times::default());
        let end = store.progress.snapshots + per_run;
        while store.progress.snapshots < end {
            let times = if store.progress.wanted.is_some() { &mut during } else { &mut calm };
            times.measure(|| store.commit(MANY));
        }
        let [calm_p99, during_p99] = [calm.quantile_us(0.99), during.quantile_us(0.99)];
        println!(
            "{:>5.0} {calm_p99:>6.0} | {:>5.0} {during_p99:>6.0} ({}) | {:.2}",
            calm.quantile_us(0.5),
            during.quantile_us(0.5),
            during.0.len(),
            during_p99 / calm_p99
        );
        ratios.push(during_p99 / calm_p99);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("median ratio {:.2}; {} MiB on disk", ratios[RUNS / 2], disk_bytes(&path) >> 20);
}

/// As `du` counts: files in folders in a replica's folder.
fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        // A file that a snapshot has just removed counts nothing.
        data => data.map_or(0, |data| data.blocks() * 512),
    });
    bytes.sum()
}

/// Memory of this process, by Linux; 0 elsewhere.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
