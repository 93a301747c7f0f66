//! What clients see when replicas die, come back, hang, or are cut off: real processes, short timeouts.

mod cluster;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::{Cluster, try_http, wait_for};

const MODES: [&str; 2] = ["remote-write", "local-write"];
/// Short, so that the suite stays quick.
const QUICK: &str = r#","failure_timeout_ms":500,"log":"off""#;

/// One process a replica, all serving.
fn processes(mode: &str, replicas: usize, more: &str) -> Cluster {
    let mut cluster = Cluster::configure(mode, replicas, more);
    for place in 0..replicas {
        cluster.spawn_replica(place);
    }
    cluster.wait_ready();
    cluster
}

fn post(cluster: &Cluster, place: usize, title: &str) -> u64 {
    let answer = cluster.http(place, "POST", "/note", &format!(r#"{{"title":"{title}","body":""}}"#));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_u64().expect("a POST gives an id")
}

/// So many POSTs, in turn at the first `places` replicas.
fn post_many(cluster: &Cluster, count: usize, places: usize, title: &str) {
    for n in 0..count {
        post(cluster, n % places, title);
    }
}

/// The titles that a replica lists, by id.
fn titles(cluster: &Cluster, place: usize) -> Vec<(u64, String)> {
    let list = cluster.http(place, "GET", "/note", "").json();
    let notes = list["data"].as_array().unwrap_or_else(|| panic!("no list: {list}")).clone();
    let title = |note: &serde_json::Value| note["title"].as_str().expect("a title").to_owned();
    notes.iter().map(|note| (note["id"].as_u64().expect("an id"), title(note))).collect()
}

#[test]
fn the_primary_dies_and_clients_of_the_others_see_only_a_pause() {
    for mode in MODES {
        let mut cluster = processes(mode, 4, QUICK);
        let before = post(&cluster, 0, "before");
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut killed = cluster.take(0);
        let ids = std::thread::scope(|scope| {
            let writers: Vec<_> = (1..4)
                .map(|place| {
                    let (cluster, stop, acknowledged) = (&cluster, &stop, &acknowledged);
                    scope.spawn(move || {
                        let mut ids = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            ids.push(post(cluster, place, "during"));
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        ids
                    })
                })
                .collect();
            wait_for("some writes before the death", || acknowledged.load(Ordering::Relaxed) > 50);
            killed.kill();
            let at_death = acknowledged.load(Ordering::Relaxed);
            wait_for("writes after the death", || acknowledged.load(Ordering::Relaxed) > at_death + 50);
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().flat_map(|writer| writer.join().expect("no client saw an error")).collect::<Vec<_>>()
        });
        let mut expected: Vec<u64> = ids.into_iter().chain([before]).collect();
        expected.sort_unstable();
        let listed = titles(&cluster, 1);
        let held: Vec<u64> = listed.iter().map(|(id, _)| *id).collect();
        assert_eq!(held, expected, "{mode}: each acknowledged POST made one note, and there is no other");
        for place in 2..4 {
            assert_eq!(titles(&cluster, place), listed, "{mode}: replica {place}");
        }
    }
}

#[test]
fn a_replica_that_comes_back_joins_while_writes_go_on() {
    for mode in MODES {
        let mut cluster = processes(mode, 3, QUICK);
        post_many(&cluster, 20, 3, "early");
        cluster.process(2).kill();
        post_many(&cluster, 20, 2, "while it is away");
        assert_eq!(cluster.http(0, "DELETE", "/note/1", "").status, 200);
        cluster.spawn_replica(2);
        cluster.wait_ready_at(2);
        let listed = titles(&cluster, 0);
        assert_eq!(listed.len(), 39);
        assert_eq!(titles(&cluster, 2), listed, "{mode}: the joiner holds what the others hold");
        post(&cluster, 2, "after it came back");
        assert_eq!(titles(&cluster, 2), titles(&cluster, 1));
        wait_for("the joiner to name the controller", || {
            cluster.http(2, "GET", "/status", "").json()["controller"].is_string()
        });
    }
}

#[test]
fn a_wiped_replica_joins_as_a_new_one() {
    let mut cluster = processes("remote-write", 3, QUICK);
    post_many(&cluster, 10, 3, "kept");
    cluster.process(1).kill();
    let folder = cluster.folder.path().join("data").join(&cluster.replicas[1]);
    std::fs::remove_dir_all(&folder).expect("the replica's folder is removed");
    cluster.spawn_replica(1);
    cluster.wait_ready_at(1);
    assert_eq!(titles(&cluster, 1), titles(&cluster, 0));
}

#[test]
fn all_die_and_come_back_in_any_order_with_every_acknowledged_write() {
    for (mode, order) in [("remote-write", [0, 1, 2]), ("local-write", [2, 1, 0])] {
        let mut cluster = processes(mode, 3, QUICK);
        post_many(&cluster, 30, 3, "kept");
        let before = titles(&cluster, 0);
        (0..3).for_each(|number| cluster.process(number).kill());
        for place in order {
            cluster.spawn_replica(place);
        }
        cluster.wait_ready();
        for place in 0..3 {
            assert_eq!(titles(&cluster, place), before, "{mode}: replica {place}");
        }
        assert_eq!(post(&cluster, 1, "next"), 31, "ids go on without reuse");
    }
}

#[test]
fn a_hanging_replica_is_left_out_serves_nothing_stale_and_comes_back() {
    let mut cluster = processes("remote-write", 3, QUICK);
    let id = post(&cluster, 0, "old");
    cluster.process(0).signal("STOP");
    let path = format!("/note/{id}");
    let answer = cluster.http(1, "PUT", &path, r#"{"title":"new","body":""}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    // The stall itself is what is tested: ten seconds are longer than any lease, deadline or wait of a link.
    std::thread::sleep(Duration::from_secs(10));
    cluster.process(0).signal("CONT");
    // Whatever it answers from now on, it is not the old note.
    let service = cluster.service(0);
    wait_for("the replica to be back", || {
        let Ok(answer) = try_http(&service, "GET", &path, &[], "") else { return false };
        assert!(answer.status == 503 || answer.body.contains("new"), "a stale read: {answer:?}");
        answer.status == 200
    });
}

#[test]
fn without_a_majority_nothing_is_answered_and_nothing_lost() {
    let mut cluster = processes(
        "remote-write",
        3,
        r#","failure_timeout_ms":500,"log":"off","request_timeout_ms":700,"read_wait_ms":500"#,
    );
    let id = post(&cluster, 0, "kept");
    cluster.process(1).kill();
    cluster.process(2).kill();
    wait_for("the lease to run out", || cluster.http(0, "GET", &format!("/note/{id}"), "").status == 503);
    let answer = cluster.http(0, "POST", "/note", r#"{"title":"lost?","body":""}"#);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(cluster.http(0, "GET", "/ready", "").status, 503);
    cluster.spawn_replica(1);
    cluster.spawn_replica(2);
    cluster.wait_ready();
    assert!(titles(&cluster, 2).contains(&(id, "kept".to_owned())));
}

#[test]
fn a_stall_of_all_replicas_evicts_nobody() {
    let mut cluster = processes("local-write", 3, QUICK);
    post(&cluster, 0, "before");
    let epoch = |cluster: &Cluster| cluster.http(0, "GET", "/status", "").json()["view"]["epoch"].as_u64();
    let before = epoch(&cluster);
    (0..3).for_each(|number| cluster.process(number).signal("STOP"));
    // The stall itself is what is tested: five seconds are many failure timeouts.
    std::thread::sleep(Duration::from_secs(5));
    (0..3).for_each(|number| cluster.process(number).signal("CONT"));
    cluster.wait_ready();
    assert_eq!(epoch(&cluster), before, "no new view was needed");
    assert_eq!(post(&cluster, 1, "after"), 2);
}

#[test]
fn a_rolling_restart_under_load_loses_nothing_and_disturbs_nobody_elsewhere() {
    let mut cluster = processes("remote-write", 3, QUICK);
    for place in 0..3 {
        let mut leaving = cluster.take(place);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for other in (0..3).filter(|other| *other != place) {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        post(cluster, other, "rolling");
                    }
                });
            }
            leaving.signal("TERM");
            let start = Instant::now();
            assert_eq!(leaving.wait(), 0);
            println!("replica {place} left after {:?}", start.elapsed());
            stop.store(true, Ordering::Relaxed);
        });
        cluster.spawn_replica(place);
        cluster.wait_ready_at(place);
    }
    let listed = titles(&cluster, 0);
    assert_eq!(titles(&cluster, 1), listed);
    assert_eq!(titles(&cluster, 2), listed);
    let ids: Vec<u64> = listed.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>(), "no id was lost or given twice");
}

/// Writes of every kind with a key each: method, path, key, body.
const KEYED: [[&str; 4]; 4] = [
    ["POST", "/note", "post", r#"{"title":"once","body":""}"#],
    ["PUT", "/note/1", "put", r#"{"title":"one"}"#],
    ["PATCH", "/note/2", "patch", r#"{"title":"two"}"#],
    ["DELETE", "/note/3", "delete", ""],
];

/// Makes each of [`KEYED`] at a replica; statuses, ETags and bodies.
fn keyed(cluster: &Cluster, place: usize) -> Vec<(u16, Option<String>, String)> {
    let ask = |[method, path, key, body]: &[&str; 4]| {
        let answer = cluster.http_with(place, method, path, &[("Idempotency-Key", key)], body);
        (answer.status, answer.field("ETag").map(str::to_owned), answer.body)
    };
    KEYED.iter().map(ask).collect()
}

/// Each key with another request: with another body, at another note, with a condition, by another verb.
fn other_requests_are_refused(cluster: &Cluster, place: usize) {
    let others = [
        ["POST", "/note", "post", r#"{"title":"other","body":""}"#],
        ["POST", "/note", "put", r#"{"title":"once","body":""}"#],
        ["PUT", "/note/2", "put", r#"{"title":"one"}"#],
        ["PUT", "/note/2", "patch", r#"{"title":"two"}"#],
        ["PUT", "/note/3", "delete", r#"{"title":"gone"}"#],
    ];
    for [method, path, key, body] in others {
        let answer = cluster.http_with(place, method, path, &[("Idempotency-Key", key)], body);
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status, code), (422, "key_reused".into()), "{method} {path} {key}: {answer:?}");
    }
    let conditional = [("Idempotency-Key", "put"), ("If-Match", "\"1-1\"")];
    let answer = cluster.http_with(place, "PUT", "/note/1", &conditional, KEYED[1][3]);
    assert_eq!(answer.status, 422, "a condition makes another request of it: {answer:?}");
}

#[test]
fn keys_of_all_writes_survive_failover_restart_and_join_also_where_the_note_is_gone() {
    for mode in MODES {
        let mut cluster = processes(mode, 3, QUICK);
        post_many(&cluster, 3, 3, "first");
        let first = keyed(&cluster, 1);
        assert_eq!(first.iter().map(|(status, ..)| *status).collect::<Vec<_>>(), [201, 200, 200, 200], "{first:?}");
        assert_eq!(cluster.http(0, "PUT", "/note/1", r#"{"title":"later"}"#).status, 200);
        let check = |cluster: &Cluster, place: usize, when: &str| {
            assert_eq!(keyed(cluster, place), first, "{mode}: at {place} {when}");
            other_requests_are_refused(cluster, place);
            let listed = ["later", "two", "once"].map(str::to_owned);
            let held: Vec<String> = titles(cluster, place).into_iter().map(|(_, title)| title).collect();
            assert_eq!(held, listed, "{mode}: at {place} {when}, nothing was done again");
        };
        (0..3).for_each(|place| check(&cluster, place, "at once"));
        cluster.process(0).kill();
        check(&cluster, 2, "after a failover");
        // As a new one it takes everything from the others.
        let folder = cluster.folder.path().join("data").join(&cluster.replicas[0]);
        std::fs::remove_dir_all(folder).expect("the replica's folder is removed");
        cluster.spawn_replica(0);
        cluster.wait_ready_at(0);
        check(&cluster, 0, "after a join");
        [1, 2, 3].into_iter().for_each(|number| cluster.process(number).kill());
        for place in 0..3 {
            cluster.spawn_replica(place);
        }
        cluster.wait_ready();
        (0..3).for_each(|place| check(&cluster, place, "after a restart of all"));
    }
}

#[test]
fn the_controller_stops_and_nobody_else_notices() {
    let mut cluster = processes("remote-write", 3, QUICK);
    let id = post(&cluster, 1, "read all the time");
    let controller = cluster.http(1, "GET", "/status", "").json()["controller"].clone();
    assert_eq!(controller, cluster.replicas[0].as_str(), "the first in config order leads");
    let (stop, mut leaving, path) = (AtomicBool::new(false), cluster.take(0), format!("/note/{id}"));
    std::thread::scope(|scope| {
        for other in [1, 2] {
            let (cluster, stop, path) = (&cluster, &stop, &path);
            scope.spawn(move || {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    assert_eq!(cluster.http(other, "GET", path, "").status, 200);
                    longest = longest.max(start.elapsed());
                    post(cluster, other, "meanwhile");
                }
                println!("the longest read at {other}: {longest:?}");
            });
        }
        leaving.signal("TERM");
        assert_eq!(leaving.wait(), 0);
        wait_for("another controller", || {
            [1, 2].iter().all(|place| {
                let status = cluster.http(*place, "GET", "/status", "").json();
                status["controller"].is_string() && status["controller"] != controller && status["ready"] == true
            })
        });
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_key_makes_a_retry_safe_across_replicas_and_failover() {
    for mode in MODES {
        let mut cluster = processes(mode, 3, QUICK);
        let key = [("Idempotency-Key", "order-1")];
        let body = r#"{"title":"once","body":""}"#;
        let first = cluster.http_with(0, "POST", "/note", &key, body);
        assert_eq!(first.status, 201);
        let again = cluster.http_with(1, "POST", "/note", &key, body);
        assert_eq!((again.status, again.body.clone()), (201, first.body.clone()));
        cluster.process(0).kill();
        let after = cluster.http_with(2, "POST", "/note", &key, body);
        assert_eq!((after.status, after.body), (201, first.body.clone()), "{mode}: after a failover");
        let other = cluster.http_with(1, "POST", "/note", &key, r#"{"title":"another","body":""}"#);
        assert_eq!(other.status, 422, "{other:?}");
        cluster.spawn_replica(0);
        cluster.wait_ready_at(0);
        let joined = cluster.http_with(0, "POST", "/note", &key, body);
        assert_eq!((joined.status, joined.body), (201, first.body), "{mode}: at a replica that joined");
        assert_eq!(titles(&cluster, 0).len(), 1);
    }
}
