//! What goes wrong, and how it ends.

use super::plan::{DRIFT_PPM, MS, pick};
use super::report::Fault;
use super::world::{Happening, Stage, World};
use primacy::protocol::ids::ConsensusId;
use primacy::protocol::view::Member;

/// The end of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Mending {
    Links(Vec<(usize, usize)>),
    /// A disk begins to lie.
    Lie {
        node: usize,
        life: u64,
    },
    /// What a disk said is true after all.
    Truth {
        node: usize,
        life: u64,
    },
    Control(usize),
    /// The link goes on flapping so many times.
    Flap {
        a: usize,
        b: usize,
        left: u32,
    },
}

impl World {
    /// Something goes wrong, and later the next thing.
    pub(crate) fn fault(&mut self) {
        if self.stage != Stage::Faults {
            return;
        }
        let next = self.rng.u64(0..=self.plan.fault_every * 2);
        self.after(next, Happening::Fault);
        if self.is_calm() {
            return;
        }
        let fault = *pick(&mut self.rng, &self.plan.faults);
        let node = self.rng.usize(..self.nodes.len());
        let other = (node + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
        self.note(|| format!("FAULT {fault:?} at r{node} (r{other})"));
        if self.strike(fault, node, other) {
            self.counts.fired(fault);
            self.trouble_at = self.now;
        }
    }

    /// Says whether the fault has happened; some are counted when they do.
    fn strike(&mut self, fault: Fault, node: usize, other: usize) -> bool {
        match fault {
            Fault::Crash => self.crash_one(node),
            Fault::CrashWithin => self.crash_soon(node),
            Fault::CrashAll => self.crash_all(),
            Fault::Wipe => self.wipe(node),
            Fault::Damage => self.damage(node),
            Fault::Stop => self.ask_to_stop_one(node),
            Fault::Pause => self.pause(node),
            Fault::PauseAll => self.pause_all(),
            Fault::PauseWithin => self.pause_within(node),
            Fault::Cut => self.cut(vec![(node, other), (other, node)]),
            Fault::CutOneWay => self.cut(vec![(node, other)]),
            Fault::Partial => self.cut_partially(node),
            Fault::Isolate => self.isolate(node),
            Fault::Flap => self.flap(node, other, 5),
            Fault::NoControl => self.cut_control(node),
            Fault::Suspicion => self.suspect(node),
            Fault::NoCalls => self.cut_calls(node),
            Fault::SlowLink => self.slow_link(node, other),
            Fault::SlowDisk => self.slow_disk(node),
            Fault::DiskFails => self.disk_will_fail(node),
            Fault::DiskLies => self.disk_lies(node),
            Fault::Jump => self.jump(node),
            Fault::Drift => self.drift(node),
            Fault::UnsyncedKept | Fault::UnsyncedLost => false,
        }
    }

    /// Some milliseconds: mostly few, sometimes more than the failure timeout.
    fn some_time(&mut self) -> u64 {
        let most = *pick(&mut self.rng, &[20 * MS, 200 * MS, 1_000 * MS, 3_000 * MS]);
        self.rng.u64(0..=most)
    }

    /// Whether a store has lost what it had acknowledged, and is not replaced yet.
    pub(crate) fn somebody_lied(&self) -> bool {
        self.nodes.iter().any(|node| node.disk.lied)
    }

    /// One disk that lies is one fault: nothing else goes wrong until its store is replaced.
    pub(crate) fn is_calm(&self) -> bool {
        self.somebody_lied() || self.now < self.calm_until
    }

    /// Whether a process may die: not while the store of another one has lost what it had acknowledged. One disk that lies is
    /// one fault; with all other stores gone nobody could do better.
    pub(crate) fn may_die(&self, node: usize) -> bool {
        !self.nodes.iter().enumerate().any(|(other, it)| other != node && it.disk.lied)
    }

    /// Whether a disk may turn out to have lied: while all others are there and nothing else has been wrong for long enough
    /// that nobody is about to be left out.
    pub(crate) fn may_forget(&self, node: usize) -> bool {
        let long = 2 * self.plan.failure_timeout();
        let well = |it: &super::node::Node| {
            it.is_up()
                && it.control_cuts == 0
                && it.paused_until.max(it.mute_until).max(it.no_calls_until) + long < self.now
        };
        let links = || self.links.iter().flatten().all(|link| !link.is_cut() && link.slow_until + long < self.now);
        let all_well = self.trouble_at + long < self.now && self.nodes.iter().all(well) && links();
        all_well && self.may_die(node) && self.another_lives(node) && !self.group.is_deciding()
    }

    fn another_lives(&self, node: usize) -> bool {
        let lives = |member: &&Member| {
            let it = &self.nodes[member.replica.index()];
            it.is_up() && it.incarnation == member.incarnation && it.disk.id == member.store
        };
        let mut others = self.group.newest().in_sync.iter().filter(|member| member.replica.index() != node);
        others.any(|member| lives(&member))
    }

    fn crash_one(&mut self, node: usize) -> bool {
        let up = self.nodes[node].is_up() && self.may_die(node);
        if up {
            self.crash(node);
            self.plan_start(node);
        }
        up
    }

    /// A crashed process starts again, after a while.
    pub(crate) fn plan_start(&mut self, node: usize) {
        if !self.plan.restarts {
            return;
        }
        let down = self.some_time();
        self.after(down, Happening::Start { node, life: self.nodes[node].life });
    }

    /// Counted when it happens.
    fn crash_soon(&mut self, node: usize) -> bool {
        self.nodes[node].crashes_after = Some(self.rng.usize(..20));
        false
    }

    fn crash_all(&mut self) -> bool {
        let down = self.some_time();
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up() {
                // Nobody is left who has what a disk had only said to have.
                self.nodes[node].disk.make_true();
                self.crash(node);
            }
            let start = down + self.rng.u64(0..=500 * MS);
            self.after(start, Happening::Start { node, life: self.nodes[node].life });
        }
        true
    }

    /// A replica dies and loses its disks, records and consensus log both; but only while another in-sync replica lives, and
    /// a majority of the voters has its log.
    fn wipe(&mut self, node: usize) -> bool {
        let whole = |other: &usize| *other != node && self.group.voters[*other] == self.nodes[*other].consensus;
        let majority = (0..self.nodes.len()).filter(whole).count() * 2 > self.nodes.len();
        let wiped = majority && self.may_die(node) && self.another_lives(node) && !self.group.is_deciding();
        if wiped {
            self.crash_one(node);
            self.wipe_disk(node);
        }
        wiped
    }

    /// Of a process that is down nothing is left.
    pub(crate) fn wipe_disk(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.disk.wipe(&mut self.rng);
        it.consensus = ConsensusId(self.rng.u64(..));
        it.term = 0;
        it.known_views = 0;
    }

    /// A replica dies, and its next start finds its records damaged.
    fn damage(&mut self, node: usize) -> bool {
        let damaged = self.another_lives(node) && !self.group.is_deciding() && self.crash_one(node);
        self.nodes[node].disk.damaged |= damaged;
        damaged
    }

    fn ask_to_stop_one(&mut self, node: usize) -> bool {
        self.may_die(node) && self.ask_to_stop(node)
    }

    fn pause(&mut self, node: usize) -> bool {
        let pause = self.some_time();
        self.nodes[node].paused_until = self.now + pause;
        self.nodes[node].is_up()
    }

    /// The whole machine stalls (V5).
    fn pause_all(&mut self) -> bool {
        let pause = self.some_time();
        self.nodes.iter_mut().for_each(|node| node.paused_until = self.now + pause);
        true
    }

    /// Counted when it happens.
    fn pause_within(&mut self, node: usize) -> bool {
        self.nodes[node].pauses_within = Some(self.some_time());
        false
    }

    fn cut(&mut self, pairs: Vec<(usize, usize)>) -> bool {
        let (time, any) = (self.some_time(), !pairs.is_empty());
        self.cut_for(pairs, time);
        any
    }

    fn cut_for(&mut self, pairs: Vec<(usize, usize)>, time: u64) {
        for (from, to) in &pairs {
            self.links[*from][*to].cut();
        }
        self.after(time, Happening::Mend(Mending::Links(pairs)));
    }

    fn isolate(&mut self, node: usize) -> bool {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let pairs = others.flat_map(|other| [(node, other), (other, node)]).collect();
        self.cut(pairs)
    }

    /// One replica is cut off from some of the others.
    fn cut_partially(&mut self, node: usize) -> bool {
        let some: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node && self.rng.bool()).collect();
        self.cut(some.into_iter().flat_map(|other| [(node, other), (other, node)]).collect())
    }

    fn flap(&mut self, a: usize, b: usize, left: u32) -> bool {
        let time = self.rng.u64(0..=300 * MS);
        self.cut_for(vec![(a, b), (b, a)], time);
        if left > 0 {
            let next = time + self.rng.u64(0..=300 * MS);
            self.after(next, Happening::Mend(Mending::Flap { a, b, left: left - 1 }));
        }
        true
    }

    fn cut_control(&mut self, node: usize) -> bool {
        let time = self.some_time();
        self.nodes[node].control_cuts += 1;
        self.after(time, Happening::Mend(Mending::Control(node)));
        true
    }

    /// A replica that lives is taken for dead: its heartbeats are lost, and nothing else.
    fn suspect(&mut self, node: usize) -> bool {
        self.nodes[node].mute_until = self.now + self.plan.failure_timeout() + self.some_time();
        true
    }

    /// The calls of one replica's consensus library are lost: if it led, another one does, and it does not know.
    fn cut_calls(&mut self, node: usize) -> bool {
        let leader = self.group.leader.filter(|_| self.rng.bool()).unwrap_or(node);
        self.nodes[leader].no_calls_until = self.now + self.some_time();
        true
    }

    fn slow_link(&mut self, from: usize, to: usize) -> bool {
        self.links[from][to].slow_until = self.now + self.some_time();
        true
    }

    fn slow_disk(&mut self, node: usize) -> bool {
        self.nodes[node].disk.slow_until = self.now + self.some_time();
        true
    }

    /// Counted when it happens.
    fn disk_will_fail(&mut self, node: usize) -> bool {
        self.nodes[node].disk.fails = true;
        false
    }

    /// Counted when the process dies before the disk has what it said it had. All else is well before.
    fn disk_lies(&mut self, node: usize) -> bool {
        self.heal();
        let failure = self.plan.failure_timeout();
        self.calm_until = self.now + 3 * failure;
        let life = self.nodes[node].life;
        self.after(2 * failure + 10 * MS, Happening::Mend(Mending::Lie { node, life }));
        false
    }

    fn begin_to_lie(&mut self, node: usize) {
        if self.may_forget(node) {
            self.nodes[node].disk.lie();
            self.nodes[node].crashes_after = Some(self.rng.usize(5..40));
            let life = self.nodes[node].life;
            self.after(500 * MS, Happening::Mend(Mending::Truth { node, life }));
        }
    }

    /// A clock as fast or slow as clocks may be.
    fn drift(&mut self, node: usize) -> bool {
        let ppm = *pick(&mut self.rng, &[-DRIFT_PPM, DRIFT_PPM]);
        self.nodes[node].clock.set_rate(self.now, ppm);
        true
    }

    fn jump(&mut self, node: usize) -> bool {
        self.nodes[node].clock.wall_skew_ms = self.rng.u64(0..2_000_000);
        true
    }

    /// A fault ends.
    pub(crate) fn mend(&mut self, mending: Mending) {
        match mending {
            Mending::Links(pairs) => {
                for (from, to) in pairs {
                    if self.links[from][to].is_cut() {
                        self.trouble_at = self.now;
                    }
                    self.links[from][to].mend();
                    self.after(0, Happening::Arrives { from, to });
                }
            }
            Mending::Lie { node, life } if self.lives(node, life) => self.begin_to_lie(node),
            Mending::Truth { node, life } if self.lives(node, life) => self.nodes[node].disk.make_true(),
            Mending::Lie { .. } | Mending::Truth { .. } => {}
            Mending::Control(node) => {
                self.nodes[node].control_cuts = self.nodes[node].control_cuts.saturating_sub(1);
            }
            Mending::Flap { a, b, left } if self.stage == Stage::Faults && !self.is_calm() => {
                self.flap(a, b, left);
            }
            Mending::Flap { .. } => {}
        }
    }

    /// All faults end: links are whole, disks and links are quick, and who is down starts. Who is paused wakes up in its time.
    pub(crate) fn heal(&mut self) {
        self.trouble_at = self.now;
        for node in 0..self.nodes.len() {
            let it = &mut self.nodes[node];
            it.crashes_after = None;
            it.pauses_within = None;
            it.control_cuts = 0;
            it.mute_until = 0;
            it.no_calls_until = 0;
            it.disk.slow_until = 0;
            it.disk.fails = false;
            it.disk.make_true();
            let life = it.life;
            self.after(0, Happening::Start { node, life });
            for to in 0..self.nodes.len() {
                self.links[node][to].heal();
                self.after(0, Happening::Arrives { from: node, to });
            }
        }
    }
}
