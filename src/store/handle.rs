//! The loop's end of its store: commands in, progress out, and never a wait for the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::command::{Command, Progress};
use super::error::{Doing as _, StoreError};
use super::folder::{Folder, Opened};
use super::writer::Writer;

/// Commands that can wait for the writer; the loop sends about one a turn.
pub const QUEUE_COMMANDS_MAX: usize = 1024;

/// Bytes of batches that wait past which the loop takes in nothing new. The disk is then seconds behind, so more memory
/// would only make everybody wait longer.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most commands that the writer takes at once.
const COMMANDS_PER_TURN_MAX: usize = 256;

/// A replica's record store, as its loop sees it.
#[derive(Debug)]
pub struct Store {
    commands: mpsc::Sender<(Command, usize)>,
    progress: watch::Receiver<Progress>,
    /// Bytes that wait for the writer.
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A command that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The queue is full; whoever stops taking in work while there is no [`Store::has_room`] never sees this.
    #[error("the store's queue is full")]
    Full(Command),
    /// The store has ended: [`Store::progressed`] says why.
    #[error("the store has ended")]
    Ended,
}

impl Store {
    /// Starts the writer of an opened store: in a thread of its own where the disk makes it wait, else as a task of the
    /// present runtime.
    pub fn start(folder: Folder, opened: Opened) -> Result<Store, StoreError> {
        let Some(wait) = folder.disk().simulated_wait() else { return Store::spawn(folder, opened) };
        let (store, writer) = Store::with_task(folder, opened);
        tokio::spawn(writer.run(wait));
        Ok(store)
    }

    /// Starts the writer of an opened store, in a thread of its own.
    pub fn spawn(folder: Folder, opened: Opened) -> Result<Store, StoreError> {
        let path = folder.path().to_owned();
        let (sender, progress) = watch::channel(Progress::default());
        let writer = Writer::with_thread(folder, opened, sender).doing("start a thread for", &path)?;
        let (mut store, mut queue) = Store::with_queue(progress);
        let run = move || {
            if queue.run(writer).is_err() {
                tracing::debug!("the store's writer has ended with an error, which the loop was told");
            }
        };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(run);
        store.thread = Some(thread.doing("start a thread for", &path)?);
        Ok(store)
    }

    /// The same without threads, for simulations: the writer is a task, to be run by whoever calls this.
    pub fn with_task(folder: Folder, opened: Opened) -> (Store, WriterTask) {
        let (sender, progress) = watch::channel(Progress::default());
        let writer = Writer::inline(folder, opened, sender);
        let (store, queue) = Store::with_queue(progress);
        (store, WriterTask { writer, queue })
    }

    fn with_queue(progress: watch::Receiver<Progress>) -> (Store, Queue) {
        let (commands, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue { commands: receiver, waiting: Arc::clone(&waiting), taken: Vec::new() };
        (Store { commands, progress, waiting, thread: None }, queue)
    }

    /// Hands a command to the writer, without waiting.
    pub fn send(&self, command: Command) -> Result<(), Refused> {
        let bytes = command.bytes();
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.commands.try_send((command, bytes)).map_err(|error| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full((command, _)) => Refused::Full(command),
                TrySendError::Closed(_) => Refused::Ended,
            }
        })
    }

    /// Whether the loop may take in more work. If not, there will be progress soon, and it may look again then.
    pub fn has_room(&self) -> bool {
        self.commands.capacity() >= QUEUE_COMMANDS_MAX / 2 && self.waiting.load(Ordering::Relaxed) < QUEUE_BYTES_MAX
    }

    /// Commands that wait for the writer.
    pub fn queued(&self) -> usize {
        QUEUE_COMMANDS_MAX - self.commands.capacity()
    }

    /// Waits until the store is further than it was when this last returned. May be dropped and called again: nothing is
    /// missed. An error is final.
    pub async fn progressed(&mut self) -> Result<Progress, Arc<StoreError>> {
        let changed = self.progress.changed().await;
        let progress = self.progress.borrow_and_update().clone();
        match (&progress.failed, changed) {
            (Some(error), _) => Err(Arc::clone(error)),
            (None, Ok(())) => Ok(progress),
            (None, Err(_)) => Err(Arc::new(ended())),
        }
    }

    /// Waits until all that was handed over is durable, and closes the store.
    pub async fn close(self) -> Result<(), Arc<StoreError>> {
        let Store { commands, mut progress, thread, .. } = self;
        drop(commands);
        // The writer drops its end last.
        while progress.changed().await.is_ok() {}
        if let Some(thread) = thread
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        progress.borrow().failed.as_ref().map_or(Ok(()), |error| Err(Arc::clone(error)))
    }
}

/// Only a panic of the writer ends it without a failure, and its message tells of that.
fn ended() -> StoreError {
    let source = std::io::Error::other("the store's writer has ended");
    StoreError::Io { doing: "write in", path: PathBuf::from("the store"), source }
}

/// The writer's end of the queue.
#[derive(Debug)]
struct Queue {
    commands: mpsc::Receiver<(Command, usize)>,
    waiting: Arc<AtomicUsize>,
    taken: Vec<(Command, usize)>,
}

impl Queue {
    /// Until the loop has dropped its end.
    fn run(&mut self, mut writer: Writer) -> Result<(), Arc<StoreError>> {
        while self.commands.blocking_recv_many(&mut self.taken, COMMANDS_PER_TURN_MAX) > 0 {
            self.turn(&mut writer)?;
        }
        writer.close()
    }

    fn turn(&mut self, writer: &mut Writer) -> Result<(), Arc<StoreError>> {
        let bytes: usize = self.taken.iter().map(|(_, bytes)| bytes).sum();
        writer.turn(self.taken.drain(..).map(|(command, _)| command))?;
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// A writer without a thread.
#[derive(Debug)]
pub struct WriterTask {
    writer: Writer,
    queue: Queue,
}

impl WriterTask {
    /// Runs until the store is dropped, or fails, which [`Store::progressed`] tells. Each turn takes `pause`, by tokio's
    /// clock, before it writes; where the task is dropped in it, what it had taken was never written.
    pub async fn run(mut self, pause: Duration) {
        while self.queue.commands.recv_many(&mut self.queue.taken, COMMANDS_PER_TURN_MAX).await > 0 {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if self.queue.turn(&mut self.writer).is_err() {
                return;
            }
        }
        if self.writer.close().is_err() {
            tracing::debug!("the store's writer has ended with an error, which the loop was told");
        }
    }
}
