//! How exact the simulated delay between replicas is: `cargo bench --bench delay`.
//!
//! Two ends of a link, each in a thread as a replica's is, on a machine that should be idle. One end sends a frame, the
//! other notes when it has it, and answers by a channel. What is shown is how much later than the delay a frame came,
//! beside what a leg without any delay takes, since no delay makes that less; there the ends pause as long between two
//! frames, for who has slept longer takes longer to wake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hdrhistogram::Histogram;
use primacy::clock::ExactTimer;
use primacy::config::{Address, Config, Mode};
use primacy::link::{LinkAcceptor, LinkConfig, LinkEvent, Links};
use primacy::net::{SystemNetwork, TcpListener, TcpStream};
use primacy::protocol::codec;
use primacy::protocol::ids::{Epoch, Incarnation, ReplicaId};
use primacy::protocol::message::{Ack, LinkKind, Message};
use primacy::random::Random;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::codec::Decoder as _;

/// One way, in µs.
const DELAYS_US: [u64; 3] = [500, 5_000, 20_000];

/// How long each delay is measured, at least 200 legs.
const TIME: Duration = Duration::from_secs(5);
const LEGS_MIN: u64 = 200;

const EPOCH: Epoch = Epoch(1);

fn main() {
    // `cargo test --benches` runs this too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("later than the delay, in µs:                legs    p50    p90    p99    max");
    for delay_us in DELAYS_US {
        for (delay_us, pause_us) in [(0, delay_us), (delay_us, 0)] {
            print(delay_us, pause_us, &measure(delay_us, Duration::from_micros(pause_us)));
        }
    }
}

/// One line.
fn print(delay_us: u64, pause_us: u64, late: &Histogram<u64>) {
    let ms = |us| us as f64 / 1e3;
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|quantile| late.value_at_quantile(quantile) as f64 / 1e3);
    let name = match delay_us {
        0 => format!("without, {} ms after the last", ms(pause_us)),
        _ => format!("{} ms one way", ms(delay_us)),
    };
    let (legs, max) = (late.len(), late.max() as f64 / 1e3);
    println!("{name:>40} {legs:>7} {p50:>6.0} {p90:>6.0} {p99:>6.0} {max:>6.0}");
}

/// By how many ns legs are late, each sent so long after the one before had come.
fn measure(delay_us: u64, pause: Duration) -> Histogram<u64> {
    let runtime = runtime();
    let [near, far] = [0, 1].map(|_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port"));
    let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
    let mut config = Config::new(Mode::RemoteWrite, [&near, &far].map(address).map(replica).to_vec(), 9988);
    config.link_delay_us = delay_us;
    let far = far.into_std().expect("a listener can leave its runtime");
    let (came, mut arrivals) = mpsc::channel(1);
    let other = config.clone();
    let thread = std::thread::spawn(move || {
        runtime_of_far_end(far, other, came);
    });
    let late = runtime.block_on(async {
        let (mut links, _events) = start(near, config, ReplicaId(0));
        let mut late = Histogram::new(3).expect("three digits are a valid precision");
        let (begun, delay) = (Instant::now(), Duration::from_micros(delay_us));
        // The first frame waits until the ends have met.
        let mut n = 0;
        let mut timer = ExactTimer::default();
        while n <= LEGS_MIN || begun.elapsed() < TIME {
            if !pause.is_zero() {
                timer.until(tokio::time::Instant::now() + pause).await;
            }
            let sent = Instant::now();
            links.send(ReplicaId(1), LinkKind::Data, codec::encode(EPOCH, &Message::from(Ack { n })));
            links.flush();
            let arrived: Instant = arrivals.recv().await.expect("the other end runs");
            if n > 0 {
                late.record((arrived - sent).saturating_sub(delay).as_nanos() as u64).expect("any u64 can be recorded");
            }
            n += 1;
        }
        links.stop().await;
        late
    });
    drop(arrivals);
    thread.join().expect("the other end stops once its channel is closed");
    late
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn replica(address: SocketAddr) -> Address {
    Address::new(address.ip().to_string(), address.port())
}

/// Says when each frame came, until nobody listens.
fn runtime_of_far_end(listener: std::net::TcpListener, config: Config, came: mpsc::Sender<Instant>) {
    runtime().block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listener can enter a runtime");
        let (mut links, mut events) = start(listener, config, ReplicaId(1));
        loop {
            tokio::select! {
                event = events.recv() => if let Some(LinkEvent::Messages { kind: LinkKind::Data, .. }) = event {
                    let _ = came.send(Instant::now()).await;
                },
                () = came.closed() => break,
            }
        }
        links.stop().await;
    });
}

fn start(listener: TcpListener, config: Config, me: ReplicaId) -> (Links, mpsc::Receiver<LinkEvent>) {
    let (sender, events) = mpsc::channel(1024);
    let incarnation = Incarnation(1 + u64::from(me.0));
    let (config, network) = (Arc::new(config), Arc::new(SystemNetwork));
    let config = LinkConfig { config, me, network, incarnation, seed: 7, random: Random::system() };
    let (_, epoch) = watch::channel(EPOCH);
    let mut links = Links::start(config, sender, epoch);
    links.new_epoch(EPOCH, |_| None);
    let acceptor = links.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(greet(stream, acceptor.clone()));
        }
    });
    (links, events)
}

async fn greet(mut stream: TcpStream, acceptor: LinkAcceptor) {
    let (mut input, mut codec) = (BytesMut::new(), codec::length_delimited());
    loop {
        if let Some(hello) = codec.decode(&mut input).expect("a hello is a frame") {
            return acceptor.accept(Box::new(stream), hello, input);
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}
