//! Requests and replies by frames in the classic log: as if they had come by HTTP.

use crate::clock::Moment;
use crate::note::NoteId;
use crate::observe::classic::Log;
use crate::protocol::port::{Call, Said};
use crate::protocol::request::{Answer, Operation, Outcome, Request};
use crate::rest::{DONE, put_outcome};

/// A request as the log names it.
#[derive(Debug)]
pub(super) struct Logged {
    method: &'static str,
    path: String,
    /// The note that it names.
    note: Option<NoteId>,
}

impl Logged {
    /// Logs a request; none where nobody reads the log, or HTTP has no such request.
    pub(super) fn request(log: &Log, call: &Call) -> Option<Logged> {
        if !log.enabled() {
            return None;
        }
        let (path, body) = as_http(call)?;
        let (method, note) = (method(call), note_of(call));
        log.client_request(note, method, &path, body.as_bytes());
        Some(Logged { method, path, note })
    }

    /// Logs what it came to.
    pub(super) fn reply(&self, log: &Log, said: &Said, arrived: Moment, now: Moment) {
        let mut body = Vec::new();
        match said {
            Said::Answer(Answer { outcome, .. }) => put_outcome(&mut body, outcome, self.method == "POST"),
            Said::Status(_) | Said::Pong(_) => body.extend_from_slice(DONE.as_bytes()),
        }
        let made = match said {
            Said::Answer(Answer { outcome: Outcome::Done(done), .. }) => Some(done.id),
            _ => None,
        };
        log.client_reply(made.or(self.note), self.method, &self.path, &body, now.nanos_since(arrived));
    }
}

/// The note that a call names; a POST names none.
fn note_of(call: &Call) -> Option<NoteId> {
    match call {
        Call::Note(Request::Get(id)) => Some(*id),
        Call::Note(Request::Write(write)) => Some(write.operation.item()).filter(|item| !item.is_sequence()),
        _ => None,
    }
}

/// The HTTP method that a call amounts to.
pub(super) fn method(call: &Call) -> &'static str {
    match call {
        Call::Ping => "PING",
        Call::Status | Call::Note(Request::Get(_) | Request::List(_)) => "GET",
        Call::Note(Request::Write(write)) => match write.operation {
            Operation::Post { .. } => "POST",
            Operation::Put { .. } => "PUT",
            Operation::Patch { .. } => "PATCH",
            Operation::Delete { .. } => "DELETE",
        },
    }
}

/// The path and the body of the HTTP request that a call amounts to.
fn as_http(call: &Call) -> Option<(String, String)> {
    let note = |id| format!("/note/{id}");
    Some(match call {
        Call::Ping => return None,
        Call::Status => ("/status".to_owned(), String::new()),
        Call::Note(Request::Get(id)) => (note(id), String::new()),
        Call::Note(Request::List(_)) => ("/note".to_owned(), String::new()),
        Call::Note(Request::Write(write)) => match &write.operation {
            Operation::Post { note } => ("/note".to_owned(), note.as_str().to_owned()),
            Operation::Put { id, note: new } => (note(id), new.as_str().to_owned()),
            Operation::Patch { id, patch } => (note(id), patch.to_json()),
            Operation::Delete { id } => (note(id), String::new()),
        },
    })
}
