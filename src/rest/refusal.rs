//! Why the listener itself turns a request away, before the replica hears of it.

use std::borrow::Cow;

use crate::protocol::request::{Code, Failure};

/// An answer other than success. The text says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {msg}")]
pub(crate) struct Refusal {
    /// The status (RFC 9110 section 15).
    pub(crate) status: u16,
    pub(crate) code: Code,
    pub(crate) msg: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: Code, msg: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, code, msg: msg.into() }
    }

    /// 400: the request is malformed.
    pub(crate) fn bad(msg: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(400, Code::BadRequest, msg)
    }

    /// 413, 414, 431: a part of it is longer than `max` bytes.
    pub(crate) fn too_long(status: u16, part: &str, max: usize) -> Refusal {
        Refusal::new(status, Code::TooLarge, format!("the {part} is longer than {max} bytes"))
    }
}

impl From<Failure> for Refusal {
    fn from(Failure { code, msg }: Failure) -> Refusal {
        Refusal::new(code.status(), code, msg)
    }
}
