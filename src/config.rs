//! config.json to a checked [`Config`]; every default and limit with its reason.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Which protocol keeps the replicas up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every write is forwarded to the view's primary.
    RemoteWrite,
    /// The item's primary moves to the replica where the write arrived.
    LocalWrite,
}

impl Mode {
    /// The word in config.json.
    pub fn word(self) -> &'static str {
        match self {
            Mode::RemoteWrite => "remote-write",
            Mode::LocalWrite => "local-write",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How data links use TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkUse {
    /// One connection carries all frames.
    Persistent,
    /// Each turn's frames have a connection of their own: only to measure what reuse saves.
    PerFrame,
}

/// When an update counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the journal is synced.
    Disk,
    /// At once.
    Memory,
}

/// What goes to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// The ancestor's lines.
    Classic,
    /// One JSON object a line.
    Json,
    /// Nothing.
    Off,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The service port of the first replica of each host; the next ones take the next ports.
    pub service: u16,
    /// The protocol.
    pub sync: Mode,
    /// Every replica, in config order: the order in which they become primary.
    pub replicas: Vec<Address>,
    /// The fewest in-sync replicas with which writes are taken (V3).
    pub min_in_sync: usize,
    /// Silence after which a replica counts as dead, in ms (V6).
    pub failure_timeout_ms: u64,
    /// Simulated one-way delay between replicas, in microseconds.
    pub link_delay_us: u64,
    /// How data links use connections.
    pub links: LinkUse,
    /// The data folder; one folder a replica inside.
    pub data: PathBuf,
    /// When an update counts as stored.
    pub durability: Durability,
    /// What goes to stdout.
    pub log: LogStyle,
    /// A write's deadline, in ms from its arrival.
    pub request_timeout_ms: u64,
    /// How long a read may wait for lease, `ready` or commit, in ms.
    pub read_wait_ms: u64,
    /// Further host names of the service.
    pub hosts: Vec<String>,
    /// Bind address where it is not the replica's.
    pub listen: Option<IpAddr>,
    /// Bounds on what comes from outside.
    pub limits: Limits,
}

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
    /// Client connections of one replica in all (503 past it).
    pub connections: usize,
    /// Client connections of one replica from one address (503 past it).
    pub connections_per_address: usize,
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
        }
    }
}

/// A replica's address as written in config.json: IPv4, [IPv6] or a host name, with a port. It is the replica's name,
/// compared as written and resolved at each dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The address of `port` at `host`, an IPv6 address without its brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
