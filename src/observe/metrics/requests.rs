//! Requests of clients: how many, of what kind, how they ended, and how long they took.

use std::sync::{Arc, OnceLock};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::{FIXED, histograms, latency_buckets, register};

/// Methods by which requests are counted; all others are `other`. Frames count as the HTTP request that they amount to.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PING", "other"];

/// Statuses that are answered; any other counts as `other`.
const CODES: [u16; 22] =
    [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 411, 412, 413, 414, 415, 417, 421, 422, 431, 501, 503, 505];

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, on the service port.
    Http,
    /// Frames or lines, on the replica's address.
    Frames,
}

/// Counters and histograms of requests. Each counter is looked up by its labels once.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counters: IntCounterVec,
    known: [[[OnceLock<IntCounter>; CODES.len() + 1]; METHODS.len()]; 2],
    /// Of reads, then of writes, in the order of [`PHASES`].
    phases: [[Histogram; PHASES.len()]; 2],
}

/// The phases of a request, as `Server-Timing` names them.
const PHASES: [&str; 8] = ["queue", "forward", "move", "replicate", "store", "update", "respond", "total"];

impl Requests {
    pub(super) fn new(registry: &Registry, mode: &'static str) -> Requests {
        let help = "Requests answered, by protocol, method and status.";
        let opts = Opts::new("primacy_requests_total", help);
        let counters = IntCounterVec::new(opts, &["protocol", "method", "code"]).expect(FIXED);
        register(registry, counters.clone());
        let help = "Time of requests to notes by phase, as Server-Timing has them; phases that took none are left out.";
        let opts = HistogramOpts::new("primacy_request_seconds", help).buckets(latency_buckets());
        let histograms = histograms(registry, opts.const_label("mode", mode), &["operation", "phase"]);
        let phases =
            ["read", "write"].map(|operation| PHASES.map(|phase| histograms.with_label_values(&[operation, phase])));
        let known = Default::default();
        Requests(Arc::new(Inner { counters, known, phases }))
    }

    /// Counts a request by how it was answered.
    pub fn answered(&self, protocol: Protocol, method: &str, code: u16) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let code = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len());
        let known = &self.0.known[protocol as usize][method][code];
        let counter = known.get_or_init(|| {
            let protocol = match protocol {
                Protocol::Http => "http",
                Protocol::Frames => "frames",
            };
            let code = CODES.get(code).map_or_else(|| "other".to_owned(), u16::to_string);
            self.0.counters.with_label_values(&[protocol, METHODS[method], &code])
        });
        counter.inc();
    }

    /// Where the time of a request to notes went: each phase's name and µs, in `Server-Timing`'s order.
    pub fn took(&self, writes: bool, phases: [(&'static str, u64); PHASES.len()]) {
        let histograms = &self.0.phases[usize::from(writes)];
        for ((name, us), (histogram, known)) in phases.into_iter().zip(histograms.iter().zip(PHASES)) {
            debug_assert_eq!(name, known, "phases come in the order of Server-Timing");
            if us > 0 {
                histogram.observe(us as f64 / 1e6);
            }
        }
    }
}
