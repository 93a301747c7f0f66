//! Answers that wait: for a version to be committed, and then for the end of the turn and a lease.
//!
//! A read waits for the version that was newest as it arrived (R1); a failure for the record that it failed on (W2); a
//! hit in the table of keys for the record that the key was used for (K2).

use std::collections::BTreeMap;

use super::event::Token;
use super::replica::{Replica, Standing};
use super::write::Origin;
use crate::clock::Moment;
use crate::note::NoteId;
use crate::protocol::ids::Version;
use crate::protocol::message::Forwarded;
use crate::protocol::request::{Done, Failure, Outcome, Page, Phases, Request};

/// Something that can be answered once a lease covers it.
#[derive(Debug)]
pub(super) enum Due {
    /// A read of one note.
    Note { reader: Reader, id: NoteId },
    /// A read of a page of the list, of ids up to `upto`.
    Page { reader: Reader, page: Page, upto: NoteId },
    /// A write that failed its check.
    Failed { origin: Origin, failure: Failure },
    /// A write that took effect earlier under the same key.
    Hit { origin: Origin, done: Done },
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A request that has not waited yet: it is in no list of open ones.
    Fresh { token: Token, arrived: Moment },
    /// An open read, by its number.
    Open(u64),
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Waits {
    last: u64,
    by_item: BTreeMap<NoteId, Vec<(Version, u64)>>,
    waiting: BTreeMap<u64, Waiting>,
    due: Vec<Due>,
    without_lease: Vec<Due>,
}

#[derive(Debug)]
struct Waiting {
    missing: usize,
    due: Due,
}

impl Waits {
    /// At the end of this turn, given a lease.
    pub(super) fn due(&mut self, due: Due) {
        self.due.push(due);
    }

    /// Once each of these items is committed up to its version.
    pub(super) fn until_committed(&mut self, items: impl IntoIterator<Item = (NoteId, Version)>, due: Due) {
        self.last += 1;
        let mut missing = 0;
        for (id, version) in items {
            self.by_item.entry(id).or_default().push((version, self.last));
            missing += 1;
        }
        match missing {
            0 => self.due.push(due),
            _ => drop(self.waiting.insert(self.last, Waiting { missing, due })),
        }
    }

    /// The item is committed up to this version.
    pub(super) fn on_committed(&mut self, id: NoteId, version: Version) {
        let Some(waiting) = self.by_item.get_mut(&id) else { return };
        let mut met = Vec::new();
        waiting.retain(|(wanted, number)| {
            let still = *wanted > version;
            if !still {
                met.push(*number);
            }
            still
        });
        if waiting.is_empty() {
            self.by_item.remove(&id);
        }
        met.into_iter().for_each(|number| self.met(number));
    }

    fn met(&mut self, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        waiting.missing -= 1;
        if waiting.missing == 0
            && let Some(Waiting { due, .. }) = self.waiting.remove(&number)
        {
            self.due.push(due);
        }
    }

    /// There is a new lease: what waited for one is due again.
    pub(super) fn retry_without_lease(&mut self) {
        self.due.append(&mut self.without_lease);
    }

    /// The epoch is over: versions waited for may never be committed. Open requests start anew after `ready`; only a read
    /// that nobody has noted down yet is kept.
    pub(super) fn forget(&mut self) {
        self.by_item.clear();
        self.waiting.clear();
        self.without_lease.clear();
        self.due.retain(|due| due.is_fresh());
    }
}

impl Due {
    fn is_fresh(&self) -> bool {
        matches!(self, Due::Note { reader: Reader::Fresh { .. }, .. } | Due::Page { reader: Reader::Fresh { .. }, .. })
    }

    /// The same, its reader now among the open reads.
    fn with_reader(self, reader: Reader) -> Due {
        match self {
            Due::Note { id, .. } => Due::Note { reader, id },
            Due::Page { page, upto, .. } => Due::Page { reader, page, upto },
            other => other,
        }
    }
}

impl Replica {
    /// Answers what is due, if a lease covers it (R2); else it waits for one.
    pub(super) fn answer_due(&mut self) {
        let serves = self.serves(self.now.moment);
        // A page whose notes have all gone makes the page after it due, so what comes up on the way is answered, too: later
        // there may be no turn.
        while !self.waits.due.is_empty() {
            for due in std::mem::take(&mut self.waits.due) {
                match serves {
                    true => self.answer(due),
                    false => self.postpone(due),
                }
            }
        }
    }

    fn answer(&mut self, due: Due) {
        match due {
            Due::Note { reader, id } => self.answer_note(reader, id),
            Due::Page { reader, page, upto } => self.answer_page(reader, page, upto),
            Due::Failed { origin, failure } => self.answer_write(origin, Err(failure), Phases::default()),
            Due::Hit { origin, done } => self.answer_write(origin, Ok(done), Phases::default()),
        }
    }

    fn postpone(&mut self, due: Due) {
        let due = match (due.fresh_request(), due) {
            (Some((token, request, arrived)), due) => {
                let number = self.clients.open_read(token, request, arrived, self.identity.read_wait_ms);
                due.with_reader(Reader::Open(number))
            }
            (None, due) => due,
        };
        // Before `ready` nothing is kept here: open requests all start anew then.
        if self.standing == Standing::Ready {
            self.waits.without_lease.push(due);
        }
    }

    /// Tells who asked for a write what came of it.
    pub(super) fn answer_write(&mut self, origin: Origin, result: Result<Done, Failure>, phases: Phases) {
        match origin {
            Origin::Client(number) => {
                let outcome = result.map_or_else(Outcome::Failed, Outcome::Done);
                self.finish_write(number, outcome, phases);
            }
            Origin::Peer { from, number, received } => {
                let spent = phases.replicate;
                let queue = self.now.moment.nanos_since(received).saturating_sub(spent);
                let phases = Phases { queue, ..phases };
                let (done, failed) = match result {
                    Ok(done) => (Some(done), None),
                    Err(failure) => (None, Some(failure)),
                };
                self.send(from, Forwarded { number, done, failed, phases });
            }
        }
    }
}

impl Due {
    fn fresh_request(&self) -> Option<(Token, Request, Moment)> {
        match *self {
            Due::Note { reader: Reader::Fresh { token, arrived }, id } => Some((token, Request::Get(id), arrived)),
            Due::Page { reader: Reader::Fresh { token, arrived }, page, .. } => {
                Some((token, Request::List(page), arrived))
            }
            _ => None,
        }
    }
}
