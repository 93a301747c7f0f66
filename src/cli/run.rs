//! Runs replicas: all of the configuration's, or one.

use std::env;
use std::io::{self, Write};
use std::sync::Arc;

use primacy::cluster::{BindError, Cluster, ClusterError};
use primacy::config::{self, Config, ConfigError};
use primacy::observe::{self, ObserveError};
use primacy::protocol::ids::ReplicaId;

use super::args::{Args, Command, Flags};
use super::banner::Banner;
use super::signals;

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
    /// The banner could not be printed.
    #[error("cannot write to standard output: {0}; give it a terminal or file that can be written")]
    Stdout(#[source] io::Error),
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

/// Runs what the arguments name until a signal stops it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (flags, name) = match &args.command {
        None => (&args.flags, None),
        Some(Command::Replica { address, flags }) => (flags, Some(address)),
    };
    let config = Arc::new(config::load(&flags.config, &flags.overrides)?);
    let only = name.map(|name| replica_named(&config, name)).transpose()?;
    // Dropped last: what the replicas log while they stop is written too.
    let _log = observe::start(config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    runtime.block_on(serve(&config, only, flags))
}

async fn serve(config: &Arc<Config>, only: Option<ReplicaId>, flags: &Flags) -> Result<(), Failure> {
    let stop = signals::stop().map_err(Failure::Start)?;
    let cluster = Cluster::bind(config, only).await?;
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
