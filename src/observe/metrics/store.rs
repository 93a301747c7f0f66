//! What a store's writer does.

use prometheus::{Histogram, IntCounter, Registry};

use super::{FIXED, histogram, latency_buckets, register};

/// Figures of one store's writer. Without a registry, as the consensus log has it, nobody sees them.
#[derive(Clone, Debug)]
pub struct StoreFigures {
    commit_seconds: Histogram,
    batch_records: Histogram,
    bytes: IntCounter,
    snapshots: IntCounter,
}

impl StoreFigures {
    pub(super) fn new(registry: &Registry) -> StoreFigures {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help).expect(FIXED);
            register(registry, counter.clone());
            counter
        };
        let sizes = prometheus::exponential_buckets(1.0, 2.0, 14).expect(FIXED);
        StoreFigures {
            commit_seconds: histogram(
                registry,
                "primacy_store_commit_seconds",
                "Time to write and sync one batch to the journal; its count is the number of commits.",
                latency_buckets(),
            ),
            batch_records: histogram(
                registry,
                "primacy_store_batch_records",
                "Records in one batch: how many share a sync.",
                sizes,
            ),
            bytes: counter("primacy_store_written_bytes_total", "Bytes written to the journal."),
            snapshots: counter("primacy_store_snapshots_total", "Snapshots completed since the start."),
        }
    }

    /// Counts a batch that is durable.
    pub fn committed(&self, seconds: f64, records: u64, bytes: u64) {
        self.commit_seconds.observe(seconds);
        self.batch_records.observe(records as f64);
        self.bytes.inc_by(bytes);
    }

    /// Counts a snapshot.
    pub fn snapshot_ended(&self) {
        self.snapshots.inc();
    }
}

impl Default for StoreFigures {
    fn default() -> StoreFigures {
        StoreFigures::new(&Registry::new())
    }
}
