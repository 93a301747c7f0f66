//! Damaged files: a start finds all that was there, or refuses and says where; never less, never something else.

use super::super::format::{HEADER_BYTES, frame_at};
use super::*;

/// What a start makes of a damaged disk: the whole state, or a refusal that names a file.
fn check(disk: &MemoryDisk, whole: &State, context: &str) -> bool {
    match open(disk) {
        Ok((_, loaded, _)) => {
            assert_eq!(State::of(loaded), *whole, "{context}: something is missing or wrong");
            false
        }
        Err(error @ (StoreError::Damaged { .. } | StoreError::Version { .. })) => {
            assert!(error.to_string().contains("/data/"), "{context}: {error} names no file");
            true
        }
        Err(error) => panic!("{context}: refused, but as {error}"),
    }
}

/// The offset of the last frame of the last segment, and its end.
fn last_frame(bytes: &[u8]) -> (usize, usize) {
    let (mut start, mut at) = (HEADER_BYTES, HEADER_BYTES);
    while let Some(frame) = frame_at(&bytes[at..]) {
        (start, at) = (at, at + frame.length());
    }
    (start, at)
}

#[test]
fn a_last_frame_that_was_durable_is_never_taken_for_a_torn_one() {
    let (disk, whole) = written(1, 40);
    let path = file(&disk, "journal-");
    let bytes = disk.read(&path).unwrap();
    let (start, end) = last_frame(&bytes);
    assert!(start < end);
    for at in start..end {
        let cut = &bytes[..at];
        let zeroed: Vec<u8> = cut.iter().copied().chain(std::iter::repeat_n(0, bytes.len() - at)).collect();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        for (what, damaged) in [("cut", cut), ("zeroed", &zeroed), ("flipped", &flipped)] {
            let disk = disk.fork();
            disk.overwrite(&path, damaged);
            // Its last bytes may have been zeros anyway.
            let refused = check(&disk, &whole, &format!("{what} at {at}"));
            assert!(refused || zeroed == bytes, "{what} at {at} of {start}..{end} went unnoticed");
        }
    }
}

#[test]
fn a_torn_last_frame_that_was_never_acknowledged_is_cut() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::start(2, &disk, false).unwrap();
    (0..20).for_each(|_| driver.step().unwrap());
    let (mark, before, path, old_end) = loop {
        let (mark, before) = (disk.read(&file(&disk, "mark")).unwrap(), driver.state.clone());
        let path = file(&disk, "journal-");
        let old_end = last_frame(&disk.read(&path).unwrap()).1;
        let batch = driver.post();
        let batch = driver.take(batch);
        driver.writer.turn([Command::Commit(vec![batch])]).unwrap();
        // Else it was the first of a segment.
        if file(&disk, "journal-") == path {
            break (mark, before, path, old_end);
        }
    };
    let after = driver.state.clone();
    let bytes = disk.read(&path).unwrap();
    let (start, end) = last_frame(&bytes);
    assert_eq!(start, old_end, "the batch has a frame of its own");
    for at in start..end {
        let disk = disk.fork();
        let mut torn = bytes.clone();
        torn[at..end].fill(0);
        disk.overwrite(&path, &torn);
        disk.overwrite(&file(&disk, "mark"), &mark);
        let (folder, loaded, opened) = open(&disk).unwrap_or_else(|error| panic!("torn at {at}: {error}"));
        let found = State::of(loaded);
        assert!(found == before || (found == after && torn == bytes), "torn at {at}: half a batch was found");
        drop((folder, opened));
        assert_eq!(disk.read(&path).unwrap()[end..], bytes[end..], "torn at {at}");
        check(&disk, &found, &format!("torn at {at}, opened again"));
    }
}

#[test]
fn random_damage_is_noticed_or_harmless() {
    let mut noticed = 0;
    for seed in 1..=4 {
        let (disk, whole) = written(seed, 60);
        let files: Vec<PathBuf> = disk.files().into_iter().filter(|path| !path.ends_with("lock")).collect();
        assert!(files.iter().any(|path| path.to_string_lossy().contains("snapshot-")), "seed {seed} has a snapshot");
        let mut random = Random(seed);
        for round in 0..400 {
            let disk = disk.fork();
            let path = &files[random.below(files.len() as u64) as usize];
            let what = damage(&disk, path, &files, &mut random);
            noticed +=
                u32::from(check(&disk, &whole, &format!("seed {seed}, round {round}, {what} {}", path.display())));
        }
    }
    assert!(noticed > 400, "only {noticed} of 1600 were noticed");
}

fn damage(disk: &MemoryDisk, path: &Path, files: &[PathBuf], random: &mut Random) -> &'static str {
    let mut bytes = disk.read(path).unwrap();
    let length = bytes.len() as u64;
    let (at, kind) = (random.below(length) as usize, random.below(7));
    match kind {
        0 => {
            disk.lose(path);
            return "lost";
        }
        1 => bytes.truncate(at),
        2 => bytes[at] ^= 1 << random.below(8),
        3 => {
            let page = at - at % 512;
            let end = bytes.len().min(page + 512);
            bytes[page..end].fill(0);
        }
        4 => bytes = disk.read(&files[random.below(files.len() as u64) as usize]).unwrap(),
        5 => bytes[at..].iter_mut().for_each(|byte| *byte = random.next() as u8),
        _ => drop(bytes.drain(at..bytes.len().min(at + 512))),
    }
    disk.overwrite(path, &bytes);
    ["lost", "truncated", "flipped", "zeroed a page of", "another file's bytes in", "random bytes in", "a hole in"]
        [kind as usize]
}

#[test]
fn every_file_lost_is_noticed() {
    let (disk, _) = written(3, 60);
    for path in disk.files().into_iter().filter(|path| !path.ends_with("lock")) {
        let forked = disk.fork();
        let is_unused = path.to_string_lossy().contains("journal-") && {
            let bytes = disk.read(&path).unwrap();
            bytes.iter().all(|byte| *byte == 0)
        };
        forked.lose(&path);
        assert!(is_unused || open(&forked).is_err(), "{} was lost, and nobody noticed", path.display());
    }
}

#[test]
fn all_records_lost_is_noticed() {
    let (disk, _) = written(3, 60);
    let records = |path: &PathBuf| path.to_string_lossy().contains("records-");
    disk.files().iter().filter(|path| records(path)).for_each(|path| disk.lose(path));
    assert!(open(&disk).unwrap_err().is_damage());
}

#[test]
fn a_damaged_store_is_named_with_file_and_offset() {
    let (disk, _) = written(1, 40);
    let path = file(&disk, "journal-");
    let mut bytes = disk.read(&path).unwrap();
    bytes[HEADER_BYTES + 3] ^= 1;
    disk.overwrite(&path, &bytes);
    let error = open(&disk).unwrap_err();
    let StoreError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
    assert_eq!((file, *offset), (&path, 0), "{error}: a segment whose first frame is broken is broken from its start");
}
