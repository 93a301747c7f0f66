//! Whose requests are served: a Host that is ours, and no pages of other origins.
//!
//! A browser sends whatever a page tells it to. A page of `evil.example`, whose name its owner points at this machine,
//! would be of the same origin as the service, so foreign names are refused; addresses cannot be pointed elsewhere.
//! A page of another origin may send a form here, so writes that carry a foreign origin are refused.

use std::net::{IpAddr, Ipv6Addr};

use super::head::Head;
use super::refusal::{Refusal, quote};
use crate::protocol::request::Code;

/// The host names of this service.
#[derive(Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// `localhost` and these.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Hosts {
        Hosts(names.chain(["localhost"]).map(str::to_owned).collect())
    }

    /// Refuses a request that is meant for somebody else, or by a page of somebody else.
    pub(crate) fn check(&self, head: &Head<'_, '_>) -> Result<(), Refusal> {
        if let Some(authority) = head.authority {
            let host = host_of(authority)
                .ok_or(Refusal::bad("the host is malformed; it is a name or an address, with or without a port"))?;
            if !self.serve(host) {
                let host = quote(host);
                let msg = format!("this service is not `{host}`; if it is, name it in `hosts` of the configuration");
                return Err(Refusal::new(421, Code::Misdirected, msg));
            }
        }
        match head.method.writes() && is_foreign(head) {
            true => Err(Refusal::new(403, Code::Forbidden, "a page of another origin may not write here")),
            false => Ok(()),
        }
    }

    fn serve(&self, host: &str) -> bool {
        host.starts_with('[')
            || host.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// The host in `host[:port]` (RFC 3986 section 3.2, without user information), where both are well formed.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']')?;
            inner[..end].parse::<Ipv6Addr>().ok()?;
            end + 2
        }
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let named = host.starts_with('[')
        || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    (named && port_fits && !host.is_empty()).then_some(host)
}

/// Whether a browser says that the request comes from a page of another origin (RFC 6454; Fetch Metadata). Others than
/// browsers send neither field. The scheme is not compared: a proxy in front may end TLS.
fn is_foreign(head: &Head<'_, '_>) -> bool {
    let ours = head.authority.unwrap_or_default().as_bytes();
    let own = |origin: &[u8]| {
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(ours))
    };
    head.values("origin").any(|origin| !own(origin))
        || head.values("sec-fetch-site").any(|site| site.eq_ignore_ascii_case(b"cross-site"))
}
