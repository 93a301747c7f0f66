//! One client's connection: its socket, its deadlines, its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Service;
use super::exchange::Exchange;
use super::reader::Phase;
use crate::accept::{Place, Secured, Visitor, part, secure, stopped};
use crate::clock::{Alarm, Moment};
use crate::net::Stream;
use crate::protocol::port::{Batch, Call, Said, Tag};
use crate::protocol::request::Code;
use crate::rest::Refusal;

/// How long after its own deadlines the replica may take to answer, in ms. Only a replica that is stuck or has ended
/// takes longer.
const ANSWER_GRACE_MS: u64 = 5_000;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All was answered.
    Finished,
    /// Nothing came for too long.
    Idle,
    /// The client reset it, or did not read its answer in time.
    Lost,
    /// The replica could not go on with a list: it is closed at once, so that the list does not look complete.
    Broken,
}

struct Connection {
    stream: Stream,
    service: Arc<Service>,
    exchange: Exchange,
    answers: mpsc::Receiver<Vec<(Tag, Said)>>,
    sender: mpsc::Sender<Vec<(Tag, Said)>>,
    /// What is waited for from the client, none where nothing is, and since when.
    waiting: Option<(Phase, u64)>,
    since: Moment,
    /// When the replica must have answered.
    due: Moment,
    /// Given back at the end.
    _place: Option<Place>,
}

/// Serves a connection until it ends.
pub(crate) async fn run(visitor: Visitor, service: Arc<Service>, stop: watch::Receiver<bool>) {
    let Visitor { mut stream, number, place } = visitor;
    let too_many = "too many connections are open here; try again later or at another replica";
    let mut refusal = place.is_none().then(|| Refusal::new(503, Code::Unavailable, too_many));
    if let Some(tls) = &service.config.tls {
        stream = match secure(stream, tls, &service.config.limits, stop.clone()).await {
            Some(Secured::Tls(stream)) => stream,
            Some(Secured::Plain(stream, _)) => {
                refusal =
                    Some(Refusal::bad("this port speaks TLS only, and you do not; write https:// instead of http://"));
                stream
            }
            None => return,
        };
    }
    let now = service.port.clock().now();
    let mut exchange = Exchange::new(service.clone(), number);
    if let Some(refusal) = refusal {
        exchange.refuse(refusal, now);
    }
    // At most so many calls are open, and each answer is in one batch.
    let (sender, answers) = mpsc::channel(service.config.limits.pipeline.max(1));
    let (waiting, since, due) = (None, now, Moment::NEVER);
    let connection = Connection { stream, service, exchange, answers, sender, waiting, since, due, _place: place };
    let end = connection.serve(stop).await;
    tracing::debug!(number, ?end, "an HTTP connection ended");
}

impl Connection {
    async fn serve(mut self, stop: watch::Receiver<bool>) -> End {
        let clock = self.service.port.clock();
        let mut stop = pin!(stopped(stop));
        let mut alarm = Alarm::new();
        loop {
            let now = clock.now();
            let calls = self.exchange.take_calls(now);
            self.send(calls, now).await;
            self.exchange.render(now);
            if !self.exchange.out.is_empty() {
                match self.flush().await {
                    true => continue,
                    false => return End::Lost,
                }
            }
            if self.exchange.is_finished() {
                return match self.exchange.broken {
                    true => End::Broken,
                    false if part(&mut self.stream).await => End::Finished,
                    false => End::Lost,
                };
            }
            let deadline = clock.instant(self.deadline(now));
            let wants_input = self.exchange.wants_input();
            tokio::select! {
                biased;
                () = &mut stop, if !self.exchange.stopping => self.exchange.stopping = true,
                answers = self.answers.recv(), if self.exchange.is_open() => self.take_answers(answers),
                read = self.stream.read_buf(self.exchange.buffer()), if wants_input => match read {
                    Ok(length) => self.exchange.ended |= length == 0,
                    Err(_) => return End::Lost,
                },
                () = alarm.at(Some(deadline)) => if !self.give_up(clock.now()) {
                    return End::Idle;
                },
            }
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

    /// Until when the client or the replica may keep it waiting. The client's time for a part of its request begins
    /// when that part does.
    fn deadline(&mut self, now: Moment) -> Moment {
        let waiting = self.exchange.wants_input().then(|| self.exchange.phase());
        if waiting != self.waiting {
            (self.waiting, self.since) = (waiting, now);
        }
        let is_open = self.exchange.is_open();
        let due = if is_open { self.due } else { Moment::NEVER };
        match waiting {
            Some((phase, _)) if phase != Phase::Idle || !is_open => {
                due.min(self.since.after_ms(self.patience(phase).1))
            }
            _ => due,
        }
    }

    /// What the client is to send, and how long it may take, in ms.
    fn patience(&self, phase: Phase) -> (&'static str, u64) {
        let limits = &self.service.config.limits;
        match phase {
            Phase::Idle => ("next request", limits.idle_ms),
            Phase::Head => ("request's head", limits.head_ms),
            Phase::Body => ("request's body", limits.body_ms),
        }
    }

    /// Acts on the deadline that has passed; false where there is nothing to be said.
    fn give_up(&mut self, now: Moment) -> bool {
        if self.exchange.is_open() && now >= self.due {
            self.exchange.give_up(true, "the replica gave no answer in time");
            return true;
        }
        let Some((phase @ (Phase::Head | Phase::Body), _)) = self.waiting else { return false };
        let (part, ms) = self.patience(phase);
        self.exchange
            .refuse(Refusal::new(408, Code::Timeout, format!("the {part} was not complete after {ms} ms")), now);
        true
    }
}
