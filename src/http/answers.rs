//! What the replica said, or why it was not asked, to an answer: status, fields and the bytes of its body.

use super::head::Method;
use super::refusal::Refusal;
use super::response::{put, put_number, reason};
use super::routes::{Plan, Resource};
use crate::note::{Note, NoteId};
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::Said;
use crate::protocol::request::{Code, Outcome, Phases};

/// The description of this interface, in OpenAPI 3.1.
const OPENAPI: &str = include_str!("../../openapi.json");

const DONE: &str = "{\"res\":200}\n";

/// What the replica said; none where the answer is fixed: the methods that a path allows, or the description.
pub(crate) type Reply = Result<Option<Said>, Refusal>;

/// An answer that is being made. Its buffers serve one answer after another.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) status: u16,
    /// Whole lines: the fields that tell of this answer and its body.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// What the replica tells of its work.
    pub(crate) phases: Phases,
    pub(crate) primary: Option<ReplicaId>,
}

impl Draft {
    /// Begins the answer that `reply` calls for.
    pub(crate) fn begin(&mut self, reply: &Reply) {
        self.fields.clear();
        self.body.clear();
        self.status = 200;
        (self.phases, self.primary) = match reply {
            Ok(Some(Said::Answer(answer))) => (answer.phases, answer.primary),
            Ok(Some(Said::Pong(pong))) => (Phases::default(), pong.primary),
            _ => (Phases::default(), None),
        };
    }

    /// The whole answer to a request.
    pub(crate) fn answer(&mut self, plan: &Plan, reply: Reply) {
        if let Err(refusal) = self.take(plan, reply) {
            self.refuse(plan, &refusal);
        }
        match self.status {
            204 | 405 => put(&mut self.fields, &["Allow: ", plan.resource.allow(), "\r\n"]),
            // About as long as a change of view takes, in seconds.
            503 => put(&mut self.fields, &["Retry-After: 1\r\n"]),
            _ => {}
        }
        // RFC 9110 sections 15.3.5 and 15.4.5: these have no body.
        if !matches!(self.status, 204 | 304) {
            let problem = if plan.problem && self.status >= 400 { "problem+" } else { "" };
            put(&mut self.fields, &["Content-Type: application/", problem, "json\r\n"]);
            put_number(&mut self.fields, "Content-Length: ", self.body.len() as u64, "\r\n");
        }
    }

    fn take(&mut self, plan: &Plan, reply: Reply) -> Result<(), Refusal> {
        match reply? {
            None if plan.method == Method::Options => self.status = 204,
            None => put(&mut self.body, &[OPENAPI]),
            Some(Said::Pong(_)) => put(&mut self.body, &[DONE]),
            Some(Said::Status(status)) if plan.resource == Resource::Ready => match status.unready() {
                Some(why) => {
                    let why = format!("this replica is not ready: {why}");
                    return Err(Refusal::new(503, Code::Unavailable, why));
                }
                None => put(&mut self.body, &[DONE]),
            },
            Some(Said::Status(status)) => {
                let json =
                    serde_json::to_string(&status).expect("a status has string keys, and memory takes all writes");
                put(&mut self.body, &[&json, "\n"]);
            }
            Some(Said::Answer(answer)) => self.take_outcome(plan, answer.outcome)?,
        }
        Ok(())
    }

    fn take_outcome(&mut self, plan: &Plan, outcome: Outcome) -> Result<(), Refusal> {
        let etag = match outcome {
            Outcome::Failed(failure) => return Err(failure.into()),
            Outcome::Note { id, note, written } => {
                if plan.if_none_match.as_ref().is_some_and(|tags| tags.contain(written)) {
                    self.status = 304;
                } else {
                    put(&mut self.body, &["{\"res\":200,\"note\":"]);
                    note.write_with_id(id, &mut self.body);
                    put(&mut self.body, &["}\n"]);
                }
                Some(written)
            }
            Outcome::Notes { notes, more } => {
                if let (Resource::Notes(Some(page)), true, Some((last, _))) = (plan.resource, more, notes.last()) {
                    put_number(&mut self.fields, "Link: </note?limit=", page.limit as u64, "");
                    put_number(&mut self.fields, "&after=", last.0, ">; rel=\"next\"\r\n");
                }
                self.put_notes(&notes, true, true);
                None
            }
            Outcome::Done(done) if plan.method == Method::Post => {
                self.status = 201;
                put_number(&mut self.fields, "Location: /note/", done.id.0, "\r\n");
                put_number(&mut self.body, "{\"res\":200,\"id\":", done.id.0, "}\n");
                Some(done.version)
            }
            Outcome::Done(done) => {
                put(&mut self.body, &[DONE]);
                // What is gone has no ETag.
                (plan.method != Method::Delete).then_some(done.version)
            }
        };
        if let Some(version) = etag {
            put_number(&mut self.fields, "ETag: \"", version.epoch.0, "-");
            put_number(&mut self.fields, "", version.counter, "\"\r\n");
        }
        Ok(())
    }

    /// A list, or a piece of it: its `first` begins it, its `last` ends it.
    pub(crate) fn put_notes(&mut self, notes: &[(NoteId, Note)], first: bool, last: bool) {
        let mut before = if first { "{\"res\":200,\"data\":[" } else { "," };
        for (id, note) in notes {
            put(&mut self.body, &[before]);
            note.write_with_id(*id, &mut self.body);
            before = ",";
        }
        put(&mut self.body, &[if notes.is_empty() && first { before } else { "" }, if last { "]}\n" } else { "" }]);
    }

    /// `{"res":404,"code":"not_found","msg":"…"}`; as problem details, with the members of RFC 9457 section 3.1 before.
    fn refuse(&mut self, plan: &Plan, Refusal { status, code, msg }: &Refusal) {
        self.status = *status;
        let msg = serde_json::to_string(msg).expect("a string is always JSON");
        let problem = match plan.problem {
            true => format!(
                "\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{status},\"detail\":{msg},",
                reason(*status)
            ),
            false => String::new(),
        };
        put(&mut self.body, &[&format!("{{{problem}\"res\":{status},\"code\":\"{code}\",\"msg\":{msg}}}\n")]);
    }
}
