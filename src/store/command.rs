//! What a replica's loop and its store say to each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::StoreError;
use crate::note::NoteId;
use crate::protocol::ids::{ClusterId, StoreId};
use crate::protocol::record::{KeyEntry, Record};
use crate::protocol::request::Key;

/// Most records, or key entries, in a chunk of a snapshot: taking them costs the loop well under a millisecond.
pub const CHUNK_THINGS_MAX: usize = 1_000;

/// A chunk ends with the note that passes this many bytes of notes' JSON: so much waits in memory beside the notes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// How large a store's files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Length of a segment of the journal, in bytes.
    pub segment_bytes: u64,
    /// A journal shorter than this has no snapshot made of it, in bytes.
    pub snapshot_after_bytes: u64,
}

impl Default for Sizes {
    /// Segments long enough that a change of segment is rare, short enough that a fresh store costs little.
    fn default() -> Sizes {
        Sizes { segment_bytes: 8 * 1024 * 1024, snapshot_after_bytes: 32 * 1024 * 1024 }
    }
}

/// What a record store held at the start.
#[derive(Debug)]
pub struct Loaded {
    /// Its id.
    pub store: StoreId,
    /// The newest record of each item, committed or not.
    pub records: BTreeMap<NoteId, Record>,
    /// The table of keys.
    pub keys: Vec<KeyEntry>,
}

/// Records to make durable, all or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Grows from batch to batch of a process; [`Progress::durable`] tells how far it is.
    pub number: u64,
    /// New versions of items.
    pub records: Vec<Record>,
    /// Key entries made with them.
    pub keys: Vec<KeyEntry>,
    /// Items whose deletion is committed: nothing of them need be kept (W6).
    pub forget: Vec<NoteId>,
}

impl Batch {
    /// About how many bytes of memory it holds while it waits.
    fn bytes(&self) -> usize {
        let notes = self.records.iter().map(note_bytes).sum::<usize>();
        size_of::<Batch>() + notes + self.keys.len() * size_of::<KeyEntry>() + self.forget.len() * size_of::<NoteId>()
    }
}

fn note_bytes(record: &Record) -> usize {
    use crate::protocol::record::Value;
    let text = match &record.value {
        Value::Note(note) => note.as_str().len(),
        Value::Deleted | Value::Next(_) => 0,
    };
    size_of::<Record>() + text
}

/// What the loop wants of its store. Commands are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make these durable, each of them whole or not at all.
    Commit(Vec<Batch>),
    /// The answer to [`Progress::wanted`].
    Snapshot(Chunk),
    /// Begin an empty record store beside the one in force; what is committed from now on goes there. An earlier copy is
    /// dropped. No snapshot is asked for until it is in force.
    BeginCopy(StoreId),
    /// Put the copy in force, with all that was committed into it, in one step; then report it as
    /// [`Progress::switched`].
    Switch,
    /// Note for good which cluster this replica is part of; another one than was noted before is fatal.
    Bind(ClusterId),
}

impl Command {
    /// About how many bytes of memory it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Command::Commit(batches) => batches.iter().map(Batch::bytes).sum(),
            Command::Snapshot(Chunk { part: Part::Records(records), .. }) => records.iter().map(note_bytes).sum(),
            Command::Snapshot(Chunk { part: Part::Keys(keys), .. }) => keys.len() * size_of::<KeyEntry>(),
            Command::BeginCopy(_) | Command::Switch | Command::Bind(_) => 0,
        }
    }
}

/// How far a store is. Everything here stays true once it was, so that whoever looks late misses nothing.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// All batches up to this number are durable.
    pub durable: u64,
    /// The part of the records that the snapshot needs next, until it is answered. Ask numbers grow: one that was
    /// answered is not answered again.
    pub wanted: Option<Wanted>,
    /// The copy that was put in force last; compare it with the id given with [`Command::BeginCopy`].
    pub switched: Option<StoreId>,
    /// Copies put in force since the start.
    pub switches: u64,
    /// Snapshots finished since the start.
    pub snapshots: u64,
    /// Why the store has ended.
    pub(super) failed: Option<Arc<StoreError>>,
}

/// Tells whoever waits for progress that there will be none; only the first failure is told.
pub(super) fn publish_failure(progress: &watch::Sender<Progress>, error: &Arc<StoreError>) {
    progress.send_if_modified(|progress| {
        let is_first = progress.failed.is_none();
        progress.failed.get_or_insert_with(|| Arc::clone(error));
        is_first
    });
}

/// What a snapshot needs next: the newest records, pending or not, that the loop handed to the store or holds as
/// committed; or the table of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Comes back with the answer.
    pub ask: u64,
    /// From where.
    pub from: Cursor,
}

/// A place in the records or in the table of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// This item and those after it, by id.
    Record(NoteId),
    /// The key entries after this one, by (time, item, key); all where there is none.
    Key(Option<(u64, NoteId, Key)>),
}

/// A part of the records: at most [`CHUNK_THINGS_MAX`], and little more than [`CHUNK_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Of the [`Wanted`] that it answers.
    pub ask: u64,
    /// The things from there on.
    pub part: Part,
    /// Whether more of the same kind follow.
    pub more: bool,
}

/// What a chunk holds; of the kind that the cursor named.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Records, by id.
    Records(Vec<Record>),
    /// Key entries, by (time, item, key).
    Keys(Vec<KeyEntry>),
}

impl Chunk {
    /// Where the next one begins; none after the last.
    pub(super) fn next(&self) -> Option<Cursor> {
        match &self.part {
            Part::Records(records) => match records.last().filter(|_| self.more) {
                Some(last) => Some(Cursor::Record(NoteId(last.id.0.saturating_add(1)))),
                None => Some(Cursor::Key(None)),
            },
            Part::Keys(keys) => {
                let last = keys.last().filter(|_| self.more)?;
                Some(Cursor::Key(Some((last.time, last.item, last.key.clone()))))
            }
        }
    }
}
