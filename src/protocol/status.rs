//! What a replica says of itself: the body of `/status` and of the `status` frame.

use serde::{Deserialize, Serialize};

use super::ids::Epoch;

/// A replica's state as it sees it; addresses name replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who answers.
    pub replica: String,
    /// `remote-write` or `local-write`.
    pub mode: String,
    /// `primary`, `backup`, `joining`, `out` (not in the view) or `starting` (no view yet).
    pub role: String,
    /// The newest view that it knows; none before the first.
    pub view: Option<ViewStatus>,
    /// Whether it is a member of the view's in-sync set.
    pub in_sync: bool,
    /// Whether it serves: in sync, recovered, holding a lease.
    pub ready: bool,
    /// What is left of its lease in ms; none where reads need none.
    pub lease_ms: Option<u64>,
    /// The consensus leader, as far as it knows; none where views are fixed.
    pub controller: Option<String>,
    /// How many notes it holds.
    pub notes: u64,
    /// Of how many items (notes and the id sequence) it is the primary.
    pub items_owned: u64,
    /// Its links to the other replicas.
    pub links: Vec<LinkStatus>,
}

impl Status {
    /// Why it does not serve, and what to do; none where it does.
    pub fn unready(&self) -> Option<&'static str> {
        match self {
            Status { ready: true, .. } => None,
            Status { view: None, .. } => Some("it knows no view yet; wait until enough replicas are up"),
            Status { in_sync: false, .. } => Some("it is not in sync with the others; wait until it has joined"),
            Status { lease_ms: Some(0), .. } => {
                Some("its lease has run out; wait until it reaches the controller again")
            }
            _ => Some("it is recovering; wait a moment"),
        }
    }
}

/// A view, with addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// The view's number.
    pub epoch: Epoch,
    /// Its primary.
    pub primary: String,
    /// Who holds every committed record.
    pub in_sync: Vec<String>,
    /// Who is copying them.
    pub joining: Vec<String>,
}

/// One link: the connection that this replica dials to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The peer's address.
    pub peer: String,
    /// `control` or `data`.
    pub kind: String,
    /// Whether it is connected and greeted.
    pub up: bool,
    /// How many connections were opened for it.
    pub opened: u64,
    /// How many frames went out on it.
    pub frames: u64,
    /// The last measured round trip in ms, to the microsecond, from hello or heartbeat; none before the first.
    pub rtt_ms: Option<f64>,
}
