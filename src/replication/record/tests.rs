use super::*;
use crate::protocol::ids::Incarnation;

const A: ReplicaId = ReplicaId(0);
const B: ReplicaId = ReplicaId(1);
const ONE: NoteId = NoteId(1);

fn version(epoch: u64, counter: u64) -> Version {
    Version { epoch: Epoch(epoch), counter }
}

fn note(id: u64, version: Version, primary: ReplicaId) -> Record {
    let body = format!(r#"{{"title":"{version}"}}"#);
    let value = Value::Note(Note::from_put(NoteId(id), body.as_bytes()).unwrap());
    Record { id: NoteId(id), version, written: version, primary, value }
}

fn deletion(id: u64, version: Version) -> Record {
    Record { value: Value::Deleted, ..note(id, version, A) }
}

fn chain(items: &Items) -> Vec<Version> {
    items.chains_from(NoteId::SEQUENCE).flat_map(|(_, chain)| chain.versions()).collect()
}

#[test]
fn a_chain_is_in_order_however_its_records_came() {
    let mut items = Items::default();
    for counter in [3, 1, 2, 3] {
        items.keep_pending(note(1, version(1, counter), A));
    }
    items.keep_pending(note(1, version(2, 1), A));
    assert_eq!(chain(&items), [version(1, 1), version(1, 2), version(1, 3), version(2, 1)]);
    assert_eq!(items.pending_version(ONE), Some(version(2, 1)));
    assert_eq!(items.newest(ONE).unwrap().version, version(2, 1));
    assert!(items.committed(ONE).is_none());
}

#[test]
fn a_commit_decides_the_records_up_to_it_and_no_later_ones() {
    let mut items = Items::default();
    for counter in 1..=3 {
        items.keep_pending(note(1, version(1, counter), A));
    }
    assert!(!items.commit(ONE, version(1, 2)));
    assert_eq!(items.committed(ONE).unwrap().version, version(1, 2));
    assert_eq!(chain(&items), [version(1, 3)]);
    // Commits of other links may come late, and name what was superseded here.
    assert!(!items.commit(ONE, version(1, 1)));
    assert_eq!(items.committed(ONE).unwrap().version, version(1, 2));
    // A commit may name a version that is not here: it decides the older ones.
    assert!(!items.commit(ONE, version(2, 1)));
    assert_eq!(items.committed(ONE).unwrap().version, version(1, 3));
    assert_eq!(chain(&items), []);
}

#[test]
fn what_is_older_than_the_clean_record_is_not_kept() {
    let mut items = Items::default();
    items.keep_pending(note(1, version(2, 5), A));
    items.commit(ONE, version(2, 5));
    items.keep_pending(note(1, version(1, 9), A));
    items.keep_pending(note(1, version(2, 5), A));
    assert_eq!(chain(&items), []);
    assert!(items.holds(ONE, version(2, 5)) && !items.holds(ONE, version(1, 9)));
}

#[test]
fn a_committed_deletion_leaves_nothing() {
    let mut items = Items::default();
    items.keep_pending(note(1, version(1, 1), A));
    items.keep_pending(deletion(1, version(1, 2)));
    assert_eq!(items.newest(ONE).unwrap().value, Value::Deleted);
    assert!(items.commit(ONE, version(1, 2)));
    assert!(items.newest(ONE).is_none() && chain(&items).is_empty());
    assert_eq!((items.notes(), items.owned_by(A)), (0, 0));
}

#[test]
fn a_joiner_keeps_deletions_until_it_is_in_sync() {
    let mut items = Items::of_joiner();
    items.keep_stored(deletion(1, version(1, 2)));
    assert!(items.commit(ONE, version(1, 2)));
    assert!(!items.take_committed(note(1, version(1, 1), A)), "the copy's older record is no news");
    assert_eq!(items.committed(ONE).unwrap().value, Value::Deleted);
    assert!(items.take_committed(note(2, version(1, 1), B)));
    items.end_joining();
    assert!(items.newest(ONE).is_none());
    assert_eq!((items.notes(), items.owned_by(A), items.owned_by(B)), (1, 0, 1));
}

#[test]
fn a_copied_record_decides_older_ones_and_leaves_later_ones_open() {
    let mut items = Items::of_joiner();
    items.keep_stored(note(1, version(2, 1), A));
    items.keep_stored(note(1, version(2, 3), A));
    assert!(!items.take_committed(note(1, version(2, 2), A)));
    assert_eq!(items.committed(ONE).unwrap().version, version(2, 1));
    assert_eq!(chain(&items), [version(2, 3)]);
}

#[test]
fn owners_and_notes_are_counted_by_what_is_committed() {
    let mut items = Items::default();
    let commit = |items: &mut Items, record: Record| {
        let (id, version) = (record.id, record.version);
        items.keep_pending(record);
        items.commit(id, version);
    };
    commit(&mut items, first_sequence(A));
    commit(&mut items, note(1, version(1, 1), A));
    commit(&mut items, note(2, version(1, 1), B));
    assert_eq!((items.notes(), items.owned_by(A), items.owned_by(B)), (2, 2, 1));
    items.keep_pending(note(1, version(1, 2), B));
    assert_eq!(items.owned_by(B), 1, "a pending move counts for nobody");
    items.commit(ONE, version(1, 2));
    assert_eq!((items.owned_by(A), items.owned_by(B)), (1, 2));
    commit(&mut items, deletion(2, version(1, 2)));
    assert_eq!((items.notes(), items.owned_by(B)), (1, 1));
}

#[test]
fn requests_are_kept_while_what_they_wrote_is_undecided() {
    let request = |number| RequestId { replica: A, incarnation: Incarnation(1), number };
    let requests = |items: &Items| -> Vec<u64> {
        items
            .chains_from(NoteId::SEQUENCE)
            .flat_map(|(_, chain)| chain.requests())
            .map(|(_, request)| request.number)
            .collect()
    };
    let mut items = Items::default();
    items.keep_request(ONE, version(1, 1), request(9));
    for number in 1..=3 {
        items.keep_pending(note(1, version(1, number), A));
        items.keep_request(ONE, version(1, number), request(number));
        items.keep_request(ONE, version(1, number), request(number));
    }
    assert_eq!(requests(&items), [1, 2, 3], "each once, and none of a record that is not here");
    items.commit(ONE, version(1, 2));
    assert_eq!(requests(&items), [3]);
}

#[test]
fn a_record_in_memory_is_given_to_the_store_once() {
    let mut items = Items::default();
    items.keep_pending(note(1, version(1, 1), A));
    assert_eq!(items.store_now(ONE, version(1, 1)), Some(note(1, version(1, 1), A)));
    assert_eq!(items.store_now(ONE, version(1, 1)), None);
    items.keep_stored(note(1, version(1, 2), A));
    assert_eq!(items.store_now(ONE, version(1, 2)), None, "it is with the store already");
    items.keep_pending(note(1, version(1, 3), A));
    items.keep_stored(note(1, version(1, 3), A));
    assert_eq!(items.store_now(ONE, version(1, 3)), None, "an update brought what a hand-over had");
}

#[test]
fn what_a_store_held_is_pending() {
    let items = Items::from_store([note(1, version(1, 1), A), note(2, version(1, 4), A)]);
    assert_eq!(chain(&items), [version(1, 1), version(1, 4)]);
    assert_eq!(items.notes(), 0);
}
