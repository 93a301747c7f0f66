//! The secret by which replicas prove themselves: whole clusters with one, without one where it is needed, and with two.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use cluster::{Cluster, Process, wait_for};

const SECRET: &str = "5f0c1c9e8a7b6d5e4f3a2b1c0d9e8f70";
const WITH_FILE: &str = r#","durability":"memory","secret_file":"secret""#;
const NOTE: &str = r#"{"title":"a","body":"b"}"#;

fn write_secret(cluster: &Cluster, name: &str, text: &str) {
    let path = cluster.folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Starts one replica with these variables.
fn spawn_with(cluster: &Cluster, place: usize, more: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(["replica", &cluster.replicas[place]]).args(more).current_dir(cluster.folder.path());
    command.envs(variables.iter().copied());
    Process::spawn_command(command)
}

#[test]
fn a_cluster_with_a_secret_serves_whichever_way_links_are_used_and_the_secret_is_given() {
    for links in ["persistent", "per-frame"] {
        let mut cluster = Cluster::configure("local-write", 3, r#","durability":"memory""#);
        write_secret(&cluster, "secret", &format!("{SECRET}\n"));
        for place in 0..2 {
            let address = cluster.replicas[place].clone();
            cluster.spawn(&["replica", &address, "--links", links, "--secret-file", "secret"]);
        }
        let _third = spawn_with(&cluster, 2, &["--links", links], &[("PRIMACY_SECRET", SECRET)]);
        cluster.wait_ready();
        for place in 0..3 {
            assert_eq!(cluster.http(place, "POST", "/note", NOTE).status, 201, "{links}");
        }
        assert_eq!(cluster.http(2, "PUT", "/note/1", NOTE).status, 200, "{links}");
        assert_eq!(cluster.http(0, "GET", "/note", "").json()["data"].as_array().unwrap().len(), 3);
        let shown = cluster.printed();
        assert!(!shown.contains(SECRET), "a secret is never shown: {shown}");
    }
}

#[test]
fn a_replica_with_another_secret_or_none_stays_outside_and_is_told_why() {
    let mut cluster = Cluster::configure("remote-write", 3, WITH_FILE);
    write_secret(&cluster, "secret", SECRET);
    let members = [0, 1, 2].map(|place| cluster.spawn_replica(place));
    cluster.wait_ready();
    cluster.http(0, "POST", "/note", NOTE);
    cluster.process(members[2]).kill();
    write_secret(&cluster, "other", "ffffffffffffffffffffffffffffffff");
    let config = fs::read_to_string(cluster.folder.path().join("config.json")).unwrap();
    fs::write(cluster.folder.path().join("none.json"), config.replace(WITH_FILE, r#","durability":"memory""#)).unwrap();
    for (more, theirs, ours) in [
        (["--secret-file", "other"], "write the same `secret_file` at all replicas", "the proof is wrong"),
        (["--config", "none.json"], "give it the same `secret_file`", "proves nothing, and I have a secret"),
    ] {
        let stranger = spawn_with(&cluster, 2, &more, &[]);
        let told = |process: &Process, text: &str| process.err().iter().any(|line| line.contains(text));
        wait_for("the stranger to be told", || told(&stranger, theirs));
        wait_for("the members to tell it", || told(cluster.process(members[0]), ours));
        assert_eq!(cluster.http(1, "PUT", "/note/1", NOTE).status, 200, "the others go on");
    }
    // With the right one it is welcome.
    cluster.spawn_replica(2);
    cluster.wait_ready();
    assert_eq!(cluster.http(2, "GET", "/note/1", "").status, 200);
}

/// The first of two ports that nobody has on any address, below those that the system gives to who dials.
fn two_free_ports() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
    let start = 11_000 + (std::process::id() % 4_000) as u16 * 2;
    (start..19_500).chain(11_000..start).find(|port| free(*port) && free(port + 1)).expect("two ports are free")
}

#[test]
fn an_address_that_others_can_reach_is_served_with_a_secret_or_not_at_all() {
    let mut cluster = Cluster::configure("remote-write", 1, "");
    let free = two_free_ports();
    let address = format!("{}:{free}", cluster.host);
    let config = format!(
        r#"{{"service":{},"sync":"remote-write","replicas":["{address}"],"durability":"memory","listen":"0.0.0.0"}}"#,
        free + 1
    );
    fs::write(cluster.folder.path().join("config.json"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    let output = command.current_dir(cluster.folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`replicas`: port") && said.contains("write `secret_file`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let insecure = cluster.spawn(&["--insecure"]);
    wait_for("it to listen", || std::net::TcpStream::connect(&address).is_ok());
    cluster.process(insecure).kill();
    write_secret(&cluster, "secret", SECRET);
    cluster.spawn(&["--secret-file", "secret"]);
    wait_for("it to listen", || std::net::TcpStream::connect(&address).is_ok());
}
