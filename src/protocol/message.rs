//! The messages that replicas send each other, each with what its receiver may conclude. protocol.md has the same
//! table; a test compares the two.
//!
//! A frame is one JSON object that begins `{"type":"…","epoch":…`. The epoch is the sender's; the incarnations of both
//! ends are those of the connection's [`Hello`]s, since a connection never outlives either (L3).

use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use super::ids::{ClusterId, ConsensusId, Epoch, Incarnation, ReplicaId, ReplicaSet, RequestId, StoreId, Version};
use super::record::{KeyEntry, Record};
use super::request::{Done, Failure, Phases, Write};
use super::view::View;
use crate::note::NoteId;

/// The version of the frame protocol that this program speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// A message and the epoch in which it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The sender's epoch, 0 before its first view.
    pub epoch: Epoch,
    /// What it says.
    pub message: Message,
}

/// Declares [`Message`], the word of each in `type`, and how to read one by its word.
macro_rules! messages {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// Everything that replicas say to each other once their connection is greeted.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "messages are moved once or twice, and most traffic is the large ones")]
        pub enum Message {
            $($(#[$doc])* $variant($variant),)*
        }

        impl Message {
            /// The words that `type` can have between replicas, in the order of protocol.md.
            pub const WORDS: &[&str] = &[$($word),*];

            /// The word in `type`.
            pub fn word(&self) -> &'static str {
                match self { $(Message::$variant(_) => $word,)* }
            }

            /// Reads the members of the message that `word` names; none where no message has this word.
            pub(super) fn parse(word: &str, json: &[u8]) -> Option<serde_json::Result<Message>> {
                Some(match word {
                    $($word => serde_json::from_slice::<$variant>(json).map(Message::$variant),)*
                    _ => return None,
                })
            }

            /// Appends the members as an object, without `type` and `epoch`.
            pub(super) fn write_members(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
                match self { $(Message::$variant(members) => serde_json::to_writer(out, members),)* }
            }
        }

        $(impl From<$variant> for Message {
            fn from(members: $variant) -> Message {
                Message::$variant(members)
            }
        })*
    };
}

messages! {
    /// W1: a write for the item's primary, from the contacted replica.
    Forward = "forward",
    /// The primary's answer to a forward.
    Forwarded = "forwarded",
    /// M1: please make me this item's primary.
    Move = "move",
    /// M3: you are this item's primary now.
    Moved = "moved",
    /// M2: not I, ask there.
    MovedTo = "moved_to",
    /// M2: the item is no more.
    Gone = "gone",
    /// W1: new records, from their items' primary.
    Update = "update",
    /// W3: your updates up to `n` are durable here.
    Ack = "ack",
    /// W4: my updates up to `n` are committed.
    Commit = "commit",
    /// V7: what is pending with the sender, for the primary of the new view.
    Recover = "recover",
    /// V8: send me these records.
    Fetch = "fetch",
    /// The records that a fetch asked for.
    Fetched = "fetched",
    /// V9: the epoch's recovery is over; serve.
    Ready = "ready",
    /// J2: a chunk of the copy is on offer: these items, in these versions.
    Copy = "copy",
    /// J2: the joiner lacks these of the chunk.
    Want = "want",
    /// J2: the records that the joiner wanted.
    Copied = "copied",
    /// J3: the sender's copy is whole and durable; count it.
    Synced = "synced",
    /// J3: the sender counts the receiver from here on.
    Counted = "counted",
    /// L4: your frame's epoch is over; this is the newest view.
    Stale = "stale",
    /// V6: I am alive, and this is what I see and want. On control links.
    Heartbeat = "heartbeat",
    /// R3: serve reads for one lease from when you sent that heartbeat. On control links.
    Lease = "lease",
    /// V1: a call of the consensus group, or the answer to one. On control links.
    Raft = "raft",
}

/// W1: a write for the item's primary, from the contacted replica. The receiver checks it, makes the record and answers
/// with `forwarded`, never across a view (V10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// The write's number at the sender; with its name and incarnation this is the [`RequestId`].
    pub number: u64,
    /// The write.
    pub write: Write,
}

/// The primary's answer to the forward of the same number. After `done` the record is committed at the receiver, since
/// the `commit` was sent before it on the same link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The forward's number.
    pub number: u64,
    /// It took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// It did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
    /// Where the time went at the primary, in ns.
    pub phases: Phases,
}

/// M1: the sender has a write for this item and asks to become its primary. Answered with `moved`, `moved_to` or `gone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The item.
    pub id: NoteId,
}

/// M3: the receiver is the item's primary from now on. All records of the item before this one are committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The hand-over record: content as before, `primary` the receiver.
    pub record: Record,
}

/// M2: the sender is not the item's primary and waits for it no more; the receiver asks `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovedTo {
    /// The item.
    pub id: NoteId,
    /// Who is its primary as far as the sender knows.
    pub to: ReplicaId,
}

/// M2: the item was deleted. The receiver answers its queued writes 404 by W2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// The item.
    pub id: NoteId,
}

/// W1: new records from their items' primary; also recovery's first messages of an epoch (V8). The receiver keeps them
/// pending, makes them durable together, and then sends `ack`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Counts the sender's updates in this epoch, from 1.
    pub n: u64,
    /// The records: atomically all or none. A POST's are the note and the id sequence.
    pub records: Vec<Record>,
    /// Which requests made these records, and in recovery also those made by older records of the same items: the
    /// note, the version that the request wrote, the request. The one who took the request may answer it `done` once
    /// the item is committed up to that version (V10).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<(NoteId, Version, RequestId)>,
    /// The key entries made with the records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyEntry>,
    /// Of recovery: every record that it chose and that these messages name, whether the receiver lacks it or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<(NoteId, Version)>,
}

/// W3: all updates of the receiver up to `n` are durable at the sender, in this epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The last one.
    pub n: u64,
}

/// W4: all updates of the sender up to `n` are committed: everybody in sync has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The last one.
    pub n: u64,
}

/// V7: every record that is pending with the sender, an in-sync member of the new view, for the view's primary. In as many
/// frames as it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recover {
    /// Item and version of each, whole chains.
    pub pending: Vec<(NoteId, Version)>,
    /// The requests that made them, as in an update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<(NoteId, Version, RequestId)>,
    /// The key entries that are pending with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyEntry>,
    /// Whether more of these follow. Nothing is concluded before the last one.
    pub more: bool,
}

/// V8: the view's primary lacks these records, which the receiver reported. Answered with `fetched`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which.
    pub items: Vec<(NoteId, Version)>,
}

/// The records that a `fetch` asked for; several of these where one frame would be too long. The receiver keeps them as
/// pending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// The records.
    pub records: Vec<Record>,
}

/// V9: all in-sync members have acknowledged what recovery chose, and the `commit` before this frame has told so: the
/// receiver serves from now on. Sent by the view's primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {}

/// J2: the next chunk of the copy, from the view's primary to a joiner: which committed records it has, by item. The
/// receiver answers with what it `want`s, unless that is nothing and no more follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copy {
    /// Item and version of each record.
    pub items: Vec<(NoteId, Version)>,
    /// Entries of the table of keys; they follow after all items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyEntry>,
    /// Whether more chunks follow.
    pub more: bool,
}

/// J2: the joiner lacks these records of the last chunk. Answered with `copied` for all of them, then the next `copy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Want {
    /// Their items.
    pub items: Vec<NoteId>,
}

/// J2: committed records, in the version that they have now; several of these where one frame would be too long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// The records.
    pub records: Vec<Record>,
    /// Items that were deleted since they were offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<NoteId>,
}

/// J3: the joiner's copy is whole and durable. The receiver commits nothing without its acknowledgement from now on, and
/// answers `counted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synced {}

/// J3: all updates of the sender after this frame wait for the receiver's acknowledgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {}

/// L4: the answer to a frame of an epoch that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stale {
    /// The sender's newest view.
    pub view: View,
}

/// V6: the sender is alive. Goes to every replica every tenth of the failure timeout, and at once when something in it
/// changes. Control links may lose frames, so everything that a replica asks of the controller stands in each of its
/// heartbeats until it is granted. All note the time; only the controller acts on it, and answers with `lease`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts this process's heartbeats, from 1; a lease names the one that it answers.
    pub nonce: u64,
    /// The epoch of the newest view that the sender knows to be agreed, 0 before the first. Who knows a view that lists
    /// another incarnation of the sender has started after that one was seen: it is the newer of the two (R5).
    pub view: Epoch,
    /// Its record store: if all who are in sync die, those whose listed store still exists come back (J1).
    pub store: StoreId,
    /// Its voter id (J5).
    pub consensus: ConsensusId,
    /// The group that its consensus store belongs to; none while that store is empty (J4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// Its record store was empty as the process started (J4).
    pub blank: bool,
    /// Whom it has live links with: frames come in, and its own dialed links are up (V1).
    pub hears: ReplicaSet,
    /// Members of `view` whom it complains of: nothing comes from them, or frames but no acks (V4).
    pub cut: ReplicaSet,
    /// It has copied everything, as a joining member of this view, into `store` (J3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<Epoch>,
    /// It has given back its lease, reads no more, and asks for a view without itself (V11).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
}

/// R3: the controller grants the receiver a lease, which runs from when the receiver sent the heartbeat of this nonce, by
/// the receiver's own clock. Its length is that of the configuration, equal at both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The heartbeat's nonce.
    pub nonce: u64,
}

/// V1: a call of the consensus group, or the answer to one. Who is not `to`, or is of another cluster, drops it: a wiped
/// consensus store never answers for the one that it replaces (J5). A replica whose consensus store is empty takes the
/// cluster of the first call that it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Raft {
    /// Counts the caller's calls; the answer has its call's number.
    pub call: u64,
    /// The sender's voter id.
    pub from: ConsensusId,
    /// The receiver's.
    pub to: ConsensusId,
    /// The group.
    pub cluster: ClusterId,
    /// What the payload is.
    pub kind: RaftKind,
    /// The members of the call or the answer, as the consensus library has them.
    pub payload: Payload,
}

/// The calls of the consensus group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftKind {
    /// Entries for the receiver's log, or none: the leader is alive.
    Append,
    /// Vote for me.
    Vote,
    /// The state that replaces the receiver's log up to a point.
    Snapshot,
    /// The answer to a call.
    Answer,
}

/// JSON that this layer carries and does not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Box<RawValue>);

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.0.get() == other.0.get()
    }
}

/// The two kinds of link (L1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// Consensus, heartbeats, views: frames may be lost with the connection.
    Control,
    /// Everything else: in order, each exactly once between two incarnations (L2).
    Data,
}

impl LinkKind {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            LinkKind::Control => "control",
            LinkKind::Data => "data",
        }
    }
}

/// The first frame on a connection between replicas, both ways: first the dialer's, then the accepter's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The sender's address.
    pub from: String,
    /// The address that it dialed, or in the accepter's hello the dialer's.
    pub to: String,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The incarnation that the sender expects at the other end; none where it has not met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Incarnation>,
    /// Which link this connection carries.
    pub kind: LinkKind,
    /// What must be equal at all replicas.
    pub settings: Settings,
    /// Dialer, data link: the epoch that its frame numbers count in, and the number of the first frame to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Position>,
    /// Accepter, data link: the last frame that it has from the dialer, who continues behind it; where the numbering is
    /// another than that of `next`, with `next`. Per-frame links are on their way already: they begin with `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<Position>,
    /// Drawn for this connection by who has a secret: both ends prove over both nonces that they hold the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
}

super::hex::hex_bytes!(
    /// A random number for one connection.
    #[derive(Clone, Copy, PartialEq, Eq)]
    Nonce
);

super::hex::hex_bytes!(
    /// HMAC-SHA256 of both hellos. Not to be compared by `==`, which takes longer the more of it is right.
    #[derive(Clone, Copy)]
    Mac
);

/// The second frame of each end between replicas with a secret: the sender holds it, and has seen both hellos of this very
/// connection. Before the dialer's, the accepter acts on nothing; before the accepter's, neither does the dialer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// Over the sender's role and the JSON of both hellos.
    pub mac: Mac,
}

/// The configuration that must be equal at all replicas; a hello that differs is refused, naming the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `remote-write` or `local-write`.
    pub sync: String,
    /// Every replica's address, in config order.
    pub replicas: Vec<String>,
    /// The fewest in-sync replicas with which writes are taken.
    pub min_in_sync: u64,
    /// The failure timeout.
    pub failure_timeout_ms: u64,
    /// The simulated one-way delay, in microseconds.
    pub link_delay_us: u64,
    /// `persistent` or `per-frame`.
    pub links: String,
}

/// A place in the numbering of a data link. Each new epoch begins a new numbering at 1 (L3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// The frame.
    pub n: u64,
}

/// L2: the accepter of a data link has every frame up to `n`; the dialer may forget them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Got {
    /// The numbering.
    pub epoch: Epoch,
    /// The last frame.
    pub n: u64,
}
