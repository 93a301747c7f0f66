//! The ancestor's session, through every replica, in both modes: what clients are answered, what the log shows, and that
//! all replicas hold the same notes.

mod cluster;

use cluster::{Cluster, wait_for};

const MODES: [&str; 2] = ["remote-write", "local-write"];
const MEMORY: &str = r#","durability":"memory""#;

/// POST, GET one, GET all, PATCH, PUT that drops the body, DELETE, GET all, through one service port.
fn session(cluster: &Cluster, place: usize, id: u64) {
    let http = |method: &str, path: &str, body: &str| cluster.http(place, method, path, body);
    let note = format!("/note/{id}");

    let answer = http("POST", "/note", r#"{"title":"Hello World","body":"this is new note"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (201, format!("{{\"res\":200,\"id\":{id}}}\n").as_str()));
    assert_eq!(answer.field("Location"), Some(note.as_str()));
    let answer = http("GET", &note, "");
    let expected =
        format!("{{\"res\":200,\"note\":{{\"id\":{id},\"title\":\"Hello World\",\"body\":\"this is new note\"}}}}\n");
    assert_eq!((answer.status, answer.body), (200, expected));
    everywhere(cluster, &format!(r#"[{{"id":{id},"title":"Hello World","body":"this is new note"}}]"#));

    let answer = http("PATCH", &note, r#"{"title":"Hello"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"res\":200}\n"));
    everywhere(cluster, &format!(r#"[{{"id":{id},"title":"Hello","body":"this is new note"}}]"#));
    let answer = http("PUT", &note, r#"{"title":"Only a title"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"res\":200}\n"));
    everywhere(cluster, &format!(r#"[{{"id":{id},"title":"Only a title"}}]"#));
    let answer = http("DELETE", &note, "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"res\":200}\n"));
    everywhere(cluster, "[]");
    assert_eq!(http("GET", &note, "").status, 404);
    assert_eq!(http("PUT", &note, r#"{"title":"late"}"#).status, 404);
}

/// Every replica lists these notes, at once: a write that was answered anywhere is read everywhere.
fn everywhere(cluster: &Cluster, notes: &str) {
    for place in 0..cluster.replicas.len() {
        let answer = cluster.http(place, "GET", "/note", "");
        assert_eq!((answer.status, answer.body), (200, format!("{{\"res\":200,\"data\":{notes}}}\n")), "at {place}");
    }
}

#[test]
fn the_session_works_through_every_service_port_in_both_modes() {
    for mode in MODES {
        let cluster = Cluster::start(mode, 4, MEMORY);
        for place in 0..4 {
            session(&cluster, place, place as u64 + 1);
        }
    }
}

/// The lines of the log about the steps between replicas, since `from`: their words, and who told whom.
fn steps(lines: &[String]) -> Vec<String> {
    let steps = lines.iter().filter(|line| line.contains("] REPLICA ["));
    steps.map(|line| line.split_once("REPLICA ").expect("it has been found").1.to_owned()).collect()
}

#[test]
fn the_log_shows_what_each_write_costs() {
    for mode in MODES {
        let mut cluster = Cluster::start(mode, 4, MEMORY);
        let post = r#"{"title":"a","body":"b"}"#;
        for (place, method, path, forwards, moves) in [
            (0, "POST", "/note", 0, 0),
            (0, "PUT", "/note/1", 0, 0),
            (2, "PUT", "/note/1", 1, 1),
            (2, "PUT", "/note/1", 1, 0),
            (3, "POST", "/note", 1, 1),
            (3, "PATCH", "/note/2", 1, 0),
        ] {
            let before = cluster.process(0).out().len();
            let answer = cluster.http(place, method, path, post);
            assert!(answer.status < 300, "{answer:?}");
            let reply = format!("CLIENT [REPLY] [{method}] {path} [");
            wait_for("the log to show the reply", || {
                cluster.process(0).out()[before..].iter().any(|l| l.contains(&reply))
            });
            // The log is written by a thread of its own: what was asked to know the cluster ready may come late.
            let mut lines = cluster.process(0).out().split_off(before);
            lines.retain(|line| !line.contains("[GET] /ready"));
            let count = |what: &str| steps(&lines).iter().filter(|step| step.starts_with(what)).count();
            let (forwards, moves) = if mode == "remote-write" { (forwards, 0) } else { (0, moves) };
            let what = format!("{mode}: {method} {path} at {place}: {lines:#?}");
            assert_eq!(count("[REQUEST] Forward request to primary"), forwards, "{what}");
            assert_eq!(count("[REPLY] Forward request to primary"), forwards, "{what}");
            assert_eq!(count("[REQUEST] Move item to new primary"), moves, "{what}");
            assert_eq!(count("[REPLY] Move item to new primary"), moves, "{what}");
            assert_eq!(count("[REQUEST] Tell backups to update"), 3, "{what}");
            assert_eq!(count("[REPLY] Tell backups to update"), 3, "{what}");
            assert!(lines[0].contains(&format!("CLIENT [REQUEST] [{method}] {path} [{post}]")), "{what}");
        }
    }
}

#[test]
fn four_processes_make_the_same_cluster_in_any_order() {
    let mut cluster = Cluster::configure("local-write", 4, MEMORY);
    for place in [2, 0, 3, 1] {
        cluster.spawn_replica(place);
    }
    // A write that arrives before all are there waits for them.
    let service = cluster.service(2);
    let mut answer = None;
    wait_for("the service port to be bound", || {
        answer = cluster::try_http(&service, "POST", "/note", &[], r#"{"title":"early","body":""}"#).ok();
        answer.is_some()
    });
    assert_eq!(answer.map(|answer| answer.status), Some(201));
    cluster.wait_ready();
    session_of_two(&cluster);
    for number in 0..4 {
        cluster.process(number).signal("TERM");
        assert_eq!(cluster.process(number).wait(), 0, "{}", cluster.printed());
    }
}

fn session_of_two(cluster: &Cluster) {
    assert_eq!(cluster.http(3, "PUT", "/note/1", r#"{"title":"moved"}"#).status, 200);
    everywhere(cluster, r#"[{"id":1,"title":"moved"}]"#);
}

#[test]
fn an_interrupt_stops_the_cluster_cleanly() {
    let mut cluster = Cluster::start("remote-write", 4, MEMORY);
    cluster.http(1, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    cluster.process(0).signal("INT");
    assert_eq!(cluster.process(0).wait(), 0, "{}", cluster.printed());
}
