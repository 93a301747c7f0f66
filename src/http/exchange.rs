//! One connection's requests and answers, without its socket: bytes to calls, what was said to bytes.
//!
//! Answers go out in the order of the requests. Safe requests may be open together; a write, and a list, is open alone
//! (RFC 9112 section 9.3.2), and nothing behind it is looked at until it is answered. So whatever a client sends, a
//! connection holds one body, one page, and a bounded number of small requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::Service;
use super::answers::{Reply, answer, write_notes};
use super::reader::{BUFFER_KEPT_MAX, Phase, Reader};
use super::refusal::Refusal;
use super::response::{self, Date, Length, Response, Stamp};
use super::routes::{Ask, Plan, Resource, stream_page};
use crate::clock::Moment;
use crate::note::NoteId;
use crate::observe::classic;
use crate::protocol::ids::ReplicaId;
use crate::protocol::port::{Call, Said, Tag};
use crate::protocol::request::{Answer, Code, Outcome, Phases, Request};

/// Past so many bytes answers are written before more are made.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A request that is not answered yet.
#[derive(Debug)]
struct Pending {
    plan: Plan,
    arrived: Moment,
    /// Which request of the connection it is, from 1.
    number: u64,
    /// Nothing else is open.
    alone: bool,
    /// None while the replica works on it.
    reply: Option<Reply>,
    /// A list whose head is out, and part of its notes.
    streaming: bool,
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
    /// Requests whose answers are due, in order. Their tags are their numbers.
    pending: VecDeque<Pending>,
    /// The next request, which must wait until nothing is open.
    held: Option<(Plan, Ask)>,
    requests: u64,
    /// Calls that the replica has not answered.
    open: usize,
    /// The page to ask for once the pages before it are written.
    next_page: Option<NoteId>,
    date: Date,
    body: Vec<u8>,
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
            service,
            number,
            reader: Reader::default(),
            pending: VecDeque::new(),
            held: None,
            requests: 0,
            open: 0,
            next_page: None,
            date: Date::default(),
            body: Vec::new(),
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
        self.open > 0
    }

    /// Whether all is said and the connection can be closed.
    pub(crate) fn is_finished(&self) -> bool {
        self.broken || (self.last && self.pending.is_empty())
    }

    /// After the output was written.
    pub(crate) fn clear_out(&mut self) {
        for buffer in [&mut self.out, &mut self.body] {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_MAX);
        }
    }

    /// Whether requests must wait for answers.
    fn is_blocked(&self) -> bool {
        let limit = self.service.config.limits.pipeline.max(1);
        self.held.is_some() || self.pending.len() >= limit || self.pending.back().is_some_and(|request| request.alone)
    }

    /// Reads the requests that are complete; those for the replica are returned.
    pub(crate) fn take_requests(&mut self, now: Moment) -> Vec<(Tag, Call)> {
        let mut calls = Vec::new();
        if let Some((plan, ask)) = self.held.take_if(|_| self.open == 0) {
            self.begin(plan, ask, now, &mut calls);
        }
        while !self.last && !self.is_blocked() {
            match self.reader.next(&self.service.config.limits, &self.service.hosts) {
                Ok(Some((plan, ask))) if is_alone(&ask) && self.open + calls.len() > 0 => self.held = Some((plan, ask)),
                Ok(Some((plan, ask))) => self.begin(plan, ask, now, &mut calls),
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
        }
        self.open += calls.len();
        calls
    }

    fn begin(&mut self, plan: Plan, ask: Ask, arrived: Moment, calls: &mut Vec<(Tag, Call)>) {
        self.requests += 1;
        self.last |= !plan.keep_alive;
        let number = self.requests;
        let alone = is_alone(&ask);
        let reply = match ask {
            Ask::Call(call) => {
                calls.push((number, call));
                None
            }
            Ask::Refuse(refusal) => Some(Reply::Refused(refusal)),
            Ask::Fixed => Some(Reply::Fixed),
        };
        self.pending.push_back(Pending { plan, arrived, number, alone, reply, streaming: false });
    }

    /// Answers what could not be read, after what came before it, and reads no further.
    pub(crate) fn refuse(&mut self, refusal: Refusal, now: Moment) {
        self.begin(Plan::UNREADABLE, Ask::Refuse(refusal), now, &mut Vec::new());
    }

    /// Takes what the replica said.
    pub(crate) fn take_answers(&mut self, answers: Vec<(Tag, Said)>) {
        for (tag, said) in answers {
            let place = self.pending.front().and_then(|first| usize::try_from(tag.checked_sub(first.number)?).ok());
            // A call that was given up has its reply already.
            if let Some(request) = place.and_then(|place| self.pending.get_mut(place))
                && request.reply.is_none()
            {
                self.service.note_primary(&said);
                request.reply = Some(Reply::Said(said));
                self.open -= 1;
            }
        }
    }

    /// Gives up all open calls. `sent` tells whether the replica has them: then a write's fate is unknown.
    pub(crate) fn give_up(&mut self, sent: bool, why: &str) {
        for request in self.pending.iter_mut().filter(|request| request.reply.is_none()) {
            let (code, what) = match sent && request.plan.method.writes() {
                true => (Code::Unknown, "the write may have taken effect or may still do so"),
                false => (Code::Unavailable, "it had no effect"),
            };
            request.reply = Some(Reply::Refused(Refusal::new(code.status(), code, format!("{why}; {what}"))));
        }
        self.open = 0;
        self.last = true;
    }

    /// The next page of a streamed list, once what came before is written.
    pub(crate) fn take_next_page(&mut self) -> Option<(Tag, Call)> {
        let call = Call::Note(Request::List(stream_page(self.next_page.take()?)));
        self.open += 1;
        self.pending.front().map(|first| (first.number, call))
    }

    /// Makes the bytes of all answers that are due, up to a bound.
    pub(crate) fn render(&mut self, now: Moment) {
        while self.out.len() < OUT_BYTES_MAX && !self.broken {
            let Some(reply) = self.pending.front_mut().and_then(|request| request.reply.take()) else { break };
            let Some(mut request) = self.pending.pop_front() else { break };
            self.next_page = self.render_one(&request, reply, now);
            if self.next_page.is_some() {
                request.streaming = true;
                self.pending.push_front(request);
                break;
            }
        }
        if self.pending.is_empty() && self.held.is_none() && !self.last && self.reader.take_continue() {
            self.out.extend_from_slice(response::CONTINUE);
        }
    }

    /// One answer, or a piece of a streamed one; then the note behind which it goes on.
    fn render_one(&mut self, request: &Pending, reply: Reply, now: Moment) -> Option<NoteId> {
        self.body.clear();
        let (phases, primary) = match &reply {
            Reply::Said(Said::Answer(Answer { phases, primary, .. })) => (*phases, *primary),
            _ => (Phases::default(), None),
        };
        let piece = match &reply {
            Reply::Said(Said::Answer(Answer { outcome: Outcome::Notes { notes, more }, .. })) => {
                Some((notes, notes.last().filter(|_| *more).map(|(last, _)| *last)))
            }
            _ => None,
        };
        match piece {
            Some((notes, behind)) if request.streaming => {
                write_notes(&mut self.body, notes, false, behind.is_none());
                self.write_piece(request, behind.is_none());
                behind
            }
            // Where a further page can't be had, the list must not look complete.
            None if request.streaming => {
                self.broken = true;
                None
            }
            Some((notes, Some(behind))) if request.plan.resource == Resource::Notes(None) => {
                write_notes(&mut self.body, notes, true, false);
                self.last |= request.plan.http10;
                let length = if request.plan.http10 { Length::Close } else { Length::Chunked };
                self.write(request, &Response::new(200), length, (phases, primary), now);
                (!request.plan.method.is_head()).then_some(behind)
            }
            _ => {
                let response = answer(&request.plan, reply, &mut self.body);
                let bodiless = matches!(response.status, 204 | 304);
                let length = if bodiless { Length::Absent } else { Length::Bytes(self.body.len()) };
                self.write(request, &response, length, (phases, primary), now);
                None
            }
        }
    }

    /// A head, and the body that was made for it.
    fn write(
        &mut self,
        request: &Pending,
        response: &Response,
        length: Length,
        (phases, primary): (Phases, Option<ReplicaId>),
        now: Moment,
    ) {
        let idle = self.pending.is_empty() && self.held.is_none() && self.reader.phase() == Phase::Idle;
        self.last |= idle && (self.ended || self.stopping);
        let total_ns = now.nanos_since(request.arrived);
        if let Some(path) = &request.plan.path {
            let body = self.body.strip_suffix(b"\n").unwrap_or(&self.body);
            classic::client_reply(request.plan.method.word(), path, body, total_ns);
        }
        let stamp = Stamp {
            date: self.date.at(now, &self.service.port.clock()).as_bytes(),
            names: self.service.names(primary),
            connection: (self.number, request.number),
            phases,
            total_ns,
            connection_line: match (self.last && self.pending.is_empty(), request.plan.http10) {
                (true, _) => "Connection: close\r\n",
                (false, true) => "Connection: keep-alive\r\n",
                (false, false) => "",
            },
        };
        response::write_head(&mut self.out, response, length, &stamp);
        match length {
            _ if request.plan.method.is_head() => {}
            Length::Chunked => self.write_piece(request, false),
            Length::Absent | Length::Bytes(_) | Length::Close => self.out.extend_from_slice(&self.body),
        }
    }

    /// A piece of a streamed list.
    fn write_piece(&mut self, request: &Pending, last: bool) {
        match request.plan.http10 {
            true => self.out.extend_from_slice(&self.body),
            false => response::write_chunk(&mut self.out, &self.body, last),
        }
    }
}

/// Whether a call must be the only one of its connection that is open. A write must; a list is, so that no connection
/// holds more than one page in memory.
fn is_alone(ask: &Ask) -> bool {
    matches!(ask, Ask::Call(Call::Note(Request::Write(_) | Request::List(_))))
}
