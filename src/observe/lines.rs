//! Lines on their way to a terminal or file: a bounded queue, and a thread that writes what is in it.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the queue holds at most, in bytes of text. At a hundred bytes a line, that is a second of a busy cluster's log,
/// within which a terminal catches up or never does. The thread holds as much again while it writes.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a queued line costs beside its text, in bytes.
const LINE_BYTES: usize = size_of::<Line>();

/// How much is written at once, in bytes: large enough to be few system calls, small enough to appear at once.
const WRITE_BYTES: usize = 64 * 1024;

/// How long the end of the process waits for somebody to read the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// `[2026-11-22 20:58:53] `
    Plain,
    /// The text is a JSON object; `time` becomes its first member.
    Json,
}

/// Where lines are queued; clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Queue>);

/// Ends the writing when it is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// The queue is no longer empty, or closed.
    filled: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    bytes: usize,
    /// Lines that did not fit since the thread last took what was there.
    lost: u64,
    /// No line comes any more.
    closed: bool,
    /// The thread writes no more: all is written, or nothing can be.
    ended: bool,
}

#[derive(Debug)]
struct Line {
    at: Timestamp,
    text: String,
}

impl Lines {
    /// Queues a line, with the present time. Never waits: where there is no room, the line is counted as lost.
    pub(super) fn push(&self, text: String) {
        let mut state = self.0.lock();
        if state.closed || state.ended {
            return;
        }
        let bytes = text.len() + LINE_BYTES;
        if state.bytes + bytes > QUEUE_BYTES_MAX {
            state.lost += 1;
            return;
        }
        state.bytes += bytes;
        // Taken within the lock, so that times never go back from line to line.
        state.lines.push(Line { at: Timestamp::now(), text });
        let first = state.lines.len() == 1;
        drop(state);
        if first {
            self.0.filled.notify_one();
        }
    }
}

impl Writer {
    /// Begins a thread that writes lines to `out`, each with its time in front.
    pub(super) fn start(
        name: &'static str,
        prefix: Prefix,
        out: impl Write + Send + 'static,
    ) -> io::Result<(Writer, Lines)> {
        let queue = Arc::new(Queue::default());
        let shared = Arc::clone(&queue);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = shared.write(prefix, out) {
                // Nobody is left to tell where stderr is gone too.
                let _ = writeln!(io::stderr(), "cannot write the {name}: {error}; it ends here, the replicas go on");
            }
            shared.lock().ended = true;
            shared.ended.notify_all();
        })?;
        Ok((Writer { queue: Arc::clone(&queue) }, Lines(queue)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.closed = true;
        self.queue.filled.notify_one();
        // The thread ends itself; one that waits for a stopped terminal is left behind.
        drop(self.queue.ended.wait_timeout_while(state, FLUSH_PATIENCE, |state| !state.ended));
    }
}

impl Queue {
    /// The state is whole between any two statements that hold the lock, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all lines until the queue is closed and empty.
    fn write(&self, prefix: Prefix, mut out: impl Write) -> io::Result<()> {
        let mut calendar = Calendar::new(prefix, TimeZone::system());
        let mut batch = Vec::new();
        let mut text = String::new();
        while let Some(lost) = self.take(&mut batch) {
            for line in batch.drain(..) {
                calendar.write_line(&mut text, line.at, &line.text);
                if text.len() >= WRITE_BYTES {
                    out.write_all(text.as_bytes())?;
                    text.clear();
                }
            }
            if lost > 0 {
                calendar.write_line(&mut text, Timestamp::now(), &prefix.lost(lost));
            }
            out.write_all(text.as_bytes())?;
            text.clear();
            out.flush()?;
        }
        Ok(())
    }

    /// Waits for lines, moves them to `batch`, and says how many were lost after them; none at the end.
    fn take(&self, batch: &mut Vec<Line>) -> Option<u64> {
        let empty = |state: &mut State| state.lines.is_empty() && !state.closed;
        let mut state = self.filled.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        if state.lines.is_empty() {
            return None;
        }
        std::mem::swap(&mut state.lines, batch);
        state.bytes = 0;
        Some(std::mem::take(&mut state.lost))
    }
}

impl Prefix {
    /// The line that tells of `count` lines that did not fit.
    fn lost(self, count: u64) -> String {
        match self {
            Prefix::Plain => format!("LOG [LOST] {count} lines did not fit; this output is read too slowly"),
            Prefix::Json => format!("{{\"event\":\"lost\",\"lines\":{count}}}"),
        }
    }
}

/// Writes times; the text of the last second is kept, since most lines share it.
struct Calendar {
    prefix: Prefix,
    zone: TimeZone,
    second: Option<i64>,
    text: String,
}

impl Calendar {
    fn new(prefix: Prefix, zone: TimeZone) -> Calendar {
        Calendar { prefix, zone, second: None, text: String::new() }
    }

    fn write_line(&mut self, out: &mut String, at: Timestamp, text: &str) {
        match self.prefix {
            Prefix::Plain => {
                if self.second != Some(at.as_second()) {
                    let time = at.to_zoned(self.zone.clone());
                    self.text = time.strftime("[%Y-%m-%d %H:%M:%S] ").to_string();
                    self.second = Some(at.as_second());
                }
                out.push_str(&self.text);
                out.push_str(text);
            }
            Prefix::Json => {
                let time = at.to_zoned(self.zone.clone());
                let members = text.strip_prefix('{').unwrap_or(text);
                append(out, format_args!("{{\"time\":\"{}\",{members}", time.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")));
            }
        }
        out.push('\n');
    }
}

fn append(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = fmt::Write::write_fmt(out, text);
}

#[cfg(test)]
mod tests;
