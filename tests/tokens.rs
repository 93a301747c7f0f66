//! Tokens of clients: over frames, lines and HTTP, by the client library and the commands.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use cluster::{Cluster, PATIENCE, Process, try_http, wait_for};
use primacy::client::{Client, Options};
use primacy::note::Note;
use primacy::protocol::request::Code;

const OLD: &str = "0123456789abcdef0123";
const NEW: &str = "fedcba9876543210fedc";
const NOTE: &str = r#"{"title":"a","body":"b"}"#;

/// A cluster with two tokens, as while one is exchanged for the other.
fn start(more: &str) -> Cluster {
    let config = format!(r#","durability":"memory","token_file":"tokens"{more}"#);
    let mut cluster = Cluster::configure("remote-write", 2, &config);
    write_tokens(&cluster, "tokens", &format!("{NEW}\n{OLD}\n"));
    cluster.spawn(&[]);
    wait_for("the service to be ready", || {
        (0..2).all(|place| with_token(&cluster, place, "GET", "/ready", NEW).is_ok_and(|answer| answer.status == 200))
    });
    cluster
}

fn write_tokens(cluster: &Cluster, name: &str, text: &str) {
    let path = cluster.folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn with_token(
    cluster: &Cluster,
    place: usize,
    method: &str,
    path: &str,
    token: &str,
) -> std::io::Result<cluster::Answer> {
    let field = format!("Bearer {token}");
    let body = if method == "POST" { NOTE } else { "" };
    try_http(&cluster.service(place), method, path, &[("Authorization", &field)], body)
}

#[test]
fn http_asks_for_a_token_everywhere_but_for_health() {
    let cluster = start("");
    for token in [OLD, NEW] {
        assert_eq!(with_token(&cluster, 0, "POST", "/note", token).unwrap().status, 201, "either token does");
    }
    for (method, path) in [
        ("GET", "/note"),
        ("GET", "/note/1"),
        ("POST", "/note"),
        ("DELETE", "/note/1"),
        ("GET", "/status"),
        ("GET", "/ready"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/note"),
    ] {
        let body = if method == "POST" { NOTE } else { "" };
        for field in [None, Some("Bearer 0123456789abcdef0124"), Some("Bearer "), Some("Basic 0123456789abcdef0123")] {
            let fields: Vec<(&str, &str)> = field.iter().map(|value| ("Authorization", *value)).collect();
            let answer = try_http(&cluster.service(1), method, path, &fields, body).unwrap();
            assert_eq!(answer.status, 401, "{method} {path} {field:?}");
            assert_eq!(answer.field("WWW-Authenticate"), Some("Bearer realm=\"primacy\""));
            assert_eq!(answer.json()["code"], "unauthorized", "{method} {path}");
        }
    }
    let twice = [("Authorization", "Bearer 0123456789abcdef0123"); 2];
    assert_eq!(try_http(&cluster.service(0), "GET", "/note", &twice, "").unwrap().status, 400);
    let small = [("authorization", "bearer 0123456789abcdef0123")];
    assert_eq!(try_http(&cluster.service(0), "GET", "/note", &small, "").unwrap().status, 200, "schemes have no case");
    assert_eq!(cluster.http(0, "GET", "/health", "").status, 200);
    let notes = with_token(&cluster, 1, "GET", "/note", OLD).unwrap().json();
    assert_eq!(notes["data"].as_array().unwrap().len(), 2, "nothing was written or removed without a token");
    assert!(!cluster.printed().contains(OLD), "tokens are never shown");
}

/// Sends lines and reads what is answered, to the end.
fn lines(cluster: &Cluster, text: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(&cluster.replicas[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok).collect()
}

#[test]
fn frames_and_lines_are_answered_behind_a_token() {
    let cluster = start(r#","limits":{"prove_ms":300}"#);
    let auth = |token: &str| format!("{{\"type\":\"auth\",\"seq\":1,\"token\":\"{token}\"}}\n");
    let ping = "{\"type\":\"ping\",\"seq\":2}\n";
    let answers = lines(&cluster, &(ping.to_owned() + &auth(OLD) + ping));
    assert!(answers[0].contains("\"re\":2,\"res\":401,\"code\":\"unauthorized\""), "{answers:?}");
    assert_eq!(answers[1], "{\"type\":\"authorized\",\"re\":1,\"res\":200}");
    assert!(answers[2].starts_with("{\"type\":\"pong\",\"re\":2"), "{answers:?}");
    let answers = lines(&cluster, &(auth("0123456789abcdef0124") + &auth(OLD) + ping));
    assert_eq!(answers.len(), 1, "after a wrong token it is closed: {answers:?}");

    // A long request is not read from who has shown no token.
    let mut long = TcpStream::connect(&cluster.replicas[0]).unwrap();
    long.set_read_timeout(Some(PATIENCE)).unwrap();
    long.write_all(&[0, 1, 0, 0, b'{']).unwrap();
    let mut said = Vec::new();
    long.read_to_end(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("\"code\":\"too_large\""), "{said:?}");

    // And who shows none in time is closed, however much it says.
    let mut silent = TcpStream::connect(&cluster.replicas[0]).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent.write_all(ping.as_bytes()).unwrap();
    let mut said = String::new();
    silent.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("\"code\":\"unauthorized\"").count(), 2, "{said}");
}

#[tokio::test]
async fn the_client_library_shows_its_token_on_each_connection() {
    let cluster = start("");
    let mut options = Options::new(&cluster.replicas).unwrap();
    let note = || Note::new(Some("a"), Some("b")).unwrap();
    options.token = Some(NEW.into());
    let client = Client::with(&options);
    let done = client.post(note()).await.unwrap();
    assert_eq!(client.get(done.id).await.unwrap().note, note());
    for token in [None, Some("0123456789abcdef0124".into())] {
        options.token = token;
        let error = Client::with(&options).post(note()).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unauthorized), "{error}");
    }
    assert_eq!(client.list(primacy::note::NoteId(0), 10).await.unwrap().notes.len(), 1);
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(arguments).current_dir(cluster.folder.path()).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn status_and_call_show_the_token_of_a_file() {
    let cluster = start("");
    let status = run(&cluster, &["status", "--json"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && said.matches("\"ready\":true").count() == 2, "{said}");
    let ping = ["call", &cluster.replicas[0], "{\"type\":\"ping\"}"];
    let refused = run(&cluster, &ping);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("unauthorized"), "{refused:?}");
    let called = run(&cluster, &[&ping[..], &["--token-file", "tokens", "--hex"]].concat());
    let said = String::from_utf8_lossy(&called.stdout).into_owned();
    assert!(called.status.success() && said.contains("\"type\":\"pong\""), "{called:?}");
    assert!(!said.contains("auth"), "the token and its reply are not shown: {said}");
    let monitor = ["monitor", &cluster.replicas[0]];
    let refused = run(&cluster, &monitor);
    assert!(!refused.status.success(), "a monitor without a token ends: {refused:?}");
    let arguments = [&monitor[..], &["--token-file", "tokens"]].concat();
    let mut watching = Process::spawn(cluster.folder.path(), &arguments);
    wait_for("the monitor to show a request", || {
        with_token(&cluster, 0, "GET", "/note", OLD).unwrap();
        watching.out().iter().any(|event| event.contains("client_request"))
    });
    watching.signal("INT");
    assert_eq!(watching.wait(), 0);
    write_tokens(&cluster, "wrong", "0123456789abcdef0124\n");
    let called = run(&cluster, &[&ping[..], &["--token-file", "wrong"]].concat());
    let said = String::from_utf8_lossy(&called.stderr).into_owned();
    assert!(!called.status.success() && said.contains("does not take the token"), "{said}");
}
