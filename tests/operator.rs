//! What an operator sees and does: `primacy status`, a cluster begun by a majority, one forced to go on alone, and what is
//! said on stderr.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, Process, wait_for};
use serde_json::Value;

const QUICK: &str = r#","failure_timeout_ms":500,"log":"off""#;

/// Runs a command of the binary to its end: its exit code and the lines on stdout.
fn run(cluster: &Cluster, arguments: &[&str]) -> (i32, Vec<String>) {
    let mut process = Process::spawn(cluster.folder.path(), arguments);
    let code = process.wait();
    (code, process.read_out())
}

fn post(cluster: &Cluster, place: usize, title: &str) {
    let answer = cluster.http(place, "POST", "/note", &format!(r#"{{"title":"{title}","body":""}}"#));
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn processes(replicas: usize, more: &str) -> Cluster {
    let mut cluster = Cluster::configure("remote-write", replicas, more);
    for place in 0..replicas {
        cluster.spawn_replica(place);
    }
    cluster.wait_ready();
    cluster
}

#[test]
fn status_shows_every_replica_whether_it_answers_or_not() {
    let mut cluster = processes(3, QUICK);
    (0..3).for_each(|place| post(&cluster, place, "a"));
    let (code, lines) = run(&cluster, &["status", "--json"]);
    assert_eq!((code, lines.len()), (0, 1), "{lines:?}");
    let answers: Value = serde_json::from_str(&lines[0]).expect("one array of JSON");
    for (place, replica) in cluster.replicas.iter().enumerate() {
        let answer = &answers[place];
        assert_eq!((&answer["replica"], &answer["notes"]), (&replica.as_str().into(), &3.into()), "{answer}");
        let [role, owned] = if place == 0 { ["primary", "4"] } else { ["backup", "0"] };
        assert_eq!((&answer["role"], answer["items_owned"].to_string().as_str()), (&role.into(), owned), "{answer}");
        for link in answer["links"].as_array().expect("links") {
            let us = link["rtt_ms"].as_f64().expect("a round trip was measured") * 1000.0;
            assert!((us - us.round()).abs() < 1e-6, "a round trip to the microsecond, not {link}");
        }
    }
    cluster.process(2).kill();
    let (code, lines) = run(&cluster, &["status"]);
    assert_eq!((code, lines.len()), (0, 5), "a head, three replicas, one view: {lines:?}");
    let [first, second, third] = [0, 1, 2].map(|place| cluster.replicas[place].as_str());
    let known = format!("primary {first}; in sync {first}, {second}, {third}; joining -; known to {first}, {second}");
    wait_for("the view's line", || {
        // Meanwhile the third may have been left out, by one and then by the other.
        let (_, lines) = run(&cluster, &["status"]);
        let out = known.replace(&format!(", {third}"), "");
        lines[4].ends_with(&known) || lines[4].ends_with(&out)
    });
    assert!(lines[0].starts_with("replica ") && lines[0].contains("items owned"), "{lines:?}");
    assert!(lines[3].starts_with(&format!("{}  unreachable: ", cluster.replicas[2])), "{lines:?}");
    (0..2).for_each(|number| cluster.process(number).kill());
    let (code, lines) = run(&cluster, &["status"]);
    assert_eq!((code, lines.len()), (1, 4), "nobody answers: {lines:?}");
}

#[test]
fn status_is_watched_until_interrupted() {
    let cluster = processes(1, QUICK);
    let mut watch = Process::spawn(cluster.folder.path(), &["status", "--watch", "--json"]);
    wait_for("two looks at the replica", || watch.out().len() >= 2);
    watch.signal("INT");
    assert_eq!(watch.wait(), 0);
}

#[test]
fn a_majority_begins_a_fresh_cluster_where_the_operator_says_so() {
    let mut cluster = Cluster::configure("remote-write", 3, QUICK);
    for place in [1, 2] {
        let address = cluster.replicas[place].clone();
        cluster.spawn(&["replica", &address, "--initialize"]);
    }
    cluster.wait_ready_at(1);
    cluster.wait_ready_at(2);
    post(&cluster, 1, "without the first");
    cluster.spawn_replica(0);
    cluster.wait_ready_at(0);
    assert_eq!(cluster.http(0, "GET", "/note", "").body, cluster.http(2, "GET", "/note", "").body);
}

#[test]
fn one_replica_is_forced_to_go_on_where_the_majority_is_lost_for_good() {
    let mut cluster = processes(3, QUICK);
    (0..10).for_each(|n| post(&cluster, n % 3, "kept"));
    let kept = cluster.http(0, "GET", "/note", "").body;
    (0..3).for_each(|number| cluster.process(number).kill());
    for lost in [0, 1] {
        let folder = cluster.folder.path().join("data").join(&cluster.replicas[lost]);
        std::fs::remove_dir_all(folder).expect("the replica's folder is lost");
    }
    let address = cluster.replicas[2].clone();
    let forced = cluster.spawn(&["replica", &address, "--force-new-cluster"]);
    for warning in ["Lost are all writes", "holds all that was acknowledged in it"] {
        wait_for(warning, || cluster.process(forced).err().iter().any(|line| line.contains(warning)));
    }
    cluster.wait_ready_at(2);
    assert_eq!(cluster.http(2, "GET", "/note", "").body, kept, "it serves what it holds");
    cluster.spawn_replica(0);
    cluster.spawn_replica(1);
    cluster.wait_ready();
    post(&cluster, 0, "next");
    let listed = cluster.http(0, "GET", "/note", "").body;
    assert!(listed.contains(r#"{"id":11,"title":"next""#), "ids go on: {listed}");
    assert_eq!(cluster.http(1, "GET", "/note", "").body, listed);
    // Without the flag it goes on in its new cluster, and so do the others.
    cluster.process(forced).kill();
    post(&cluster, 1, "while the forced one is away");
    cluster.spawn_replica(2);
    cluster.wait_ready();
    assert_eq!(cluster.http(2, "GET", "/note", "").body, cluster.http(0, "GET", "/note", "").body);
}

#[test]
fn stderr_is_quiet_and_who_is_away_is_told_once() {
    let mut cluster = processes(3, r#","failure_timeout_ms":250"#);
    post(&cluster, 1, "all is well");
    let starting = ["begins once all replicas are there", "is away", "is back"];
    for number in 0..3 {
        let mut said = cluster.process(number).err();
        // On a busy machine one may start a second before another: that is told, and nothing else.
        said.retain(|line| !starting.iter().any(|start| line.contains(start)));
        assert_eq!(said, Vec::<String>::new(), "replica {number}");
    }
    cluster.process(2).kill();
    let away = |cluster: &mut Cluster, number: usize| {
        let gone = format!("peer=\"{}\"", cluster.replicas[2]);
        let said = cluster.process(number).err();
        said.iter().filter(|line| line.contains("is away") && line.contains(&gone)).count()
    };
    let before = [0, 1].map(|number| cluster.process(number).err().len());
    wait_for("the warning", || (0..2).all(|number| away(&mut cluster, number) == 1));
    // Time in which what is said at every try would be said many times.
    std::thread::sleep(Duration::from_secs(2));
    for (number, before) in before.into_iter().enumerate() {
        let said = cluster.process(number).err();
        assert!(said.len() <= before + 2, "replica {number} goes on about it: {said:#?}");
    }
}

#[test]
fn the_all_in_one_cluster_stops_with_all_in_sync_and_its_next_start_serves_at_once() {
    for mode in ["remote-write", "local-write"] {
        let mut cluster = Cluster::start(mode, 4, r#","failure_timeout_ms":1000,"log":"off""#);
        (0..20).for_each(|n| post(&cluster, n % 4, "kept"));
        let before = cluster.http(0, "GET", "/note", "").body;
        cluster.process(0).signal("INT");
        assert_eq!(cluster.process(0).wait(), 0);
        let start = Instant::now();
        cluster.spawn(&[]);
        cluster.wait_ready();
        println!("{mode}: served {:?} after the start", start.elapsed());
        for place in 0..4 {
            let status = cluster.http(place, "GET", "/status", "").json();
            assert_eq!(status["view"]["in_sync"].as_array().map(Vec::len), Some(4), "nobody has to join: {status}");
            assert_eq!(cluster.http(place, "GET", "/note", "").body, before, "{mode}: replica {place}");
        }
    }
}
