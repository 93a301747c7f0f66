//! Links over real sockets, some through a proxy that cuts them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Decoder;

use super::*;
use crate::config::{Address, Mode, Secret};
use crate::net::{SystemNetwork, TcpListener, TcpStream};
use crate::protocol::codec;
use crate::protocol::ids::ReplicaId;
use crate::protocol::message::{Ack, Got, Hello, Message, Position};

mod proofs;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

const A: ReplicaId = ReplicaId(0);
const B: ReplicaId = ReplicaId(1);

fn config(addresses: &[SocketAddr]) -> Config {
    let replicas = addresses.iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
    Config::new(Mode::RemoteWrite, replicas, 9988)
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A replica's links without the replica: the test is its loop.
struct End {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    epoch: watch::Sender<Epoch>,
    accepting: JoinHandle<()>,
}

struct Setup {
    config: Config,
    me: ReplicaId,
    incarnation: u64,
    epoch: u64,
}

impl Setup {
    fn new(config: &Config, me: ReplicaId) -> Setup {
        let incarnation = 100 + u64::from(me.0);
        Setup { config: config.clone(), me, incarnation, epoch: 1 }
    }

    fn start(self, listener: TcpListener) -> End {
        let (sender, events) = mpsc::channel(16);
        let epoch = watch::Sender::new(Epoch(self.epoch));
        let config = LinkConfig {
            config: Arc::new(self.config),
            me: self.me,
            network: Arc::new(SystemNetwork),
            incarnation: Incarnation(self.incarnation),
            seed: 7,
            random: crate::random::Random::system(),
        };
        let mut links = Links::start(config, sender, epoch.subscribe());
        links.new_epoch(Epoch(self.epoch), |_| None);
        let acceptor = links.acceptor();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(first_frame(stream, acceptor.clone()));
            }
        });
        End { links, events, epoch, accepting }
    }
}

async fn first_frame(mut stream: TcpStream, acceptor: LinkAcceptor) {
    let mut input = bytes::BytesMut::new();
    let mut codec = codec::length_delimited();
    loop {
        if let Some(hello) = codec.decode(&mut input).unwrap() {
            return acceptor.accept(Box::new(stream), hello, input);
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

impl End {
    fn send(&mut self, to: ReplicaId, epoch: u64, n: u64) -> Sent {
        let frame = codec::encode(Epoch(epoch), &Message::from(Ack { n }));
        self.links.send(to, LinkKind::Data, frame)
    }

    async fn event(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("links that run")
    }

    /// The next event that `choose` makes something of.
    async fn wait<T>(&mut self, choose: impl Fn(LinkEvent) -> Option<T>) -> T {
        loop {
            if let Some(chosen) = choose(self.event().await) {
                return chosen;
            }
        }
    }

    async fn wait_up(&mut self, wanted: LinkKind) {
        self.wait(|event| matches!(event, LinkEvent::Up { kind, way: Way::Out, .. } if kind == wanted).then_some(()))
            .await;
    }

    /// Waits until everything is got and the data link has no connection.
    async fn wait_idle(&self, peer: ReplicaId) {
        let link = self.links.shared.outgoing(peer, LinkKind::Data).expect("a peer");
        let busy = || {
            let window = lock(&link.window);
            window.has_more() || window.is_awaiting() || window.is_connected()
        };
        let idle = async {
            while busy() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("the link has nothing to do");
    }

    /// The numbers of the next messages, until there are `count`.
    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            numbers.extend(self.wait(numbers_of).await);
        }
        numbers
    }

    async fn stop(mut self) {
        self.accepting.abort();
        timeout(PATIENCE, self.links.stop()).await.expect("links that stop");
    }
}

fn numbers_of(event: LinkEvent) -> Option<Vec<u64>> {
    let LinkEvent::Messages { envelopes, .. } = event else { return None };
    let number = |envelope: &Envelope| match &envelope.message {
        Message::Ack(ack) => ack.n,
        other => panic!("{other:?}"),
    };
    Some(envelopes.iter().map(number).collect())
}

/// Two ends that can reach each other.
async fn pair() -> (End, End) {
    pair_of(|_| {}).await
}

async fn pair_of(change: impl Fn(&mut Config)) -> (End, End) {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let mut config = config(&[a_address, b_address]);
    change(&mut config);
    (Setup::new(&config, A).start(a), Setup::new(&config, B).start(b))
}

#[tokio::test]
async fn frames_arrive_in_order_and_are_counted_on_their_connection() {
    let (mut a, mut b) = pair().await;
    a.wait_up(LinkKind::Data).await;
    let first = a.send(B, 1, 1);
    let second = a.send(B, 1, 2);
    assert_ne!(first.link, 0);
    assert_eq!((second.link, second.frame), (first.link, first.frame + 1));
    a.links.flush();
    assert_eq!(b.numbers(2).await, [1, 2]);
    let status = a.links.status();
    assert_eq!(status.len(), 2, "a control and a data link to the one peer");
    assert!(status.iter().any(|link| link.kind == "data" && link.up && link.frames == 2 && link.rtt_ms.is_some()));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_was_sent_before_the_peer_was_there_arrives() {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let mut a = Setup::new(&config, A).start(a);
    assert_eq!(a.send(B, 1, 1), Sent::default(), "there is no connection yet");
    a.links.flush();
    let mut b = Setup::new(&config, B).start(b);
    assert_eq!(b.numbers(1).await, [1]);
    a.stop().await;
    b.stop().await;
}

/// A simulated delay one way; so long that what a busy machine takes is no further leg.
const DELAY: Duration = Duration::from_millis(20);

/// What one frame takes under a simulated delay, the least of some.
async fn least_leg(links: LinkUse) -> Duration {
    least_leg_of(links, None).await
}

async fn least_leg_of(links: LinkUse, secret: Option<Secret>) -> Duration {
    let delayed = |config: &mut Config| {
        config.link_delay_us = DELAY.as_micros() as u64;
        config.links = links;
        config.secret = secret.clone();
    };
    let (mut a, mut b) = pair_of(delayed).await;
    // The first has to wait until the replicas have met.
    a.send(B, 1, 0);
    a.links.flush();
    b.numbers(1).await;
    let mut least = Duration::MAX;
    for n in 1..=10 {
        let started = Instant::now();
        a.send(B, 1, n);
        a.links.flush();
        assert_eq!(b.numbers(1).await, [n]);
        least = least.min(started.elapsed());
        while let Ok(_event) = a.events.try_recv() {}
        if links == LinkUse::PerFrame {
            // The next frame's connection waits until this one's is done.
            a.wait_idle(B).await;
        }
    }
    let round_trip = a.links.status().iter().filter_map(|link| link.rtt_ms).fold(f64::MAX, f64::min);
    assert!(round_trip >= 40.0, "a hello and its answer took {round_trip} ms");
    tokio::join!(a.stop(), b.stop());
    least
}

#[tokio::test]
async fn a_delayed_leg_takes_the_delay_and_a_dial_one_round_trip_more() {
    let legs = |legs: u32, took: Duration| (legs * DELAY..(legs + 1) * DELAY).contains(&took);
    let persistent = least_leg(LinkUse::Persistent).await;
    assert!(legs(1, persistent), "{persistent:?}");
    let per_frame = least_leg(LinkUse::PerFrame).await;
    assert!(legs(3, per_frame), "{per_frame:?}");
    let proved = least_leg_of(LinkUse::PerFrame, Some(proofs::secret())).await;
    assert!(legs(5, proved), "the hellos are a round trip of their own: {proved:?}");
}

#[tokio::test]
async fn stopping_writes_what_waits() {
    let (mut a, mut b) = pair().await;
    a.wait_up(LinkKind::Data).await;
    (1..=1000).for_each(|n| _ = a.send(B, 1, n));
    let (_, numbers) = tokio::join!(a.stop(), b.numbers(1000));
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    b.stop().await;
}

/// A small generator, so that a failure can be replayed.
struct Random(u64);

impl Random {
    fn from_environment() -> Random {
        let given = std::env::var("PRIMACY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x9e37_79b9);
        println!("replay with PRIMACY_TEST_SEED={seed}");
        Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Carries connections to `to`, and cuts each after a number of bytes that is drawn anew.
async fn cutting_proxy(listener: TcpListener, to: SocketAddr, mut random: Random, cuts: watch::Sender<u64>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(to).await else { continue };
        // The hellos are some 600 bytes; some connections do not survive them.
        let budget = 400 + random.below(20_000);
        let cuts = cuts.clone();
        tokio::spawn(async move {
            if carry_some(near, far, budget).await {
                cuts.send_modify(|count| *count += 1);
            }
        });
    }
}

/// Copies both ways; true where the budget ran out.
async fn carry_some(mut near: TcpStream, mut far: TcpStream, mut budget: u64) -> bool {
    let (mut forth, mut back) = ([0; 1500], [0; 1500]);
    loop {
        let (count, written) = tokio::select! {
            read = near.read(&mut forth) => match read {
                Ok(count @ 1..) => (count, far.write_all(&forth[..count.min(budget as usize)]).await),
                _ => return false,
            },
            read = far.read(&mut back) => match read {
                Ok(count @ 1..) => (count, near.write_all(&back[..count.min(budget as usize)]).await),
                _ => return false,
            },
        };
        if written.is_err() {
            return false;
        }
        budget = budget.saturating_sub(count as u64);
        if budget == 0 {
            return true;
        }
    }
}

/// Sends `count` frames from A to B through a proxy that keeps cutting, and expects each once and in order.
async fn cut_at_random(change: impl Fn(&mut Config), count: u64) -> u64 {
    let mut random = Random::from_environment();
    let ((a, a_address), (proxy, proxy_address), (b, b_address)) = (listen().await, listen().await, listen().await);
    let mut config = config(&[a_address, proxy_address]);
    change(&mut config);
    let cuts = watch::Sender::new(0);
    let proxying = Random(random.below(u64::MAX) | 1);
    let proxy = tokio::spawn(cutting_proxy(proxy, b_address, proxying, cuts.clone()));
    let mut a = Setup::new(&config, A).start(a);
    let mut b = Setup::new(&config, B).start(b);

    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < count as usize {
        // A turn of the loop puts a few frames, then lets the tasks run until there is something to see.
        for _ in 0..(1 + random.below(40)).min(count - sent) {
            sent += 1;
            a.send(B, 1, sent);
        }
        a.links.flush();
        while let Ok(_event) = a.events.try_recv() {}
        if sent == count || received.len() as u64 + 500 < sent {
            // A's events must be taken meanwhile, or its dialers wait.
            tokio::select! {
                numbers = b.wait(numbers_of) => received.extend(numbers),
                _ = a.event() => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
        while let Ok(event) = b.events.try_recv() {
            received.extend(numbers_of(event).unwrap_or_default());
        }
    }
    assert_eq!(received, (1..=count).collect::<Vec<_>>());
    let cuts = *cuts.borrow();
    proxy.abort();
    tokio::join!(a.stop(), b.stop());
    cuts
}

#[tokio::test]
async fn a_link_that_is_cut_again_and_again_carries_each_frame_once_and_in_order() {
    let cuts = cut_at_random(|_| {}, 5_000).await;
    assert!(cuts >= 10, "only {cuts} connections were cut; the test shows nothing");
}

#[tokio::test]
async fn so_does_one_that_is_used_per_frame() {
    cut_at_random(|config| config.links = LinkUse::PerFrame, 500).await;
}

#[tokio::test]
async fn frames_of_a_later_epoch_wait_for_it_and_so_does_what_follows() {
    let (mut a, mut b) = pair().await;
    a.send(B, 1, 1);
    a.links.flush();
    assert_eq!(b.numbers(1).await, [1]);
    a.links.new_epoch(Epoch(2), |_| None);
    a.send(B, 2, 2);
    a.send(B, 2, 3);
    a.links.flush();
    // The control link overtakes what waits.
    a.links.send(B, LinkKind::Control, codec::encode(Epoch(2), &Message::from(Ack { n: 99 })));
    a.links.flush();
    assert_eq!(b.numbers(1).await, [99]);
    let early = timeout(Duration::from_millis(100), b.wait(numbers_of)).await;
    assert!(early.is_err(), "the frame came before its epoch: {early:?}");
    b.epoch.send_replace(Epoch(2));
    assert_eq!(b.numbers(2).await, [2, 3]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_new_epoch_empties_the_link() {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let mut a = Setup::new(&config, A).start(a);
    (1..=5).for_each(|n| _ = a.send(B, 1, n));
    a.links.new_epoch(Epoch(2), |_| None);
    a.send(B, 2, 6);
    a.links.flush();
    let mut b = Setup { epoch: 2, ..Setup::new(&config, B) }.start(b);
    assert_eq!(b.numbers(1).await, [6]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn too_much_for_a_peer_that_is_away_resets_the_link_until_the_next_epoch() {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let mut a = Setup::new(&config, A).start(a);
    let frame = Bytes::from(vec![b' '; 8 * 1024 * 1024]);
    (0..9).for_each(|_| _ = a.links.send(B, LinkKind::Data, frame.clone()));
    let overflow = |event| matches!(event, LinkEvent::Overflow { peer: B, kind: LinkKind::Data }).then_some(());
    a.wait(overflow).await;
    a.send(B, 1, 1);
    a.links.new_epoch(Epoch(2), |_| None);
    a.send(B, 2, 2);
    a.links.flush();
    let mut b = Setup { epoch: 2, ..Setup::new(&config, B) }.start(b);
    assert_eq!(b.numbers(1).await, [2], "what came after the overflow and before the new epoch is not sent");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_reset_loses_nothing() {
    let (mut a, mut b) = pair().await;
    for n in 1..=50 {
        a.send(B, 1, n);
        a.links.flush();
        if n % 10 == 0 {
            a.links.reset(B);
            b.links.reset(A);
        }
    }
    assert_eq!(b.numbers(50).await, (1..=50).collect::<Vec<_>>());
    a.stop().await;
    b.stop().await;
}

/// A peer whose bytes the test writes itself.
struct Bare {
    stream: TcpStream,
    input: bytes::BytesMut,
    codec: tokio_util::codec::LengthDelimitedCodec,
}

impl Bare {
    async fn dial(to: SocketAddr) -> Bare {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Bare { stream, input: bytes::BytesMut::new(), codec: codec::length_delimited() }
    }

    async fn write(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.unwrap();
    }

    /// The next frame; none at the end.
    async fn read(&mut self) -> Option<String> {
        loop {
            if let Some(json) = self.codec.decode(&mut self.input).unwrap() {
                return Some(String::from_utf8(json.to_vec()).unwrap());
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("bytes in time") {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    /// Reads `got`s, each for more than the one before, until frame `n` is got.
    async fn got_all(&mut self, n: u64) {
        let mut last = 0;
        while last < n {
            let got: Got = serde_json::from_str(&self.read().await.unwrap()).unwrap();
            assert!(got.n > last && got.n <= n, "{got:?} after {last}");
            last = got.n;
        }
    }

    async fn numbered(&mut self, n: u64) {
        self.write(&codec::encode(Epoch(1), &Message::from(Ack { n }))).await;
    }
}

/// B's links, and a hello as A would say it.
async fn listening_b() -> (End, SocketAddr, Hello) {
    let ((b, b_address), (_a, a_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let hello = Hello {
        protocol: 1,
        from: a_address.to_string(),
        to: b_address.to_string(),
        incarnation: Incarnation(100),
        expects: None,
        kind: LinkKind::Data,
        settings: hello::settings(&config),
        next: Some(Position { epoch: Epoch(1), n: 1 }),
        got: None,
        nonce: None,
    };
    (Setup::new(&config, B).start(b), b_address, hello)
}

async fn greet(at: SocketAddr, hello: &Hello) -> (Bare, Option<String>) {
    let mut peer = Bare::dial(at).await;
    peer.write(&codec::encode_link("hello", hello)).await;
    let answer = peer.read().await;
    (peer, answer)
}

#[tokio::test]
async fn each_wrong_hello_is_refused_for_what_is_wrong_with_it() {
    let (b, at, good) = listening_b().await;
    let (_, answer) = greet(at, &Hello { kind: LinkKind::Control, ..good.clone() }).await;
    assert!(answer.unwrap().starts_with("{\"type\":\"hello\""));
    let wrong = |change: &dyn Fn(&mut Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        hello
    };
    let cases: [(&str, &str, Hello); 7] = [
        ("other_protocol", "version 2", wrong(&|hello| hello.protocol = 2)),
        ("misdirected", "you meant 10.0.0.1:5", wrong(&|hello| hello.to = "10.0.0.1:5".to_owned())),
        ("not_a_peer", "10.0.0.2:5 is not one of", wrong(&|hello| hello.from = "10.0.0.2:5".to_owned())),
        ("not_a_peer", "is not one of the other", wrong(&|hello| hello.from = hello.to.clone())),
        ("other_settings", "`sync` is local-write at", wrong(&|hello| hello.settings.sync = "local-write".to_owned())),
        ("other_settings", "`link_delay_ms` is 2.5 at", wrong(&|hello| hello.settings.link_delay_us = 2500)),
        ("other_incarnation", "I was restarted", wrong(&|hello| hello.expects = Some(Incarnation(1)))),
    ];
    for (code, msg, hello) in cases {
        let (mut peer, answer) = greet(at, &hello).await;
        let answer = answer.expect("an answer");
        assert!(answer.starts_with(&format!("{{\"type\":\"error\",\"res\":403,\"code\":\"{code}\"")), "{answer}");
        assert!(answer.contains(msg), "{answer}");
        assert_eq!(peer.read().await, None, "and the connection is closed");
    }
    let (_, answer) = greet(at, &wrong(&|hello| hello.next = Some(Position { epoch: Epoch(1), n: 7 }))).await;
    assert!(answer.unwrap().contains("\"gap\""), "frames 1 to 6 never came");
    b.stop().await;
}

#[tokio::test]
async fn a_new_connection_replaces_the_old_one_and_continues_behind_it() {
    let (mut b, at, hello) = listening_b().await;
    let (mut old, _) = greet(at, &hello).await;
    old.numbered(1).await;
    old.numbered(2).await;
    assert_eq!(b.numbers(2).await, [1, 2]);
    old.got_all(2).await;

    let (mut new, answer) = greet(at, &hello).await;
    assert!(answer.unwrap().contains("\"got\":{\"epoch\":1,\"n\":2}"));
    // Written before the close is seen; the frame belongs to no connection that counts.
    let _ = old.stream.write_all(&codec::encode(Epoch(1), &Message::from(Ack { n: 3 }))).await;
    new.numbered(3).await;
    new.numbered(4).await;
    assert_eq!(b.numbers(2).await, [3, 4], "once, and from the new connection");
    assert_eq!(old.read().await, None, "the old connection is closed");
    new.got_all(4).await;
    b.stop().await;
}

#[tokio::test]
async fn everything_is_got_in_the_end() {
    let (mut b, at, hello) = listening_b().await;
    let (mut peer, _) = greet(at, &hello).await;
    for n in 1..=64 {
        peer.numbered(n).await;
    }
    b.numbers(64).await;
    peer.got_all(64).await;
    b.stop().await;
}

#[tokio::test]
async fn a_restarted_peer_is_greeted_afresh() {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let mut a = Setup::new(&config, A).start(a);
    let b1 = Setup::new(&config, B).start(b);
    a.wait_up(LinkKind::Data).await;
    a.send(B, 1, 1);
    a.links.flush();
    b1.stop().await;
    a.send(B, 1, 2);

    let b = TcpListener::bind(b_address).await.unwrap();
    let mut b2 = Setup { incarnation: 999, ..Setup::new(&config, B) }.start(b);
    let met = |event| matches!(event, LinkEvent::Met { peer: B, incarnation: Incarnation(999) }).then_some(());
    a.wait(met).await;
    a.send(B, 1, 3);
    a.links.flush();
    assert_eq!(b2.numbers(1).await, [3], "what waited for the old incarnation is gone");
    a.stop().await;
    b2.stop().await;
}

#[tokio::test]
async fn what_a_view_has_for_an_incarnation_that_is_not_met_yet_arrives() {
    let ((a, a_address), (b, b_address)) = (listen().await, listen().await);
    let config = config(&[a_address, b_address]);
    let mut a = Setup::new(&config, A).start(a);
    let b1 = Setup::new(&config, B).start(b);
    a.wait_up(LinkKind::Data).await;
    b1.stop().await;
    a.links.new_epoch(Epoch(2), |_| Some(Incarnation(999)));
    a.send(B, 2, 1);
    a.links.flush();

    let b = TcpListener::bind(b_address).await.unwrap();
    let mut b2 = Setup { incarnation: 999, epoch: 2, ..Setup::new(&config, B) }.start(b);
    assert_eq!(b2.numbers(1).await, [1], "it was sent to this incarnation, before any hello of it");
    a.stop().await;
    b2.stop().await;
}
