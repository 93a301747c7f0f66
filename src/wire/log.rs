//! Requests and replies by frames in the classic log: as if they had come by HTTP.

use crate::clock::Moment;
use crate::observe::classic;
use crate::protocol::port::{Call, Said};
use crate::protocol::request::{Answer, Operation, Request};
use crate::rest::{DONE, put_outcome};

/// A request as the log names it.
#[derive(Debug)]
pub(super) struct Logged {
    method: &'static str,
    path: String,
}

impl Logged {
    /// Logs a request; none where nobody reads the log, or HTTP has no such request.
    pub(super) fn request(call: &Call) -> Option<Logged> {
        if !classic::enabled() {
            return None;
        }
        let (method, path, body) = as_http(call)?;
        classic::client_request(method, &path, body.as_bytes());
        Some(Logged { method, path })
    }

    /// Logs what it came to.
    pub(super) fn reply(&self, said: &Said, arrived: Moment, now: Moment) {
        let mut body = Vec::new();
        match said {
            Said::Answer(Answer { outcome, .. }) => put_outcome(&mut body, outcome, self.method == "POST"),
            Said::Status(_) | Said::Pong(_) => body.extend_from_slice(DONE.as_bytes()),
        }
        classic::client_reply(self.method, &self.path, &body, now.nanos_since(arrived));
    }
}

fn as_http(call: &Call) -> Option<(&'static str, String, String)> {
    let note = |id| format!("/note/{id}");
    Some(match call {
        Call::Ping => return None,
        Call::Status => ("GET", "/status".to_owned(), String::new()),
        Call::Note(Request::Get(id)) => ("GET", note(id), String::new()),
        Call::Note(Request::List(_)) => ("GET", "/note".to_owned(), String::new()),
        Call::Note(Request::Write(write)) => match &write.operation {
            Operation::Post { note } => ("POST", "/note".to_owned(), note.as_str().to_owned()),
            Operation::Put { id, note: new } => ("PUT", note(id), new.as_str().to_owned()),
            Operation::Patch { id, patch } => ("PATCH", note(id), patch.to_json()),
            Operation::Delete { id } => ("DELETE", note(id), String::new()),
        },
    })
}
