//! Runs a command; above all replicas: all of the configuration's, or one.

use std::env;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use primacy::bench::BenchError;
use primacy::cluster::{BindError, Cluster, ClusterError};
use primacy::config::{self, Config, ConfigError};
use primacy::membership::Begin;
use primacy::note::NoteId;
use primacy::observe::{self, ObserveError};
use primacy::protocol::ids::ReplicaId;
use tokio::runtime::Runtime;

use super::args::{Args, Command, First, Flags};
use super::banner::Banner;
use super::bench;
use super::call::{self, Call, CallError};
use super::monitor::{self, Watched};
use super::ping;
use super::signals;
use super::status::{self, Shown};

/// Said before a cluster is begun anew with one replica's notes.
const WARNING_FORCED: &str = "\
primacy: --force-new-cluster: this replica begins a new cluster with its own notes alone.
  Lost are all writes that it does not hold: those since it was last in sync. None, if it was in sync to the end.
  What its folder knows of that is said next; where another replica's folder may hold more, stop this one.
  No other replica of the old cluster may go on: stop it, and empty its folder before it is started; it joins this one.
  Leave the flag out from the next start on.";

/// Why the command ended as it should not.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `primacy replica` with an address that is not configured.
    #[error("ADDRESS is {address}, which is not in `replicas` of the configuration; write one of {known}")]
    NoSuchReplica { address: String, known: String },
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(BindError),
    /// `RUST_LOG` is wrong.
    #[error(transparent)]
    RustLog(ObserveError),
    /// The log cannot begin.
    #[error(transparent)]
    Log(ObserveError),
    /// A replica failed.
    #[error(transparent)]
    Cluster(ClusterError),
    /// The system gives no runtime, or no signals.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// `primacy status` got no answer at all.
    #[error("no replica answers; start them, or name their configuration by --config")]
    NobodyAnswers,
    /// `primacy call` had no good end.
    #[error(transparent)]
    Call(CallError),
    /// `primacy bench` came to no result.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// `primacy bench` found other data than was written.
    #[error("the data is wrong; the warnings say where")]
    WrongData,
    /// A threshold was missed.
    #[error("missed:\n  {0}")]
    Missed(String),
    /// What was asked for could not be printed.
    #[error("cannot write to standard output: {0}; give it a terminal or file that can be written")]
    Stdout(#[source] io::Error),
}

/// How long a monitor may take to begin.
const MONITOR_PATIENCE: Duration = Duration::from_secs(10);

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Start(error) => Failure::Start(error),
            CallError::Stdout(error) => Failure::Stdout(error),
            other => Failure::Call(other),
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Failure {
        match error {
            ClusterError::Bind(error) => Failure::Bind(error),
            other => Failure::Cluster(other),
        }
    }
}

impl From<ObserveError> for Failure {
    fn from(error: ObserveError) -> Failure {
        match error {
            ObserveError::Filter(_) => Failure::RustLog(error),
            other => Failure::Log(other),
        }
    }
}

/// Does what the arguments name.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        None => replicas(&args.flags, None, First::default()),
        Some(Command::Replica { address, first, flags }) => replicas(flags, Some(address), *first),
        Some(Command::Status { json, watch, flags }) => {
            let config = config::load(&flags.config, &flags.overrides)?;
            runtime()?.block_on(status::status(&config, Shown { json: *json, watch: *watch }))
        }
        Some(Command::Call { address, frame, hex, count, token_file, ca, timeout }) => {
            let (address, frame, patience) = (address.clone(), frame.clone(), Duration::from_millis(*timeout));
            let (token, authority) = (call::token_in(token_file.as_ref())?, call::authority_in(ca.as_ref())?);
            let call = Call { address, frame, hex: *hex, patience, token, authority };
            runtime()?.block_on(async {
                match count {
                    Some(count) => ping::ping(&call, *count).await,
                    None => call::call(&call).await,
                }
            })?;
            Ok(())
        }
        Some(Command::Monitor { address, note, replica, token_file, ca }) => {
            let (token, authority) = (call::token_in(token_file.as_ref())?, call::authority_in(ca.as_ref())?);
            let (address, patience) = (address.clone(), MONITOR_PATIENCE);
            let call = Call { address, frame: None, hex: false, patience, token, authority };
            let watched = Watched { note: note.map(NoteId), replica: replica.clone() };
            Ok(runtime()?.block_on(monitor::monitor(&call, &watched))?)
        }
        Some(Command::Bench(args)) => bench::bench(args),
    }
}

/// Runs all replicas, or the one of this name, until a signal stops it.
fn replicas(flags: &Flags, name: Option<&String>, first: First) -> Result<(), Failure> {
    let config = Arc::new(config::load(&flags.config, &flags.overrides)?);
    let only = name.map(|name| replica_named(&config, name)).transpose()?;
    if first.force_new_cluster {
        // Where stderr is gone, so is who could read it.
        let _ = writeln!(io::stderr(), "{WARNING_FORCED}");
    }
    // Dropped last: what the replicas log while they stop is written too.
    let _log = observe::start(config.log)?;
    runtime()?.block_on(serve(&config, only, flags, first.begin()))
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)
}

async fn serve(config: &Arc<Config>, only: Option<ReplicaId>, flags: &Flags, begin: Begin) -> Result<(), Failure> {
    let stop = signals::stop().map_err(Failure::Start)?;
    let cluster = Cluster::bind(config, only, begin).await?;
    print(&banner(config, only, flags)).map_err(Failure::Stdout)?;
    Ok(cluster.run(stop).await?)
}

fn replica_named(config: &Config, name: &str) -> Result<ReplicaId, Failure> {
    config.replica_named(name).ok_or_else(|| {
        let known = config.replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Failure::NoSuchReplica { address: name.to_owned(), known }
    })
}

fn banner(config: &Config, only: Option<ReplicaId>, flags: &Flags) -> String {
    // The name by which this process was started works for the next one too.
    let program = env::args().next().unwrap_or_else(|| "primacy".to_owned());
    Banner { config, only, program: &program, flags: &flags.repeat }.to_string()
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
