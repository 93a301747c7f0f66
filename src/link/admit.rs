//! The accepting end's greeting: who is there, may it come in, and can it prove itself. Until that is settled nothing of
//! what is known of a peer changes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use super::hello::{self, Refusal};
use super::proof::{Hellos, Role};
use super::tally::Place;
use super::{HELLO_WAIT, LinkEvent, Reason, Shared, told};
use crate::config::Secret;
use crate::net::Stream;
use crate::protocol::codec;
use crate::protocol::ids::{Incarnation, ReplicaId};
use crate::protocol::message::{Hello, LinkKind, Position};

/// Who says that it is a replica.
pub(super) struct Caller {
    pub(super) stream: Stream,
    /// Its hello's JSON.
    pub(super) hello: BytesMut,
    /// What was read behind it.
    pub(super) input: BytesMut,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) peer: ReplicaId,
    pub(super) kind: LinkKind,
    pub(super) incarnation: Incarnation,
}

/// A connection that counts.
pub(super) struct Admitted {
    pub(super) from: Sender,
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    pub(super) place: Place,
    pub(super) replaced: watch::Receiver<u64>,
    /// This end's hello, where the dialer does not wait for it.
    pub(super) hello: Option<Bytes>,
}

/// Greets a caller. Refusals are answered, logged and told to the loop.
pub(super) async fn admit(
    shared: &Shared,
    mut caller: Caller,
    mut stop: watch::Receiver<bool>,
) -> Result<Admitted, Reason> {
    caller.stream.set_nodelay()?;
    let greeted = tokio::select! {
        greeted = greet(shared, &mut caller) => greeted,
        () = told(&mut stop) => return Err(Reason::Stopped),
    };
    match greeted {
        Ok(Greeted { from, place, replaced, hello }) => {
            let Caller { stream, input, .. } = caller;
            Ok(Admitted { from, stream, input, place, replaced, hello })
        }
        Err(reason) => {
            if let Reason::Refused(refusal) = &reason {
                refuse(shared, &mut caller.stream, refusal).await;
            }
            Err(reason)
        }
    }
}

/// What a greeting comes to.
struct Greeted {
    from: Sender,
    place: Place,
    replaced: watch::Receiver<u64>,
    hello: Option<Bytes>,
}

async fn greet(shared: &Shared, caller: &mut Caller) -> Result<Greeted, Reason> {
    let said = hello::parse(&caller.hello)?;
    let greeted = match check(shared, caller, &said) {
        Ok(from) => begin(shared, caller, &said, from).await,
        Err(refusal) => Err(refusal.into()),
    };
    if let (Err(Reason::Refused(refusal)), Some(peer)) = (&greeted, shared.place_of(&said.from)) {
        shared.tell(LinkEvent::Refused { peer, reason: refusal.to_string() }).await;
    }
    greeted
}

/// Whether the caller may come in, where it is who it says that it is.
fn check(shared: &Shared, caller: &Caller, said: &Hello) -> Result<Sender, Refusal> {
    let peer = shared.check(said)?;
    shared.check_trust(caller.stream.peer_addr().ok(), said)?;
    if said.kind == LinkKind::Data && said.next.is_none() {
        return Err(Refusal::Malformed("a data link's hello needs `next`".to_owned()));
    }
    Ok(Sender { peer, kind: said.kind, incarnation: said.incarnation })
}

/// Has the caller prove itself where there is a secret; then its connection takes the place of the one before.
async fn begin(shared: &Shared, caller: &mut Caller, said: &Hello, from: Sender) -> Result<Greeted, Reason> {
    let incoming = shared.roster.incoming(from.peer, from.kind);
    // What a control link carries may be lost with its connection.
    let mut next = said.next.filter(|_| from.kind == LinkKind::Data);
    if let Some(first) = next.filter(|_| !shared.is_early(from.kind)) {
        // The dialer waits to be told where to go on.
        next =
            Some(incoming.resume(from.incarnation, first).map_err(|gap| Refusal::Gap { next: first, got: gap.got })?);
    }
    let got = next.map(|next| Position { n: next.n.saturating_sub(1), ..next });
    // Whom it answers, known before or not: until a new incarnation has proved itself, the roster has the old one.
    let mut hello = Some(shared.hello(from.peer, Some(from.incarnation), from.kind, None, got)?);
    if let (Some(secret), Some(own)) = (&shared.config.secret, &hello) {
        have_proved(shared, caller, secret, own).await?;
        hello = None;
    }
    shared.meet(from.peer, from.incarnation).await;
    let begun = incoming.begin(from.incarnation, next);
    let (place, replaced) = begun.map_err(|gap| Refusal::Gap { next: next.unwrap_or_default(), got: gap.got })?;
    Ok(Greeted { from, place, replaced, hello })
}

/// Says hello and proves it, and waits for the caller's proof.
async fn have_proved(shared: &Shared, caller: &mut Caller, secret: &Secret, own: &Bytes) -> Result<(), Reason> {
    let mut seat = shared.unproved.enter();
    let Caller { stream, hello, input } = caller;
    let hellos = Hellos { dialer: hello, accepter: &own[codec::LENGTH_BYTES..], binding: stream.binding() };
    let exchange = async {
        shared.delay.pass(1).await;
        let proof = codec::encode_link("proof", &hellos.prove(secret, Role::Accepter));
        stream.write_all(&[&own[..], &proof].concat()).await?;
        let mut codec = codec::length_delimited_greeting();
        loop {
            if let Some(json) = codec.decode(input)? {
                return Ok::<_, Reason>(json);
            }
            if stream.read_buf(input).await? == 0 {
                return Err(Reason::Closed);
            }
        }
    };
    let patience = Duration::from_millis(shared.config.limits.prove_ms);
    let json = tokio::select! {
        answered = timeout(patience, exchange) => answered.map_err(|_| Refusal::Late)??,
        () = seat.lost() => return Err(Refusal::Crowded.into()),
    };
    hello::check_proof(&json, hellos, secret, Role::Dialer)
}

/// Tells the caller and the log why it is refused, and closes.
async fn refuse(shared: &Shared, stream: &mut Stream, refusal: &Refusal) {
    if !refusal.is_of_restart() {
        shared.warn_once(&refusal.to_string(), "a replica's hello is refused");
    }
    // Whether the peer can still read it or not, the connection is over.
    let _ = timeout(HELLO_WAIT, stream.write_all(&refusal.frame())).await;
    finish(stream).await;
}

/// Closes after a refusal so that the peer can read it: a close with bytes unread would reset the connection.
async fn finish(stream: &mut Stream) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Who does not close in time, or is gone already, is closed all the same.
    let _ = timeout(super::FLUSH_WAIT, until_closed).await;
}
