//! Work that commits shall not wait for: making the next segment, writing snapshots, removing what is no longer needed.
//! Either in a thread of its own, or, in a simulation, at once.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::command::{Chunk, Cursor, Part, Progress, Wanted, publish_failure};
use super::contents::Live;
use super::disk::Disk;
use super::entry::{put_key, put_record};
use super::error::{Doing as _, StoreError};
use super::segment::{Plan, Segment, remove_folder};
use super::snapshot::SnapshotFile;
use crate::note::NoteId;

/// Jobs that wait. One segment, one chunk of a snapshot and a copy's end are all that is ever under way together.
const JOBS_MAX: usize = 8;

/// A frame of a snapshot ends at the record that passes this, far below the longest payload.
const SNAPSHOT_FRAME_BYTES: usize = 1024 * 1024;

/// After each chunk of a snapshot, so that the disk is nearly always free for commits. At most 64 MiB a second are written,
/// and the journal grows by less meanwhile, however fast commits come.
const CHUNK_PAUSE: Duration = Duration::from_millis(4);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    MakeSegment(Plan),
    BeginSnapshot(NewSnapshot),
    Chunk(Chunk),
    /// The store that was being written to is no longer in use.
    AbandonSnapshot,
    RemoveFolder(PathBuf),
}

/// Which snapshot to begin.
#[derive(Debug)]
pub(super) struct NewSnapshot {
    pub(super) folder: PathBuf,
    pub(super) store: u64,
    /// The first segment that it does not cover.
    pub(super) number: u64,
    /// Of that segment's first frame.
    pub(super) sequence: u64,
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    Segment(Segment),
    /// The snapshot that this store was asked for is valid.
    Snapshot {
        store: u64,
        live: Live,
    },
}

/// An error is reported once, through the progress, and kept here for whoever comes upon it.
pub(super) type Outcome<T> = Result<T, Arc<StoreError>>;

/// Where jobs are done.
#[derive(Debug)]
pub(super) enum Background {
    Thread { jobs: SyncSender<Job>, done: Receiver<Outcome<Done>>, thread: JoinHandle<()> },
    Inline { worker: Worker, done: VecDeque<Done> },
}

impl Background {
    /// Does each job at once.
    pub(super) fn inline(worker: Worker) -> Background {
        Background::Inline { worker, done: VecDeque::new() }
    }

    /// Begins a thread for the jobs.
    pub(super) fn thread(worker: Worker) -> std::io::Result<Background> {
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let (sender, done) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("store-background".into())
            .spawn(move || worker.run(&receiver, &sender))?;
        Ok(Background::Thread { jobs, done, thread })
    }

    pub(super) fn submit(&mut self, job: Job) -> Outcome<()> {
        match self {
            Background::Inline { worker, done } => {
                done.extend(worker.carry_out(job)?);
                Ok(())
            }
            Background::Thread { jobs, done, .. } => match jobs.send(job) {
                Ok(()) => Ok(()),
                // It has ended, so its last word says why.
                Err(_) => Err(last_error(done)),
            },
        }
    }

    /// What was done since, if anything.
    pub(super) fn try_done(&mut self) -> Outcome<Option<Done>> {
        match self {
            Background::Inline { done, .. } => Ok(done.pop_front()),
            Background::Thread { done, .. } => match done.try_recv() {
                Ok(outcome) => outcome.map(Some),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(ended()),
            },
        }
    }

    /// Waits for something to be done.
    pub(super) fn wait_done(&mut self) -> Outcome<Done> {
        match self {
            Background::Inline { done, .. } => done.pop_front().ok_or_else(ended),
            Background::Thread { done, .. } => done.recv().unwrap_or_else(|_| Err(ended())),
        }
    }

    /// Finishes what is under way, and ends. A snapshot that is not whole stays under its temporary name; the next start
    /// removes it.
    pub(super) fn close(self) -> Outcome<()> {
        let Background::Thread { jobs, done, thread } = self else { return Ok(()) };
        drop(jobs);
        let outcome = done.iter().try_for_each(|outcome| outcome.map(drop));
        match thread.join() {
            Ok(()) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn last_error(done: &Receiver<Outcome<Done>>) -> Arc<StoreError> {
    done.iter().find_map(Result::err).unwrap_or_else(ended)
}

/// The thread has panicked, which its own message told.
fn ended() -> Arc<StoreError> {
    let source = std::io::Error::other("the store's background thread has ended");
    Arc::new(StoreError::Io { doing: "write in", path: PathBuf::from("the store"), source })
}

/// Who does the jobs.
#[derive(Debug)]
pub(super) struct Worker {
    disk: Arc<dyn Disk>,
    progress: watch::Sender<Progress>,
    snapshot: Option<Running>,
    /// Counts what the loop was asked for, so that a late answer to an abandoned snapshot is not taken for one to the
    /// next.
    asks: u64,
}

/// A snapshot that is being written.
#[derive(Debug)]
struct Running {
    store: u64,
    file: SnapshotFile,
    live: Live,
}

impl Worker {
    pub(super) fn new(disk: Arc<dyn Disk>, progress: watch::Sender<Progress>) -> Worker {
        Worker { disk, progress, snapshot: None, asks: 0 }
    }

    fn run(mut self, jobs: &Receiver<Job>, done: &SyncSender<Outcome<Done>>) {
        for job in jobs {
            let pause = if matches!(job, Job::Chunk(_)) { CHUNK_PAUSE } else { Duration::ZERO };
            let outcome = self.carry_out(job);
            std::thread::sleep(pause);
            let failed = outcome.is_err();
            if let Err(error) = &outcome {
                publish_failure(&self.progress, error);
            }
            // The writer is gone where nobody takes it: then nobody needs it.
            let taken = outcome.transpose().is_none_or(|outcome| done.send(outcome).is_ok());
            if failed || !taken {
                return;
            }
        }
    }

    fn carry_out(&mut self, job: Job) -> Outcome<Option<Done>> {
        match job {
            Job::MakeSegment(plan) => return Ok(Some(Done::Segment(plan.make()?))),
            Job::BeginSnapshot(new) => self.begin(new)?,
            Job::Chunk(chunk) => return Ok(self.take(chunk)?),
            Job::AbandonSnapshot => {
                self.progress.send_modify(|progress| progress.wanted = None);
                if let Some(running) = self.snapshot.take() {
                    running.file.abandon()?;
                }
            }
            Job::RemoveFolder(folder) => {
                remove_folder(self.disk.as_ref(), &folder)?;
                let parent = folder.parent().unwrap_or(&folder);
                self.disk.sync_folder(parent).doing("sync", parent)?;
            }
        }
        Ok(None)
    }

    fn begin(&mut self, new: NewSnapshot) -> Result<(), StoreError> {
        let NewSnapshot { folder, store, number, sequence } = new;
        let file = SnapshotFile::create(Arc::clone(&self.disk), folder, store, number, sequence)?;
        self.snapshot = Some(Running { store, file, live: Live::default() });
        self.ask(Cursor::Record(NoteId::SEQUENCE));
        Ok(())
    }

    fn ask(&mut self, from: Cursor) {
        self.asks += 1;
        let wanted = Wanted { ask: self.asks, from };
        self.progress.send_modify(|progress| progress.wanted = Some(wanted));
    }

    fn take(&mut self, chunk: Chunk) -> Result<Option<Done>, StoreError> {
        let Some(running) = self.snapshot.as_mut().filter(|_| chunk.ask == self.asks) else { return Ok(None) };
        let next = chunk.next();
        match &chunk.part {
            Part::Records(records) => running.write(records, put_record)?,
            Part::Keys(keys) => running.write(keys, put_key)?,
        }
        if let Part::Records(records) = &chunk.part {
            running.live.items += records.len() as u64;
        }
        match next {
            Some(from) => {
                self.ask(from);
                Ok(None)
            }
            None => self.finish(),
        }
    }

    fn finish(&mut self) -> Result<Option<Done>, StoreError> {
        let Some(Running { store, file, mut live }) = self.snapshot.take() else { return Ok(None) };
        live.bytes = file.finish()?;
        self.progress.send_modify(|progress| {
            progress.wanted = None;
            progress.snapshots += 1;
        });
        Ok(Some(Done::Snapshot { store, live }))
    }
}

impl Running {
    /// Writes what is in a chunk, in frames of a bounded length.
    fn write<T>(&mut self, mut things: &[T], put: impl Fn(&mut Vec<u8>, &T)) -> Result<(), StoreError> {
        while !things.is_empty() {
            let mut taken = 0;
            self.file.add(|buffer| {
                while let Some(thing) = things.get(taken).filter(|_| buffer.len() < SNAPSHOT_FRAME_BYTES) {
                    put(buffer, thing);
                    taken += 1;
                }
            })?;
            things = &things[taken..];
        }
        Ok(())
    }
}
