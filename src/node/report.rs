//! What a replica says of itself.

use super::Node;
use crate::clock::Moment;
use crate::observe::metrics::Sizes;
use crate::protocol::ids::{Epoch, ReplicaId};
use crate::protocol::port::Pong;
use crate::protocol::status::{Status, ViewStatus};
use crate::protocol::view::View;
use crate::replication::replica::Standing;

impl Node {
    fn in_sync(&self) -> bool {
        matches!(self.replica.standing(), Standing::Recovering | Standing::Ready)
    }

    pub(super) fn pong(&self) -> Pong {
        let view = self.replica.view();
        Pong {
            replica: self.me,
            epoch: view.map_or(Epoch(0), |view| view.epoch),
            primary: view.map(|view| view.primary),
            in_sync: self.in_sync(),
        }
    }

    pub(super) fn status(&self, now: Moment) -> Status {
        let name = |replica: ReplicaId| self.names[replica.index()].clone();
        Status {
            replica: name(self.me),
            mode: self.config.sync.word().to_owned(),
            role: self.role().to_owned(),
            view: self.replica.view().map(|view| self.view_status(view)),
            in_sync: self.in_sync(),
            ready: self.replica.serves(now),
            lease_ms: Some(self.replica.lease_until().nanos_since(now) / 1_000_000),
            controller: self.membership.handle().status().controller.map(name),
            notes: self.replica.items().notes(),
            items_owned: self.replica.items_owned(),
            links: self.links.status(),
        }
    }

    /// Brings the figures that are looked up up to date.
    pub(super) fn look_up(&self, now: Moment) {
        let view = self.replica.view();
        let [clients, links] = self.waited;
        let sizes = Sizes {
            epoch: view.map_or(0, |view| view.epoch.0),
            in_sync: self.in_sync(),
            ready: self.replica.serves(now),
            lease_seconds: self.replica.lease_until().nanos_since(now) as f64 / 1e9,
            notes: self.replica.items().notes(),
            owned: self.replica.items_owned(),
            members: view.map_or([0; 2], |view| [view.in_sync.len(), view.joining.len()]),
            queues: [clients, links, self.storage.queued()],
            open_writes: [self.replica.open_writes(), self.replica.open_write_bytes()],
        };
        self.metrics.state.set(&sizes, &self.links.figures());
    }

    fn role(&self) -> &'static str {
        let is_primary = self.replica.view().is_some_and(|view| view.primary == self.me);
        match self.replica.standing() {
            Standing::Starting => "starting",
            Standing::Joining => "joining",
            Standing::Out => "out",
            Standing::Recovering | Standing::Ready if is_primary => "primary",
            Standing::Recovering | Standing::Ready => "backup",
        }
    }

    pub(super) fn view_status(&self, view: &View) -> ViewStatus {
        let name = |replica: ReplicaId| self.names[replica.index()].clone();
        ViewStatus {
            epoch: view.epoch,
            primary: name(view.primary),
            in_sync: view.in_sync_set().iter().map(name).collect(),
            joining: view.joining_set().iter().map(name).collect(),
        }
    }
}
