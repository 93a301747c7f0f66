//! Whose requests are served: a Host that is ours, no pages of other origins, and with tokens those who have one.
//!
//! A browser sends whatever a page tells it to. A page of `evil.example`, whose name its owner points at this machine,
//! would be of the same origin as the service, so foreign names are refused; addresses cannot be pointed elsewhere.
//! A page of another origin may send a form here, so writes that carry a foreign origin are refused.

use std::net::{IpAddr, Ipv6Addr};

use super::refusal::Refusal;
use super::request::Head;
use crate::config::{Config, Tokens};
use crate::protocol::request::{Code, quote};

/// The host names of this service, and the tokens of those who may ask.
#[derive(Debug)]
pub(crate) struct Hosts {
    names: Vec<String>,
    tokens: Option<Tokens>,
}

/// Where everybody may ask whether the process lives: who watches over processes is given no tokens.
const OPEN_PATH: &str = "/health";

impl Hosts {
    /// `localhost`, those of the replicas, and those that are named as such.
    pub(crate) fn of(config: &Config) -> Hosts {
        let names = config.replicas.iter().map(|address| address.host());
        let names = names.chain(config.hosts.iter().map(String::as_str)).chain(["localhost"]);
        Hosts { names: names.map(str::to_owned).collect(), tokens: config.tokens.clone() }
    }

    /// Refuses a request that is meant for somebody else, or by a page of somebody else.
    pub(crate) fn check(&self, head: &Head<'_, '_>) -> Result<(), Refusal> {
        if let Some(Authority { host, .. }) = head.authority.filter(|authority| !self.serve(authority.host)) {
            let host = quote(host);
            let msg = format!("this service is not `{host}`; if it is, name it in `hosts` of the configuration");
            return Err(Refusal::new(421, Code::Misdirected, msg));
        }
        if head.method.writes() && is_foreign(head) {
            return Err(Refusal::new(403, Code::Forbidden, "a page of another origin may not write here"));
        }
        match &self.tokens {
            Some(tokens) if head.path != OPEN_PATH => check_token(head, tokens),
            _ => Ok(()),
        }
    }

    fn serve(&self, host: &str) -> bool {
        host.starts_with('[')
            || host.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// `Authorization: Bearer TOKEN` (RFC 6750 section 2.1; the scheme in any case, RFC 9110 section 11.1).
fn check_token(head: &Head<'_, '_>, tokens: &Tokens) -> Result<(), Refusal> {
    let unauthorized = |msg: &'static str| Refusal::new(401, Code::Unauthorized, msg);
    let Some(value) = head.value("authorization", "Authorization is given once")? else {
        return Err(unauthorized("this service asks for a token; give it as `Authorization: Bearer …`"));
    };
    let token = match value.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
        _ => return Err(unauthorized("Authorization must be `Bearer` and a token")),
    };
    if tokens.allow(token) { Ok(()) } else { Err(unauthorized("this is none of this service's tokens")) }
}

/// `host[:port]` (RFC 3986 section 3.2, without user information), where both are well formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'b> {
    text: &'b str,
    host: &'b str,
}

impl<'b> Authority<'b> {
    pub(crate) fn parse(text: &'b [u8]) -> Option<Authority<'b>> {
        let text = std::str::from_utf8(text).ok()?;
        let end = text.rfind(']').map(|end| end + 1).or(text.find(':'));
        let (host, port) = text.split_at(end.unwrap_or(text.len()));
        let named = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
        let numbered = digits.is_empty() || digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok();
        (named && numbered).then_some(Authority { text, host })
    }
}

/// Whether a browser says that the request comes from a page of another origin (RFC 6454; Fetch Metadata). Others than
/// browsers send neither field. The scheme is not compared: a proxy in front may end TLS.
fn is_foreign(head: &Head<'_, '_>) -> bool {
    let own = |origin: &[u8]| {
        let theirs = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        matches!((theirs, head.authority), (Some(theirs), Some(ours)) if theirs.eq_ignore_ascii_case(ours.text.as_bytes()))
    };
    head.values("origin").any(|origin| !own(origin))
        || head.values("sec-fetch-site").any(|site| site.eq_ignore_ascii_case(b"cross-site"))
}
