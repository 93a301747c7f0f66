//! How a client's connection talks to its replica's loop: calls in batches, answers in batches.

use tokio::sync::mpsc;

use super::ids::{Epoch, ReplicaId};
use super::request::{Answer, Request};
use super::status::Status;
use crate::clock::{Clock, Moment};

/// Batches that wait in front of a replica's loop; a connection that finds it full waits.
pub const PORT_BATCHES_MAX: usize = 1024;

/// Chosen by the connection, unique among its open calls; comes back with the answer.
pub type Tag = u64;

/// What a connection can ask of its replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A request to the note store.
    Note(Request),
    /// Are you there, and whose view is it?
    Ping,
    /// Everything that `/status` shows.
    Status,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// To a request.
    Answer(Answer),
    /// To a ping.
    Pong(Pong),
    /// To a status call.
    Status(Box<Status>),
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq)]
pub struct Pong {
    /// Who answers.
    pub replica: ReplicaId,
    /// Its epoch, 0 before there is a view.
    pub epoch: Epoch,
    /// The view's primary.
    pub primary: Option<ReplicaId>,
    /// Whether the answering replica is in sync.
    pub in_sync: bool,
}

/// All calls of one socket read, and where their answers go.
#[derive(Debug)]
pub struct Batch {
    /// When the read was complete; times and deadlines count from here.
    pub arrived: Moment,
    /// The calls, in the order in which they were sent.
    pub calls: Vec<(Tag, Call)>,
    /// Takes the answers, several at once where they are ready together. Its capacity must be at least the number of
    /// calls that the connection has open: the loop never waits for a connection, and drops answers that do not fit.
    pub answers: mpsc::Sender<Vec<(Tag, Said)>>,
}

/// A connection's way to its replica's loop.
#[derive(Clone, Debug)]
pub struct Port {
    calls: mpsc::Sender<Batch>,
    clock: Clock,
}

/// The replica's loop has ended: the process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the replica is stopping")]
pub struct Stopped;

impl Port {
    /// A port, and the end of it that the loop reads.
    pub fn open(clock: Clock) -> (Port, mpsc::Receiver<Batch>) {
        let (calls, receiver) = mpsc::channel(PORT_BATCHES_MAX);
        (Port { calls, clock }, receiver)
    }

    /// The clock that [`Batch::arrived`] is read from.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits until the loop has ended: calls that are open then will not be answered.
    pub async fn stopped(&self) {
        self.calls.closed().await;
    }

    /// Hands a batch to the loop, waiting while it is full.
    pub async fn send(&self, batch: Batch) -> Result<(), Stopped> {
        self.calls.send(batch).await.map_err(|_| Stopped)
    }
}
