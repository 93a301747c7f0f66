//! The persistent connection to one replica: a task that dials when there is something to send, and again when it is lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Cause;
use super::exchange::{Attempt, Exchange, Submission, Trouble};
use super::options::{Options, Token};
use super::request::Asking;
use crate::backoff::Backoff;
use crate::clock::Alarm;
use crate::config::{Address, Authority};
use crate::net::{Stream, TcpStream, tls};

/// Requests between their senders and the task; it takes them at once, so that few are ever there.
const HANDED_MAX: usize = 256;

/// A way to the task; clones share it. It ends when all are dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    name: String,
    requests: mpsc::Sender<Submission>,
    opened: Arc<AtomicU64>,
}

impl Connection {
    /// Begins the task in the runtime that this is called in.
    pub(super) fn start(address: &Address, options: &Options, seed: u64) -> Connection {
        let (sender, requests) = mpsc::channel(HANDED_MAX);
        let opened = Arc::new(AtomicU64::new(0));
        let task = Task {
            address: address.clone(),
            connect_timeout: options.connect_timeout,
            token: options.token.clone(),
            authority: options.authority.clone(),
            requests,
            exchange: Exchange::new(options.in_flight, options.queue),
            alarm: Alarm::new(),
            backoff: Backoff::new(seed),
            not_before: Instant::now(),
            answered: false,
            opened: Arc::clone(&opened),
        };
        tokio::spawn(task.run());
        Connection { name: address.to_string(), requests: sender, opened }
    }

    /// The replica's address.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How often it was opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Sends a request, and waits for its reply until `due`.
    pub(super) async fn ask(&self, asking: Asking, due: Instant) -> Attempt {
        let (answer, reply) = oneshot::channel();
        let since = Instant::now();
        let submission = Submission { asking, since, due, answer };
        let handed = match self.requests.try_send(submission) {
            Ok(()) => Ok(()),
            // The timer is only needed here.
            Err(TrySendError::Full(submission)) => match timeout_at(due, self.requests.reserve()).await {
                Ok(Ok(place)) => {
                    place.send(submission);
                    Ok(())
                }
                Ok(Err(_)) => Err(ended()),
                Err(_) => Err(Cause::Full(due.saturating_duration_since(since))),
            },
            Err(TrySendError::Closed(_)) => Err(ended()),
        };
        match handed {
            Ok(()) => reply.await.unwrap_or_else(|_| Err(Trouble { sent: true, cause: ended() })),
            Err(cause) => Err(Trouble { sent: false, cause }),
        }
    }
}

/// The runtime that the task lived in is gone.
fn ended() -> Cause {
    Cause::Lost(Arc::new(io::Error::other("the client's runtime has ended")))
}

/// What the task has.
#[derive(Debug)]
struct Task {
    address: Address,
    connect_timeout: Duration,
    /// What each connection begins with.
    token: Option<Token>,
    /// Who must have signed the replica's certificate; none where it speaks no TLS.
    authority: Option<Authority>,
    requests: mpsc::Receiver<Submission>,
    exchange: Exchange,
    alarm: Alarm,
    backoff: Backoff,
    /// When the replica may be dialed again; until then it counts as unreachable.
    not_before: Instant,
    /// Whether anything was answered on this connection.
    answered: bool,
    opened: Arc<AtomicU64>,
}

/// What the task woke up for.
enum Event {
    Request(Option<Submission>),
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Look,
}

impl Task {
    async fn run(mut self) {
        let mut last = Arc::new(io::Error::from(io::ErrorKind::NotConnected));
        while let Some(first) = self.requests.recv().await {
            self.exchange.push(first);
            self.take_all();
            if Instant::now() < self.not_before {
                self.exchange.refuse(&last);
                continue;
            }
            self.answered = false;
            let error = match self.dial().await {
                Ok(stream) => match self.serve(stream).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            // Who answered before is worth dialing again at once.
            if !self.answered {
                self.not_before = Instant::now() + self.backoff.next_wait();
            }
            last = Arc::new(error);
            self.exchange.lose(&last);
        }
    }

    /// Takes what was handed over, as much as has room.
    fn take_all(&mut self) {
        while self.exchange.has_room()
            && let Ok(submission) = self.requests.try_recv()
        {
            self.exchange.push(submission);
        }
    }

    /// Dials. Requests are taken meanwhile, and end where their time does.
    async fn dial(&mut self) -> io::Result<Stream> {
        let Task { address, authority, connect_timeout, requests, exchange, alarm, .. } = self;
        let dial = timeout(*connect_timeout, connect(address, authority.as_ref()));
        tokio::pin!(dial);
        let stream = loop {
            let (has_room, look) = (exchange.has_room(), exchange.next_look());
            tokio::select! {
                biased;
                dialed = &mut dial => break dialed.map_err(|_| io::ErrorKind::TimedOut)??,
                submission = requests.recv(), if has_room => match submission {
                    Some(submission) => exchange.push(submission),
                    None => return Err(io::ErrorKind::NotConnected.into()),
                },
                () = alarm.at(look) => exchange.look(Instant::now())?,
            }
        };
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    /// Serves until nobody can ask any more, or the connection is lost.
    async fn serve(&mut self, stream: Stream) -> io::Result<()> {
        let mut open = true;
        // Reading and writing at the same time: a replica that waits for its replies to be taken reads no further.
        let (mut reader, mut writer) = tokio::io::split(stream);
        self.exchange.begin(self.token.as_ref().map(Token::as_str));
        while open || !self.exchange.is_idle() {
            if open {
                self.take_all();
            }
            self.exchange.make_frames(Instant::now());
            match self.next_event(&mut reader, &mut writer, open).await {
                Event::Request(Some(submission)) => self.exchange.push(submission),
                Event::Request(None) => open = false,
                Event::Read(read) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.exchange.take_replies(Instant::now())?;
                    if !self.answered {
                        self.answered = true;
                        self.backoff.reset();
                    }
                }
                Event::Written(written) => self.exchange.wrote(written?),
                Event::Look => self.exchange.look(Instant::now())?,
            }
        }
        Ok(())
    }

    async fn next_event(&mut self, reader: &mut ReadHalf<Stream>, writer: &mut WriteHalf<Stream>, open: bool) -> Event {
        let has_room = self.exchange.has_room();
        let look = self.exchange.next_look();
        let Task { exchange, requests, alarm, .. } = self;
        let (out, room) = exchange.ends();
        tokio::select! {
            biased;
            written = writer.write(out), if !out.is_empty() => Event::Written(written),
            read = reader.read_buf(room) => Event::Read(read),
            submission = requests.recv(), if open && has_room => Event::Request(submission),
            () = alarm.at(look) => Event::Look,
        }
    }
}

/// Opens a connection, by TLS where there is an authority for it.
async fn connect(address: &Address, authority: Option<&Authority>) -> io::Result<Stream> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    match authority {
        Some(authority) => tls::connect(authority, address.host(), Box::new(stream)).await,
        None => Ok(Box::new(stream)),
    }
}
