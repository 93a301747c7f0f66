//! What goes wrong, and how it is mended.

use std::collections::BTreeMap;
use std::time::Duration;

use primacy::config::Durability;
use turmoil::Sim;

use super::plan::{host, pick};
use super::world::{CLIENTS, World};

/// Operations of a disk after which it fails, at most.
const DISK_OPERATIONS: u64 = 40;

/// Faults by their words; a kind counts when it has fired.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What ends a fault.
#[derive(Clone, Debug)]
pub(crate) enum Mend {
    Start(usize),
    Repair(String, String),
    RepairOneWay(String, String),
    Release(String, String),
    Latency(String, String),
}

const KINDS: [&str; 10] = [
    "crash",
    "power cut",
    "crash of all",
    "clean stop",
    "partition",
    "partition, one way",
    "isolation",
    "hold",
    "slow link",
    "disk error",
];

impl World {
    /// One fault, where it can happen now.
    pub(crate) fn fault(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        let kind = *pick(&mut self.rng, &KINDS);
        let replica = self.rng.usize(..self.plan.replicas);
        let until = now_ms + self.rng.u64(30..3_000);
        let on_disk = self.plan.durability == Durability::Disk;
        let fired = match kind {
            // With its memory a process loses everything.
            "crash" | "power cut" | "crash of all" | "clean stop" | "disk error" if !on_disk => false,
            "crash" => self.crash(sim, replica, until, false),
            "power cut" => self.crash(sim, replica, until, true),
            "crash of all" => {
                let down = (0..self.plan.replicas).filter(|replica| self.crash(sim, *replica, until, replica % 2 == 0));
                down.count() > 0
            }
            "clean stop" => {
                self.runs(sim, replica) && {
                    self.machines[replica].stop();
                    true
                }
            }
            "disk error" => {
                self.runs(sim, replica) && {
                    self.machines[replica].doom_the_disk(self.rng.u64(..DISK_OPERATIONS));
                    true
                }
            }
            _ => self.network_fault(sim, kind, replica, until),
        };
        if fired {
            *self.counts.entry(kind).or_default() += 1;
        }
    }

    fn runs(&self, sim: &mut Sim<'_>, replica: usize) -> bool {
        sim.is_host_running(host(replica)) && !self.machines[replica].doomed.get()
    }

    pub(crate) fn crash(&mut self, sim: &mut Sim<'_>, replica: usize, until: u64, power: bool) -> bool {
        if !self.runs(sim, replica) {
            return false;
        }
        sim.crash(host(replica));
        if power {
            let rng = &mut self.rng;
            self.machines[replica].disk.cut_power(&mut || rng.bool());
        }
        self.mends.push((until, Mend::Start(replica)));
        true
    }

    fn network_fault(&mut self, sim: &mut Sim<'_>, kind: &str, replica: usize, until: u64) -> bool {
        let a = host(replica);
        let others: Vec<String> = (0..self.plan.replicas).filter(|other| *other != replica).map(host).collect();
        if kind == "isolation" {
            let with_clients = self.rng.bool();
            let cut: Vec<String> = others.into_iter().chain(with_clients.then(|| CLIENTS.to_owned())).collect();
            return cut.into_iter().filter(|other| self.cut(sim, &a, other, until)).count() > 0;
        }
        let b = match self.rng.u8(0..6) {
            0 => CLIENTS.to_owned(),
            _ => pick(&mut self.rng, &others).clone(),
        };
        match kind {
            "partition" => return self.cut(sim, &a, &b, until),
            _ if !self.take(&a, &b) => return false,
            "partition, one way" => {
                sim.partition_oneway(a.as_str(), b.as_str());
                self.mends.push((until, Mend::RepairOneWay(a, b)));
            }
            "hold" => {
                sim.hold(a.as_str(), b.as_str());
                self.mends.push((until, Mend::Release(a, b)));
            }
            _ => {
                let latency = self.rng.u64(50..800);
                sim.set_link_latency(a.as_str(), b.as_str(), Duration::from_millis(latency));
                self.mends.push((until, Mend::Latency(a, b)));
            }
        }
        true
    }

    fn cut(&mut self, sim: &mut Sim<'_>, a: &str, b: &str, until: u64) -> bool {
        let free = self.take(a, b);
        if free {
            sim.partition(a, b);
            self.mends.push((until, Mend::Repair(a.to_owned(), b.to_owned())));
        }
        free
    }

    /// Each pair of hosts has one fault at a time.
    fn take(&mut self, a: &str, b: &str) -> bool {
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        self.faulty.insert((a.to_owned(), b.to_owned()))
    }

    fn give_back(&mut self, a: &str, b: &str) {
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        self.faulty.remove(&(a.to_owned(), b.to_owned()));
    }

    pub(crate) fn mend(&mut self, sim: &mut Sim<'_>, mend: Mend) {
        let (a, b) = match &mend {
            Mend::Start(replica) => {
                if !sim.is_host_running(host(*replica)) {
                    sim.bounce(host(*replica));
                }
                return;
            }
            Mend::Repair(a, b) | Mend::RepairOneWay(a, b) | Mend::Release(a, b) | Mend::Latency(a, b) => {
                (a.as_str(), b.as_str())
            }
        };
        match mend {
            Mend::Repair(..) => sim.repair(a, b),
            Mend::RepairOneWay(..) => sim.repair_oneway(a, b),
            Mend::Release(..) => sim.release(a, b),
            _ => {
                sim.set_link_latency(a, b, Duration::ZERO);
                sim.set_link_max_message_latency(a, b, Duration::from_millis(self.plan.latency_ms));
            }
        }
        if matches!(mend, Mend::Repair(..) | Mend::RepairOneWay(..)) {
            self.connections.reset(sim.lookup(a), sim.lookup(b));
        }
        self.give_back(a, b);
    }

    /// All disks work again.
    pub(crate) fn spare_the_disks(&mut self) {
        self.machines.iter().for_each(|machine| machine.spare_the_disk());
    }
}
