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
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::protocol::ids::{Epoch, ReplicaId, Version};
    use crate::protocol::port::Pong;
    use crate::protocol::request::{Done, Phases};

    const NOW: Moment = Moment(5);

    fn exchange(pipeline: usize, text: &str) -> Exchange {
        let requests = Metrics::new("remote-write").requests;
        let input = Input::new(true, BytesMut::new());
        let mut exchange = Exchange::new(input, pipeline, Log::new("here:1"), requests);
        exchange.room().extend_from_slice(text.as_bytes());
        exchange
    }

    fn pong() -> Said {
        Said::Pong(Pong { replica: ReplicaId(0), epoch: Epoch(1), primary: None, in_sync: true })
    }

    fn lines(exchange: &mut Exchange) -> Vec<String> {
        exchange.reply(NOW, &["here:1".to_owned()]);
        let text = String::from_utf8(exchange.out().to_vec()).unwrap();
        exchange.written();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn all_of_one_read_are_called_together_and_answered_as_they_finish() {
        let mut exchange = exchange(9, "{\"type\":\"ping\",\"seq\":1}\n{\"type\":\"ping\",\"seq\":2}\n");
        assert!(exchange.take_all(NOW));
        let calls = exchange.calls();
        assert_eq!(calls.len(), 2);
        exchange.hear(vec![(calls[1].0, pong())]);
        assert!(lines(&mut exchange)[0].starts_with("{\"type\":\"pong\",\"re\":2,"));
        exchange.hear(vec![(calls[0].0, pong()), (77, pong())]);
        assert_eq!(lines(&mut exchange).len(), 1, "what nobody asked is not said");
        assert!(!exchange.is_waiting());
    }

    #[test]
    fn a_connection_has_one_monitor_and_its_events_carry_its_number() {
        let mut exchange = exchange(9, "{\"type\":\"monitor\",\"seq\":4,\"id\":7}\n{\"type\":\"monitor\",\"seq\":5}\n");
        assert!(exchange.take_all(NOW));
        assert_eq!(exchange.watch(), Some(&Watch { id: Some(crate::note::NoteId(7)), replica: None }));
        assert!(exchange.calls().is_empty() && !exchange.is_waiting(), "the loop is asked nothing");
        exchange.begin_monitor(Ok("here:1"));
        exchange.show(&["{\"event\":\"quiet\"}".to_owned()]);
        let lines = lines(&mut exchange);
        assert!(lines[0].starts_with("{\"type\":\"error\",\"re\":5,\"res\":400,\"code\":\"bad_request\""), "{lines:?}");
        assert_eq!(lines[1], "{\"type\":\"monitoring\",\"re\":4,\"res\":200,\"replica\":\"here:1\"}");
        assert_eq!(lines[2], "{\"type\":\"event\",\"re\":4,\"event\":\"quiet\"}");
    }

    #[test]
    fn a_locked_connection_is_answered_nothing_before_its_token() {
        let tokens: Tokens = "0123456789abcdef".parse().unwrap();
        let locked = |text: &str| exchange(9, text).locked_by(Some(&tokens));
        let ping = "{\"type\":\"ping\",\"seq\":1}\n";
        let right = "{\"type\":\"auth\",\"seq\":2,\"token\":\"0123456789abcdef\"}\n";
        let mut early = locked(&[ping, right, ping].concat());
        early.take_all(NOW);
        assert_eq!(early.calls().len(), 1, "only what comes behind the token");
        let replies = lines(&mut early);
        assert!(replies[0].contains("\"re\":1,\"res\":401,\"code\":\"unauthorized\""), "{replies:?}");
        assert_eq!(replies[1], "{\"type\":\"authorized\",\"re\":2,\"res\":200}");
        assert!(!early.is_locked());

        for wrong in ["0123456789abcdeF", "", "0123456789abcdef0"] {
            let mut guess = locked(&[&right.replace("0123456789abcdef", wrong), right, ping].concat());
            guess.take_all(NOW);
            assert!(guess.calls().is_empty() && guess.has_ended(), "each guess costs a connection");
            let replies = lines(&mut guess);
            assert!(replies.len() == 1 && replies[0].contains("\"re\":2,\"res\":401"), "{replies:?}");
        }
        let mut open = exchange(9, right);
        open.take_all(NOW);
        assert_eq!(lines(&mut open), ["{\"type\":\"authorized\",\"re\":2,\"res\":200}"], "any, where none is needed");
    }

    #[test]
    fn what_is_beyond_the_pipeline_waits_for_answers() {
        let mut exchange = exchange(2, &"{\"type\":\"ping\"}\n".repeat(5));
        exchange.end_input();
        let mut answered = 0;
        while !exchange.has_ended() || exchange.is_waiting() {
            exchange.take_all(NOW);
            let calls = exchange.calls();
            assert!(calls.len() <= 2, "{} calls are open at once", calls.len());
            exchange.hear(calls.into_iter().map(|(tag, _)| (tag, pong())).collect());
            answered += lines(&mut exchange).len();
        }
        assert_eq!(answered, 5, "what came before the end is answered");
    }

    #[test]
    fn large_replies_are_made_a_few_at_a_time() {
        let mut exchange = exchange(99, &"{\"type\":\"list\"}\n".repeat(20));
        exchange.take_all(NOW);
        let note = crate::note::Note::from_put(
            crate::note::NoteId(1),
            &[b"{\"title\":\"", &[b'x'; 100_000][..], b"\"}"].concat(),
        );
        let notes = Outcome::Notes { notes: vec![(crate::note::NoteId(1), note.unwrap())], more: false };
        let said = Said::Answer(Answer { outcome: notes, primary: None, phases: Phases::default() });
        let calls = exchange.calls();
        exchange.hear(calls.into_iter().map(|(tag, _)| (tag, said.clone())).collect());
        exchange.reply(NOW, &[]);
        assert!(exchange.out().len() < OUT_BYTES_KEPT + 101_000, "{} bytes at once", exchange.out().len());
        exchange.written();
        let mut count = 3;
        while exchange.is_waiting() {
            count += lines(&mut exchange).len();
        }
        assert_eq!(count, 20);
    }

    #[test]
    fn a_call_that_was_given_to_the_replica_may_have_taken_effect() {
        let write = "{\"type\":\"delete\",\"seq\":1,\"id\":1}\n";
        let mut exchange = exchange(9, &format!("{write}{{\"type\":\"get\",\"seq\":2,\"id\":1}}\n"));
        exchange.take_all(NOW);
        exchange.calls();
        exchange.room().extend_from_slice(write.replace("1,", "3,").as_bytes());
        exchange.take_all(NOW);
        let refused = exchange.calls().into_iter().map(|(tag, _)| tag);
        exchange.refuse(refused, "it is full");
        assert_eq!(
            lines(&mut exchange),
            ["{\"type\":\"error\",\"re\":3,\"res\":503,\"code\":\"unavailable\",\"msg\":\"it is full\"}"]
        );
        exchange.end_with_what_was_said("it has stopped");
        let codes: Vec<bool> = lines(&mut exchange).iter().map(|line| line.contains("\"unknown\"")).collect();
        assert_eq!(codes, [true, false], "the write may have been done, the read was not");
        assert!(exchange.has_ended());
    }

    #[test]
    fn a_reply_tells_where_the_time_went_when_asked() {
        let mut exchange =
            exchange(9, "{\"timing\":true,\"id\":1,\"type\":\"delete\"}\n{\"type\":\"ping\",\"timing\":true}\n");
        exchange.take_all(Moment(0));
        let calls = exchange.calls();
        let done = Outcome::Done(Done { id: crate::note::NoteId(1), version: Version { epoch: Epoch(1), counter: 2 } });
        let phases =
            Phases { queue: 1_000, replicate: 2_000_000, store: 1_500_000, update: 2_000_000, ..Phases::default() };
        exchange.hear(vec![
            (calls[0].0, Said::Answer(Answer { outcome: done, primary: None, phases })),
            (calls[1].0, pong()),
        ]);
        exchange.reply(Moment(3_000_000), &["here:1".to_owned()]);
        let text = String::from_utf8(exchange.out().to_vec()).unwrap();
        let timing = "\"timing\":{\"queue_ms\":0.001,\"replicate_ms\":2.000,\"store_ms\":1.500,\"update_ms\":2.000,\"respond_ms\":0.999,\"total_ms\":3.000}}";
        assert!(text.contains(timing), "{text}");
        assert!(
            text.contains("\"in_sync\":true,\"timing\":{\"queue_ms\":0.000,\"respond_ms\":3.000,\"total_ms\":3.000}}"),
            "{text}"
        );
    }
}
