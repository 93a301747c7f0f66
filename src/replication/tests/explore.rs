//! Random interleavings of a few replicas, with a controller that keeps the rules of views, under an oracle of what clients
//! may see. What a failure prints ends with its seed; `EXPLORE=seed cargo test --lib explore` runs that one alone, and
//! `EXPLORE=0..100000` many.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Settings};
use super::oracle::Oracle;
use crate::config::Mode;
use crate::note::{Note, NoteId, Patch};
use crate::protocol::ids::{Epoch, ReplicaId};
use crate::protocol::request::{Key, Operation, Page, Request, Write};
use crate::protocol::view::{Member, View};

/// Runs of each mode in a plain `cargo test`.
const SEEDS: std::ops::Range<u64> = 0..150;

/// Things that happen in a run before all faults stop.
const STEPS: usize = 500;

/// A lease, in ms.
const LEASE_MS: u64 = 1_000;

/// Views within which a cluster without faults is whole again: each brings one replica one step further.
const HEALING_VIEWS: usize = 30;

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// A run: the replicas, and the controller that gives them views.
struct Run {
    cluster: Cluster,
    oracle: Oracle,
    random: Random,
    view: View,
    /// Who has not heard of the newest view.
    unaware: BTreeSet<ReplicaId>,
    requests: u64,
    /// Past requests under a key, to be sent again.
    keyed: Vec<Request>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cluster.take_lines().iter().for_each(|line| println!("{line}"));
        }
    }
}

#[test]
fn remote_write_keeps_its_promises() {
    explore(Mode::RemoteWrite);
}

#[test]
fn local_write_keeps_its_promises() {
    explore(Mode::LocalWrite);
}

fn explore(mode: Mode) {
    let seeds = match std::env::var("EXPLORE") {
        Err(_) => SEEDS,
        Ok(text) => {
            let (first, end) = text.split_once("..").unwrap_or((&text, ""));
            let first = first.parse().expect("EXPLORE is a seed or a range of seeds");
            first..end.parse().unwrap_or(first + 1)
        }
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Run::new(seed, mode).carry_out());
        if let Err(panic) = run {
            println!("{mode}, EXPLORE={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

impl Run {
    fn new(seed: u64, mode: Mode) -> Run {
        let mut random = Random(seed);
        let replicas = 2 + random.below(4) as u8;
        // Every other run does in many turns what a larger one would have to.
        let items_per_turn = if seed.is_multiple_of(2) { 1_000 } else { 1 + seed as usize / 2 % 3 };
        let cluster = Cluster::new(Settings { replicas, mode, min_in_sync: 1, leases: false, items_per_turn });
        let in_sync: Vec<_> = cluster.all().map(|replica| cluster.member(replica)).collect();
        let view = View { epoch: Epoch(1), primary: ReplicaId(0), in_sync, joining: Vec::new() };
        let unaware = cluster.all().collect();
        Run { cluster, oracle: Oracle::default(), random, view, unaware, requests: 0, keyed: Vec::new() }
    }

    fn carry_out(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.oracle.look(&mut self.cluster);
        }
        self.heal();
        self.oracle.look(&mut self.cluster);
        self.cluster.check_end();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.deliver(),
            50..68 => self.request(),
            68..78 => self.tell_view(),
            78..86 => self.grant_lease(),
            86..91 => self.trouble_disk(),
            91..93 => self.crash(),
            93..95 => self.restart(),
            95..99 => self.change_view(),
            _ => {
                let ms = self.random.below(2_000) as u64;
                self.cluster.wait(None, ms);
            }
        }
    }

    fn deliver(&mut self) {
        let unfinished = self.cluster.unfinished();
        if !unfinished.is_empty() && self.random.below(2) == 0 {
            let at = unfinished[self.random.below(unfinished.len())];
            return self.cluster.proceed(at);
        }
        let links = self.cluster.busy_links();
        if let Some((from, to)) = self.random.pick(&links) {
            self.cluster.deliver(from, to, true);
        }
    }

    fn tell_view(&mut self) {
        let unaware: Vec<_> = self.unaware.iter().copied().collect();
        if let Some(at) = self.random.pick(&unaware) {
            self.unaware.remove(&at);
            self.cluster.apply_view(at, self.view.clone());
        }
    }

    /// R4: only in-sync members of the newest view are granted a lease.
    fn grant_lease(&mut self) {
        let members = self.live_in_sync();
        if let Some(at) = self.random.pick(&members) {
            self.cluster.lease(at, LEASE_MS);
        }
    }

    fn trouble_disk(&mut self) {
        let all: Vec<_> = self.cluster.all().collect();
        let Some(at) = self.random.pick(&all) else { return };
        match self.random.below(2) {
            0 => self.cluster.hold_disk(at),
            _ => self.cluster.release_disk(at),
        }
    }

    fn crash(&mut self) {
        let live: Vec<_> = self.cluster.all().filter(|at| self.cluster.is_alive(*at)).collect();
        if let Some(at) = self.random.pick(&live) {
            self.cluster.say(format!("{at:?} dies"));
            self.cluster.crash(at);
        }
    }

    fn restart(&mut self) {
        let dead: Vec<_> = self.cluster.all().filter(|at| !self.cluster.is_alive(*at)).collect();
        if let Some(at) = self.random.pick(&dead) {
            self.cluster.say(format!("{at:?} starts"));
            self.cluster.restart(at);
            self.unaware.insert(at);
        }
    }

    /// The members of the newest view that still are who they were.
    fn live_in_sync(&self) -> Vec<ReplicaId> {
        let lives = |member: &&Member| self.cluster.is_alive(member.replica) && self.is_same(member);
        self.view.in_sync.iter().filter(lives).map(|member| member.replica).collect()
    }

    fn is_same(&self, member: &Member) -> bool {
        self.cluster.member(member.replica).incarnation == member.incarnation
    }

    /// V1, V2, J1: one step of the controller.
    fn change_view(&mut self) {
        let live = self.live_in_sync();
        if live.is_empty() {
            return self.revive();
        }
        if live.len() < self.view.in_sync.len() {
            return self.propose(live, Vec::new());
        }
        if live.len() > 1 && self.random.below(6) == 0 {
            let suspect = self.random.pick(&live);
            let rest = live.into_iter().filter(|member| Some(*member) != suspect).collect();
            return self.propose(rest, Vec::new());
        }
        self.take_in(live);
    }

    /// A joiner that is synced is taken in; else whoever is out may join.
    fn take_in(&mut self, mut in_sync: Vec<ReplicaId>) {
        let synced = self.cluster.synced_in(self.view.epoch);
        let joined = self.view.joining.iter().find(|member| self.is_same(member) && synced.contains(&member.replica));
        if let Some(member) = joined {
            in_sync.push(member.replica);
            in_sync.sort();
            return self.propose(in_sync, Vec::new());
        }
        let joins =
            |at: &ReplicaId| !self.view.joining.iter().any(|member| member.replica == *at && self.is_same(member));
        let out: Vec<_> = self.cluster.all().filter(|at| self.cluster.is_alive(*at) && !in_sync.contains(at)).collect();
        if out.iter().any(joins) {
            self.propose(in_sync, out);
        }
    }

    /// J1: all in-sync members are dead. Those that still have their store come back, not all of them at once.
    fn revive(&mut self) {
        let has_store = |member: &&Member| self.cluster.member(member.replica).store == member.store;
        let mut back: Vec<_> = self.view.in_sync.iter().filter(has_store).map(|member| member.replica).collect();
        let missing = self.random.below(back.len());
        for _ in 0..missing {
            back.remove(self.random.below(back.len()));
        }
        for at in back.clone() {
            if !self.cluster.is_alive(at) {
                self.cluster.restart(at);
            }
        }
        self.propose(back, Vec::new());
    }

    fn propose(&mut self, in_sync: Vec<ReplicaId>, joining: Vec<ReplicaId>) {
        // R5: who is left out has no lease any more.
        let kept: BTreeSet<_> = in_sync.iter().collect();
        if self.live_in_sync().iter().any(|at| !kept.contains(at)) {
            self.cluster.wait(None, LEASE_MS);
        }
        let stays = kept.contains(&self.view.primary) && self.live_in_sync().contains(&self.view.primary);
        let members = |of: &[ReplicaId]| of.iter().map(|at| self.cluster.member(*at)).collect();
        self.view = View {
            epoch: Epoch(self.view.epoch.0 + 1),
            primary: if stays { self.view.primary } else { in_sync[0] },
            in_sync: members(&in_sync),
            joining: members(&joining),
        };
        self.unaware = self.cluster.all().filter(|at| self.cluster.is_alive(*at)).collect();
        self.cluster.say(format!("the controller proposes {in_sync:?} joining {joining:?}"));
    }

    fn request(&mut self) {
        let live: Vec<_> = self.cluster.all().filter(|at| self.cluster.is_alive(*at)).collect();
        let Some(at) = self.random.pick(&live) else { return };
        let request = self.make_request();
        self.oracle.ask(self.cluster.last_token() + 1, &request);
        let token = self.cluster.request(at, request.clone());
        self.cluster.say(format!("#{token} at {at:?} is {request:?}"));
    }

    fn make_request(&mut self) -> Request {
        if !self.keyed.is_empty() && self.random.below(8) == 0 {
            return self.keyed[self.random.below(self.keyed.len())].clone();
        }
        self.requests += 1;
        let id = NoteId(1 + self.random.below(6) as u64);
        let body = format!(r#"{{"title":"w{}","body":"b"}}"#, self.requests);
        let note = Note::from_post(body.as_bytes()).unwrap();
        let operation = match self.random.below(20) {
            0..4 => return Request::Get(id),
            4..5 => {
                return Request::List(Page { after: NoteId(0), limit: 1 + self.random.below(20), bytes_max: 1 << 20 });
            }
            5..9 => Operation::Post { note },
            9..14 => Operation::Put { id, note },
            14..18 => Operation::Patch { id, patch: Patch::parse(id, body.as_bytes()).unwrap() },
            _ => Operation::Delete { id },
        };
        let if_match = match self.random.below(6) {
            0 => self.oracle.newest_version(id).map(|version| vec![version]),
            _ => None,
        };
        let key = (self.random.below(5) == 0).then(|| Key::try_from(format!("k{}", self.requests)).unwrap());
        let request = Request::Write(Write { operation, key: key.clone(), if_match });
        if key.is_some() {
            self.keyed.push(request.clone());
        }
        request
    }

    /// All faults stop: everybody comes back in sync, and holds the same (invariant 9).
    fn heal(&mut self) {
        for at in self.cluster.all() {
            self.cluster.release_disk(at);
        }
        for _ in 0..HEALING_VIEWS {
            while self.cluster.all().any(|at| !self.cluster.is_alive(at)) {
                self.restart();
            }
            while !self.unaware.is_empty() {
                self.tell_view();
            }
            self.cluster.run();
            self.live_in_sync().into_iter().for_each(|at| self.cluster.lease(at, LEASE_MS));
            self.cluster.run();
            self.oracle.look(&mut self.cluster);
            let live = self.live_in_sync();
            match live.len() {
                all if all == self.cluster.all().count() => break,
                0 => self.revive(),
                some if some < self.view.in_sync.len() => self.propose(live, Vec::new()),
                _ => self.take_in(live),
            }
        }
        let whole = self.live_in_sync().len() == self.cluster.all().count();
        assert!(whole, "invariant 9: not everybody is in sync after {HEALING_VIEWS} views");
        self.cluster.wait(None, 10_000);
    }
}

/// A note's title: every write brings one of its own.
pub(super) fn title(note: &Note) -> String {
    let members: BTreeMap<String, String> = serde_json::from_str(note.as_str()).unwrap();
    members.get("title").cloned().unwrap_or_default()
}
