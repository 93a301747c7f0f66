//! A client's connection without its socket: bytes in, calls out; what the replica said in, bytes out.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;

use super::input::Input;
use super::log::{Logged, method};
use crate::clock::Moment;
use crate::config::Tokens;
use crate::observe::classic::Log;
use crate::observe::metrics::{Protocol, Requests};
use crate::protocol::client::{self, Asked, NotUnderstood, Wanted, Watch};
use crate::protocol::codec::{FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::protocol::port::{Call, Said, Tag};
use crate::protocol::request::{Answer, Code, Failure, Outcome, Request};

/// Bytes of replies past which no more are made before these are written. Answers wait as what the replica said, which
/// shares its notes' text; with the longest reply this bounds a connection's memory.
pub(super) const OUT_BYTES_KEPT: usize = 256 * 1024;

/// A call that is not answered.
#[derive(Debug)]
struct Open {
    seq: Option<u64>,
    timing: bool,
    arrived: Moment,
    writes: bool,
    /// The HTTP method that it amounts to.
    method: &'static str,
    logged: Option<Logged>,
}

/// One client's requests and replies.
#[derive(Debug)]
pub(super) struct Exchange {
    requests: Requests,
    input: Input,
    lines: bool,
    /// Calls that may be open at one time.
    pipeline: usize,
    last: Tag,
    open: HashMap<Tag, Open>,
    /// Calls that the replica has not been given.
    calls: Vec<(Tag, Call)>,
    /// What the replica said and no reply was made of.
    said: VecDeque<(Tag, Said)>,
    out: Vec<u8>,
    /// Requests taken in all, bad ones too.
    taken: u64,
    /// The client has sent everything.
    has_all: bool,
    /// No more requests are taken.
    ended: bool,
    log: Log,
    /// A monitor that was asked for, its `seq` and what it wants, until it is begun or refused.
    watch: Option<(Option<u64>, Watch)>,
    /// The `seq` of the connection's monitor.
    monitor: Option<Option<u64>>,
    /// Until the client has shown one of these, it is answered nothing.
    locked: Option<Tokens>,
}

impl Exchange {
    pub(super) fn new(input: Input, pipeline: usize, log: Log, requests: Requests) -> Exchange {
        Exchange {
            requests,
            lines: input.is_lines(),
            input,
            pipeline: pipeline.max(1),
            last: 0,
            open: HashMap::new(),
            calls: Vec::new(),
            said: VecDeque::new(),
            out: Vec::new(),
            taken: 0,
            has_all: false,
            ended: false,
            log,
            watch: None,
            monitor: None,
            locked: None,
        }
    }

    /// The same, but that the client must show one of these tokens first, if there are any. Until then no long request
    /// is read.
    pub(super) fn locked_by(mut self, tokens: Option<&Tokens>) -> Exchange {
        self.locked = tokens.cloned();
        self
    }

    /// Whether the client has yet to show a token.
    pub(super) fn is_locked(&self) -> bool {
        self.locked.is_some()
    }

    /// Where to put what is read.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.input.room()
    }

    /// Whether there is room for more calls.
    fn has_room(&self) -> bool {
        !self.ended && self.open.len() < self.pipeline
    }

    /// Whether more may be read.
    pub(super) fn wants_input(&self) -> bool {
        self.has_room() && !self.has_all
    }

    /// Whether a request has begun to come in, and is not complete.
    pub(super) fn is_partial(&self) -> bool {
        self.input.is_partial()
    }

    /// Requests taken in all.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the replica still has something to say.
    pub(super) fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether no more requests will be taken.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the requests that are complete, as many as may be open. False where the stream is out of step: what comes
    /// after that is of no use.
    pub(super) fn take_all(&mut self, now: Moment) -> bool {
        while self.has_room() {
            match self.input.next() {
                Ok(None) if self.has_all => {
                    if let Some(last) = self.input.finish() {
                        self.take(&last, now);
                    }
                    self.ended = true;
                }
                Ok(None) => break,
                Ok(Some(json)) => self.take(&json, now),
                Err(failure) => {
                    self.fail(None, &failure);
                    self.ended = true;
                    return false;
                }
            }
        }
        true
    }

    /// Takes one request.
    pub(super) fn take(&mut self, json: &[u8], now: Moment) {
        self.taken += 1;
        if let Some(tokens) = self.locked.take() {
            return self.unlock(json, tokens);
        }
        match client::parse(json) {
            Err(NotUnderstood { seq, failure }) => match client::parse_auth(json) {
                // It has shown one already, or none is needed.
                Some(auth) => self.write(|out| client::write_authorized(out, auth.seq)),
                None => self.fail(seq, &failure),
            },
            Ok(Asked { seq, what: Wanted::Monitor(watch), .. }) => self.take_watch(seq, watch),
            Ok(Asked { seq, timing, what: Wanted::Call(call) }) => {
                self.last += 1;
                let writes = matches!(call, Call::Note(Request::Write(_)));
                let logged = Logged::request(&self.log, &call);
                let method = method(&call);
                self.open.insert(self.last, Open { seq, timing, arrived: now, writes, method, logged });
                self.calls.push((self.last, call));
            }
        }
    }

    fn take_watch(&mut self, seq: Option<u64>, watch: Watch) {
        if self.watch.is_some() || self.monitor.is_some() {
            let msg = "this connection has a monitor; open another connection for another one";
            return self.fail(seq, &Failure::new(Code::BadRequest, msg));
        }
        self.watch = Some((seq, watch));
    }

    /// A monitor that was asked for.
    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref().map(|(_, watch)| watch)
    }

    /// The monitor that was asked for begins, or can't.
    pub(super) fn begin_monitor(&mut self, begun: Result<&str, &Failure>) {
        let Some((seq, _)) = self.watch.take() else { return };
        match begun {
            Ok(replica) => {
                self.monitor = Some(seq);
                self.write(|out| client::write_monitoring(out, seq, replica));
            }
            Err(failure) => self.fail(seq, failure),
        }
    }

    /// Shows the monitor these events.
    pub(super) fn show(&mut self, events: &[String]) {
        let seq = self.monitor.flatten();
        for event in events {
            self.write(|out| client::write_event(out, seq, event));
        }
    }

    /// A token, or a request that comes too early. After a wrong token nothing more is taken, so that each guess costs a
    /// connection.
    fn unlock(&mut self, json: &[u8], tokens: Tokens) {
        match client::parse_auth(json) {
            Some(auth) if tokens.allow(auth.token.as_bytes()) => {
                self.input.allow(FRAME_BYTES_MAX);
                return self.write(|out| client::write_authorized(out, auth.seq));
            }
            Some(auth) => {
                self.fail(auth.seq, &Failure::new(Code::Unauthorized, "this is none of this replica's tokens"));
                self.ended = true;
            }
            None => self.fail(client::seq_of(json), &locked()),
        }
        self.locked = Some(tokens);
    }

    /// The client has sent everything; what is complete is still taken.
    pub(super) fn end_input(&mut self) {
        self.has_all = true;
    }

    /// Too little came for too long.
    pub(super) fn end_late(&mut self, failure: &Failure) {
        if self.is_locked() {
            self.fail(None, &locked());
        } else if self.input.is_partial() {
            self.fail(None, failure);
        }
        self.ended = true;
    }

    /// The calls that the replica has not been given.
    pub(super) fn calls(&mut self) -> Vec<(Tag, Call)> {
        std::mem::take(&mut self.calls)
    }

    /// Answers calls that the replica was not given: they had no effect.
    pub(super) fn refuse(&mut self, tags: impl IntoIterator<Item = Tag>, why: &str) {
        for tag in tags {
            if let Some(open) = self.open.remove(&tag) {
                self.fail(open.seq, &Failure::new(Code::Unavailable, why));
            }
        }
    }

    /// The replica says no more: answers all calls that it was given and did not answer. Nobody knows what became of the
    /// writes.
    pub(super) fn end_with_what_was_said(&mut self, why: &str) {
        let answered = |tag: &Tag| self.said.iter().any(|(said, _)| said == tag);
        let mut tags: Vec<Tag> = self.open.keys().filter(|tag| !answered(tag)).copied().collect();
        tags.sort_unstable();
        for tag in tags {
            let Some(open) = self.open.remove(&tag) else { continue };
            let code = if open.writes { Code::Unknown } else { Code::Unavailable };
            self.fail(open.seq, &Failure::new(code, why));
        }
        self.ended = true;
    }

    /// Takes what the replica said.
    pub(super) fn hear(&mut self, said: Vec<(Tag, Said)>) {
        self.said.extend(said);
    }

    /// Makes replies of what was said, until there is enough to write.
    pub(super) fn reply(&mut self, now: Moment, names: &[String]) {
        while self.out.len() < OUT_BYTES_KEPT
            && let Some((tag, said)) = self.said.pop_front()
        {
            let Some(open) = self.open.remove(&tag) else { continue };
            if let Some(logged) = &open.logged {
                logged.reply(&self.log, &said, open.arrived, now);
            }
            let total_ns = now.nanos_since(open.arrived);
            self.count(&open, &said, total_ns);
            let total_ns = open.timing.then_some(total_ns);
            self.write(|out| client::write_reply(out, open.seq, &said, names, total_ns));
        }
    }

    /// The bytes to write.
    pub(super) fn out(&self) -> &[u8] {
        &self.out
    }

    /// They were written.
    pub(super) fn written(&mut self) {
        self.out.clear();
        self.out.shrink_to(OUT_BYTES_KEPT);
    }

    fn count(&self, open: &Open, said: &Said, total_ns: u64) {
        let code = match said {
            Said::Answer(Answer { outcome: Outcome::Failed(failure), .. }) => failure.code.status(),
            _ => 200,
        };
        self.requests.answered(Protocol::Frames, open.method, code);
        if let Said::Answer(answer) = said {
            self.requests.took(open.writes, answer.phases.parts(total_ns));
        }
    }

    /// Answers what the replica was not asked, or will not answer.
    fn fail(&mut self, seq: Option<u64>, failure: &Failure) {
        self.requests.answered(Protocol::Frames, "other", failure.code.status());
        self.write(|out| client::write_error(out, seq, failure));
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.lines {
            write(&mut self.out);
            self.out.push(b'\n');
        } else {
            write_frame(&mut self.out, write);
        }
    }
}

/// What a client without a token is told.
fn locked() -> Failure {
    Failure::new(Code::Unauthorized, "this replica asks for a token; send {\"type\":\"auth\",\"token\":\"…\"} first")
}

/// Appends a frame whose JSON `write` appends.
pub(super) fn write_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let length = u32::try_from(out.len() - at - LENGTH_BYTES).expect("replies are bounded far below 4 GiB");
    out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests;
