//! Why the listener itself turns a request away, before the replica hears of it.

use std::borrow::Cow;

use crate::note::NoteError;
use crate::protocol::request::{Code, Failure};

/// How much of a client's text an error repeats, in characters.
const QUOTE_MAX: usize = 80;

/// An answer other than success. The text says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {msg}")]
pub(crate) struct Refusal {
    /// The status (RFC 9110 section 15).
    pub(crate) status: u16,
    pub(crate) code: Code,
    pub(crate) msg: Cow<'static, str>,
    /// With a 405, what the path allows.
    pub(crate) allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: Code, msg: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, code, msg: msg.into(), allow: None }
    }

    /// 400: the request is malformed.
    pub(crate) fn bad(msg: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(400, Code::BadRequest, msg)
    }

    /// 413: the body is longer than `most` bytes.
    pub(crate) fn body_too_long(most: usize) -> Refusal {
        Refusal::new(413, Code::TooLarge, format!("the body is longer than {most} bytes"))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::new(failure.code.status(), failure.code, failure.msg)
    }
}

impl From<NoteError> for Refusal {
    fn from(error: NoteError) -> Refusal {
        use NoteError::*;
        let code = match error {
            Syntax(_) => Code::BadJson,
            TooLarge(_) => Code::TooLarge,
            Shape(_) | Missing(_) | OtherId { .. } | UnwantedId => Code::BadNote,
        };
        Refusal::new(code.status(), code, error.to_string())
    }
}

/// A client's text as an error repeats it.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
