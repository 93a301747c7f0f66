//! The loop's end: commands in without waiting, progress out, one failure told once.

use std::io;
use std::time::Duration;

use super::super::handle::{QUEUE_COMMANDS_MAX, Refused, Store};
use super::super::memory_disk::Fault;
use super::*;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn batch(number: u64) -> Batch {
    let note = Note::from_post(br#"{"title":"t","body":"b"}"#).unwrap();
    let version = Version { epoch: Epoch(1), counter: number };
    let record =
        Record { id: NoteId(number), version, written: version, primary: ReplicaId(0), value: Value::Note(note) };
    Batch { number, records: vec![record], ..Batch::default() }
}

async fn until_durable(store: &mut Store, number: u64) {
    let wait = async { while store.progressed().await.unwrap().durable < number {} };
    tokio::time::timeout(DEADLINE, wait).await.expect("the store makes progress");
}

fn spawn(disk: &MemoryDisk) -> Store {
    let (folder, _, opened) = open(disk).unwrap();
    Store::spawn(folder, opened).unwrap()
}

#[tokio::test]
async fn batches_become_durable_in_order_and_closing_waits_for_all() {
    let disk = MemoryDisk::new();
    let mut store = spawn(&disk);
    for number in 1..=100 {
        store.send(Command::Commit(vec![batch(number)])).unwrap();
    }
    until_durable(&mut store, 100).await;
    (101..=500).for_each(|number| store.send(Command::Commit(vec![batch(number)])).unwrap());
    store.close().await.unwrap();
    disk.cut_power(&mut || false);
    assert_eq!(open(&disk).unwrap().1.records.len(), 500);
}

#[tokio::test]
async fn a_batch_of_nothing_is_durable_when_those_before_it_are() {
    let mut store = spawn(&MemoryDisk::new());
    store.send(Command::Commit(vec![batch(1), Batch { number: 2, ..Batch::default() }])).unwrap();
    until_durable(&mut store, 2).await;
}

#[tokio::test]
async fn a_failed_sync_is_told_and_ends_the_store() {
    let disk = MemoryDisk::new();
    let mut store = spawn(&disk);
    store.send(Command::Commit(vec![batch(1)])).unwrap();
    until_durable(&mut store, 1).await;
    disk.fail_after(1, Fault::Error(io::ErrorKind::Other));
    store.send(Command::Commit(vec![batch(2)])).unwrap();
    let failed = async {
        loop {
            if let Err(error) = store.progressed().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(DEADLINE, failed).await.expect("the failure is told");
    assert!(error.to_string().contains("/data/"), "{error}");
    let ended = async {
        while !matches!(store.send(Command::Switch), Err(Refused::Ended)) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the store takes no more");
    assert_eq!(store.close().await.unwrap_err().to_string(), error.to_string());
}

#[tokio::test]
async fn a_full_queue_shows_before_anything_is_refused() {
    let (folder, _, opened) = open(&MemoryDisk::new()).unwrap();
    let (mut store, task) = Store::with_task(folder, opened);
    let mut number = 0;
    while store.has_room() {
        number += 1;
        store.send(Command::Commit(vec![batch(number)])).unwrap();
    }
    while number < QUEUE_COMMANDS_MAX as u64 {
        number += 1;
        store.send(Command::Commit(vec![batch(number)])).unwrap();
    }
    let Err(Refused::Full(Command::Commit(batches))) = store.send(Command::Commit(vec![batch(number + 1)])) else {
        panic!("the queue has no end")
    };
    assert_eq!(batches, [batch(number + 1)], "what is refused comes back");
    let task = tokio::spawn(task.run(Duration::ZERO));
    until_durable(&mut store, number).await;
    assert!(store.has_room());
    drop(store);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_dropped_in_its_pause_has_written_nothing() {
    let disk = MemoryDisk::new();
    let (folder, _, opened) = open(&disk).unwrap();
    let (mut store, task) = Store::with_task(folder, opened);
    let task = tokio::spawn(task.run(Duration::from_millis(10)));
    store.send(Command::Commit(vec![batch(1)])).unwrap();
    until_durable(&mut store, 1).await;
    store.send(Command::Commit(vec![batch(2)])).unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(open(&disk).unwrap().1.records.len(), 1);
}

#[tokio::test]
async fn a_copy_takes_the_place_of_the_store_under_its_own_id() {
    let disk = MemoryDisk::new();
    let mut store = spawn(&disk);
    let commands = [
        Command::Commit(vec![batch(1)]),
        Command::BeginCopy(StoreId(50)),
        Command::Commit(vec![batch(2)]),
        Command::Switch,
        Command::Commit(vec![batch(3)]),
    ];
    commands.into_iter().for_each(|command| store.send(command).unwrap());
    let mut switched = None;
    let wait = async {
        while switched.is_none() {
            switched = store.progressed().await.unwrap().switched;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the copy is put in force");
    assert_eq!(switched, Some(StoreId(50)));
    store.close().await.unwrap();
    let (_, loaded, _) = open(&disk).unwrap();
    assert_eq!(loaded.store, StoreId(50));
    assert_eq!(loaded.records.into_keys().collect::<Vec<_>>(), [NoteId(2), NoteId(3)]);
    assert!(!disk.files().iter().any(|path| path.to_string_lossy().contains("records-0000000000000001")));
}
