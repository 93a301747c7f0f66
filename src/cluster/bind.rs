//! Binds a replica's two listeners; an error is one line that names the key and what to write, or how to free the port.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use crate::config::{Address, Config, Unacceptable};
use crate::net::TcpListener;
use crate::node::start::Listeners;
use crate::protocol::ids::ReplicaId;

/// Where Linux keeps the range of ports that it gives to outgoing connections (ip(7)).
const OUTGOING_RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Why a replica does not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener could not be bound.
    #[error("{at}: {}; {remedy}", told(source))]
    Unbound {
        /// Which one.
        at: Listener,
        /// What to do.
        remedy: String,
        /// What the system said.
        source: io::Error,
    },
    /// Other hosts could reach the replica's address, and say that they are replicas.
    #[error(
        "{at}: other hosts can reach {bound}, and nothing tells replicas from others; write `secret_file` (a secret is made \
         by `openssl rand -hex 32`), or start with --insecure where you trust all who can reach it"
    )]
    Open {
        /// The listener.
        at: Listener,
        /// What its host is here.
        bound: IpAddr,
    },
    /// Nobody would believe that this replica is who it is.
    #[error(
        "`tls`: the others would not accept the certificate of replica {replica}: {source}; write a `cert` that names \
         {} and is signed by `ca`",
        replica.host()
    )]
    Certificate {
        /// Whose.
        replica: Address,
        /// Why not.
        source: Unacceptable,
    },
}

/// One of a replica's two listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The key that its port comes from.
    key: &'static str,
    /// Whose it is.
    replica: Address,
    /// The host to bind.
    host: String,
    port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listener { key, replica, host, port } = self;
        match *key {
            "service" => write!(f, "`{key}`: port {port} of {host}, for the service of replica {replica}"),
            _ => write!(f, "`{key}`: port {port} of {host}"),
        }
    }
}

impl Listener {
    fn both(config: &Config, me: ReplicaId) -> [Listener; 2] {
        let address = config.address(me);
        let make = |key, port| Listener { key, replica: address.clone(), host: config.bind_host(me), port };
        [make("replicas", address.port()), make("service", config.service_port(me))]
    }

    async fn bind(&self, config: &Config, alone: bool) -> Result<TcpListener, BindError> {
        TcpListener::bind((self.host.as_str(), self.port)).await.map_err(|source| {
            let remedy = match source.kind() {
                io::ErrorKind::AddrInUse => self.how_to_free(self.rival(config).filter(|_| !alone), &outgoing_ports()),
                io::ErrorKind::AddrNotAvailable => self.how_to_move(config),
                io::ErrorKind::PermissionDenied => {
                    "write a port from 1024 on, or start with the right to take it".into()
                }
                _ => "write an address of this host, or set `listen`".into(),
            };
            BindError::Unbound { at: self.clone(), remedy, source }
        })
    }

    /// Refuses an address that other hosts can reach where replicas need not prove themselves. It is the address that
    /// was bound that counts, not the name by which it is written.
    fn check_reach(&self, config: &Config, bound: &TcpListener) -> Result<(), BindError> {
        // Where the system does not tell, it is as if others could.
        let bound = bound.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip().to_canonical());
        match config.secret.is_some() || config.insecure || bound.is_loopback() {
            true => Ok(()),
            false => Err(BindError::Open { at: self.clone(), bound }),
        }
    }

    /// The port is in use: who may have it, and what can be done.
    fn how_to_free(&self, rival: Option<&Address>, outgoing: &RangeInclusive<u16>) -> String {
        let port = self.port;
        if let Some(other) = rival {
            return format!("replica {other} of this configuration needs it too: write one host by one name");
        }
        let mut remedy =
            format!("end the program that has it (`ss -tanp sport = :{port}` shows it), or write another port");
        if outgoing.contains(&port) {
            remedy += &format!(
                "; {port} is one of the ports that this system gives to outgoing connections ({} to {}), so that one of \
                 those may have it: wait until it is closed, and keep the port free from then on with `sysctl -w \
                 net.ipv4.ip_local_reserved_ports={port}`",
                outgoing.start(),
                outgoing.end()
            );
        }
        remedy
    }

    /// A replica that is written with another host and needs the same port. Where both run in this process, the two hosts
    /// are one.
    fn rival<'a>(&self, config: &'a Config) -> Option<&'a Address> {
        let ports = |id| [config.address(id).port(), config.service_port(id)];
        let others = config.ids().filter(|id| config.address(*id).host() != self.replica.host());
        others.filter(|id| ports(*id).contains(&self.port)).map(|id| config.address(id)).next()
    }

    /// The address belongs to no interface of this host.
    fn how_to_move(&self, config: &Config) -> String {
        match config.listen {
            Some(ip) => format!("`listen` is {ip}, which is no address of this host: write one that is, or 0.0.0.0"),
            None => format!(
                "{} is no address of this host: start this replica there with `primacy replica {}`, or set `listen` to \
                 an address that this host has",
                self.host, self.replica
            ),
        }
    }
}

/// Binds both listeners of a replica in the runtime that this is called in; `alone` where no other one runs in this
/// process.
pub(super) async fn listeners(config: &Config, me: ReplicaId, alone: bool) -> Result<Listeners, BindError> {
    check_certificate(config, me)?;
    let [replica, service] = Listener::both(config, me);
    let listener = replica.bind(config, alone).await?;
    replica.check_reach(config, &listener)?;
    Ok(Listeners { replica: Box::new(listener), service: Box::new(service.bind(config, alone).await?) })
}

/// Where the others would refuse this replica's certificate, it is better told here than by them.
fn check_certificate(config: &Config, me: ReplicaId) -> Result<(), BindError> {
    let replica = config.address(me);
    let Some(tls) = &config.tls else { return Ok(()) };
    tls.check(replica.host()).map_err(|source| BindError::Certificate { replica: replica.clone(), source })
}

/// The system's words for the two kinds that everybody meets are not plain ones.
fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "it is in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "it cannot be had here".to_owned(),
        _ => error.to_string(),
    }
}

/// The ports that outgoing connections are given; Linux's default range where the system does not tell.
fn outgoing_ports() -> RangeInclusive<u16> {
    fs::read_to_string(OUTGOING_RANGE_FILE).ok().and_then(|text| range_in(&text)).unwrap_or(32_768..=60_999)
}

/// Two numbers with white space between.
fn range_in(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) => Some(first..=last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn config(replicas: &[&str]) -> Config {
        Config::new(Mode::RemoteWrite, replicas.iter().map(|text| text.parse().unwrap()).collect(), 9988)
    }

    #[test]
    fn a_port_of_the_outgoing_range_says_how_to_keep_it() {
        let config = config(&["127.0.0.1:10000", "127.0.0.1:40000"]);
        let [listener, _] = Listener::both(&config, ReplicaId(1));
        assert_eq!(listener.to_string(), "`replicas`: port 40000 of 127.0.0.1");
        assert_eq!(
            listener.how_to_free(None, &(32768..=60999)),
            "end the program that has it (`ss -tanp sport = :40000` shows it), or write another port; 40000 is one of \
             the ports that this system gives to outgoing connections (32768 to 60999), so that one of those may have \
             it: wait until it is closed, and keep the port free from then on with `sysctl -w \
             net.ipv4.ip_local_reserved_ports=40000`"
        );
        let [listener, _] = Listener::both(&config, ReplicaId(0));
        assert_eq!(
            listener.how_to_free(None, &(32768..=60999)),
            "end the program that has it (`ss -tanp sport = :10000` shows it), or write another port"
        );
    }

    #[test]
    fn one_host_by_two_names_is_told() {
        let config = config(&["127.0.0.1:10000", "localhost:20000"]);
        let [_, service] = Listener::both(&config, ReplicaId(1));
        assert_eq!(
            format!("{service}: {}", service.how_to_free(service.rival(&config), &(32768..=60999))),
            "`service`: port 9988 of localhost, for the service of replica localhost:20000: replica 127.0.0.1:10000 of \
             this configuration needs it too: write one host by one name"
        );
    }

    #[test]
    fn ranges_are_read_as_linux_writes_them() {
        assert_eq!(range_in("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(range_in("32768"), None);
        assert_eq!(range_in("a b"), None);
    }

    #[tokio::test]
    async fn an_address_that_other_hosts_can_reach_needs_a_secret() {
        let mut config = config(&["localhost:10000"]);
        let [listener, _] = Listener::both(&config, ReplicaId(0));
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpListener::bind("0.0.0.0:0").await.unwrap();
        listener.check_reach(&config, &near).unwrap();
        assert_eq!(
            listener.check_reach(&config, &far).unwrap_err().to_string(),
            "`replicas`: port 10000 of localhost: other hosts can reach 0.0.0.0, and nothing tells replicas from \
             others; write `secret_file` (a secret is made by `openssl rand -hex 32`), or start with --insecure where \
             you trust all who can reach it"
        );
        config.insecure = true;
        listener.check_reach(&config, &far).unwrap();
        config.insecure = false;
        config.secret = Some("0123456789abcdef0123456789abcdef".parse().unwrap());
        listener.check_reach(&config, &far).unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_host_says_where_to_start_the_replica() {
        // These networks are for documentation (RFC 5737).
        let mut config = config(&["198.51.100.1:10000"]);
        let error = listeners(&config, ReplicaId(0), true).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "`replicas`: port 10000 of 198.51.100.1: it cannot be had here; 198.51.100.1 is no address of this host: start this \
             replica there with `primacy replica 198.51.100.1:10000`, or set `listen` to an address that this host has"
        );
        config.listen = Some("203.0.113.1".parse().unwrap());
        let error = listeners(&config, ReplicaId(0), true).await.unwrap_err().to_string();
        assert!(
            error.ends_with("`listen` is 203.0.113.1, which is no address of this host: write one that is, or 0.0.0.0")
        );
    }
}
