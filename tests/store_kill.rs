//! A process that writes a store on the real disk is killed again and again: what it had reported durable is there.

#![expect(clippy::unwrap_used, reason = "what goes wrong in the helpers of a test fails the test")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, StoreId, Version};
use primacy::protocol::record::{Record, Value};
use primacy::store::{
    Batch, Chunk, Command, Cursor, Folder, Loaded, Opened, Owner, Part, RealDisk, Sizes, Store, StoreError, Wanted,
};

/// Given to the process that is killed: where to write.
const FOLDER: &str = "STORE_KILL_FOLDER";

/// How often it is killed.
const ROUNDS: u64 = 20;

/// Small, so that segments change and snapshots are made all the time.
const SIZES: Sizes = Sizes { segment_bytes: 64 * 1024, snapshot_after_bytes: 128 * 1024 };

/// Notes that are rewritten over and over; each write rewrites the id sequence, too, so that a half of a batch shows.
const NOTES: u64 = 200;

fn open_folder(folder: &Path) -> Result<Folder, StoreError> {
    let owner = Owner { replica: "127.0.0.1:10000".into(), replicas: vec!["127.0.0.1:10000".into()] };
    Folder::open(Arc::new(RealDisk), folder, &owner, StoreId(1), SIZES)
}

fn open(folder: &Path) -> (Folder, Loaded, Opened) {
    let folder = open_folder(folder).unwrap();
    let (loaded, opened) = folder.load().unwrap();
    (folder, loaded, opened)
}

/// A note and the sequence, both in this version.
fn batch(number: u64, sequence: u64) -> Batch {
    let version = Version { epoch: Epoch(1), counter: sequence };
    let record = |id, value| Record { id, version, written: version, primary: ReplicaId(0), value };
    let body = "x".repeat((sequence % 1000) as usize);
    let note = Note::from_post(format!("{{\"title\":\"{sequence}\",\"body\":\"{body}\"}}").as_bytes()).unwrap();
    let records = vec![
        record(NoteId(1 + sequence % NOTES), Value::Note(note)),
        record(NoteId::SEQUENCE, Value::Next(NoteId(sequence))),
    ];
    Batch { number, records, ..Batch::default() }
}

fn sequence(loaded: &Loaded) -> u64 {
    loaded.records.get(&NoteId::SEQUENCE).map_or(0, |record| record.version.counter)
}

/// Not a test of its own: the process that is killed. It prints each number that is durable.
#[test]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (folder, loaded, opened) = open(Path::new(&folder));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Store::spawn(folder, opened).unwrap();
    runtime.block_on(write_on(store, loaded));
}

async fn write_on(mut store: Store, loaded: Loaded) {
    let first = sequence(&loaded);
    let mut loaded = loaded;
    let (mut number, mut durable, mut answered) = (0, 0, 0);
    loop {
        // Some batches are always on their way.
        while number < durable + 64 {
            number += 1;
            let batch = batch(number, first + number);
            loaded.records.extend(batch.records.iter().map(|record| (record.id, record.clone())));
            store.send(Command::Commit(vec![batch])).unwrap();
        }
        let progress = store.progressed().await.unwrap();
        durable = progress.durable;
        eprintln!("durable {} snapshots {}", first + durable, progress.snapshots);
        if let Some(wanted) = progress.wanted.filter(|wanted| wanted.ask > answered) {
            answered = wanted.ask;
            store.send(Command::Snapshot(chunk(&loaded, wanted))).unwrap();
        }
    }
}

fn chunk(loaded: &Loaded, wanted: Wanted) -> Chunk {
    let (part, more) = match wanted.from {
        Cursor::Record(from) => {
            let mut rest = loaded.records.range(from..).map(|(_, record)| record.clone());
            let part = rest.by_ref().take(50).collect();
            (Part::Records(part), rest.next().is_some())
        }
        Cursor::Key(_) => (Part::Keys(Vec::new()), false),
    };
    Chunk { ask: wanted.ask, part, more }
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays for the system to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(folder: &Path) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a line of the process reports: batches, snapshots.
fn report(line: &str) -> Option<(u64, u64)> {
    let (durable, snapshots) = line.strip_prefix("durable ")?.split_once(" snapshots ")?;
    Some((durable.parse().ok()?, snapshots.parse().ok()?))
}

#[test]
fn a_process_killed_under_load_loses_nothing_that_it_reported_durable() {
    let scratch = Scratch::new("store_kill");
    let (mut durable, mut snapshots) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = start(&scratch.0);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // Killed after some reports and a little while, so at a moment that nobody chose; now and then after a snapshot.
        let reports = 1 + round * 7 % 40;
        let mut reported = lines.by_ref().filter_map(|line| report(&line));
        match round % 4 {
            3 => {
                assert!(reported.any(|(_, made)| made > 0), "round {round}: it ended before its first snapshot");
                snapshots += 1;
            }
            _ => assert_eq!(reported.take(reports as usize).count() as u64, reports),
        }
        std::thread::sleep(Duration::from_micros(round * 397));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts, too.
        if let Some((last, made)) = lines.filter_map(|line| report(&line)).last() {
            durable = last;
            snapshots += made;
        }
        let (_, loaded, _) = open(&scratch.0);
        let found = sequence(&loaded);
        assert!(found >= durable, "round {round}: {durable} was durable, {found} was found");
        check(&loaded, found, round);
    }
    assert!(durable > ROUNDS && snapshots > 0, "{durable} batches, {snapshots} snapshots: hardly anything was written");
}

/// Exactly the newest version of each note, up to batch `last`.
fn check(loaded: &Loaded, last: u64, round: u64) {
    for sequence in last.saturating_sub(NOTES - 1).max(1)..=last {
        let expected = batch(0, sequence).records.swap_remove(0);
        assert_eq!(loaded.records.get(&expected.id), Some(&expected), "round {round}, batch {sequence} of {last}");
    }
}

#[test]
fn a_second_process_is_refused_while_the_first_one_has_the_folder() {
    let scratch = Scratch::new("store_lock");
    let mut child = start(&scratch.0);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| report(line).is_some()).expect("the process writes, so it has the folder");
    let said = open_folder(&scratch.0).unwrap_err().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("is in use by another process"), "{said}");
    open(&scratch.0);
}
