//! Throws changed requests at a running HTTP listener, and checks what comes back.
//!
//! ```text
//! cargo run --release --example fuzz_http -- --seconds 600
//! cargo run --release --example fuzz_http -- --address 127.0.0.1:9988 --seed 7
//! ```
//!
//! It is for a whole listener under load, over sockets: memory, hanging, answers to the wrong client. `fuzz/` has the
//! targets that look into parsers, guided by what code an input reaches.
//!
//! Each connection sends a few whole requests, then some that were changed at random, and at last asks for a note whose
//! number is its own, the marker. It checks that
//!
//! * every answer is well-formed, and the whole requests are all answered;
//! * nothing follows an answer that closes the connection: what stands behind a refused message is never answered, and
//!   in this process the marker is never asked of the replica either;
//! * the connection ends once the client has ended its side, and others are served all the while;
//! * this process's memory does not grow.

mod answers;
mod input;
mod replica;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use primacy::config::{Config, LogStyle, Mode};
use primacy::http::{Service, serve};
use primacy::protocol::ids::ReplicaId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use input::{Draw, Talk};
use replica::{MARKERS, Seen};

/// Past this a connection hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the memory is looked at.
const SAMPLES: u32 = 20;

/// What the memory may grow by from the second quarter of the time to the last, in KiB; allocators keep some.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// Throws changed requests at an HTTP listener, and checks what comes back.
#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Which random numbers; drawn where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Connections at one time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// A listener that runs already; otherwise one is started, with a replica behind it that keeps nothing.
    #[arg(long)]
    address: Option<SocketAddr>,
}

/// What one connection came to.
struct Report {
    seed: u64,
    statuses: Vec<u16>,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let drawn = || getrandom::u64().map(|seed| seed >> 16).map_err(|error| format!("no random numbers: {error}"));
    let seed = arguments.seed.map_or_else(drawn, Ok)?;
    println!("again with --seed {seed}");
    let seen = Seen::default();
    let (address, seen) = match arguments.address {
        Some(address) => (address, None),
        None => (start_listener(seen.clone()), Some(seen)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(fuzz(&arguments, seed, address, seen))
}

/// Starts a listener on a thread of its own, as a replica has it.
fn start_listener(seen: Seen) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            sender.send(listener.local_addr().expect("an address")).expect("main waits");
            let mut config = Config::new(Mode::RemoteWrite, vec!["localhost:1".parse().expect("an address")], 0);
            config.log = LogStyle::Off;
            let service = Service::new(replica::start(seen), Arc::new(config), ReplicaId(0));
            let (_running, stop) = watch::channel(false);
            serve(listener, Arc::new(service), stop).await;
        });
    });
    receiver.recv().expect("the listener begins")
}

async fn fuzz(arguments: &Arguments, seed: u64, address: SocketAddr, seen: Option<Seen>) -> Result<(), String> {
    let began = Instant::now();
    let length = Duration::from_secs(arguments.seconds);
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut talks, mut memory) = (0_u64, Vec::new());
    let mut open = JoinSet::new();
    while began.elapsed() < length || !open.is_empty() {
        while began.elapsed() < length && open.len() < arguments.connections {
            open.spawn(hold_talk(address, seed.wrapping_add(talks), seen.clone()));
            talks += 1;
        }
        let Some(ended) = open.join_next().await else { break };
        let report = ended.map_err(|error| error.to_string())??;
        for status in report.statuses {
            *statuses.entry(status).or_default() += 1;
        }
        if report.seed.wrapping_sub(seed).is_multiple_of(1000) {
            serves(address).await?;
        }
        if began.elapsed() > length / SAMPLES * memory.len() as u32 {
            memory.extend(memory_kib());
        }
    }
    serves(address).await?;
    println!("{talks} connections in {:.0} s; answers by status: {statuses:?}", began.elapsed().as_secs_f64());
    check_memory(&memory)
}

/// Compares the least of the second quarter of the time with that of the last: the peaks are the connections'.
fn check_memory(samples: &[u64]) -> Result<(), String> {
    println!("memory in KiB over the time: {samples:?}");
    let quarter = samples.len() / 4;
    let least = |samples: &[u64]| samples.iter().min().copied().unwrap_or_default();
    let (early, late) = (least(&samples[quarter..2 * quarter]), least(&samples[3 * quarter..]));
    match late > early + GROWTH_KIB_MAX {
        true => Err(format!("the memory grew by {} KiB", late - early)),
        false => Ok(()),
    }
}

/// This process's resident memory, on Linux.
fn memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// An ordinary client is served.
async fn serves(address: SocketAddr) -> Result<(), String> {
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (bytes, _) = exchange(address, request, &mut Draw::new(1)).await?;
    let answers = answers::read_all(&bytes)?;
    match answers.as_slice() {
        [answer] if answer.status == 200 => Ok(()),
        _ => Err(format!("an ordinary client is answered {answers:?}")),
    }
}

async fn hold_talk(address: SocketAddr, seed: u64, seen: Option<Seen>) -> Result<Report, String> {
    let draw = &mut Draw::new(seed);
    let marker = MARKERS + seed % MARKERS;
    let talk = input::talk(draw, marker);
    let statuses = judge(address, &talk, marker, seen, draw)
        .await
        .map_err(|fault| format!("{fault}\nfor --seed {seed}, which sent\n{}", talk.bytes.escape_ascii()))?;
    Ok(Report { seed, statuses })
}

async fn judge(
    address: SocketAddr,
    talk: &Talk,
    marker: u64,
    seen: Option<Seen>,
    draw: &mut Draw,
) -> Result<Vec<u16>, String> {
    let (bytes, complete) = exchange(address, &talk.bytes, draw).await?;
    let reached = seen.is_some_and(|seen| seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&marker));
    if !complete {
        return Ok(Vec::new());
    }
    let answers = answers::read_all(&bytes)?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if statuses.len() < talk.whole || statuses[..talk.whole].iter().any(|status| *status != 200) {
        return Err(format!("the {} whole requests are answered {statuses:?}", talk.whole));
    }
    let answered = |answer: &answers::Answer| {
        let body = String::from_utf8_lossy(&answer.body);
        answer.status == 404 && body.contains(&format!("there is no note {marker}\""))
    };
    let told = answers.iter().position(answered);
    match told {
        Some(place) if place + 1 < answers.len() => Err(format!("{statuses:?}: something follows the last request")),
        None if reached => Err(format!("{statuses:?}: the last request was carried out, and is not answered")),
        _ => Ok(statuses),
    }
}

/// Sends all bytes, in one piece or in several, ends this side, and reads until the other ends, too. False where the
/// connection was reset, or given up on purpose.
async fn exchange(address: SocketAddr, bytes: &[u8], draw: &mut Draw) -> Result<(Vec<u8>, bool), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let pieces = draw.below(4);
    let gives_up = draw.below(16) == 1;
    let (mut reader, mut writer) = stream.into_split();
    let send = async {
        let mut rest = bytes;
        for _ in 0..pieces {
            let (piece, behind) = rest.split_at(draw.below(rest.len() + 1));
            if writer.write_all(piece).await.is_err() {
                return false;
            }
            tokio::task::yield_now().await;
            rest = behind;
        }
        if gives_up || writer.write_all(rest).await.is_err() {
            return false;
        }
        // Where the server has closed, its answer is there all the same.
        let _ = writer.shutdown().await;
        true
    };
    if gives_up {
        send.await;
        return Ok((Vec::new(), false));
    }
    let mut answer = Vec::new();
    let both = async { tokio::join!(send, reader.read_to_end(&mut answer)) };
    let (sent, read) = timeout(PATIENCE, both).await.map_err(|_| "the connection does not end")?;
    // A reset is reported once: a write that hears of it leaves the read an end that looks like any other.
    Ok((answer, sent && read.is_ok()))
}
