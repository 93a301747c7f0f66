//! What the replica said, or why it was not asked, to an answer: status, fields and the bytes of its body.

use super::head::Method;
use super::refusal::Refusal;
use super::response::{Response, reason};
use super::routes::{Plan, Resource};
use crate::note::{Note, NoteId};
use crate::protocol::port::Said;
use crate::protocol::request::{Code, Done, Failure, Outcome};
use crate::protocol::status::Status;

/// The description of this interface, in OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// Where an answer comes from.
#[derive(Debug)]
pub(crate) enum Reply {
    Said(Said),
    Refused(Refusal),
    Failed(Failure),
    /// OPTIONS, or the description.
    Fixed,
}

/// The answer to a request, its body appended to `body`. A list is written whole: what streams it takes the notes first.
pub(crate) fn answer(plan: Option<&Plan>, reply: Reply, problem: bool, body: &mut Vec<u8>) -> Response {
    match reply {
        Reply::Refused(refusal) => {
            let (status, code) = refusal.verdict();
            let allow = refusal.allow();
            Response { allow, ..error(status, code, &refusal.to_string(), problem, body) }
        }
        Reply::Failed(failure) => failed(&failure, problem, body),
        Reply::Fixed => fixed(plan, body),
        Reply::Said(Said::Pong(_)) => done(body),
        Reply::Said(Said::Status(status)) => match plan.map(|plan| plan.resource) {
            Some(Resource::Ready) => readiness(&status, problem, body),
            _ => whole_status(&status, body),
        },
        Reply::Said(Said::Answer(answer)) => match answer.outcome {
            Outcome::Failed(failure) => failed(&failure, problem, body),
            Outcome::Done(done) => written(plan, done, body),
            Outcome::Note { id, note, written } => {
                if plan.and_then(|plan| plan.if_none_match.as_ref()).is_some_and(|tags| tags.contain(written)) {
                    return Response { etag: Some(written), ..Response::new(304) };
                }
                body.extend_from_slice(b"{\"res\":200,\"note\":");
                note.write_with_id(id, body);
                body.extend_from_slice(b"}\n");
                Response { etag: Some(written), ..Response::new(200) }
            }
            Outcome::Notes { notes, more } => {
                begin_list(body);
                write_notes(body, &notes, true);
                end_list(body);
                Response { next: next_page(plan, &notes, more), ..Response::new(200) }
            }
        },
    }
}

/// The bytes before a list's first note.
pub(crate) fn begin_list(body: &mut Vec<u8>) {
    body.extend_from_slice(b"{\"res\":200,\"data\":[");
}

/// Notes of a list, with commas between them, and before them unless they are the `first`.
pub(crate) fn write_notes(body: &mut Vec<u8>, notes: &[(NoteId, Note)], mut first: bool) {
    for (id, note) in notes {
        if !std::mem::take(&mut first) {
            body.push(b',');
        }
        note.write_with_id(*id, body);
    }
}

/// The bytes behind a list's last note.
pub(crate) fn end_list(body: &mut Vec<u8>) {
    body.extend_from_slice(b"]}\n");
}

fn next_page(plan: Option<&Plan>, notes: &[(NoteId, Note)], more: bool) -> Option<(usize, NoteId)> {
    match plan?.resource {
        Resource::Notes(Some(page)) if more => notes.last().map(|(last, _)| (page.limit, *last)),
        _ => None,
    }
}

fn done(body: &mut Vec<u8>) -> Response {
    body.extend_from_slice(b"{\"res\":200}\n");
    Response::new(200)
}

fn written(plan: Option<&Plan>, written: Done, body: &mut Vec<u8>) -> Response {
    match plan.map(|plan| plan.method) {
        Some(Method::Post) => {
            super::response::number_line(body, b"{\"res\":200,\"id\":", written.id.0, b"}\n");
            Response { etag: Some(written.version), location: Some(written.id), ..Response::new(201) }
        }
        // What is gone has no ETag.
        Some(Method::Delete) => done(body),
        _ => Response { etag: Some(written.version), ..done(body) },
    }
}

fn fixed(plan: Option<&Plan>, body: &mut Vec<u8>) -> Response {
    match plan {
        Some(Plan { method: Method::Get | Method::Head, .. }) => {
            body.extend_from_slice(OPENAPI.as_bytes());
            Response::new(200)
        }
        _ => Response::options(plan.map(|plan| plan.resource)),
    }
}

fn whole_status(status: &Status, body: &mut Vec<u8>) -> Response {
    serde_json::to_writer(&mut *body, status).expect("a status has string keys, so writing it to memory succeeds");
    body.push(b'\n');
    Response::new(200)
}

fn readiness(status: &Status, problem: bool, body: &mut Vec<u8>) -> Response {
    let why = match status {
        Status { ready: true, .. } => return done(body),
        Status { view: None, .. } => "it knows no view yet; wait until enough replicas are up",
        Status { in_sync: false, .. } => "it is not in sync with the others; wait until it has joined",
        Status { lease_ms: Some(0), .. } => "its lease has run out; wait until it reaches the controller again",
        _ => "it is recovering; wait a moment",
    };
    error(503, Code::Unavailable, &format!("this replica is not ready: {why}"), problem, body)
}

fn failed(failure: &Failure, problem: bool, body: &mut Vec<u8>) -> Response {
    error(failure.code.status(), failure.code, &failure.msg, problem, body)
}

/// `{"res":404,"code":"not_found","msg":"…"}`, as problem details with the members of RFC 9457 section 3.1 before it.
fn error(status: u16, code: Code, msg: &str, problem: bool, body: &mut Vec<u8>) -> Response {
    let text = serde_json::to_string(msg).expect("a string is always JSON");
    let number = itoa::Buffer::new().format(status).to_owned();
    let pieces: &[&str] = match problem {
        true => &[
            "{\"type\":\"about:blank\",\"title\":\"",
            reason(status),
            "\",\"status\":",
            &number,
            ",\"detail\":",
            &text,
            ",",
        ],
        false => &["{"],
    };
    let common = ["\"res\":", &number, ",\"code\":\"", code.word(), "\",\"msg\":", &text, "}\n"];
    for piece in pieces.iter().chain(&common) {
        body.extend_from_slice(piece.as_bytes());
    }
    Response { problem, ..Response::new(status) }
}
