//! A connection's bytes to requests, one after another.
//!
//! Pure: the connection puts bytes into [`Reader::buffer`] and asks for the [`next`](Reader::next) request. A request
//! is read where it lies; only chunked bodies are copied together.

use bytes::{Buf as _, BytesMut};

use super::body::{Chunked, is_token_byte};
use super::head::{self, FIELDS_MAX, Framing};
use crate::accept::Share;
use crate::config::Limits;
use crate::net::tls::FIRST_BYTE;
use crate::observe::classic::Log;
use crate::protocol::request::Code;
use crate::rest::{Ask, Hosts, Plan, Refusal};

/// Bytes that a read may bring at least.
const READ_BYTES_MIN: usize = 4 * 1024;

/// A buffer that grew past this for a large body is given back once it is empty.
pub(crate) const BUFFER_KEPT_MAX: usize = 64 * 1024;

/// Empty lines that are skipped before a request line (RFC 9112 section 2.2 asks for one at least; old clients send one
/// behind a POST).
const EMPTY_LINES_MAX: usize = 2;

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
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    /// What a body that is not complete takes of the memory for such; a head is short.
    share: Share,
    /// Where the line of the head begins that is not complete.
    line: usize,
    empty_lines: usize,
    /// The request whose body is under way.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    plan: Plan,
    refusal: Option<Refusal>,
    framing: Framing,
    chunks: Chunked,
    /// The client holds the body back, for `100 Continue` or what is not known here.
    waits: bool,
}

impl Reader {
    /// A reader at the beginning of a connection.
    pub(crate) fn new(share: Share) -> Reader {
        Reader { buffer: BytesMut::new(), share, line: 0, empty_lines: 0, under_way: None }
    }

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

    /// The next request and what to do for it, none before more bytes have come. After an error nothing that follows
    /// can be read.
    pub(crate) fn next(&mut self, limits: &Limits, hosts: &Hosts, log: &Log) -> Result<Option<(Plan, Ask)>, Refusal> {
        let mut request = match self.under_way.take() {
            Some(request) => request,
            None => match self.take_head(limits, hosts, log)? {
                Some(request) => request,
                None => return Ok(None),
            },
        };
        // How much of the buffer is its body, once that is whole. What came in chunks is no longer in the buffer.
        let length = match request.framing {
            Framing::None => Some(0),
            _ if request.waits && request.refusal.is_some() => {
                // Whether the body comes after a final answer is the client's choice (RFC 9110 section 10.1.1): only the
                // end of the connection is sure to end the request.
                request.plan.keep_alive = false;
                Some(0)
            }
            Framing::Length(length) => (self.buffer.len() >= length).then_some(length),
            Framing::Chunked => request.chunks.take(&mut self.buffer, limits.body_bytes)?.then_some(0),
        };
        let held = if length.is_none() { self.buffer.len() + request.chunks.body.len() } else { 0 };
        if let Err(full) = self.share.hold(held) {
            self.buffer = BytesMut::new();
            self.share.release();
            return Err(Refusal::new(503, Code::Unavailable, full.to_string()));
        }
        let Some(length) = length else {
            self.under_way = Some(request);
            return Ok(None);
        };
        let chunks = std::mem::take(&mut request.chunks.body);
        let asked = request.complete(if chunks.is_empty() { &self.buffer[..length] } else { &chunks }, log);
        self.buffer.advance(length);
        Ok(Some(asked))
    }

    fn take_head(&mut self, limits: &Limits, hosts: &Hosts, log: &Log) -> Result<Option<UnderWay>, Refusal> {
        while self.empty_lines < EMPTY_LINES_MAX && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            self.empty_lines += 1;
        }
        match self.buffer.first() {
            None => return Ok(None),
            Some(b'\r') if self.buffer.len() == 1 && self.empty_lines < EMPTY_LINES_MAX => return Ok(None),
            // Frames, TLS where there is none, or noise, of which no line end need ever come.
            Some(first) if !is_token_byte(first) => {
                let what = format!("the first byte, {first:#04x}, begins no HTTP request");
                return Err(Refusal::bad(match *first {
                    FIRST_BYTE => what + " but TLS, which this port does not speak; write http:// instead of https://",
                    _ => what + "; speak HTTP/1.1 here, frames are for the replica's address",
                }));
            }
            _ => {}
        }
        let Some(length) = head::find_end(&self.buffer, &mut self.line, limits)? else { return Ok(None) };
        (self.line, self.empty_lines) = (0, 0);
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let (head, framing) = head::parse(&self.buffer[..length], limits, &mut fields)?;
        let (plan, refusal) = Plan::of(&head, hosts, log);
        let waits = head.has_body && head.waits().unwrap_or(true);
        let request = UnderWay { plan, refusal, framing, chunks: Chunked::default(), waits };
        self.buffer.advance(length);
        Ok(Some(request))
    }
}

impl UnderWay {
    fn complete(mut self, body: &[u8], log: &Log) -> (Plan, Ask) {
        if let Some(path) = &self.plan.path {
            let note = self.plan.resource.id();
            log.client_request(note, self.plan.method.word(), path, body.strip_suffix(b"\n").unwrap_or(body));
        }
        let ask = self.refusal.map_or_else(|| self.plan.ask(body), Err);
        (self.plan, ask)
    }
}

#[cfg(test)]
mod tests;
