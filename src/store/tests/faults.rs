//! Writes and syncs that fail, and full disks: the store ends at once, says why once, and nothing promised is lost.

use std::io;

use super::super::memory_disk::Fault;
use super::*;

/// Runs until something fails; says what was promised and what the store said.
fn run_until_failure(seed: u64, disk: &MemoryDisk) -> (Option<Promises>, Option<String>) {
    let mut driver = match Driver::start(seed, disk, seed.is_multiple_of(2)) {
        Ok(driver) => driver,
        Err(error) => return (None, Some(error.to_string())),
    };
    for _ in 0..60 {
        if let Err(error) = driver.step() {
            let told = driver.progress.borrow().failed.clone().expect("a failure is told to the loop");
            assert_eq!(told.to_string(), error.to_string());
            return (Some(driver.into_promises()), Some(error.to_string()));
        }
    }
    (Some(driver.into_promises()), None)
}

#[test]
fn any_operation_that_fails_ends_the_store_and_loses_nothing_promised() {
    for seed in 1..=2 {
        let disk = MemoryDisk::new();
        run_until_failure(seed, &disk);
        for operation in 0..disk.operations() {
            let disk = MemoryDisk::new();
            disk.fail_after(operation, Fault::Error(io::ErrorKind::Other));
            let (promises, said) = run_until_failure(seed, &disk);
            let context = format!("seed {seed}, failure of operation {operation}");
            assert!(said.is_some_and(|said| said.starts_with("cannot ")), "{context} went unnoticed");
            let power = Random(operation).chance(50);
            if power {
                let mut random = Random(operation);
                disk.cut_power(&mut || random.chance(50));
            }
            let (_, loaded, _) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            if let Some(promises) = promises {
                promises.check(loaded, &context);
            }
        }
    }
}

#[test]
fn a_full_disk_says_so_and_a_start_with_more_room_has_everything() {
    for room in (5_000..60_000).step_by(5_000) {
        let disk = MemoryDisk::new();
        disk.set_room(Some(room));
        let (promises, said) = run_until_failure(1, &disk);
        let said = said.expect("60 turns do not fit");
        assert!(said.contains("no storage space") && said.contains("free some space"), "{said}");
        disk.set_room(None);
        let (_, loaded, _) = open(&disk).unwrap();
        if let Some(promises) = promises {
            promises.check(loaded, &format!("room for {room} bytes"));
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_says_what_to_do() {
    let disk = MemoryDisk::new();
    disk.fail_after(0, Fault::Error(io::ErrorKind::ReadOnlyFilesystem));
    let said = open(&disk).unwrap_err().to_string();
    assert!(said.contains("/data") && said.contains("choose another folder with `--data`"), "{said}");
}

#[test]
fn a_batch_that_no_frame_can_hold_is_refused_and_not_cut() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(1, &disk, false).unwrap();
    let text = format!("{{\"title\":\"\",\"body\":\"{}\"}}", "x".repeat(1_000_000));
    let note = Note::from_post(text.as_bytes()).unwrap();
    let records = (1..=17).map(|id| driver.record(NoteId(id), Value::Note(note.clone()))).collect();
    let error = driver.writer.turn([Command::Commit(vec![Batch { number: 1, records, ..Batch::default() }])]);
    assert!(matches!(*error.unwrap_err(), StoreError::TooLarge { .. }));
    drop(driver);
    assert!(open(&disk).unwrap().1.records.is_empty());
}
