//! What is counted and measured of one replica, for Prometheus: the text of `/metrics`.
//!
//! Names follow Prometheus' conventions: base units (seconds, bytes), `_total` for what only grows. What happens often is
//! counted where it happens, by one or a few uncontended atomic operations ([`Requests`], [`StoreFigures`]); everything
//! that can be looked up is looked up when it is asked for ([`State`]). A replica has a registry of its own, also where
//! several share a process; figures of the process are in each.

mod requests;
mod state;
mod store;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder as _, Histogram, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};

pub use requests::{Protocol, Requests};
pub use state::{LinkFigures, Sizes, State, Traffic};
pub use store::StoreFigures;

/// What a body of this text is (Prometheus' exposition format, version 0.0.4).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a metric that is made here is right: names and labels are constants, and each is registered once.
const FIXED: &str = "a metric's name and labels are constants of this program, and it is registered once";

/// The figures of one replica. Clones are the same figures.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of its clients.
    pub requests: Requests,
    /// Of its store's writer.
    pub store: StoreFigures,
    /// What is looked up.
    pub state: State,
}

impl Metrics {
    /// Figures that are all 0; `mode` is what they are labelled with where the mode matters.
    pub fn new(mode: &'static str) -> Metrics {
        let registry = Registry::new();
        let metrics = Metrics {
            requests: Requests::new(&registry, mode),
            store: StoreFigures::new(&registry),
            state: State::new(&registry),
            registry,
        };
        register(&metrics.registry, ProcessCollector::for_self());
        let build = Opts::new("primacy_build_info", "1; the labels say which program this is.");
        let build = build.const_label("version", env!("CARGO_PKG_VERSION")).const_label("mode", mode);
        let build = prometheus::IntGauge::with_opts(build).expect(FIXED);
        build.set(1);
        register(&metrics.registry, build);
        metrics
    }

    /// All figures in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("a registry's families have names and samples, and memory takes all writes");
        String::from_utf8(text).expect("names, labels and numbers are UTF-8")
    }
}

fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(collector)).expect(FIXED);
}

/// Bounds of latencies in seconds: from 10 µs, each twice the one before, to 10 s.
fn latency_buckets() -> Vec<f64> {
    prometheus::exponential_buckets(1e-5, 2.0, 21).expect(FIXED)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect(FIXED);
    register(registry, histogram.clone());
    histogram
}

fn histograms(registry: &Registry, opts: HistogramOpts, labels: &[&str]) -> HistogramVec {
    let histograms = HistogramVec::new(opts, labels).expect(FIXED);
    register(registry, histograms.clone());
    histograms
}

#[cfg(test)]
mod tests;
