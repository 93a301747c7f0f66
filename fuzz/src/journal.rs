//! The journal: damaged ones, and whole ones with any payload.

use super::stores::{History, check_kept, damage, empty, frame, header};

/// The first byte says which of the two; then how long the first part is, and the parts.
pub fn run(data: &[u8]) {
    let Some(([kind, length], rest)) = data.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(usize::from(*length).min(rest.len()));
    if kind % 2 == 0 {
        let history = History::of(first);
        let damaged = damage(&history.disk, &["journal-", "mark"], second);
        return history.check(damaged);
    }
    let (disk, folder) = empty();
    let mut segment = header(b"PRIMACYJ", 1, 1, 1);
    segment.extend(frame(1, first));
    segment.extend(frame(2, second));
    segment.resize(segment.len().max(4096), 0);
    disk.overwrite(&folder.join("journal-0000000001"), &segment);
    check_kept(&disk);
}
