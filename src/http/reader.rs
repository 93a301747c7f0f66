//! A connection's bytes to requests, one after another.
//!
//! Pure: the connection puts bytes into [`Reader::buffer`] and asks for the [`next`](Reader::next) request. A request
//! is read where it lies; only chunked bodies are copied together.

use bytes::{Buf as _, BytesMut};

use super::body::{Chunked, is_token_byte};
use super::head::{self, Expect, FIELDS_MAX, Framing, Head, Scan};
use super::origin::Hosts;
use super::refusal::Refusal;
use super::routes::{self, Ask, Plan};
use crate::config::Limits;
use crate::observe::classic;

/// Bytes that a read may bring at least.
const READ_BYTES_MIN: usize = 4 * 1024;

/// A buffer that grew past this for a large body is given back once it is empty.
pub(crate) const BUFFER_KEPT_MAX: usize = 64 * 1024;

/// Empty lines that are skipped before a request line (RFC 9112 section 2.2 asks for one at least; old clients send one
/// behind a POST).
const EMPTY_LINES_MAX: usize = 2;

/// How a request's answer is to look, whatever it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// HEAD: no body.
    pub(crate) head_only: bool,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    /// Errors as problem details (RFC 9457).
    pub(crate) problem: bool,
}

impl Manner {
    /// For requests whose head could not be read.
    pub(crate) const UNKNOWN: Manner = Manner { head_only: false, http10: false, keep_alive: false, problem: false };
}

/// A request that is all there.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) manner: Manner,
    pub(crate) ask: Ask,
    /// None where the request was refused.
    pub(crate) plan: Option<Plan>,
    /// Method and path, where the log is on.
    pub(crate) logged: Option<Box<Logged>>,
}

/// What the log says of a request.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) method: &'static str,
    pub(crate) path: String,
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request's first byte.
    Idle,
    /// The end of its head.
    Head,
    /// The end of its body.
    Body,
}

/// Takes requests out of a connection's bytes.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: BytesMut,
    scan: Scan,
    empty_lines: usize,
    /// The request whose body is under way.
    under_way: Option<UnderWay>,
    /// A chunked body, as far as it came.
    body: Vec<u8>,
}

#[derive(Debug)]
struct UnderWay {
    manner: Manner,
    plan: Result<Plan, Refusal>,
    logged: Option<Box<Logged>>,
    framing: Framing,
    chunks: Chunked,
    /// The client waits for `100 Continue`.
    waits: bool,
}

impl Reader {
    /// Where the connection appends what it read; there is room for a good piece.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
            self.buffer = BytesMut::new();
        }
        // A long body is read in large pieces, but room is made only as fast as bytes come.
        let wanted = match &self.under_way {
            Some(UnderWay { framing: Framing::Length(length), .. }) => length.saturating_sub(self.buffer.len()),
            _ => 0,
        };
        self.buffer.reserve(wanted.clamp(READ_BYTES_MIN, BUFFER_KEPT_MAX));
        &mut self.buffer
    }

    /// What the reader waits for, after [`next`](Reader::next) had nothing.
    pub(crate) fn phase(&self) -> Phase {
        match &self.under_way {
            Some(_) => Phase::Body,
            None if self.buffer.is_empty() => Phase::Idle,
            None => Phase::Head,
        }
    }

    /// Whether the client waits for `100 Continue` and has sent nothing of the body yet; true once for a request.
    pub(crate) fn take_continue(&mut self) -> bool {
        let nothing_came = self.buffer.is_empty();
        self.under_way.as_mut().is_some_and(|request| std::mem::take(&mut request.waits) && nothing_came)
    }

    /// The next request, none before more bytes have come. After an error nothing that follows can be read.
    pub(crate) fn next(&mut self, limits: &Limits, hosts: &Hosts) -> Result<Option<Incoming>, Refusal> {
        let request = match self.under_way.take() {
            Some(request) => request,
            None => match self.take_head(limits, hosts)? {
                Some(request) => request,
                None => return Ok(None),
            },
        };
        self.take_body(request, limits)
    }

    fn take_head(&mut self, limits: &Limits, hosts: &Hosts) -> Result<Option<UnderWay>, Refusal> {
        while self.empty_lines < EMPTY_LINES_MAX && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            self.empty_lines += 1;
        }
        match *self.buffer {
            [] => return Ok(None),
            [b'\r'] if self.empty_lines < EMPTY_LINES_MAX => return Ok(None),
            [first, ..] if !is_token_byte(&first) => return Err(Refusal::NotHttp(first)),
            _ => {}
        }
        let Some(length) = self.scan.advance(&self.buffer, limits)? else { return Ok(None) };
        self.scan = Scan::default();
        self.empty_lines = 0;
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let request = UnderWay::begin(&head::parse(&self.buffer[..length], limits, &mut fields)?, hosts);
        self.buffer.advance(length);
        Ok(Some(request))
    }

    fn take_body(&mut self, mut request: UnderWay, limits: &Limits) -> Result<Option<Incoming>, Refusal> {
        if request.waits && request.plan.is_err() {
            // Whether the body comes after a final answer is the client's choice (RFC 9110 section 10.1.1): only the end
            // of the connection is sure to end the request.
            request.manner.keep_alive = false;
            return Ok(Some(request.complete(&[])));
        }
        let (incoming, length) = match request.framing {
            Framing::None => (request.complete(&[]), 0),
            Framing::Length(length) if self.buffer.len() >= length => {
                (request.complete(&self.buffer[..length]), length)
            }
            Framing::Length(_) => {
                self.under_way = Some(request);
                return Ok(None);
            }
            Framing::Chunked => {
                let progress = request.chunks.decode(&self.buffer, &mut self.body, limits.body_bytes)?;
                if !progress.done {
                    self.buffer.advance(progress.consumed);
                    self.under_way = Some(request);
                    return Ok(None);
                }
                let body = std::mem::take(&mut self.body);
                (request.complete(&body), progress.consumed)
            }
        };
        self.buffer.advance(length);
        Ok(Some(incoming))
    }
}

impl UnderWay {
    fn begin(head: &Head<'_, '_>, hosts: &Hosts) -> UnderWay {
        let plan = routes::plan(head, hosts);
        let manner = Manner {
            head_only: head.method == head::Method::Head,
            http10: head.http10,
            // Behind a CONNECT may come what is no HTTP, behind a POST of unknown length its body.
            keep_alive: head.keep_alive
                && head.method != head::Method::Connect
                && !matches!(plan, Err(Refusal::LengthRequired)),
            problem: wants_problem(head),
        };
        let logged =
            classic::enabled().then(|| Box::new(Logged { method: head.method.word(), path: routes::quote(head.path) }));
        let waits = head.expect != Expect::Nothing && head.framing != Framing::None;
        UnderWay { manner, plan, logged, framing: head.framing, chunks: Chunked::default(), waits }
    }

    fn complete(self, body: &[u8]) -> Incoming {
        let UnderWay { manner, plan, logged, .. } = self;
        if let Some(logged) = &logged {
            classic::client_request(logged.method, &logged.path, body.strip_suffix(b"\n").unwrap_or(body));
        }
        match plan {
            Ok(mut plan) => Incoming { manner, ask: plan.ask(body), plan: Some(plan), logged },
            Err(refusal) => Incoming { manner, ask: Ask::Refused(refusal), plan: None, logged },
        }
    }
}

/// Whether Accept names problem details and does not forbid them.
fn wants_problem(head: &Head<'_, '_>) -> bool {
    head.values("accept").flat_map(|value| value.split(|byte| *byte == b',')).any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/problem+json"));
        named && !parts.any(|part| part.to_ascii_lowercase().strip_prefix(b"q=0").is_some_and(is_zero_fraction))
    })
}

/// What stands behind `q=0` where the weight is nought (RFC 9110 section 12.4.2).
fn is_zero_fraction(rest: &[u8]) -> bool {
    rest.iter().all(|byte| matches!(byte, b'.' | b'0'))
}
