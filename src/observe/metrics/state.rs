//! What is looked up when the figures are asked for: the view, queues, links.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{FIXED, register};

/// Gauges, and counters that follow counts kept elsewhere.
#[derive(Clone, Debug)]
pub struct State {
    epoch: IntGauge,
    in_sync: IntGauge,
    ready: IntGauge,
    lease: Gauge,
    notes: IntGauge,
    owned: IntGauge,
    members: IntGaugeVec,
    queues: IntGaugeVec,
    open_writes: IntGauge,
    open_write_bytes: IntGauge,
    views: IntCounter,
    moves: IntCounterVec,
    links: Links,
}

#[derive(Clone, Debug)]
struct Links {
    up: IntGaugeVec,
    round_trip: GaugeVec,
    waiting_bytes: IntGaugeVec,
    opens: IntCounterVec,
    reconnects: IntCounterVec,
    frames: IntCounterVec,
    bytes: IntCounterVec,
}

/// How large things are at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    /// The newest view's epoch.
    pub epoch: u64,
    /// Whether this replica is in sync.
    pub in_sync: bool,
    /// Whether it serves.
    pub ready: bool,
    /// What is left of its lease.
    pub lease_seconds: f64,
    /// Notes that it holds.
    pub notes: u64,
    /// Items whose primary it is.
    pub owned: u64,
    /// Members in sync, and joining.
    pub members: [usize; 2],
    /// What waits in front of the loop: batches of clients, events of links, commands for the store.
    pub queues: [usize; 3],
    /// Writes that are not answered, and the bytes of their notes.
    pub open_writes: [usize; 2],
}

/// What has gone one way over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How a peer's link does.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkFigures {
    /// The peer's address.
    pub peer: String,
    /// `control` or `data`.
    pub kind: &'static str,
    /// Whether it is connected.
    pub up: bool,
    /// Connections opened.
    pub opened: u64,
    /// The last measured round trip.
    pub round_trip_seconds: Option<f64>,
    /// Bytes that wait to be sent, or to be `got`.
    pub waiting_bytes: usize,
    /// What this replica sent.
    pub sent: Traffic,
    /// What it received on the link that the peer dialed.
    pub received: Traffic,
}

impl State {
    pub(super) fn new(registry: &Registry) -> State {
        let int = |name, help| {
            let gauge = IntGauge::new(name, help).expect(FIXED);
            register(registry, gauge.clone());
            gauge
        };
        let lease = Gauge::new("primacy_lease_seconds", "What is left of the lease to read.").expect(FIXED);
        register(registry, lease.clone());
        let views = IntCounter::new("primacy_views_total", "Views applied since the start.").expect(FIXED);
        register(registry, views.clone());
        State {
            lease,
            views,
            epoch: int("primacy_epoch", "The newest view's epoch."),
            in_sync: int("primacy_in_sync", "1 where this replica is in sync."),
            ready: int("primacy_ready", "1 where this replica serves."),
            notes: int("primacy_notes", "Notes that this replica holds."),
            owned: int("primacy_items_owned", "Items whose primary this replica is."),
            open_writes: int("primacy_open_writes", "Writes of clients that are not answered."),
            open_write_bytes: int("primacy_open_write_bytes", "Bytes of notes in open writes."),
            members: gauges(registry, "primacy_view_members", "Members of the newest view.", &["set"]),
            queues: gauges(
                registry,
                "primacy_queue_length",
                "What waits before the loop, or for the store.",
                &["queue"],
            ),
            moves: counters(registry, "primacy_moves_total", "Items that moved here (in), or away (out).", &["way"]),
            links: Links::new(registry),
        }
    }

    /// A view was applied.
    pub fn view_applied(&self) {
        self.views.inc();
    }

    /// Items moved: `in` here, `out` to another replica.
    pub fn moved(&self, way: &'static str) {
        self.moves.with_label_values(&[way]).inc();
    }

    /// Sets what was looked up.
    pub fn set(&self, sizes: &Sizes, links: &[LinkFigures]) {
        let int = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        int(&self.epoch, sizes.epoch);
        int(&self.in_sync, sizes.in_sync.into());
        int(&self.ready, sizes.ready.into());
        self.lease.set(sizes.lease_seconds);
        int(&self.notes, sizes.notes);
        int(&self.owned, sizes.owned);
        int(&self.open_writes, sizes.open_writes[0] as u64);
        int(&self.open_write_bytes, sizes.open_writes[1] as u64);
        for (set, count) in ["in_sync", "joining"].iter().zip(sizes.members) {
            int(&self.members.with_label_values(&[set]), count as u64);
        }
        for (queue, length) in ["clients", "links", "store"].iter().zip(sizes.queues) {
            int(&self.queues.with_label_values(&[queue]), length as u64);
        }
        links.iter().for_each(|link| self.links.set(link));
    }
}

impl Links {
    fn new(registry: &Registry) -> Links {
        let link = ["peer", "kind"];
        let ways = ["peer", "kind", "way"];
        let help = "The last measured round trip of a link.";
        let round_trip = GaugeVec::new(Opts::new("primacy_link_round_trip_seconds", help), &link).expect(FIXED);
        register(registry, round_trip.clone());
        Links {
            round_trip,
            up: gauges(registry, "primacy_link_up", "1 where the link to a peer is connected.", &link),
            waiting_bytes: gauges(registry, "primacy_link_waiting_bytes", "Bytes not sent, or not yet got.", &link),
            opens: counters(registry, "primacy_link_opens_total", "Connections opened to a peer.", &link),
            reconnects: counters(registry, "primacy_link_reconnects_total", "Those after the first.", &link),
            frames: counters(registry, "primacy_link_frames_total", "Frames on links, in and out.", &ways),
            bytes: counters(registry, "primacy_link_bytes_total", "Bytes of frames on links, in and out.", &ways),
        }
    }

    fn set(&self, link: &LinkFigures) {
        let labels = [link.peer.as_str(), link.kind];
        self.up.with_label_values(&labels).set(link.up.into());
        if let Some(seconds) = link.round_trip_seconds {
            self.round_trip.with_label_values(&labels).set(seconds);
        }
        let waiting = i64::try_from(link.waiting_bytes).unwrap_or(i64::MAX);
        self.waiting_bytes.with_label_values(&labels).set(waiting);
        follow(&self.opens.with_label_values(&labels), link.opened);
        follow(&self.reconnects.with_label_values(&labels), link.opened.saturating_sub(1));
        for (way, traffic) in [("in", link.received), ("out", link.sent)] {
            let labels = [link.peer.as_str(), link.kind, way];
            follow(&self.frames.with_label_values(&labels), traffic.frames);
            follow(&self.bytes.with_label_values(&labels), traffic.bytes);
        }
    }
}

/// Brings a counter to a count that is kept elsewhere and never shrinks.
fn follow(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect(FIXED);
    register(registry, gauges.clone());
    gauges
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(FIXED);
    register(registry, counters.clone());
    counters
}
