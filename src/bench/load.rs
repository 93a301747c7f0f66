//! The load: workers that each write a note of their own, by a rate or as fast as they are answered. Each is one request
//! at a time; workers of one client share its connections.
//!
//! All workers are futures of one thread, which is the load generator. In an open loop a worker takes the next intended
//! start, waits for it, and sends; where all are busy, starts are taken late, and the wait counts as latency, so that a
//! slow answer cannot hide the requests that it held up (coordinated omission).

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::BenchError;
use super::bed::Bed;
use super::cpu;
use super::notes::BenchNote;
use super::scenario::{Load, Scenario, Work};
use super::tally::Tally;
use super::ways::{Ask, Failed, Ways};
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

/// One request at a time.
struct Worker {
    place: usize,
    /// Whose it is.
    client: usize,
    note: BenchNote,
    ways: Ways,
    timer: ExactTimer,
    /// Requests sent, for taking turns.
    turn: usize,
}

/// Runs one scenario for one window. The notes must be as many as its workers, at least.
pub(super) async fn run(
    bed: &Bed,
    scenario: Scenario,
    window: Duration,
    connections: usize,
) -> Result<Tally, BenchError> {
    let (clients, in_flight) = match scenario.load {
        Load::Open { .. } => (connections, 1),
        Load::Closed { connections, in_flight } => (connections, in_flight),
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
    let mut workers = run.workers(clients, in_flight);
    join_all(workers.iter_mut().map(|worker| run.prepare(worker))).await;
    let carried = bed.quiet().await?;
    *run.tally.borrow_mut() = Tally::new();
    let opened = |workers: &[Worker]| workers.iter().step_by(in_flight).map(|worker| worker.ways.opened()).sum::<u64>();
    let opened_before = opened(&workers);
    let (used, began) = (cpu::Reading::now(), Instant::now());
    run.start.set(began + LEAD);
    run.last_sent.set(began + LEAD);
    run.last_done.set(began + LEAD);
    join_all(workers.iter_mut().map(|worker| run.work(worker))).await;
    run.tally.borrow_mut().used(cpu::Reading::now().since(&used), began.elapsed());
    let opened = opened(&workers) - opened_before;
    run.give_back(workers);
    let now_carried = bed.quiet().await?;
    let mut tally = run.finish();
    tally.frames = now_carried.frames.saturating_sub(carried.frames);
    tally.client_connections = opened;
    tally.link_connections = now_carried.opened.saturating_sub(carried.opened);
    Ok(tally)
}

impl Run<'_> {
    fn workers(&self, clients: usize, in_flight: usize) -> Vec<Worker> {
        let notes = self.bed.notes.borrow();
        let mut workers: Vec<Worker> = Vec::with_capacity(clients * in_flight);
        for (place, note) in notes.iter().take(clients * in_flight).enumerate() {
            let ways = match place % in_flight {
                0 => Ways::new(self.bed, &self.scenario),
                within => workers[place - within].ways.share(),
            };
            let client = place / in_flight;
            workers.push(Worker { place, client, note: note.clone(), ways, timer: ExactTimer::default(), turn: place });
        }
        workers
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
        for place in self.aims(worker) {
            worker.ways.open(self.bed, place).await;
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
            Work::Read if self.pipelines() => vec![self.home(worker)],
            Work::Read | Work::Anywhere | Work::Elsewhere | Work::Locality(_) => all.collect(),
        }
    }

    /// The replica that the worker's client is near: its notes have their primary there, while nobody else writes them.
    fn home(&self, worker: &Worker) -> usize {
        worker.client % self.bed.replicas.len()
    }

    /// Whether a client has several requests on its way at a time. Where it may choose, all go over one connection.
    fn pipelines(&self) -> bool {
        matches!(self.scenario.load, Load::Closed { in_flight: 2.., .. })
    }

    /// The replica that the next request goes to.
    fn aim(&self, worker: &mut Worker) -> usize {
        worker.turn += 1;
        let (count, owner) = (self.bed.replicas.len(), worker.note.owner);
        let other_than = |place: usize| (place + 1 + worker.turn % (count - 1).max(1)) % count;
        match self.scenario.work {
            Work::Primary => self.bed.primary,
            Work::Backup => other_than(self.bed.primary),
            Work::Read if self.pipelines() => self.home(worker),
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
        let (id, writes) = (worker.note.id, self.scenario.work.writes());
        let json = if writes { self.bed.content.json(worker.note.next()) } else { String::new() };
        let ask = if writes { Ask::Put(id, &json) } else { Ask::Get(id) };
        self.last_sent.set(Instant::now());
        let answered = worker.ways.ask(self.bed, aim, ask).await;
        let now = Instant::now();
        self.last_done.set(now);
        let mut tally = self.tally.borrow_mut();
        match answered {
            Ok(phases) => {
                tally.done(now - intended, phases.as_ref());
                if writes {
                    worker.note.done(aim);
                }
            }
            Err(Failed { code, perhaps }) => {
                if writes && !perhaps {
                    worker.note.failed();
                }
                tally.failed(code);
            }
        }
    }
}
