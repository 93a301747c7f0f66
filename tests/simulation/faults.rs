//! What goes wrong, and how it ends.

use super::plan::{FAILURE_TIMEOUT, MS, pick};
use super::report::Fault;
use super::world::{Happening, Stage, World};
use primacy::protocol::ids::ReplicaId;
use primacy::protocol::view::Member;

/// The end of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Mending {
    Links(Vec<(usize, usize)>),
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
        let fault = *pick(&mut self.rng, &self.plan.faults);
        let node = self.rng.usize(..self.nodes.len());
        let other = (node + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
        self.note(|| format!("FAULT {fault:?} at r{node} (r{other})"));
        let fired = match fault {
            Fault::Crash => self.crash_one(node),
            Fault::CrashWithin => self.crash_soon(node),
            Fault::CrashAll => self.crash_all(),
            Fault::Wipe => self.wipe(node),
            Fault::Pause => self.pause(node),
            Fault::PauseWithin => self.pause_within(node),
            Fault::Cut => self.cut(vec![(node, other), (other, node)]),
            Fault::CutOneWay => self.cut(vec![(node, other)]),
            Fault::Isolate => self.isolate(node),
            Fault::Flap => self.flap(node, other, 5),
            Fault::NoControl => self.cut_control(node),
            Fault::Suspicion => self.suspect(node),
            Fault::SlowLink => self.slow_link(node, other),
            Fault::SlowDisk => self.slow_disk(node),
            Fault::Jump => self.jump(node),
        };
        if fired {
            self.counts.fired(fault);
        }
    }

    /// Some milliseconds: mostly few, sometimes more than the failure timeout.
    fn some_time(&mut self) -> u64 {
        let most = *pick(&mut self.rng, &[20 * MS, 200 * MS, FAILURE_TIMEOUT, 3 * FAILURE_TIMEOUT]);
        self.rng.u64(0..=most)
    }

    fn crash_one(&mut self, node: usize) -> bool {
        let up = self.nodes[node].is_up();
        if up {
            self.crash(node);
            self.plan_start(node);
        }
        up
    }

    /// A crashed process starts again, after a while.
    pub(crate) fn plan_start(&mut self, node: usize) {
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
                self.crash(node);
            }
            let start = down + self.rng.u64(0..=500 * MS);
            self.after(start, Happening::Start { node, life: self.nodes[node].life });
        }
        true
    }

    /// A replica dies and loses its disk; but only while another in-sync replica lives.
    fn wipe(&mut self, node: usize) -> bool {
        let others = self.council.newest().in_sync.iter().filter(|member| member.replica.index() != node);
        let lives = |member: &Member| {
            let it = &self.nodes[member.replica.index()];
            it.is_up() && it.incarnation == member.incarnation && it.disk.id == member.store
        };
        let another = others.copied().any(|member| lives(&member));
        if another {
            self.crash_one(node);
            self.nodes[node].disk.wipe(&mut self.rng);
        }
        another
    }

    fn pause(&mut self, node: usize) -> bool {
        let pause = self.some_time();
        self.nodes[node].paused_until = self.now + pause;
        self.nodes[node].is_up()
    }

    /// Counted when it happens.
    fn pause_within(&mut self, node: usize) -> bool {
        self.nodes[node].pauses_within = Some(self.some_time());
        false
    }

    fn cut(&mut self, pairs: Vec<(usize, usize)>) -> bool {
        let time = self.some_time();
        self.cut_for(pairs, time);
        true
    }

    fn cut_for(&mut self, pairs: Vec<(usize, usize)>, time: u64) {
        for (from, to) in &pairs {
            self.links[*from][*to].cut(self.now);
        }
        self.after(time, Happening::Mend(Mending::Links(pairs)));
    }

    fn isolate(&mut self, node: usize) -> bool {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let pairs = others.flat_map(|other| [(node, other), (other, node)]).collect();
        self.cut(pairs)
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

    fn suspect(&mut self, node: usize) -> bool {
        let wait = self.some_time();
        self.council.suspect(ReplicaId(node as u8), self.now + wait);
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

    fn jump(&mut self, node: usize) -> bool {
        self.nodes[node].clock.wall_skew_ms = self.rng.u64(0..2_000_000);
        true
    }

    /// A fault ends.
    pub(crate) fn mend(&mut self, mending: Mending) {
        match mending {
            Mending::Links(pairs) => {
                for (from, to) in pairs {
                    self.links[from][to].mend();
                    self.after(0, Happening::Arrives { from, to });
                }
            }
            Mending::Control(node) => {
                self.nodes[node].control_cuts = self.nodes[node].control_cuts.saturating_sub(1);
            }
            Mending::Flap { a, b, left } if self.stage == Stage::Faults => drop(self.flap(a, b, left)),
            Mending::Flap { .. } => {}
        }
    }

    /// All faults end: links are whole, disks and links are quick, everybody is awake, and who is down starts.
    pub(crate) fn heal(&mut self) {
        for node in 0..self.nodes.len() {
            let it = &mut self.nodes[node];
            it.paused_until = 0;
            it.crashes_after = None;
            it.pauses_within = None;
            it.disk.slow_until = 0;
            let life = it.life;
            self.after(0, Happening::Start { node, life });
            for link in &mut self.links[node] {
                link.slow_until = 0;
            }
        }
    }
}
