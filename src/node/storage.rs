//! Where the loop hands its records: to the store on disk, or, with `durability: memory`, to nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::note::NoteId;
use crate::protocol::ids::{ClusterId, StoreId};
use crate::protocol::record::{KeyEntry, Record};
use crate::replication::action::Persist;
use crate::replication::event::Event;
use crate::replication::replica::Replica;
use crate::store::{
    Batch, CHUNK_BYTES_MAX, CHUNK_THINGS_MAX, Chunk, Command, Cursor, Part, Progress, Refused, Store, StoreError,
    Wanted,
};

/// Where records go.
#[derive(Debug)]
pub enum Storage {
    /// What is handed over is as durable as it gets (J6).
    Memory(Memory),
    /// The store, and what waits for room in its queue.
    Disk(Disk),
}

/// `durability: memory`.
#[derive(Debug, Default)]
pub struct Memory {
    /// What has happened and was not told.
    events: Vec<Event>,
    copy: Option<StoreId>,
}

/// `durability: disk`.
#[derive(Debug)]
pub struct Disk {
    store: Store,
    /// Commands of this turn, and those for which the queue had no room; in order.
    commands: VecDeque<Command>,
    told: Told,
}

/// How much of the store's progress has been told to the replica.
#[derive(Debug, Default)]
struct Told {
    durable: u64,
    switches: u64,
    answered: u64,
    /// The cluster that the store was told of.
    cluster: Option<ClusterId>,
}

impl Storage {
    /// No store.
    pub fn memory() -> Storage {
        Storage::Memory(Memory::default())
    }

    /// This store.
    pub fn disk(store: Store) -> Storage {
        Storage::Disk(Disk { store, commands: VecDeque::new(), told: Told::default() })
    }

    /// Whether the loop may take in more work: the disk is not too far behind.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Storage::Memory(_) => true,
            Storage::Disk(disk) => disk.commands.is_empty() && disk.store.has_room(),
        }
    }

    /// Commands that wait for the store.
    pub(super) fn queued(&self) -> usize {
        match self {
            Storage::Memory(_) => 0,
            Storage::Disk(disk) => disk.commands.len() + disk.store.queued(),
        }
    }

    /// Takes records of the replica.
    pub(super) fn persist(&mut self, persist: Persist) {
        match self {
            Storage::Memory(memory) => {
                memory.events.retain(|event| !matches!(event, Event::Durable { .. }));
                memory.events.push(Event::Durable { number: persist.number });
            }
            Storage::Disk(disk) => {
                let Persist { number, records, keys, forget } = persist;
                disk.commit(Batch { number, records, keys, forget });
            }
        }
    }

    /// Begins a copy under this store id.
    pub(super) fn begin_copy(&mut self, store: StoreId) {
        match self {
            Storage::Memory(memory) => memory.copy = Some(store),
            Storage::Disk(disk) => disk.commands.push_back(Command::BeginCopy(store)),
        }
    }

    /// Notes for good which cluster the folder is part of.
    pub(super) fn bind(&mut self, cluster: ClusterId) {
        if let Storage::Disk(disk) = self
            && disk.told.cluster != Some(cluster)
        {
            disk.told.cluster = Some(cluster);
            disk.commands.push_back(Command::Bind(cluster));
        }
    }

    /// Puts the copy in force.
    pub(super) fn switch(&mut self) {
        match self {
            Storage::Memory(memory) => {
                memory.events.extend(memory.copy.take().map(|store| Event::Switched { store }));
            }
            Storage::Disk(disk) => disk.commands.push_back(Command::Switch),
        }
    }

    /// Whether there are commands for [`Storage::flush`].
    pub(super) fn has_commands(&self) -> bool {
        match self {
            Storage::Memory(_) => false,
            Storage::Disk(disk) => !disk.commands.is_empty(),
        }
    }

    /// Hands this turn's commands to the store. What finds no room waits for the next turn, and is not lost.
    pub(super) fn flush(&mut self) {
        let Storage::Disk(disk) = self else { return };
        while let Some(command) = disk.commands.pop_front() {
            match disk.store.send(command) {
                Ok(()) => {}
                Err(Refused::Full(command)) => return disk.commands.push_front(command),
                // `progressed` says why, and ends the loop.
                Err(Refused::Ended) => return,
            }
        }
    }

    /// What memory has done already.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        match self {
            Storage::Memory(memory) => std::mem::take(&mut memory.events),
            Storage::Disk(_) => Vec::new(),
        }
    }

    /// Waits until the store is further. May be dropped and called again.
    pub(super) async fn progressed(&mut self) -> Result<Progress, Arc<StoreError>> {
        match self {
            Storage::Memory(_) => std::future::pending().await,
            Storage::Disk(disk) => disk.store.progressed().await,
        }
    }

    /// What the replica is told of the store's progress. A part that a snapshot wants is answered at once.
    pub(super) fn on_progress(&mut self, progress: Progress, replica: &Replica) -> Vec<Event> {
        let Storage::Disk(Disk { commands, told, .. }) = self else { return Vec::new() };
        let events = told.news(&progress);
        if let Some(wanted) = progress.wanted.filter(|wanted| wanted.ask > told.answered) {
            told.answered = wanted.ask;
            commands.push_back(Command::Snapshot(chunk(&wanted, replica)));
        }
        events
    }

    /// Waits until all that was handed over is durable.
    pub(super) async fn close(self) -> Result<(), Arc<StoreError>> {
        match self {
            Storage::Memory(_) => Ok(()),
            Storage::Disk(disk) => disk.store.close().await,
        }
    }
}

impl Told {
    /// What has not been told. The replica counts the copies that it has put in force, so each is told of, also where
    /// several were since the last look.
    fn news(&mut self, progress: &Progress) -> Vec<Event> {
        let mut events = Vec::new();
        if progress.durable > self.durable {
            self.durable = progress.durable;
            events.push(Event::Durable { number: progress.durable });
        }
        if let Some(store) = progress.switched {
            let switches = std::mem::replace(&mut self.switches, progress.switches)..progress.switches;
            events.extend(switches.map(|_| Event::Switched { store }));
        }
        events
    }
}

impl Disk {
    /// One command for all batches of a turn.
    fn commit(&mut self, batch: Batch) {
        match self.commands.back_mut() {
            Some(Command::Commit(batches)) => batches.push(batch),
            _ => self.commands.push_back(Command::Commit(vec![batch])),
        }
    }
}

/// The part of the records that a snapshot wants.
fn chunk(wanted: &Wanted, replica: &Replica) -> Chunk {
    let ask = wanted.ask;
    match &wanted.from {
        Cursor::Record(from) => {
            let (records, more) = records_from(*from, replica);
            Chunk { ask, part: Part::Records(records), more }
        }
        Cursor::Key(after) => {
            let keys: Vec<KeyEntry> = replica.keys_after(after.as_ref()).take(CHUNK_THINGS_MAX).cloned().collect();
            let more = keys.len() == CHUNK_THINGS_MAX;
            Chunk { ask, part: Part::Keys(keys), more }
        }
    }
}

fn records_from(from: NoteId, replica: &Replica) -> (Vec<Record>, bool) {
    let (mut records, mut bytes) = (Vec::new(), 0);
    for record in replica.items().stored_from(from) {
        if records.len() == CHUNK_THINGS_MAX || bytes > CHUNK_BYTES_MAX {
            return (records, true);
        }
        bytes += record.note_bytes();
        records.push(record.clone());
    }
    (records, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_that_was_put_in_force_is_told_also_where_nobody_looked_in_between() {
        let mut told = Told::default();
        let mut look = |durable, switched: u64, switches| {
            let mut progress = Progress::default();
            (progress.durable, progress.switches) = (durable, switches);
            progress.switched = (switched > 0).then_some(StoreId(switched));
            told.news(&progress).iter().map(|event| format!("{event:?}")).collect::<Vec<_>>()
        };
        assert_eq!(look(0, 0, 0), [""; 0]);
        assert_eq!(look(7, 1, 1), ["Durable { number: 7 }", "Switched { store: StoreId(1) }"]);
        assert_eq!(look(7, 1, 1), [""; 0]);
        assert_eq!(look(7, 3, 3), ["Switched { store: StoreId(3) }"; 2], "two, the newest in force");
    }
}
