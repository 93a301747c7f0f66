//! Addresses of replicas and host names, as config.json writes them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest host name, in bytes (RFC 1035 section 2.3.4, without the last dot).
pub const HOST_BYTES_MAX: usize = 253;

/// Longest address, in bytes: brackets or a long name, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = HOST_BYTES_MAX + ":65535".len();

/// Longest label of a host name, in bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A replica's address as written in config.json: IPv4, [IPv6] or a host name, with a port. It is the replica's name,
/// compared as written and resolved at each dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no [`Address`]: what is wrong with it, and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no colon with a port behind it.
    #[error("has no port; write HOST:PORT, for instance 127.0.0.1:10000")]
    NoPort,
    /// What stands behind the last colon is no port.
    #[error("has no valid port; write a whole number from 1 to 65535 after the colon, without leading zeros")]
    BadPort,
    /// Port 0 stands for any free port, which the other replicas could not know.
    #[error("has port 0; write the port that the replica shall listen on, from 1 to 65535")]
    PortZero,
    /// An IPv6 address whose last group could be a port.
    #[error("is an IPv6 address without brackets; write [ADDRESS]:PORT, for instance [::1]:10000")]
    NoBrackets,
    /// The host is no IP address and no host name.
    #[error("{0}")]
    Host(#[from] HostError),
}

/// A text that is no host: neither IPv4, nor IPv6, nor a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("has no host; write an IP address or a host name before the colon")]
    Empty,
    /// Digits and dots, or something in brackets, that is no IP address.
    #[error("is no valid IP address; write four numbers from 0 to 255, or an IPv6 address in brackets")]
    BadIp,
    /// 0.0.0.0 or [::], which no other replica can dial.
    #[error("is the address of every interface, which nobody can dial; write the host's own, and bind all by `listen`")]
    Unspecified,
    /// Not a host name by RFC 1123 section 2.1, underscores allowed.
    #[error("is no valid host name; write letters, digits, hyphens and dots, at most {HOST_BYTES_MAX} characters")]
    BadName,
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

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::NoBrackets);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        if text.starts_with('[') && text.ends_with(']') {
            return Err(AddressError::NoPort);
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(AddressError::NoBrackets);
        }
        Ok(Address { host: parse_host(host)?, port: parse_port(port)? })
    }
}

/// A port as decimal digits. Leading zeros are refused, since addresses are compared as written.
fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse() {
        Ok(0) => Err(AddressError::PortZero),
        Ok(port) if text.starts_with(|first: char| ('1'..='9').contains(&first)) => Ok(port),
        _ => Err(AddressError::BadPort),
    }
}

/// Checks a host, and takes the brackets off an IPv6 address.
pub(super) fn parse_host(text: &str) -> Result<String, HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bracketed {
        let address: Ipv6Addr = inner.parse().map_err(|_| HostError::BadIp)?;
        return if address.is_unspecified() { Err(HostError::Unspecified) } else { Ok(inner.to_owned()) };
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return if address.is_unspecified() { Err(HostError::Unspecified) } else { Ok(text.to_owned()) };
    }
    // The last label of a host name is never a number; resolvers would take such a text for an IPv4 address.
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(HostError::BadIp);
    }
    if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(HostError::BadName);
    }
    Ok(text.to_owned())
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_as_written() {
        for text in ["127.0.0.1:10000", "[::1]:10000", "[2001:DB8::0:1]:1", "db-1.example.org:65535", "Replica_1:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let address: Address = "[::1]:7".parse().unwrap();
        assert_eq!((address.host(), address.port()), ("::1", 7));
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        use AddressError::*;
        let bad_ip = Host(HostError::BadIp);
        let bad_name = Host(HostError::BadName);
        let cases = [
            ("", NoPort),
            ("127.0.0.1", NoPort),
            ("[::1]", NoPort),
            ("127.0.0.1:", BadPort),
            ("127.0.0.1:0", PortZero),
            ("127.0.0.1:65536", BadPort),
            ("127.0.0.1:080", BadPort),
            ("127.0.0.1:+80", BadPort),
            ("127.0.0.1:80 ", BadPort),
            ("127.0.0.1:http", BadPort),
            ("::1", NoBrackets),
            ("fe80::1:10000", NoBrackets),
            ("1:2:3:4:5:6:7:8:9", NoBrackets),
            (":10000", Host(HostError::Empty)),
            ("[]:10000", bad_ip),
            ("[::g]:10000", bad_ip),
            ("[127.0.0.1]:10000", bad_ip),
            ("256.0.0.1:10000", bad_ip),
            ("127.1:10000", bad_ip),
            ("0.0.0.0:10000", Host(HostError::Unspecified)),
            ("[::]:10000", Host(HostError::Unspecified)),
            ("a b:10000", bad_name),
            ("-a:10000", bad_name),
            ("a..b:10000", bad_name),
            ("http://a:10000", NoBrackets),
            ("ä:10000", bad_name),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
        assert_eq!(format!("{}.a:1", "a".repeat(64)).parse::<Address>(), Err(bad_name));
    }
}
