//! Cuts between replicas that really lose packets: each replica in a network namespace of its own, on one bridge that
//! clients use too, and cuts made by routes into nothing. Skipped where namespaces may not be made.

mod cluster;
mod skip;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use cluster::{Answer, Folder, Process, try_http, wait_for};
use skip::skip;

/// What the replicas prove themselves with.
const SECRET: &str = "a-secret-of-the-replicas-of-this-test-alone";

/// What both replicas of a cut and their clients wait at most: short, so that the suite stays quick.
const CONFIG: &str =
    r#","failure_timeout_ms":500,"log":"off","request_timeout_ms":2000,"read_wait_ms":500,"service":9988"#;

/// Networks are of the whole machine, and share their addresses: one test at a time.
static NETWORK: Mutex<()> = Mutex::new(());

/// Runs a program; whether it did what was asked, else what it said.
fn run(program: &str, arguments: &str) -> Result<(), String> {
    let done = Command::new(program).args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(format!("{program} {arguments}: {said}")) }
}

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", arguments)
}

/// Namespaces on a bridge; all are removed when it goes.
struct Network {
    /// In front of all names, so that runs do not meet.
    tag: String,
    /// The first three parts of all addresses.
    prefix: String,
    replicas: usize,
}

impl Network {
    fn new(replicas: usize) -> Result<Network, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (id, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (tag, prefix) = (format!("pm{}c{count}", id % 100_000), format!("10.{}.{}", 64 + id / 250 % 64, id % 250));
        let network = Network { tag, prefix, replicas };
        let Network { tag, prefix, .. } = &network;
        ip(&format!("link add {tag} type bridge"))?;
        ip(&format!("address add {prefix}.254/24 dev {tag}"))?;
        ip(&format!("link set {tag} up"))?;
        for place in 0..replicas {
            let (name, address) = (network.namespace(place), network.address(place));
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set {name} master {tag} up"))?;
            ip(&format!("-n {name} address add {address}/24 dev eth0"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(network)
    }

    fn namespace(&self, place: usize) -> String {
        format!("{}n{place}", self.tag)
    }

    fn address(&self, place: usize) -> String {
        format!("{}.{}", self.prefix, place + 1)
    }

    /// Nothing gets from one replica to the other any more; the other way stays.
    fn cut(&self, from: usize, to: usize) {
        let route = format!("-n {} route add blackhole {}/32", self.namespace(from), self.address(to));
        ip(&route).expect("a route into nothing can be made");
    }

    fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    fn isolate(&self, place: usize) {
        (0..self.replicas).filter(|other| *other != place).for_each(|other| self.cut_both(place, other));
    }

    /// Whatever leaves this replica, or comes to it, shares so many kilobits in a second; an error where the system has no
    /// means for it.
    fn slow_down(&self, place: usize, kilobits: u32) -> Result<(), String> {
        let [name, tag] = [self.namespace(place), self.namespace(place)];
        let bucket = format!("root tbf rate {kilobits}kbit burst 4000 latency 5s");
        run("tc", &format!("qdisc add dev {tag} {bucket}"))?;
        run("ip", &format!("netns exec {name} tc qdisc add dev eth0 {bucket}"))
    }

    fn speed_up(&self, place: usize) {
        let name = self.namespace(place);
        run("tc", &format!("qdisc delete dev {name} root")).expect("a queue can be removed");
        run("ip", &format!("netns exec {name} tc qdisc delete dev eth0 root")).expect("a queue can be removed");
    }

    fn heal(&self) {
        for place in 0..self.replicas {
            ip(&format!("-n {} route flush type blackhole", self.namespace(place))).expect("routes can be removed");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in 0..self.replicas {
            let _ = ip(&format!("link delete {}", self.namespace(place)));
            let _ = ip(&format!("netns delete {}", self.namespace(place)));
        }
        let _ = ip(&format!("link delete {}", self.tag));
    }
}

/// A cluster in namespaces. The processes end before their network does.
struct Scene {
    processes: Vec<Process>,
    network: Network,
    _folder: Folder,
}

impl Scene {
    fn start(mode: &str, replicas: usize, more: &str) -> Option<Scene> {
        let network = match Network::new(replicas) {
            Ok(network) => network,
            Err(reason) => {
                skip(&format!("network namespaces cannot be made here: {reason}"));
                return None;
            }
        };
        let folder = Folder::new();
        let addresses: Vec<String> = (0..replicas).map(|place| format!("{}:10000", network.address(place))).collect();
        let config = format!(r#"{{"sync":"{mode}","replicas":{addresses:?}{CONFIG}{more}}}"#);
        std::fs::write(folder.path().join("config.json"), config).expect("config.json is written");
        let start = |(place, address): (usize, &String)| {
            let mut command = Command::new("ip");
            command.args([
                "netns",
                "exec",
                &network.namespace(place),
                env!("CARGO_BIN_EXE_primacy"),
                "replica",
                address,
            ]);
            // Replicas that can be reached from other hosts begin with a secret only.
            command.env("PRIMACY_SECRET", SECRET).current_dir(folder.path());
            Process::spawn_command(command)
        };
        let processes = addresses.iter().enumerate().map(start).collect();
        let scene = Scene { processes, network, _folder: folder };
        scene.wait_ready();
        Some(scene)
    }

    fn ask(&self, place: usize, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        try_http(&format!("{}:9988", self.network.address(place)), method, path, &[], body)
    }

    fn http(&self, place: usize, method: &str, path: &str, body: &str) -> Answer {
        self.ask(place, method, path, body).unwrap_or_else(|error| panic!("{method} {path} at {place}: {error}"))
    }

    fn wait_ready(&self) {
        for (place, process) in self.processes.iter().enumerate() {
            wait_for(&format!("replica {place} to be ready"), || {
                // Who refuses to start says why.
                let said = process.err();
                assert!(!said.iter().any(|line| line.starts_with("primacy: ")), "{said:?}");
                self.ask(place, "GET", "/ready", "").is_ok_and(|answer| answer.status == 200)
            });
        }
    }

    fn put(&self, place: usize, title: &str) -> Answer {
        self.http(place, "PUT", "/note/1", &format!(r#"{{"title":"{title}"}}"#))
    }

    /// Writes at these replicas, again until it is done: a view may be about to change.
    fn written(&self, places: &[usize], title: &str) {
        for place in places {
            wait_for(&format!("a write at {place}"), || self.put(*place, &format!("{title} {place}")).status == 200);
        }
    }

    /// Whatever a replica answers, it is the newest or nothing.
    fn reads_new_or_nothing(&self, place: usize, newest: &str) {
        let answer = self.http(place, "GET", "/note/1", "");
        let fresh = answer.status == 200 && answer.body.contains(&format!("\"{newest}\""));
        assert!(fresh || answer.status == 503, "a stale read at {place}, {newest} was acknowledged: {answer:?}");
    }

    /// Heals all; every replica comes back, and holds this.
    fn converges(&self, newest: &str) {
        self.network.heal();
        self.wait_ready();
        for place in 0..self.processes.len() {
            let body = self.http(place, "GET", "/note", "").body;
            assert_eq!(body, format!("{{\"res\":200,\"data\":[{{\"id\":1,\"title\":\"{newest}\"}}]}}\n"), "at {place}");
        }
    }
}

fn in_each_mode(replicas: usize, test: impl Fn(&Scene)) {
    in_each_mode_with(replicas, "", test);
}

/// As [`in_each_mode`], with further members of config.json.
fn in_each_mode_with(replicas: usize, more: &str, test: impl Fn(&Scene)) {
    let _alone = NETWORK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for mode in ["remote-write", "local-write"] {
        let Some(scene) = Scene::start(mode, replicas, more) else { return };
        assert_eq!(scene.http(0, "POST", "/note", r#"{"title":"first","body":""}"#).status, 201, "{mode}");
        test(&scene);
    }
}

#[test]
fn an_isolated_replica_answers_nothing_stale_and_comes_back_whether_primary_or_backup() {
    for isolated in [0, 2] {
        in_each_mode(3, |scene| {
            let others: Vec<usize> = (0..3).filter(|place| *place != isolated).collect();
            scene.network.isolate(isolated);
            scene.written(&others, "without it");
            let newest = format!("without it {}", others[1]);
            scene.reads_new_or_nothing(isolated, &newest);
            let answer = scene.put(isolated, "nobody agrees");
            assert_eq!(answer.status, 503, "{answer:?}");
            scene.reads_new_or_nothing(isolated, &newest);
            others.iter().for_each(|place| scene.reads_new_or_nothing(*place, &newest));
            // The write that nobody agreed to may take effect or not (`unknown`), so that another one is the last.
            scene.network.heal();
            scene.wait_ready();
            scene.written(&[isolated], "healed");
            scene.converges(&format!("healed {isolated}"));
        });
    }
}

#[test]
fn a_one_way_cut_of_the_primary_stops_nobody_for_good_and_loses_nothing() {
    for (from, to) in [(0, 1), (1, 0)] {
        in_each_mode(3, |scene| {
            scene.network.cut(from, to);
            scene.written(&[2], "one way");
            (0..3).for_each(|place| scene.reads_new_or_nothing(place, "one way 2"));
            scene.converges("one way 2");
        });
    }
}

#[test]
fn where_two_cannot_reach_each_other_one_of_them_goes_and_the_rest_serves() {
    in_each_mode(3, |scene| {
        scene.network.cut_both(1, 2);
        scene.written(&[0], "two parted");
        (0..3).for_each(|place| scene.reads_new_or_nothing(place, "two parted 0"));
        scene.converges("two parted 0");
    });
}

#[test]
fn fewer_than_min_in_sync_refuse_writes_at_once_and_go_on_reading() {
    in_each_mode_with(3, r#","min_in_sync":3"#, |scene| {
        scene.written(&[0], "by all");
        scene.network.isolate(2);
        wait_for("the others to be alone", || {
            let status = scene.http(0, "GET", "/status", "").json();
            status["view"]["in_sync"].as_array().is_some_and(|in_sync| in_sync.len() == 2) && status["ready"] == true
        });
        for place in [0, 1] {
            let answer = scene.put(place, "too few");
            assert_eq!((answer.status, &answer.json()["code"]), (503, &"unavailable".into()), "{answer:?}");
            assert!(answer.body.contains("min_in_sync"), "it says why: {answer:?}");
            // A read may wait for a lease, and for nothing else.
            wait_for("a read", || scene.http(place, "GET", "/note/1", "").status == 200);
            scene.reads_new_or_nothing(place, "by all 0");
        }
        scene.network.heal();
        scene.wait_ready();
        scene.written(&[1], "all are back");
        scene.converges("all are back 1");
    });
}

#[test]
fn a_slow_link_delays_writes_and_nothing_else() {
    in_each_mode(3, |scene| {
        if let Err(reason) = scene.network.slow_down(2, 800) {
            return skip(&format!("links cannot be made slow here: {reason}"));
        }
        for round in 0..3 {
            scene.written(&[0, 1, 2], &format!("slowly {round}"));
            (0..3).for_each(|place| scene.reads_new_or_nothing(place, &format!("slowly {round} 2")));
        }
        scene.network.speed_up(2);
        scene.wait_ready();
        scene.written(&[2], "fast again");
        scene.converges("fast again 2");
    });
}

#[test]
fn a_link_too_slow_for_what_is_written_stops_nobody_for_good_and_loses_nothing() {
    in_each_mode(3, |scene| {
        if let Err(reason) = scene.network.slow_down(2, 60) {
            return skip(&format!("links cannot be made slow here: {reason}"));
        }
        // A second's worth of the link in each note, so that heartbeats are late behind them.
        let body = "x".repeat(8_000);
        let note = |n: usize| format!(r#"{{"title":"{n}","body":"{body}"}}"#);
        for n in 0..4 {
            wait_for("a write", || scene.http(n % 2, "PUT", "/note/1", &note(n)).status == 200);
            // Clients of the third share its link.
            (0..2).for_each(|place| scene.reads_new_or_nothing(place, &n.to_string()));
        }
        scene.network.speed_up(2);
        scene.wait_ready();
        scene.written(&[2], "fast again");
        scene.converges("fast again 2");
    });
}

#[test]
fn a_partial_cut_of_four_leaves_out_as_few_as_it_takes() {
    in_each_mode(4, |scene| {
        // 3 reaches 0 alone: it is in two cut pairs, 1 and 2 in one each.
        scene.network.cut_both(3, 1);
        scene.network.cut_both(3, 2);
        wait_for("the one in most cut pairs to be left out", || {
            let status = scene.http(0, "GET", "/status", "").json();
            status["view"]["in_sync"].as_array().is_some_and(|in_sync| in_sync.len() == 3)
        });
        scene.written(&[0, 1, 2], "three");
        (0..4).for_each(|place| scene.reads_new_or_nothing(place, "three 2"));
        scene.converges("three 2");
    });
}

#[test]
fn a_link_into_nothing_is_given_up_so_that_a_long_cut_heals_as_fast_as_a_short_one() {
    in_each_mode(3, |scene| {
        scene.network.isolate(2);
        for (place, peer) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
            wait_for(&format!("{place} to give up its link to {peer}"), || {
                let status = scene.http(place, "GET", "/status", "").json();
                let address = format!("{}:10000", scene.network.address(peer));
                let links = status["links"].as_array().expect("links are listed");
                // Nothing waits on the other one.
                let mut control = links.iter().filter(|link| link["kind"] == "control");
                control.any(|link| link["peer"] == address.as_str() && link["up"] == false)
            });
        }
        scene.written(&[0, 1], "without it");
        scene.converges("without it 1");
    });
}
