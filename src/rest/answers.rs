//! What the replica said, or why it was not asked, to an answer: status, fields and the bytes of its body.

use super::refusal::Refusal;
use super::request::Method;
use super::routes::{Plan, Resource};
use crate::note::{Note, NoteId};
use crate::observe::metrics::{self, Metrics};
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::Said;
use crate::protocol::request::{Code, Failure, Outcome, Phases};

/// The description of this interface, in OpenAPI 3.1.
const OPENAPI: &str = include_str!("../../openapi.json");

/// The body of what was done, where there is no more to tell.
pub(crate) const DONE: &str = "{\"res\":200}";

/// What the replica said; none where the answer is fixed: the methods that a path allows, or the description.
pub(crate) type Reply = Result<Option<Said>, Refusal>;

/// An answer that is being made. Its buffers serve one answer after another.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) status: u16,
    /// Whole lines: the fields that tell of this answer and its body.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// What the replica tells of its work; none where it had none with the request.
    pub(crate) phases: Option<Phases>,
    pub(crate) primary: Option<ReplicaId>,
    /// The note that was made.
    pub(crate) note: Option<NoteId>,
}

impl Draft {
    /// Begins the answer that `reply` calls for.
    pub(crate) fn begin(&mut self, reply: &Reply) {
        self.fields.clear();
        self.body.clear();
        self.status = 200;
        self.note = None;
        (self.phases, self.primary) = match reply {
            Ok(Some(Said::Answer(answer))) => (Some(answer.phases), answer.primary),
            Ok(Some(Said::Pong(pong))) => (None, pong.primary),
            _ => (None, None),
        };
    }

    /// The whole answer to a request; `metrics` is what the replica counts.
    pub(crate) fn answer(&mut self, plan: &Plan, reply: Reply, metrics: &Metrics) {
        if let Err(refusal) = self.take(plan, reply, metrics) {
            self.refuse(plan, &refusal);
        }
        match self.status {
            // RFC 9110 section 11.6.1.
            401 => put(&mut self.fields, &["WWW-Authenticate: Bearer realm=\"primacy\"\r\n"]),
            204 | 405 => put(&mut self.fields, &["Allow: ", plan.resource.allow(), "\r\n"]),
            // About as long as a change of view takes, in seconds.
            503 => put(&mut self.fields, &["Retry-After: 1\r\n"]),
            _ => {}
        }
        // RFC 9110 sections 15.3.5 and 15.4.5: these have no body.
        if !matches!(self.status, 204 | 304) {
            put(&mut self.body, &["\n"]);
            let content_type = match self.status {
                400.. if plan.problem => "application/problem+json",
                200 if plan.resource == Resource::Metrics => metrics::CONTENT_TYPE,
                _ => "application/json",
            };
            put(&mut self.fields, &["Content-Type: ", content_type, "\r\n"]);
            put_number(&mut self.fields, "Content-Length: ", self.body.len() as u64, "\r\n");
        }
    }

    fn take(&mut self, plan: &Plan, reply: Reply, metrics: &Metrics) -> Result<(), Refusal> {
        let body = &mut self.body;
        match reply? {
            None if plan.method == Method::Options => self.status = 204,
            None => put(body, &[OPENAPI.trim_end()]),
            Some(Said::Pong(_)) => put(body, &[DONE]),
            Some(Said::Status(status)) if plan.resource == Resource::Ready => match status.unready() {
                Some(why) => {
                    let why = format!("this replica is not ready: {why}");
                    return Err(Refusal::new(503, Code::Unavailable, why));
                }
                None => put(body, &[DONE]),
            },
            // The replica has brought its figures up to date to say this.
            Some(Said::Status(_)) if plan.resource == Resource::Metrics => put(body, &[metrics.text().trim_end()]),
            Some(Said::Status(status)) => {
                serde_json::to_writer(body, &status).expect("a status has string keys, and memory takes all writes");
            }
            Some(Said::Answer(answer)) => self.take_outcome(plan, &answer.outcome)?,
        }
        Ok(())
    }

    fn take_outcome(&mut self, plan: &Plan, outcome: &Outcome) -> Result<(), Refusal> {
        let fields = &mut self.fields;
        let etag = match outcome {
            Outcome::Failed(failure) => return Err(failure.clone().into()),
            Outcome::Note { id, written, .. } => {
                // RFC 9110 section 13.2.2: If-Match goes first.
                if plan.if_match.as_ref().is_some_and(|versions| !versions.contains(written)) {
                    return Err(Failure::not_matched(*id, *written).into());
                }
                if plan.if_none_match.as_ref().is_some_and(|tags| tags.contain(*written)) {
                    self.status = 304;
                }
                Some(*written)
            }
            Outcome::Notes { notes, more } => {
                if let (Resource::Notes(Some(page)), true, Some((last, _))) = (plan.resource, more, notes.last()) {
                    put_number(fields, "Link: </note?limit=", page.limit as u64, "");
                    put_number(fields, "&after=", last.0, ">; rel=\"next\"\r\n");
                }
                None
            }
            Outcome::Done(done) if plan.method == Method::Post => {
                self.status = 201;
                self.note = Some(done.id);
                put_number(fields, "Location: /note/", done.id.0, "\r\n");
                Some(done.version)
            }
            // What is gone has no ETag.
            Outcome::Done(done) => (plan.method != Method::Delete).then_some(done.version),
        };
        if let Some(version) = etag {
            put_number(fields, "ETag: \"", version.epoch.0, "-");
            put_number(fields, "", version.counter, "\"\r\n");
        }
        if self.status != 304 {
            put_outcome(&mut self.body, outcome, plan.method == Method::Post);
        }
        Ok(())
    }

    /// As problem details, it has the members of RFC 9457 section 3.1 before its own.
    fn refuse(&mut self, plan: &Plan, Refusal { status, code, msg }: &Refusal) {
        self.status = *status;
        let mut body = error_body(*status, *code, msg);
        if plan.problem {
            let (title, detail) = (reason(*status), json_of(msg));
            let problem =
                format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":{detail},");
            body.replace_range(..1, &problem);
        }
        put(&mut self.body, &[&body]);
    }
}

/// Appends the body that tells an outcome, without its newline; `made` where it is a POST's.
pub(crate) fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome, made: bool) {
    match outcome {
        Outcome::Done(done) if made => put_number(out, "{\"res\":200,\"id\":", done.id.0, "}"),
        Outcome::Done(_) => put(out, &[DONE]),
        Outcome::Note { id, note, .. } => {
            put(out, &["{\"res\":200,\"note\":"]);
            note.write_with_id(*id, out);
            put(out, &["}"]);
        }
        Outcome::Notes { notes, .. } => put_notes(out, notes, true, true),
        Outcome::Failed(Failure { code, msg }) => put(out, &[&error_body(code.status(), *code, msg)]),
    }
}

/// Appends a list, or a piece of it: its `first` begins it, its `last` ends it.
pub(crate) fn put_notes(out: &mut Vec<u8>, notes: &[(NoteId, Note)], first: bool, last: bool) {
    let mut before = if first { "{\"res\":200,\"data\":[" } else { "," };
    for (id, note) in notes {
        put(out, &[before]);
        note.write_with_id(*id, out);
        before = ",";
    }
    put(out, &[if notes.is_empty() && first { before } else { "" }, if last { "]}" } else { "" }]);
}

/// `{"res":404,"code":"not_found","msg":"…"}`.
pub(crate) fn error_body(status: u16, code: Code, msg: &str) -> String {
    format!("{{\"res\":{status},\"code\":\"{code}\",\"msg\":{}}}", json_of(msg))
}

fn json_of(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// Appends pieces of text.
pub(crate) fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

/// Appends a number between two pieces of text.
pub(crate) fn put_number(out: &mut Vec<u8>, before: &str, number: u64, behind: &str) {
    put(out, &[before, itoa::Buffer::new().format(number), behind]);
}

/// The reason phrase of every status that is sent (RFC 9110 section 15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}
