//! Processes are killed under load, again and again: single replicas, some, or all at once. Whatever was acknowledged is
//! there afterwards, at every replica; nothing that nobody wrote, no half of a POST; and ids go on without reuse.
//!
//! Who is killed, when and how the cluster comes back is drawn from a seed, which a failure prints;
//! `KILLS_SEED=seed cargo test --test kills` draws the same again.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, Process, try_http, wait_for};
use fastrand::Rng;

const QUICK: &str = r#","failure_timeout_ms":500,"log":"off""#;

/// Kills in each mode.
const ROUNDS: u64 = 10;

const REPLICAS: usize = 3;

const CLIENTS: usize = 4;

/// What clients were told: each note's last acknowledged title, and the writes whose fate they do not know.
#[derive(Default)]
struct Promised {
    notes: BTreeMap<u64, String>,
    /// The note, none for a POST, and the title.
    unknown: BTreeSet<(Option<u64>, String)>,
    acknowledged: usize,
}

impl Promised {
    /// A write was answered, or its connection broke; the note that it wrote, where it is known to have taken effect.
    fn learn(&mut self, id: Option<u64>, title: String, answer: std::io::Result<cluster::Answer>) -> Option<u64> {
        match answer {
            Ok(answer) if answer.status < 300 => {
                let id = id.or_else(|| answer.json()["id"].as_u64()).expect("a POST gives an id");
                self.notes.insert(id, title);
                self.acknowledged += 1;
                return Some(id);
            }
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                // `unavailable` promises that it took no effect, and that is checked.
                if answer.json()["code"] == "unknown" {
                    self.unknown.insert((id, title));
                }
            }
            Err(_) => _ = self.unknown.insert((id, title)),
        }
        None
    }
}

/// Writes at one replica after the other until told to stop. Each client has notes of its own.
fn write_until(cluster: &Cluster, client: usize, round: u64, stop: &AtomicBool, promised: &Mutex<Promised>) {
    let (mut mine, mut place) = (None, client);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let title = format!("{round}-{client}-{n}");
        let body = format!(r#"{{"title":"{title}","body":""}}"#);
        let service = cluster.service(place % REPLICAS);
        let answer = match mine {
            None => try_http(&service, "POST", "/note", &[], &body),
            Some(id) => try_http(&service, "PUT", &format!("/note/{id}"), &[], &body),
        };
        let written = promised.lock().expect("no writer panics").learn(mine, title, answer);
        // Three writes of a note, then a new one; and another replica where this one did not do it.
        match written {
            Some(id) => mine = Some(id).filter(|_| n % 3 != 2),
            None => place += 1,
        }
    }
}

/// Every acknowledged write is there, or one that followed it and whose answer was lost; and nothing that nobody wrote.
fn check(cluster: &Cluster, place: usize, promised: &Promised) {
    let list = cluster.http(place, "GET", "/note", "").json();
    let notes: BTreeMap<u64, String> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|note| (note["id"].as_u64().expect("an id"), note["title"].as_str().expect("a title").to_owned()))
        .collect();
    let unknown = |id: Option<u64>, title: &str| promised.unknown.contains(&(id, title.to_owned()));
    for (id, title) in &promised.notes {
        let found = notes.get(id).unwrap_or_else(|| panic!("note {id} was acknowledged and is lost"));
        assert!(found == title || unknown(Some(*id), found), "note {id} was acknowledged as {title} and is {found}");
    }
    for (id, title) in &notes {
        assert!(
            promised.notes.contains_key(id) || unknown(None, title) || unknown(Some(*id), title),
            "nobody wrote note {id}, {title}"
        );
    }
    let next = notes.keys().copied().max().unwrap_or(0);
    assert_eq!(notes.keys().copied().collect::<Vec<_>>(), (1..=next).collect::<Vec<_>>(), "no half of a POST");
}

/// How the replicas run: numbers of the cluster's processes.
enum Running {
    InOne(usize),
    Each([usize; REPLICAS]),
}

impl Running {
    fn start(cluster: &mut Cluster, in_one: bool) -> Running {
        match in_one {
            true => Running::InOne(cluster.spawn(&[])),
            false => Running::Each(std::array::from_fn(|place| cluster.spawn_replica(place))),
        }
    }

    /// Takes out who will be killed: mostly one replica, sometimes more, or the one process of all.
    fn take_victims(&self, cluster: &mut Cluster, rng: &mut Rng) -> Vec<(usize, Process)> {
        match self {
            Running::InOne(process) => vec![(0, cluster.take(*process))],
            Running::Each(processes) => {
                let count = [1, 1, 1, 2, REPLICAS][rng.usize(..5)];
                let places = rng.choose_multiple(0..REPLICAS, count);
                places.into_iter().map(|place| (place, cluster.take(processes[place]))).collect()
            }
        }
    }

    /// Starts those who were killed; or all, the other way, where the rest is killed, too.
    fn restart(self, cluster: &mut Cluster, killed: &[usize], rng: &mut Rng) -> Running {
        match self {
            Running::Each(mut processes) if rng.u8(..3) > 0 => {
                killed.iter().for_each(|place| processes[*place] = cluster.spawn_replica(*place));
                Running::Each(processes)
            }
            Running::Each(processes) => {
                processes.iter().for_each(|process| cluster.process(*process).kill());
                Running::start(cluster, true)
            }
            Running::InOne(_) => Running::start(cluster, rng.u8(..3) == 0),
        }
    }
}

fn kill_under_load(mode: &str, rng: &mut Rng) {
    let mut cluster = Cluster::configure(mode, REPLICAS, QUICK);
    let mut running = Running::start(&mut cluster, rng.bool());
    cluster.wait_ready();
    let promised = Mutex::new(Promised::default());
    let acknowledged = || promised.lock().expect("no writer panics").acknowledged;
    for round in 0..ROUNDS {
        let mut victims = running.take_victims(&mut cluster, rng);
        let minority = matches!(running, Running::Each(_)) && victims.len() * 2 < REPLICAS;
        let (before, after) = (rng.usize(1..60), if minority { rng.usize(0..30) } else { 0 });
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (cluster, stop, promised) = (&cluster, &stop, &promised);
                scope.spawn(move || write_until(cluster, client, round, stop, promised));
            }
            let enough = acknowledged() + before;
            wait_for("writes", || acknowledged() > enough);
            victims.iter_mut().for_each(|(_, process)| process.kill());
            // The others go on, and what they acknowledge counts as well.
            let enough = acknowledged() + after;
            wait_for("writes at those who live", || acknowledged() >= enough);
            stop.store(true, Ordering::Relaxed);
        });
        let killed: Vec<usize> = victims.iter().map(|(place, _)| *place).collect();
        running = running.restart(&mut cluster, &killed, rng);
        cluster.wait_ready();
        (0..REPLICAS).for_each(|place| check(&cluster, place, &promised.lock().expect("no writer panics")));
    }
}

#[test]
fn twenty_kills_under_load_lose_nothing_that_was_acknowledged() {
    let seed = std::env::var("KILLS_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("KILLS_SEED is a number"));
    println!("KILLS_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    ["remote-write", "local-write"].iter().for_each(|mode| kill_under_load(mode, &mut rng));
}
