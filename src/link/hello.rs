//! The handshake, without I/O: making a hello, and saying precisely why one is refused.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::config::{Config, LinkUse};
use crate::protocol::codec;
use crate::protocol::ids::{Incarnation, ReplicaId};
use crate::protocol::message::{Hello, LinkKind, PROTOCOL_VERSION, Position, Settings};

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
    /// This end's hello to `peer`.
    pub(super) fn hello(
        &self,
        peer: ReplicaId,
        kind: LinkKind,
        next: Option<Position>,
        got: Option<Position>,
    ) -> Bytes {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            from: self.name(self.me).to_owned(),
            to: self.name(peer).to_owned(),
            incarnation: self.incarnation,
            expects: self.roster.met(peer),
            kind,
            settings: self.settings.clone(),
            next,
            got,
        };
        codec::encode_link("hello", &hello)
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

/// Reads a hello's JSON.
pub(super) fn parse(json: &[u8]) -> Result<Hello, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::Malformed(error.to_string()))
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
