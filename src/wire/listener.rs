//! Accepting connections on a replica's address: how many, from whom, and until when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;

use super::Service;
use super::connection::{End, run};
use crate::link::LinkAcceptor;
use crate::net::TcpListener;
use crate::protocol::ids::REPLICAS_MAX;

/// How long open requests may take to finish after a stop, in ms.
const STOP_MS: u64 = 5_000;

/// How long accepting pauses where the system has no more file descriptors, in ms: trying at once would only spin.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Connections past the limits, in which only replicas are heard: clients that take all others must not keep a cluster's
/// replicas apart. Two links of each peer, and as many again that are being replaced.
const REPLICA_SEATS: usize = 4 * REPLICAS_MAX;

/// For whom there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// A client or a replica.
    Anybody,
    /// A replica only; a client is told that there are too many.
    Replica,
}

/// The connections that are open and are no links.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<End>,
    addresses: HashMap<Id, IpAddr>,
    per_address: HashMap<IpAddr, usize>,
}

/// Serves frames, and takes links for `links`, until `stop` holds true or its sender is gone. Then it accepts no more, lets
/// requests finish that are under way, for at most 5 s, and returns.
pub async fn serve(listener: TcpListener, service: Arc<Service>, links: LinkAcceptor, mut stop: watch::Receiver<bool>) {
    let mut connections = Connections::default();
    let told = stop.clone();
    let mut stopped = std::pin::pin!(async move {
        // An error means that the sender is gone, which is as good as a stop.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    loop {
        tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let address = address.ip().to_canonical();
                    // Replies are one write; waiting for more would only delay them. Where this fails, so will the rest.
                    let _ = stream.set_nodelay(true);
                    if let Some(seat) = connections.seat(address, &service) {
                        connections.take(address, run(stream, seat, service.clone(), links.clone(), told.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting connections on the replica's address pauses");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            },
            Some(ended) = connections.tasks.join_next_with_id() => connections.forget(ended),
        }
    }
    drop(listener);
    connections.finish().await;
}

impl Connections {
    /// Which seat a connection from `address` gets; none where even those for replicas are taken.
    fn seat(&self, address: IpAddr, service: &Service) -> Option<Seat> {
        let limits = &service.config.limits;
        let here = self.per_address.get(&address).copied().unwrap_or(0);
        let all = self.tasks.len();
        if all < limits.connections && here < limits.connections_per_address {
            return Some(Seat::Anybody);
        }
        let for_replicas = all.saturating_sub(limits.connections) < REPLICA_SEATS
            && here.saturating_sub(limits.connections_per_address) < REPLICA_SEATS;
        for_replicas.then_some(Seat::Replica)
    }

    fn take(&mut self, address: IpAddr, connection: impl Future<Output = End> + Send + 'static) {
        *self.per_address.entry(address).or_default() += 1;
        let task = self.tasks.spawn(connection);
        self.addresses.insert(task.id(), address);
    }

    fn forget(&mut self, ended: Result<(Id, End), JoinError>) {
        let id = match ended {
            Ok((id, end)) => {
                tracing::debug!(?end, "a connection to the replica's address ended");
                id
            }
            Err(error) => {
                tracing::error!(%error, "a connection's task failed");
                error.id()
            }
        };
        let Some(address) = self.addresses.remove(&id) else { return };
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(STOP_MS), all).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "requests did not finish in time; closing");
            self.tasks.shutdown().await;
        }
    }
}
