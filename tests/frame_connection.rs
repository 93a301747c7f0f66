//! Connections to a replica's address: who gets in, what goes together, limits, ends.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fake_replica::FakeReplica;
use primacy::clock::Clock;
use primacy::config::{Address, Config, Mode};
use primacy::link::{LinkConfig, LinkEvent, Links};
use primacy::net::{SystemNetwork, TcpListener, TcpStream};
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId};
use primacy::protocol::port::Port;
use primacy::random::Random;
use primacy::wire::{self, Service};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before the test fails; less than a stop waits for requests that are open.
const PATIENCE: Duration = Duration::from_secs(4);

/// What listens on one replica's address.
struct Server {
    config: Config,
    address: SocketAddr,
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(port: Port, change: impl FnOnce(&mut Config)) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The other replica is whoever comes and says that it is.
        let other = Address::new("127.0.0.1", 9);
        let mut config = Config::new(Mode::RemoteWrite, vec![other, Address::new("127.0.0.1", address.port())], 9988);
        change(&mut config);
        let (links, events) = links(&config, ReplicaId(1));
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(Service::new(port, Arc::new(config.clone()), ReplicaId(1)));
        let serving = tokio::spawn(wire::serve(listener, service, links.acceptor(), stopped));
        Server { config, address, links, events, stop, serving }
    }

    async fn connect(&self) -> Lines {
        Lines(BufReader::new(TcpStream::connect(self.address).await.unwrap()))
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.serving).await.expect("it stops in time").unwrap();
        timeout(PATIENCE, self.links.stop()).await.expect("the links stop in time");
    }
}

fn links(config: &Config, me: ReplicaId) -> (Links, mpsc::Receiver<LinkEvent>) {
    let (sender, events) = mpsc::channel(16);
    let config = LinkConfig {
        config: Arc::new(config.clone()),
        me,
        network: Arc::new(SystemNetwork),
        incarnation: Incarnation(7 + u64::from(me.0)),
        seed: 1,
        random: Random::system(),
    };
    (Links::start(config, sender, watch::channel(Epoch(1)).1), events)
}

/// A client that speaks lines.
struct Lines(BufReader<TcpStream>);

impl Lines {
    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; empty at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a line in time").unwrap();
        line
    }
}

impl Lines {
    /// Text up to the first closing brace: the reply, in a line or a frame.
    async fn object(&mut self) -> String {
        let mut bytes = Vec::new();
        timeout(PATIENCE, self.0.read_until(b'}', &mut bytes)).await.expect("a reply in time").unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("the condition in time");
}

fn pings(count: usize) -> String {
    (0..count).map(|seq| format!("{{\"type\":\"ping\",\"seq\":{seq}}}\n")).collect()
}

#[tokio::test]
async fn requests_of_one_read_go_to_the_replica_together_and_no_more_than_may_be_open() {
    let (replica, port) = FakeReplica::start();
    let server = Server::start(port, |config| config.limits.pipeline = 4).await;
    replica.hold();
    let mut client = server.connect().await;
    client.send(&pings(100)).await;
    until(|| replica.calls() > 0).await;
    assert_eq!(replica.batches(), [4]);
    replica.release();
    for _ in 0..100 {
        assert!(client.line().await.starts_with("{\"type\":\"pong\""));
    }
    assert!(replica.batches().iter().all(|calls| *calls <= 4), "{:?}", replica.batches());
    server.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_is_open_and_waits_for_nobody_who_is_silent() {
    let (replica, port) = FakeReplica::start();
    let server = Server::start(port, |_| {}).await;
    let _silent = server.connect().await;
    let mut half = server.connect().await;
    half.0.get_mut().write_all(&[0, 0, 0, 9, b'{']).await.unwrap();
    let mut idle = server.connect().await;
    idle.send(&pings(1)).await;
    idle.line().await;
    replica.hold();
    let mut client = server.connect().await;
    client.send(&pings(2)).await;
    until(|| replica.calls() == 3).await;
    server.stop.send_replace(true);
    assert_eq!(idle.line().await, "", "nothing is open there, so it is closed");
    replica.release();
    assert!(client.line().await.contains("pong"));
    assert!(client.line().await.contains("pong"));
    assert_eq!(client.line().await, "");
    drop((idle, client));
    server.stop().await;
}

#[tokio::test]
async fn a_write_that_the_replica_took_and_never_answered_is_unknown() {
    let (port, mut batches) = Port::open(Clock::start());
    let server = Server::start(port, |_| {}).await;
    let mut client = server.connect().await;
    client.send("{\"type\":\"delete\",\"seq\":1,\"id\":1}\n{\"type\":\"get\",\"seq\":2,\"id\":1}\n").await;
    let batch = timeout(PATIENCE, batches.recv()).await.expect("a batch in time").unwrap();
    assert_eq!(batch.calls.len(), 2);
    drop((batch, batches));
    assert!(client.line().await.contains("\"re\":1,\"res\":503,\"code\":\"unknown\""));
    assert!(client.line().await.contains("\"re\":2,\"res\":503,\"code\":\"unavailable\""));
    assert_eq!(client.line().await, "");
    let mut late = server.connect().await;
    late.send("{\"type\":\"delete\",\"seq\":1,\"id\":1}\n").await;
    assert!(late.line().await.contains("\"code\":\"unavailable\""), "it never came to the replica");
    server.stop().await;
}

#[tokio::test]
async fn clients_that_take_all_connections_keep_no_replica_out() {
    let (_replica, port) = FakeReplica::start();
    let mut server = Server::start(port, |config| config.limits.connections = 2).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for client in [&mut one, &mut two] {
        client.send(&pings(1)).await;
        client.line().await;
    }
    let mut third = server.connect().await;
    third.send(&pings(1)).await;
    assert!(third.line().await.contains("\"res\":503,\"code\":\"unavailable\""));
    assert_eq!(third.line().await, "");

    let (mut other, _events) = links(&server.config, ReplicaId(0));
    let met =
        async { while !matches!(server.events.recv().await.unwrap(), LinkEvent::Met { peer: ReplicaId(0), .. }) {} };
    timeout(PATIENCE, met).await.expect("the replica gets in");
    timeout(PATIENCE, other.stop()).await.expect("its links stop");

    // A client that leaves makes room for another.
    drop(two);
    let admitted = async {
        loop {
            let mut next = server.connect().await;
            next.send(&pings(1)).await;
            if next.line().await.contains("pong") {
                return;
            }
        }
    };
    timeout(PATIENCE, admitted).await.expect("there is room again");
    drop(one);
    server.stop().await;
}

#[tokio::test]
async fn halves_of_requests_have_a_bound_together_and_short_requests_pass() {
    const HALF: usize = 80_000;
    let (replica, port) = FakeReplica::start();
    replica.fill(1, "b");
    let server = Server::start(port, |config| config.limits.unfinished_bytes = 100_000).await;
    let put = format!("{{\"type\":\"put\",\"id\":1,\"note\":{{\"title\":\"{}\"}}}}", "x".repeat(HALF));
    let frame = [&(put.len() as u32).to_be_bytes(), put.as_bytes()].concat();
    let line = format!("{put}\n").into_bytes();
    for whole in [frame, line] {
        let (half, rest) = whole.split_at(HALF);
        let (mut one, mut other) = (server.connect().await, server.connect().await);
        for client in [&mut one, &mut other] {
            client.0.get_mut().write_all(half).await.unwrap();
        }
        // Whichever is read last finds no room.
        let (refused, is_one) = tokio::select! {
            reply = one.object() => (reply, true),
            reply = other.object() => (reply, false),
        };
        assert!(
            refused.contains("\"res\":503,\"code\":\"unavailable\"") && refused.contains("not complete"),
            "{refused}"
        );
        let (gone, mut held) = if is_one { (one, other) } else { (other, one) };
        let mut short = server.connect().await;
        short.send(&pings(1)).await;
        assert!(short.line().await.contains("pong"), "who sends little is served meanwhile");
        held.0.get_mut().write_all(rest).await.unwrap();
        let done = held.object().await;
        assert!(done.contains("\"res\":200"), "{done}");
        // Its memory is free again, though the one that was refused is still there.
        let mut next = server.connect().await;
        next.0.get_mut().write_all(&whole).await.unwrap();
        assert!(next.object().await.contains("\"res\":200"));
        drop(gone);
    }
    server.stop().await;
}

#[tokio::test]
async fn random_bytes_are_answered_or_closed_and_harm_nobody() {
    let (_replica, port) = FakeReplica::start();
    let server = Server::start(port, |_| {}).await;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    println!("the bytes follow from {random:#x}");
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..8 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.extend_from_slice(&random.to_be_bytes());
        }
        // Half of them begin like frames, or lines.
        match random % 4 {
            0 => bytes[..4].copy_from_slice(&[0, 0, 0, 60]),
            1 => bytes[0] = b'{',
            _ => {}
        }
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    }
    let mut client = server.connect().await;
    client.send(&pings(1)).await;
    assert!(client.line().await.contains("pong"));
    drop(client);
    server.stop().await;
}
