//! Snapshots: damaged ones, and whole ones with any payload.

use primacy::store::Disk as _;

use super::stores::{History, check_kept, damage, empty, frame, header};

/// The first byte says which of the two; then how long the first part is, and the parts.
pub fn run(data: &[u8]) {
    let Some(([kind, length], rest)) = data.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(usize::from(*length).min(rest.len()));
    if kind % 2 == 0 {
        let history = History::of(first);
        let damaged = damage(&history.disk, &["snapshot-"], second);
        return history.check(damaged);
    }
    let (disk, folder) = empty();
    let mut snapshot = header(b"PRIMACYS", 1, 1, 1);
    snapshot.extend(frame(1, first));
    snapshot.extend(frame(2, second));
    // The last one is empty.
    let frames = 2 + u64::from(!second.is_empty());
    if frames == 3 {
        snapshot.extend(frame(3, &[]));
    }
    let path = folder.join("snapshot-0000000001");
    disk.create(&path).expect("the disk does what it is asked");
    disk.overwrite(&path, &snapshot);
    check_kept(&disk);
}
