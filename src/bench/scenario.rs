//! What is measured: one kind of request, sent to one place, of one kind of cluster, under one load.

use std::fmt;

use crate::config::{Durability, LinkUse, Mode};

/// A scenario; its `Display` is its name, by which thresholds and comparisons find it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scenario {
    /// The cluster.
    pub(super) setup: Setup,
    /// The request and where it goes.
    pub(super) work: Work,
    /// What clients speak.
    pub(super) by: By,
    /// What they do with their connections.
    pub(super) clients: Clients,
    /// How much is asked at a time.
    pub(super) load: Load,
}

/// What clusters differ in; scenarios with equal setups share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// The protocol.
    pub(super) mode: Mode,
    /// How replicas use connections.
    pub(super) links: LinkUse,
    /// Where a write is once it is acknowledged.
    pub(super) durability: Durability,
    /// Simulated one-way delay between replicas, in microseconds.
    pub(super) delay_us: u64,
}

/// What is asked, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// GET of a note that nobody writes, at every replica in turn.
    Read,
    /// PUT at the view's primary.
    Primary,
    /// PUT at a replica that is not the view's primary.
    Backup,
    /// PUT at every replica alike, wherever the item's primary is.
    Anywhere,
    /// PUT at the item's primary, which stays.
    ItemPrimary,
    /// PUT at a replica that is not the item's primary: in local-write every one moves the item.
    Elsewhere,
    /// So many of a hundred PUTs at the item's primary, the others elsewhere.
    Locality(u8),
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// HTTP to the service.
    Http,
    /// Frames to the replica's address, through the client library.
    Frames {
        /// Whether each write carries an idempotency key, as the library gives it one unless it is told not to.
        keys: bool,
    },
}

/// Client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// One carries many requests.
    Kept,
    /// One for each request.
    New,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// So many a second, whether or not the ones before are answered; latency counts from the intended start.
    Open {
        /// The rate.
        per_s: f64,
    },
    /// Each request at once after the answer to one before.
    Closed {
        /// Clients, of one connection each.
        connections: usize,
        /// Requests that each has on its way at a time.
        in_flight: usize,
    },
}

impl By {
    /// Its word in names and results.
    pub(super) fn word(self) -> &'static str {
        match self {
            By::Http => "http",
            By::Frames { .. } => "frames",
        }
    }
}

impl Load {
    /// A closed loop of clients that wait for each answer.
    pub(super) fn closed(connections: usize) -> Load {
        Load::Closed { connections, in_flight: 1 }
    }
}

impl Setup {
    /// A durable cluster with persistent links and no delay.
    pub(super) fn plain(mode: Mode) -> Setup {
        Setup { mode, links: LinkUse::Persistent, durability: Durability::Disk, delay_us: 0 }
    }

    /// Simulated one-way delay in ms.
    pub(super) fn delay_ms(&self) -> f64 {
        self.delay_us as f64 / 1000.0
    }

    /// The parts of a name that say how this differs from a plain cluster.
    fn suffix(&self) -> String {
        let mut suffix = String::new();
        if self.links == LinkUse::PerFrame {
            suffix += "/per-frame";
        }
        if self.durability == Durability::Memory {
            suffix += "/memory";
        }
        if self.delay_us > 0 {
            suffix += &format!("/{}ms", self.delay_ms());
        }
        suffix
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.mode, self.suffix())
    }
}

impl Work {
    /// Whether it changes notes.
    pub(super) fn writes(self) -> bool {
        self != Work::Read
    }

    /// The share of writes that arrive at another replica than the primary, or the item's primary.
    pub(super) fn share_away(self, replicas: usize) -> f64 {
        match self {
            Work::Read | Work::Primary | Work::ItemPrimary => 0.0,
            Work::Backup | Work::Elsewhere => 1.0,
            Work::Anywhere => 1.0 - 1.0 / replicas as f64,
            Work::Locality(percent) => 1.0 - f64::from(percent) / 100.0,
        }
    }

    /// Of a mixed one: the works that it is mixed of, those with the shorter way first.
    pub(super) fn ends(self) -> Option<[Work; 2]> {
        match self {
            Work::Anywhere => Some([Work::Primary, Work::Backup]),
            Work::Locality(_) => Some([Work::ItemPrimary, Work::Elsewhere]),
            _ => None,
        }
    }

    /// Whether its requests take one way or another, so that the mean says more than the median.
    pub(super) fn is_mixed(self) -> bool {
        self.ends().is_some()
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Read => f.write_str("read"),
            Work::Primary => f.write_str("primary"),
            Work::Backup => f.write_str("backup"),
            Work::Anywhere => f.write_str("anywhere"),
            Work::ItemPrimary => f.write_str("item-primary"),
            Work::Elsewhere => f.write_str("elsewhere"),
            Work::Locality(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Scenario {
    /// The same scenario without a delay, against which round trips are counted.
    pub(super) fn without_delay(&self) -> Scenario {
        Scenario { setup: Setup { delay_us: 0, ..self.setup }, ..*self }
    }

    /// Whether both are the same but for their loads: the rate differs where a link is slow.
    pub(super) fn is_like(&self, other: &Scenario) -> bool {
        let open = |load| matches!(load, Load::Open { .. });
        let same_loop = self.load == other.load || (open(self.load) && open(other.load));
        let same_clients = self.by == other.by && self.clients == other.clients;
        self.setup == other.setup && self.work == other.work && same_clients && same_loop
    }

    /// Round trips between replicas that a request waits for, by theory, in a cluster of `replicas`; a mean where the
    /// requests differ.
    pub(super) fn theory(&self, replicas: usize) -> f64 {
        let persistent = match replicas {
            // Who is alone waits for nobody.
            1 => 0.0,
            _ if !self.work.writes() => 0.0,
            // Who is not the primary passes the write on, or fetches the item: two legs more.
            _ => 1.0 + self.work.share_away(replicas),
        };
        match self.setup.links {
            LinkUse::Persistent => persistent,
            // Of the two legs of a round trip, each waits another round trip for its connection.
            LinkUse::PerFrame => persistent * 3.0,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.setup.mode, self.work, self.setup.suffix())?;
        match self.by {
            By::Http => {}
            By::Frames { keys: false } => f.write_str("/frames")?,
            By::Frames { keys: true } => f.write_str("/frames/keys")?,
        }
        if self.clients == Clients::New {
            f.write_str("/new-connections")?;
        }
        let Load::Closed { connections, in_flight } = self.load else { return Ok(()) };
        match connections {
            1 => f.write_str("/1-client")?,
            _ => write!(f, "/{connections}-clients")?,
        }
        match in_flight {
            1 => Ok(()),
            _ => write!(f, "/{in_flight}-in-flight"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(mode: Mode, work: Work) -> Scenario {
        let load = Load::Open { per_s: 1.0 };
        Scenario { setup: Setup::plain(mode), work, by: By::Http, clients: Clients::Kept, load }
    }

    #[test]
    fn round_trips_by_theory() {
        use Mode::*;
        let cases = [
            (RemoteWrite, Work::Read, 0.0),
            (RemoteWrite, Work::Primary, 1.0),
            (RemoteWrite, Work::Backup, 2.0),
            (RemoteWrite, Work::Anywhere, 1.75),
            (LocalWrite, Work::ItemPrimary, 1.0),
            (LocalWrite, Work::Elsewhere, 2.0),
            (LocalWrite, Work::Locality(0), 2.0),
            (LocalWrite, Work::Locality(25), 1.75),
            (LocalWrite, Work::Locality(100), 1.0),
        ];
        for (mode, work, expected) in cases {
            let mut scenario = scenario(mode, work);
            assert_eq!(scenario.theory(4), expected, "{scenario}");
            scenario.setup.links = LinkUse::PerFrame;
            assert_eq!(scenario.theory(4), 3.0 * expected, "{scenario}");
        }
        assert_eq!(scenario(RemoteWrite, Work::Primary).theory(1), 0.0);
    }

    #[test]
    fn names_say_what_differs_from_a_plain_cluster() {
        let mut scenario = scenario(Mode::LocalWrite, Work::Locality(25));
        assert_eq!(scenario.to_string(), "local-write/25%");
        scenario.setup.links = LinkUse::PerFrame;
        scenario.setup.durability = Durability::Memory;
        scenario.setup.delay_us = 2_500;
        scenario.clients = Clients::New;
        scenario.load = Load::closed(64);
        assert_eq!(scenario.to_string(), "local-write/25%/per-frame/memory/2.5ms/new-connections/64-clients");
        scenario.by = By::Frames { keys: true };
        (scenario.clients, scenario.load) = (Clients::Kept, Load::Closed { connections: 1, in_flight: 128 });
        assert!(scenario.to_string().ends_with("/2.5ms/frames/keys/1-client/128-in-flight"), "{scenario}");
        assert_eq!(scenario.setup.to_string(), "local-write/per-frame/memory/2.5ms");
    }

    #[test]
    fn the_same_without_delay_may_have_another_rate() {
        let near = scenario(Mode::RemoteWrite, Work::Backup);
        let mut far = Scenario { load: Load::Open { per_s: 10.0 }, ..near };
        far.setup.delay_us = 5_000;
        assert!(!far.is_like(&near) && far.without_delay().is_like(&near));
        let closed = Scenario { load: Load::closed(1), ..near };
        assert!(!closed.is_like(&near));
        let by_frames = Scenario { by: By::Frames { keys: false }, ..near };
        assert!(!by_frames.is_like(&near));
    }
}
