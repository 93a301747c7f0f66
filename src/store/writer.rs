//! Who writes a store: takes all commands that wait, writes their batches as one frame, syncs once, and reports. In a
//! thread of its own, or, in a simulation, as a task.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::background::{Background, Done, Job, NewSnapshot, Outcome, Worker};
use super::command::{Batch, Command, Progress, publish_failure};
use super::contents::Live;
use super::entry::{put_forget, put_key, put_record};
use super::error::StoreError;
use super::folder::{Folder, Opened};
use super::journal::Journal;
use super::segment::Segment;
use crate::observe::metrics::StoreFigures;
use crate::protocol::ids::StoreId;

/// A frame ends with the batch that passes this, so that a long queue is not one long wait for all. With the longest
/// batch, 8 MiB, it is still far below the longest payload.
const FRAME_BYTES: usize = 1024 * 1024;

/// The journal is snapshotted once it is this many times as long as what is live in it: then at most four times the live
/// data is on disk (journal, old snapshot, new one).
const JOURNAL_PER_LIVE: u64 = 2;

/// The writer of a replica's record store.
#[derive(Debug)]
pub(super) struct Writer {
    folder: Folder,
    journal: Journal,
    /// The copy that the journal belongs to, while it is not in force.
    copy: Option<StoreId>,
    live: Live,
    /// The batches up to here are in the journal's buffer or durable.
    number: u64,
    next: Next,
    snapshot: Option<Snapshot>,
    background: Background,
    progress: watch::Sender<Progress>,
    figures: StoreFigures,
    /// Records in the journal's buffer.
    records: u64,
}

/// The segment after the present one.
#[derive(Debug)]
enum Next {
    Unmade,
    Asked,
    Ready(Segment),
}

/// A snapshot that is being made.
#[derive(Debug)]
struct Snapshot {
    /// So many bytes of the journal will be superfluous.
    covers_bytes: u64,
}

impl Writer {
    /// A writer that does all its work itself.
    pub(super) fn inline(folder: Folder, opened: Opened, progress: watch::Sender<Progress>) -> Writer {
        let worker = Worker::new(folder.disk(), progress.clone());
        Writer::new(folder, opened, Background::inline(worker), progress)
    }

    /// A writer that leaves to a second thread what commits shall not wait for.
    pub(super) fn with_thread(
        folder: Folder,
        opened: Opened,
        progress: watch::Sender<Progress>,
    ) -> std::io::Result<Writer> {
        let worker = Worker::new(folder.disk(), progress.clone());
        Ok(Writer::new(folder, opened, Background::thread(worker)?, progress))
    }

    fn new(folder: Folder, opened: Opened, background: Background, progress: watch::Sender<Progress>) -> Writer {
        let Opened { journal, live, figures } = opened;
        let next = Next::Unmade;
        Writer {
            folder,
            journal,
            copy: None,
            live,
            number: 0,
            next,
            snapshot: None,
            background,
            progress,
            figures,
            records: 0,
        }
    }

    /// Carries out commands; what they commit is durable and reported when this returns. After an error the writer must
    /// not be used again: nobody knows what the disk holds.
    pub(super) fn turn(&mut self, commands: impl IntoIterator<Item = Command>) -> Outcome<()> {
        let outcome = self.carry_out(commands);
        if let Err(error) = &outcome {
            publish_failure(&self.progress, error);
        }
        outcome
    }

    fn carry_out(&mut self, commands: impl IntoIterator<Item = Command>) -> Outcome<()> {
        while let Some(done) = self.background.try_done()? {
            self.on_done(done);
        }
        for command in commands {
            if let Command::Commit(batches) = command {
                batches.iter().try_for_each(|batch| self.put(batch))?;
                continue;
            }
            self.flush()?;
            match command {
                Command::Commit(_) => {}
                // What was committed before this chunk was taken is durable now. So a snapshot never holds a part of a
                // batch of which the rest is lost.
                Command::Snapshot(chunk) => self.background.submit(Job::Chunk(chunk))?,
                Command::BeginCopy(id) => self.begin_copy(id)?,
                Command::Switch => self.switch()?,
                Command::Bind(cluster) => self.folder.bind(cluster)?,
            }
        }
        self.flush()?;
        self.prepare()
    }

    fn put(&mut self, batch: &Batch) -> Outcome<()> {
        let payload = self.journal.payload();
        batch.records.iter().for_each(|record| put_record(payload, record));
        batch.keys.iter().for_each(|entry| put_key(payload, entry));
        batch.forget.iter().for_each(|id| put_forget(payload, *id));
        self.number = batch.number;
        self.records += batch.records.len() as u64;
        batch.forget.iter().for_each(|_| self.live.forget());
        if self.copy.is_some() {
            self.live.items += batch.records.len() as u64;
        }
        if self.journal.payload_bytes() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes durable what was put, and reports it.
    fn flush(&mut self) -> Outcome<()> {
        if self.journal.payload_bytes() == 0 {
            self.report();
            return Ok(());
        }
        let turned = self.make_room()?;
        // Only now: while room was made, a snapshot may have ended and made the journal shorter.
        let bytes_before = self.journal.bytes();
        let (bytes, begun) = (self.journal.payload_bytes() as u64, Instant::now());
        self.journal.append()?;
        self.report();
        self.figures.committed(begun.elapsed().as_secs_f64(), std::mem::take(&mut self.records), bytes);
        self.journal.note_durable()?;
        if turned { self.snapshot_if_due(bytes_before) } else { Ok(()) }
    }

    fn report(&self) {
        let number = self.number;
        self.progress.send_if_modified(|progress| {
            let is_news = progress.durable < number;
            progress.durable = progress.durable.max(number);
            is_news
        });
    }

    /// Turns to the next segment where the batch does not fit the present one; says whether it did.
    fn make_room(&mut self) -> Outcome<bool> {
        if self.journal.fits() {
            return Ok(false);
        }
        loop {
            let segment = match std::mem::replace(&mut self.next, Next::Unmade) {
                Next::Ready(segment) => segment,
                Next::Unmade => self.journal.next_plan().make()?,
                Next::Asked => {
                    self.wait_for_next()?;
                    continue;
                }
            };
            if self.journal.turn_to(segment) {
                return Ok(true);
            }
        }
    }

    fn wait_for_next(&mut self) -> Outcome<()> {
        self.next = Next::Asked;
        while matches!(self.next, Next::Asked) {
            let done = self.background.wait_done()?;
            self.on_done(done);
        }
        Ok(())
    }

    /// Has the next segment made, in time and elsewhere.
    fn prepare(&mut self) -> Outcome<()> {
        if self.journal.is_half_full() && matches!(self.next, Next::Unmade) {
            self.background.submit(Job::MakeSegment(self.journal.next_plan()))?;
            self.next = Next::Asked;
        }
        Ok(())
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Segment(segment) => self.next = Next::Ready(segment),
            Done::Snapshot { store, live } if store == self.journal.id() => {
                if let Some(snapshot) = self.snapshot.take() {
                    self.journal.set_bytes(self.journal.bytes() - snapshot.covers_bytes);
                    self.live = live;
                    self.figures.snapshot_ended();
                }
            }
            // Of a store that is in use no more.
            Done::Snapshot { .. } => {}
        }
    }

    /// Begins a snapshot of all segments before the present one, which has just been begun with its first frame.
    fn snapshot_if_due(&mut self, covers_bytes: u64) -> Outcome<()> {
        let due = self.folder.sizes().snapshot_after_bytes.max(JOURNAL_PER_LIVE * self.live.bytes);
        if covers_bytes < due || self.snapshot.is_some() || self.copy.is_some() {
            return Ok(());
        }
        self.snapshot = Some(Snapshot { covers_bytes });
        let folder = self.journal.folder().to_owned();
        let (store, number, sequence) = (self.journal.id(), self.journal.segment_number(), self.journal.sequence());
        self.background.submit(Job::BeginSnapshot(NewSnapshot { folder, store, number, sequence }))
    }

    fn begin_copy(&mut self, id: StoreId) -> Outcome<()> {
        if matches!(self.next, Next::Asked) {
            self.wait_for_next()?;
        }
        self.next = Next::Unmade;
        if self.snapshot.take().is_some() {
            self.background.submit(Job::AbandonSnapshot)?;
        }
        self.journal.close()?;
        let journal = self.folder.new_store(id)?;
        let before = std::mem::replace(&mut self.journal, journal);
        if self.copy.replace(id).is_some() {
            self.background.submit(Job::RemoveFolder(before.folder().to_owned()))?;
        }
        self.live = Live::default();
        Ok(())
    }

    fn switch(&mut self) -> Outcome<()> {
        let Some(id) = self.copy.take() else {
            return Err(StoreError::NoCopy { folder: self.folder.path().to_owned() }.into());
        };
        self.journal.close()?;
        let before = self.folder.replace_store(id)?;
        self.live.bytes = self.journal.bytes();
        self.background.submit(Job::RemoveFolder(before))?;
        self.progress.send_modify(|progress| {
            progress.switched = Some(id);
            progress.switches += 1;
        });
        Ok(())
    }

    /// Ends cleanly: all that was committed is durable, and said to be.
    pub(super) fn close(mut self) -> Outcome<()> {
        let progress = self.progress.clone();
        let outcome = self.journal.close().map_err(Arc::new).and_then(|()| self.background.close());
        if let Err(error) = &outcome {
            publish_failure(&progress, error);
        }
        outcome
    }
}
