//! Requests and replies by frames in the classic log: as if they had come by HTTP.

use crate::clock::Moment;
use crate::observe::classic;
use crate::protocol::port::{Call, Said};
use crate::protocol::request::{Answer, Operation, Outcome, Request};

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
        let body = match said {
            Said::Answer(Answer { outcome, .. }) => body_of(outcome, self.method),
            Said::Status(_) | Said::Pong(_) => r#"{"res":200}"#.to_owned(),
        };
        classic::client_reply(self.method, &self.path, body.as_bytes(), now.nanos_since(arrived));
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

fn body_of(outcome: &Outcome, method: &str) -> String {
    let mut body = Vec::new();
    match outcome {
        Outcome::Done(done) if method == "POST" => return format!(r#"{{"res":200,"id":{}}}"#, done.id),
        Outcome::Done(_) => return r#"{"res":200}"#.to_owned(),
        Outcome::Note { id, note, .. } => {
            body.extend_from_slice(br#"{"res":200,"note":"#);
            note.write_with_id(*id, &mut body);
            body.push(b'}');
        }
        Outcome::Notes { notes, .. } => {
            body.extend_from_slice(br#"{"res":200,"data":["#);
            for (place, (id, note)) in notes.iter().enumerate() {
                if place > 0 {
                    body.push(b',');
                }
                note.write_with_id(*id, &mut body);
            }
            body.extend_from_slice(b"]}");
        }
        Outcome::Failed(failure) => {
            let (res, code, msg) = (failure.code.status(), failure.code, serde_json::json!(failure.msg));
            return format!(r#"{{"res":{res},"code":"{code}","msg":{msg}}}"#);
        }
    }
    String::from_utf8(body).expect("notes are JSON, so UTF-8")
}
