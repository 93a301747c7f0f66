//! The log of byte records under the consensus.

use super::super::log::{Log, LogContents};
use super::super::memory_disk::Fault;
use super::*;

fn open_log(disk: &MemoryDisk) -> Result<(Log, LogContents), StoreError> {
    Log::open(Arc::new(disk.clone()), Path::new("/consensus"), 7)
}

/// Appends and rewrites; `kept` is told the records after each step that was durable. Says what a last, failed step
/// would have led to.
fn run(disk: &MemoryDisk, kept: &mut Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let (mut log, contents) = open_log(disk).ok()?;
    *kept = contents.records;
    for n in 0..12_u8 {
        let mut next = kept.clone();
        let outcome = match n % 5 {
            4 => {
                next.drain(..next.len() / 2);
                log.rewrite(&next)
            }
            _ => {
                let records = [vec![n; 3000], Vec::new(), vec![n]];
                next.extend(records.clone());
                log.append(&records)
            }
        };
        if outcome.is_err() {
            return Some(next);
        }
        *kept = next;
    }
    None
}

#[test]
fn what_was_appended_and_rewritten_is_there_after_a_start() {
    let disk = MemoryDisk::new();
    let mut kept = Vec::new();
    assert_eq!(run(&disk, &mut kept), None);
    disk.cut_power(&mut || false);
    let (log, contents) = open_log(&disk).unwrap();
    assert_eq!(contents, LogContents { id: 7, records: kept });
    log.close().unwrap();
    let (_, contents) = Log::open(Arc::new(disk), Path::new("/consensus"), 8).unwrap();
    assert_eq!(contents.id, 7, "an id is given once");
}

#[test]
fn a_power_cut_leaves_the_log_before_the_step_or_after_it() {
    let whole = MemoryDisk::new();
    run(&whole, &mut Vec::new());
    for operation in 0..whole.operations() {
        for percent in [0, 50, 100] {
            let (disk, mut kept) = (MemoryDisk::new(), Vec::new());
            disk.fail_after(operation, Fault::PowerCut);
            let next = run(&disk, &mut kept);
            let mut random = Random(operation);
            disk.cut_power(&mut || random.chance(percent));
            let context = format!("operation {operation}, {percent} % kept");
            let (_, contents) = open_log(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(contents.records == kept || Some(contents.records) == next, "{context}");
        }
    }
}

#[test]
fn a_log_grows_over_many_segments_and_shrinks_when_rewritten() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open_log(&disk).unwrap();
    for n in 0..40_u8 {
        log.append(&[vec![n; 100_000]]).unwrap();
    }
    assert!(log.bytes() > 4_000_000 && disk.bytes() > 4_000_000);
    log.rewrite(&[b"vote"]).unwrap();
    assert_eq!(log.bytes(), 0);
    assert!(disk.bytes() < 1_100_000, "{} bytes are left", disk.bytes());
    log.append(&[vec![1; 2_000_000]]).unwrap();
    drop(log);
    let (_, contents) = open_log(&disk).unwrap();
    assert_eq!(contents.records, [b"vote".to_vec(), vec![1; 2_000_000]]);
}

#[test]
fn a_log_without_its_mark_is_damaged_unless_it_is_empty() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open_log(&disk).unwrap();
    let empty = disk.fork();
    empty.lose(Path::new("/consensus/mark"));
    open_log(&empty).unwrap();
    log.append(&[b"vote"]).unwrap();
    disk.lose(Path::new("/consensus/mark"));
    assert!(open_log(&disk).unwrap_err().is_damage());
}
