//! Bounds on what comes from outside, each with its default and the range that it may be set to.

use crate::protocol::ids::REPLICAS_MAX;

/// Bounds on what comes from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Longest HTTP request line, in bytes (414 past it).
    pub request_line_bytes: usize,
    /// Longest HTTP head, in bytes (431 past it).
    pub head_bytes: usize,
    /// Most header fields (431 past it).
    pub fields: usize,
    /// Longest request body, in bytes (413 past it).
    pub body_bytes: usize,
    /// From a request's first byte to the end of its head, in ms (408).
    pub head_ms: u64,
    /// From the end of the head to the end of the body, in ms (408).
    pub body_ms: u64,
    /// How long a connection may have nothing to do, in ms.
    pub idle_ms: u64,
    /// How long an answer may wait for the client to read it, in ms.
    pub write_ms: u64,
    /// Calls that one connection has open; past it, it is read no further until some are answered.
    pub pipeline: usize,
    /// Client connections at one of a replica's two ports (503 past it).
    pub connections: usize,
    /// Those of one address (503 past it).
    pub connections_per_address: usize,
    /// Bytes that all clients at one of a replica's two ports hold together of requests that are not complete (503 past
    /// it).
    pub unfinished_bytes: usize,
    /// How long a caller may take to prove itself, in ms: a replica by the secret, a client by a token.
    pub prove_ms: u64,
    /// Connections of one replica that have said hello and not proved themselves; past it the oldest is closed.
    pub unproved: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_line_bytes: 8 * 1024,
            head_bytes: 32 * 1024,
            fields: 100,
            body_bytes: 1024 * 1024,
            head_ms: 10_000,
            body_ms: 30_000,
            idle_ms: 60_000,
            write_ms: 30_000,
            pipeline: 128,
            connections: 4096,
            connections_per_address: 2048,
            unfinished_bytes: 256 * 1024 * 1024,
            prove_ms: 5_000,
            unproved: 64,
        }
    }
}

/// A limit as config.json names it, and what it may be.
pub(super) struct Bound {
    /// Its key inside `limits`.
    pub(super) name: &'static str,
    /// The least that still lets ordinary clients in.
    pub(super) min: u64,
    /// The most that one replica's memory, or a person's patience, can bear.
    pub(super) max: u64,
    /// Puts a value that was checked in its place.
    pub(super) set: fn(&mut Limits, u64),
}

/// Ten minutes: past it, a deadline protects from nothing.
const MS_MAX: u64 = 600_000;

/// A whole round trip to the far side of the earth takes less.
const MS_MIN: u64 = 100;

/// Every limit. The keys are the names of the fields.
pub(super) const BOUNDS: &[Bound] = &[
    // A line must have room for a method, a note's path and a version; past 64 KiB it is no request for notes.
    Bound { name: "request_line_bytes", min: 128, max: 64 << 10, set: |l, n| l.request_line_bytes = n as usize },
    // Browsers send about 1 KiB of header fields. A head is kept whole while it is read, for every connection.
    Bound { name: "head_bytes", min: 1 << 10, max: 1 << 20, set: |l, n| l.head_bytes = n as usize },
    // Browsers send about 20 fields; the parser has room for 256.
    Bound { name: "fields", min: 20, max: 256, set: |l, n| l.fields = n as usize },
    // No note is longer than 1 MiB in compact form; escapes and white space can make its body some times longer.
    Bound { name: "body_bytes", min: 1 << 10, max: 16 << 20, set: |l, n| l.body_bytes = n as usize },
    Bound { name: "head_ms", min: MS_MIN, max: MS_MAX, set: |l, n| l.head_ms = n },
    Bound { name: "body_ms", min: MS_MIN, max: MS_MAX, set: |l, n| l.body_ms = n },
    Bound { name: "idle_ms", min: MS_MIN, max: MS_MAX, set: |l, n| l.idle_ms = n },
    Bound { name: "write_ms", min: MS_MIN, max: MS_MAX, set: |l, n| l.write_ms = n },
    // The answers to so many calls wait in memory where the client does not read them.
    Bound { name: "pipeline", min: 1, max: 4096, set: |l, n| l.pipeline = n as usize },
    // Each has a file descriptor, and the kernel gives a process 2^20 at most unless told otherwise.
    Bound { name: "connections", min: 1, max: 1 << 20, set: |l, n| l.connections = n as usize },
    Bound { name: "connections_per_address", min: 1, max: 1 << 20, set: |l, n| l.connections_per_address = n as usize },
    // The longest frame must fit, and whoever raises it has the memory.
    Bound { name: "unfinished_bytes", min: 8 << 20, max: 1 << 40, set: |l, n| l.unfinished_bytes = n as usize },
    Bound { name: "prove_ms", min: MS_MIN, max: MS_MAX, set: |l, n| l.prove_ms = n },
    // Each other replica has two links to prove at a time, and two that take their place.
    Bound { name: "unproved", min: 4 * REPLICAS_MAX as u64, max: 1 << 16, set: |l, n| l.unproved = n as usize },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_sets_its_own_field() {
        for bound in BOUNDS {
            let mut limits = Limits::default();
            (bound.set)(&mut limits, 1234);
            assert_ne!(limits, Limits::default(), "{}", bound.name);
            assert!(format!("{limits:?}").contains(&format!("{}: 1234", bound.name)), "{limits:?}");
        }
        let fields = format!("{:?}", Limits::default()).matches(": ").count();
        assert_eq!(BOUNDS.len(), fields, "every field has a bound");
    }
}
