//! config.json to a checked [`Config`]; every default and limit with its reason.

pub mod address;
pub mod error;
mod given;
pub mod limits;
pub mod load;
mod secret;
mod tls;
mod tokens;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

pub use address::Address;
pub use error::ConfigError;
pub use limits::Limits;
pub use load::{KEYS, load};
pub use secret::{SECRET_CHARS_MIN, Secret, SecretError, SecretFileError, read_tokens};
pub use tls::{Authority, Tls, TlsError, Unacceptable};
pub use tokens::{Tokens, TokensError};

use crate::protocol::ids::{REPLICAS_MAX, ReplicaId};
use crate::protocol::message::Settings;

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

impl LinkUse {
    /// The word in config.json.
    pub fn word(self) -> &'static str {
        match self {
            LinkUse::Persistent => "persistent",
            LinkUse::PerFrame => "per-frame",
        }
    }
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
    /// By which replicas prove themselves to each other; without one they are heard on this host only.
    pub secret: Option<Secret>,
    /// Hear replicas of other hosts without any proof.
    pub insecure: bool,
    /// By which clients show that they may ask; without them, all may.
    pub tokens: Option<Tokens>,
    /// With it, both ports speak TLS and nothing else, and so do the links.
    pub tls: Option<Tls>,
}

impl Config {
    /// A configuration with every default: what a file with only the three required keys gives. Nothing is checked.
    pub fn new(sync: Mode, replicas: Vec<Address>, service: u16) -> Config {
        Config {
            service,
            sync,
            // Two copies outlive the loss of one; under three replicas a lost one leaves only itself.
            min_in_sync: if replicas.len() < 3 { 1 } else { 2 },
            replicas,
            failure_timeout_ms: 1000,
            link_delay_us: 0,
            links: LinkUse::Persistent,
            data: PathBuf::from("data"),
            durability: Durability::Disk,
            log: LogStyle::Classic,
            request_timeout_ms: 5000,
            read_wait_ms: 3000,
            hosts: Vec::new(),
            listen: None,
            limits: Limits::default(),
            secret: None,
            insecure: false,
            tokens: None,
            tls: None,
        }
    }

    /// Every replica's id, in config order.
    pub fn ids(&self) -> impl Iterator<Item = ReplicaId> {
        (0..self.replicas.len().min(REPLICAS_MAX)).map(|place| ReplicaId(place as u8))
    }

    /// The address of one of this configuration's replicas.
    pub fn address(&self, replica: ReplicaId) -> &Address {
        &self.replicas[replica.index()]
    }

    /// The replica whose address is `name`, as written in the configuration.
    pub fn replica_named(&self, name: &str) -> Option<ReplicaId> {
        self.ids().find(|replica| self.address(*replica).to_string() == name)
    }

    /// How many replicas of the same host stand before this one: what is added to `service` for its port.
    pub fn service_offset(&self, replica: ReplicaId) -> usize {
        let host = self.address(replica).host();
        self.replicas[..replica.index()].iter().filter(|other| other.host() == host).count()
    }

    /// The port of this replica's HTTP service: the k-th replica of one host, from 0, listens on `service` + k. A
    /// checked configuration has no such port over 65535.
    pub fn service_port(&self, replica: ReplicaId) -> u16 {
        let offset = u16::try_from(self.service_offset(replica)).unwrap_or(u16::MAX);
        self.service.saturating_add(offset)
    }

    /// Where this replica's HTTP service is found, without a slash at the end.
    pub fn service_url(&self, replica: ReplicaId) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", Address::new(self.address(replica).host(), self.service_port(replica)))
    }

    /// The host that both listeners of this replica bind: `listen`, else the host of its address.
    pub fn bind_host(&self, replica: ReplicaId) -> String {
        match self.listen {
            Some(ip) => ip.to_string(),
            None => self.address(replica).host().to_owned(),
        }
    }

    /// What must be equal at all replicas, as a hello sends it.
    pub fn settings(&self) -> Settings {
        Settings {
            sync: self.sync.word().to_owned(),
            replicas: self.replicas.iter().map(ToString::to_string).collect(),
            min_in_sync: self.min_in_sync as u64,
            failure_timeout_ms: self.failure_timeout_ms,
            link_delay_us: self.link_delay_us,
            links: self.links.word().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(replicas: &[&str]) -> Config {
        Config::new(Mode::RemoteWrite, replicas.iter().map(|text| text.parse().unwrap()).collect(), 9988)
    }

    #[test]
    fn service_ports_count_up_on_each_host() {
        let config = config(&["a:1", "b:1", "a:2", "[::1]:1", "b:2", "a:3"]);
        let ports: Vec<u16> = config.ids().map(|replica| config.service_port(replica)).collect();
        assert_eq!(ports, [9988, 9988, 9989, 9988, 9989, 9990]);
        assert_eq!(config.service_url(ReplicaId(5)), "http://a:9990");
        assert_eq!(config.service_url(ReplicaId(3)), "http://[::1]:9988");
    }

    #[test]
    fn listeners_bind_the_replicas_host_unless_told_otherwise() {
        let mut config = config(&["127.0.0.1:10000", "[::1]:10000"]);
        assert_eq!(config.bind_host(ReplicaId(1)), "::1");
        config.listen = Some("0.0.0.0".parse().unwrap());
        assert_eq!(config.bind_host(ReplicaId(1)), "0.0.0.0");
        assert_eq!(config.service_url(ReplicaId(1)), "http://[::1]:9988", "the URL is what others dial");
    }

    #[test]
    fn replicas_are_named_as_written() {
        let config = config(&["127.0.0.1:10000", "[::1]:10000"]);
        assert_eq!(config.replica_named("[::1]:10000"), Some(ReplicaId(1)));
        assert_eq!(config.replica_named("[0::1]:10000"), None);
        assert_eq!(config.replica_named("127.0.0.1"), None);
    }

    #[test]
    fn two_must_be_in_sync_where_there_are_three() {
        let defaults = [&["a:1"][..], &["a:1", "a:2"], &["a:1", "a:2", "a:3"], &["a:1", "a:2", "a:3", "a:4"]]
            .map(|replicas| config(replicas).min_in_sync);
        assert_eq!(defaults, [1, 1, 2, 2]);
    }
}
