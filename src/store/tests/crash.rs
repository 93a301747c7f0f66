//! Power cuts at every operation, with any subset of what was not synced kept.

use super::super::memory_disk::Fault;
use super::*;

/// Runs until the power fails, and says what was promised by then.
fn run_until_cut(seed: u64, disk: &MemoryDisk, turns: usize, copies: bool) -> Option<Promises> {
    let mut driver = Driver::start(seed, disk, copies).ok()?;
    for _ in 0..turns {
        if driver.step().is_err() {
            break;
        }
    }
    Some(driver.into_promises())
}

fn cut(disk: &MemoryDisk, random: &mut Random) {
    let percent = [0, 50, 50, 90, 100][random.below(5) as usize];
    disk.cut_power(&mut || random.chance(percent));
}

/// The power fails at this operation; then again while the next start recovers; the one after that has to succeed.
fn cut_at(seed: u64, operation: u64, turns: usize, copies: bool) {
    let context = format!("seed {seed}, power cut at operation {operation}");
    let mut random = Random(seed ^ operation << 32);
    let disk = MemoryDisk::new();
    disk.fail_after(operation, Fault::PowerCut);
    let promises = run_until_cut(seed, &disk, turns, copies);
    cut(&disk, &mut random);
    let again = random.below(12);
    disk.fail_after(again, Fault::PowerCut);
    drop(open(&disk));
    cut(&disk, &mut random);
    let (folder, loaded, opened) = open(&disk).unwrap_or_else(|error| panic!("{context}, {again}: {error}"));
    match promises {
        Some(promises) => promises.check(loaded, &context),
        None => assert!(loaded.records.is_empty(), "{context}: records out of nowhere"),
    }
    drop((folder, opened));
    goes_on(seed + 1, &disk, &context);
}

/// The store takes more, and keeps it.
fn goes_on(seed: u64, disk: &MemoryDisk, context: &str) {
    let mut driver = Driver::start(seed, disk, false).unwrap_or_else(|error| panic!("{context}, later: {error}"));
    (0..8).for_each(|_| driver.step().unwrap_or_else(|error| panic!("{context}, later: {error}")));
    let promises = driver.into_promises();
    let (_, loaded, _) = open(disk).unwrap_or_else(|error| panic!("{context}, at the end: {error}"));
    assert_eq!(State::of(loaded), promises.last, "{context}: the later batches are not all there");
}

fn operations(seed: u64, turns: usize, copies: bool) -> u64 {
    let disk = MemoryDisk::new();
    let promises = run_until_cut(seed, &disk, turns, copies).unwrap();
    assert!(promises.snapshots > 0 || copies, "seed {seed} makes no snapshot");
    let (_, loaded, _) = open(&disk).unwrap();
    promises.check(loaded, "no fault");
    disk.operations()
}

/// The runs above are worth something only if they copy and switch.
#[test]
fn the_runs_with_copies_drop_some_and_put_some_in_force() {
    let runs = (11..=14).filter_map(|seed| run_until_cut(seed, &MemoryDisk::new(), 60, true));
    let (switched, dropped) = runs.fold((0, 0), |(switched, dropped), run| match run.switched {
        Some(_) => (switched + 1, dropped + run.histories.len() - 2),
        None => (switched, dropped),
    });
    assert!(switched > 1 && dropped > 0, "{switched} switched, {dropped} dropped");
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_promised() {
    for seed in 1..=3 {
        (0..operations(seed, 60, false)).for_each(|operation| cut_at(seed, operation, 60, false));
    }
}

#[test]
fn a_power_cut_while_a_copy_replaces_the_store_leaves_the_old_one_or_the_new_one() {
    for seed in 11..=14 {
        (0..operations(seed, 60, true)).for_each(|operation| cut_at(seed, operation, 60, true));
    }
}

/// SIGKILL: the process ends anywhere, the machine goes on.
#[test]
fn the_death_of_the_process_loses_nothing_promised() {
    for operation in 0..operations(21, 60, true) {
        let disk = MemoryDisk::new();
        disk.fail_after(operation, Fault::PowerCut);
        let promises = run_until_cut(21, &disk, 60, true);
        disk.cut_power(&mut || true);
        let context = format!("killed at operation {operation}");
        let (_, loaded, _) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        if let Some(promises) = promises {
            promises.check(loaded, &context);
        }
    }
}
