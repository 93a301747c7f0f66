//! The notes that are written, and what each may hold at the end.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One note, written by one worker, one write after the other.
#[derive(Clone, Debug)]
pub(super) struct BenchNote {
    /// Its id.
    pub(super) id: u64,
    /// The replica, by place, that took the last write: the item's primary in local-write.
    pub(super) owner: usize,
    /// The content last acknowledged.
    settled: u64,
    /// Contents sent since then, without an answer that says what became of them.
    unsettled: Vec<u64>,
    /// The last content that was sent.
    sent: u64,
}

/// How a note's contents look: a number, filled up to a size.
#[derive(Clone, Debug)]
pub(super) struct Content {
    filler: String,
}

/// A note's final content is not one that it may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("note {id} at {replica}: {why}")]
pub(super) struct Wrong {
    /// The note.
    pub(super) id: u64,
    /// Where it was read.
    pub(super) replica: String,
    /// What is wrong.
    pub(super) why: String,
}

impl Content {
    /// Contents whose notes have `bytes` bytes of compact JSON, or as few as they can.
    pub(super) fn of(bytes: usize) -> Content {
        let bare = Content { filler: String::new() }.json(0).len();
        Content { filler: "x".repeat(bytes.saturating_sub(bare)) }
    }

    /// The note with this content, as a request's body.
    pub(super) fn json(&self, number: u64) -> String {
        format!(r#"{{"title":"primacy bench","body":"{number:012} {}"}}"#, self.filler)
    }

    /// The number of a content that was read; none where it was never written.
    fn number(&self, note: &ReadNote) -> Option<u64> {
        let (number, filler) = note.body.split_once(' ')?;
        let number = number.parse().ok()?;
        (filler == self.filler && note.title == "primacy bench").then_some(number)
    }
}

/// What a GET answers.
#[derive(Debug, Deserialize)]
struct ReadNote {
    title: String,
    body: String,
}

impl BenchNote {
    /// A note that was just made with content 0 at replica `owner`.
    pub(super) fn made(id: u64, owner: usize) -> BenchNote {
        BenchNote { id, owner, settled: 0, unsettled: Vec::new(), sent: 0 }
    }

    /// The next content; it is unsettled until its answer comes.
    pub(super) fn next(&mut self) -> u64 {
        self.sent += 1;
        self.unsettled.push(self.sent);
        self.sent
    }

    /// The last write was done, by replica `by`. One that is unknown stays so: it may take effect later still.
    pub(super) fn done(&mut self, by: usize) {
        self.owner = by;
        self.settled = self.sent;
        self.unsettled.retain(|number| *number != self.settled);
    }

    /// The last write is known to have had no effect.
    pub(super) fn failed(&mut self) {
        let sent = self.sent;
        self.unsettled.retain(|number| *number != sent);
    }

    /// Whether the note may hold this content.
    fn may_hold(&self, number: u64) -> bool {
        number == self.settled || self.unsettled.contains(&number)
    }

    /// Checks the answers to GETs of this note, by replica.
    pub(super) fn check(&self, content: &Content, answers: &BTreeMap<String, Vec<u8>>) -> Vec<Wrong> {
        #[derive(Deserialize)]
        struct Body {
            note: ReadNote,
        }
        let mut wrong = Vec::new();
        let mut first: Option<(&String, u64)> = None;
        for (replica, answer) in answers {
            let mut tell = |why: String| wrong.push(Wrong { id: self.id, replica: replica.clone(), why });
            let number = serde_json::from_slice(answer).ok().and_then(|body: Body| content.number(&body.note));
            match (number, first) {
                (None, _) => tell(format!("holds what was never written: {}", String::from_utf8_lossy(answer))),
                (Some(number), _) if !self.may_hold(number) => {
                    tell(format!("holds content {number}, but {} was acknowledged", self.settled));
                }
                (Some(number), Some((other, others))) if others != number => {
                    tell(format!("holds content {number}, but {others} at {other}"));
                }
                (Some(number), _) => first = first.or(Some((replica, number))),
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(content: &Content, numbers: &[u64]) -> BTreeMap<String, Vec<u8>> {
        let body = |number: &u64| format!(r#"{{"res":200,"note":{}}}"#, content.json(*number)).into_bytes();
        numbers.iter().enumerate().map(|(place, number)| (format!("r{place}"), body(number))).collect()
    }

    #[test]
    fn contents_have_their_size() {
        assert_eq!(Content::of(250).json(7).len(), 250);
        assert!(Content::of(1).json(7).len() < 80);
    }

    #[test]
    fn the_acknowledged_content_is_right_everywhere_and_no_other() {
        let content = Content::of(250);
        let mut note = BenchNote::made(1, 0);
        for _ in 0..3 {
            note.next();
            note.done(1);
        }
        assert_eq!(note.owner, 1);
        assert_eq!(note.check(&content, &answers(&content, &[3, 3, 3])), []);
        let lost = note.check(&content, &answers(&content, &[3, 2, 3]));
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].to_string(), "note 1 at r1: holds content 2, but 3 was acknowledged");
    }

    #[test]
    fn an_unknown_write_may_be_there_but_everywhere_or_nowhere() {
        let content = Content::of(250);
        let mut note = BenchNote::made(1, 0);
        note.next();
        assert_eq!(note.check(&content, &answers(&content, &[1, 1])), []);
        assert_eq!(note.check(&content, &answers(&content, &[0, 0])), []);
        let torn = note.check(&content, &answers(&content, &[0, 1]));
        assert_eq!(torn[0].why, "holds content 1, but 0 at r0");
        note.failed();
        assert_eq!(note.check(&content, &answers(&content, &[1])).len(), 1, "it had no effect, as was said");
    }

    #[test]
    fn what_was_never_written_is_wrong() {
        let content = Content::of(250);
        let note = BenchNote::made(1, 0);
        let other = BTreeMap::from([("r0".to_owned(), br#"{"res":200,"note":{"title":"a","body":"b"}}"#.to_vec())]);
        assert_eq!(note.check(&content, &other).len(), 1);
    }
}
