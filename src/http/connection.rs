//! One client's connection: its socket, its deadlines, its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Service;
use super::deadline::Deadline;
use super::exchange::Exchange;
use super::listener::stopped;
use super::reader::Phase;
use super::refusal::Refusal;
use crate::clock::Moment;
use crate::config::Limits;
use crate::net::TcpStream;
use crate::protocol::port::{Batch, Call, Said, Tag};
use crate::protocol::request::Code;

/// How long after its own deadlines the replica may take to answer, in ms. Only a replica that is stuck or has ended
/// takes longer.
const ANSWER_GRACE_MS: u64 = 5_000;

/// How long a connection is read further after its last answer, in ms, and how many bytes: closing with unread bytes
/// resets it, and the client might lose the answer (RFC 9112 section 9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All was answered.
    Finished,
    /// Nothing came for too long.
    Idle,
    /// The client reset it, or did not read its answer in time.
    Lost,
    /// The replica could not go on with a list.
    Broken,
}

struct Connection {
    stream: TcpStream,
    service: Arc<Service>,
    exchange: Exchange,
    answers: mpsc::Receiver<Vec<(Tag, Said)>>,
    sender: mpsc::Sender<Vec<(Tag, Said)>>,
    deadline: Deadline,
    /// What is waited for from the client, and since when.
    waiting: (bool, (Phase, u64)),
    since: Moment,
    /// When the replica must have answered.
    due: Moment,
}

/// Serves a connection until it ends.
pub(crate) async fn run(stream: TcpStream, service: Arc<Service>, number: u64, stop: watch::Receiver<bool>) -> End {
    let limits = &service.config.limits;
    // At most so many calls are open, and each answer is in one batch.
    let (sender, answers) = mpsc::channel(limits.pipeline.max(1));
    let deadline = Deadline::new(Instant::now() + Duration::from_millis(limits.idle_ms));
    let connection = Connection {
        exchange: Exchange::new(service.clone(), number),
        since: service.port.clock().now(),
        due: Moment::NEVER,
        waiting: (true, (Phase::Idle, 0)),
        stream,
        service,
        answers,
        sender,
        deadline,
    };
    connection.serve(stop).await
}

impl Connection {
    async fn serve(mut self, stop: watch::Receiver<bool>) -> End {
        let clock = self.service.port.clock();
        let mut stop = pin!(stopped(stop));
        let mut now = clock.now();
        loop {
            let calls = self.exchange.take_requests(now);
            self.send(calls, now).await;
            self.exchange.render(now);
            if !self.exchange.out.is_empty() {
                if !self.flush().await {
                    return End::Lost;
                }
                now = clock.now();
                let page = self.exchange.take_next_page();
                self.send(page.into_iter().collect(), now).await;
                continue;
            }
            if self.exchange.is_finished() {
                return close(&mut self.stream, self.exchange.broken).await;
            }
            self.set_deadline(now);
            let wants_input = self.exchange.wants_input();
            let mut end = None;
            tokio::select! {
                biased;
                () = &mut stop, if !self.exchange.stopping => self.exchange.stopping = true,
                answers = self.answers.recv(), if self.exchange.is_open() => self.take_answers(answers),
                read = self.stream.read_buf(self.exchange.buffer()), if wants_input => match read {
                    Ok(length) => self.exchange.ended |= length == 0,
                    Err(_) => end = Some(End::Lost),
                },
                () = self.deadline.passed() => end = self.pass_deadline(clock.now()),
            }
            if let Some(end) = end {
                return end;
            }
            now = clock.now();
        }
    }

    /// Hands calls to the replica. While its mailbox is full this waits, and so does the client.
    async fn send(&mut self, calls: Vec<(Tag, Call)>, arrived: Moment) {
        if calls.is_empty() {
            return;
        }
        let config = &self.service.config;
        let wait_ms = config.request_timeout_ms.max(config.read_wait_ms);
        self.due = arrived.after_ms(wait_ms + ANSWER_GRACE_MS);
        let batch = Batch { arrived, calls, answers: self.sender.clone() };
        match timeout(Duration::from_millis(wait_ms), self.service.port.send(batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => self.exchange.give_up(false, &stopped.to_string()),
            Err(_) => self.exchange.give_up(false, "the replica is overloaded; try again later or at another one"),
        }
    }

    /// Takes all answers that are there, so that they go out in one write.
    fn take_answers(&mut self, mut next: Option<Vec<(Tag, Said)>>) {
        while let Some(answers) = next {
            self.exchange.take_answers(answers);
            next = self.answers.try_recv().ok();
        }
    }

    /// Writes all output; false where the client is gone or too slow.
    async fn flush(&mut self) -> bool {
        let patience = Duration::from_millis(self.service.config.limits.write_ms);
        let written = timeout(patience, self.stream.write_all(&self.exchange.out)).await;
        self.exchange.clear_out();
        matches!(written, Ok(Ok(())))
    }

    fn set_deadline(&mut self, now: Moment) {
        let waiting = (self.exchange.wants_input(), self.exchange.phase());
        if waiting != self.waiting {
            self.waiting = waiting;
            self.since = now;
        }
        self.deadline.set(self.service.port.clock().instant(self.next_deadline()));
    }

    fn next_deadline(&self) -> Moment {
        let due = if self.exchange.is_open() { self.due } else { Moment::NEVER };
        match self.waiting {
            (true, (Phase::Idle, _)) if self.exchange.is_open() => due,
            (true, (phase, _)) => due.min(self.since.after_ms(patience_ms(phase, &self.service.config.limits))),
            (false, _) => due,
        }
    }

    /// Acts on the deadline that has passed.
    fn pass_deadline(&mut self, now: Moment) -> Option<End> {
        let limits = &self.service.config.limits;
        if now < self.next_deadline() {
            return None;
        }
        match self.waiting.1.0 {
            _ if self.exchange.is_open() && now >= self.due => {
                self.exchange.give_up(true, "the replica gave no answer in time");
            }
            Phase::Idle => return Some(End::Idle),
            Phase::Head => self.exchange.refuse(too_late("head", limits.head_ms), now),
            Phase::Body => self.exchange.refuse(too_late("body", limits.body_ms), now),
        }
        None
    }
}

fn too_late(part: &str, ms: u64) -> Refusal {
    Refusal::new(408, Code::Timeout, format!("the request's {part} was not complete after {ms} ms"))
}

/// How long a client may take over a part of its request, in ms.
fn patience_ms(phase: Phase, limits: &Limits) -> u64 {
    match phase {
        Phase::Idle => limits.idle_ms,
        Phase::Head => limits.head_ms,
        Phase::Body => limits.body_ms,
    }
}

/// Closes so that the last answer arrives: ends the output, and reads what the client still sends until it closes too,
/// within bounds. After an answer that broke off it is closed at once.
async fn close(stream: &mut TcpStream, broken: bool) -> End {
    if broken {
        return End::Broken;
    }
    if stream.shutdown().await.is_err() {
        return End::Lost;
    }
    let drain = async {
        let mut scratch = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
    };
    // Past the time the client loses what it did not read.
    let _ = timeout(Duration::from_millis(LINGER_MS), drain).await;
    End::Finished
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(mut stream: TcpStream, service: Arc<Service>, number: u64) -> End {
    let now = service.port.clock().now();
    let mut exchange = Exchange::new(service, number);
    let msg = "too many connections are open here; try again later or at another replica";
    exchange.refuse(Refusal::new(503, Code::Unavailable, msg), now);
    exchange.render(now);
    // A new connection's buffer takes one small answer at once, or the client is gone.
    match timeout(Duration::from_millis(LINGER_MS), stream.write_all(&exchange.out)).await {
        Ok(Ok(())) => close(&mut stream, false).await,
        _ => End::Lost,
    }
}
