//! All replicas of a configuration in this process, or one of them: a thread each, with a runtime of its own, so that a
//! hop between a replica's tasks never leaves its thread.
//!
//! [`Cluster::bind`] has every listener bound before [`Cluster::run`] lets any replica dial another: an outgoing
//! connection is given any free port, which could be the one that a later replica shall listen on.

mod bind;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::membership::Begin;
use crate::node::start::{self, ReplicaError, Stop};
use crate::node::stores::Fellows;
use crate::node::system::System;
use crate::protocol::ids::ReplicaId;

pub use bind::BindError;

/// Why a cluster does not run, or runs no longer.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread, or no runtime for it.
    #[error("cannot start a thread for replica {replica}: {source}")]
    Thread {
        /// Its address.
        replica: String,
        /// What the system said.
        source: io::Error,
    },
    /// A replica ended by an error.
    #[error("replica {replica} has failed: {source}; all of this process was stopped")]
    Failed {
        /// Its address.
        replica: String,
        /// What went wrong.
        source: Box<ReplicaError>,
    },
    /// A bug: its message and place were shown when it happened.
    #[error("replica {0} has panicked, so all of this process was stopped; start it again")]
    Panicked(String),
}

impl ClusterError {
    /// Whether the configuration and the data folder do not belong together, which only the user can mend.
    pub fn is_usage(&self) -> bool {
        matches!(self, ClusterError::Failed { source, .. } if source.is_usage())
    }
}

/// Replicas whose listeners are bound, and that wait to be run. Dropped, they end.
#[derive(Debug)]
pub struct Cluster {
    replicas: Vec<Waiting>,
    /// True stops the clients.
    stop_clients: watch::Sender<bool>,
    /// True stops all.
    stop_all: watch::Sender<bool>,
    /// Closed once no replica has open clients.
    clients_open: mpsc::Receiver<()>,
}

/// One replica's thread, as the cluster sees it.
#[derive(Debug)]
struct Waiting {
    name: String,
    /// Lets it run; dropped, the thread ends.
    go: oneshot::Sender<()>,
    /// Told at the thread's end; dropped without a word where it panicked.
    ended: oneshot::Receiver<Result<(), ClusterError>>,
}

/// What a replica's thread begins with.
struct Replica {
    config: Arc<Config>,
    me: ReplicaId,
    /// Whether no other replica runs in this process.
    alone: bool,
    begin: Begin,
    fellows: Fellows,
    bound: oneshot::Sender<Result<(), ClusterError>>,
    go: oneshot::Receiver<()>,
    stop: Stop,
}

impl Cluster {
    /// Binds the listeners of every replica of `config`, or of one of them; `begin` says how their membership begins.
    pub async fn bind(config: &Arc<Config>, only: Option<ReplicaId>, begin: Begin) -> Result<Cluster, ClusterError> {
        let (stop_clients, clients) = watch::channel(false);
        let (stop_all, all) = watch::channel(false);
        let (open, clients_open) = mpsc::channel(1);
        let fellows = Fellows::new(only.map_or(config.replicas.len(), |_| 1));
        let stop = Stop { clients, all, clients_open: open, leaves: only.is_some() };
        let (mut replicas, mut reports) = (Vec::new(), Vec::new());
        for me in config.ids().filter(|me| only.is_none_or(|only| only == *me)) {
            let (bound, report) = oneshot::channel();
            let (go, wait) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            let name = config.address(me).to_string();
            let (config, fellows, stop) = (Arc::clone(config), fellows.clone(), stop.clone());
            let alone = only.is_some();
            start_thread(Replica { config, me, alone, begin, fellows, bound, go: wait, stop }, end)
                .map_err(|source| ClusterError::Thread { replica: name.clone(), source })?;
            replicas.push(Waiting { name, go, ended });
            reports.push(report);
        }
        // All are heard before the first refusal counts, so that the same one is told each time.
        for (report, replica) in join_all(reports).await.into_iter().zip(&replicas) {
            report.map_err(|_| ClusterError::Panicked(replica.name.clone()))??;
        }
        Ok(Cluster { replicas, stop_clients, stop_all, clients_open })
    }

    /// Runs the replicas until `stop` is ready or one of them fails, then stops all of them cleanly: first their clients
    /// are answered, then the loops end.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ClusterError> {
        let mut running = FuturesUnordered::new();
        for Waiting { name, go, ended } in self.replicas {
            // A thread that has ended already says so in its `ended`.
            let _ = go.send(());
            running.push(async move { ended.await.unwrap_or(Err(ClusterError::Panicked(name))) });
        }
        let mut result = tokio::select! {
            () = stop => Ok(()),
            Some(ended) = running.next() => ended,
        };
        self.stop_clients.send_replace(true);
        // Nothing is sent; this waits for the last sender to go, or for a replica that will never finish its clients.
        tokio::select! {
            _ = self.clients_open.recv() => {}
            Some(ended) = running.next(), if result.is_ok() => result = ended,
        }
        self.stop_all.send_replace(true);
        while let Some(ended) = running.next().await {
            result = result.and(ended);
        }
        result
    }
}

/// A thread with a current-thread runtime for one replica.
fn start_thread(replica: Replica, ended: oneshot::Sender<Result<(), ClusterError>>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("replica-{}", replica.me.0);
    thread::Builder::new().name(name).spawn(move || {
        // As a task: the runtime looks at its sockets each time before it goes on with what it blocks on, which would cost the
        // loop a system call more per turn.
        let end = runtime.block_on(async { tokio::spawn(replica.live()).await });
        // A lookup of a host name may take long, and nobody needs it any more.
        runtime.shutdown_background();
        match end {
            // Nobody waits for this one where another could not be bound.
            Ok(end) => _ = ended.send(end),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    })?;
    Ok(())
}

impl Replica {
    /// Binds, reports, waits for the others, runs.
    async fn live(self) -> Result<(), ClusterError> {
        let Replica { config, me, alone, begin, fellows, bound, go, stop } = self;
        let listeners = match bind::listeners(&config, me, alone).await {
            Ok(listeners) => listeners,
            Err(error) => {
                let _ = bound.send(Err(error.into()));
                return Ok(());
            }
        };
        let _ = bound.send(Ok(()));
        match go.await {
            Ok(()) => {
                let replica = config.address(me).to_string();
                start::run(config, me, begin, listeners, fellows, stop, System::real())
                    .await
                    .map_err(|source| ClusterError::Failed { replica, source: Box::new(source) })
            }
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
