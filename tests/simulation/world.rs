//! The world of one run: everything that happens, in order of time. The same seed makes the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use primacy::membership::controller;
use primacy::note::NoteId;
use primacy::protocol::ids::{ConsensusId, StoreId};
use primacy::protocol::view::Member;
use primacy::replication::action::Action;

use super::checks::{self, Checked, Violation, Witness};
use super::control::ControlFrame;
use super::disks::Disk;
use super::faults::Mending;
use super::group::Group;
use super::history::{Ask, Attempt, History, Reply};
use super::links::Link;
use super::mutants::Mutant;
use super::node::{Clock, Node};
use super::plan::{DRIFT_PPM, MS, Plan};
use super::questions::Question;
use super::report::{Counts, Fault};
use super::workload::{Client, Knowledge, Wish};

/// How soon after the faults all must be in sync and equal: who flapped waits up to a minute before it joins (V4).
const CONVERGES_WITHIN: u64 = 90_000 * MS;

/// Requests that clients make after the faults.
const REQUESTS_AFTER_FAULTS: usize = 20;

/// Times past which something waits for ever.
const ENDS_BEFORE: u64 = 200_000 * MS;

/// Lines of a failed run's trace that are told at once.
const LAST_LINES: usize = 40;

/// Something that happens at a time. A `life` says for which life of a process it was planned.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Turn { node: usize, life: u64 },
    TurnEnds { node: usize, life: u64 },
    Arrives { from: usize, to: usize },
    Disk { node: usize, life: u64 },
    Timer { node: usize, life: u64 },
    Seat { node: usize, life: u64 },
    Control { to: usize, frame: Box<ControlFrame> },
    Question { node: usize, life: u64, question: Box<Question> },
    Answered { node: usize, life: u64, event: controller::Event },
    Votes { node: usize, life: u64, term: u64 },
    Stop { node: usize, life: u64 },
    Client { client: usize, generation: u64 },
    Fault,
    Mend(Mending),
    Start { node: usize, life: u64 },
    Check,
}

impl Happening {
    /// Whose process it needs to run, and in which life, where that matters.
    fn whose(&self) -> Option<(usize, Option<u64>)> {
        match *self {
            Happening::Control { to, .. } => Some((to, None)),
            Happening::TurnEnds { node, life }
            | Happening::Seat { node, life }
            | Happening::Question { node, life, .. }
            | Happening::Answered { node, life, .. }
            | Happening::Votes { node, life, .. }
            | Happening::Stop { node, life } => Some((node, Some(life))),
            _ => None,
        }
    }
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
    pub(crate) group: Group,
    pub(crate) clients: Vec<Client>,
    pub(crate) knowledge: Knowledge,
    pub(crate) history: History,
    pub(crate) witness: Witness,
    pub(crate) counts: Counts,
    pub(crate) stage: Stage,
    /// When something last went wrong, or was mended.
    pub(crate) trouble_at: u64,
    /// Until when nothing more goes wrong, besides what is prepared.
    pub(crate) calm_until: u64,
    healed_at: u64,
    pub(crate) requests_left: usize,
    last_missing: Option<Violation>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) scratch: Vec<Action>,
}

/// Runs a seed.
pub(crate) fn run(seed: u64) -> Result<Counts, Box<Failed>> {
    let (plan, rng) = Plan::of_seed(seed);
    World::new(plan, rng, false).run_all().1
}

/// Runs a seed and tells everything that happens, a line each.
pub(crate) fn replay(seed: u64) -> (Vec<String>, Result<Counts, Box<Failed>>) {
    let (plan, rng) = Plan::of_seed(seed);
    World::new(plan, rng, true).run_all()
}

/// The last things that happened in a run, for who reads that it failed.
pub(crate) fn last_lines(seed: u64) -> String {
    let trace = replay(seed).0;
    trace[trace.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Runs a seed with a rule switched off, and with the faults that it takes to see it.
pub(crate) fn run_mutant(seed: u64, mutant: Mutant) -> Result<Counts, Box<Failed>> {
    let (plan, rng) = Plan::of_seed(seed);
    let faults = mutant.needs().map_or(plan.faults.clone(), <[Fault]>::to_vec);
    World::new(Plan { mutant: Some(mutant), faults, ..plan }, rng, false).run_all().1
}

impl World {
    fn run_all(mut self) -> (Vec<String>, Result<Counts, Box<Failed>>) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Violation { rule: "the core does not panic", seen: message.unwrap_or_default() })
        });
        let result = match ended {
            Ok(()) => Ok(self.counts),
            Err(violation) => Err(Box::new(Failed { plan: self.plan, at: self.now, violation })),
        };
        (self.trace.unwrap_or_default(), result)
    }
}

/// The queue.
impl World {
    pub(crate) fn new(plan: Plan, mut rng: Rng, traced: bool) -> World {
        let nodes: Vec<Node> = (0..plan.replicas).map(|_| new_node(plan.mutant, &mut rng)).collect();
        let link_row = || (0..plan.replicas).map(|_| Link::default()).collect::<Vec<_>>();
        let links = (0..plan.replicas).map(|_| link_row()).collect();
        let group = Group::new(nodes.iter().map(|node| node.consensus).collect(), plan.mutant);
        let clients = (0..plan.clients).map(|_| Client::default()).collect();
        World {
            now: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            planned: 0,
            nodes,
            links,
            group,
            clients,
            knowledge: Knowledge::default(),
            history: History::default(),
            witness: Witness::default(),
            counts: Counts { runs: 1, ..Counts::default() },
            stage: Stage::Faults,
            trouble_at: 0,
            calm_until: 0,
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
        self.after(self.plan.faults_until, Happening::Check);
        self.run_to_the_end()
    }

    /// Runs until all stages are over, and looks at what clients saw.
    pub(crate) fn run_to_the_end(&mut self) -> Checked {
        while self.stage != Stage::Over && self.advance()? {}
        checks::each_takes_effect_once(&self.history)?;
        checks::what_failed_never_happens(&self.history, &self.witness)?;
        self.counts.undecided += checks::notes_are_linearizable(&self.history, &self.witness)?;
        self.count_all();
        Ok(())
    }

    /// The next thing happens. Says whether there was one.
    pub(crate) fn advance(&mut self) -> Result<bool, Violation> {
        let Some(Reverse((time, _, slot))) = self.queue.pop() else { return Ok(false) };
        self.now = time;
        self.free.push(slot);
        if let Some(happening) = self.happenings[slot].take() {
            self.happen(happening)?;
        }
        if self.now > ENDS_BEFORE {
            let seen = format!("stage {:?} after {} ms; {:?}", self.stage, self.now / MS, self.last_missing);
            return Err(Violation { rule: "every run ends", seen });
        }
        Ok(true)
    }

    pub(crate) fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        for client in 0..self.clients.len() {
            self.plan_client(client, self.plan.think);
        }
        if !self.plan.faults.is_empty() {
            self.after(self.plan.fault_every, Happening::Fault);
        }
    }

    fn count_all(&mut self) {
        self.counts.simulated_ms = self.now / MS;
        self.counts.views = self.group.log.len() as u64;
    }

    /// What a new view counts for, and what must hold of it.
    pub(crate) fn check_new_view(&mut self) -> Checked {
        let view = self.group.newest();
        checks::views_follow(self.view_before(), view)?;
        self.witness.committed_is_everywhere(view, &self.nodes)?;
        let Some(before) = self.view_before() else { return Ok(()) };
        checks::who_is_left_out_reads_no_more(before, view, &self.nodes, self.now)?;
        let stays = |member: &&Member| view.incarnation_of(member.replica) == Some(member.incarnation);
        let gone = before.members().filter(|member| !stays(member)).count();
        let revived = before.in_sync.iter().all(|member| !stays(&member));
        let joins = view.joining.iter().filter(|it| before.incarnation_of(it.replica) != Some(it.incarnation)).count();
        let synced = view.in_sync.iter().filter(|member| before.joining.iter().any(|it| it.replica == member.replica));
        let synced = synced.count();
        self.counts.removals += gone as u64;
        self.counts.revivals += u64::from(revived);
        self.counts.joins += joins as u64;
        self.counts.synced += synced as u64;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Turn { node, life } if self.lives(node, life) => return self.turn(node),
            Happening::Arrives { from, to } => self.arrive(from, to),
            Happening::Disk { node, life } if self.lives(node, life) => self.disk_works(node),
            Happening::Timer { node, life } if self.lives(node, life) => {
                self.nodes[node].timer_at = None;
                self.plan_turn(node);
            }
            Happening::Client { client, generation } if self.clients[client].generation == generation => {
                self.client_wakes(client);
            }
            Happening::Fault => self.fault(),
            Happening::Mend(mending) => self.mend(mending),
            Happening::Start { node, life } if self.nodes[node].life == life && !self.nodes[node].is_up() => {
                self.start(node);
            }
            Happening::Check => return self.proceed(),
            other => return self.happen_to_who_runs(other),
        }
        Ok(())
    }

    /// What waits while its process is paused.
    fn happen_to_who_runs(&mut self, happening: Happening) -> Checked {
        let Some((node, life)) = happening.whose() else { return Ok(()) };
        if life.is_some_and(|life| !self.lives(node, life)) {
            return Ok(());
        }
        if self.nodes[node].paused_until > self.now {
            self.at(self.nodes[node].paused_until, happening);
            return Ok(());
        }
        match happening {
            Happening::TurnEnds { node, .. } => return self.end_turn(node),
            Happening::Seat { node, .. } => self.seat_wakes(node),
            Happening::Control { to, frame } => return self.control_arrives(to, *frame),
            Happening::Question { node, question, .. } => return self.answer_question(node, *question),
            Happening::Answered { node, event, .. } => self.step_controller(node, event),
            Happening::Votes { node, term, .. } => return self.count_votes(node, term),
            Happening::Stop { node, .. } => self.stop_goes_on(node),
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
            Stage::Settling if self.now < self.awake_at() + 2 * self.plan.failure_timeout() => {}
            Stage::Settling => match checks::converged(self.group.newest(), &self.nodes) {
                Ok(()) => {
                    self.stage = Stage::Reading;
                    self.ask_everything();
                }
                Err(_) if checks::nothing_is_left(self.group.newest(), &self.nodes) => {
                    self.counts.stranded += 1;
                    self.stage = Stage::Over;
                }
                Err(missing) if self.now > self.healed_at + CONVERGES_WITHIN => return Err(missing),
                Err(missing) => self.last_missing = Some(missing),
            },
            Stage::Reading if self.nodes.iter().all(|node| node.open.is_empty()) => self.stage = Stage::Over,
            _ => {}
        }
        Ok(())
    }

    /// When the faults were over, pauses too.
    fn awake_at(&self) -> u64 {
        self.nodes.iter().map(|node| node.paused_until).fold(self.healed_at, u64::max)
    }

    /// Reads every note at every replica, and writes one at each: all of it must be answered.
    fn ask_everything(&mut self) {
        let client = self.clients.len();
        self.clients.push(Client::default());
        let ids: Vec<NoteId> = self.knowledge.ids().collect();
        for node in 0..self.nodes.len() {
            let mut asks: Vec<Ask> = ids.iter().map(|id| Ask::Get(*id)).collect();
            asks.push(Ask::List { after: NoteId(0), limit: 1_000 });
            asks.push(Ask::Post((self.knowledge.tag(), 0)));
            for ask in asks {
                self.send_request(client, node, &Wish { ask, key: None, if_match: None, sends: 0 });
            }
        }
    }

    /// When all is well, nothing is refused.
    pub(crate) fn check_last(&self, attempt: &Attempt, reply: &Reply) -> Checked {
        let patient = self.plan.request_timeout_ms >= 5_000 && self.plan.read_wait_ms >= 3_000;
        let refused = patient && matches!(reply, Reply::NoEffect | Reply::Unknown);
        let last = self.stage == Stage::Reading && attempt.client + 1 == self.clients.len();
        match last && refused {
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
    let origin = rng.u64(0..1_000_000 * MS);
    let clock = Clock { origin, since: 0, ppm, wall_skew_ms: rng.u64(0..10_000) };
    let mut disk = Disk::new(StoreId(rng.u64(..)));
    disk.mutant = mutant;
    Node::new(clock, disk, ConsensusId(rng.u64(..)))
}
