//! TLS at both ports and on the links: whole clusters with it, and who comes with the wrong kind, or none.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

#[path = "support/certificates.rs"]
mod certificates;
mod cluster;
mod skip;
#[path = "support/tls_client.rs"]
mod tls_client;
#[path = "support/tls_relay.rs"]
mod tls_relay;

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use certificates::Issuer;
use cluster::{Cluster, PATIENCE, Process, try_http, wait_for};
use primacy::client::{Cause, Client, Effect, Options};
use primacy::config::Authority;
use primacy::note::{Note, NoteId};
use skip::skip;
use tls_client::{dial, dial_in, https, trusting};
use tls_relay::relay;
use tokio_rustls::rustls::version;

const TLS: &str = r#","durability":"memory","tls":{"cert":"replica.pem","key":"replica.key","ca":"ca.pem"}"#;
const SECRET: &str = "5f0c1c9e8a7b6d5e4f3a2b1c0d9e8f70";
const README: &str = include_str!("../README.md");
const NOTE: &str = r#"{"title":"a","body":"b"}"#;

/// A configuration with TLS, and the files that it names; nothing runs.
fn configure(sync: &str, replicas: usize, more: &str) -> Cluster {
    let cluster = Cluster::configure(sync, replicas, &format!("{TLS}{more}"));
    let folder = cluster.folder.path();
    Issuer::new(folder, "ca").sign(folder, "replica", &[&cluster.host]);
    cluster
}

fn start(sync: &str, replicas: usize, more: &str) -> Cluster {
    let mut cluster = configure(sync, replicas, more);
    cluster.spawn(&[]);
    wait_ready(&cluster, 0..replicas);
    cluster
}

fn wait_ready(cluster: &Cluster, places: impl IntoIterator<Item = usize>) {
    for place in places {
        wait_for(&format!("replica {place} to be ready\n{}", cluster.printed()), || {
            https(cluster, place, "GET", "/ready", "").is_ok_and(|answer| answer.status == 200)
        });
    }
}

/// Every one of these replicas takes a write.
#[track_caller]
fn assert_serves(cluster: &Cluster, places: impl IntoIterator<Item = usize>, what: &str) {
    for place in places {
        wait_for(&format!("replica {place} to write after {what}\n{}", cluster.printed()), || {
            https(cluster, place, "POST", "/note", NOTE).is_ok_and(|answer| answer.status == 201)
        });
    }
}

#[test]
fn every_replica_serves_https_in_both_modes() {
    for sync in ["remote-write", "local-write"] {
        let cluster = start(sync, 3, "");
        for place in 0..3 {
            let made = https(&cluster, place, "POST", "/note", NOTE).unwrap();
            assert_eq!(made.status, 201, "{sync}");
            let path = made.field("Location").unwrap().to_owned();
            // Written at another one, which asks who has it; read at the third.
            assert_eq!(https(&cluster, (place + 1) % 3, "PATCH", &path, r#"{"body":"c"}"#).unwrap().status, 200);
            let read = https(&cluster, (place + 2) % 3, "GET", &path, "").unwrap();
            assert_eq!(read.json()["note"]["body"], "c", "{sync}");
        }
        let out = cluster.printed();
        let curl = format!("  curl --cacert ca.pem https://{}/note", cluster.service(0));
        assert!(out.contains(&curl), "the banner shows how to ask: {out}");
    }
}

#[test]
fn curl_is_served_and_keeps_its_connection() {
    let cluster = start("remote-write", 2, "");
    let url = format!("https://{}/note", cluster.service(1));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--cacert", "ca.pem", "-d", NOTE, &url, "--next", "-sS", "-i", "--cacert", "ca.pem", &url]);
    let Ok(output) = curl.current_dir(cluster.folder.path()).output() else { return skip("there is no curl") };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("HTTP/1.1 201 Created") && said.contains(r#""data":[{"id":1,"title":"a","body":"b"}]"#));
    assert!(said.contains("; requests=1") && said.contains("; requests=2"), "one connection: {said}");
}

/// The lines of the README's recipe.
fn recipe() -> &'static str {
    let (_, rest) = README.split_once("```text certificates\n").expect("the README has the recipe");
    rest.split_once("```").unwrap().0
}

#[test]
fn the_readmes_certificates_are_right() {
    let mut cluster = Cluster::configure("remote-write", 2, TLS);
    let script = format!("set -e\n{}", recipe().replace("10.0.0.1", &cluster.host));
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(cluster.folder.path());
    if Command::new("openssl").arg("version").output().is_err() {
        return skip("there is no openssl");
    }
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.spawn(&[]);
    wait_ready(&cluster, 0..2);
    assert_serves(&cluster, 0..2, "openssl has made its certificate");
}

#[test]
fn clients_of_tls_1_2_are_served_too() {
    let cluster = start("remote-write", 1, "");
    let config = trusting(&cluster.folder.path().join("ca.pem"), &version::TLS12);
    let service = cluster.service(0);
    let mut stream = dial(&service, config).unwrap();
    assert_eq!(cluster::ask(&mut stream, &service, "GET", "/health", &[], "").unwrap().status, 200);
}

#[test]
fn frames_and_lines_are_spoken_on_the_replicas_address() {
    let cluster = start("remote-write", 2, "");
    let mut stream = dial_in(&cluster, &cluster.replicas[1]).unwrap();
    stream.write_all(b"\0\0\0\x0f{\"type\":\"ping\"}").unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply).unwrap();
    assert!(reply.starts_with(b"{\"type\":\"pong\""));

    let mut stream = dial_in(&cluster, &cluster.replicas[0]).unwrap();
    let post = format!("{{\"type\":\"post\",\"seq\":1,\"note\":{NOTE}}}\n");
    stream.write_all((post + "{\"type\":\"list\",\"seq\":2}").as_bytes()).unwrap();
    // The end of what is sent is told as TLS does it, and the last line needs no other.
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let replies: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    assert_eq!(replies.len(), 2, "{replies:?}");

    let mut stream = dial_in(&cluster, &cluster.replicas[0]).unwrap();
    let misdirected = cluster::ask(&mut stream, &cluster.replicas[0], "GET", "/note", &[], "").unwrap();
    assert_eq!(misdirected.status, 421);
    assert!(misdirected.body.contains(&format!("https://{}", cluster.service(0))), "{}", misdirected.body);
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(arguments).current_dir(cluster.folder.path()).stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs a command that must fail, and returns what it said.
#[track_caller]
fn failed(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = run(cluster, arguments);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn status_call_and_monitor_speak_it_with_who_is_signed_by_the_right_one() {
    let cluster = start("remote-write", 2, "");
    Issuer::new(cluster.folder.path(), "other_ca");
    let status = run(&cluster, &["status", "--json"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && said.matches("\"ready\":true").count() == 2, "{said}");

    let ping = ["call", &cluster.replicas[0], "{\"type\":\"ping\"}"];
    let called = run(&cluster, &[&ping[..], &["--ca", "ca.pem", "--hex"]].concat());
    let said = String::from_utf8_lossy(&called.stdout);
    assert!(called.status.success() && said.contains("\"type\":\"pong\""), "{called:?}");
    assert!(failed(&cluster, &ping).contains("this replica speaks TLS only"), "it says how to");
    let said = failed(&cluster, &[&ping[..], &["--ca", "other_ca.pem"]].concat());
    assert!(said.contains("invalid peer certificate") && said.contains("nothing was sent"), "{said}");
    let said = failed(&cluster, &[&ping[..], &["--ca", "nowhere.pem"]].concat());
    assert!(said.contains("--ca: nowhere.pem cannot be read"), "{said}");

    let arguments = ["monitor", &cluster.replicas[0], "--ca", "ca.pem"];
    let mut watching = Process::spawn(cluster.folder.path(), &arguments);
    wait_for("the monitor to show a request", || {
        https(&cluster, 0, "GET", "/note", "").unwrap();
        watching.out().iter().any(|event| event.contains("client_request"))
    });
    watching.signal("INT");
    assert_eq!(watching.wait(), 0);
}

#[test]
fn calls_with_tls_say_where_there_is_none() {
    let cluster = Cluster::start("remote-write", 1, r#","durability":"memory""#);
    Issuer::new(cluster.folder.path(), "ca");
    let said = failed(&cluster, &["call", &cluster.replicas[0], "{\"type\":\"ping\"}", "--ca", "ca.pem"]);
    assert!(said.contains("it speaks no TLS"), "{said}");
}

#[test]
fn bench_measures_a_cluster_that_asks_for_a_token_over_tls() {
    let mut cluster = configure("remote-write", 2, r#","token_file":"tokens""#);
    let tokens = cluster.folder.path().join("tokens");
    fs::write(&tokens, "0123456789abcdef0123\n").unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    cluster.spawn(&[]);
    // Whether it is ready, it tells nobody without the token; bench waits for it.
    wait_for("the services to run", || (0..2).all(|place| https(&cluster, place, "GET", "/health", "").is_ok()));
    let services = [0, 1].map(|place| cluster.service(place)).join(",");
    let bench = ["bench", "--target", &services, "--only", "remote-write/primary*", "--quick", "--rounds", "1"];
    let with = |more: &[&'static str]| {
        [&bench[..], &["--duration", "0.05", "--rate", "400", "--connections", "2"], more].concat()
    };
    let output = run(&cluster, &with(&["--ca", "ca.pem", "--token-file", "tokens"]));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{:?}", output.stderr);
    for line in ["remote-write/primary/new-connections", "remote-write/primary/frames", "hold what was written last"] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    let without_tls = failed(&cluster, &with(&["--token-file", "tokens"]));
    assert!(without_tls.contains("this port speaks TLS only"), "{without_tls}");
    let without_token = failed(&cluster, &with(&["--ca", "ca.pem"]));
    assert!(without_token.contains("refused GET /status") && without_token.contains("401"), "{without_token}");
}

#[tokio::test]
async fn the_client_library_speaks_it_and_asks_another_replica_where_one_dies() {
    let mut cluster = configure("remote-write", 3, "");
    let members = [0, 1, 2].map(|place| cluster.spawn_replica(place));
    wait_ready(&cluster, 0..3);
    let mut options = Options::new(&cluster.replicas).unwrap();
    options.timeout = PATIENCE;
    options.authority = Some(Authority::read(&cluster.folder.path().join("ca.pem")).unwrap());
    let client = Client::with(&options);
    // Near the most that one frame may carry, so that it takes many records.
    let large = "x".repeat(1_000_000);
    let note = |title: &str| Note::new(Some(title), Some(&large)).unwrap();
    let made = client.post(note("a")).await.unwrap();
    let (one, other) = tokio::join!(client.post(note("b")), client.get(made.id));
    assert_eq!((one.unwrap().id, other.unwrap().note), (NoteId(2), note("a")));
    cluster.process(members[0]).kill();
    let done = client.put(made.id, note("c")).await.unwrap();
    assert_eq!(client.list(NoteId(0), 10).await.unwrap().notes.len(), 2);
    assert_eq!(client.get(done.id).await.unwrap().note, note("c"));

    Issuer::new(cluster.folder.path(), "other_ca");
    (options.attempts, options.replicas) = (1, vec![cluster.replicas[1].parse().unwrap()]);
    options.authority = Some(Authority::read(&cluster.folder.path().join("other_ca.pem")).unwrap());
    let refused = Client::with(&options).post(note("d")).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Unreachable(_)) && refused.effect == Effect::None, "{refused}");
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
    options.authority = None;
    let refused = Client::with(&options).post(note("d")).await.unwrap_err();
    assert!(refused.to_string().contains("speaks TLS only"), "{refused}");
}

#[test]
fn half_a_request_before_the_end_is_answered_and_the_whole_ones_too() {
    let cluster = start("remote-write", 1, "");
    let mut stream = dial_in(&cluster, &cluster.service(0)).unwrap();
    stream.write_all(b"GET /note HTTP/1.1\r\nHost: a\r\n\r\nGET /note").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{said}");
}

/// A list of some MiB to a client that reads slowly, and a body of 1 MiB.
#[test]
fn large_answers_and_bodies_arrive_whole() {
    let cluster = start("remote-write", 2, "");
    let body = format!(r#"{{"title":"large","body":"{}"}}"#, "x".repeat(1_000_000));
    for _ in 0..12 {
        assert_eq!(https(&cluster, 1, "POST", "/note", &body).unwrap().status, 201);
    }
    let service = cluster.service(0);
    let mut stream = dial_in(&cluster, &service).unwrap();
    let request = format!("GET /note HTTP/1.1\r\nHost: {service}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    // Piece by piece: the replica has to wait for room again and again.
    let mut piece = vec![0; 3_000];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            length => said.extend_from_slice(&piece[..length]),
        }
    }
    assert_eq!(said.windows(9).filter(|piece| piece == b"\"large\",\"").count(), 12);
    assert!(said.ends_with(b"\r\n0\r\n\r\n"));
}

fn write_secret(cluster: &Cluster) {
    let path = cluster.folder.path().join("secret");
    fs::write(&path, SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn links_prove_themselves_over_tls_whichever_way_they_are_used() {
    for links in ["persistent", "per-frame"] {
        let mut cluster = configure("local-write", 3, &format!(r#","secret_file":"secret","links":"{links}""#));
        write_secret(&cluster);
        for place in 0..3 {
            cluster.spawn_replica(place);
        }
        wait_ready(&cluster, 0..3);
        assert_serves(&cluster, 0..3, "its start");
        assert_eq!(https(&cluster, 2, "PUT", "/note/1", NOTE).unwrap().status, 200, "{links}");
    }
}

#[test]
fn the_others_go_on_without_a_replica_that_is_killed() {
    let mut cluster = configure("remote-write", 3, "");
    let members = [0, 1, 2].map(|place| cluster.spawn_replica(place));
    wait_ready(&cluster, 0..3);
    assert_serves(&cluster, 0..3, "its start");
    cluster.process(members[0]).kill();
    assert_serves(&cluster, 1..3, "the primary's death");
    cluster.spawn_replica(0);
    wait_ready(&cluster, 0..3);
    let count = |place| https(&cluster, place, "GET", "/note", "").unwrap().json()["data"].as_array().unwrap().len();
    assert!(count(0) >= 5 && count(0) == count(2));
}

/// Before it gives up a damaged store, a replica asks whether others run; that goes over TLS as well.
#[test]
fn a_damaged_store_is_copied_anew() {
    let mut cluster = configure("remote-write", 3, "");
    let on_disk = |cluster: &mut Cluster, place: usize| {
        let address = cluster.replicas[place].clone();
        cluster.spawn(&["replica", &address, "--durability", "disk"])
    };
    let members = [0, 1, 2].map(|place| on_disk(&mut cluster, place));
    wait_ready(&cluster, 0..3);
    assert_serves(&cluster, 0..3, "its start");
    cluster.process(members[2]).kill();
    let folder = cluster.folder.path().join("data").join(&cluster.replicas[2]);
    let mut stores = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let store = stores.find(|path| path.to_string_lossy().contains("records-")).unwrap();
    let mut bytes = fs::read(store.join("journal-0000000001")).unwrap();
    bytes[50] ^= 0x40;
    fs::write(store.join("journal-0000000001"), bytes).unwrap();
    let again = on_disk(&mut cluster, 2);
    wait_ready(&cluster, 0..3);
    assert!(says(cluster.process(again), "the notes are copied from the other replicas"));
}

/// Starts the first two replicas, which begin without the others.
fn spawn_two(cluster: &mut Cluster) -> [usize; 2] {
    let first = cluster.replicas[0].clone();
    [cluster.spawn(&["replica", &first, "--initialize"]), cluster.spawn_replica(1)]
}

fn says(process: &Process, text: &str) -> bool {
    process.err().iter().any(|line| line.contains(text))
}

#[test]
fn a_replica_of_another_authority_stays_outside_and_both_sides_say_why() {
    let mut cluster = configure("remote-write", 3, "");
    let folder = cluster.folder.path().to_owned();
    fs::create_dir(folder.join("foreign")).unwrap();
    Issuer::new(&folder.join("foreign"), "ca").sign(&folder.join("foreign"), "replica", &[&cluster.host]);
    let members = spawn_two(&mut cluster);
    let files = r#"{"cert":"foreign/replica.pem","key":"foreign/replica.key","ca":"foreign/ca.pem"}"#;
    let third = cluster.replicas[2].clone();
    let stranger = cluster.spawn(&["replica", &third, "--tls", files]);
    wait_ready(&cluster, 0..2);
    for process in [members[0], members[1], stranger] {
        wait_for(&format!("process {process} to say why\n{}", cluster.printed()), || {
            says(cluster.process(process), "invalid peer certificate")
        });
    }
    assert_serves(&cluster, 0..2, "a stranger came");
    let refused = https(&cluster, 2, "GET", "/ready", "").unwrap_err().to_string();
    assert!(refused.contains("certificate"), "clients refuse it too: {refused}");
    cluster.process(stranger).kill();
    cluster.spawn_replica(2);
    wait_ready(&cluster, 0..3);
}

#[test]
fn replicas_with_and_without_tls_say_so_to_each_other() {
    let mut cluster = configure("remote-write", 3, "");
    let config = fs::read_to_string(cluster.folder.path().join("config.json")).unwrap();
    fs::write(cluster.folder.path().join("plain.json"), config.replace(TLS, r#","durability":"memory""#)).unwrap();
    let members = spawn_two(&mut cluster);
    let third = cluster.replicas[2].clone();
    let plain = cluster.spawn(&["replica", &third, "--config", "plain.json"]);
    wait_ready(&cluster, 0..2);
    wait_for("the plain one to hear it", || says(cluster.process(plain), "this replica speaks TLS only"));
    wait_for("the members to say it", || says(cluster.process(members[0]), "it speaks no TLS"));
    assert_serves(&cluster, 0..2, "a plain replica came");
}

/// Who has a replica's certificate and key, and stands in between, hears all where there is no secret. With one, the
/// proofs are of the connection too, and it comes nowhere.
#[test]
fn nobody_stands_between_replicas_with_a_secret_not_even_with_their_certificate() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for secret in [false, true] {
        let mut cluster = configure("remote-write", 3, if secret { r#","secret_file":"secret""# } else { "" });
        write_secret(&cluster);
        let (folder, host, third) =
            (cluster.folder.path().to_owned(), cluster.host.clone(), cluster.replicas[2].clone());
        // The third replica listens elsewhere; where the others look for it there is the relay.
        let elsewhere = host.splitn(3, '.').nth(2).map(|rest| format!("127.254.{rest}")).unwrap();
        let to = third.replace(&host, &elsewhere);
        let listener = runtime.block_on(tokio::net::TcpListener::bind(&third)).unwrap();
        let trusted = trusting(&folder.join("ca.pem"), &version::TLS13);
        let relaying = runtime.spawn(async move { relay(listener, to, host, &folder, trusted).await });
        let members = spawn_two(&mut cluster);
        wait_ready(&cluster, 0..2);
        cluster.spawn(&["replica", &third, "--listen", &elsewhere]);
        if secret {
            wait_for("the members to say it", || says(cluster.process(members[0]), "the proof is wrong"));
            assert_serves(&cluster, 0..2, "somebody stood in between");
        } else {
            let view = || https(&cluster, 0, "GET", "/status", "").unwrap().json()["view"].clone();
            wait_for("the third to be in sync through the relay", || {
                view()["in_sync"].as_array().is_some_and(|members| members.len() == 3)
            });
        }
        relaying.abort();
    }
}

/// Sends bytes in the plain and reads what is answered, to the end.
fn plain(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    said
}

#[test]
fn clients_without_tls_are_told_so_in_their_own_way() {
    let cluster = start("remote-write", 2, "");
    let (service, replica) = (cluster.service(0), cluster.replicas[0].clone());
    let answer = try_http(&service, "POST", "/note", &[], NOTE).unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.json()["msg"].as_str().unwrap().contains("write https://"), "{answer:?}");
    let answer = try_http(&replica, "GET", "/note", &[], "").unwrap();
    assert_eq!(answer.status, 421);
    assert!(answer.body.contains("https://"), "{answer:?}");
    let frame = plain(&replica, b"\0\0\0\x0f{\"type\":\"ping\"}");
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    for said in [&frame[4..], &plain(&replica, b"{\"type\":\"ping\"}\n"), &plain(&replica, b"\xff")] {
        let said = String::from_utf8_lossy(said);
        assert!(said.starts_with("{\"type\":\"error\",\"res\":400,\"code\":\"bad_frame\""), "{said}");
        assert!(said.contains("speaks TLS only"), "{said}");
    }
    assert_serves(&cluster, 0..2, "plain clients");
    assert_eq!(https(&cluster, 1, "GET", "/note/3", "").unwrap().status, 404, "only the two of now were made");
}

#[test]
fn clients_with_tls_are_told_so_where_there_is_none() {
    let cluster = Cluster::start("remote-write", 1, r#","durability":"memory""#);
    let folder = cluster.folder.path();
    Issuer::new(folder, "ca");
    for address in [cluster.service(0), cluster.replicas[0].clone()] {
        let error = dial_in(&cluster, &address).unwrap().write_all(b"GET").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        let said = plain(&address, b"\x16\x03\x01\x02\0\x01");
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("TLS"), "{said}");
    }
    assert_eq!(cluster.http(0, "POST", "/note", NOTE).status, 201);
}

#[test]
fn silence_half_a_handshake_and_garbage_are_closed_and_harm_nobody() {
    let cluster = start("remote-write", 2, r#","limits":{"prove_ms":300}"#);
    let hello = {
        // What a client begins with, taken from one that speaks to nobody.
        let listener = std::net::TcpListener::bind((cluster.host.as_str(), 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = dial_in(&cluster, &address).unwrap();
        client.conn.write_tls(&mut client.sock).unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut hello = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut hello).unwrap();
        hello
    };
    let garbage = [&hello[..], &[0x55; 3000]].concat();
    let long = [&b"\x16\x03\x01\x40\0\x01\xff\xff\xff"[..], &[0; 9000]].concat();
    for address in [cluster.service(0), cluster.replicas[0].clone(), cluster.service(1)] {
        let bytes: [&[u8]; 6] = [b"", b"\x16", &hello[..hello.len() / 2], &hello, &garbage, &long];
        let mut open: Vec<TcpStream> = bytes.iter().map(|_| TcpStream::connect(&address).unwrap()).collect();
        for (stream, bytes) in open.iter_mut().zip(bytes) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(bytes).unwrap();
        }
        for (stream, bytes) in open.iter_mut().zip(bytes) {
            let mut said = Vec::new();
            // Reset where bytes of ours were not read.
            match stream.read_to_end(&mut said) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{address}: {error}"),
            }
            assert!(!said.windows(4).any(|piece| piece == b"HTTP"), "{address}: {} bytes", bytes.len());
        }
        assert_serves(&cluster, 0..2, "strange handshakes");
    }
}

#[test]
fn a_stop_does_not_wait_for_handshakes() {
    let mut cluster = configure("remote-write", 1, r#","limits":{"prove_ms":600000}"#);
    let process = cluster.spawn(&[]);
    wait_ready(&cluster, 0..1);
    let addresses = [cluster.service(0), cluster.replicas[0].clone()];
    let mut open = addresses.map(|address| TcpStream::connect(address).unwrap());
    open.iter_mut().for_each(|stream| stream.write_all(b"\x16\x03").unwrap());
    // It was accepted before this one, and so is being served.
    assert_serves(&cluster, 0..1, "they came");
    cluster.process(process).signal("TERM");
    assert_eq!(cluster.process(process).wait(), 0);
    assert!(!says(cluster.process(process), "did not finish in time"), "{}", cluster.printed());
}

/// Starts the binary, which must refuse with exit code 2 and one line.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(arguments).current_dir(cluster.folder.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().strip_prefix("primacy: ").unwrap().to_owned()
}

#[test]
fn files_that_are_of_no_use_are_named_with_what_to_do() {
    let cluster = configure("remote-write", 1, "");
    let folder = cluster.folder.path();
    let issuer = Issuer::new(folder, "other_ca");
    issuer.sign(folder, "other", &[&cluster.host]);
    issuer.sign(folder, "elsewhere", &["192.0.2.1"]);
    issuer.sign_with(folder, "expired", &[&cluster.host], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    fs::copy(folder.join("replica.key"), folder.join("open.key")).unwrap();
    fs::set_permissions(folder.join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(folder.join("empty.pem"), "nothing\n").unwrap();
    fs::write(folder.join("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    fs::write(folder.join("wrong.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").unwrap();
    fs::write(folder.join("long.pem"), vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    let names = ["ca.pem", "other_ca.pem", "missing.pem"];
    let [ca, other_ca, missing] = names;
    for (cert, key, ca, said) in [
        (missing, "replica.key", ca, "`cert` in `--tls`: missing.pem cannot be read: No such file"),
        ("replica.pem", missing, ca, "`key` in `--tls`: missing.pem cannot be read: No such file"),
        ("replica.pem", "replica.key", missing, "`ca` in `--tls`: missing.pem cannot be read: No such file"),
        ("empty.pem", "replica.key", ca, "`cert` in `--tls`: empty.pem holds no certificate; write a PEM file"),
        ("replica.pem", "replica.key", "empty.pem", "`ca` in `--tls`: empty.pem holds no certificate; write a PEM"),
        ("cut.pem", "replica.key", ca, "`cert` in `--tls`: cut.pem is no PEM file: a part that begins does not end"),
        ("replica.pem", "replica.key", "wrong.pem", "`ca` in `--tls`: wrong.pem cannot be used: "),
        ("wrong.pem", "replica.key", ca, "`cert` in `--tls`: wrong.pem cannot be used: "),
        ("replica.pem", "replica.key", "long.pem", "`ca` in `--tls`: long.pem is over 1048576 bytes"),
        ("replica.pem", "replica.pem", ca, "`key` in `--tls`: replica.pem is open to every user of this host"),
        ("replica.pem", "open.key", ca, "`key` in `--tls`: open.key is open to every user of this host (mode 644)"),
        ("replica.pem", "other.key", ca, "`key` in `--tls`: other.key is not the key of the certificate in `tls.cert`"),
        ("other.pem", "other.key", ca, "`tls`: the others would not accept the certificate of replica 127."),
        ("elsewhere.pem", "elsewhere.key", other_ca, "not valid for name"),
        ("expired.pem", "expired.key", other_ca, "certificate expired"),
    ] {
        let text = format!(r#"{{"cert":"{cert}","key":"{key}","ca":"{ca}"}}"#);
        let refusal = refused(&cluster, &["--tls", &text]);
        assert!(refusal.contains(said) && refusal.contains("; "), "{refusal}");
    }
}

#[test]
fn wrong_members_of_tls_are_named() {
    let cluster = configure("remote-write", 1, "");
    let file = cluster.folder.path().join("config.json");
    let config = fs::read_to_string(&file).unwrap();
    for (member, said) in [
        (r#"{}"#, "./config.json: `tls.cert` is missing; write \"cert\": \"replica.pem\""),
        (
            r#"{"cert":"replica.pem","ca":"ca.pem"}"#,
            "./config.json: `tls.key` is missing; write \"key\": \"replica.key\"",
        ),
        (
            r#"{"cert":"replica.pem","key":"replica.key"}"#,
            "./config.json: `tls.ca` is missing; write \"ca\": \"ca.pem\"",
        ),
        (r#"{"crt":"replica.pem"}"#, "./config.json: `tls.crt` is no key; the nearest is `tls.cert`"),
        (r#"{"cert":7}"#, "./config.json: `tls.cert` is 7; write the path of a PEM file"),
        (r#"true"#, "./config.json: `tls` is true; write a JSON object of files: {\"cert\":"),
    ] {
        let (start, _) = config.split_once("\"tls\":").unwrap();
        fs::write(&file, format!("{start}\"tls\":{member}}}")).unwrap();
        let refusal = refused(&cluster, &[]);
        assert!(refusal.starts_with(said), "{refusal}");
    }
}
