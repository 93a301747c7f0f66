//! One connection to a replica's address, until it ends or turns out to be a link.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Service;
use super::input::{Input, Speech};
use super::log::Logged;
use crate::clock::Moment;
use crate::link::LinkAcceptor;
use crate::net::TcpStream;
use crate::protocol::client::{self, Asked, NotUnderstood};
use crate::protocol::codec::{self, LENGTH_BYTES};
use crate::protocol::port::{Batch, Call, Said, Tag};
use crate::protocol::request::{Code, Failure, Request};

/// How long a request may take to come in whole, from its first byte, in ms. The first must begin in this time, too.
pub const FRAME_MS_MAX: u64 = 30_000;

/// How long a client's connection may have nothing to do, in ms: clients keep theirs, and it costs little.
pub const IDLE_MS_MAX: u64 = 600_000;

/// Room for one read from a socket, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Replies are written before more are made, past so many bytes.
const OUT_BYTES_KEPT: usize = 256 * 1024;

/// How long a connection is read further after its last reply, in ms: closing with unread bytes resets it, and the client
/// might lose the reply.
const LINGER_MS: u64 = 1_000;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All was answered.
    Finished,
    /// It spoke something else, or was out of step; it was told so.
    Refused,
    /// A request was not complete in time, or nothing came for too long.
    Late,
    /// The client reset it, or did not read its replies in time.
    Lost,
    /// It is a link, and no client.
    Link,
}

/// Serves a connection until it ends.
pub(super) async fn run(
    mut stream: TcpStream,
    service: Arc<Service>,
    links: LinkAcceptor,
    stop: watch::Receiver<bool>,
) -> End {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let first = timeout(Duration::from_millis(FRAME_MS_MAX), stream.read_buf(&mut buffer)).await;
    let Ok(Ok(1..)) = first else { return if first.is_err() { End::Late } else { End::Lost } };
    match Speech::of(buffer[0]) {
        Speech::Http => refuse(&mut stream, misdirected(&service.url).as_bytes()).await,
        Speech::Unknown(byte) => {
            let msg =
                format!("a connection begins with 0x00 (frames) or {{ (JSON lines), and this one with 0x{byte:02x}");
            let mut line = Vec::new();
            client::write_error(&mut line, None, &Failure::new(Code::BadFrame, msg));
            line.push(b'\n');
            refuse(&mut stream, &line).await
        }
        Speech::Lines => Client::new(stream, service, Input::new(true, buffer)).serve(stop).await,
        Speech::Frames => frames(stream, service, links, Input::new(false, buffer), stop).await,
    }
}

/// The first frame tells a link from a client.
async fn frames(
    mut stream: TcpStream,
    service: Arc<Service>,
    links: LinkAcceptor,
    mut input: Input,
    stop: watch::Receiver<bool>,
) -> End {
    let first = async {
        loop {
            match input.next() {
                Ok(None) => {}
                Ok(Some(json)) => return Some(Ok(json)),
                Err(failure) => return Some(Err(failure)),
            }
            if !matches!(stream.read_buf(input.buffer()).await, Ok(1..)) {
                return None;
            }
        }
    };
    let first = match timeout(Duration::from_millis(FRAME_MS_MAX), first).await {
        Ok(Some(first)) => first,
        Ok(None) => return End::Lost,
        Err(_) => {
            let late = frame_of(|out| client::write_error(out, None, &too_late()));
            refuse(&mut stream, &late).await;
            return End::Late;
        }
    };
    if let Ok(json) = &first
        && codec::word_of(json).is_ok_and(|word| word == "hello")
    {
        links.accept(stream, first.unwrap_or_default(), input.into_rest());
        return End::Link;
    }
    let mut client = Client::new(stream, service, input);
    client.take(first);
    client.serve(stop).await
}

fn misdirected(url: &str) -> String {
    let msg = format!("this is a replica's address, which speaks frames; HTTP is at {url}");
    let msg = serde_json::json!(msg);
    let body = format!("{{\"res\":421,\"code\":\"misdirected\",\"msg\":{msg}}}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn too_late() -> Failure {
    Failure::new(Code::Timeout, format!("the frame was not complete after {FRAME_MS_MAX} ms"))
}

/// Says why, and closes so that it arrives.
async fn refuse(stream: &mut TcpStream, text: &[u8]) -> End {
    let last_words = async {
        stream.write_all(text).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 4096];
        while stream.read(&mut scratch).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Past the time, or where the client is gone, it loses what it did not read.
    let _ = timeout(Duration::from_millis(LINGER_MS), last_words).await;
    End::Refused
}

/// A reply as a frame.
fn frame_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; LENGTH_BYTES];
    write(&mut out);
    let length = u32::try_from(out.len() - LENGTH_BYTES).expect("replies are bounded far below 4 GiB");
    out[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    out
}

/// A call that the replica has not answered.
#[derive(Debug)]
struct Open {
    seq: Option<u64>,
    timing: bool,
    arrived: Moment,
    writes: bool,
    logged: Option<Logged>,
}

/// A client's connection.
struct Client {
    stream: TcpStream,
    service: Arc<Service>,
    input: Input,
    lines: bool,
    out: Vec<u8>,
    last: Tag,
    open: HashMap<Tag, Open>,
    calls: Vec<(Tag, Call)>,
    answers: mpsc::Receiver<Vec<(Tag, Said)>>,
    sender: mpsc::Sender<Vec<(Tag, Said)>>,
    /// No more requests are read.
    ended: bool,
    /// The stream is out of step, or the client too slow: nothing that comes is of use.
    broken: Option<End>,
}

/// What a connection woke up for.
enum Event {
    Stop,
    Answers(Option<Vec<(Tag, Said)>>),
    Read(std::io::Result<usize>),
    Deadline,
}

impl Client {
    fn new(stream: TcpStream, service: Arc<Service>, input: Input) -> Client {
        // At most so many calls are open, and each answer is in one batch.
        let (sender, answers) = mpsc::channel(service.config.limits.pipeline.max(1));
        Client {
            lines: input.is_lines(),
            stream,
            service,
            input,
            out: Vec::new(),
            last: 0,
            open: HashMap::new(),
            calls: Vec::new(),
            answers,
            sender,
            ended: false,
            broken: None,
        }
    }

    async fn serve(mut self, mut stop: watch::Receiver<bool>) -> End {
        let mut stopping = false;
        let mut since = Instant::now();
        loop {
            self.take_all();
            self.hand_over().await;
            if !self.flush().await {
                return End::Lost;
            }
            if (self.ended || stopping) && self.open.is_empty() {
                break;
            }
            let deadline =
                since + Duration::from_millis(if self.input.is_partial() { FRAME_MS_MAX } else { IDLE_MS_MAX });
            let wants_input = !self.ended && !stopping && self.has_room();
            let event = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if !stopping => Event::Stop,
                answers = self.answers.recv(), if !self.open.is_empty() => Event::Answers(answers),
                read = self.stream.read_buf(self.input.buffer()), if wants_input => Event::Read(read),
                () = tokio::time::sleep_until(deadline), if wants_input => Event::Deadline,
            };
            match event {
                Event::Stop => stopping = true,
                Event::Answers(answers) => self.answer(answers),
                Event::Read(Ok(0)) => self.finish_input(),
                Event::Read(Ok(_)) => {
                    if !self.input.is_partial() {
                        since = Instant::now();
                    }
                }
                Event::Read(Err(_)) => return End::Lost,
                Event::Deadline => self.pass_deadline(),
            }
            // A request's time runs from its first byte; idle time from the last thing that happened.
            if !self.input.is_partial() || !self.open.is_empty() {
                since = Instant::now();
            }
        }
        refuse(&mut self.stream, b"").await;
        self.broken.unwrap_or(End::Finished)
    }

    fn has_room(&self) -> bool {
        self.open.len() < self.service.config.limits.pipeline.max(1)
    }

    /// Takes the requests that are complete, as many as may be open.
    fn take_all(&mut self) {
        while !self.ended && self.has_room() {
            match self.input.next() {
                Ok(None) => break,
                Ok(Some(json)) => self.take(Ok(json)),
                Err(failure) => self.take(Err(failure)),
            }
        }
    }

    /// Takes one request, or the end of all requests.
    fn take(&mut self, request: Result<BytesMut, Failure>) {
        match request.map(|json| client::parse(&json)) {
            Ok(Ok(asked)) => self.begin(asked),
            Ok(Err(NotUnderstood { seq, failure })) => self.reply(|out| client::write_error(out, seq, &failure)),
            Err(failure) => {
                self.reply(|out| client::write_error(out, None, &failure));
                (self.ended, self.broken) = (true, Some(End::Refused));
            }
        }
    }

    fn begin(&mut self, asked: Asked) {
        let Asked { seq, timing, call } = asked;
        self.last += 1;
        let arrived = self.service.port.clock().now();
        let writes = matches!(call, Call::Note(Request::Write(_)));
        let logged = Logged::request(&call);
        self.open.insert(self.last, Open { seq, timing, arrived, writes, logged });
        self.calls.push((self.last, call));
    }

    fn finish_input(&mut self) {
        if let Some(last) = self.input.finish() {
            self.take(Ok(last));
        }
        self.ended = true;
    }

    fn pass_deadline(&mut self) {
        if self.input.is_partial() {
            self.reply(|out| client::write_error(out, None, &too_late()));
        }
        (self.ended, self.broken) = (true, Some(End::Late));
    }

    /// Hands all calls of one read to the replica. While its mailbox is full this waits, and so does the client.
    async fn hand_over(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let calls = std::mem::take(&mut self.calls);
        let arrived = self.service.port.clock().now();
        let batch = Batch { arrived, calls, answers: self.sender.clone() };
        let patience = Duration::from_millis(self.service.config.request_timeout_ms);
        match timeout(patience, self.service.port.send(batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => self.give_up(&stopped.to_string(), false),
            Err(_) => self.give_up("the replica is overloaded; try again later or at another one", false),
        }
    }

    /// Answers every open call without the replica.
    fn give_up(&mut self, why: &str, handed_over: bool) {
        for (_, open) in std::mem::take(&mut self.open) {
            let code = if handed_over && open.writes { Code::Unknown } else { Code::Unavailable };
            self.reply(|out| client::write_error(out, open.seq, &Failure::new(code, why)));
        }
        self.ended = true;
    }

    /// Makes replies of what was said, all that is there.
    fn answer(&mut self, answers: Option<Vec<(Tag, Said)>>) {
        if answers.is_none() {
            return self.give_up("the replica has stopped", true);
        }
        let mut next = answers;
        while let Some(answers) = next {
            answers.into_iter().for_each(|(tag, said)| self.answer_one(tag, &said));
            next = if self.out.len() < OUT_BYTES_KEPT { self.answers.try_recv().ok() } else { None };
        }
    }

    fn answer_one(&mut self, tag: Tag, said: &Said) {
        let Some(open) = self.open.remove(&tag) else { return };
        let now = self.service.port.clock().now();
        if let Some(logged) = &open.logged {
            logged.reply(said, open.arrived, now);
        }
        let total_ns = open.timing.then(|| now.nanos_since(open.arrived));
        let service = self.service.clone();
        self.reply(|out| client::write_reply(out, open.seq, said, &service.names, total_ns));
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.lines {
            write(&mut self.out);
            return self.out.push(b'\n');
        }
        let at = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        write(&mut self.out);
        let length = u32::try_from(self.out.len() - at - LENGTH_BYTES).expect("replies are bounded far below 4 GiB");
        self.out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// One write for all replies that are ready; false where the client is gone or too slow.
    async fn flush(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let patience = Duration::from_millis(self.service.config.limits.write_ms);
        let written = timeout(patience, self.stream.write_all(&self.out)).await;
        self.out.clear();
        self.out.shrink_to(OUT_BYTES_KEPT);
        matches!(written, Ok(Ok(())))
    }
}
