//! A closed loop: connections that each keep so many requests under way, all on one thread, so that the servers have
//! what is left of the cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::speech::{Act, Speech};

/// Bytes of a note, as JSON.
const NOTE_BYTES: usize = 250;

/// From one note to the next that is asked for: far, so that many notes are far more than a cache holds. A prime, so that it
/// comes past all of them.
const STRIDE: u64 = 7_919;

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) speech: Speech,
    pub(crate) act: Act,
    /// Connections go to these in turn.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) connections: usize,
    /// Requests that each connection sends at once; it waits for all their replies.
    pub(crate) depth: usize,
    /// Notes that it asks for, from 1.
    pub(crate) notes: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Replies a second.
    pub(crate) rate: f64,
    /// Of a connection's requests until their replies, in µs.
    pub(crate) p50: f64,
}

/// Runs it for so long, after a tenth of that to warm up.
pub(crate) fn run(load: &Load, time: Duration) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (counts, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let tasks: Vec<_> = (0..load.connections)
            .map(|place| tokio::spawn(ask(load.clone(), place, counts.clone(), ends.clone())))
            .collect();
        tokio::time::sleep(time / 10).await;
        counts.store(true, Ordering::Relaxed);
        let began = Instant::now();
        tokio::time::sleep(time).await;
        ends.store(true, Ordering::Relaxed);
        let took = began.elapsed().as_secs_f64();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("a connection's task goes on"));
        }
        times.sort_unstable();
        let p50 = times.get(times.len() / 2).map_or(f64::NAN, |time| f64::from(*time) / 1e3);
        Measured { rate: (times.len() * load.depth) as f64 / took, p50 }
    })
}

/// Makes so many notes over frames, many at once; their ids are 1 and up where there were none.
pub(crate) fn fill(target: SocketAddr, notes: u64) {
    const CONNECTIONS: u64 = 16;
    const DEPTH: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fill = async |mut left: u64| {
        let mut stream = TcpStream::connect(target).await.expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        let (note, mut out, mut input) = (note(0), Vec::new(), Vec::new());
        while left > 0 {
            let depth = left.min(DEPTH);
            out.clear();
            (0..depth).for_each(|place| Speech::Frames.ask(&mut out, Act::Make, place, &note));
            stream.write_all(&out).await.expect("the server reads");
            replies(Speech::Frames, Act::Make, depth as usize, &mut stream, &mut input).await;
            left -= depth;
        }
    };
    let parts = (0..CONNECTIONS).map(|place| fill(notes / CONNECTIONS + u64::from(place < notes % CONNECTIONS)));
    runtime.block_on(futures::future::join_all(parts));
}

/// One connection's part: how long each round took, in ns.
async fn ask(load: Load, place: usize, counts: Arc<AtomicBool>, ends: Arc<AtomicBool>) -> Vec<u32> {
    let target = load.targets[place % load.targets.len()];
    let mut stream = TcpStream::connect(target).await.expect("the server listens");
    stream.set_nodelay(true).expect("an open socket");
    let note = note(place);
    // Each connection has notes of its own where there are enough.
    let own = (load.notes / load.connections as u64).max(1);
    let (mut out, mut input, mut times, mut next) = (Vec::new(), Vec::new(), Vec::new(), 0);
    while !ends.load(Ordering::Relaxed) {
        out.clear();
        for _ in 0..load.depth {
            next = (next + STRIDE) % own;
            load.speech.ask(&mut out, load.act, 1 + (place as u64 * own + next) % load.notes, &note);
        }
        let began = Instant::now();
        stream.write_all(&out).await.expect("the server reads");
        replies(load.speech, load.act, load.depth, &mut stream, &mut input).await;
        if counts.load(Ordering::Relaxed) {
            times.push(began.elapsed().as_nanos() as u32);
        }
    }
    times
}

/// Reads until the replies of one round are there.
async fn replies(speech: Speech, act: Act, depth: usize, stream: &mut TcpStream, input: &mut Vec<u8>) {
    let (mut at, mut missing) = (0, depth);
    loop {
        match speech.reply(act, &input[at..]) {
            Ok(Some(length)) => (at, missing) = (at + length, missing - 1),
            Ok(None) => assert_ne!(stream.read_buf(input).await.expect("the server answers"), 0, "the server closed"),
            Err(reply) => panic!("the server said {reply}"),
        }
        if missing == 0 {
            assert_eq!(at, input.len(), "the server said more than it was asked");
            return input.clear();
        }
    }
}

/// A note of [`NOTE_BYTES`], another one for each connection.
pub(crate) fn note(place: usize) -> String {
    let title = format!("note {place:04}");
    let rest = NOTE_BYTES - format!("{{\"title\":\"{title}\",\"body\":\"\"}}").len();
    format!("{{\"title\":\"{title}\",\"body\":\"{}\"}}", "x".repeat(rest))
}
