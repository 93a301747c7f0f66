//! A request's head, once its lines were taken apart: its method, whom and what it asks for, its fields.

use httparse::Header;

use super::origin::Authority;
use super::refusal::Refusal;
use crate::protocol::request::Code;

/// The methods of RFC 9110 section 9 and RFC 5789.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
    /// Not served here, like all others; what follows it may be no HTTP.
    Connect,
    #[default]
    Other,
}

impl Method {
    /// In the order of the variants.
    const WORDS: [&str; 9] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "?"];

    /// The method that a request line begins with.
    pub(crate) fn parse(word: &str) -> Method {
        use Method::*;
        let all = [Get, Head, Options, Post, Put, Patch, Delete, Connect];
        all.into_iter().find(|method| method.word() == word).unwrap_or(Other)
    }

    /// The method as it is written.
    pub(crate) fn word(self) -> &'static str {
        Method::WORDS[self as usize]
    }

    /// Whether it changes notes.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch | Method::Delete)
    }
}

/// A request's head, in the bytes that it came in.
#[derive(Debug)]
pub(crate) struct Head<'h, 'b> {
    pub(crate) method: Method,
    /// From `/` on, or `*`.
    pub(crate) path: &'b str,
    /// Behind the `?`.
    pub(crate) query: &'b str,
    /// Who is asked: as the target names it (RFC 9112 section 3.2.2), else as Host does. Only HTTP/1.0 may name nobody.
    pub(crate) authority: Option<Authority<'b>>,
    pub(crate) http10: bool,
    /// Whether it says where its body ends; where it does not, there is none (RFC 9112 section 6.3).
    pub(crate) has_body: bool,
    pub(crate) fields: &'h [Header<'b>],
}

impl<'h, 'b> Head<'h, 'b> {
    /// The values of all fields of this name, in order.
    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The members of the lists in all fields of this name (RFC 9110 section 5.6.1).
    pub(crate) fn items(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// The value of a field that may be there once only.
    pub(crate) fn value(&self, name: &'static str, rule: &'static str) -> Result<Option<&'b [u8]>, Refusal> {
        let mut values = self.values(name);
        let value = values.next();
        if values.next().is_some() { Err(Refusal::bad(rule)) } else { Ok(value) }
    }

    /// Whether the client keeps the connection (RFC 9112 section 9.3).
    pub(crate) fn keeps_alive(&self) -> bool {
        let has = |option: &[u8]| self.items("connection").any(|item| item.eq_ignore_ascii_case(option));
        !has(b"close") && (!self.http10 || has(b"keep-alive"))
    }

    /// Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1; in HTTP/1.0 it does not).
    pub(crate) fn waits(&self) -> Result<bool, Refusal> {
        let mut values = self.values("expect").filter(|_| !self.http10);
        match (values.next(), values.next()) {
            (None, _) => Ok(false),
            (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            _ => Err(Refusal::new(417, Code::Unsupported, "the only expectation that can be met is 100-continue")),
        }
    }
}
