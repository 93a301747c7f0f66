//! Snapshots: the folder stays small, and batches of any size find their place.

use super::*;

#[test]
fn the_folder_stays_small_however_much_is_written() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(5, &disk, false).unwrap();
    for turn in 0..1500 {
        driver.step().unwrap();
        let (progress, live) = (driver.progress.borrow().clone(), live_bytes(&driver.state));
        // Two segments beyond the journal's bound, one of them for a long batch; and what comes while a snapshot of five
        // records a turn is made.
        let bound = 20 * SMALL.segment_bytes + 5 * live;
        assert!(progress.snapshots == 0 || disk.bytes() < bound, "turn {turn}: {} bytes, {live} live", disk.bytes());
    }
    let snapshots = driver.progress.borrow().snapshots;
    assert!(snapshots > 5, "{snapshots} snapshots");
    let whole = driver.state.clone();
    driver.writer.close().unwrap();
    assert_eq!(State::of(open(&disk).unwrap().1), whole);
}

/// The first segment was never begun when the batch that does not fit it comes.
#[test]
fn a_first_batch_longer_than_a_segment_is_there_after_a_start() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(1, &disk, false).unwrap();
    let text = format!("{{\"title\":\"\",\"body\":\"{}\"}}", "x".repeat(2 * SMALL.segment_bytes as usize));
    let record = driver.record(NoteId(1), Value::Note(Note::from_post(text.as_bytes()).unwrap()));
    let batch = driver.take(Batch { records: vec![record], ..Batch::default() });
    driver.writer.turn([Command::Commit(vec![batch])]).unwrap();
    let whole = driver.state.clone();
    drop(driver);
    assert_eq!(State::of(open(&disk).unwrap().1), whole);
}

fn live_bytes(state: &State) -> u64 {
    let text = |record: &Record| match &record.value {
        Value::Note(note) => note.as_str().len() as u64,
        Value::Deleted | Value::Next(_) => 0,
    };
    state.records.values().map(|record| text(record) + 15).sum::<u64>() + state.keys.len() as u64 * 60
}

#[test]
fn many_large_batches_at_once_are_all_there() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(1, &disk, false).unwrap();
    let text = format!("{{\"title\":\"\",\"body\":\"{}\"}}", "x".repeat(900_000));
    let note = Note::from_post(text.as_bytes()).unwrap();
    let batches: Vec<Batch> = (1..=20)
        .map(|id| {
            let records = vec![driver.record(NoteId(id), Value::Note(note.clone()))];
            driver.take(Batch { records, ..Batch::default() })
        })
        .collect();
    driver.writer.turn([Command::Commit(batches)]).unwrap();
    assert_eq!(driver.progress.borrow().durable, 20);
    let whole = driver.state.clone();
    drop(driver);
    assert_eq!(State::of(open(&disk).unwrap().1), whole);
}

#[test]
fn a_late_answer_to_an_abandoned_snapshot_is_ignored() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(5, &disk, false).unwrap();
    while driver.progress.borrow().wanted.is_none() {
        driver.step().unwrap();
    }
    let mut commands = Vec::new();
    driver.answer_wanted(&mut commands);
    let late = commands.pop().unwrap();
    driver.writer.turn([Command::BeginCopy(StoreId(2)), late.clone(), Command::Switch, late]).unwrap();
    let progress = driver.progress.borrow().clone();
    assert_eq!((progress.snapshots, progress.switched, progress.wanted), (0, Some(StoreId(2)), None));
    drop(driver);
    assert!(open(&disk).unwrap().1.records.is_empty(), "the copy was empty");
}
