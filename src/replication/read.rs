//! Reads, at any in-sync replica (R1, R2).

use super::event::Token;
use super::replica::Replica;
use super::wait::{Due, Reader};
use crate::clock::Moment;
use crate::note::NoteId;
use crate::protocol::record::Value;
use crate::protocol::request::{Failure, Outcome, Page, Request};

/// Larger than every id.
const LAST: NoteId = NoteId(u64::MAX);

impl Replica {
    /// Takes a read: at the end of the turn it is answered, or it waits for what is pending now.
    pub(super) fn read(&mut self, token: Token, request: Request, arrived: Moment) {
        let fresh = Reader::Fresh { token, arrived };
        match request {
            Request::Get(id) => match self.undecided(id) {
                None => self.waits.due(Due::Note { reader: fresh, id }),
                Some(version) => {
                    let reader = self.note_down(token, request, arrived);
                    self.waits.until_committed([(id, version)], Due::Note { reader, id });
                }
            },
            Request::List(page) => self.read_page(fresh, page),
            Request::Write(_) => unreachable!("writes do not come here: on_request tells them apart"),
        }
    }

    fn note_down(&mut self, token: Token, request: Request, arrived: Moment) -> Reader {
        Reader::Open(self.clients.open_read(token, request, arrived, self.identity.read_wait_ms))
    }

    /// The version that a read of the item has to wait for. The item's primary decides alone what is committed, so it
    /// waits for nothing.
    fn undecided(&self, id: NoteId) -> Option<crate::protocol::ids::Version> {
        let version = self.items.pending_version(id)?;
        (self.primary_of(id) != Some(self.me()) || self.moves.is_asking(id)).then_some(version)
    }

    /// Takes a page of the list: it waits for every note in its range that is pending now. The range ends with the last
    /// note that fits now, since what lies behind it has not been waited for.
    fn read_page(&mut self, reader: Reader, page: Page) {
        let upto = self.items.notes_after(page.after).nth(page.limit.saturating_sub(1)).map_or(LAST, |(id, _)| id);
        let pending: Vec<_> = self
            .items
            .pending_after(page.after)
            .take_while(|(id, _)| *id <= upto)
            .filter_map(|(id, _)| Some((id, self.undecided(id)?)))
            .collect();
        if pending.is_empty() {
            return self.waits.due(Due::Page { reader, page, upto });
        }
        let reader = match reader {
            Reader::Fresh { token, arrived } => self.note_down(token, Request::List(page), arrived),
            open @ Reader::Open(_) => open,
        };
        self.waits.until_committed(pending, Due::Page { reader, page, upto });
    }

    /// Answers a read of one note with its last committed record.
    pub(super) fn answer_note(&mut self, reader: Reader, id: NoteId) {
        let Some((token, arrived)) = self.close(reader) else { return };
        let outcome = match self.items.committed(id) {
            Some(record) => match &record.value {
                Value::Note(note) => Outcome::Note { id, note: note.clone(), written: record.written },
                Value::Deleted | Value::Next(_) => Outcome::Failed(Failure::not_found(id)),
            },
            None => Outcome::Failed(Failure::not_found(id)),
        };
        self.answer_read(token, arrived, outcome);
    }

    /// Answers a page of the list. Where all of its notes have gone meanwhile and more follow, the next page serves.
    pub(super) fn answer_page(&mut self, reader: Reader, page: Page, upto: NoteId) {
        let (mut bytes, mut notes) = (0, Vec::new());
        let mut more = false;
        for (id, note) in self.items.notes_after(page.after) {
            bytes += note.as_str().len();
            let full = notes.len() >= page.limit || (bytes > page.bytes_max && !notes.is_empty());
            more = id > upto || full;
            if more {
                break;
            }
            notes.push((id, note.clone()));
        }
        // What is pending behind may be a new note: only the next page can tell.
        let more = more || (upto != LAST && self.items.pending_after(upto).next().is_some());
        if more && notes.is_empty() {
            return self.read_page(reader, Page { after: upto, ..page });
        }
        let Some((token, arrived)) = self.close(reader) else { return };
        self.answer_read(token, arrived, Outcome::Notes { notes, more });
    }

    /// Who is to be answered; none where the read's time ran out.
    fn close(&mut self, reader: Reader) -> Option<(Token, Moment)> {
        match reader {
            Reader::Fresh { token, arrived } => Some((token, arrived)),
            Reader::Open(number) => self.clients.reads.remove(&number).map(|read| (read.token, read.arrived)),
        }
    }
}
