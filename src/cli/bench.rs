//! `primacy bench`: its flags.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use primacy::bench::{
    self, Access, CONNECTIONS_MAX, Comparison, Effort, Options, RunResult, Spoken, Target, Threshold, Wishes,
};
use primacy::client::Token;
use primacy::protocol::ids::REPLICAS_MAX;

use super::call::{self, CallError};
use super::run::{Failure, runtime};
use super::signals;

/// What help says at its end.
pub(super) const AFTER_HELP: &str = "\
Scenarios are named MODE/WORK, then what differs from a durable cluster with kept connections and no delay:
  remote-write/primary                 PUT at the primary: 1 round trip
  remote-write/backup/5ms              PUT at a backup, 5 ms one way between replicas: 2 round trips
  remote-write/anywhere/5ms            PUT at every replica alike
  local-write/item-primary             PUT at the item's primary: 1
  local-write/elsewhere                PUT at another replica, which takes the item over: 2
  local-write/25%/5ms                  25 of 100 PUTs at the item's primary
  local-write/read                     GET at every replica alike: 0
  remote-write/primary/per-frame/5ms   a connection between replicas for each turn's frames: 3 instead of 1
  remote-write/primary/memory          nothing on disk
  remote-write/primary/new-connections a client connection for each request
  remote-write/primary/frames          by frames instead of HTTP, through the client library
  remote-write/primary/64-clients      closed loop: 64 clients, each asks again once it is answered
  remote-write/primary/memory/frames/keys/1-client/128-in-flight
                                       one connection that always has 128 requests on its way; keys: each write has an
                                       idempotency key, as the client library gives it one
Without …client…, requests are sent at a rate, answered or not, and latency counts from when each was meant to start.

--fail-if 'NAME METRIC SIGN VALUE' ends with exit code 3 where it holds for a scenario of that name; * stands for any text.
  METRIC: p50 p90 p99 p99.9 max mean (VALUE with us, ms or s), rate (per s), errors, round-trips; SIGN: < <= > >=
  primacy bench --quick --fail-if 'remote-write/primary p90 > 5ms' --fail-if '*/5ms round-trips > 2.1'

Exit codes: 0 done, 1 failed or wrong data found, 2 usage, 3 a threshold was missed.";

/// The arguments of `primacy bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    flags: BenchFlags,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Compare two results: ratios, and which of them may be noise
    Compare {
        /// A result.json, or the folder that --out made
        a: PathBuf,
        /// Another one
        b: PathBuf,
    },
}

#[derive(Debug, Args)]
struct BenchFlags {
    /// Only what theory tells apart, in about half a minute
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All combinations, in about a quarter of an hour
    #[arg(long)]
    full: bool,
    /// What clients speak; without it HTTP, and frames beside it where there is no link delay
    #[arg(long, value_name = "SPEECH")]
    by: Option<By>,
    /// Scenarios to run, by name; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Seconds of each scenario in each round [default: 0.7, with a delay 0.4; more where few requests would be sent]
    #[arg(long, value_name = "S", value_parser = |text: &str| within(text, 0.01, 3600.0))]
    duration: Option<f64>,
    /// How often each scenario is run [default: 3, with --full 5]
    #[arg(long, value_name = "N", value_parser = |text: &str| within(text, 1_usize, 1000))]
    rounds: Option<usize>,
    /// Requests a second of the open loops [default: 500, less where links are per-frame]
    #[arg(long, value_name = "N", value_parser = |text: &str| within(text, 0.1, 1_000_000.0))]
    rate: Option<f64>,
    /// Clients of the closed loops, and the most connections of the open ones [default: 64]
    #[arg(long, value_name = "N", value_parser = |text: &str| within(text, 1, CONNECTIONS_MAX))]
    connections: Option<usize>,
    /// Simulated delays one way between replicas [default: 0,5,20, with --quick 0,5]
    #[arg(long, value_name = "MS,…", value_delimiter = ',', value_parser = |text: &str| within(text, 0.0, 500.0))]
    delays: Option<Vec<f64>>,
    /// Replicas of each cluster
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = |text: &str| within(text, 2, REPLICAS_MAX))]
    replicas: usize,
    /// Size of a note's JSON
    #[arg(long, value_name = "BYTES", default_value_t = 250, value_parser = |text: &str| within(text, 64_usize, 1_000_000))]
    note_bytes: usize,
    /// Measure a cluster that runs: the HTTP services of all its replicas. Frames go to the replicas' own addresses, which
    /// the services tell
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', conflicts_with_all = ["delays", "replicas", "data"])]
    target: Vec<String>,
    /// File with the token to show, the first one in it, where the target asks for one
    #[arg(long, value_name = "FILE", requires = "target")]
    token_file: Option<PathBuf>,
    /// File with the certificates of those who may have signed the target's, where it speaks TLS
    #[arg(long, value_name = "FILE", requires = "target")]
    ca: Option<PathBuf>,
    /// Where own clusters keep their data while they run [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Write report.html, result.json and histograms.hlog there
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// End with exit code 3 where this holds
    #[arg(long, value_name = "EXPR")]
    fail_if: Vec<Threshold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// HTTP to the services
    Http,
    /// Frames to the replicas' addresses
    Frames,
}

/// A number between two bounds.
fn within<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(value) if (&least..=&most).contains(&&value) => Ok(value),
        _ => Err(format!("write a number from {least} to {most}")),
    }
}

impl BenchFlags {
    fn options(&self) -> Result<Options, CallError> {
        let us = |ms: &f64| (ms * 1000.0).round() as u64;
        Ok(Options {
            effort: match (self.quick, self.full) {
                (true, _) => Effort::Quick,
                (_, true) => Effort::Full,
                _ => Effort::Normal,
            },
            wishes: Wishes {
                window: self.duration.map(Duration::from_secs_f64),
                rounds: self.rounds,
                per_s: self.rate,
                connections: self.connections,
                delays_us: self.delays.as_ref().map(|delays| delays.iter().map(us).collect()),
                by: match self.by {
                    None => Spoken::Both,
                    Some(By::Http) => Spoken::Http,
                    Some(By::Frames) => Spoken::Frames,
                },
                only: self.only.clone(),
            },
            replicas: self.replicas,
            note_bytes: self.note_bytes,
            target: self.target()?,
            data: self.data.clone().unwrap_or_else(env::temp_dir),
            thresholds: self.fail_if.clone(),
        })
    }

    fn target(&self) -> Result<Option<Target>, CallError> {
        if self.target.is_empty() {
            return Ok(None);
        }
        let token = call::token_in(self.token_file.as_ref())?.map(Token::from);
        let access = Access { token, authority: call::authority_in(self.ca.as_ref())? };
        Ok(Some(Target { services: self.target.clone(), access }))
    }
}

/// Does what the arguments ask for.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    match &args.command {
        Some(BenchCommand::Compare { a, b }) => {
            print(&Comparison::of(&RunResult::read(a)?, &RunResult::read(b)?).to_string())
        }
        None => measure(&args.flags),
    }
}

fn measure(flags: &BenchFlags) -> Result<(), Failure> {
    let options = flags.options()?;
    let outcome = runtime()?.block_on(async {
        let stop = signals::interrupt().map_err(Failure::Start)?;
        Ok::<_, Failure>(bench::run(&options, stop).await?)
    })?;
    print(&outcome.table())?;
    if let Some(folder) = &flags.out {
        outcome.write(folder)?;
    }
    let missed: Vec<String> = options
        .thresholds
        .iter()
        .flat_map(|threshold| threshold.missed(&outcome.result))
        .map(|missed| missed.to_string())
        .collect();
    match (outcome.result.is_consistent(), missed.is_empty()) {
        (false, _) => Err(Failure::WrongData),
        (true, false) => Err(Failure::Missed(missed.join("\n  "))),
        (true, true) => Ok(()),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Stdout)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    fn parse(args: &[&str]) -> Result<BenchArgs, clap::Error> {
        match Args::try_parse_from([&["primacy", "bench"], args].concat())?.command {
            Some(Command::Bench(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_options() {
        let args = parse(&["--quick", "--delays", "0,2.5", "--duration", "0.2", "--fail-if", "a p99 > 5ms"]).unwrap();
        let options = args.flags.options().unwrap();
        assert_eq!(options.effort, Effort::Quick);
        assert_eq!(options.wishes.delays_us, Some(vec![0, 2_500]));
        assert_eq!(options.wishes.window, Some(Duration::from_millis(200)));
        assert_eq!(options.thresholds, ["a p99 > 5ms".parse().unwrap()]);
        assert!(parse(&["compare", "a", "b"]).unwrap().command.is_some());
    }

    #[test]
    fn every_number_has_its_bounds() {
        for args in [
            &["--duration", "0"][..],
            &["--duration", "inf"],
            &["--rounds", "0"],
            &["--rate", "-1"],
            &["--connections", "1025"],
            &["--delays", "0,501"],
            &["--replicas", "17"],
            &["--note-bytes", "10"],
            &["--quick", "--full"],
            &["--fail-if", "p99"],
            &["--target", "a:1", "--replicas", "3"],
            &["--ca", "ca.pem"],
            &["--token-file", "primacy.tokens"],
            &["compare", "a"],
        ] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }
}
