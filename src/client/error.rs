//! Why a request was not done, and whether it may have taken effect all the same.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::protocol::request::Code;

/// Whether a request that failed may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It has not taken effect, and never will. Reads never have any.
    None,
    /// It may have taken effect, or may still do so. With its idempotency key it can be sent again.
    Unknown,
}

/// A request that failed.
///
/// ```no_run
/// # use primacy::client::{Client, Effect};
/// # use primacy::note::Note;
/// # async fn example(client: &Client) {
/// match client.post(Note::new(Some("a"), Some("b")).unwrap()).await {
///     Ok(done) => println!("note {} is there", done.id),
///     Err(error) if error.effect == Effect::None => println!("it was not written, and won't be: {error}"),
///     Err(error) => println!("it may have been written: {error}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
pub struct Error {
    /// Whether it may have taken effect.
    pub effect: Effect,
    /// The replica that was asked last.
    pub replica: String,
    /// What went wrong there.
    #[source]
    pub cause: Cause,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.replica, self.cause)?;
        match self.effect {
            Effect::None => Ok(()),
            Effect::Unknown => f.write_str("; the write may have taken effect"),
        }
    }
}

impl Error {
    /// The stable word of a replica's refusal, where that is what went wrong and this version knows it.
    pub fn code(&self) -> Option<Code> {
        match &self.cause {
            Cause::Refused(refusal) => refusal.known(),
            _ => None,
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The replica said no.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no connection to it: nothing was sent.
    #[error("unreachable: {0}")]
    Unreachable(#[source] Arc<io::Error>),
    /// The connection broke before the reply.
    #[error("the connection was lost: {0}")]
    Lost(#[source] Arc<io::Error>),
    /// No reply came in time.
    #[error("no reply within {} ms", .0.as_millis())]
    Late(Duration),
    /// The queue in front of the connection stayed full.
    #[error("its queue was full for {} ms; send less at a time", .0.as_millis())]
    Full(Duration),
    /// The reply is none of this version of the protocol.
    #[error("no reply of this version of the protocol: {0}")]
    NotUnderstood(String),
}

/// An `error` reply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// The HTTP status that goes with it.
    pub res: u16,
    /// The stable word, as it came: later versions may have more than [`Code`] knows.
    pub code: String,
    /// What was wrong and what to do, for people.
    pub msg: String,
}

impl Refusal {
    /// The word, where this version knows it.
    pub fn known(&self) -> Option<Code> {
        serde_json::from_value(serde_json::Value::from(self.code.as_str())).ok()
    }

    /// Whether the request may have taken effect. A word that is not known is judged by its status.
    pub(super) fn may_have_happened(&self) -> bool {
        match self.known() {
            Some(code) => code == Code::Unknown,
            None => self.res >= 500,
        }
    }

    /// Whether another replica, or this one later, may do it: nothing was wrong with the request.
    pub(super) fn may_pass(&self) -> bool {
        match self.known() {
            Some(code) => matches!(code, Code::Unavailable | Code::Unknown | Code::Timeout),
            None => self.res >= 500,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.msg, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(res: u16, code: &str) -> Refusal {
        Refusal { res, code: code.to_owned(), msg: "why".to_owned() }
    }

    #[test]
    fn words_are_judged_by_what_they_mean_and_unknown_ones_by_their_status() {
        for (res, code, passes, may_have) in [
            (503, "unavailable", true, false),
            (503, "unknown", true, true),
            (408, "timeout", true, false),
            (404, "not_found", false, false),
            (422, "key_reused", false, false),
            (503, "of_a_later_version", true, true),
            (418, "of_a_later_version", false, false),
        ] {
            let refusal = refusal(res, code);
            assert_eq!((refusal.may_pass(), refusal.may_have_happened()), (passes, may_have), "{code}");
        }
    }

    #[test]
    fn errors_say_who_what_and_whether() {
        let error =
            Error { effect: Effect::Unknown, replica: "a:1".to_owned(), cause: Cause::Late(Duration::from_secs(2)) };
        assert_eq!(error.to_string(), "a:1: no reply within 2000 ms; the write may have taken effect");
        let error = Error { effect: Effect::None, cause: Cause::Refused(refusal(404, "not_found")), ..error };
        assert_eq!(error.to_string(), "a:1: why (not_found)");
        assert_eq!(error.code(), Some(Code::NotFound));
    }
}
