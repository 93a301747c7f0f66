//! Primacy beside Redis in one run: `cargo bench --bench redis`.
//!
//! Needs `redis-server` and `redis-cli`. Four servers of either kind hold each note of 250 bytes: Primacy's replicas in
//! one process as `primacy` runs them, Redis' primary and three replicas, asked by `WAIT 3`. Durable means that all four
//! have synced a write before it is answered (`appendfsync always`). The load is a closed loop on one thread of the same
//! machine. Servers take turns, round by round, so that what else the machine does falls on all alike; the figures are
//! the medians of the rounds. Two more comparisons set 1,000,000 notes beside 1,000, without Redis.

mod load;
mod servers;
mod speech;

use std::time::Duration;

use load::{Load, Measured, fill, run};
use servers::{SERVERS, Servers};
use speech::{Act, Speech};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(3);

/// Notes that are asked for, and that are there.
const NOTES: u64 = 1_024;

/// Notes where there are many.
const MANY_NOTES: u64 = 1_000_000;

/// Requests under way on each connection that pipelines.
const DEPTH: usize = 16;

/// What is compared, with the first of its runs.
struct Comparison {
    what: &'static str,
    durable: bool,
    act: Act,
    connections: usize,
    runs: &'static [Run],
    /// By the median latency, not by the rate.
    by_latency: bool,
}

/// One kind of server, and how it is asked.
#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    server: Server,
    depth: usize,
    notes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Redis,
    Http(&'static str),
    Frames(&'static str),
}

const REDIS: Run = Run { name: "Redis", server: Server::Redis, depth: 1, notes: NOTES };
const HTTP: [Run; 2] = [
    Run { name: "remote-write, HTTP", server: Server::Http("remote-write"), depth: 1, notes: NOTES },
    Run { name: "local-write, HTTP", server: Server::Http("local-write"), depth: 1, notes: NOTES },
];
const FRAMES: Run =
    Run { name: "remote-write, frames", server: Server::Frames("remote-write"), depth: 1, notes: NOTES };
const PIPELINED: Run = Run { name: "remote-write, frames, 16 under way", depth: DEPTH, ..FRAMES };
const REDIS_PIPELINED: Run = Run { name: "Redis, 16 under way", depth: DEPTH, ..REDIS };

const MANY: Run = Run { name: "remote-write, HTTP, 1,000,000 notes", notes: MANY_NOTES, ..HTTP[0] };

const COMPARISONS: [Comparison; 7] = [
    Comparison {
        what: "durable writes, one client",
        durable: true,
        act: Act::Write,
        connections: 1,
        runs: &[REDIS, HTTP[0], HTTP[1]],
        by_latency: true,
    },
    Comparison {
        what: "durable writes, 64 clients",
        durable: true,
        act: Act::Write,
        connections: 64,
        runs: &[REDIS, HTTP[0], HTTP[1]],
        by_latency: false,
    },
    Comparison {
        what: "writes in memory, one client",
        durable: false,
        act: Act::Write,
        connections: 1,
        runs: &[REDIS, FRAMES],
        by_latency: true,
    },
    Comparison {
        what: "writes in memory, 64 clients",
        durable: false,
        act: Act::Write,
        connections: 64,
        runs: &[REDIS, HTTP[0], HTTP[1], PIPELINED],
        by_latency: false,
    },
    Comparison {
        what: "reads, 64 clients",
        durable: false,
        act: Act::Read,
        connections: 64,
        runs: &[REDIS_PIPELINED, PIPELINED],
        by_latency: false,
    },
    Comparison {
        what: "durable writes among many notes, one client",
        durable: true,
        act: Act::Write,
        connections: 1,
        runs: &[HTTP[0], MANY],
        by_latency: true,
    },
    Comparison {
        what: "writes in memory among many notes, 64 clients",
        durable: false,
        act: Act::Write,
        connections: 64,
        runs: &[HTTP[0], MANY],
        by_latency: false,
    },
];

fn main() {
    // `cargo test --benches` runs this too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for comparison in COMPARISONS.iter().filter(|it| only.as_ref().is_none_or(|only| it.what.contains(only))) {
        println!("{}:", comparison.what);
        let mut rounds: Vec<Vec<Measured>> = comparison.runs.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            comparison.runs.iter().zip(&mut rounds).for_each(|(run, rounds)| rounds.push(measure(comparison, *run)));
        }
        show(comparison, &rounds);
    }
}

fn show(comparison: &Comparison, rounds: &[Vec<Measured>]) {
    let figure = |it: &Measured| if comparison.by_latency { it.p50 } else { it.rate };
    for (run, measured) in comparison.runs.iter().zip(rounds) {
        let ratio = median(measured.iter().zip(&rounds[0]).map(|(ours, first)| figure(ours) / figure(first)));
        println!(
            "  {:<36} {:>9.0}/s  p50 {:>6.0} µs  {}{ratio:.2}",
            run.name,
            median(measured.iter().map(|it| it.rate)),
            median(measured.iter().map(|it| it.p50)),
            if comparison.by_latency { "p50 × " } else { "rate × " },
        );
    }
}

fn measure(comparison: &Comparison, run_: Run) -> Measured {
    let (servers, speech, targets) = match run_.server {
        Server::Redis => {
            let servers = Servers::redis(comparison.durable);
            let targets = vec![servers.address(0)];
            (servers, Speech::Redis { replicas: SERVERS - 1 }, targets)
        }
        Server::Http(mode) => {
            let servers = Servers::primacy(mode, comparison.durable);
            let targets = (0..SERVERS).map(|place| servers.service(place)).collect();
            (servers, Speech::Http, targets)
        }
        Server::Frames(mode) => {
            let servers = Servers::primacy(mode, comparison.durable);
            let targets = (0..SERVERS).map(|place| servers.address(place)).collect();
            (servers, Speech::Frames, targets)
        }
    };
    let mut load = Load {
        speech,
        act: comparison.act,
        targets,
        connections: comparison.connections,
        depth: run_.depth,
        notes: run_.notes,
    };
    if run_.server == Server::Redis {
        let fill = Load { act: Act::Write, connections: 16, depth: 1, ..load.clone() };
        run(&fill, Duration::from_millis(500));
    } else {
        fill(servers.address(0), run_.notes);
    }
    // One client writes where it was told that the note's primary is.
    load.targets.truncate(load.connections);
    run(&load, TIME)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
