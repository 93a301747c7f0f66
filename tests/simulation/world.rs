//! The world of one run: everything that happens, in order of time. The same seed makes the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use primacy::clock::Moment;
use primacy::note::NoteId;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId, StoreId};
use primacy::replication::action::Action;
use primacy::replication::event::Event;

use super::checks::{self, Checked, Violation, Witness};
use super::disks::Disk;
use super::faults::Mending;
use super::history::{Ask, Attempt, History, Reply};
use super::links::Link;
use super::mutants::Mutant;
use super::node::{Clock, Node};
use super::plan::{DRIFT_PPM, FAILURE_TIMEOUT, MS, Plan};
use super::report::Counts;
use super::views::Council;
use super::workload::{Client, Knowledge, Wish};

/// How soon after the faults all must be in sync and equal.
const CONVERGES_WITHIN: u64 = 30_000 * MS;

/// Requests that clients make after the faults.
const REQUESTS_AFTER_FAULTS: usize = 20;

/// Times past which something waits for ever.
const ENDS_BEFORE: u64 = 200_000 * MS;

/// Something that happens at a time. A `life` says for which life of a process it was planned.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Turn { node: usize, life: u64 },
    TurnEnds { node: usize, life: u64 },
    Arrives { from: usize, to: usize },
    Disk { node: usize, life: u64 },
    Timer { node: usize, life: u64 },
    Heartbeat { node: usize, life: u64 },
    Heard { node: usize, life: u64, sent: Moment },
    Granted { node: usize, life: u64, until: Moment },
    View { node: usize, life: u64, epoch: Epoch },
    Synced { node: usize, incarnation: Incarnation, epoch: Epoch, store: StoreId },
    Council,
    Client { client: usize, generation: u64 },
    Fault,
    Mend(Mending),
    Start { node: usize, life: u64 },
    Check,
}

/// What comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Faults and requests.
    Faults,
    /// No more faults; some more requests.
    Healing,
    /// No more requests: all becomes equal.
    Settling,
    /// Every note is read everywhere, and one is written at each replica.
    Reading,
    Over,
}

/// A run that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) plan: Plan,
    pub(crate) at: u64,
    pub(crate) violation: Violation,
    /// What happened, one line each; empty where it was not asked for.
    pub(crate) trace: Vec<String>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    planned: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) council: Council,
    pub(crate) clients: Vec<Client>,
    pub(crate) knowledge: Knowledge,
    pub(crate) history: History,
    pub(crate) witness: Witness,
    pub(crate) counts: Counts,
    pub(crate) stage: Stage,
    healed_at: u64,
    pub(crate) requests_left: usize,
    last_missing: Option<Violation>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) scratch: Vec<Action>,
}

/// Runs a seed. With `traced`, the failure tells what happened.
pub(crate) fn run(seed: u64, traced: bool) -> Result<Counts, Box<Failed>> {
    let (plan, rng) = Plan::of_seed(seed);
    run_plan(plan, rng, traced)
}

/// Runs a seed with a rule switched off.
pub(crate) fn run_mutant(seed: u64, mutant: Mutant) -> Result<Counts, Box<Failed>> {
    let (plan, rng) = Plan::of_seed(seed);
    run_plan(Plan { mutant: Some(mutant), ..plan }, rng, false)
}

fn run_plan(plan: Plan, rng: Rng, traced: bool) -> Result<Counts, Box<Failed>> {
    let mut world = World::new(plan, rng, traced);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation { rule: "the core does not panic", seen: message.unwrap_or_default() })
    });
    match ended {
        Ok(()) => Ok(world.counts),
        Err(violation) => {
            let trace = world.trace.take().unwrap_or_default();
            Err(Box::new(Failed { plan: world.plan, at: world.now, violation, trace }))
        }
    }
}

/// The queue.
impl World {
    fn new(plan: Plan, mut rng: Rng, traced: bool) -> World {
        let nodes: Vec<Node> = (0..plan.replicas).map(|_| new_node(plan.mutant, &mut rng)).collect();
        let link_row = || (0..plan.replicas).map(|_| Link::default()).collect::<Vec<_>>();
        let links = (0..plan.replicas).map(|_| link_row()).collect();
        let council = Council::new(Vec::new(), rng.i64(-DRIFT_PPM..=DRIFT_PPM));
        let clients = (0..plan.clients).map(|_| Client::default()).collect();
        World {
            now: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            planned: 0,
            nodes,
            links,
            council,
            clients,
            knowledge: Knowledge::default(),
            history: History::default(),
            witness: Witness::default(),
            counts: Counts { runs: 1, ..Counts::default() },
            stage: Stage::Faults,
            healed_at: 0,
            requests_left: plan.requests,
            last_missing: None,
            trace: traced.then(Vec::new),
            scratch: Vec::new(),
            plan,
            rng,
        }
    }

    /// Notes what happens, where somebody wants to read it.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} ms  {}", self.now as f64 / MS as f64, line()));
        }
    }

    /// Plans something for a time.
    pub(crate) fn at(&mut self, time: u64, happening: Happening) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.happenings[slot] = Some(happening);
                slot
            }
            None => {
                self.happenings.push(Some(happening));
                self.happenings.len() - 1
            }
        };
        self.planned += 1;
        self.queue.push(Reverse((time.max(self.now), self.planned, slot)));
    }

    /// Plans something for later.
    pub(crate) fn after(&mut self, nanos: u64, happening: Happening) {
        self.at(self.now + nanos, happening);
    }

    fn run(&mut self) -> Checked {
        self.begin();
        while self.stage != Stage::Over {
            let Some(Reverse((time, _, slot))) = self.queue.pop() else { break };
            self.now = time;
            self.free.push(slot);
            if let Some(happening) = self.happenings[slot].take() {
                self.happen(happening)?;
            }
            if self.now > ENDS_BEFORE {
                let seen = format!("stage {:?} after {} ms; {:?}", self.stage, self.now / MS, self.last_missing);
                return Err(Violation { rule: "every run ends", seen });
            }
        }
        checks::each_takes_effect_once(&self.history)?;
        self.counts.undecided += checks::notes_are_linearizable(&self.history, &self.witness)?;
        self.count_all();
        Ok(())
    }

    fn begin(&mut self) {
        let ids: Vec<usize> = (0..self.nodes.len()).collect();
        let mut members = Vec::new();
        for node in ids {
            self.nodes[node].incarnation = Incarnation(self.rng.u64(..));
            members.push(self.member(node));
        }
        self.council = Council::new(members, self.rng.i64(-DRIFT_PPM..=DRIFT_PPM));
        self.council.mutant = self.plan.mutant;
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.announce();
        for client in 0..self.clients.len() {
            self.plan_client(client, self.plan.think);
        }
        self.after(0, Happening::Council);
        if !self.plan.faults.is_empty() {
            self.after(self.plan.fault_every, Happening::Fault);
        }
        self.after(self.plan.faults_until, Happening::Check);
    }

    fn count_all(&mut self) {
        self.counts.simulated_ms = self.now / MS;
        self.counts.views = self.council.log.len() as u64;
        self.counts.revivals = self.council.revivals;
        self.counts.removals = self.council.removals;
        self.counts.joins = self.council.joins;
        self.counts.synced = self.council.synced;
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Turn { node, life } if self.lives(node, life) => return self.turn(node),
            Happening::TurnEnds { node, life } if self.lives(node, life) => return self.end_turn(node),
            Happening::Arrives { from, to } => self.arrive(from, to),
            Happening::Disk { node, life } if self.lives(node, life) => {
                self.disk_works(node);
            }
            Happening::Timer { node, life } if self.lives(node, life) => {
                self.nodes[node].timer_at = None;
                self.plan_turn(node);
            }
            Happening::Heartbeat { node, life } if self.lives(node, life) => self.heartbeat(node),
            Happening::Heard { node, life, sent } if self.lives(node, life) => self.heard(node, sent),
            Happening::Granted { node, life, until } if self.lives(node, life) => {
                self.tell(node, Event::Lease { until });
            }
            Happening::View { node, life, epoch } if self.lives(node, life) => {
                let view = self.council.log[epoch.0 as usize - 1].clone();
                self.tell(node, Event::View(view));
            }
            Happening::Synced { node, incarnation, epoch, store } => {
                let taken = self.council.take_in(ReplicaId(node as u8), incarnation, epoch, store);
                return if taken { self.new_view() } else { Ok(()) };
            }
            Happening::Council => return self.meet(),
            Happening::Client { client, generation } if self.clients[client].generation == generation => {
                self.client_wakes(client);
            }
            Happening::Fault => self.fault(),
            Happening::Mend(mending) => self.mend(mending),
            Happening::Start { node, life } if self.nodes[node].life == life && !self.nodes[node].is_up() => {
                self.start(node);
            }
            Happening::Check => return self.proceed(),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].is_up()
    }
}

/// The stages.
impl World {
    /// Goes on to the next stage, where it is time.
    fn proceed(&mut self) -> Checked {
        self.after(20 * MS, Happening::Check);
        let idle = self.requests_left == 0 && self.clients.iter().all(|client| client.open.is_empty());
        match self.stage {
            Stage::Faults => {
                self.stage = Stage::Healing;
                self.healed_at = self.now;
                self.requests_left = self.requests_left.min(REQUESTS_AFTER_FAULTS);
                self.note(|| "HEALED".to_owned());
                self.heal();
            }
            Stage::Healing if idle => self.stage = Stage::Settling,
            // Who was to be left out as the faults ended is, first.
            Stage::Settling if self.now < self.healed_at + 2 * FAILURE_TIMEOUT => {}
            Stage::Settling => match checks::converged(self.council.newest(), &self.nodes) {
                Ok(()) => {
                    self.stage = Stage::Reading;
                    self.ask_everything();
                }
                Err(missing) if self.now > self.healed_at + CONVERGES_WITHIN => return Err(missing),
                Err(missing) => self.last_missing = Some(missing),
            },
            Stage::Reading if self.nodes.iter().all(|node| node.open.is_empty()) => self.stage = Stage::Over,
            _ => {}
        }
        Ok(())
    }

    /// Reads every note at every replica, and writes one at each: all of it must be answered.
    fn ask_everything(&mut self) {
        let client = self.clients.len();
        let ids: Vec<NoteId> = self.knowledge.ids().collect();
        for node in 0..self.nodes.len() {
            let mut asks: Vec<Ask> = ids.iter().map(|id| Ask::Get(*id)).collect();
            asks.push(Ask::List { after: NoteId(0), limit: 1_000 });
            asks.push(Ask::Post((self.knowledge.tag(), 0)));
            for ask in asks {
                self.ask_last(client, node, Wish { ask, key: None, if_match: None, sends: 0 });
            }
        }
    }

    fn ask_last(&mut self, client: usize, node: usize, wish: Wish) {
        if self.clients.len() == client {
            self.clients.push(Client::default());
        }
        self.send_request(client, node, &wish);
    }

    /// When all is well, nothing is refused.
    pub(crate) fn check_last(&self, attempt: &Attempt, reply: &Reply) -> Checked {
        let patient = self.plan.request_timeout_ms >= 5_000 && self.plan.read_wait_ms >= 3_000;
        let refused = patient && matches!(reply, Reply::NoEffect | Reply::Unknown);
        match attempt.client == self.plan.clients && refused {
            true => Err(Violation {
                rule: "when faults have stopped, every request is answered",
                seen: format!("{:?} was answered {reply:?}", attempt.ask),
            }),
            false => Ok(()),
        }
    }
}

fn new_node(mutant: Option<Mutant>, rng: &mut Rng) -> Node {
    let ppm = rng.i64(-DRIFT_PPM..=DRIFT_PPM);
    let clock = Clock { start: rng.u64(0..1_000_000 * MS), ppm, wall_skew_ms: rng.u64(0..10_000) };
    let mut disk = Disk::new(StoreId(rng.u64(..)));
    disk.mutant = mutant;
    Node::new(clock, disk)
}
