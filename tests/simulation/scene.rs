//! Scenarios: a script moves the world, instead of a seed's plan. What the script leaves open (delays, how much of a dead
//! sender's frames arrives, how much of what was unsynced is kept) differs from seed to seed, so each scenario is run with
//! several. All checks of the simulation hold here too, and at the end everything heals, converges and is read everywhere.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use primacy::config::Mode;
use primacy::note::NoteId;
use primacy::protocol::view::View;

use super::checks::Checked;
use super::history::{Ask, Reply};
use super::plan::{MS, Plan};
use super::workload::{Client, Wish};
use super::world::{Happening, World};

/// The seeds with which each scenario is run.
const SEEDS: [u64; 6] = [0, 1, 2, 3, 4, 5];

/// Steps at which somebody may die in one scenario: none has so many.
const STEPS_MAX: usize = 200;

/// How long a script waits for anything, in ms.
const PATIENCE_MS: u64 = 30_000;

/// Both modes.
pub(crate) const MODES: [Mode; 2] = [Mode::RemoteWrite, Mode::LocalWrite];

/// A request that was sent: its place in the history.
pub(crate) type Place = usize;

/// A cluster that a script moves.
pub(crate) struct Scene {
    pub(crate) world: World,
}

/// Runs a scenario with several seeds in these modes.
pub(crate) fn scene(modes: &[Mode], replicas: usize, script: impl Fn(&mut Scene)) {
    scene_with(&SEEDS, modes, replicas, script);
}

/// The same with these seeds: a large scenario has time for one.
pub(crate) fn scene_with(seeds: &[u64], modes: &[Mode], replicas: usize, script: impl Fn(&mut Scene)) {
    for mode in modes {
        seeds.iter().for_each(|seed| with_trace(*seed, *mode, replicas, &script));
    }
}

/// Runs a scenario for each step at which it can let somebody die: the script says whether somebody did.
pub(crate) fn at_each_step(modes: &[Mode], replicas: usize, script: impl Fn(&mut Scene, usize) -> bool) {
    for mode in modes {
        for seed in SEEDS {
            let steps = (0..STEPS_MAX).take_while(|step| {
                let died = std::cell::Cell::new(false);
                with_trace(seed, *mode, replicas, &|scene: &mut Scene| died.set(script(scene, *step)));
                died.get()
            });
            let steps = steps.count();
            assert!((1..STEPS_MAX).contains(&steps), "somebody died at {steps} steps");
        }
    }
}

/// A script that fails is run again, so that it tells what happened.
fn with_trace(seed: u64, mode: Mode, replicas: usize, script: &impl Fn(&mut Scene)) {
    let run = |traced: bool| {
        let mut scene = Scene::new(seed, mode, replicas, traced);
        let failed = catch_unwind(AssertUnwindSafe(|| script(&mut scene))).err();
        failed.map(|panic| (panic, scene.world.trace.take().unwrap_or_default()))
    };
    if run(false).is_some()
        && let Some((panic, trace)) = run(true)
    {
        trace.iter().for_each(|line| println!("{line}"));
        println!("the scenario failed with seed {seed}, {mode}");
        resume_unwind(panic);
    }
}

impl Scene {
    /// A cluster that serves: all are in sync, with leases.
    fn new(seed: u64, mode: Mode, replicas: usize, traced: bool) -> Scene {
        let (plan, rng) = Plan::of_script(seed, mode, replicas);
        let mut scene = Scene { world: World::new(plan, rng, traced) };
        scene.world.begin();
        scene.until("everybody serves", Scene::all_serve);
        scene
    }

    fn all_serve(&self) -> bool {
        (0..self.world.nodes.len()).all(|node| self.serves(node))
    }

    /// Whether a replica may answer reads now, in the newest view.
    pub(crate) fn serves(&self, node: usize) -> bool {
        let it = &self.world.nodes[node];
        let now = it.clock.moment(self.world.now);
        it.epoch == self.view().epoch && it.replica.as_ref().is_some_and(|replica| replica.serves(now))
    }

    fn must(checked: Checked) {
        if let Err(violation) = checked {
            panic!("{}: {}", violation.rule, violation.seen);
        }
    }

    fn advance(&mut self) {
        match self.world.advance() {
            Ok(more) => assert!(more, "the world stands still"),
            Err(violation) => Self::must(Err(violation)),
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.world.now + ms * MS;
        while self.world.now < end {
            self.advance();
        }
    }

    /// Runs until something holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Scene) -> bool) {
        let end = self.world.now + PATIENCE_MS * MS;
        while !holds(self) {
            let view = self.world.group.newest();
            assert!(self.world.now < end, "{PATIENCE_MS} ms passed without: {what}; the view is {view:?}");
            self.advance();
        }
    }

    /// Everything heals, becomes equal, and is read everywhere.
    pub(crate) fn end(&mut self) {
        self.world.after(0, Happening::Check);
        let checked = self.world.run_to_the_end();
        Self::must(checked);
    }
}

/// Clients.
impl Scene {
    /// Sends a request; each has a client of its own.
    pub(crate) fn send(&mut self, at: usize, ask: Ask, key: Option<u32>) -> Place {
        let client = self.world.clients.len();
        self.world.clients.push(Client::default());
        self.world.send_request(client, at, &Wish { ask, key, if_match: None, sends: 0 });
        self.world.history.attempts.len() - 1
    }

    fn content(&mut self) -> (u32, u32) {
        (self.world.knowledge.tag(), 0)
    }

    pub(crate) fn post(&mut self, at: usize) -> Place {
        let content = self.content();
        self.send(at, Ask::Post(content), None)
    }

    pub(crate) fn put(&mut self, at: usize, id: NoteId) -> Place {
        let content = self.content();
        self.send(at, Ask::Put(id, content), None)
    }

    pub(crate) fn delete(&mut self, at: usize, id: NoteId) -> Place {
        self.send(at, Ask::Delete(id), None)
    }

    pub(crate) fn get(&mut self, at: usize, id: NoteId) -> Place {
        self.send(at, Ask::Get(id), None)
    }

    /// What a client was told, so far.
    pub(crate) fn reply(&self, place: Place) -> &Reply {
        &self.world.history.attempts[place].reply
    }

    /// Waits for an answer.
    pub(crate) fn answer(&mut self, place: Place) -> Reply {
        self.until("an answer", |scene| *scene.reply(place) != Reply::Open);
        self.reply(place).clone()
    }

    /// Waits for a write to be done; the note that it made or changed.
    pub(crate) fn done(&mut self, place: Place) -> NoteId {
        match self.answer(place) {
            Reply::Done(done) => done.id,
            reply => panic!("{:?} was answered {reply:?}", self.world.history.attempts[place].ask),
        }
    }

    /// Notes that clients of one replica have posted.
    pub(crate) fn notes(&mut self, at: usize, count: usize) -> Vec<NoteId> {
        let places: Vec<Place> = (0..count).map(|_| self.post(at)).collect();
        places.into_iter().map(|place| self.done(place)).collect()
    }

    pub(crate) fn note(&mut self, at: usize) -> NoteId {
        self.notes(at, 1)[0]
    }
}

/// Faults.
impl Scene {
    pub(crate) fn crash(&mut self, node: usize) {
        self.world.crash(node);
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.world.start(node);
    }

    /// The process dies after so many more of its actions.
    pub(crate) fn dies_after(&mut self, node: usize, actions: usize) {
        self.world.nodes[node].crashes_after = Some(actions);
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.world.nodes[node].is_up()
    }

    /// It dies no more; says whether it has.
    pub(crate) fn has_died(&mut self, node: usize) -> bool {
        self.world.nodes[node].crashes_after = None;
        !self.is_up(node)
    }

    pub(crate) fn pause(&mut self, node: usize, ms: u64) {
        self.world.nodes[node].paused_until = self.world.now + ms * MS;
    }

    /// Nothing gets through between two, either way, or again.
    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        [(one, other), (other, one)].into_iter().for_each(|(from, to)| self.world.links[from][to].cut());
    }

    pub(crate) fn mend(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.world.links[from][to].mend();
            self.world.after(0, Happening::Arrives { from, to });
        }
    }

    /// Nothing gets through between one and all others, either way.
    pub(crate) fn isolate(&mut self, node: usize) {
        self.others(node).into_iter().for_each(|other| self.cut(node, other));
    }

    pub(crate) fn rejoin(&mut self, node: usize) {
        self.others(node).into_iter().for_each(|other| self.mend(node, other));
    }

    /// Data frames from one to another wait, and are kept whatever becomes of their sender and its epoch.
    pub(crate) fn hold(&mut self, from: usize, to: usize) {
        let link = &mut self.world.links[from][to];
        link.hold();
        link.keeps = true;
    }

    pub(crate) fn release(&mut self, from: usize, to: usize) {
        let link = &mut self.world.links[from][to];
        link.release();
        link.keeps = false;
        self.world.after(0, Happening::Arrives { from, to });
    }

    pub(crate) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.world.nodes.len()).filter(|other| *other != node).collect()
    }
}

/// Views.
impl Scene {
    pub(crate) fn view(&self) -> &View {
        self.world.group.newest()
    }

    pub(crate) fn in_sync(&self) -> Vec<usize> {
        self.view().in_sync.iter().map(|member| member.replica.index()).collect()
    }

    pub(crate) fn is_joining(&self, node: usize) -> bool {
        self.view().joining.iter().any(|member| member.replica.index() == node)
    }

    pub(crate) fn until_in_sync(&mut self, in_sync: &[usize]) {
        self.until(&format!("{in_sync:?} in sync"), |scene| scene.in_sync() == in_sync);
    }

    /// Who leads the group, as far as the group has elected.
    pub(crate) fn leader(&self) -> usize {
        self.world.group.leader.expect("a cluster that serves has a leader")
    }

    /// The two of three who do not lead, in config order.
    pub(crate) fn who_do_not_lead(&self) -> (usize, usize) {
        let others = self.others(self.leader());
        (others[0], others[1])
    }
}
