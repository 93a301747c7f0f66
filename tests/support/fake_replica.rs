//! A replica that is none: it answers a listener's calls from a map, at once or when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use primacy::clock::Clock;
use primacy::note::{Note, NoteId};
use primacy::protocol::ids::{Epoch, ReplicaId, Version};
use primacy::protocol::port::{Batch, Call, Pong, Port, Said};
use primacy::protocol::request::{Answer, Code, Done, Failure, Operation, Outcome, Page, Phases, Request, Write};
use primacy::protocol::status::{Status, ViewStatus};
use tokio::sync::watch;

/// The replica's place; the primary is another one.
pub(crate) const REPLICA: ReplicaId = ReplicaId(1);
pub(crate) const PRIMARY: ReplicaId = ReplicaId(0);

/// What a test sees and steers.
#[derive(Clone)]
pub(crate) struct FakeReplica {
    state: Arc<Mutex<State>>,
    gate: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    notes: BTreeMap<NoteId, (Note, Version)>,
    last: u64,
    counter: u64,
    writes: Vec<Write>,
    /// How many calls each batch had.
    batches: Vec<usize>,
    lists: usize,
    lists_max: Option<usize>,
    unready: bool,
}

impl FakeReplica {
    /// Starts one that answers at once, and the port to it.
    pub(crate) fn start() -> (FakeReplica, Port) {
        let (port, mut batches) = Port::open(Clock::start());
        let fake = FakeReplica { state: Arc::default(), gate: watch::Sender::new(true) };
        let replica = fake.clone();
        let mut gate = fake.gate.subscribe();
        tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                replica.state.lock().unwrap().batches.push(batch.calls.len());
                // The sender lives in `replica`.
                gate.wait_for(|open| *open).await.unwrap();
                replica.serve(batch);
            }
        });
        (fake, port)
    }

    /// Answers nothing from now on.
    pub(crate) fn hold(&self) {
        self.gate.send_replace(false);
    }

    /// Answers what waits, and all that follows.
    pub(crate) fn release(&self) {
        self.gate.send_replace(true);
    }

    /// Puts notes in without asking.
    pub(crate) fn fill(&self, notes: u64, body: &str) {
        let mut state = self.state.lock().unwrap();
        for _ in 0..notes {
            let note = serde_json::json!({ "title": "t", "body": body }).to_string();
            state.post(Note::from_post(note.as_bytes()).unwrap());
        }
    }

    /// Fails lists past so many.
    pub(crate) fn fail_lists_after(&self, lists: usize) {
        self.state.lock().unwrap().lists_max = Some(lists);
    }

    /// Is ready no more.
    pub(crate) fn lose_lease(&self) {
        self.state.lock().unwrap().unready = true;
    }

    /// All writes that came.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.state.lock().unwrap().writes.clone()
    }

    /// How many calls came with each batch.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.state.lock().unwrap().batches.clone()
    }

    /// How many calls came.
    pub(crate) fn calls(&self) -> usize {
        self.batches().iter().sum()
    }

    fn serve(&self, batch: Batch) {
        let mut state = self.state.lock().unwrap();
        let said = batch.calls.into_iter().map(|(tag, call)| (tag, state.say(call))).collect();
        // The connection may be gone.
        let _ = batch.answers.try_send(said);
    }
}

impl State {
    fn say(&mut self, call: Call) -> Said {
        match call {
            Call::Ping => Said::Pong(Pong { replica: REPLICA, epoch: Epoch(1), primary: Some(PRIMARY), in_sync: true }),
            Call::Status => Said::Status(Box::new(self.status())),
            Call::Note(request) => {
                let outcome = self.outcome(request).unwrap_or_else(Outcome::Failed);
                let phases = Phases { queue: 12_000, replicate: 1_500_000, store: 700_000, ..Phases::default() };
                Said::Answer(Answer { outcome, primary: Some(PRIMARY), phases })
            }
        }
    }

    fn status(&self) -> Status {
        let view = ViewStatus { epoch: Epoch(1), primary: "a:1".into(), in_sync: vec!["a:1".into()], joining: vec![] };
        Status {
            replica: "b:2".into(),
            mode: "remote-write".into(),
            role: "backup".into(),
            view: Some(view),
            in_sync: true,
            ready: !self.unready,
            lease_ms: Some(if self.unready { 0 } else { 300 }),
            controller: None,
            notes: self.notes.len() as u64,
            items_owned: 0,
            links: vec![],
        }
    }

    fn outcome(&mut self, request: Request) -> Result<Outcome, Failure> {
        match request {
            Request::Write(write) => {
                self.writes.push(write.clone());
                self.write(write).map(Outcome::Done)
            }
            Request::Get(id) => {
                let (note, written) = self.find(id)?;
                Ok(Outcome::Note { id, note, written })
            }
            Request::List(page) => {
                self.lists += 1;
                match self.lists_max {
                    Some(most) if self.lists > most => Err(Failure::new(Code::Unavailable, "no lease")),
                    _ => Ok(self.page(page)),
                }
            }
        }
    }

    fn find(&self, id: NoteId) -> Result<(Note, Version), Failure> {
        self.notes.get(&id).cloned().ok_or_else(|| Failure::not_found(id))
    }

    fn page(&self, page: Page) -> Outcome {
        let mut notes = Vec::new();
        let mut bytes = 0;
        for (id, (note, _)) in self.notes.range(NoteId(page.after.0 + 1)..) {
            bytes += note.as_str().len();
            if notes.len() == page.limit || (bytes > page.bytes_max && !notes.is_empty()) {
                return Outcome::Notes { notes, more: true };
            }
            notes.push((*id, note.clone()));
        }
        Outcome::Notes { notes, more: false }
    }

    fn write(&mut self, write: Write) -> Result<Done, Failure> {
        let id = write.operation.item();
        if !id.is_sequence() {
            let (_, written) = self.find(id)?;
            if write.if_match.is_some_and(|versions| !versions.contains(&written)) {
                return Err(Failure::new(Code::PreconditionFailed, "the note has changed"));
            }
        }
        match write.operation {
            Operation::Post { note } => Ok(self.post(note)),
            Operation::Put { id, note } => Ok(self.put(id, note)),
            Operation::Patch { id, patch } => {
                let (note, _) = self.find(id)?;
                let note = patch.apply(&note).map_err(|error| Failure::new(Code::TooLarge, error.to_string()))?;
                Ok(self.put(id, note))
            }
            Operation::Delete { id } => {
                self.notes.remove(&id);
                Ok(Done { id, version: self.version() })
            }
        }
    }

    fn post(&mut self, note: Note) -> Done {
        self.last += 1;
        self.put(NoteId(self.last), note)
    }

    fn put(&mut self, id: NoteId, note: Note) -> Done {
        let version = self.version();
        self.notes.insert(id, (note, version));
        Done { id, version }
    }

    fn version(&mut self) -> Version {
        self.counter += 1;
        Version { epoch: Epoch(1), counter: self.counter }
    }
}
