//! One connection's requests and replies without its socket: requests in, frames out; bytes in, replies out.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::Cause;
use super::reply;
use super::request::{Asking, frame_of_token};
use crate::protocol::codec::{FRAME_BYTES_MAX, LENGTH_BYTES};

/// Bytes of frames past which no more are made before these are written: a few writes' worth.
const OUT_BYTES_KEPT: usize = 256 * 1024;

/// Room for one read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Room under which there is made more, in bytes.
const READ_BYTES_LEAST: usize = 16 * 1024;

/// Why one attempt failed.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Whether the replica may have the whole request.
    pub(super) sent: bool,
    pub(super) cause: Cause,
}

/// What one attempt came to: a reply's JSON, or none.
pub(super) type Attempt = Result<Bytes, Trouble>;

/// A request for one replica.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) asking: Asking,
    /// When it was handed over.
    pub(super) since: Instant,
    /// When its attempt is over.
    pub(super) due: Instant,
    pub(super) answer: oneshot::Sender<Attempt>,
}

impl Submission {
    fn end(self, sent: bool, cause: Cause) {
        end(self.answer, sent, cause);
    }

    fn patience(&self) -> Duration {
        self.due.saturating_duration_since(self.since)
    }
}

fn end(answer: oneshot::Sender<Attempt>, sent: bool, cause: Cause) {
    // Who gave up waiting needs no answer.
    let _ = answer.send(Err(Trouble { sent, cause }));
}

/// A request on its way.
#[derive(Debug)]
struct Open {
    made: Instant,
    due: Instant,
    patience: Duration,
    /// Where its frame ends among all bytes of this connection.
    end: u64,
    answer: oneshot::Sender<Attempt>,
}

/// The requests of one connection, from when they are handed over to their ends.
#[derive(Debug)]
pub(super) struct Exchange {
    in_flight_max: usize,
    waiting_max: usize,
    waiting: VecDeque<Submission>,
    open: HashMap<u64, Open>,
    seq: u64,
    out: Vec<u8>,
    /// So many bytes of `out` are written.
    out_at: usize,
    /// Bytes of all frames that were made, and of these, those that were written.
    made: u64,
    written: u64,
    input: BytesMut,
    /// When anything last came in.
    heard: Instant,
    /// When to look for those that are late: at or before the first of them.
    look: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(in_flight_max: usize, waiting_max: usize) -> Exchange {
        Exchange {
            in_flight_max: in_flight_max.max(1),
            waiting_max: waiting_max.max(1),
            waiting: VecDeque::new(),
            open: HashMap::new(),
            seq: 0,
            out: Vec::new(),
            out_at: 0,
            made: 0,
            written: 0,
            input: BytesMut::new(),
            heard: Instant::now(),
            look: None,
        }
    }

    /// A connection begins: the token goes first, and nobody waits for its reply.
    pub(super) fn begin(&mut self, token: Option<&str>) {
        if let Some(token) = token {
            self.out.extend_from_slice(&frame_of_token(token));
            self.made += self.out.len() as u64;
        }
    }

    /// Whether another request may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max
    }

    /// Whether nothing waits, and nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty()
    }

    /// Takes a request.
    pub(super) fn push(&mut self, submission: Submission) {
        self.look = Some(self.look.map_or(submission.due, |look| look.min(submission.due)));
        self.waiting.push_back(submission);
    }

    /// Makes frames of those that wait, as many as may be on their way.
    pub(super) fn make_frames(&mut self, now: Instant) {
        while self.open.len() < self.in_flight_max && self.out.len() < OUT_BYTES_KEPT {
            let Some(submission) = self.waiting.pop_front() else { return };
            // Nobody waits for it any more, so it need not happen.
            if submission.answer.is_closed() {
                continue;
            }
            if submission.due <= now {
                let patience = submission.patience();
                submission.end(false, Cause::Late(patience));
                continue;
            }
            self.seq += 1;
            let before = self.out.len();
            submission.asking.write_frame(&mut self.out, self.seq);
            self.made += (self.out.len() - before) as u64;
            let (patience, end) = (submission.patience(), self.made);
            let Submission { due, answer, .. } = submission;
            self.open.insert(self.seq, Open { made: now, due, patience, end, answer });
        }
    }

    /// The bytes to write, and where to put what is read.
    pub(super) fn ends(&mut self) -> (&[u8], &mut BytesMut) {
        if self.input.capacity() - self.input.len() < READ_BYTES_LEAST {
            self.input.reserve(READ_BYTES);
        }
        (&self.out[self.out_at..], &mut self.input)
    }

    /// So many of them were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.out_at += count;
        self.written += count as u64;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out.shrink_to(OUT_BYTES_KEPT);
            self.out_at = 0;
        }
    }

    /// Hands out the replies that have come in whole. An error means that the stream is out of step.
    pub(super) fn take_replies(&mut self, now: Instant) -> io::Result<()> {
        self.heard = now;
        while let Some((length, rest)) = self.input.split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length == 0 || length > FRAME_BYTES_MAX {
                let msg = format!("a frame of {length} bytes was announced, which is no Primacy");
                return Err(io::Error::new(io::ErrorKind::InvalidData, msg));
            }
            if rest.len() < length {
                self.input.reserve(length - rest.len());
                break;
            }
            self.input.advance(LENGTH_BYTES);
            let json = self.input.split_to(length).freeze();
            match reply::re_of(&json) {
                // The token's: where it was refused, so is all that followed it.
                Some(0) if reply::is_error(&json) => {
                    for (_, open) in self.open.drain() {
                        let _ = open.answer.send(Ok(json.clone()));
                    }
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, said(&json)));
                }
                // The reply to one that was late, perhaps.
                Some(re) => {
                    if let Some(open) = self.open.remove(&re) {
                        let _ = open.answer.send(Ok(json));
                    }
                }
                // Every request has a number, so this is about the connection: it is refused, or out of step.
                None => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, said(&json))),
            }
        }
        Ok(())
    }

    /// When to call [`look`](Exchange::look) next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look
    }

    /// Ends what is late. An error means that the replica has said nothing at all since a late one was sent: it hangs, or
    /// is cut off.
    pub(super) fn look(&mut self, now: Instant) -> io::Result<()> {
        if self.look.is_none_or(|look| now < look) {
            return Ok(());
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.due <= now {
                true => {
                    let patience = waiting.patience();
                    waiting.end(false, Cause::Late(patience));
                }
                false => self.waiting.push_back(waiting),
            }
        }
        let (mut silent, heard, written) = (false, self.heard, self.written);
        for (_, late) in self.open.extract_if(|_, open| open.due <= now) {
            silent |= late.made >= heard;
            end(late.answer, late.end <= written, Cause::Late(late.patience));
        }
        let dues = self.waiting.iter().map(|waiting| waiting.due).chain(self.open.values().map(|open| open.due));
        self.look = dues.min();
        match silent {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the replica says nothing")),
            false => Ok(()),
        }
    }

    /// The connection is gone: ends everything, and begins anew.
    pub(super) fn lose(&mut self, error: &Arc<io::Error>) {
        for (_, open) in self.open.drain() {
            end(open.answer, open.end <= self.written, Cause::Lost(Arc::clone(error)));
        }
        self.refuse(error);
        *self = Exchange { seq: self.seq, ..Exchange::new(self.in_flight_max, self.waiting_max) };
    }

    /// There is no connection: ends what waits.
    pub(super) fn refuse(&mut self, error: &Arc<io::Error>) {
        for waiting in self.waiting.drain(..) {
            waiting.end(false, Cause::Unreachable(Arc::clone(error)));
        }
        self.look = None;
    }
}

/// What an `error` without a number says.
fn said(json: &[u8]) -> String {
    match reply::parse(json) {
        Ok(reply::Reply::Refused(refusal)) => refusal.to_string(),
        _ => "it said something that nobody asked for".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::port::Call;

    type Replies = oneshot::Receiver<Attempt>;

    fn submit(exchange: &mut Exchange, ms: u64) -> Replies {
        let (answer, reply) = oneshot::channel();
        let since = Instant::now();
        let due = since + Duration::from_millis(ms);
        exchange.push(Submission { asking: Asking::new(&Call::Ping), since, due, answer });
        reply
    }

    fn frames(exchange: &mut Exchange) -> Vec<u8> {
        exchange.make_frames(Instant::now());
        let out = exchange.ends().0.to_vec();
        exchange.wrote(out.len());
        out
    }

    /// Puts in a reply with this number.
    fn reply(exchange: &mut Exchange, re: u64) {
        let mut frame = BytesMut::new();
        crate::protocol::codec::frame(format!("{{\"type\":\"pong\",\"re\":{re}}}").as_bytes(), &mut frame);
        exchange.ends().1.extend_from_slice(&frame);
    }

    fn take(exchange: &mut Exchange) -> io::Result<()> {
        exchange.take_replies(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_waits_is_one_write_up_to_the_bound() {
        let mut exchange = Exchange::new(3, 4);
        let mut replies: Vec<_> = (0..4).map(|_| submit(&mut exchange, 100)).collect();
        assert!(!exchange.has_room());
        let out = frames(&mut exchange);
        assert_eq!(out.len(), 3 * (LENGTH_BYTES + 23), "three are on their way");
        assert!(exchange.has_room());
        // In another order, and cut anywhere.
        reply(&mut exchange, 2);
        let whole = exchange.ends().1.split();
        for byte in whole {
            assert!(replies[1].try_recv().is_err(), "not before the last byte");
            exchange.ends().1.extend_from_slice(&[byte]);
            take(&mut exchange).unwrap();
        }
        assert!(replies[1].try_recv().unwrap().unwrap().ends_with(b"\"re\":2}"));
        assert!(frames(&mut exchange).ends_with(b"\"seq\":4}"), "there is room for the last");
        assert!(replies[0].try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_not_sent() {
        let mut exchange = Exchange::new(9, 9);
        drop(submit(&mut exchange, 100));
        let _kept = submit(&mut exchange, 100);
        assert!(frames(&mut exchange).ends_with(b"\"seq\":1}"));
        assert!(exchange.ends().0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_is_not_sent() {
        let mut exchange = Exchange::new(9, 9);
        let mut late = submit(&mut exchange, 0);
        assert!(frames(&mut exchange).is_empty());
        assert!(!late.try_recv().unwrap().unwrap_err().sent);
    }

    #[tokio::test(start_paused = true)]
    async fn each_ends_at_its_time_wherever_it_is() {
        let mut exchange = Exchange::new(1, 9);
        let mut sent = submit(&mut exchange, 50);
        let mut waits = submit(&mut exchange, 20);
        frames(&mut exchange);
        tokio::time::advance(Duration::from_millis(20)).await;
        exchange.look(Instant::now()).unwrap();
        let trouble = waits.try_recv().unwrap().unwrap_err();
        assert!(!trouble.sent && matches!(trouble.cause, Cause::Late(_)), "{trouble:?}");
        assert!(sent.try_recv().is_err(), "not yet");
        // Something was heard since it was sent, so the connection is good.
        reply(&mut exchange, 77);
        take(&mut exchange).unwrap();
        tokio::time::advance(Duration::from_millis(30)).await;
        exchange.look(Instant::now()).unwrap();
        assert!(sent.try_recv().unwrap().unwrap_err().sent);
        assert!(exchange.is_idle() && exchange.next_look().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_all_is_given_up() {
        let mut exchange = Exchange::new(9, 9);
        let (_first, mut second) = (submit(&mut exchange, 50), submit(&mut exchange, 80));
        frames(&mut exchange);
        tokio::time::advance(Duration::from_millis(60)).await;
        let error = Arc::new(exchange.look(Instant::now()).unwrap_err());
        exchange.lose(&error);
        let trouble = second.try_recv().unwrap().unwrap_err();
        assert!(trouble.sent && matches!(trouble.cause, Cause::Lost(_)), "{trouble:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_was_not_written_whole_was_not_sent() {
        let mut exchange = Exchange::new(2, 9);
        let mut replies: Vec<_> = (0..3).map(|_| submit(&mut exchange, 50)).collect();
        exchange.make_frames(Instant::now());
        let length = exchange.ends().0.len();
        exchange.wrote(length - 1);
        exchange.lose(&Arc::new(io::ErrorKind::ConnectionReset.into()));
        let sent: Vec<_> = replies.iter_mut().map(|reply| reply.try_recv().unwrap().unwrap_err().sent).collect();
        assert_eq!(sent, [true, false, false]);
        assert!(exchange.ends().0.is_empty(), "nothing of it goes to the next connection");
        let _next = submit(&mut exchange, 50);
        assert!(frames(&mut exchange).ends_with(b"\"seq\":3}"), "numbers are never used again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_out_of_step_is_an_error() {
        let refused = b"{\"type\":\"error\",\"res\":503,\"code\":\"unavailable\",\"msg\":\"full\"}";
        let mut frame = BytesMut::new();
        crate::protocol::codec::frame(refused, &mut frame);
        for (bytes, says) in
            [(&b"\0\0\0\0"[..], "0 bytes"), (b"HTTP/1.1 400", "no Primacy"), (&frame, "full (unavailable)")]
        {
            let mut exchange = Exchange::new(1, 1);
            exchange.ends().1.extend_from_slice(bytes);
            let told = take(&mut exchange).unwrap_err().to_string();
            assert!(told.contains(says), "{told}");
        }
    }
}
