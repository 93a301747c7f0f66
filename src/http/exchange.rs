//! One connection's requests and answers, without its socket: bytes to calls, what was said to bytes.
//!
//! Answers go out in the order of the requests. Safe requests may be open together; a write, and a list, is open alone
//! (RFC 9112 section 9.3.2), and nothing behind it is looked at until it is answered. So whatever a client sends, a
//! connection holds one body, one page, and a bounded number of small requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::Service;
use super::answers::{self, Reply};
use super::reader::{BUFFER_KEPT_MAX, Incoming, Logged, Manner, Phase, Reader};
use super::refusal::Refusal;
use super::response::{self, Date, Length, Response, Stamp};
use super::routes::{self, Ask, Plan, Resource};
use crate::note::NoteId;
use crate::observe::classic;
use crate::protocol::ids::{Moment, ReplicaId};
use crate::protocol::port::{Call, Said, Tag};
use crate::protocol::request::{Answer, Code, Failure, Outcome, Phases, Request};

/// Past so many bytes answers are written before more are made.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A request that is not answered yet.
#[derive(Debug)]
struct Pending {
    manner: Manner,
    plan: Option<Plan>,
    logged: Option<Box<Logged>>,
    arrived: Moment,
    /// Which request of the connection it is.
    number: u64,
    /// A write, whose fate is unknown while it is not answered.
    writes: bool,
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
    service: Arc<Service>,
    /// The connection's number.
    number: u64,
    reader: Reader,
    /// Requests whose answers are due, in order. The last has the tag `next_tag - 1`.
    pending: VecDeque<Pending>,
    /// The next request, which must wait until nothing is open.
    held: Option<Incoming>,
    next_tag: Tag,
    requests: u64,
    /// Calls that the replica has not answered.
    open: usize,
    /// The page to ask for once the pages before it are written.
    next_page: Option<NoteId>,
    /// The input has ended.
    ended: bool,
    /// The listener stops: whole requests are answered, no new ones taken.
    stopping: bool,
    /// No more requests are read.
    last: bool,
    /// An answer broke off; the connection must end without its end.
    broken: bool,
    date: Date,
    body: Vec<u8>,
    out: Vec<u8>,
}

impl Exchange {
    /// The state of a new connection.
    pub(crate) fn new(service: Arc<Service>, number: u64) -> Exchange {
        Exchange {
            service,
            number,
            reader: Reader::default(),
            pending: VecDeque::new(),
            held: None,
            next_tag: 0,
            requests: 0,
            open: 0,
            next_page: None,
            ended: false,
            stopping: false,
            last: false,
            broken: false,
            date: Date::default(),
            body: Vec::new(),
            out: Vec::new(),
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

    /// What is being waited for from the client, and for which request.
    pub(crate) fn phase(&self) -> (Phase, u64) {
        (self.reader.phase(), self.requests)
    }

    /// How many calls the replica has not answered.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether all is said and the connection can be closed.
    pub(crate) fn is_finished(&self) -> bool {
        self.broken || (self.last && self.pending.is_empty())
    }

    /// Whether an answer broke off.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The client has sent everything.
    pub(crate) fn end_input(&mut self) {
        self.ended = true;
    }

    /// The listener stops.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// What is to be written; the caller clears it.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
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
        if self.held.is_some() && self.open == 0 {
            self.begin_held(now, &mut calls);
        }
        while !self.last && !self.is_blocked() {
            match self.reader.next(&self.service.config.limits, &self.service.hosts) {
                Ok(Some(incoming)) if incoming.ask.is_alone() && self.open > 0 => self.held = Some(incoming),
                Ok(Some(incoming)) => self.begin(incoming, now, &mut calls),
                Ok(None) => {
                    self.end_between_requests(now);
                    break;
                }
                Err(refusal) => self.refuse(refusal, now),
            }
        }
        self.open += calls.len();
        calls
    }

    fn begin_held(&mut self, now: Moment, calls: &mut Vec<(Tag, Call)>) {
        if let Some(incoming) = self.held.take() {
            self.begin(incoming, now, calls);
        }
    }

    fn begin(&mut self, incoming: Incoming, arrived: Moment, calls: &mut Vec<(Tag, Call)>) {
        let Incoming { manner, ask, plan, logged } = incoming;
        let alone = ask.is_alone();
        let writes = matches!(ask, Ask::Call(Call::Note(Request::Write(_))));
        let tag = self.next_tag;
        let reply = match ask {
            Ask::Call(call) => {
                calls.push((tag, call));
                None
            }
            Ask::Refused(refusal) => Some(Reply::Refused(refusal)),
            Ask::Failed(failure) => Some(Reply::Failed(failure)),
            Ask::Fixed => Some(Reply::Fixed),
        };
        self.next_tag += 1;
        self.requests += 1;
        self.last |= !manner.keep_alive;
        let number = self.requests;
        let request = Pending { manner, plan, logged, arrived, number, writes, alone, reply, streaming: false };
        self.pending.push_back(request);
    }

    /// Answers what could not be read, after what came before it, and reads no further.
    pub(crate) fn refuse(&mut self, refusal: Refusal, now: Moment) {
        let ask = Ask::Refused(refusal);
        self.begin(Incoming { manner: Manner::UNKNOWN, ask, plan: None, logged: None }, now, &mut Vec::new());
    }

    /// Where no whole request is left, the end of the input or the listener's stop ends the connection.
    fn end_between_requests(&mut self, now: Moment) {
        let idle = self.reader.phase() == Phase::Idle;
        match (self.ended, self.stopping) {
            (true, _) if !idle => self.refuse(Refusal::CutShort, now),
            (true, _) => self.last = true,
            (false, stopping) => self.last |= stopping && idle,
        }
    }

    /// Takes what the replica said.
    pub(crate) fn take_answers(&mut self, answers: Vec<(Tag, Said)>) {
        for (tag, said) in answers {
            let first = self.next_tag - self.pending.len() as u64;
            let place = tag.checked_sub(first).and_then(|place| usize::try_from(place).ok());
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
            let (code, what) = match sent && request.writes {
                true => (Code::Unknown, "the write may have taken effect or may still do so"),
                false => (Code::Unavailable, "it had no effect"),
            };
            request.reply = Some(Reply::Failed(Failure::new(code, format!("{why}; {what}"))));
        }
        self.open = 0;
        self.last = true;
    }

    /// The next page of a streamed list, once what came before is written.
    pub(crate) fn take_next_page(&mut self) -> Option<(Tag, Call)> {
        let after = self.next_page.take()?;
        self.open += 1;
        let tag = self.next_tag - self.pending.len() as u64;
        Some((tag, Call::Note(Request::List(routes::stream_page(after)))))
    }

    /// Makes the bytes of all answers that are due, up to a bound.
    pub(crate) fn render(&mut self, now: Moment) {
        while self.out.len() < OUT_BYTES_MAX && !self.broken {
            let Some(request) = self.pending.front_mut() else { break };
            let Some(reply) = request.reply.take() else { break };
            let Some(mut request) = self.pending.pop_front() else { break };
            if let Some(after) = self.render_one(&mut request, reply, now) {
                request.streaming = true;
                self.pending.push_front(request);
                self.next_page = Some(after);
                break;
            }
        }
        if self.pending.is_empty() && self.held.is_none() && !self.last && self.reader.take_continue() {
            self.out.extend_from_slice(response::CONTINUE);
        }
    }

    /// One answer, or a part of a streamed one; then the id behind which it goes on.
    fn render_one(&mut self, request: &mut Pending, reply: Reply, now: Moment) -> Option<NoteId> {
        if request.streaming {
            return self.go_on_streaming(request, reply);
        }
        let (phases, primary) = match &reply {
            Reply::Said(Said::Answer(Answer { phases, primary, .. })) => (*phases, *primary),
            _ => (Phases::default(), None),
        };
        self.body.clear();
        if let Some(after) = streams_on(request, &reply) {
            let Reply::Said(Said::Answer(Answer { outcome: Outcome::Notes { notes, .. }, .. })) = reply else {
                return None;
            };
            answers::begin_list(&mut self.body);
            answers::write_notes(&mut self.body, &notes, true);
            let length = if request.manner.http10 { Length::Close } else { Length::Chunked };
            self.last |= request.manner.http10;
            self.write(request, &Response::new(200), length, (phases, primary), now);
            return (!request.manner.head_only).then_some(after);
        }
        let response = answers::answer(request.plan.as_ref(), reply, request.manner.problem, &mut self.body);
        let length = match response.status {
            204 | 304 => Length::Absent,
            _ => Length::Bytes(self.body.len()),
        };
        self.write(request, &response, length, (phases, primary), now);
        None
    }

    /// Head and body, the latter from `self.body`.
    fn write(
        &mut self,
        request: &Pending,
        response: &Response,
        length: Length,
        (phases, primary): (Phases, Option<ReplicaId>),
        now: Moment,
    ) {
        let total_ns = now.nanos_since(request.arrived);
        if let Some(logged) = &request.logged {
            let body = self.body.strip_suffix(b"\n").unwrap_or(&self.body);
            classic::client_reply(logged.method, &logged.path, body, total_ns);
        }
        let closes = self.last && self.pending.is_empty();
        let stamp = Stamp {
            date: self.date.at(now, &self.service.port.clock()).as_bytes(),
            names: self.service.names(primary),
            connection: (self.number, request.number),
            phases,
            total_ns,
            connection_line: match (closes, request.manner.http10) {
                (true, _) => "Connection: close\r\n",
                (false, true) => "Connection: keep-alive\r\n",
                (false, false) => "",
            },
        };
        response::write_head(&mut self.out, response, length, &stamp);
        match length {
            _ if request.manner.head_only => {}
            Length::Chunked => response::write_chunk(&mut self.out, &self.body),
            Length::Absent => {}
            Length::Bytes(_) | Length::Close => self.out.extend_from_slice(&self.body),
        }
    }

    /// A further page. Where it can't be had the list must not look complete.
    fn go_on_streaming(&mut self, request: &Pending, reply: Reply) -> Option<NoteId> {
        let Reply::Said(Said::Answer(Answer { outcome: Outcome::Notes { notes, more }, .. })) = reply else {
            self.broken = true;
            return None;
        };
        self.body.clear();
        answers::write_notes(&mut self.body, &notes, false);
        let after = notes.last().map(|(last, _)| *last).filter(|_| more);
        if after.is_none() {
            answers::end_list(&mut self.body);
        }
        match request.manner.http10 {
            true => self.out.extend_from_slice(&self.body),
            false => response::write_chunk(&mut self.out, &self.body),
        }
        if after.is_none() && !request.manner.http10 {
            self.out.extend_from_slice(response::LAST_CHUNK);
        }
        after
    }
}

/// Behind which note a list goes on that is not paged and not yet complete.
fn streams_on(request: &Pending, reply: &Reply) -> Option<NoteId> {
    let streamed = request.plan.as_ref().is_some_and(|plan| plan.resource == Resource::Notes(None));
    match reply {
        Reply::Said(Said::Answer(Answer { outcome: Outcome::Notes { notes, more: true }, .. })) if streamed => {
            notes.last().map(|(last, _)| *last)
        }
        _ => None,
    }
}
