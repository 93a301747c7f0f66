//! What a client is told about the cluster, and how long it waits.

use std::fmt;
use std::time::Duration;

use crate::config::address::AddressError;
use crate::config::{Address, Authority};

/// How a [`Client`](super::Client) works. Made by [`Options::new`]; every field has a default and may be changed.
///
/// ```
/// use std::time::Duration;
///
/// use primacy::client::Options;
///
/// let mut options = Options::new(["127.0.0.1:10000", "127.0.0.1:20000"])?;
/// options.timeout = Duration::from_secs(2);
/// # Ok::<(), primacy::client::OptionsError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The replicas' addresses. The first one is asked as long as it answers, then the next.
    pub replicas: Vec<Address>,
    /// How long a request may take in all, over all attempts. Default: 10 s, twice a replica's own limit for a write.
    pub timeout: Duration,
    /// How long one attempt at one replica may take before another replica is asked, where that is safe. Default: 2 s,
    /// which is longer than a cluster takes to go on without a dead replica.
    pub attempt_timeout: Duration,
    /// How often a request is tried at most. Default: as often as there is time for; 1 shows each failure as it is.
    pub attempts: usize,
    /// How long a connection may take to open, its TLS handshake included. Default: 1 s.
    pub connect_timeout: Duration,
    /// Requests on their way on one connection. Default: 128, as many as a replica takes from a connection at a time; more
    /// would wait there.
    pub in_flight: usize,
    /// Requests that wait for a place among those, at one connection; whoever comes then waits before it queues. Default:
    /// 1,024.
    pub queue: usize,
    /// Whether each write that has no idempotency key gets one, so that it can be sent again and takes effect once. It
    /// costs the replicas an entry in their table of keys. Without, a write whose connection broke ends as
    /// [`Effect::Unknown`](super::Effect::Unknown). Default: true.
    pub keys: bool,
    /// The token to show, where the replicas ask for one. Default: none.
    pub token: Option<Token>,
    /// Who must have signed the replicas' certificates, where they speak TLS: see [`Authority::read`]. Default: nobody, and
    /// nothing is encrypted.
    pub authority: Option<Authority>,
}

/// A token by which a client shows that it may ask. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(text: String) -> Token {
        Token(text)
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Token {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is wrong with [`Options`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There is nobody to ask.
    #[error("a client needs the address of at least one replica")]
    NoReplicas,
    /// A text that is no address.
    #[error("{text} {source}")]
    Address {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: AddressError,
    },
}

impl Options {
    /// Options for a cluster of these replicas, each with its default.
    ///
    /// # Errors
    ///
    /// Where there is no address, or one is none: HOST:PORT, with an IPv4 address, an IPv6 address in brackets or a host
    /// name.
    pub fn new<A: AsRef<str>>(replicas: impl IntoIterator<Item = A>) -> Result<Options, OptionsError> {
        let address = |text: A| {
            let text = text.as_ref();
            text.parse().map_err(|source| OptionsError::Address { text: text.to_owned(), source })
        };
        let replicas = replicas.into_iter().map(address).collect::<Result<Vec<Address>, _>>()?;
        if replicas.is_empty() {
            return Err(OptionsError::NoReplicas);
        }
        Ok(Options {
            replicas,
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
            attempts: usize::MAX,
            connect_timeout: Duration::from_secs(1),
            in_flight: 128,
            queue: 1024,
            keys: true,
            token: None,
            authority: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_shown() {
        let mut options = Options::new(["a:1"]).unwrap();
        options.token = Some("0123456789abcdef".into());
        let shown = format!("{options:?}");
        assert!(shown.contains("token: Some") && !shown.contains("0123456789abcdef"), "{shown}");
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(Options::new(["a:1", "[::1]:2"]).unwrap().replicas.len(), 2);
        let none: [&str; 0] = [];
        assert_eq!(Options::new(none).unwrap_err(), OptionsError::NoReplicas);
        let text = Options::new(["127.0.0.1"]).unwrap_err().to_string();
        assert_eq!(text, "127.0.0.1 has no port; write HOST:PORT, for instance 127.0.0.1:10000");
    }
}
