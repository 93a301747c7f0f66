//! The load: workers that each write a note of their own, by a rate or as fast as they are answered.
//!
//! All workers are futures of one thread, which is the load generator. In an open loop a worker takes the next intended
//! start, waits for it, and sends; where all are busy, starts are taken late, and the wait counts as latency, so that a
//! slow answer cannot hide the requests that it held up (coordinated omission).

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::BenchError;
use super::bed::Bed;
use super::cpu;
use super::http::{self, Connection, Head};
use super::notes::BenchNote;
use super::scenario::{Clients, Load, Scenario, Work};
use super::tally::Tally;
use crate::clock::ExactTimer;

/// How long after the window requests that waited for a connection are still sent.
const BACKLOG_WAIT: Duration = Duration::from_secs(2);

/// From the preparations to the first request, so that all workers wait for it.
const LEAD: Duration = Duration::from_millis(5);

/// One scenario at work.
struct Run<'a> {
    bed: &'a Bed,
    scenario: Scenario,
    window: Duration,
    tally: RefCell<Tally>,
    /// When the first request is due.
    start: Cell<Instant>,
    /// The next intended start of the open loop, counted from 0.
    next: Cell<u64>,
    /// Hundredths of writes at the item's primary that are owed.
    locality: Cell<u32>,
    /// When the last request was sent, and when the last answer came.
    last_sent: Cell<Instant>,
    last_done: Cell<Instant>,
}

/// One connection's worth of load: one request at a time.
struct Worker {
    place: usize,
    note: BenchNote,
    /// By replica.
    connections: Vec<Option<Connection>>,
    timer: ExactTimer,
    /// Requests sent, for taking turns.
    turn: usize,
}

/// Runs one scenario for one window. The notes must be as many as its connections, at least.
pub(super) async fn run(
    bed: &Bed,
    scenario: Scenario,
    window: Duration,
    connections: usize,
) -> Result<Tally, BenchError> {
    let connections = match scenario.load {
        Load::Open { .. } => connections,
        Load::Closed { connections } => connections,
    };
    let now = Instant::now();
    let run = Run {
        bed,
        scenario,
        window,
        tally: RefCell::new(Tally::new()),
        start: Cell::new(now),
        next: Cell::new(0),
        locality: Cell::new(0),
        last_sent: Cell::new(now),
        last_done: Cell::new(now),
    };
    let mut workers = run.workers(connections);
    join_all(workers.iter_mut().map(|worker| run.prepare(worker))).await;
    let carried = bed.quiet().await?;
    *run.tally.borrow_mut() = Tally::new();
    let (used, began) = (cpu::Reading::now(), Instant::now());
    run.start.set(began + LEAD);
    run.last_sent.set(began + LEAD);
    run.last_done.set(began + LEAD);
    join_all(workers.iter_mut().map(|worker| run.work(worker))).await;
    run.tally.borrow_mut().used(cpu::Reading::now().since(&used), began.elapsed());
    run.give_back(workers);
    let now_carried = bed.quiet().await?;
    let mut tally = run.finish();
    tally.frames = now_carried.frames.saturating_sub(carried.frames);
    tally.link_connections = now_carried.opened.saturating_sub(carried.opened);
    Ok(tally)
}

impl Run<'_> {
    fn workers(&self, connections: usize) -> Vec<Worker> {
        let notes = self.bed.notes.borrow();
        let worker = |(place, note): (usize, &BenchNote)| Worker {
            place,
            note: note.clone(),
            connections: self.bed.replicas.iter().map(|_| None).collect(),
            timer: ExactTimer::default(),
            turn: place,
        };
        notes.iter().take(connections).enumerate().map(worker).collect()
    }

    fn give_back(&self, workers: Vec<Worker>) {
        let mut notes = self.bed.notes.borrow_mut();
        workers.into_iter().for_each(|worker| notes[worker.place] = worker.note);
    }

    /// What the window came to.
    fn finish(self) -> Tally {
        let mut tally = self.tally.into_inner();
        let until = match self.scenario.load {
            // As long as the requests were sent for: an open loop that is held up ends late.
            Load::Open { .. } => self.last_sent.get(),
            Load::Closed { .. } => self.last_done.get(),
        };
        tally.elapsed = (until - self.start.get()).max(self.window);
        tally
    }

    /// Opens the worker's connections and has one request done as those that are measured, uncounted: it moves the item
    /// to where they find it.
    async fn prepare(&self, worker: &mut Worker) {
        if self.scenario.clients == Clients::Kept {
            for place in self.aims(worker) {
                // Where it cannot be had, the requests say so.
                worker.connections[place] = Connection::open(self.bed.replicas[place].service).await.ok();
            }
        }
        let first = if self.scenario.work == Work::ItemPrimary { self.home(worker) } else { self.aim(worker) };
        self.ask(worker, first, Instant::now()).await;
    }

    /// Sends requests until the window is over.
    async fn work(&self, worker: &mut Worker) {
        while let Some(intended) = self.turn(worker).await {
            let aim = self.aim(worker);
            self.ask(worker, aim, intended).await;
        }
    }

    /// Waits for the worker's next request; none after the window. Returns when the request was meant to start.
    async fn turn(&self, worker: &mut Worker) -> Option<Instant> {
        let end = self.start.get() + self.window;
        let Load::Open { per_s } = self.scenario.load else {
            worker.timer.until(self.start.get()).await;
            return Some(Instant::now()).filter(|now| *now < end);
        };
        loop {
            let intended = self.start.get() + Duration::from_secs_f64(self.next.get() as f64 / per_s);
            if intended >= end {
                return None;
            }
            self.next.set(self.next.get() + 1);
            let now = Instant::now();
            if now < intended {
                worker.timer.until(intended).await;
                self.tally.borrow_mut().sent_late(intended.elapsed());
            } else if now > end + BACKLOG_WAIT {
                self.tally.borrow_mut().failed("not_sent".to_owned());
                continue;
            }
            return Some(intended);
        }
    }

    /// The replicas that the worker's requests may go to.
    fn aims(&self, worker: &Worker) -> Vec<usize> {
        let all = 0..self.bed.replicas.len();
        match self.scenario.work {
            Work::Primary => vec![self.bed.primary],
            Work::Backup => all.filter(|place| *place != self.bed.primary).collect(),
            Work::ItemPrimary => vec![self.home(worker)],
            Work::Read | Work::Anywhere | Work::Elsewhere | Work::Locality(_) => all.collect(),
        }
    }

    /// Where the worker's note has its primary, while nobody else writes it.
    fn home(&self, worker: &Worker) -> usize {
        worker.place % self.bed.replicas.len()
    }

    /// The replica that the next request goes to.
    fn aim(&self, worker: &mut Worker) -> usize {
        worker.turn += 1;
        let (count, owner) = (self.bed.replicas.len(), worker.note.owner);
        let other_than = |place: usize| (place + 1 + worker.turn % (count - 1).max(1)) % count;
        match self.scenario.work {
            Work::Primary => self.bed.primary,
            Work::Backup => other_than(self.bed.primary),
            Work::Read | Work::Anywhere => worker.turn % count,
            Work::ItemPrimary => owner,
            Work::Elsewhere => other_than(owner),
            Work::Locality(percent) => {
                let owed = self.locality.get() + u32::from(percent);
                self.locality.set(owed % 100);
                if owed >= 100 { owner } else { other_than(owner) }
            }
        }
    }

    /// Sends one request and counts what became of it.
    async fn ask(&self, worker: &mut Worker, aim: usize, intended: Instant) {
        let writes = self.scenario.work.writes();
        let request = self.request(worker, aim);
        self.last_sent.set(Instant::now());
        let answered = self.exchange(worker, aim, &request).await;
        let now = Instant::now();
        self.last_done.set(now);
        let mut tally = self.tally.borrow_mut();
        match answered {
            Ok((head, _)) if head.is_done() => {
                tally.done(now - intended, &head.phases);
                if writes {
                    worker.note.done(aim);
                }
            }
            Ok((_, code)) => {
                if writes && code != "unknown" {
                    worker.note.failed();
                }
                tally.failed(code);
            }
            // Whether it took effect is unknown.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => tally.failed("no_answer".to_owned()),
            Err(_) => tally.failed("connection".to_owned()),
        }
    }

    fn request(&self, worker: &mut Worker, aim: usize) -> Vec<u8> {
        let host = &self.bed.replicas[aim].host;
        let path = format!("/note/{}", worker.note.id);
        let clients = match self.scenario.clients {
            Clients::Kept => "",
            Clients::New => "Connection: close\r\n",
        };
        if !self.scenario.work.writes() {
            return http::get(host, &path, clients);
        }
        http::with_body("PUT", host, &path, clients, &self.bed.content.json(worker.note.next()))
    }

    /// The answer's head, and its code where it is a failure.
    async fn exchange(&self, worker: &mut Worker, aim: usize, request: &[u8]) -> io::Result<(Head, String)> {
        let mut connection = match worker.connections[aim].take() {
            Some(connection) => connection,
            None => {
                self.tally.borrow_mut().client_connections += 1;
                Connection::open(self.bed.replicas[aim].service).await?
            }
        };
        let head = connection.ask(request).await?;
        let code = match head.is_done() {
            true => String::new(),
            false => http::code_of(head.status, connection.body(&head)),
        };
        if head.keeps() && self.scenario.clients == Clients::Kept {
            worker.connections[aim] = Some(connection);
        }
        Ok((head, code))
    }
}
