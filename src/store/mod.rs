//! The durable store under every replica: a journal and a snapshot, read only at the start. All records live in memory.
//!
//! ```text
//!    the loop                       the writer's thread                 the background thread
//!       | Commit(batches)                  |                                      |
//!       |--------------------------------->| all that waits -> one frame,         |
//!       |                  Progress.durable| one write, one sync                  |
//!       |<---------------------------------|                                      |
//!       |                                  | half a segment is used: the next one |
//!       |                                  |------------------------------------->|
//!       |                                  | the journal is long: a snapshot      |
//!       |                                  |------------------------------------->|
//!       |                                  Progress.wanted: records from item n on|
//!       |<------------------------------------------------------------------------|
//!       | Snapshot(chunk)                  | behind the batches before it         |
//!       |--------------------------------->|------------------------------------->| write, now and then sync;
//!       |                                  |                                      | rename; remove old segments
//! ```
//!
//! The loop never waits for the disk, and a commit never for a snapshot. A failed write or sync ends the store, once and
//! for all: only a new start finds out what the disk holds.
//!
//! # Files, format version 1
//!
//! ```text
//! DATA/REPLICA/lock                       held by the process that uses the folder
//! DATA/REPLICA/identity                   whose folder this is, and which record store is in force
//! DATA/REPLICA/records-STORE/mark         how far the journal was durable, at least
//! DATA/REPLICA/records-STORE/journal-N    segments, N from 1, ten digits
//! DATA/REPLICA/records-STORE/snapshot-N   all that was before segment N
//! DATA/REPLICA/records-STORE.damaged/     a store that was set aside
//! DATA/REPLICA/consensus/                 mark, journal and snapshot of the consensus log, in the same format
//! ```
//!
//! Numbers are little-endian; checksums are CRC-32C. `*.new` is a file that is being written and has no meaning yet.
//!
//! *identity* is a line of JSON, `{"format":1,"cluster":HEX or null,"replica":ADDRESS,"replicas":[ADDRESS,…],"store":HEX}`,
//! and a line with its checksum in hex.
//!
//! A *header* has 40 bytes: magic (8: `PRIMACYJ` journal, `PRIMACYS` snapshot, `PRIMACYM` mark), format version (4), store
//! (8), number (8), sequence number (8), checksum of these (4). Of a segment the sequence number is that of its first
//! frame, of a snapshot that of the first frame that it does not cover, of a mark that of the last durable one. The mark
//! is a header alone, rewritten after each sync and not synced itself.
//!
//! A *frame* is: magic `FE F5 FC FF` (4), length of the payload (4, at most 16 MiB), sequence number (8), checksum of
//! these and the payload (4), payload. A segment is a header and frames, zeros behind them; its sequence numbers go on
//! where those of the segment before end. A snapshot is a header and frames, numbered from 1, the last of which is empty.
//!
//! The payload of records is a row of entries. In these, N is an unsigned number in base 128, least digits first, the
//! high bit of each byte telling that another follows; V is a version, N epoch and N counter:
//!
//! | entry | bytes |
//! | --- | --- |
//! | a note | `01`, N item, V version, V written, primary (1), N length, the note's compact JSON |
//! | a deletion | `02`, N item, V version, V written, primary (1) |
//! | the id sequence | `03`, N item, V version, V written, primary (1), N next id |
//! | a key | `04`, N item, N length, the key, SHA-256 (32), N note, V written, N time |
//! | a committed deletion | `05`, N item: nothing of it need be kept |
//!
//! The consensus log's payload is a row of records, each with its length (4) in front.
//!
//! # What a start finds
//!
//! Between two syncs one frame is written. So only the last frame can be torn, and only where it lies behind the mark: it
//! was never acknowledged, and is cut. Anything else that does not read as written is damage, and refused with file and
//! offset. What a flip of the very last frame's bytes looks like depends on the mark: it is told from a torn frame unless
//! the power failed before the mark reached the disk.
//!
//! This does not detect a folder that was put back as it was at an earlier time, with its identity: nothing in it is
//! wrong. Nor does it repair anything: the other replicas do.

mod background;
mod command;
mod contents;
mod direct;
mod disk;
mod entry;
mod error;
mod folder;
mod format;
mod handle;
mod journal;
mod log;
mod memory_disk;
mod recover;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;
mod unsynced;
mod writer;

pub use command::{
    Batch, CHUNK_BYTES_MAX, CHUNK_THINGS_MAX, Chunk, Command, Cursor, Loaded, Part, Progress, Sizes, Wanted,
};
pub use disk::{Disk, DiskFile, Lock, RealDisk};
pub use error::StoreError;
pub use folder::{Folder, Opened, Owner};
pub use format::{FORMAT_VERSION, PAYLOAD_BYTES_MAX};
pub use handle::{QUEUE_BYTES_MAX, QUEUE_COMMANDS_MAX, Refused, Store, WriterTask};
pub use log::{Log, LogContents};
pub use memory_disk::{Fault, MemoryDisk};
