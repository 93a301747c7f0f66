//! One connection's requests and answers, without its socket: bytes to calls, what was said to bytes.
//!
//! Answers go out in the order of the requests. Safe requests may be open together; a write, and a list, is open alone
//! (RFC 9112 section 9.3.2), and nothing behind it is looked at until it is answered. So whatever a client sends, a
//! connection holds one body, one page, and a bounded number of small requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::Service;
use super::reader::{BUFFER_KEPT_MAX, Phase, Reader};
use super::response::{self, Date};
use crate::clock::Moment;
use crate::note::{Note, NoteId};
use crate::observe::metrics::Protocol;
use crate::protocol::port::{Call, Said, Tag};
use crate::protocol::request::{Answer, Code, Outcome, Request};
use crate::rest::{Ask, Draft, Method, Plan, Refusal, Reply, Resource};
use crate::rest::{put, put_notes, put_number, reason, stream_page};

/// Past so many bytes answers are written before more are made.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A request that is not answered yet. The replica works on it where it has neither `call` nor `reply`.
#[derive(Debug)]
struct Pending {
    plan: Plan,
    arrived: Moment,
    /// Which request of the connection it is, from 1; the tag of its calls.
    number: u64,
    /// Nothing else is open with it.
    alone: bool,
    /// What the replica was not asked yet.
    call: Option<Call>,
    reply: Option<Reply>,
    /// A list whose head is out, and part of its notes.
    streaming: bool,
}

impl Pending {
    fn is_open(&self) -> bool {
        self.call.is_none() && self.reply.is_none()
    }
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What is to be written; [`clear_out`](Exchange::clear_out) once it is.
    pub(crate) out: Vec<u8>,
    /// The client has sent everything.
    pub(crate) ended: bool,
    /// The listener stops: whole requests are answered, no new ones taken.
    pub(crate) stopping: bool,
    /// An answer broke off; the connection must end without its end.
    pub(crate) broken: bool,
    /// No more requests are read.
    last: bool,
    service: Arc<Service>,
    /// The connection's number.
    number: u64,
    reader: Reader,
    /// In the order in which they came. Only the newest may wait with its call.
    pending: VecDeque<Pending>,
    requests: u64,
    date: Date,
    draft: Draft,
}

impl Exchange {
    /// The state of a new connection.
    pub(crate) fn new(service: Arc<Service>, number: u64) -> Exchange {
        Exchange {
            out: Vec::new(),
            ended: false,
            stopping: false,
            broken: false,
            last: false,
            reader: Reader::new(service.unfinished.share()),
            service,
            number,
            pending: VecDeque::new(),
            requests: 0,
            date: Date::default(),
            draft: Draft::default(),
        }
    }

    /// Where to put what was read.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.reader.buffer()
    }

    /// Whether more bytes are of use now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.last && !self.ended && !self.is_blocked()
    }

    /// What is being waited for from the client, and behind which request.
    pub(crate) fn phase(&self) -> (Phase, u64) {
        (self.reader.phase(), self.requests)
    }

    /// Whether the replica has calls to answer.
    pub(crate) fn is_open(&self) -> bool {
        self.pending.iter().any(Pending::is_open)
    }

    /// Whether all is said and the connection can be closed.
    pub(crate) fn is_finished(&self) -> bool {
        self.broken || (self.last && self.pending.is_empty())
    }

    /// After the output was written.
    pub(crate) fn clear_out(&mut self) {
        self.out.clear();
        self.out.shrink_to(BUFFER_KEPT_MAX);
    }

    /// Whether requests must wait for answers.
    fn is_blocked(&self) -> bool {
        let limit = self.service.config.limits.pipeline.max(1);
        self.pending.len() >= limit || self.pending.back().is_some_and(|request| request.alone)
    }

    /// Reads the requests that are complete; gives the calls that are due.
    pub(crate) fn take_calls(&mut self, now: Moment) -> Vec<(Tag, Call)> {
        let mut calls = Vec::new();
        self.release(now, &mut calls);
        while !self.last && !self.is_blocked() {
            let Service { config, hosts, log, .. } = &*self.service;
            match self.reader.next(&config.limits, hosts, log) {
                Ok(Some((plan, ask))) => self.begin(plan, ask, now),
                Err(refusal) => self.refuse(refusal, now),
                Ok(None) => {
                    let idle = self.reader.phase() == Phase::Idle;
                    if self.ended && !idle {
                        self.refuse(Refusal::bad("the connection was closed in the middle of a request"), now);
                    }
                    self.last |= self.ended || (self.stopping && idle);
                    break;
                }
            }
            self.release(now, &mut calls);
        }
        calls
    }

    fn begin(&mut self, plan: Plan, ask: Ask, arrived: Moment) {
        self.requests += 1;
        self.last |= !plan.keep_alive;
        let (call, reply) = match ask {
            Ok(Some(call)) => (Some(call), None),
            Ok(None) => (None, Some(Ok(None))),
            Err(refusal) => (None, Some(Err(refusal))),
        };
        let alone = matches!(call, Some(Call::Note(Request::Write(_) | Request::List(_))));
        self.pending.push_back(Pending { plan, arrived, number: self.requests, alone, call, reply, streaming: false });
    }

    /// Gives the newest request's call, unless it must wait until nothing else is open.
    fn release(&mut self, now: Moment, calls: &mut Vec<(Tag, Call)>) {
        let waits = |newest: &Pending| newest.alone && self.is_open();
        if self.pending.back().is_some_and(|newest| newest.call.is_some() && !waits(newest))
            && let Some(newest) = self.pending.back_mut()
            && let Some(call) = newest.call.take()
        {
            newest.arrived = now;
            calls.push((newest.number, call));
        }
    }

    /// Answers what could not be read, after what came before it, and reads no further.
    pub(crate) fn refuse(&mut self, refusal: Refusal, now: Moment) {
        self.begin(Plan::default(), Err(refusal), now);
    }

    /// Takes what the replica said.
    pub(crate) fn take_answers(&mut self, answers: Vec<(Tag, Said)>) {
        for (tag, said) in answers {
            let place = self.pending.front().and_then(|first| usize::try_from(tag.checked_sub(first.number)?).ok());
            // A call that was given up has its reply already.
            if let Some(request) = place.and_then(|place| self.pending.get_mut(place)).filter(|it| it.is_open()) {
                request.reply = Some(Ok(Some(said)));
            }
        }
    }

    /// Gives up all open calls. `sent` tells whether the replica has them: then a write's fate is unknown.
    pub(crate) fn give_up(&mut self, sent: bool, why: &str) {
        for request in self.pending.iter_mut().filter(|request| request.is_open()) {
            let (code, what) = match sent && request.plan.method.writes() {
                true => (Code::Unknown, "the write may have taken effect or may still do so"),
                false => (Code::Unavailable, "it had no effect"),
            };
            request.reply = Some(Err(Refusal::new(code.status(), code, format!("{why}; {what}"))));
        }
        self.last = true;
    }

    /// Makes the bytes of all answers that are due, up to a bound.
    pub(crate) fn render(&mut self, now: Moment) {
        while self.out.len() < OUT_BYTES_MAX && !self.broken {
            let Some(mut request) = self.pending.pop_front_if(|first| first.reply.is_some()) else { break };
            let Some(reply) = request.reply.take() else { break };
            self.render_one(&mut request, reply, now);
            if request.call.is_some() {
                self.pending.push_front(request);
                break;
            }
        }
        if self.pending.is_empty() && !self.last && self.reader.take_continue() {
            self.out.extend_from_slice(response::CONTINUE);
        }
        self.draft.body.shrink_to(BUFFER_KEPT_MAX);
    }

    /// One answer, or a piece of a streamed list, which then has the call for the next one.
    fn render_one(&mut self, request: &mut Pending, reply: Reply, now: Moment) {
        self.draft.begin(&reply);
        match &reply {
            Ok(Some(Said::Answer(Answer { outcome: Outcome::Notes { notes, more }, .. })))
                if request.streaming || (*more && request.plan.resource == Resource::Notes(None)) =>
            {
                self.render_piece(request, notes, *more, now);
            }
            // Where a further page can't be had, the list must not look complete.
            _ if request.streaming => self.broken = true,
            _ => {
                self.draft.answer(&request.plan, reply, &self.service.metrics);
                self.write_head(request, now);
                if request.plan.method != Method::Head {
                    self.out.extend_from_slice(&self.draft.body);
                }
            }
        }
    }

    /// A piece of a streamed list: chunked, or for HTTP/1.0 until the connection's end (RFC 9112 section 6.3).
    fn render_piece(&mut self, request: &mut Pending, notes: &[(NoteId, Note)], more: bool, now: Moment) {
        let behind = notes.last().filter(|_| more).map(|(last, _)| *last);
        let http10 = request.plan.http10;
        put_notes(&mut self.draft.body, notes, !request.streaming, behind.is_none());
        put(&mut self.draft.body, &[if behind.is_none() { "\n" } else { "" }]);
        if !request.streaming {
            request.streaming = true;
            self.last |= http10;
            let framing = if http10 { "" } else { "Transfer-Encoding: chunked\r\n" };
            put(&mut self.draft.fields, &["Content-Type: application/json\r\n", framing]);
            self.write_head(request, now);
        }
        match request.plan.method {
            Method::Head => return,
            _ if http10 => self.out.extend_from_slice(&self.draft.body),
            _ => response::put_chunk(&mut self.out, &self.draft.body, behind.is_none()),
        }
        request.call = behind.map(|behind| Call::Note(Request::List(stream_page(behind))));
    }

    /// The head of the answer that is drafted.
    fn write_head(&mut self, request: &Pending, now: Moment) {
        let idle = self.pending.is_empty() && self.reader.phase() == Phase::Idle;
        self.last |= idle && (self.ended || self.stopping);
        let Draft { status, fields, body, phases, primary, note } = &self.draft;
        let total_ns = now.nanos_since(request.arrived);
        let parts = phases.unwrap_or_default().parts(total_ns);
        let (method, counts) = (request.plan.method, &self.service.metrics.requests);
        counts.answered(Protocol::Http, method.word(), *status);
        if phases.is_some() {
            counts.took(method.writes(), parts);
        }
        if let Some(path) = &request.plan.path {
            let body = body.strip_suffix(b"\n").unwrap_or(body);
            let note = note.or(request.plan.resource.id());
            self.service.log.client_reply(note, method.word(), path, body, total_ns);
        }
        let out = &mut self.out;
        put_number(out, "HTTP/1.1 ", u64::from(*status), " ");
        put(out, &[reason(*status), "\r\nDate: ", self.date.at(now, &self.service.port.clock()), "\r\n"]);
        out.extend_from_slice(fields);
        for (name, value) in ["Primacy-Replica: ", "Primacy-Primary: "].iter().zip(self.service.names(*primary)) {
            value.inspect(|value| put(out, &[name, value, "\r\n"]));
        }
        put_number(out, "Primacy-Connection: ", self.number, "; requests=");
        put_number(out, "", request.number, "\r\n");
        response::put_timing(out, &parts);
        let connection = match (self.last && self.pending.is_empty(), request.plan.http10) {
            (true, _) => "Connection: close\r\n\r\n",
            (false, true) => "Connection: keep-alive\r\n\r\n",
            (false, false) => "\r\n",
        };
        put(out, &[connection]);
    }
}
