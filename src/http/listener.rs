//! Accepting connections: how many, from whom, and until when.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;

use super::Service;
use super::connection::{End, run, turn_away};
use crate::net::{TcpListener, TcpStream};

/// How long open requests may take to finish after a stop, in ms.
const STOP_MS: u64 = 5_000;

/// How long accepting pauses where the system has no more file descriptors, in ms: trying at once would only spin.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Connections past the limits that are told so at one time; more are closed without a word.
const TURNED_AWAY_MAX: usize = 64;

/// The connections that are open.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<End>,
    /// Which address each task serves; none for those that are turned away.
    addresses: HashMap<Id, Option<IpAddr>>,
    per_address: HashMap<IpAddr, usize>,
    served: usize,
    accepted: u64,
}

/// Serves HTTP on `listener` until `stop` holds true, or its sender is gone. Then it accepts no more, lets requests
/// finish that are under way, for at most 5 s, and returns.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: watch::Receiver<bool>) {
    let mut connections = Connections::default();
    {
        let mut stopped = std::pin::pin!(stopped(stop.clone()));
        loop {
            tokio::select! {
                () = &mut stopped => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => connections.take(stream, address.ip(), &service, &stop),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "accepting HTTP connections pauses");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
                Some(ended) = connections.tasks.join_next_with_id() => connections.forget(ended),
            }
        }
    }
    drop(listener);
    connections.finish().await;
}

/// Returns once the listener is to stop. That its owner is gone is as good as a stop.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether only this connection failed, before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

impl Connections {
    fn take(&mut self, stream: TcpStream, address: IpAddr, service: &Arc<Service>, stop: &watch::Receiver<bool>) {
        // An IPv4 client of an IPv6 socket counts as what it is.
        let address = address.to_canonical();
        let limits = &service.config.limits;
        self.accepted += 1;
        // An answer is one write; waiting for more would only delay it. Where this fails, so will the first write.
        let _ = stream.set_nodelay(true);
        let here = self.per_address.get(&address).copied().unwrap_or(0);
        if self.served >= limits.connections || here >= limits.connections_per_address {
            if self.addresses.len() - self.served < TURNED_AWAY_MAX {
                let task = self.tasks.spawn(turn_away(stream, service.clone(), self.accepted));
                self.addresses.insert(task.id(), None);
            }
            return;
        }
        self.served += 1;
        self.per_address.insert(address, here + 1);
        let task = self.tasks.spawn(run(stream, service.clone(), self.accepted, stop.clone()));
        self.addresses.insert(task.id(), Some(address));
    }

    fn forget(&mut self, ended: Result<(Id, End), JoinError>) {
        let id = match ended {
            Ok((id, end)) => {
                tracing::debug!(?end, "an HTTP connection ended");
                id
            }
            Err(error) => {
                tracing::error!(%error, "an HTTP connection's task failed");
                error.id()
            }
        };
        let Some(Some(address)) = self.addresses.remove(&id) else { return };
        self.served -= 1;
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    async fn finish(mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.forget(ended);
            }
        };
        if timeout(Duration::from_millis(STOP_MS), all).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "HTTP requests did not finish in time; closing");
            self.tasks.shutdown().await;
        }
    }
}
