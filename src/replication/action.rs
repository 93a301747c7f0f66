//! What a replica wants done. The shell carries out actions in the order in which they came.

use super::event::Token;
use crate::note::NoteId;
use crate::protocol::ids::{Epoch, ReplicaId, ReplicaSet, StoreId};
use crate::protocol::message::Message;
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::Answer;

/// Something that the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message to each of these replicas; it is encoded once for all.
    Send {
        /// To whom.
        to: ReplicaSet,
        /// The epoch that it belongs to. Where a later event of the same turn has brought a new view, the message is sent
        /// no more: a new view empties the links (L3).
        epoch: Epoch,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Answer {
        /// Of its [`super::event::Event::Request`].
        token: Token,
        /// With what.
        answer: Answer,
    },
    /// Hand records to the store, all or none, and report when they are durable.
    Persist(Persist),
    /// Begin an empty record store beside the present one; what is persisted from now on goes there (J2). An earlier
    /// copy is dropped.
    BeginCopy,
    /// Once all of the copy is durable, put it in the place of the present store, in one step, with a new store id; then
    /// report [`super::event::Event::Switched`] (J3).
    SwitchStore,
    /// Tell the controller that this joiner is synced under this view (J3).
    ReportSynced {
        /// The view.
        epoch: Epoch,
        /// The store that the copy became.
        store: StoreId,
    },
    /// A peer broke the protocol: drop its connections, and say why.
    Distrust {
        /// Who.
        peer: ReplicaId,
        /// What it did.
        why: String,
    },
}

/// Records for the store. All that has a smaller number is durable before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persist {
    /// Counts from 1 in each process; comes back as [`super::event::Event::Durable`].
    pub number: u64,
    /// New versions of items.
    pub records: Vec<Record>,
    /// Key entries made with them.
    pub keys: Vec<KeyEntry>,
    /// Items whose deletion is committed: nothing of them need be kept (W6).
    pub forget: Vec<NoteId>,
}
