//! The dialer of one link: connects, says hello, has the connection carry frames, and begins again when it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::Decoder;

use super::carry::{Carrier, never_sent};
use super::chunks::Chunks;
use super::hello::{self, Refusal};
use super::outgoing::Outgoing;
use super::proof::{Hellos, Role};
use super::{FLUSH_WAIT, HELLO_WAIT, LinkEvent, PROGRESS_WAIT, Reason, Shared, Way, lock, next_link, told};
use crate::backoff::Backoff;
use crate::net::{Stream, tls};
use crate::protocol::codec;
use crate::protocol::message::{Hello, LinkKind, Position};

/// How long a connection may take to come about: a lost SYN is sent again after 1 s (RFC 6298), so twice is enough.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// A replica that is restarted is back sooner; only who stays away longer is worth a line.
const AWAY_TOLD_AFTER: Duration = Duration::from_secs(1);

/// Dials one link for as long as the replica runs.
#[derive(Debug)]
pub(super) struct Dialer {
    shared: Arc<Shared>,
    /// Which of `shared.outgoing`.
    place: usize,
    backoff: Backoff,
    stop: watch::Receiver<bool>,
    /// The last refusal, and whether it was logged: the same one comes twice a second. The first of a kind is passed over,
    /// since who was restarted is refused once by those who do not know it yet.
    refused: Option<(String, bool)>,
    /// Since when no dial led to a greeted connection, and whether that was logged.
    away: Option<(Instant, bool)>,
}

/// A connection to a peer.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// What has been read and not understood yet.
    input: BytesMut,
    /// What is to be written before anything else.
    output: Chunks,
}

impl Dialer {
    pub(super) fn new(shared: Arc<Shared>, place: usize, seed: u64) -> Dialer {
        let stop = shared.stop.subscribe();
        Dialer { shared, place, backoff: Backoff::new(seed), stop, refused: None, away: None }
    }

    fn link(&self) -> &Outgoing {
        &self.shared.outgoing[self.place]
    }

    /// Dials until the links stop.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        loop {
            let ended = tokio::select! {
                biased;
                () = told(&mut stop) => Reason::Stopped,
                greeted = self.connect() => match greeted {
                    Err(reason) => reason,
                    Ok(connection) => self.use_connection(connection).await,
                },
            };
            self.log(&ended);
            let wait = match ended {
                Reason::Stopped => return,
                Reason::PerFrame => continue,
                _ => self.backoff.next_wait(),
            };
            tokio::select! {
                biased;
                () = told(&mut stop) => return,
                () = self.link().nudge.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn log(&mut self, ended: &Reason) {
        let link = self.link();
        let (peer, kind) = (self.shared.name(link.peer).to_owned(), link.kind.word());
        let refusal = match ended {
            Reason::Refused(_) | Reason::RefusedByPeer(_) => ended.to_string(),
            _ => {
                tracing::debug!(me = self.shared.name(self.shared.me), peer, kind, reason = %ended, "link ended");
                self.log_away(ended);
                return;
            }
        };
        let told = match &self.refused {
            Some((before, told)) if *before == refusal => *told,
            _ => {
                self.refused = Some((refusal, false));
                return;
            }
        };
        if !told {
            tracing::warn!(me = self.shared.name(self.shared.me), peer, kind, reason = refusal, "link refused");
            self.refused = Some((refusal, true));
        }
    }

    /// Both links to a peer that is away fail alike: the control link says so, once it has lasted.
    fn log_away(&mut self, reason: &Reason) {
        let link = self.link();
        if link.kind != LinkKind::Control || *reason == Reason::Stopped {
            return;
        }
        let peer = link.peer;
        let (since, told) = *self.away.get_or_insert((Instant::now(), false));
        if !told && since.elapsed() >= AWAY_TOLD_AFTER {
            let (me, peer) = (self.shared.name(self.shared.me), self.shared.name(peer));
            tracing::warn!(me, peer, %reason, "a replica is away");
            self.away = Some((since, true));
        }
    }

    fn log_back(&mut self) {
        if let Some((since, true)) = self.away.take() {
            let (me, peer) = (self.shared.name(self.shared.me), self.shared.name(self.link().peer));
            tracing::warn!(me, peer, after_s = since.elapsed().as_secs(), "the replica is back");
        }
    }
}

/// The handshake.
impl Dialer {
    /// A connection whose hellos were exchanged, ready for frames. Between replicas that only measure what reuse saves,
    /// and have no secret, the frames of a turn are on it already.
    async fn connect(&mut self) -> Result<Connection, Reason> {
        self.wait_for_sense(self.is_per_frame()).await;
        let (mut connection, started) = self.dial().await?;
        let (link, shared) = (self.link(), &self.shared);
        let early = shared.is_early(link.kind);
        // From here on no frame may be forgotten before the peer has said so on this connection: it counts from `next`.
        let next = lock(&link.window).begin();
        let next = (link.kind == LinkKind::Data).then_some(next);
        let own = shared.hello(link.peer, shared.roster.met(link.peer), link.kind, next, None)?;
        connection.output.push(own.clone());
        shared.delay.pass_since(started, 1).await;
        if early {
            lock(&link.window).hand_out(Instant::now(), &mut connection.output);
        }
        let met = match timeout(HELLO_WAIT, self.greet(&mut connection, &own, next)).await {
            Ok(met) => met,
            Err(_) => return Err(Reason::Silent("the peer said no hello")),
        };
        let round_trip = started.elapsed();
        let hello = self.told_of(&mut connection, met).await?;
        if let Some(got) = hello.got.filter(|_| !early)
            && lock(&self.link().window).skip(got).is_err()
        {
            return Err(never_sent(got));
        }
        if !connection.output.is_empty() {
            // The proof is this end's second message, and as long on its way as the first.
            self.shared.delay.pass(1).await;
            if self.is_per_frame() {
                lock(&self.link().window).hand_out(Instant::now(), &mut connection.output);
            }
        }
        self.link().opened(round_trip);
        self.up(hello).await;
        Ok(connection)
    }

    /// Writes what the connection begins with, and reads and checks the peer's hello, and where there is a secret its
    /// proof. This end's own proof is then ready to be written.
    async fn greet(&self, connection: &mut Connection, own: &Bytes, next: Option<Position>) -> Result<Hello, Reason> {
        let at = connection.stream.peer_addr().ok();
        connection.stream.write_all_buf(&mut connection.output).await?;
        let json = connection.read_greeting().await?;
        let hello = self.check_answer(&json, next)?;
        self.shared.check_trust(at, &hello)?;
        if let Some(secret) = &self.shared.config.secret {
            let binding = connection.stream.binding();
            let hellos = Hellos { dialer: &own[codec::LENGTH_BYTES..], accepter: &json, binding };
            hello::check_proof(&connection.read_greeting().await?, hellos, secret, Role::Accepter)?;
            connection.output.push(codec::encode_link("proof", &hellos.prove(secret, Role::Dialer)));
        }
        self.shared.meet(self.link().peer, hello.incarnation).await;
        Ok(hello)
    }

    /// Tells the loop of a refusal, and the peer, whose log shall name the key, too: it closes when it has read this,
    /// whatever becomes of it here.
    async fn told_of(&self, connection: &mut Connection, met: Result<Hello, Reason>) -> Result<Hello, Reason> {
        if let Err(reason @ (Reason::Refused(_) | Reason::RefusedByPeer(_))) = &met {
            let (peer, told) = (self.link().peer, reason.clone());
            let reason = match told {
                Reason::RefusedByPeer(msg) => msg,
                other => other.to_string(),
            };
            self.shared.tell(LinkEvent::Refused { peer, reason }).await;
        }
        if let Err(Reason::Refused(refusal)) = &met {
            let _ = timeout(HELLO_WAIT, connection.stream.write_all(&refusal.frame())).await;
        }
        met
    }

    fn is_per_frame(&self) -> bool {
        self.shared.is_per_frame(self.link().kind)
    }

    /// Waits while dialing makes no sense: after an overflow, and in per-frame use until something has to be sent.
    async fn wait_for_sense(&mut self, per_frame: bool) {
        loop {
            self.tell_overflow().await;
            {
                let window = lock(&self.link().window);
                // Before the first epoch a hello without frames is wanted all the same: it makes the replicas met.
                let met = self.shared.roster.met(self.link().peer).is_some();
                if window.is_usable() && (!per_frame || window.has_more() || window.is_awaiting() || !met) {
                    return;
                }
            }
            self.link().wake.notified().await;
        }
    }

    async fn tell_overflow(&self) {
        let link = self.link();
        let overflowed = lock(&link.window).take_overflow();
        if overflowed {
            let (peer, kind) = (link.peer, link.kind);
            tracing::warn!(
                me = self.shared.name(self.shared.me),
                peer = self.shared.name(peer),
                kind = kind.word(),
                "link overflowed"
            );
            self.shared.tell(LinkEvent::Overflow { peer, kind }).await;
        }
    }

    /// A connection, and since when there is one.
    async fn dial(&self) -> Result<(Connection, Instant), Reason> {
        let begun = Instant::now();
        let address = &self.shared.config.replicas[self.link().peer.index()];
        let connected = timeout(CONNECT_WAIT, self.shared.network.connect(address.host(), address.port())).await;
        // The system's own handshake is a part of the simulated round trip, not one more.
        let dialed = self.shared.delay.pass_since(begun, 2).await;
        let stream = match connected {
            Ok(connected) => connected?,
            Err(_) => return Err(Reason::Silent("the connection did not come about")),
        };
        // A dial to a port of this machine that nobody listens on can meet itself where the system gives it that port.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(Reason::Itself);
        }
        stream.set_nodelay()?;
        stream.break_after(PROGRESS_WAIT)?;
        let (stream, ready) = self.secured(stream, address.host(), dialed).await?;
        Ok((Connection { stream, input: BytesMut::new(), output: Chunks::default() }, ready))
    }

    /// The same connection, encrypted where the configuration says so; then the peer has shown that it is `host`.
    async fn secured(&self, stream: Stream, host: &str, dialed: Instant) -> Result<(Stream, Instant), Reason> {
        let Some(tls) = &self.shared.config.tls else { return Ok((stream, dialed)) };
        // The handshake of TLS 1.3 costs one round trip (RFC 8446 section 2); its last message leaves with the hello.
        self.shared.delay.pass(2).await;
        match timeout(HELLO_WAIT, tls::connect(tls.authority(), host, stream)).await {
            Ok(secured) => Ok((secured?, Instant::now())),
            Err(_) => Err(Reason::Silent("the peer does not finish the TLS handshake")),
        }
    }

    /// Checks what the peer answered to our hello.
    fn check_answer(&self, json: &[u8], next: Option<Position>) -> Result<Hello, Reason> {
        match codec::word_of(json) {
            Ok(word) if word == "hello" => {}
            Ok(word) if word == "error" => return Err(Reason::RefusedByPeer(hello::error_of(json))),
            Ok(word) => return Err(Reason::Broke(format!("a `{word}` where its hello should be"))),
            Err(error) => return Err(Reason::Broke(format!("no hello: {error}"))),
        }
        Ok(self.check_hello(hello::parse(json)?, next)?)
    }

    fn check_hello(&self, hello: Hello, next: Option<Position>) -> Result<Hello, Refusal> {
        let from = self.shared.check(&hello)?;
        if from != self.link().peer {
            let (to, me) = (self.shared.name(self.link().peer).to_owned(), hello.from);
            return Err(Refusal::Misdirected { to, me });
        }
        match (next, hello.got) {
            (Some(next), Some(got)) if got.epoch == next.epoch && got.n + 1 < next.n => Err(Refusal::Gap { next, got }),
            _ => Ok(hello),
        }
    }

    async fn up(&mut self, hello: Hello) {
        self.refused = None;
        self.log_back();
        self.backoff.reset();
        let link = self.link();
        lock(&link.window).connected(next_link());
        let (peer, kind, incarnation) = (link.peer, link.kind, hello.incarnation);
        tracing::debug!(
            me = self.shared.name(self.shared.me),
            peer = self.shared.name(peer),
            kind = kind.word(),
            "link is up"
        );
        if !self.is_per_frame() {
            self.shared.tell(LinkEvent::Up { peer, kind, way: Way::Out, incarnation }).await;
        }
    }
}

/// The frames.
impl Dialer {
    async fn use_connection(&mut self, mut connection: Connection) -> Reason {
        let ended = self.carry(&mut connection).await;
        let reason = match ended {
            Reason::Stopped | Reason::PerFrame => connection.finish(ended).await,
            other => other,
        };
        let link = self.link();
        lock(&link.window).disconnected();
        let (peer, kind) = (link.peer, link.kind);
        if !self.is_per_frame() {
            self.shared.tell(LinkEvent::Down { peer, kind, way: Way::Out, reason: reason.clone() }).await;
        }
        reason
    }

    async fn carry(&self, connection: &mut Connection) -> Reason {
        let Connection { stream, input, output } = connection;
        let (reader, writer) = tokio::io::split(stream);
        let mut carrier = Carrier::new(self.link(), self.is_per_frame(), std::mem::take(output));
        carrier.run(reader, writer, input, self.stop.clone()).await
    }
}

impl Connection {
    /// The next frame of those that replicas greet each other by.
    async fn read_greeting(&mut self) -> Result<Bytes, Reason> {
        let mut codec = codec::length_delimited_greeting();
        loop {
            if let Some(json) = codec.decode(&mut self.input)? {
                return Ok(json.freeze());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Reason::Closed);
            }
        }
    }

    /// Closes so that nothing written is lost: a close with bytes unread would reset the connection, and the peer could
    /// lose what it has not read yet.
    async fn finish(&mut self, reason: Reason) -> Reason {
        let until_closed = async {
            self.stream.shutdown().await?;
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<(), std::io::Error>(())
        };
        match timeout(FLUSH_WAIT, until_closed).await {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => reason,
        }
    }
}
