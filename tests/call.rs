//! `primacy call` at a live cluster: what it sends, prints and returns.

mod cluster;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use cluster::Cluster;

const MEMORY: &str = r#","durability":"memory""#;
const PONG: &str = r#"{"type":"pong","re":7,"replica":"#;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.arg("call").args(arguments).stdin(Stdio::null());
    command
}

fn call(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary starts")
}

fn out(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_frame_gets_its_reply_and_the_exit_code_tells_what_it_was() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let at = cluster.replicas[1].as_str();
    let posted = call(&[at, r#"{"type":"post","seq":1,"note":{"title":"ä","body":"b"}}"#]);
    assert_eq!(out(&posted), [r#"{"type":"done","re":1,"res":200,"id":1,"version":[1,1]}"#], "{}", err(&posted));
    assert_eq!(posted.status.code(), Some(0));
    let got = call(&[at, r#"{"type":"get","id":7}"#]);
    assert_eq!(out(&got), [r#"{"type":"error","res":404,"code":"not_found","msg":"there is no note 7"}"#]);
    assert_eq!((got.status.code(), err(&got).as_str()), (Some(1), "primacy: 1 of 1 replies were errors\n"));
    let nonsense = call(&[at, "nonsense"]);
    assert!(out(&nonsense)[0].contains(r#""code":"bad_json""#), "what is wrong is sent too: {:?}", out(&nonsense));
}

#[test]
fn lines_of_stdin_are_sent_as_they_come_and_answered_as_they_are_done() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let mut child = command(&[&cluster.replicas[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    // The reply comes while stdin stays open.
    writeln!(stdin, r#"{{"type":"ping","seq":7}}"#).expect("it is read");
    let reply = lines.next().expect("a reply").expect("it is text");
    assert!(reply.starts_with(PONG), "{reply}");
    for id in 1..=500 {
        writeln!(stdin, r#"{{"type":"post","seq":{id},"note":{{"title":"{id}","body":""}}}}"#).expect("it is read");
    }
    writeln!(stdin).expect("an empty line is passed over");
    drop(stdin);
    let replies: Vec<_> = lines.map(|line| line.expect("it is text")).collect();
    assert_eq!(replies.len(), 500);
    assert!(replies.iter().all(|reply| reply.starts_with(r#"{"type":"done","re":"#)), "{replies:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_bytes_are_shown_both_ways() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let output = call(&[&cluster.replicas[0], "--hex", r#"{"type":"ping","seq":7}"#]);
    let lines = out(&output);
    // The first vector of protocol.md.
    assert_eq!(lines[0], "-> 00 00 00 17 7b 22 74 79 70 65 22 3a 22 70 69 6e 67 22 2c 22 73 65 71 22 3a 37 7d");
    let json = lines.last().expect("the reply is last");
    assert!(json.starts_with(PONG), "{json}");
    let bytes: Vec<u8> = lines[1..lines.len() - 1]
        .iter()
        .flat_map(|line| line.trim_start_matches("<-").split_whitespace())
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex digits in pairs"))
        .collect();
    let length = u32::try_from(json.len()).expect("it is short").to_be_bytes();
    assert_eq!(bytes, [&length, json.as_bytes()].concat());
}

#[test]
fn a_count_prints_how_long_the_replies_took() {
    let cluster = Cluster::start("local-write", 3, MEMORY);
    let pings = call(&[&cluster.replicas[0], "--count", "200"]);
    let line = out(&pings).concat();
    assert!(line.starts_with("200 replies in "), "{line}{}", err(&pings));
    for word in [", 0 errors; ms: min ", "p50 ", "p90 ", "p99 ", "p99.9 ", "max "] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!line.contains("max 0.000"), "{line}");
    let gets = call(&[&cluster.replicas[0], r#"{"type":"get","id":1}"#, "--count", "3"]);
    assert!(out(&gets).concat().contains(", 3 errors; "));
    assert_eq!((gets.status.code(), err(&gets).as_str()), (Some(1), "primacy: 3 of 3 replies were errors\n"));
}

#[test]
fn what_goes_wrong_is_told_with_what_to_do() {
    let cluster = Cluster::start("remote-write", 3, MEMORY);
    let ping = r#"{"type":"ping"}"#;
    let service = cluster.service(0);
    let http = call(&[&service, ping]);
    assert_eq!(http.status.code(), Some(1));
    assert!(err(&http).contains("write a replica's address, not the port of its HTTP service"), "{}", err(&http));
    let away = call(&[&format!("{}:1", cluster.host), ping]);
    assert_eq!(away.status.code(), Some(1));
    assert!(err(&away).contains("can't be reached: Connection refused"), "{}", err(&away));
    for (wrong, says) in [
        (&["127.0.0.1", ping][..], "has no port; write HOST:PORT"),
        (&[&cluster.replicas[0], ""], "a frame is 1 to 8388608 bytes"),
        (&[&cluster.replicas[0], "--count", "0"], "0 is not in"),
    ] {
        let output = call(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(err(&output).contains(says), "{}", err(&output));
    }
}

#[test]
fn nobody_is_waited_for_longer_than_allowed() {
    // It listens and never accepts: the system completes the connection, and nothing is read.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound").to_string();
    for more in [&[][..], &["--count", "2"]] {
        let output = call(&[&[address.as_str(), r#"{"type":"ping"}"#, "--timeout", "50"], more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("within 50 ms; the request may still be done"), "{}", err(&output));
    }
}
