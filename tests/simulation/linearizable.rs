//! Whether the history of one note is linearizable: whether its operations can be put in an order that keeps to real time
//! and in which each one's answer is right. The search is Wing and Gong's, with Lowe's memory of places seen.

use std::collections::HashSet;

use primacy::protocol::ids::Version;

/// What a note holds: the tags of its title and its body, 0 where it has none.
pub(crate) type Content = (u32, u32);

/// An operation on the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Post(Content),
    Put(Content),
    /// What becomes of title and body; none leaves it, 0 removes it.
    Patch(Option<u32>, Option<u32>),
    Delete,
    Get,
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The write was done and made this version.
    Done(Version),
    /// The note was read; the list does not say the version.
    Found(Content, Option<Version>),
    NotFound,
    /// If-Match did not hold.
    Mismatch,
    /// It may have taken effect, or may still do so.
    Unknown,
}

/// One operation, from its call to its return.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) called: u64,
    /// Unanswered ones never return.
    pub(crate) returned: u64,
    pub(crate) kind: Kind,
    pub(crate) if_match: Option<Version>,
    /// Operations with the same key take effect once.
    pub(crate) key: Option<u32>,
    pub(crate) answer: Answer,
}

/// The result of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    No,
    /// The search was given up.
    TooLong,
}

/// Places looked at before the search is given up.
const PLACES_MAX: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Note {
    Never,
    /// Its content, and the version where it is known.
    There(Content, Option<Version>),
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    note: Note,
    /// Keys that have taken effect.
    keys: Vec<u32>,
}

struct Search<'a> {
    /// By the time of the call.
    operations: &'a [Operation],
    seen: HashSet<(Vec<u64>, State)>,
    /// Answered operations that are not in order yet.
    left: usize,
    taken: Vec<u64>,
}

/// Searches an order.
pub(crate) fn check(operations: &mut [Operation]) -> Verdict {
    operations.sort_by_key(|operation| operation.called);
    let left = operations.iter().filter(|operation| operation.answer != Answer::Unknown).count();
    let taken = vec![0; operations.len().div_ceil(64)];
    let mut search = Search { operations, seen: HashSet::new(), left, taken };
    match search.order(State { note: Note::Never, keys: Vec::new() }) {
        true => Verdict::Linearizable,
        false if search.seen.len() >= PLACES_MAX => Verdict::TooLong,
        false => Verdict::No,
    }
}

impl Search<'_> {
    fn is_taken(&self, index: usize) -> bool {
        self.taken[index / 64] >> (index % 64) & 1 == 1
    }

    fn flip(&mut self, index: usize) {
        self.taken[index / 64] ^= 1 << (index % 64);
        let answered = self.operations[index].answer != Answer::Unknown;
        match self.is_taken(index) {
            true => self.left -= usize::from(answered),
            false => self.left += usize::from(answered),
        }
    }

    /// Those that may come next: called before any that is left has returned. Answered ones first.
    fn candidates(&self) -> Vec<usize> {
        let mut first_return = u64::MAX;
        let mut found = Vec::new();
        for (index, operation) in self.operations.iter().enumerate() {
            if operation.called > first_return {
                break;
            }
            if !self.is_taken(index) {
                first_return = first_return.min(operation.returned);
                found.push(index);
            }
        }
        found.retain(|index| self.operations[*index].called <= first_return);
        found.sort_by_key(|index| self.operations[*index].returned);
        found
    }

    /// Whether the rest can be put in order from this state.
    fn order(&mut self, mut state: State) -> bool {
        let mut taken_here = Vec::new();
        let found = loop {
            if self.left == 0 {
                break true;
            }
            let candidates = self.candidates();
            // One that fits and changes nothing can be taken at once: later it would fit no better.
            let harmless = candidates.iter().find_map(|index| {
                let answered = self.operations[*index].answer != Answer::Unknown;
                let next = apply(&state, &self.operations[*index])?;
                (answered && same(&next, &state)).then_some((*index, next))
            });
            match harmless {
                Some((index, next)) => {
                    self.flip(index);
                    taken_here.push(index);
                    state = next;
                }
                None => break self.branch(&state, &candidates),
            }
        };
        if !found {
            taken_here.into_iter().rev().for_each(|index| self.flip(index));
        }
        found
    }

    fn branch(&mut self, state: &State, candidates: &[usize]) -> bool {
        if self.seen.len() >= PLACES_MAX || !self.seen.insert((self.taken.clone(), state.clone())) {
            return false;
        }
        for index in candidates {
            let Some(next) = apply(state, &self.operations[*index]) else { continue };
            self.flip(*index);
            if self.order(next) {
                return true;
            }
            self.flip(*index);
        }
        false
    }
}

/// Whether two states are the same but for what is known of the version.
fn same(one: &State, other: &State) -> bool {
    let content = |state: &State| match &state.note {
        Note::There(content, _) => Some(*content),
        _ => None,
    };
    one.keys.len() == other.keys.len()
        && content(one) == content(other)
        && std::mem::discriminant(&one.note) == std::mem::discriminant(&other.note)
        && match (&one.note, &other.note) {
            (Note::There(_, Some(one)), Note::There(_, Some(other))) => one == other,
            _ => true,
        }
}

/// The state after an operation, where its answer is right.
fn apply(state: &State, operation: &Operation) -> Option<State> {
    let used = operation.key.is_some_and(|key| state.keys.contains(&key));
    if used {
        return matches!(operation.answer, Answer::Done(_) | Answer::Unknown).then(|| state.clone());
    }
    if operation.kind == Kind::Get {
        return read(state, &operation.answer);
    }
    let note = write(&state.note, operation)?;
    let mut keys = state.keys.clone();
    let took_effect = matches!(operation.answer, Answer::Done(_) | Answer::Unknown);
    if let Some(key) = operation.key.filter(|_| took_effect) {
        keys.push(key);
        keys.sort_unstable();
    }
    Some(State { note, keys })
}

fn read(state: &State, answer: &Answer) -> Option<State> {
    let note = match (&state.note, answer) {
        (Note::Never | Note::Deleted, Answer::NotFound) => state.note.clone(),
        (Note::There(content, version), Answer::Found(found, written)) if content == found => {
            Note::There(*content, agree(*version, *written)?)
        }
        _ => return None,
    };
    Some(State { note, keys: state.keys.clone() })
}

/// Two pieces of knowledge of one version; none where they contradict each other.
fn agree(one: Option<Version>, other: Option<Version>) -> Option<Option<Version>> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (known, other) => Some(known.or(other)),
    }
}

fn write(note: &Note, operation: &Operation) -> Option<Note> {
    let version = match &operation.answer {
        Answer::Done(version) => Some(*version),
        Answer::Unknown => None,
        Answer::NotFound => {
            let absent = matches!(note, Note::Never | Note::Deleted) && !matches!(operation.kind, Kind::Post(_));
            return absent.then(|| note.clone());
        }
        Answer::Mismatch => {
            let wanted = operation.if_match?;
            let differs = matches!(note, Note::There(_, version) if *version != Some(wanted));
            return differs.then(|| note.clone());
        }
        Answer::Found(..) => return None,
    };
    if let Kind::Post(content) = operation.kind {
        return (*note == Note::Never).then_some(Note::There(content, version));
    }
    let Note::There((title, body), before) = *note else { return None };
    if operation.if_match.is_some() {
        agree(before, operation.if_match)?;
    }
    Some(match operation.kind {
        Kind::Put(content) => Note::There(content, version),
        Kind::Patch(new_title, new_body) => {
            Note::There((new_title.unwrap_or(title), new_body.unwrap_or(body)), version)
        }
        Kind::Delete => Note::Deleted,
        Kind::Post(_) | Kind::Get => return None,
    })
}

#[cfg(test)]
mod tests {
    use primacy::protocol::ids::{Epoch, Version};

    use super::*;

    const ONE: Content = (1, 1);
    const TWO: Content = (2, 2);

    fn v(counter: u64) -> Version {
        Version { epoch: Epoch(1), counter }
    }

    fn op(called: u64, returned: u64, kind: Kind, answer: Answer) -> Operation {
        Operation { called, returned, kind, if_match: None, key: None, answer }
    }

    fn post() -> Operation {
        op(1, 2, Kind::Post(ONE), Answer::Done(v(1)))
    }

    fn get(called: u64, returned: u64, content: Content, counter: u64) -> Operation {
        op(called, returned, Kind::Get, Answer::Found(content, Some(v(counter))))
    }

    fn judge(operations: impl IntoIterator<Item = Operation>) -> Verdict {
        check(&mut operations.into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn histories_that_are_linearizable() {
        let put = |called, returned, answer| op(called, returned, Kind::Put(TWO), answer);
        let done = Answer::Done(v(2));
        let unknown = || op(3, u64::MAX, Kind::Put(TWO), Answer::Unknown);
        let keyed =
            |called, returned| Operation { key: Some(7), ..op(called, returned, Kind::Delete, Answer::Done(v(2))) };
        let mismatch = Operation { if_match: Some(v(1)), ..op(5, 6, Kind::Delete, Answer::Mismatch) };
        let good = [
            ("nothing", vec![]),
            ("one after the other", vec![post(), get(3, 4, ONE, 1)]),
            (
                "a read beside a write sees either",
                vec![post(), put(3, 8, done.clone()), get(4, 5, ONE, 1), get(6, 7, TWO, 2)],
            ),
            ("an unknown write that never was", vec![post(), unknown(), get(5, 6, ONE, 1)]),
            ("an unknown write that comes late", vec![post(), unknown(), get(5, 6, ONE, 1), get(7, 8, TWO, 2)]),
            ("one key twice", vec![post(), keyed(3, 4), keyed(5, 6)]),
            ("a mismatch after a write", vec![post(), put(3, 4, done.clone()), mismatch]),
            (
                "404 before and after",
                vec![
                    op(0, 1, Kind::Get, Answer::NotFound),
                    post(),
                    op(3, 4, Kind::Delete, Answer::Done(v(2))),
                    op(5, 6, Kind::Put(TWO), Answer::NotFound),
                ],
            ),
            ("a list knows no version", vec![post(), op(3, 4, Kind::Get, Answer::Found(ONE, None)), get(5, 6, ONE, 1)]),
        ];
        for (name, operations) in good {
            assert_eq!(judge(operations), Verdict::Linearizable, "{name}");
        }
    }

    #[test]
    fn histories_that_are_not() {
        let put = op(3, 4, Kind::Put(TWO), Answer::Done(v(2)));
        let unknown = op(3, u64::MAX, Kind::Put(TWO), Answer::Unknown);
        let delete = |called, returned| op(called, returned, Kind::Delete, Answer::Done(v(2)));
        let conditional = Operation { if_match: Some(v(1)), ..op(5, 6, Kind::Delete, Answer::Done(v(3))) };
        let bad = [
            ("a stale read", vec![post(), put.clone(), get(5, 6, ONE, 1)]),
            ("a read of the future", vec![get(0, 1, ONE, 1), op(2, 3, Kind::Post(ONE), Answer::Done(v(1)))]),
            ("back and forth", vec![post(), unknown, get(5, 6, TWO, 2), get(7, 8, ONE, 1)]),
            (
                "two reads turn back beside a write",
                vec![post(), op(3, 9, Kind::Put(TWO), Answer::Done(v(2))), get(4, 5, TWO, 2), get(6, 7, ONE, 1)],
            ),
            ("404 of a note that is there", vec![post(), op(3, 4, Kind::Get, Answer::NotFound)]),
            ("back from the dead", vec![post(), delete(3, 4), get(5, 6, ONE, 1)]),
            ("deleted twice", vec![post(), delete(3, 4), delete(5, 6)]),
            ("a lost update", vec![post(), put.clone(), conditional]),
            ("another version", vec![post(), put, get(5, 6, TWO, 3)]),
            (
                "a patch that lost the title",
                vec![post(), op(3, 4, Kind::Patch(Some(5), None), Answer::Done(v(2))), get(5, 6, (5, 0), 2)],
            ),
        ];
        for (name, operations) in bad {
            assert_eq!(judge(operations), Verdict::No, "{name}");
        }
    }
}
