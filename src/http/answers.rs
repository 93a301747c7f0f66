//! What the replica said, or why it was not asked, to an answer: status, fields and the bytes of its body.

use super::head::Method;
use super::refusal::Refusal;
use super::response::{Response, number_line, reason};
use super::routes::{Plan, Resource};
use crate::note::{Note, NoteId};
use crate::protocol::port::Said;
use crate::protocol::request::{Code, Done, Outcome};
use crate::protocol::status::Status;

/// The description of this interface, in OpenAPI 3.1.
const OPENAPI: &str = include_str!("../../openapi.json");

/// Where an answer comes from.
#[derive(Debug)]
pub(crate) enum Reply {
    Said(Said),
    Refused(Refusal),
    /// OPTIONS, or the description.
    Fixed,
}

/// The answer to a request, its body appended to `body`. A list is written whole: what streams is not for this.
pub(crate) fn answer(plan: &Plan, reply: Reply, body: &mut Vec<u8>) -> Response {
    match reply {
        Reply::Refused(refusal) => error(plan, &refusal, body),
        Reply::Fixed if plan.method == Method::Options => {
            Response { allow: Some(plan.resource.allow()), ..Response::new(204) }
        }
        Reply::Fixed => {
            body.extend_from_slice(OPENAPI.as_bytes());
            Response::new(200)
        }
        Reply::Said(Said::Pong(_)) => done(body),
        Reply::Said(Said::Status(status)) if plan.resource == Resource::Ready => readiness(plan, &status, body),
        Reply::Said(Said::Status(status)) => {
            serde_json::to_writer(&mut *body, &*status).expect("a status has string keys, and memory takes all writes");
            body.push(b'\n');
            Response::new(200)
        }
        Reply::Said(Said::Answer(answer)) => outcome(plan, answer.outcome, body),
    }
}

fn outcome(plan: &Plan, outcome: Outcome, body: &mut Vec<u8>) -> Response {
    match outcome {
        Outcome::Failed(failure) => error(plan, &failure.into(), body),
        Outcome::Done(done) => written(plan, done, body),
        Outcome::Note { written, .. } if plan.if_none_match.as_ref().is_some_and(|tags| tags.contain(written)) => {
            Response { etag: Some(written), ..Response::new(304) }
        }
        Outcome::Note { id, note, written } => {
            body.extend_from_slice(b"{\"res\":200,\"note\":");
            note.write_with_id(id, body);
            body.extend_from_slice(b"}\n");
            Response { etag: Some(written), ..Response::new(200) }
        }
        Outcome::Notes { notes, more } => {
            write_notes(body, &notes, true, true);
            let next = match plan.resource {
                Resource::Notes(Some(page)) if more => notes.last().map(|(last, _)| (page.limit, *last)),
                _ => None,
            };
            Response { next, ..Response::new(200) }
        }
    }
}

/// A list, or a piece of it: its `first` begins it, its `last` ends it.
pub(crate) fn write_notes(body: &mut Vec<u8>, notes: &[(NoteId, Note)], first: bool, last: bool) {
    if first {
        body.extend_from_slice(b"{\"res\":200,\"data\":[");
    }
    for (place, (id, note)) in notes.iter().enumerate() {
        if place > 0 || !first {
            body.push(b',');
        }
        note.write_with_id(*id, body);
    }
    if last {
        body.extend_from_slice(b"]}\n");
    }
}

fn done(body: &mut Vec<u8>) -> Response {
    body.extend_from_slice(b"{\"res\":200}\n");
    Response::new(200)
}

fn written(plan: &Plan, written: Done, body: &mut Vec<u8>) -> Response {
    match plan.method {
        Method::Post => {
            number_line(body, b"{\"res\":200,\"id\":", written.id.0, b"}\n");
            Response { etag: Some(written.version), location: Some(written.id), ..Response::new(201) }
        }
        // What is gone has no ETag.
        Method::Delete => done(body),
        _ => Response { etag: Some(written.version), ..done(body) },
    }
}

fn readiness(plan: &Plan, status: &Status, body: &mut Vec<u8>) -> Response {
    let why = match status {
        Status { ready: true, .. } => return done(body),
        Status { view: None, .. } => "it knows no view yet; wait until enough replicas are up",
        Status { in_sync: false, .. } => "it is not in sync with the others; wait until it has joined",
        Status { lease_ms: Some(0), .. } => "its lease has run out; wait until it reaches the controller again",
        _ => "it is recovering; wait a moment",
    };
    error(plan, &Refusal::new(503, Code::Unavailable, format!("this replica is not ready: {why}")), body)
}

/// `{"res":404,"code":"not_found","msg":"…"}`; as problem details, with the members of RFC 9457 section 3.1 before it.
fn error(plan: &Plan, refusal: &Refusal, body: &mut Vec<u8>) -> Response {
    let Refusal { status, code, msg, .. } = refusal;
    let msg = serde_json::to_string(msg).expect("a string is always JSON");
    let mut text = format!("\"res\":{status},\"code\":\"{code}\",\"msg\":{msg}}}\n");
    if plan.problem {
        let title = reason(*status);
        text = format!("\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":{msg},{text}");
    }
    body.push(b'{');
    body.extend_from_slice(text.as_bytes());
    Response { allow: refusal.allow, problem: plan.problem, ..Response::new(refusal.status) }
}
