//! The requests of this replica's own clients, from their arrival to their one answer.

use std::collections::BTreeMap;

use super::action::Action;
use super::event::Token;
use super::replica::{Replica, Standing};
use crate::clock::Moment;
use crate::config::Mode;
use crate::protocol::ids::RequestId;
use crate::protocol::request::{Answer, Code, Done, Failure, Outcome, Phases, Request, Write};

/// The open requests of this replica's clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The number of the last write; with the incarnation it makes the request id.
    last_write: u64,
    last_read: u64,
    /// In order of arrival, which is the order of their deadlines.
    pub(super) writes: BTreeMap<u64, OpenWrite>,
    /// Bytes of notes in `writes`.
    write_bytes: usize,
    /// Reads that could not be answered at once, in order of arrival.
    pub(super) reads: BTreeMap<u64, OpenRead>,
}

/// A write that has not been answered.
#[derive(Debug)]
pub(super) struct OpenWrite {
    token: Token,
    arrived: Moment,
    deadline: Moment,
    pub(super) write: Write,
    /// Whether it was forwarded or made into a record, in this epoch or an earlier one: then nobody can say any more
    /// that it has no effect (W7).
    pub(super) left: bool,
    /// An update or a recovery named this request: what is answered once the record is decided (V10).
    pub(super) seen: Option<Done>,
    /// When it was forwarded, or began to wait for its item to move here.
    pub(super) began: Option<Moment>,
    /// How long the item took to move here, in ns.
    pub(super) moved: u64,
}

/// A read that waits.
#[derive(Debug)]
pub(super) struct OpenRead {
    pub(super) token: Token,
    pub(super) arrived: Moment,
    deadline: Moment,
    pub(super) request: Request,
}

impl Clients {
    pub(super) fn open_writes(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn open_write_bytes(&self) -> usize {
        self.write_bytes
    }

    /// Takes a write out, to be answered.
    fn close_write(&mut self, number: u64) -> Option<OpenWrite> {
        let open = self.writes.remove(&number)?;
        self.write_bytes -= open.write.operation.note_bytes();
        Some(open)
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let write = self.writes.first_key_value().map(|(_, open)| open.deadline);
        let read = self.reads.first_key_value().map(|(_, open)| open.deadline);
        write.into_iter().chain(read).min()
    }

    fn open_write(&mut self, token: Token, write: Write, arrived: Moment, timeout_ms: u64) -> u64 {
        // Arrivals of several connections may be slightly out of order; deadlines are kept in order by a little patience.
        let least = self.writes.last_key_value().map_or(Moment::default(), |(_, last)| last.deadline);
        let deadline = arrived.after_ms(timeout_ms).max(least);
        self.last_write += 1;
        self.write_bytes += write.operation.note_bytes();
        let open = OpenWrite { token, arrived, deadline, write, left: false, seen: None, began: None, moved: 0 };
        self.writes.insert(self.last_write, open);
        self.last_write
    }

    pub(super) fn open_read(&mut self, token: Token, request: Request, arrived: Moment, wait_ms: u64) -> u64 {
        let least = self.reads.last_key_value().map_or(Moment::default(), |(_, last)| last.deadline);
        let deadline = arrived.after_ms(wait_ms).max(least);
        self.last_read += 1;
        self.reads.insert(self.last_read, OpenRead { token, arrived, deadline, request });
        self.last_read
    }
}

impl Replica {
    pub(super) fn on_request(&mut self, token: Token, request: Request, arrived: Moment) {
        match request {
            Request::Write(write) => {
                let number = self.clients.open_write(token, write, arrived, self.identity.request_timeout_ms);
                self.start_write(number);
            }
            read => self.start_read(token, read, arrived),
        }
    }

    /// The id of the write with this number.
    pub(super) fn request_id(&self, number: u64) -> RequestId {
        RequestId { replica: self.me(), incarnation: self.identity.incarnation, number }
    }

    /// Brings a write to its item's primary. Before `ready` it stays open, and [`Replica::resume_clients`] finds it.
    pub(super) fn start_write(&mut self, number: u64) {
        if self.standing != Standing::Ready {
            return;
        }
        if let Some(refusal) = self.too_few_in_sync() {
            return self.fail_write(number, refusal);
        }
        match self.identity.mode {
            Mode::RemoteWrite => self.write_at_primary(number),
            Mode::LocalWrite => self.write_here(number),
        }
    }

    /// V3: with fewer in-sync replicas than wanted no write is taken.
    pub(super) fn too_few_in_sync(&self) -> Option<Failure> {
        let (have, want) = (self.in_sync.len(), self.identity.min_in_sync);
        (have < want).then(|| {
            let msg =
                format!("only {have} replicas are in sync, and writes need {want} (min_in_sync); try again later");
            Failure::new(Code::Unavailable, msg)
        })
    }

    /// After `ready`: open writes that were seen are done (V10), or `unknown` where too few replicas hold them (V3); the
    /// others are sent (again); reads start anew.
    pub(super) fn resume_clients(&mut self) {
        let numbers: Vec<u64> = self.clients.writes.keys().copied().collect();
        for number in numbers {
            match self.clients.writes.get(&number).and_then(|open| open.seen) {
                Some(_) if self.too_few_in_sync().is_some() => {
                    self.abandon_write(number, "too few replicas are in sync to confirm the write");
                }
                Some(done) => self.finish_write(number, Outcome::Done(done), Phases::default()),
                None => self.start_write(number),
            }
        }
        for (_, read) in std::mem::take(&mut self.clients.reads) {
            self.start_read(read.token, read.request, read.arrived);
        }
    }

    /// The replica is in no view any more: it answers its open writes, and sends none again (V10).
    pub(super) fn give_up_writes(&mut self) {
        let numbers: Vec<u64> = self.clients.writes.keys().copied().collect();
        for number in numbers {
            self.abandon_write(number, "this replica was left out of the view");
        }
    }

    /// Answers a write that failed without effect.
    pub(super) fn fail_write(&mut self, number: u64, failure: Failure) {
        self.finish_write(number, Outcome::Failed(failure), Phases::default());
    }

    /// Answers a write whose fate may be open: `unavailable` where it never left the queue, else `unknown` (W7).
    fn abandon_write(&mut self, number: u64, why: &str) {
        let Some(open) = self.clients.writes.get(&number) else { return };
        let failure = match open.left {
            false => Failure::new(Code::Unavailable, format!("{why}; the write had no effect, send it again")),
            true => Failure::new(
                Code::Unknown,
                format!(
                    "{why}; the write may have taken effect or may still do so: read the note, or use an Idempotency-Key"
                ),
            ),
        };
        self.fail_write(number, failure);
    }

    /// Answers a write and closes it. `phases` are those since it left the queue.
    pub(super) fn finish_write(&mut self, number: u64, outcome: Outcome, mut phases: Phases) {
        let Some(open) = self.clients.close_write(number) else { return };
        let total = self.now.moment.nanos_since(open.arrived);
        phases.moved = open.moved;
        // A peer may have sent any numbers.
        let spent =
            [phases.forward, phases.moved, phases.replicate, phases.queue].into_iter().fold(0, u64::saturating_add);
        phases.queue = phases.queue.saturating_add(total.saturating_sub(spent));
        let primary = self.primary_of(match &outcome {
            Outcome::Done(done) => done.id,
            _ => open.write.operation.item(),
        });
        self.act(Action::Answer { token: open.token, answer: Answer { outcome, primary, phases } });
    }

    /// Answers what has waited long enough.
    pub(super) fn on_deadlines(&mut self) {
        let now = self.now.moment;
        while let Some((&number, open)) = self.clients.writes.first_key_value()
            && open.deadline <= now
        {
            self.abandon_write(number, "the replicas did not confirm the write in time");
        }
        while let Some(entry) = self.clients.reads.first_entry()
            && entry.get().deadline <= now
        {
            let read = entry.remove();
            self.answer_read(read.token, read.arrived, Outcome::Failed(self.unreadable()));
        }
    }

    /// Why a read could not be answered in time.
    fn unreadable(&self) -> Failure {
        let why = match self.standing {
            Standing::Starting => "this replica waits for the others, there is no view yet",
            Standing::Joining => "this replica is copying the notes from the others",
            Standing::Out => "this replica is not in the view",
            Standing::Recovering => "a new view is being recovered",
            Standing::Ready if self.now.moment >= self.lease_until => "this replica holds no lease",
            Standing::Ready => "a write of the note is not yet confirmed by all replicas",
        };
        Failure::new(Code::Unavailable, format!("{why}; try again, or at another replica"))
    }

    pub(super) fn answer_read(&mut self, token: Token, arrived: Moment, outcome: Outcome) {
        let queue = self.now.moment.nanos_since(arrived);
        let primary = match &outcome {
            Outcome::Note { id, .. } => self.primary_of(*id),
            _ => self.view.as_ref().map(|view| view.primary),
        };
        let answer = Answer { outcome, primary, phases: Phases { queue, ..Phases::default() } };
        self.act(Action::Answer { token, answer });
    }

    /// Starts a read: at once where it can be answered, else it waits for `ready`.
    fn start_read(&mut self, token: Token, request: Request, arrived: Moment) {
        if self.standing == Standing::Ready {
            return self.read(token, request, arrived);
        }
        self.clients.open_read(token, request, arrived, self.identity.read_wait_ms);
    }
}
