//! `primacy call`: sends frames to a replica, and prints what comes back.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use primacy::config::{Address, Authority, SecretFileError, TlsError, Tokens, read_tokens};
use primacy::net::{Stream, TcpStream, tls};
use primacy::protocol::client;
use primacy::protocol::codec::{self, FRAME_BYTES_MAX, LENGTH_BYTES};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::signals;

/// Requests that were read from stdin and not sent: it is read no faster than the replica takes them.
const READ_AHEAD: usize = 16;

/// Bytes in one line of hex.
const HEX_BYTES: usize = 32;

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Whom.
    pub(super) address: Address,
    /// The frame's JSON; none reads one a line from stdin.
    pub(super) frame: Option<String>,
    /// Whether the bytes are shown, both ways.
    pub(super) hex: bool,
    /// How long a connection, and the next reply, may take.
    pub(super) patience: Duration,
    /// The token to show first.
    pub(super) token: Option<String>,
    /// Who must have signed the replica's certificate; none where it speaks no TLS.
    pub(super) authority: Option<Authority>,
}

/// The token that a call shows: the first one of a file.
pub(super) fn token_in(path: Option<&PathBuf>) -> Result<Option<String>, CallError> {
    let read = |path: &PathBuf| match read_tokens(path) {
        Ok(tokens) => Ok(Tokens::first(&tokens).to_owned()),
        Err(source) => Err(CallError::TokenFile { path: path.clone(), source }),
    };
    path.map(read).transpose()
}

/// Whom a call believes: those of a file.
pub(super) fn authority_in(path: Option<&PathBuf>) -> Result<Option<Authority>, CallError> {
    let failed = |path: &PathBuf, error| CallError::AuthorityFile { path: path.clone(), source: Box::new(error) };
    path.map(|path| Authority::read(path).map_err(|error| failed(path, error))).transpose()
}

/// Why a call did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{address} can't be reached: {source}; start the replica, or write the address of one that runs")]
    Unreachable { address: Address, source: io::Error },
    #[error("nothing was sent to {address}: {source}")]
    NoTls { address: Address, source: io::Error },
    #[error("{address} speaks no frames: {source}; write a replica's address, not the port of its HTTP service")]
    NoFrames { address: Address, source: io::Error },
    #[error("the connection to {address} was lost: {source}; what has no reply may have been done")]
    Lost { address: Address, source: io::Error },
    #[error("{address} closed the connection; what has no reply may have been done")]
    Closed { address: Address },
    #[error("no reply from {address} within {} ms; the request may still be done", patience.as_millis())]
    Late { address: Address, patience: Duration },
    #[error("a frame is 1 to {FRAME_BYTES_MAX} bytes, and this one has {0}")]
    Length(usize),
    #[error("cannot read standard input: {0}; give one JSON object a line, in UTF-8")]
    Stdin(#[source] io::Error),
    #[error("cannot write to standard output: {0}; give it a terminal or file that can be written")]
    Stdout(#[source] io::Error),
    #[error("{address} does not take the token: {reply}")]
    Token { address: Address, reply: String },
    #[error("--token-file: {} {source}", path.display())]
    TokenFile { path: PathBuf, source: SecretFileError },
    #[error("--ca: {} {source}", path.display())]
    AuthorityFile { path: PathBuf, source: Box<TlsError> },
    #[error("{errors} of {replies} replies were errors")]
    Errors { errors: u64, replies: u64 },
    #[error("a monitor has no end, so that it can't be counted; leave --count out")]
    Endless,
    #[error("the replica refuses: {0}")]
    Refused(String),
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

/// A connection on which frames are sent, and shown.
pub(super) struct Line {
    call: Call,
    sink: SplitSink<Framed<Stream, LengthDelimitedCodec>, Bytes>,
    stream: SplitStream<Framed<Stream, LengthDelimitedCodec>>,
}

/// What a reply is, by its `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Error,
    /// A monitor's beginning: events follow without end.
    Monitoring,
    /// One of them.
    Event,
}

impl Kind {
    pub(super) fn of(json: &[u8]) -> Kind {
        match codec::word_of(json).as_deref() {
            Ok("error") => Kind::Error,
            Ok("monitoring") => Kind::Monitoring,
            Ok("event") => Kind::Event,
            _ => Kind::Answer,
        }
    }
}

impl Line {
    pub(super) async fn open(call: &Call) -> Result<Line, CallError> {
        let address = &call.address;
        let dial = timeout(call.patience, TcpStream::connect((address.host(), address.port())));
        let dialed = dial.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = dialed.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|source| CallError::Unreachable { address: address.clone(), source })?;
        let stream = call.secured(Box::new(stream)).await?;
        let (sink, stream) = Framed::new(stream, codec::length_delimited()).split();
        let mut line = Line { call: call.clone(), sink, stream };
        if let Some(token) = &call.token {
            line.show(token).await?;
        }
        Ok(line)
    }

    /// Shows a token, and waits until it is accepted. It is not printed, nor is its reply.
    async fn show(&mut self, token: &str) -> Result<(), CallError> {
        let Line { call, sink, stream } = self;
        let hidden = Call { hex: false, ..call.clone() };
        send(&hidden, sink, client::auth(token).into()).await?;
        let reply = timeout(call.patience, stream.next()).await.map_err(|_| call.late())?;
        let json = hidden.received(reply)?;
        match Kind::of(&json) {
            Kind::Error => {
                let (address, reply) = (call.address.clone(), String::from_utf8_lossy(&json).into_owned());
                Err(CallError::Token { address, reply })
            }
            _ => Ok(()),
        }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, json: Bytes) -> Result<(), CallError> {
        send(&self.call, &mut self.sink, json).await
    }

    /// Waits for a frame, as long as it takes. May be dropped and called again.
    pub(super) async fn receive(&mut self) -> Result<BytesMut, CallError> {
        let reply = self.stream.next().await;
        self.call.received(reply)
    }

    /// Sends a frame and waits for its reply, and says what it was.
    pub(super) async fn ask(&mut self, json: &Bytes) -> Result<Kind, CallError> {
        self.send(json.clone()).await?;
        let patience = self.call.patience;
        let reply = timeout(patience, self.receive()).await.map_err(|_| self.call.late())?;
        Ok(Kind::of(&reply?))
    }

    /// Waits for the reply to a monitor.
    pub(super) async fn first_reply(&mut self) -> Result<(), CallError> {
        let patience = self.call.patience;
        let json = timeout(patience, self.receive()).await.map_err(|_| self.call.late())??;
        match Kind::of(&json) {
            Kind::Error => Err(CallError::Refused(String::from_utf8_lossy(&json).into_owned())),
            _ => Ok(()),
        }
    }

    /// Sends each request as it comes and prints each reply as it comes, until all have theirs. Where one is a monitor,
    /// that is when its connection ends, or the command is interrupted.
    async fn converse(mut self, mut requests: mpsc::Receiver<io::Result<String>>) -> Result<(), CallError> {
        let interrupt = signals::interrupt().map_err(CallError::Start)?;
        tokio::pin!(interrupt);
        let Line { call, sink, stream } = &mut self;
        let sent = std::cell::Cell::new(0_u64);
        // Replies are taken while a request is being sent: a replica whose replies nobody takes reads no further.
        let sending = async {
            while let Some(request) = requests.recv().await {
                send(call, sink, request.map_err(CallError::Stdin)?.into()).await?;
                sent.set(sent.get() + 1);
            }
            Ok(())
        };
        tokio::pin!(sending);
        let (mut tally, mut all_sent, mut since) = (Tally::default(), false, Instant::now());
        while !all_sent || tally.monitors || tally.replies < sent.get() {
            let waits = !tally.monitors && tally.replies < sent.get();
            tokio::select! {
                () = &mut interrupt => return Ok(()),
                result = &mut sending, if !all_sent => {
                    result?;
                    all_sent = true;
                }
                reply = stream.next() => {
                    let json = call.received(reply)?;
                    print(&json)?;
                    tally.count(Kind::of(&json));
                }
                () = sleep_until(since + call.patience), if waits => return Err(call.late()),
            }
            since = Instant::now();
        }
        tally.end()
    }
}

/// What came back.
#[derive(Debug, Default)]
struct Tally {
    replies: u64,
    errors: u64,
    monitors: bool,
}

impl Tally {
    fn count(&mut self, kind: Kind) {
        self.replies += u64::from(kind != Kind::Event);
        self.errors += u64::from(kind == Kind::Error);
        self.monitors |= kind == Kind::Monitoring;
    }

    fn end(&self) -> Result<(), CallError> {
        match *self {
            Tally { errors: 0, .. } => Ok(()),
            Tally { errors, replies, .. } => Err(CallError::Errors { errors, replies }),
        }
    }
}

impl Call {
    /// The same connection, encrypted where there is an authority for it.
    async fn secured(&self, stream: Stream) -> Result<Stream, CallError> {
        let Some(authority) = &self.authority else { return Ok(stream) };
        let handshake = timeout(self.patience, tls::connect(authority, self.address.host(), stream));
        let secured = handshake.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        secured.map_err(|source| CallError::NoTls { address: self.address.clone(), source })
    }

    fn late(&self) -> CallError {
        CallError::Late { address: self.address.clone(), patience: self.patience }
    }

    fn received(&self, reply: Option<io::Result<BytesMut>>) -> Result<BytesMut, CallError> {
        let address = || self.address.clone();
        let json = match reply {
            Some(Ok(json)) => json,
            None => return Err(CallError::Closed { address: address() }),
            Some(Err(source)) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(CallError::NoFrames { address: address(), source });
            }
            Some(Err(source)) => return Err(CallError::Lost { address: address(), source }),
        };
        self.show("<-", &json)?;
        Ok(json)
    }

    /// The bytes of a frame in hex, where they are asked for.
    fn show(&self, way: &str, json: &[u8]) -> Result<(), CallError> {
        if !self.hex {
            return Ok(());
        }
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let frame = [&length.to_be_bytes()[..LENGTH_BYTES], json].concat();
        print(hex(way, &frame).as_bytes())
    }
}

async fn send(
    call: &Call,
    sink: &mut SplitSink<Framed<Stream, LengthDelimitedCodec>, Bytes>,
    json: Bytes,
) -> Result<(), CallError> {
    if json.is_empty() || json.len() > FRAME_BYTES_MAX {
        return Err(CallError::Length(json.len()));
    }
    call.show("->", &json)?;
    sink.send(json).await.map_err(|source| CallError::Lost { address: call.address.clone(), source })
}

/// Bytes in hex, [`HEX_BYTES`] a line, without the last newline; `way` stands before the first line.
fn hex(way: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4);
    for (place, line) in bytes.chunks(HEX_BYTES).enumerate() {
        text.push_str(if place == 0 { way } else { "\n  " });
        for byte in line {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(text, " {byte:02x}");
        }
    }
    text
}

/// A line on stdout.
pub(super) fn print(line: &[u8]) -> Result<(), CallError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line).and_then(|()| stdout.write_all(b"\n")).map_err(CallError::Stdout)
}

/// Sends the call's frame, or those of stdin, and prints the replies.
pub(super) async fn call(call: &Call) -> Result<(), CallError> {
    let (requests, receiver) = mpsc::channel(READ_AHEAD);
    let line = Line::open(call).await?;
    match &call.frame {
        Some(frame) => requests.try_send(Ok(frame.clone())).expect("it is the first"),
        None => read_stdin(requests.clone()),
    }
    drop(requests);
    line.converse(receiver).await
}

/// Reads stdin in a thread of its own, which ends with it or with the process: no runtime can interrupt a read.
fn read_stdin(requests: mpsc::Sender<io::Result<String>>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let wanted = match &line {
                Ok(line) => !line.trim().is_empty(),
                Err(_) => true,
            };
            if wanted && requests.blocking_send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_protocol_md_shows_them() {
        let frame = [&[0, 0, 0, 0x1e][..], b"{\"type\":\"ack\",\"epoch\":1,\"n\":2}"].concat();
        assert_eq!(
            hex("->", &frame),
            "-> 00 00 00 1e 7b 22 74 79 70 65 22 3a 22 61 63 6b 22 2c 22 65 70 6f 63 68 22 3a 31 2c 22 6e 22 3a\n   32 7d"
        );
    }

    #[test]
    fn events_are_no_replies() {
        let mut tally = Tally::default();
        for json in [
            &br#"{"type":"monitoring","re":1}"#[..],
            br#"{"type":"event","re":1,"event":"view"}"#,
            br#"{"type":"error","res":400}"#,
        ] {
            tally.count(Kind::of(json));
        }
        assert!(tally.monitors);
        assert_eq!(tally.end().unwrap_err().to_string(), "1 of 2 replies were errors");
    }
}
