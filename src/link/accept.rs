//! The accepting end of a link: has the caller greeted, then passes messages on, each once, and says what it got.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::admit::{Admitted, Caller, Sender, admit};
use super::hello;
use super::roster::Incoming;
use super::tally::Place;
use super::{LinkEvent, PROGRESS_WAIT, Reason, Shared, Way, told};
use crate::clock::{Alarm, ExactTimer};
use crate::net::Stream;
use crate::observe::metrics::Traffic;
use crate::protocol::codec::{self, FrameError, LENGTH_BYTES};
use crate::protocol::message::{Envelope, Got, LinkKind, Position};

/// Frames after which `got` is said at once.
const GOT_FRAMES: u64 = 64;

/// Bytes after which `got` is said at once.
const GOT_BYTES: usize = 256 * 1024;

/// How long after a frame `got` is said at the latest.
const GOT_WAIT: Duration = Duration::from_millis(20);

/// Room for one read from a socket.
const READ_BYTES: usize = 64 * 1024;

/// Takes the connections that peers dial.
#[derive(Clone, Debug)]
pub struct LinkAcceptor {
    shared: Arc<Shared>,
}

impl LinkAcceptor {
    pub(super) fn new(shared: Arc<Shared>) -> LinkAcceptor {
        LinkAcceptor { shared }
    }

    /// Takes a connection whose first frame, `hello`, was just read, with what was read after it. It lives in a task of its
    /// own from here on; refusals are answered, logged and told to the loop.
    pub fn accept(&self, stream: Stream, hello: BytesMut, input: BytesMut) {
        let shared = self.shared.clone();
        let stop = shared.stop.subscribe();
        tokio::spawn(async move {
            let reason = serve(&shared, Caller { stream, hello, input }, stop).await;
            match &reason {
                Reason::RefusedByPeer(_) | Reason::Broke(_) => {
                    shared.warn_once(&reason.to_string(), "accepted link ended");
                }
                _ => tracing::debug!(me = shared.name(shared.me), %reason, "accepted link ended"),
            }
        });
    }
}

/// Greets who is there, and serves the connection.
async fn serve(shared: &Arc<Shared>, caller: Caller, stop: watch::Receiver<bool>) -> Reason {
    let admitted = match admit(shared, caller, stop.clone()).await {
        Ok(admitted) => admitted,
        Err(reason) => return reason,
    };
    let Sender { peer, kind, incarnation } = admitted.from;
    shared.outgoing_to(peer).for_each(|link| link.nudge.notify_one());
    let tells = !shared.is_per_frame(kind);
    if tells {
        shared.tell(LinkEvent::Up { peer, kind, way: Way::In, incarnation }).await;
    }
    let reason = Receiver::new(shared, admitted, stop).run().await;
    if tells {
        shared.tell(LinkEvent::Down { peer, kind, way: Way::In, reason: reason.clone() }).await;
    }
    reason
}

/// One accepted connection at work.
struct Receiver<'a> {
    shared: &'a Shared,
    from: Sender,
    stream: Stream,
    input: BytesMut,
    codec: LengthDelimitedCodec,
    place: Place,
    replaced: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    /// This end's hello, where it was not written yet. Frames that came with the peer's do not wait for it.
    hello: Option<Bytes>,
    owed: Owed,
    alarm: Alarm,
    timer: ExactTimer,
}

/// What was received and not said to be `got` yet.
#[derive(Debug, Default)]
struct Owed {
    frames: u64,
    bytes: usize,
    /// When to say it.
    at: Option<Instant>,
}

/// Why a frame is no message: the dialer may have refused this end's hello.
fn why_not(json: &[u8], error: &FrameError) -> Reason {
    match codec::word_of(json) {
        Ok(word) if word == "error" => Reason::RefusedByPeer(hello::error_of(json)),
        _ => Reason::Broke(error.to_string()),
    }
}

/// Waits until another connection of the same peer and kind counts.
async fn replaced(current: &mut watch::Receiver<u64>, connection: u64) {
    let _ = current.wait_for(|current| *current != connection).await;
}

impl<'a> Receiver<'a> {
    fn new(shared: &'a Shared, admitted: Admitted, stop: watch::Receiver<bool>) -> Receiver<'a> {
        let Admitted { from, stream, input, place, replaced, hello } = admitted;
        let codec = codec::length_delimited();
        let owed = Owed { at: hello.is_some().then(|| shared.delay.due()), ..Owed::default() };
        let (alarm, timer) = (Alarm::new(), ExactTimer::default());
        Receiver { shared, from, stream, input, codec, place, replaced, stop, hello, owed, alarm, timer }
    }

    async fn run(mut self) -> Reason {
        match self.receive().await {
            Ok(never) => match never {},
            Err(reason) => reason,
        }
    }

    async fn receive(&mut self) -> Result<std::convert::Infallible, Reason> {
        let (mut stop, mut current, connection) = (self.stop.clone(), self.replaced.clone(), self.place.connection());
        // Kept from turn to turn: to wait anew for the same costs more than the rest of a turn.
        let mut stopped = pin!(told(&mut stop));
        let mut replaced = pin!(replaced(&mut current, connection));
        loop {
            let envelopes = self.cut()?;
            self.pass_on(envelopes).await?;
            if self.owed.at.is_some_and(|at| at <= Instant::now()) {
                self.say_got().await?;
            }
            self.input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                () = &mut stopped => return Err(Reason::Stopped),
                () = &mut replaced => return Err(Reason::Replaced),
                read = self.stream.read_buf(&mut self.input) => match read? {
                    0 => return Err(Reason::Closed),
                    _ => continue,
                },
                () = self.alarm.at(self.owed.at), if !self.shared.delay.is_some() => {}
                () = self.timer.at(self.owed.at), if self.shared.delay.is_some() => {}
            }
            self.say_got().await?;
        }
    }

    /// All whole frames that were read.
    fn cut(&mut self) -> Result<Vec<Envelope>, Reason> {
        let mut envelopes = Vec::new();
        let mut traffic = Traffic::default();
        while let Some(json) = self.codec.decode(&mut self.input)? {
            traffic.bytes += (LENGTH_BYTES + json.len()) as u64;
            self.owed.bytes += json.len();
            envelopes.push(codec::decode(&json).map_err(|error| why_not(&json, &error))?);
        }
        traffic.frames = envelopes.len() as u64;
        self.incoming().receive(traffic);
        Ok(envelopes)
    }

    /// Passes messages on, those of epochs to come once the replica has reached them (L4).
    async fn pass_on(&mut self, mut envelopes: Vec<Envelope>) -> Result<(), Reason> {
        while !envelopes.is_empty() {
            let rest = match self.from.kind {
                LinkKind::Control => Vec::new(),
                LinkKind::Data => {
                    let epoch = *self.shared.epoch.borrow();
                    let early = envelopes.iter().position(|envelope| envelope.epoch > epoch);
                    early.map_or_else(Vec::new, |first| envelopes.split_off(first))
                }
            };
            if !envelopes.is_empty() {
                self.hand_over(envelopes).await?;
            }
            if let Some(first) = rest.first() {
                // The dialer may forget the others meanwhile.
                self.say_got().await?;
                self.wait_for_epoch(first).await?;
            }
            envelopes = rest;
        }
        Ok(())
    }

    /// Gives messages to the loop. They count as got in the same moment, so that however this connection ends, no message
    /// is lost and none comes twice.
    async fn hand_over(&mut self, mut envelopes: Vec<Envelope>) -> Result<(), Reason> {
        let connection = self.place.connection();
        let permit = tokio::select! {
            biased;
            permit = self.shared.events.reserve() => permit.map_err(|_| Reason::Stopped)?,
            () = replaced(&mut self.replaced, connection) => return Err(Reason::Replaced),
            () = told(&mut self.stop) => return Err(Reason::Stopped),
        };
        let Sender { peer: from, kind, incarnation } = self.from;
        self.owed.frames += envelopes.len() as u64;
        let current = self.incoming().count(&mut self.place, |is_new| {
            envelopes.retain(|envelope| is_new(envelope.epoch));
            if !envelopes.is_empty() {
                permit.send(LinkEvent::Messages { from, incarnation, kind, envelopes });
            }
        });
        if !current {
            return Err(Reason::Replaced);
        }
        self.owe();
        Ok(())
    }

    fn incoming(&self) -> &'a Incoming {
        self.shared.roster.incoming(self.from.peer, self.from.kind)
    }

    /// Decides when to say `got`.
    fn owe(&mut self) {
        if self.from.kind == LinkKind::Control {
            return;
        }
        let lazily =
            self.owed.frames < GOT_FRAMES && self.owed.bytes < GOT_BYTES && !self.shared.is_per_frame(self.from.kind);
        let due = self.shared.delay.due() + if lazily { GOT_WAIT } else { Duration::ZERO };
        self.owed.at = Some(self.owed.at.map_or(due, |at| at.min(due)));
    }

    /// Says hello where that is due, and what was got.
    async fn say_got(&mut self) -> Result<(), Reason> {
        if self.owed.at.is_none() {
            return Ok(());
        }
        let Owed { frames, .. } = std::mem::take(&mut self.owed);
        let got = self.place.at().filter(|_| frames > 0);
        let got = got.map(|Position { epoch, n }| codec::encode_link("got", &Got { epoch, n }));
        for frame in self.hello.take().into_iter().chain(got) {
            match timeout(PROGRESS_WAIT, self.stream.write_all(&frame)).await {
                Ok(written) => written?,
                Err(_) => return Err(Reason::Silent("the peer does not read what was got")),
            }
        }
        Ok(())
    }

    async fn wait_for_epoch(&mut self, first: &Envelope) -> Result<(), Reason> {
        let (wanted, connection) = (first.epoch, self.place.connection());
        let mut epoch = self.shared.epoch.clone();
        tokio::select! {
            biased;
            // Where the loop that publishes epochs is gone, the replica stops.
            reached = epoch.wait_for(|epoch| *epoch >= wanted) => reached.map(|_| ()).map_err(|_| Reason::Stopped),
            () = replaced(&mut self.replaced, connection) => Err(Reason::Replaced),
            () = told(&mut self.stop) => Err(Reason::Stopped),
        }
    }
}
