//! A replica that is none: it answers calls without keeping anything, so that its memory does not grow.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use primacy::clock::Clock;
use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, Version};
use primacy::protocol::port::{Batch, Call, Pong, Port, Said};
use primacy::protocol::request::{Answer, Done, Failure, Outcome, Page, Phases, Request};
use primacy::protocol::status::Status;
use tokio::sync::mpsc;

/// How many notes there always are: enough that lists stream.
const NOTES: u64 = 2_000;

/// The first number of a note that the fuzzer asks for as a marker.
pub(crate) const MARKERS: u64 = 1 << 40;

/// The markers that reached the replica.
pub(crate) type Seen = Arc<Mutex<HashSet<u64>>>;

/// Begins to answer, in the runtime that this is called in.
pub(crate) fn start(seen: Seen) -> Port {
    let (port, batches) = Port::open(Clock::start());
    tokio::spawn(answer_all(batches, seen));
    port
}

async fn answer_all(mut batches: mpsc::Receiver<Batch>, seen: Seen) {
    let note =
        Note::from_post(format!("{{\"title\":\"t\",\"body\":\"{}\"}}", "b".repeat(200)).as_bytes()).expect("a note");
    while let Some(batch) = batches.recv().await {
        let said = batch.calls.into_iter().map(|(tag, call)| (tag, say(call, &note, &seen))).collect();
        // The connection may be gone.
        let _ = batch.answers.try_send(said);
    }
}

fn say(call: Call, note: &Note, seen: &Seen) -> Said {
    let primary = Some(ReplicaId(0));
    let outcome = match call {
        Call::Ping => return Said::Pong(Pong { replica: ReplicaId(0), epoch: Epoch(1), primary, in_sync: true }),
        Call::Status => return Said::Status(Box::new(status())),
        Call::Note(Request::Get(id)) => {
            if id.0 >= MARKERS {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.0);
            }
            match id.0 <= NOTES {
                true => Outcome::Note { id, note: note.clone(), written: version() },
                false => Outcome::Failed(Failure::not_found(id)),
            }
        }
        Call::Note(Request::List(page)) => list(page, note),
        Call::Note(Request::Write(write)) => {
            let id = write.operation.item();
            Outcome::Done(Done { id: if id.is_sequence() { NoteId(1) } else { id }, version: version() })
        }
    };
    Said::Answer(Answer { outcome, primary, phases: Phases::default() })
}

fn list(page: Page, note: &Note) -> Outcome {
    let first = page.after.0.saturating_add(1);
    let fit = page.limit.min(page.bytes_max / note.as_str().len()) as u64;
    let last = NOTES.min(page.after.0.saturating_add(fit));
    Outcome::Notes { notes: (first..=last).map(|id| (NoteId(id), note.clone())).collect(), more: last < NOTES }
}

fn version() -> Version {
    Version { epoch: Epoch(1), counter: 1 }
}

fn status() -> Status {
    Status {
        replica: "localhost:1".to_owned(),
        mode: "remote-write".to_owned(),
        role: "primary".to_owned(),
        view: None,
        in_sync: true,
        ready: true,
        lease_ms: None,
        controller: None,
        notes: NOTES,
        items_owned: NOTES,
        links: Vec::new(),
    }
}
