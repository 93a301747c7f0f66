//! One run: the simulation, stepped a millisecond at a time, and what must hold of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use primacy::config::{Config, Durability};
use primacy::protocol::ids::ReplicaId;
use turmoil::Sim;

use super::checks;
use super::clients::{self, Shared, Stage};
use super::faults::{Counts, Mend};
use super::history::Attempt;
use super::network::Connections;
use super::plan::{Plan, host};
use super::replicas::Machine;

/// The host of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// Segments that a connection holds; turmoil panics where a listener's queue is full.
const TCP_CAPACITY: usize = 4_096;

/// How long each host runs at a time. Shorter ones take longer, and clocks differ by no more than this.
const TICK: Duration = Duration::from_millis(2);

/// By then all is over.
const ENDS_BEFORE: Duration = Duration::from_secs(400);

/// A process that ended by itself is started again after this long.
const RESTART_MS: u64 = 200;

/// Invariant 9's bound: a replica that was left out alive again and again waits up to a minute (V4).
const CONVERGES_WITHIN: Duration = Duration::from_secs(90);

/// What a run came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) faults: Counts,
    pub(crate) simulated: Duration,
    pub(crate) converged_after: Duration,
    pub(crate) undecided: u64,
}

/// Everything but the simulation itself.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) machines: Vec<Rc<Machine>>,
    pub(crate) connections: Connections,
    pub(crate) counts: Counts,
    /// What ends which fault, and when.
    pub(crate) mends: Vec<(u64, Mend)>,
    /// Pairs of hosts that have a fault.
    pub(crate) faulty: BTreeSet<(String, String)>,
    config: Arc<Config>,
    shared: Rc<Shared>,
}

thread_local! {
    /// The panic of a task, which tokio keeps to itself.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes every panic of this thread.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANIC.with_borrow_mut(|panic| _ = panic.get_or_insert_with(|| info.to_string()));
            before(info);
        }));
    });
}

/// Runs a seed; an error says what did not hold.
pub(crate) fn run(seed: u64) -> Result<Outcome, String> {
    let (plan, rng) = Plan::of_seed(seed);
    notice_panics();
    PANIC.take();
    let described = format!("{plan:?}");
    let ended = catch_unwind(AssertUnwindSafe(|| World::new(plan, rng).run()));
    let panicked = PANIC.take().map(|panic| format!("nothing panics: {panic}"));
    match (ended, panicked) {
        (Ok(Ok(outcome)), None) => Ok(outcome),
        (_, Some(wrong)) | (Ok(Err(wrong)), None) => Err(format!("{wrong}\n{described}")),
        (Err(_), None) => Err(format!("it panicked without a word\n{described}")),
    }
}

impl World {
    fn new(plan: Plan, mut rng: Rng) -> World {
        let machines = (0..plan.replicas).map(|_| Machine::new(plan.disk_ms, &mut rng)).collect();
        World {
            machines,
            connections: Connections::default(),
            counts: Counts::new(),
            mends: Vec::new(),
            faulty: BTreeSet::new(),
            config: Arc::new(plan.config()),
            shared: Shared::new(plan.clone()),
            plan,
            rng,
        }
    }

    fn run(&mut self) -> Result<Outcome, String> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.rng.u64(..))
            .simulation_duration(ENDS_BEFORE)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(0))
            .max_message_latency(Duration::from_millis(self.plan.latency_ms))
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        self.add_hosts(&mut sim);
        self.step_to_the_end(&mut sim)?;
        if let Some(wrong) = self.shared.wrong.take() {
            return Err(wrong);
        }
        let simulated = sim.elapsed();
        for replica in 0..self.plan.replicas {
            sim.crash(host(replica));
        }
        drop(sim);
        self.check(simulated)
    }

    fn add_hosts(&mut self, sim: &mut Sim<'_>) {
        for (place, machine) in self.machines.iter().enumerate() {
            let me = ReplicaId(place as u8);
            let (machine, config, network) = (machine.clone(), self.config.clone(), self.connections.clone());
            sim.host(host(place), move || {
                let process = machine.clone().run(config.clone(), me, network.clone());
                async {
                    process.await;
                    Ok(())
                }
            });
        }
        let (shared, network) = (self.shared.clone(), self.connections.clone());
        let rngs: Vec<Rng> = (0..self.plan.clients).map(|_| self.rng.fork()).collect();
        sim.client(CLIENTS, async move {
            let clients = rngs.into_iter().enumerate();
            join_all(clients.map(|(number, rng)| clients::client(number, shared.clone(), network.clone(), rng))).await;
            let end = async {
                clients::until_all_are_back(&shared, &network, CONVERGES_WITHIN).await?;
                clients::ask_everything(&shared, &network).await
            };
            *shared.wrong.borrow_mut() = end.await.err();
            Ok(())
        });
    }

    fn step_to_the_end(&mut self, sim: &mut Sim<'_>) -> Result<(), String> {
        let (mut next_fault, mut faults_end) = (u64::MAX, u64::MAX);
        while !sim.step().map_err(|error| error.to_string())? {
            let now_ms = sim.elapsed().as_millis() as u64;
            if faults_end == u64::MAX && self.shared.serves.get() {
                faults_end = now_ms + self.plan.faults_ms;
                next_fault = now_ms;
            }
            if PANIC.with_borrow(Option::is_some) {
                return Err("a task panicked".to_owned());
            }
            self.look_for_ends(now_ms)?;
            self.mend_what_is_due(sim, now_ms);
            if now_ms >= faults_end && self.shared.stage.get() == Stage::Faults {
                self.spare_the_disks();
                self.mends.iter_mut().for_each(|(until, _)| *until = now_ms);
                self.shared.stage.set(Stage::Healing);
            }
            if now_ms >= next_fault && self.shared.stage.get() == Stage::Faults {
                next_fault = now_ms + self.rng.u64(1..=2 * self.plan.fault_every_ms);
                self.fault(sim, now_ms);
            }
        }
        Ok(())
    }

    fn mend_what_is_due(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        let due: Vec<(u64, Mend)> = self.mends.extract_if(.., |(until, _)| *until <= now_ms).collect();
        due.into_iter().for_each(|(_, mend)| self.mend(sim, mend));
    }

    /// A process ends by itself only where its disk failed or it was asked to.
    fn look_for_ends(&mut self, now_ms: u64) -> Result<(), String> {
        for (replica, machine) in self.machines.iter().enumerate() {
            let Some(ended) = machine.ended.take() else { continue };
            let doomed = machine.doomed.replace(false);
            machine.spare_the_disk();
            match ended {
                Ok(()) => {}
                Err(_) if doomed => *self.counts.entry("end by a disk error").or_default() += 1,
                Err(error) => return Err(format!("a process ends only where its disk fails: {replica}: {error}")),
            }
            self.mends.push((now_ms + RESTART_MS, Mend::Start(replica)));
        }
        Ok(())
    }

    fn check(&mut self, simulated: Duration) -> Result<Outcome, String> {
        let history = self.shared.history.borrow();
        checks::each_takes_effect_once(&history)?;
        checks::what_has_no_effect_has_none(&history)?;
        let undecided = checks::notes_are_linearizable(&history)?;
        if self.plan.durability == Durability::Disk {
            self.check_disks()?;
        }
        Ok(Outcome {
            attempts: history.attempts.clone(),
            faults: self.counts.clone(),
            simulated,
            converged_after: self.shared.converged_after.get().unwrap_or_default(),
            undecided,
        })
    }

    /// Invariant 9: all hold the same records and key tables.
    fn check_disks(&self) -> Result<(), String> {
        let mut first = None;
        for (place, machine) in self.machines.iter().enumerate() {
            let stored = machine.stored(&self.config, ReplicaId(place as u8))?;
            match &first {
                None => first = Some(stored),
                Some(first) if *first == stored => {}
                Some(first) => {
                    return Err(format!("invariant 9: all hold the same: replica 0 {first:?}\nand {place} {stored:?}"));
                }
            }
        }
        Ok(())
    }
}
