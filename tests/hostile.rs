//! Whoever is no replica acts as one, or just breaks things: after each try the cluster serves, and its notes are the same.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod cluster;
#[path = "support/hostile_peer.rs"]
mod hostile_peer;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use cluster::{Cluster, PATIENCE, try_http, wait_for};
use hostile_peer::{Peer, hello};
use primacy::config::Secret;
use primacy::link::proof::Role;
use primacy::note::{Note, NoteId};
use primacy::protocol::codec;
use primacy::protocol::ids::{ClusterId, ConsensusId, Epoch, Incarnation, ReplicaId, ReplicaSet, StoreId, Version};
use primacy::protocol::message::{Heartbeat, Lease, LinkKind, Payload, Raft, RaftKind, Ready, Stale, Update};
use primacy::protocol::record::{Record, Value};
use primacy::protocol::view::{Member, View};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SECRET: &str = "5f0c1c9e8a7b6d5e4f3a2b1c0d9e8f70";
const NOTES: [&str; 3] = [r#"{"title":"a","body":"1"}"#, r#"{"title":"b","body":"2"}"#, r#"{"title":"c","body":"3"}"#];

/// A cluster of three, of which two run; the third is the test's to play.
struct Scene {
    cluster: Cluster,
    secret: Secret,
    list: String,
    /// How many replicas run.
    running: usize,
}

impl Scene {
    fn start() -> Scene {
        let mut cluster = Cluster::configure("remote-write", 3, r#","durability":"memory","secret_file":"secret""#);
        let path = cluster.folder.path().join("secret");
        fs::write(&path, SECRET).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for place in 0..2 {
            let address = cluster.replicas[place].clone();
            cluster.spawn(&["replica", &address, "--initialize"]);
        }
        (0..2).for_each(|place| cluster.wait_ready_at(place));
        Scene::of(cluster, 2)
    }

    /// All of a cluster runs, and has no secret.
    fn open() -> Scene {
        Scene::of(Cluster::start("remote-write", 3, r#","durability":"memory""#), 3)
    }

    fn of(cluster: Cluster, running: usize) -> Scene {
        for note in NOTES {
            assert_eq!(cluster.http(0, "POST", "/note", note).status, 201);
        }
        let list = cluster.http(0, "GET", "/note", "").body;
        Scene { cluster, secret: SECRET.parse().unwrap(), list, running }
    }

    fn address(&self, place: usize) -> &str {
        &self.cluster.replicas[place]
    }

    fn epoch(&self, place: usize) -> u64 {
        self.cluster.http(place, "GET", "/status", "").json()["view"]["epoch"].as_u64().unwrap()
    }

    /// The third replica, proved, on a link to this one.
    fn third(&self, to: usize, kind: LinkKind) -> Peer {
        let mut peer = Peer::dial(self.address(to));
        peer.enter(&hello(&self.cluster.replicas, [2, to], kind, self.epoch(to)), &self.secret);
        peer
    }

    /// Every replica that runs takes a write and has the same notes as ever.
    #[track_caller]
    fn assert_unharmed(&self, what: &str) {
        for place in 0..self.running {
            let service = self.cluster.service(place);
            let done = |method, path, body| try_http(&service, method, path, &[], body).ok();
            wait_for(&format!("replica {place} to write after {what}\n{}", self.cluster.printed()), || {
                done("PUT", "/note/1", NOTES[0]).is_some_and(|answer| answer.status == 200)
            });
            wait_for(&format!("replica {place} to have its notes after {what}"), || {
                done("GET", "/note", "").is_some_and(|answer| answer.status == 200 && answer.body == self.list)
            });
        }
    }
}

/// An update that would make note 1 say what nobody wrote.
fn poison(epoch: u64, primary: u8) -> Update {
    let version = Version { epoch: Epoch(epoch), counter: 1_000_000 };
    let value = Value::Note(Note::new(Some("poisoned"), Some("by nobody")).unwrap());
    let record = Record { id: NoteId(1), version, written: version, primary: ReplicaId(primary), value };
    Update { n: 1, records: vec![record], ..Update::default() }
}

#[test]
fn forged_replayed_and_reflected_greetings_come_to_nothing() {
    let scene = Scene::start();
    let epoch = scene.epoch(0);
    let right = hello(&scene.cluster.replicas, [2, 0], LinkKind::Data, epoch);

    let mut forged = Peer::dial(scene.address(0));
    forged.enter(&right, &"ffffffffffffffffffffffffffffffff".parse().unwrap());
    forged.send(epoch, poison(epoch, 0));
    let said = forged.read_to_end();
    assert!(said.contains("\"code\":\"unproved\""), "{said}");
    scene.assert_unharmed("a forged hello");

    let mut reflected = Peer::dial(scene.address(0));
    let greeting = reflected.greet(&right);
    let proof = greeting.proof.expect("the accepter proves itself first");
    assert!(greeting.hellos().are_proved(&scene.secret, Role::Accepter, &proof));
    reflected.write(&codec::encode_link("proof", &proof));
    reflected.send(epoch, poison(epoch, 0));
    assert!(reflected.read_to_end().contains("\"code\":\"unproved\""));
    scene.assert_unharmed("a reflected proof");

    let mut seen = Peer::dial(scene.address(0));
    seen.enter(&right, &scene.secret);
    let session = seen.written.clone();
    drop(seen);
    let mut replayed = Peer::dial(scene.address(0));
    replayed.write(&session);
    replayed.send(epoch, poison(epoch, 0));
    assert!(replayed.read_to_end().contains("\"code\":\"unproved\""));
    scene.assert_unharmed("a replayed session");

    let mut bare = Peer::dial(scene.address(0));
    bare.write(&codec::encode_link("hello", &primacy::protocol::message::Hello { nonce: None, ..right }));
    assert!(bare.read_to_end().contains("\"code\":\"unproved\""));
    let mut rude = Peer::dial(scene.address(0));
    rude.send(epoch, poison(epoch, 0));
    assert!(rude.read().unwrap().contains("\"code\":\"not_a_peer\""));
    scene.assert_unharmed("messages without a greeting");
}

#[test]
fn who_has_the_secret_and_is_no_member_changes_nothing() {
    let scene = Scene::start();
    let epoch = scene.epoch(0);
    for to in [0, 1] {
        let mut stranger = scene.third(to, LinkKind::Data);
        stranger.send(epoch, poison(epoch, 2));
        stranger.send(epoch, Ready {});
        stranger.read_to_end();
        scene.assert_unharmed("an update from a non-member");
    }

    // Frames of an epoch to come wait, and with them only their own link.
    let mut early = scene.third(0, LinkKind::Data);
    early.send(u64::MAX / 2, poison(u64::MAX / 2, 2));
    let everybody =
        |replica| Member { replica: ReplicaId(replica), incarnation: Incarnation(0xBAD), store: StoreId(1) };
    let view = View { epoch: Epoch(u64::MAX / 2), primary: ReplicaId(2), in_sync: vec![everybody(2)], joining: vec![] };
    let mut told = scene.third(1, LinkKind::Data);
    told.send(epoch, Stale { view });
    scene.assert_unharmed("huge epochs");
    assert!([0, 1].iter().all(|place| scene.epoch(*place) < 1000), "no epoch is believed from a frame");

    let mut control = scene.third(0, LinkKind::Control);
    let beat = Heartbeat {
        nonce: 1,
        view: Epoch(u64::MAX),
        store: StoreId(1),
        consensus: ConsensusId(7),
        cluster: Some(ClusterId(7)),
        blank: false,
        hears: ReplicaSet::EMPTY,
        cut: [ReplicaId(0), ReplicaId(1)].into_iter().collect(),
        synced: Some(Epoch(u64::MAX)),
        stopping: true,
    };
    control.send(u64::MAX, beat);
    control.send(u64::MAX, Lease { nonce: u64::MAX });
    let payload = Payload(serde_json::value::RawValue::from_string("{\"term\":18446744073709551615}".into()).unwrap());
    let (from, to, cluster) = (ConsensusId(7), ConsensusId(8), ClusterId(7));
    for kind in [RaftKind::Append, RaftKind::Vote, RaftKind::Snapshot, RaftKind::Answer] {
        control.send(0, Raft { call: 1, from, to, cluster, kind, payload: payload.clone() });
    }
    scene.assert_unharmed("heartbeats, leases and consensus calls of another cluster");

    let mut other = hello(&scene.cluster.replicas, [2, 0], LinkKind::Data, epoch);
    other.settings.replicas.reverse();
    let mut stranger = Peer::dial(scene.address(0));
    stranger.write(&codec::encode_link("hello", &other));
    assert!(stranger.read_to_end().contains("\"code\":\"other_settings\""));
    scene.assert_unharmed("a hello of another cluster");
}

#[test]
fn a_member_that_is_not_the_items_primary_changes_nothing() {
    let scene = Scene::start();
    // Each replica tells its incarnation in its hello; with the secret the test can say that it is the backup.
    let mut asked = Peer::dial(scene.address(1));
    let backup = asked.greet(&hello(&scene.cluster.replicas, [2, 1], LinkKind::Control, 0)).theirs().incarnation;
    let epoch = scene.epoch(0);
    let mut member = Peer::dial(scene.address(0));
    let said = primacy::protocol::message::Hello {
        incarnation: backup,
        ..hello(&scene.cluster.replicas, [1, 0], LinkKind::Data, epoch)
    };
    member.enter(&said, &scene.secret);
    member.send(epoch, poison(epoch, 1));
    // It is closed for that.
    member.read_to_end();
    wait_for("the notes as they were", || scene.cluster.http(0, "GET", "/note", "").body == scene.list);
    // What the real one sends next has the number of the forged frame: the two part, and begin anew in a later view.
    scene.assert_unharmed("an update from a member who is not the primary");
}

/// Sends bytes to an address and reads what comes, at most until the other end closes.
fn throw(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn framed(json: &str) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
}

#[test]
fn garbage_bombs_and_deep_json_cost_their_own_connection() {
    let scene = Scene::open();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    };
    for round in 0..50 {
        let garbage: Vec<u8> = (0..200).flat_map(|_| random()).collect();
        let begins: [&[u8]; 4] = [b"", b"\0", b"{", b"\0\0\0\x20{\"type\":\"hello\""];
        throw(scene.address(0), &[begins[round % 4], &garbage].concat());
        throw(&scene.cluster.service(1), &garbage);
    }
    scene.assert_unharmed("garbage");

    for length in [u32::MAX, 0x7FFF_FFFF, 8 * 1024 * 1024 + 1, 0x0100_0000] {
        throw(scene.address(0), &length.to_be_bytes());
    }
    let answer = throw(
        &scene.cluster.service(0),
        b"POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n",
    );
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 413"));
    scene.assert_unharmed("length bombs");

    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for json in [
        deep.clone(),
        format!("{{\"type\":\"post\",\"note\":{deep}}}"),
        format!("{{\"type\":\"post\",\"note\":{{\"title\":{deep}}}}}"),
        format!("{{\"type\":\"get\",\"id\":{deep}}}"),
        format!("{{\"type\":{deep}}}"),
        format!("{{\"type\":\"ping\",\"unknown\":{deep}}}"),
        format!("{{\"type\":\"patch\",\"id\":1,\"patch\":{deep},\"if_match\":{deep}}}"),
        format!("{{\"type\":\"hello\",\"settings\":{deep}}}"),
    ] {
        let answer = throw(scene.address(0), &framed(&json));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("\"type\":\"error\""), "{}: {answer}", &json[..40]);
    }
    let body = format!("{{\"title\":{deep},\"body\":\"\"}}");
    assert_eq!(scene.cluster.http(0, "POST", "/note", &body).status, 400);
    scene.assert_unharmed("deep JSON");
}

/// A process's memory, in MiB.
fn resident_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn half_frames_that_announce_much_cost_little_and_hold_nobody_up() {
    let mut scene = Scene::open();
    let process = scene.cluster.process(0).id();
    let before = resident_mib(process);
    let half: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(scene.address(0)).unwrap();
            stream.write_all(b"\0\x80\0\0{\"type\":\"post\",\"note\":{\"title\":\"").unwrap();
            stream
        })
        .collect();
    scene.assert_unharmed("500 half frames of 8 MiB each");
    let grown = resident_mib(process).saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for 4 GiB that were announced and never sent");
    drop(half);
    scene.assert_unharmed("their end");
}

#[test]
fn ten_thousand_idle_connections_hold_nobody_up() {
    let scene = Scene::open();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    // Each takes a descriptor here and one there, and some are kept for other things.
    let count = maximum.map_or(10_000, |most| most.saturating_sub(1_000).min(10_000));
    if count < 10_000 {
        eprintln!("only {count} connections: this system allows no more descriptors");
    }
    let ports: Vec<String> =
        (0..3).flat_map(|place| [scene.address(place).to_owned(), scene.cluster.service(place)]).collect();
    let idle: Vec<TcpStream> =
        (0..count as usize).map(|number| TcpStream::connect(&ports[number % ports.len()]).unwrap()).collect();
    scene.assert_unharmed("10,000 idle connections");
    drop(idle);
    scene.assert_unharmed("their end");
}
