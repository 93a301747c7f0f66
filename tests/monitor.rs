//! Monitors of live replicas: what they show, whom they let see what, and what bounds them.

mod cluster;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use cluster::{Cluster, PATIENCE, Process, wait_for};
use serde_json::{Value, json};

const QUIET: &str = r#","durability":"memory","log":"off""#;

/// A connection that speaks lines.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn open(address: &str) -> Lines {
        let stream = TcpStream::connect(address).expect("the replica listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Lines(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the line is sent");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line comes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Begins a monitor.
    fn watch(address: &str, filter: &str) -> Lines {
        let mut lines = Lines::open(address);
        lines.say(&format!(r#"{{"type":"monitor","seq":9{filter}}}"#));
        assert_eq!(lines.hear(), json!({"type":"monitoring","re":9,"res":200,"replica":address}));
        lines
    }

    /// Events up to the first that `is_last`, without what differs from run to run.
    fn events_until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let mut event = self.hear();
            assert_eq!((&event["type"], &event["re"]), (&json!("event"), &json!(9)));
            let time = event["time"].as_str().expect("each has its time").to_owned();
            assert!(time.starts_with("20") && time.len() == "2026-11-27T00:05:00.123+00:00".len(), "{time}");
            let last = is_last(&event);
            let members = event.as_object_mut().expect("an event is an object");
            for differs in ["type", "re", "time", "ms", "link", "frame"] {
                members.remove(differs);
            }
            events.push(event);
            if last {
                return events;
            }
        }
    }
}

fn is_reply(event: &Value) -> bool {
    event["event"] == "client_reply"
}

#[test]
fn a_write_at_a_backup_is_seen_step_by_step_though_the_log_is_off() {
    let cluster = Cluster::start("remote-write", 3, QUIET);
    let [primary, backup] = [&cluster.replicas[0], &cluster.replicas[1]];
    cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    let mut watched = Lines::watch(backup, "");
    cluster.http(1, "PUT", "/note/1", r#"{"title":"c"}"#);
    let step = |event, step, from, to| json!({"event":event,"step":step,"from":from,"to":to,"at":backup,"note":1});
    assert_eq!(
        watched.events_until(is_reply),
        [
            json!({"event":"client_request","method":"PUT","path":"/note/1","body":"{\"title\":\"c\"}","at":backup,"note":1}),
            step("replica_request", "forward", backup, primary),
            step("replica_reply", "forward", primary, backup),
            json!({"event":"client_reply","method":"PUT","path":"/note/1","body":"{\"res\":200}","at":backup,"note":1}),
        ]
    );
    // By frames it is the same, and the connection goes on answering.
    watched.say(r#"{"type":"get","seq":1,"id":1}"#);
    let request = watched.hear();
    assert_eq!(
        (&request["event"], &request["path"], &request["note"]),
        (&json!("client_request"), &json!("/note/1"), &json!(1))
    );
    let (mut replies, mut events) = (0, 0);
    for _ in 0..2 {
        match watched.hear()["type"].as_str() {
            Some("note") => replies += 1,
            Some("event") => events += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((replies, events), (1, 1));
    assert!(cluster.printed().lines().all(|line| !line.contains("CLIENT")), "the log is off");
}

#[test]
fn a_move_and_a_post_are_seen_with_their_note() {
    let cluster = Cluster::start("local-write", 3, QUIET);
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let mut watched = Lines::watch(first, "");
    cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    let posted = watched.events_until(is_reply);
    assert_eq!(posted[0].get("note"), None, "its id is not known yet");
    assert!(posted[1..].iter().all(|event| event["note"] == 1), "{posted:#?}");
    let mut watched = Lines::watch(second, "");
    cluster.http(1, "PATCH", "/note/1", r#"{"title":"c"}"#);
    let steps: Vec<_> = watched.events_until(is_reply).iter().map(|event| event["step"].clone()).collect();
    assert_eq!(steps.iter().filter(|step| *step == "move").count(), 2, "{steps:?}");
    assert_eq!(steps.iter().filter(|step| *step == "tell").count(), 4, "{steps:?}");
}

#[test]
fn filters_leave_only_what_passes() {
    let cluster = Cluster::start("remote-write", 3, QUIET);
    let [primary, _, third] = [0, 1, 2].map(|place| cluster.replicas[place].clone());
    for _ in 0..2 {
        cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    }
    let mut of_note = Lines::watch(&primary, r#","id":2"#);
    let mut with_third = Lines::watch(&primary, &format!(r#","replica":"{third}""#));
    cluster.http(0, "PUT", "/note/1", r#"{"title":"c"}"#);
    cluster.http(0, "DELETE", "/note/2", "");
    let events = of_note.events_until(is_reply);
    assert!(events.iter().all(|event| event["note"] == 2), "{events:#?}");
    assert_eq!(events.len(), 6, "request, two told, two acknowledged, reply: {events:#?}");
    let told = |event: &Value| event["event"] == "replica_reply" && event["note"] == 2;
    let events = with_third.events_until(told);
    assert_eq!(events.len(), 4, "{events:#?}");
    assert!(events.iter().all(|event| event["to"] == json!(third) || event["from"] == json!(third)), "{events:#?}");
}

#[test]
fn what_is_wrong_with_a_monitor_is_said() {
    let cluster = Cluster::start("remote-write", 3, QUIET);
    let mut lines = Lines::open(&cluster.replicas[0]);
    lines.say(r#"{"type":"monitor","seq":1,"replica":"nobody:1"}"#);
    let refused = lines.hear();
    assert_eq!((&refused["code"], &refused["re"]), (&json!("bad_request"), &json!(1)));
    assert!(refused["msg"].as_str().expect("it says why").contains(&cluster.replicas[2]), "{refused}");
    lines.say(r#"{"type":"monitor","seq":2}"#);
    assert_eq!(lines.hear()["type"], "monitoring");
    lines.say(r#"{"type":"monitor","seq":3}"#);
    assert_eq!(lines.hear()["code"], "bad_request", "one on a connection");
    // The client has said everything, so the monitor ends with it.
    lines.0.get_mut().shutdown(std::net::Shutdown::Write).expect("it can be shut");
    let mut rest = String::new();
    lines.0.read_to_string(&mut rest).expect("the end comes");
    assert_eq!(rest, "");
}

#[test]
fn there_are_at_most_eight_and_who_leaves_makes_room() {
    let cluster = Cluster::start("remote-write", 3, QUIET);
    let mut monitors: Vec<_> = (0..8).map(|_| Lines::watch(&cluster.replicas[0], "")).collect();
    let mut refused = Lines::open(&cluster.replicas[0]);
    refused.say(r#"{"type":"monitor"}"#);
    assert_eq!(refused.hear()["code"], "unavailable");
    Lines::watch(&cluster.replicas[1], "");
    monitors.pop();
    wait_for("room for another", || {
        refused.say(r#"{"type":"monitor"}"#);
        refused.hear()["type"] == "monitoring"
    });
}

#[test]
fn who_reads_too_slowly_is_told_how_much_is_missing() {
    const GETS: usize = 8_000;
    let cluster = Cluster::start("remote-write", 3, QUIET);
    let body = "x".repeat(3000);
    cluster.http(0, "POST", "/note", &format!(r#"{{"title":"a","body":"{body}"}}"#));
    let mut slow = Lines::watch(&cluster.replicas[0], "");
    // Far more than the sockets between them hold.
    let asking = TcpStream::connect(&cluster.replicas[0]).expect("the replica listens");
    asking.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let mut asked = asking.try_clone().expect("a socket can be cloned");
    let asks = std::thread::spawn(move || {
        let line = "{\"type\":\"get\",\"id\":1}\n".repeat(100);
        (0..GETS / 100).for_each(|_| asked.write_all(line.as_bytes()).expect("it is read"));
    });
    let mut replies = BufReader::new(asking).lines();
    for _ in 0..GETS {
        replies.next().expect("a reply").expect("it is text");
    }
    asks.join().expect("no panic");
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < 2 * GETS as u64 {
        let event = slow.hear();
        match event["event"].as_str() {
            Some("lost") => lost += event["events"].as_u64().expect("it is counted"),
            _ => seen += 1,
        }
    }
    assert_eq!(seen + lost, 2 * GETS as u64, "each event was seen, or counted");
    assert!(lost > 0, "nothing was lost, so that this shows nothing");
}

#[test]
fn the_command_prints_events_until_it_is_interrupted() {
    let cluster = Cluster::start("remote-write", 3, QUIET);
    cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    let arguments = ["monitor", &cluster.replicas[1], "--note", "1", "--replica", &cluster.replicas[0]];
    let mut command = Process::spawn(cluster.folder.path(), &arguments);
    wait_for("the monitor to print", || {
        cluster.http(1, "PUT", "/note/1", r#"{"title":"c"}"#);
        command.out().len() >= 2
    });
    command.signal("INT");
    assert_eq!(command.wait(), 0, "{:?}", command.err());
    for line in command.read_out() {
        assert!(line.starts_with(r#"{"time":"20"#), "{line}");
        let event: Value = serde_json::from_str(&line).expect("a line is JSON");
        assert_eq!((&event["step"], &event["note"]), (&json!("forward"), &json!(1)), "{line}");
    }
    let mut stranger =
        Process::spawn(cluster.folder.path(), &["monitor", &cluster.replicas[0], "--replica", "nobody:1"]);
    assert_eq!(stranger.wait(), 1);
    wait_for("the reason", || stranger.err().concat().contains("there is no replica `nobody:1`"));
}

#[test]
fn a_call_of_a_monitor_goes_on_until_the_replica_ends() {
    let mut cluster = Cluster::start("remote-write", 3, QUIET);
    let mut call = Command::new(env!("CARGO_BIN_EXE_primacy"))
        .args(["call", &cluster.replicas[0], r#"{"type":"monitor"}"#])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines =
        BufReader::new(call.stdout.take().expect("it is piped")).lines().map(|line| line.expect("it is text"));
    assert!(lines.next().expect("a reply").starts_with(r#"{"type":"monitoring","res":200,"#));
    cluster.http(0, "POST", "/note", r#"{"title":"a","body":"b"}"#);
    assert!(lines.next().expect("an event").starts_with(r#"{"type":"event","time":"20"#));
    cluster.process(0).kill();
    assert_eq!(call.wait().expect("it ends").code(), Some(1));
}
