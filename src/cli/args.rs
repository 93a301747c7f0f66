//! The arguments of every command.

use std::env;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command as Clap, FromArgMatches, Parser, Subcommand, value_parser};
use primacy::config::error::{Origin, flag, variable};
use primacy::config::load::{Override, SECRET};
use primacy::config::{Address, KEYS};
use primacy::membership::Begin;
use primacy::protocol::ids::Epoch;

use super::bench::{self, BenchArgs};

/// What help says at its end.
const AFTER_HELP: &str = "Each option is a key of config.json. An option counts over its variable, that over the file.
RUST_LOG filters the log and the diagnostics.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 a threshold of `primacy bench` was missed.";

/// A replicated note store that shows its work: remote-write and local-write over framed TCP.
///
/// Without a command: runs every replica of the configuration in this process.
#[derive(Debug, Parser)]
#[command(name = "primacy", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What to do, where it is not to run all replicas.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one replica of the configuration
    Replica {
        /// Its address as the configuration writes it, for instance 127.0.0.1:10000
        address: String,
        #[command(flatten)]
        first: First,
        #[command(flatten)]
        flags: Flags,
    },
    /// Ask every replica of the configuration for its state
    ///
    /// Links are summed up for each replica: how many of them are up, connections opened, frames sent, and the longest of
    /// their round trips in ms. Below stands each view that they know, and which of them know it. The exit code is 1 where
    /// no replica answers.
    Status {
        /// Print one JSON array on a line, of what each replica answers, or its address and the error
        #[arg(long)]
        json: bool,
        /// Ask every second until interrupted
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Send frames to a replica and print what comes back, one JSON a line
    ///
    /// Whatever is given is sent, also what is wrong: the replica says so. Requests and replies are described in
    /// protocol.md. The exit code is 1 where a reply is an error, or there is none.
    Call {
        /// The replica's address, for instance 127.0.0.1:10000
        address: Address,
        /// The frame's JSON, for instance '{"type":"get","id":1}'; without it, one a line is read from standard input
        frame: Option<String>,
        /// Show the bytes of the frames in hex, both ways
        #[arg(long)]
        hex: bool,
        /// Send the frame so many times, one after the other, and print only how long the replies took; without a frame,
        /// a ping
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// File with the token to show first, the first one in it, where the replica asks for one
        #[arg(long, value_name = "FILE", env = "PRIMACY_TOKEN_FILE")]
        token_file: Option<PathBuf>,
        /// File with the certificates of those who may have signed the replica's, where it speaks TLS
        #[arg(long, value_name = "FILE", env = "PRIMACY_CA")]
        ca: Option<PathBuf>,
        /// How long to wait for the connection, and for each reply
        #[arg(long, value_name = "MS", default_value_t = 10_000)]
        timeout: u64,
    },
    /// Print what a replica does, as it does it, one JSON object a line
    ///
    /// These are the events of the log, also where the log is off: what clients ask this replica and what it answers, what
    /// it asks other replicas, new views. What comes faster than it is read is left out, and an event says how much.
    Monitor {
        /// The replica's address, for instance 127.0.0.1:10000
        address: Address,
        /// Only what is about this note
        #[arg(long, value_name = "ID")]
        note: Option<u64>,
        /// Only that in which the replica of this address takes part too
        #[arg(long, value_name = "ADDRESS")]
        replica: Option<String>,
        /// File with the token to show first, the first one in it, where the replica asks for one
        #[arg(long, value_name = "FILE", env = "PRIMACY_TOKEN_FILE")]
        token_file: Option<PathBuf>,
        /// File with the certificates of those who may have signed the replica's, where it speaks TLS
        #[arg(long, value_name = "FILE", env = "PRIMACY_CA")]
        ca: Option<PathBuf>,
    },
    /// Measure what writes and reads cost, in milliseconds and in round trips
    ///
    /// Starts clusters of its own on loopback addresses, runs the scenarios in interleaved rounds, prints a table and
    /// checks the data. It takes about two minutes.
    #[command(after_help = bench::AFTER_HELP)]
    Bench(Box<BenchArgs>),
}

/// How a replica's cluster begins, where it does not as its folder says.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct First {
    /// Begin a fresh cluster as soon as a majority of the replicas is there, instead of all
    ///
    /// Give it to one replica only, the first in config order of those that are there: two that do not hear each other
    /// could begin two clusters. The others join once they are started. All must have empty folders.
    #[arg(long, conflicts_with = "force_new_cluster")]
    pub(crate) initialize: bool,
    /// Begin a new cluster with this replica's notes alone, because a majority is lost for good
    ///
    /// Writes that did not reach this replica are lost. The other replicas join with empty folders.
    #[arg(long)]
    pub(crate) force_new_cluster: bool,
}

impl First {
    /// The same, as membership takes it.
    pub(crate) fn begin(self) -> Begin {
        match self {
            First { force_new_cluster: true, .. } => Begin::Alone { after: Epoch(0) },
            First { initialize: true, .. } => Begin::WithMajority,
            First { .. } => Begin::Normally,
        }
    }
}

/// Which file holds the configuration, and what is laid over it.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    /// The file.
    pub(crate) config: PathBuf,
    /// Values of environment and command line, the environment's first.
    pub(crate) overrides: Vec<Override>,
    /// All of this as arguments, so that other processes can be started alike.
    pub(crate) repeat: Vec<String>,
}

/// The file that is read where none is named.
const CONFIG_DEFAULT: &str = "./config.json";

/// What help says of each key: its value's name and its meaning.
fn help(key: &str) -> (&'static str, &'static str) {
    match key {
        "service" => ("PORT", "Port of the first HTTP service on a host; further replicas there take the next ones"),
        "sync" => ("MODE", "How replicas are kept up to date: remote-write or local-write"),
        "replicas" => ("ADDRESS,…", "Every replica's address, in the order in which they become primary"),
        "min_in_sync" => ("N", "Fewest in-sync replicas with which writes are taken [default: 2, or 1 under three]"),
        "failure_timeout_ms" => ("MS", "Silence after which a replica counts as dead [default: 1000]"),
        "link_delay_ms" => ("MS", "Simulated one-way delay between replicas, up to 500 [default: 0]"),
        "links" => ("USE", "Connections between replicas: persistent, or per-frame to measure [default: persistent]"),
        "data" => ("FOLDER", "Where notes are stored, one folder a replica inside [default: data]"),
        "durability" => ("WHERE", "What an acknowledged write has reached: disk or memory [default: disk]"),
        "log" => ("STYLE", "What goes to stdout: classic, json or off [default: classic]"),
        "request_timeout_ms" => ("MS", "How long a write may take [default: 5000]"),
        "read_wait_ms" => ("MS", "How long a read may wait for what it needs [default: 3000]"),
        "hosts" => ("NAME,…", "Further host names of the HTTP service"),
        "listen" => ("IP", "Bind this address instead of the replica's own host"),
        "limits" => ("JSON", "Bounds on what clients send, for instance {\"body_bytes\":65536}"),
        "secret_file" => {
            ("FILE", "The secret by which replicas prove themselves; or PRIMACY_SECRET, the secret itself")
        }
        "token_file" => ("FILE", "Tokens of clients, one a line; without them, all may ask"),
        "tls" => ("JSON", "Files for TLS: {\"cert\":\"replica.pem\",\"key\":\"replica.key\",\"ca\":\"ca.pem\"}"),
        "insecure" => ("BOOL", "Hear replicas of other hosts without any proof [default: false]"),
        _ => ("VALUE", "As in config.json"),
    }
}

/// Keys are read by name, not by field: their flags, variables and texts are made in one place.
impl clap::Args for Flags {
    fn augment_args(command: Clap) -> Clap {
        let config = Arg::new("config")
            .long("config")
            .env("PRIMACY_CONFIG")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .default_value(CONFIG_DEFAULT)
            .help("The configuration");
        KEYS.iter().fold(command.arg(config), |command, key| {
            let (value, help) = help(key);
            let arg = Arg::new(*key).long(flag(key)).env(variable(key)).value_name(value).help(help);
            command.arg(match *key {
                // The only one that says enough by being there.
                "insecure" => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                _ => arg.allow_negative_numbers(true),
            })
        })
    }

    fn augment_args_for_update(command: Clap) -> Clap {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let config = matches.get_one::<PathBuf>("config").cloned().unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT));
        let mut repeat = Vec::new();
        if matches.value_source("config") != Some(ValueSource::DefaultValue) {
            repeat.extend(["--config".to_owned(), config.display().to_string()]);
        }
        let mut overrides = Vec::new();
        for key in KEYS {
            let Some(text) = matches.get_one::<String>(key) else { continue };
            let origin = match matches.value_source(key) {
                Some(ValueSource::EnvVariable) => Origin::Environment,
                _ => Origin::Flag,
            };
            match *key {
                "insecure" => repeat.push(format!("--{}={text}", flag(key))),
                _ => repeat.extend([format!("--{}", flag(key)), text.clone()]),
            }
            overrides.push(Override { key, origin, text: text.clone() });
        }
        // No argument, so that it is in no help, no banner and no list of processes.
        if let Ok(text) = env::var(variable(SECRET)) {
            overrides.push(Override { key: SECRET, origin: Origin::Environment, text });
        }
        // Clap gives one value a key, so the order among keys does not matter.
        Ok(Flags { config, overrides, repeat })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["primacy"], args].concat())
    }

    #[test]
    fn the_commands_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_key_has_help_of_its_own() {
        for key in KEYS {
            assert_ne!(help(key), help("no key"), "{key}");
        }
    }

    #[test]
    fn flags_follow_their_command() {
        let args = parse(&["replica", "a:1", "--link-delay", "5", "--config", "x.json"]).unwrap();
        let Some(Command::Replica { address, flags, .. }) = args.command else { panic!("no replica") };
        assert_eq!(address, "a:1");
        assert_eq!(flags.config, PathBuf::from("x.json"));
        assert_eq!(flags.repeat, ["--config", "x.json", "--link-delay", "5"]);
        assert!(parse(&["--link-delay", "5", "replica", "a:1"]).is_err());
    }

    #[test]
    fn insecure_needs_no_value_and_takes_no_argument_for_one() {
        let given = |args: &[&str]| match parse(&[&["replica"], args].concat()).unwrap().command {
            Some(Command::Replica { address, flags, .. }) => (address, flags.overrides[0].text.clone(), flags.repeat),
            _ => panic!("no replica"),
        };
        let yes = ("a:1".to_owned(), "true".to_owned(), vec!["--insecure=true".to_owned()]);
        assert_eq!(given(&["--insecure", "a:1"]), yes);
        assert_eq!(given(&["a:1", "--insecure=true"]), yes);
    }

    #[test]
    fn how_a_cluster_begins() {
        let begin = |flags: &[&str]| match parse(&[&["replica", "a:1"], flags].concat()).map(|args| args.command) {
            Ok(Some(Command::Replica { first, .. })) => Some(first.begin()),
            _ => None,
        };
        assert_eq!(begin(&[]), Some(Begin::Normally));
        assert_eq!(begin(&["--initialize"]), Some(Begin::WithMajority));
        assert_eq!(begin(&["--force-new-cluster"]), Some(Begin::Alone { after: Epoch(0) }));
        assert_eq!(begin(&["--initialize", "--force-new-cluster"]), None);
        assert!(parse(&["--force-new-cluster"]).is_err(), "never for all replicas at once");
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        for args in [&["replica"][..], &["--sinc", "x"], &["start"], &["--sync"]] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        assert_eq!(parse(&["--help"]).unwrap_err().exit_code(), 0);
        assert_eq!(parse(&["--version"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn negative_numbers_reach_the_check_that_explains() {
        let args = parse(&["--link-delay", "-1"]).unwrap();
        assert_eq!(args.flags.overrides[0].text, "-1");
    }
}
