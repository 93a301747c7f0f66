//! What must hold of what clients saw, one function each, headed by its sentence.

use std::collections::BTreeMap;

use super::history::{Ask, History, Reply};
use super::linearizable::{self, Verdict};

/// Invariant 6: each note's history, over all clients and replicas, is linearizable; so no write that was answered done is
/// ever lost. Says how many histories were too long to decide.
pub(crate) fn notes_are_linearizable(history: &History) -> Result<u64, String> {
    let mut undecided = 0;
    for (id, mut operations) in history.by_note() {
        match linearizable::check(&mut operations) {
            Verdict::Linearizable => {}
            Verdict::TooLong => undecided += 1,
            Verdict::No => {
                let lines: Vec<String> = operations.iter().map(|operation| format!("\n    {operation:?}")).collect();
                return Err(format!("invariant 6: that of note {id} is not:{}", lines.concat()));
            }
        }
    }
    Ok(undecided)
}

/// Invariant 7: one POST makes one note, an id is never given twice, one key takes effect once.
pub(crate) fn each_takes_effect_once(history: &History) -> Result<(), String> {
    let (mut by_id, mut by_tag, mut by_key) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for attempt in &history.attempts {
        let Reply::Done(id, version) = attempt.reply else { continue };
        let tag = attempt.ask.tag();
        if matches!(attempt.ask, Ask::Post(_))
            && (*by_id.entry(id).or_insert(tag) != tag || *by_tag.entry(tag).or_insert(id) != id)
        {
            return Err(format!("invariant 7: {attempt:?}, and before {:?} {:?}", by_id.get(&id), by_tag.get(&tag)));
        }
        if let Some((key, version)) = attempt.key.zip(version)
            && *by_key.entry(key).or_insert((id, version)) != (id, version)
        {
            return Err(format!("invariant 7: {attempt:?}, and before {:?}", by_key[&key]));
        }
    }
    Ok(())
}

/// Invariant 5: a write that was answered `unavailable` never takes effect: nobody reads what it would have written, unless
/// it was sent again.
pub(crate) fn what_has_no_effect_has_none(history: &History) -> Result<(), String> {
    let read = history.read_tags();
    let mut may = std::collections::BTreeSet::new();
    for attempt in history.attempts.iter().filter(|attempt| matches!(attempt.reply, Reply::Done(..) | Reply::Unknown)) {
        may.insert(attempt.ask.tag());
    }
    match history
        .attempts
        .iter()
        .find(|it| read.contains(&it.ask.tag()) && it.ask.tag() != 0 && !may.contains(&it.ask.tag()))
    {
        Some(attempt) => Err(format!("invariant 5: it was read, and answered as if it never were: {attempt:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use primacy::note::NoteId;
    use primacy::protocol::ids::{Epoch, Version};

    use super::super::history::Attempt;
    use super::*;

    /// Attempts one after the other, none of them under a key.
    fn history(attempts: impl IntoIterator<Item = (Ask, Reply)>) -> History {
        let mut history = History::default();
        for (ask, reply) in attempts {
            let (called, returned) = (history.tick(), history.tick());
            let (key, if_match) = (None, None);
            history.attempts.push(Attempt { client: 0, replica: 0, ask, key, if_match, called, returned, reply });
        }
        history
    }

    fn done(id: u64, counter: u64) -> Reply {
        Reply::Done(NoteId(id), Some(Version { epoch: Epoch(1), counter }))
    }

    fn found(tag: u32, counter: u64) -> Reply {
        Reply::Found((tag, tag), Version { epoch: Epoch(1), counter })
    }

    #[test]
    fn what_must_not_be_is_found() {
        let (post, put, get) = (Ask::Post((1, 1)), Ask::Put(NoteId(1), (2, 2)), Ask::Get(NoteId(1)));
        let lost = [(post.clone(), done(1, 1)), (get.clone(), Reply::NotFound)];
        assert!(notes_are_linearizable(&history(lost)).is_err(), "a write is lost");
        let missing = [(post.clone(), done(1, 1)), (Ask::List, Reply::Notes(BTreeMap::new()))];
        assert!(notes_are_linearizable(&history(missing)).is_err(), "the list lacks it");
        let stale = [(post.clone(), done(1, 1)), (put.clone(), done(1, 2)), (get.clone(), found(1, 1))];
        assert!(notes_are_linearizable(&history(stale)).is_err(), "a read is stale");
        let twice = [(post.clone(), done(1, 1)), (Ask::Post((3, 3)), done(1, 2))];
        assert!(each_takes_effect_once(&history(twice)).is_err(), "an id is given twice");
        let refused = [(post, done(1, 1)), (put, Reply::NoEffect), (get, found(2, 2))];
        assert!(what_has_no_effect_has_none(&history(refused)).is_err(), "what was refused has an effect");
    }

    #[test]
    fn what_may_be_is_not() {
        let (post, get) = (Ask::Post((1, 1)), Ask::Get(NoteId(1)));
        let late =
            history([(post.clone(), Reply::Unknown), (get.clone(), Reply::NotFound), (get.clone(), found(1, 1))]);
        assert_eq!(notes_are_linearizable(&late), Ok(0), "an unknown POST comes late");
        let never = history([(post, Reply::Unknown), (get, Reply::NotFound)]);
        assert_eq!(notes_are_linearizable(&never), Ok(0), "an unknown POST never comes");
        assert!(what_has_no_effect_has_none(&late).is_ok() && each_takes_effect_once(&never).is_ok());
    }
}
