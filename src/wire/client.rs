//! A client's connection: the socket around an [`Exchange`], with its time limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Service;
use super::connection::{End, FRAME_MS_MAX, refuse, too_late};
use super::exchange::Exchange;
use crate::clock::Alarm;
use crate::net::Stream;
use crate::observe::monitor::Monitor;
use crate::protocol::port::{Batch, Said, Tag};

/// How long a client's connection may have nothing to do, in ms: clients keep theirs, and it costs little.
pub const IDLE_MS_MAX: u64 = 600_000;

/// A client's connection.
pub(super) struct Client {
    stream: Stream,
    service: Arc<Service>,
    exchange: Exchange,
    answers: mpsc::Receiver<Vec<(Tag, Said)>>,
    sender: mpsc::Sender<Vec<(Tag, Said)>>,
    alarm: Alarm,
    /// When anything last happened.
    idle_since: Instant,
    /// Until when the client must have shown a token, where it must.
    unlocked_by: Instant,
    /// When the request that is coming in began.
    request_since: Instant,
    /// Why the connection is no good for anything but what is open.
    broken: Option<End>,
    monitor: Option<Monitor>,
}

/// What a connection woke up for.
enum Event {
    Stop,
    Answers(Vec<(Tag, Said)>),
    Read(std::io::Result<usize>),
    ReplicaStopped,
    Deadline,
    /// For the monitor.
    Shown(Vec<String>),
}

impl Client {
    pub(super) fn new(stream: Stream, service: Arc<Service>, exchange: Exchange) -> Client {
        // At most so many calls are open, and each answer is in one batch.
        let (sender, answers) = mpsc::channel(service.config.limits.pipeline.max(1));
        let (now, prove_wait) = (Instant::now(), Duration::from_millis(service.config.limits.prove_ms));
        Client {
            stream,
            service,
            exchange,
            answers,
            sender,
            alarm: Alarm::new(),
            idle_since: now,
            unlocked_by: now + prove_wait,
            request_since: now,
            broken: None,
            monitor: None,
        }
    }

    /// Serves the connection until the client has ended it and has all its replies.
    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> End {
        let mut stopping = false;
        loop {
            if !self.write_replies().await {
                return End::Lost;
            }
            // Only now: replies make room for calls.
            self.take_all().await;
            if !self.exchange.out().is_empty() {
                continue;
            }
            if (self.exchange.has_ended() || stopping) && !self.exchange.is_waiting() {
                break;
            }
            match self.next_event(&mut stop, stopping).await {
                Event::Stop => stopping = true,
                Event::Answers(said) => self.exchange.hear(said),
                Event::Read(Ok(0)) => self.exchange.end_input(),
                Event::Read(Ok(_)) => {}
                Event::Read(Err(_)) => return End::Lost,
                Event::ReplicaStopped => self.hear_the_last(),
                Event::Shown(events) => self.exchange.show(&events),
                Event::Deadline if !self.exchange.is_partial() && self.monitor.is_some() => {
                    self.exchange.show(&self.monitor.iter().map(Monitor::quiet).collect::<Vec<_>>());
                }
                Event::Deadline => {
                    self.exchange.end_late(&too_late());
                    self.broken = Some(End::Late);
                }
            }
            self.idle_since = Instant::now();
        }
        refuse(&mut self.stream, b"").await;
        self.broken.unwrap_or(End::Finished)
    }

    async fn next_event(&mut self, stop: &mut watch::Receiver<bool>, stopping: bool) -> Event {
        let wants_input = self.exchange.wants_input() && !stopping;
        let deadline = self.deadline(wants_input);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !stopping => Event::Stop,
            Some(said) = self.answers.recv(), if self.exchange.is_waiting() => Event::Answers(said),
            events = next_events(&mut self.monitor) => Event::Shown(events),
            read = self.stream.read_buf(self.exchange.room()), if wants_input => Event::Read(read),
            () = self.service.port.stopped(), if self.exchange.is_waiting() => Event::ReplicaStopped,
            () = self.alarm.at(deadline) => Event::Deadline,
        }
    }

    /// A request's time runs from its first byte. While the replica has something to say, a client may be silent.
    fn deadline(&self, wants_input: bool) -> Option<Instant> {
        if self.exchange.is_locked() {
            return Some(self.unlocked_by);
        }
        if wants_input && self.exchange.is_partial() {
            return Some(self.request_since + Duration::from_millis(FRAME_MS_MAX));
        }
        (!self.exchange.is_waiting()).then(|| self.idle_since + Duration::from_millis(IDLE_MS_MAX))
    }

    /// Takes the requests that are complete and hands them to the replica, all of one read together. While the replica's
    /// mailbox is full this waits, and so does the client.
    async fn take_all(&mut self) {
        let taken = self.exchange.taken();
        let arrived = self.service.port.clock().now();
        if !self.exchange.take_all(arrived) {
            self.broken = Some(End::Refused);
        }
        if self.exchange.taken() > taken || !self.exchange.is_partial() {
            self.request_since = Instant::now();
        }
        if let Some(watch) = self.exchange.watch() {
            let begun = self.service.monitor(watch);
            self.exchange.begin_monitor(begun.as_ref().map(|_| self.service.name()));
            self.monitor = begun.ok();
        }
        let calls = self.exchange.calls();
        if calls.is_empty() {
            return;
        }
        let tags: Vec<Tag> = calls.iter().map(|(tag, _)| *tag).collect();
        let batch = Batch { arrived, calls, answers: self.sender.clone() };
        let patience = Duration::from_millis(self.service.config.request_timeout_ms);
        match timeout(patience, self.service.port.send(batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => {
                self.exchange.refuse(tags, &stopped.to_string());
                self.hear_the_last();
            }
            Err(_) => self.exchange.refuse(tags, "the replica is overloaded; try again later or at another one"),
        }
    }

    /// The replica's loop has ended: what it said before counts, and it will say no more.
    fn hear_the_last(&mut self) {
        while let Ok(said) = self.answers.try_recv() {
            self.exchange.hear(said);
        }
        self.exchange.end_with_what_was_said("the replica has stopped");
    }

    /// One write for all replies that are ready; false where the client is gone or too slow.
    async fn write_replies(&mut self) -> bool {
        let patience = Duration::from_millis(self.service.config.limits.write_ms);
        loop {
            self.exchange.reply(self.service.port.clock().now(), &self.service.names);
            if self.exchange.out().is_empty() {
                return true;
            }
            let written = timeout(patience, self.stream.write_all(self.exchange.out())).await;
            if !matches!(written, Ok(Ok(()))) {
                return false;
            }
            self.exchange.written();
        }
    }
}

/// Waits for events, forever where nobody wants any.
async fn next_events(monitor: &mut Option<Monitor>) -> Vec<String> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}
