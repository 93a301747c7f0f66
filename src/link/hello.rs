//! The handshake, without I/O: making a hello, and saying precisely why one is refused.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::proof::{Hellos, Role};
use super::{Reason, Shared};
use crate::config::address::ADDRESS_BYTES_MAX;
use crate::config::{Config, LinkUse, Secret};
use crate::protocol::codec::{self, GREETING_BYTES_MAX};
use crate::protocol::ids::{Incarnation, ReplicaId};
use crate::protocol::message::{Hello, LinkKind, Nonce, PROTOCOL_VERSION, Position, Proof, Settings};

/// The status of every refusal: the peer may not come in (RFC 9110 section 15.5.4).
const REFUSED: u16 = 403;

/// Why a hello was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a hello's members.
    #[error("the hello can't be read: {0}")]
    Malformed(String),
    /// Another version of the protocol.
    #[error("you speak version {theirs} of the protocol, I speak {PROTOCOL_VERSION}; run the same program everywhere")]
    Protocol {
        /// The peer's version.
        theirs: u32,
    },
    /// Meant for another replica.
    #[error("you meant {to}, but I am {me}; check where the address leads")]
    Misdirected {
        /// Whom the peer meant.
        to: String,
        /// Who this is.
        me: String,
    },
    /// From a replica that is not configured, or from this one.
    #[error("{from} is not one of the other replicas of my config.json: {replicas}")]
    Unknown {
        /// Who the peer says that it is.
        from: String,
        /// The configured replicas.
        replicas: String,
    },
    /// Configured differently where all must be equal.
    #[error("`{key}` is {theirs} at {from} and {ours} at {me}; make config.json equal at all replicas")]
    Settings {
        /// The key in config.json.
        key: &'static str,
        /// This replica's value.
        ours: String,
        /// The peer's value.
        theirs: String,
        /// The peer.
        from: String,
        /// This replica.
        me: String,
    },
    /// This replica has a secret, and the peer has none.
    #[error("{from} proves nothing, and I have a secret; give it the same `secret_file`")]
    NoProof {
        /// The peer.
        from: String,
    },
    /// The peer has a secret, and this replica has none.
    #[error("{from} has a secret, and I have none to prove; give me the same `secret_file`")]
    NoSecret {
        /// The peer.
        from: String,
    },
    /// The peer's proof is that of another secret, or of another connection.
    #[error("the proof is wrong; write the same `secret_file` at all replicas")]
    WrongProof,
    /// The peer did not prove itself in time.
    #[error("no proof came in time (`limits.prove_ms`)")]
    Late,
    /// Too many others came to prove themselves.
    #[error("too many connections wait to prove themselves (`limits.unproved`)")]
    Crowded,
    /// There is no secret, and the peer is on another host.
    #[error(
        "replicas at {at} are not heard without proof; give all replicas one `secret_file`, or start with --insecure"
    )]
    Far {
        /// Where it is; unknown where its socket is gone.
        at: String,
    },
    /// The peer expects another incarnation of this replica.
    #[error("you expect my incarnation {expected}, but I was restarted and am {found}")]
    Expected {
        /// What the peer expects.
        expected: Incarnation,
        /// What this replica is.
        found: Incarnation,
    },
    /// Frames are missing between what was got and what would follow.
    #[error(
        "your next frame would be {} of epoch {}, but I have those up to {} of epoch {}; a new view starts again",
        next.n, next.epoch, got.n, got.epoch
    )]
    Gap {
        /// The first frame that would follow.
        next: Position,
        /// The last frame that is here.
        got: Position,
    },
}

impl Refusal {
    /// The stable word for it, `code` in the error frame.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "bad_frame",
            Refusal::Protocol { .. } => "other_protocol",
            Refusal::Misdirected { .. } => "misdirected",
            Refusal::Unknown { .. } => "not_a_peer",
            Refusal::Settings { .. } => "other_settings",
            Refusal::NoProof { .. } | Refusal::NoSecret { .. } | Refusal::WrongProof | Refusal::Far { .. } => {
                "unproved"
            }
            Refusal::Late | Refusal::Crowded => "unproved",
            Refusal::Expected { .. } => "other_incarnation",
            Refusal::Gap { .. } => "gap",
        }
    }

    /// Whether this replica was restarted: the next dial knows it, so that nobody need be told.
    pub(super) fn is_of_restart(&self) -> bool {
        matches!(self, Refusal::Expected { .. })
    }

    /// The error frame that tells the peer.
    pub(super) fn frame(&self) -> Bytes {
        #[derive(Serialize)]
        struct Members<'a> {
            res: u16,
            code: &'a str,
            msg: String,
        }
        codec::encode_link("error", &Members { res: REFUSED, code: self.word(), msg: self.to_string() })
    }
}

/// What must be equal at all replicas.
pub(super) fn settings(config: &Config) -> Settings {
    Settings {
        sync: config.sync.word().to_owned(),
        replicas: config.replicas.iter().map(ToString::to_string).collect(),
        min_in_sync: config.min_in_sync as u64,
        failure_timeout_ms: config.failure_timeout_ms,
        link_delay_us: config.link_delay_us,
        links: match config.links {
            LinkUse::Persistent => "persistent",
            LinkUse::PerFrame => "per-frame",
        }
        .to_owned(),
    }
}

/// The first key whose values differ, with our value and theirs.
fn difference(ours: &Settings, theirs: &Settings) -> Option<(&'static str, String, String)> {
    let Settings { sync, replicas, min_in_sync, failure_timeout_ms, link_delay_us, links } = ours;
    let text = |value: &dyn ToString, other: &dyn ToString| (value.to_string(), other.to_string());
    let pairs = [
        ("sync", text(sync, &theirs.sync)),
        ("replicas", (replicas.join(", "), theirs.replicas.join(", "))),
        ("min_in_sync", text(min_in_sync, &theirs.min_in_sync)),
        ("failure_timeout_ms", text(failure_timeout_ms, &theirs.failure_timeout_ms)),
        ("link_delay_ms", text(&(*link_delay_us as f64 / 1e3), &(theirs.link_delay_us as f64 / 1e3))),
        ("links", text(links, &theirs.links)),
    ];
    pairs.into_iter().find(|(_, (ours, theirs))| ours != theirs).map(|(key, (ours, theirs))| (key, ours, theirs))
}

impl Shared {
    /// This end's hello to `peer`, for one connection.
    pub(super) fn hello(
        &self,
        peer: ReplicaId,
        expects: Option<Incarnation>,
        kind: LinkKind,
        next: Option<Position>,
        got: Option<Position>,
    ) -> Result<Bytes, Reason> {
        let nonce = self.config.secret.as_ref().map(|_| self.nonce()).transpose()?;
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            from: self.name(self.me).to_owned(),
            to: self.name(peer).to_owned(),
            incarnation: self.incarnation,
            expects,
            kind,
            settings: self.settings.clone(),
            next,
            got,
            nonce,
        };
        Ok(codec::encode_link("hello", &hello))
    }

    fn nonce(&self) -> Result<Nonce, Reason> {
        let mut nonce = Nonce([0; 32]);
        for part in nonce.0.chunks_exact_mut(8) {
            let drawn = self.random.draw().map_err(|error| Reason::Io(error.to_string()))?;
            part.copy_from_slice(&drawn.to_be_bytes());
        }
        Ok(nonce)
    }

    /// Whether a connection of this kind brings frames with the dialer's hello, before anything is answered.
    pub(super) fn is_early(&self, kind: LinkKind) -> bool {
        self.is_per_frame(kind) && self.config.secret.is_none()
    }

    /// Whether there is a way to trust who says this: both ends have a secret, or none and are on one host.
    pub(super) fn check_trust(&self, at: Option<SocketAddr>, said: &Hello) -> Result<(), Refusal> {
        let from = || said.from.clone();
        match (&self.config.secret, said.nonce) {
            (Some(_), Some(_)) => Ok(()),
            (Some(_), None) => Err(Refusal::NoProof { from: from() }),
            (None, Some(_)) => Err(Refusal::NoSecret { from: from() }),
            (None, None) if self.config.insecure => Ok(()),
            (None, None) => match at {
                Some(at) if at.ip().to_canonical().is_loopback() => Ok(()),
                at => Err(Refusal::Far { at: at.map_or("an unknown address".to_owned(), |at| at.ip().to_string()) }),
            },
        }
    }

    /// Checks a hello, the most fundamental things first. Returns who it is from.
    pub(super) fn check(&self, hello: &Hello) -> Result<ReplicaId, Refusal> {
        let me = self.name(self.me);
        if hello.protocol != PROTOCOL_VERSION {
            return Err(Refusal::Protocol { theirs: hello.protocol });
        }
        if hello.to != me {
            return Err(Refusal::Misdirected { to: hello.to.clone(), me: me.to_owned() });
        }
        // Before the sender is looked for among the replicas: where the lists differ, that is what must be said.
        if let Some((key, ours, theirs)) = difference(&self.settings, &hello.settings) {
            let (from, me) = (hello.from.clone(), me.to_owned());
            return Err(Refusal::Settings { key, ours, theirs, from, me });
        }
        let Some(peer) = self.place_of(&hello.from).filter(|peer| *peer != self.me) else {
            return Err(Refusal::Unknown { from: hello.from.clone(), replicas: self.names.join(", ") });
        };
        match hello.expects {
            Some(expected) if expected != self.incarnation => {
                Err(Refusal::Expected { expected, found: self.incarnation })
            }
            _ => Ok(peer),
        }
    }
}

/// Reads a hello's JSON. Its names may be anything, since they are only shown and compared, but not of any length.
pub(super) fn parse(json: &[u8]) -> Result<Hello, Refusal> {
    if json.len() > GREETING_BYTES_MAX {
        return Err(Refusal::Malformed(format!("it is over {GREETING_BYTES_MAX} bytes")));
    }
    let hello: Hello = serde_json::from_slice(json).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if [&hello.from, &hello.to].iter().any(|name| name.len() > ADDRESS_BYTES_MAX) {
        return Err(Refusal::Malformed(format!("an address is at most {ADDRESS_BYTES_MAX} bytes")));
    }
    Ok(hello)
}

/// Reads the frame behind a hello, in which its sender, in this role, must prove that it holds the secret.
pub(super) fn check_proof(json: &[u8], hellos: Hellos<'_>, secret: &Secret, role: Role) -> Result<(), Reason> {
    match codec::word_of(json) {
        Ok(word) if word == "proof" => {}
        Ok(word) if word == "error" => return Err(Reason::RefusedByPeer(error_of(json))),
        Ok(word) => return Err(Reason::Broke(format!("a `{word}` where its proof should be"))),
        Err(error) => return Err(Reason::Broke(format!("no proof: {error}"))),
    }
    let proof: Proof = serde_json::from_slice(json).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if hellos.are_proved(secret, role, &proof) { Ok(()) } else { Err(Refusal::WrongProof.into()) }
}

/// What a peer's error frame says.
pub(super) fn error_of(json: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Members {
        msg: String,
    }
    match serde_json::from_slice::<Members>(json) {
        Ok(members) => members.msg,
        Err(error) => format!("an error frame that can't be read: {error}"),
    }
}
